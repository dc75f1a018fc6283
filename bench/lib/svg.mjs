/* SPDX-License-Identifier: Apache-2.0 */
// The report's pictures, drawn by hand: bars, ranges, lines. Each function gives a whole SVG text. Ours is the one colour among greys.
const FONT = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif"';
const INK = '#222';
const PALE = '#8a8f98';
const GRID = '#e3e5e8';
export const OURS = '#c8401f';
export const OTHER = '#7d93ad';
export const SECOND = '#2f6f8f';

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const text = (x, y, what, { size = 12, anchor = 'start', fill = INK, bold = false } = {}) =>
    `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" text-anchor="${anchor}" fill="${fill}"${bold ? ' font-weight="bold"' : ''} ${FONT}>${escape(what)}</text>`;
const line = (x1, y1, x2, y2, stroke = GRID, width = 1) => `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${stroke}" stroke-width="${width}"/>`;
const rect = (x, y, w, h, fill, more = '') => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(0, w).toFixed(1)}" height="${h.toFixed(1)}" fill="${fill}" ${more}/>`;
const page = (width, height, title, under, parts) =>
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">\n${rect(0, 0, width, height, '#fff')}\n${text(20, 28, title, { size: 16, bold: true })}\n${text(20, 47, under, { size: 12, fill: PALE })}\n${parts.join('\n')}\n</svg>\n`;

/** 1234567 as 1.23M, for axes and labels. */
export function short(number) {
    const abs = Math.abs(number);
    const [scale, unit] = abs >= 1e6 ? [1e6, 'M'] : abs >= 1e3 ? [1e3, 'k'] : [1, ''];
    const value = number / scale;
    return `${Number(value.toPrecision(value >= 100 ? 3 : 2))}${unit}`;
}

const niceStep = (max, count) => {
    const raw = max / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw);
};

/** panels: [{title, rows: [{label, value, note, ours, pale}]}], one below the other, each with a scale of its own. */
export function bars({ title, under, panels, unit }) {
    const width = 860;
    const left = 220;
    const right = 130;
    const parts = [];
    let y = 70;
    for (const { title: name, rows } of panels) {
        parts.push(text(20, y + 12, name, { size: 13, bold: true }));
        y += 22;
        const max = Math.max(...rows.map(({ value }) => value), 1);
        const step = niceStep(max, 5);
        const x = (value) => left + (value / max) * (width - left - right);
        for (let tick = 0; tick <= max; tick += step) {
            parts.push(line(x(tick), y, x(tick), y + rows.length * 22 + 2));
            parts.push(text(x(tick), y + rows.length * 22 + 15, short(tick), { size: 10, anchor: 'middle', fill: PALE }));
        }
        for (const { label, value, note, ours, pale } of rows) {
            parts.push(text(left - 8, y + 15, label, { anchor: 'end', bold: ours }));
            parts.push(rect(left, y + 4, x(value) - left, 15, ours ? OURS : pale ? '#c9d2dc' : OTHER));
            parts.push(text(x(value) + 6, y + 15, `${short(value)}${note ? `  ${note}` : ''}`, { size: 11 }));
            y += 22;
        }
        y += 34;
    }
    parts.push(text(left, y - 4, unit, { size: 11, fill: PALE }));
    return page(width, y + 12, title, under, parts);
}

const decades = (low, high) => {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) for (const factor of [1, 2, 5]) if (factor * 10 ** power >= low && factor * 10 ** power <= high) ticks.push(factor * 10 ** power);
    return ticks;
};

/** panels: [{title, rows: [{label, marks: [[name, value], ...], missing, ours}]}]; a line from the first mark to the last, on a logarithmic scale. */
export function ranges({ title, under, panels, unit, format }) {
    const width = 860;
    const left = 220;
    const right = 40;
    const all = panels.flatMap(({ rows }) => rows.flatMap(({ marks }) => (marks ?? []).map(([, value]) => value))).filter((value) => value > 0);
    const low = Math.min(...all) * 0.8;
    const high = Math.max(...all) * 1.3;
    const x = (value) => left + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (width - left - right);
    const parts = [];
    let y = 70;
    for (const { title: name, rows } of panels) {
        parts.push(text(20, y + 12, name, { size: 13, bold: true }));
        y += 24;
        for (const tick of decades(low, high)) {
            parts.push(line(x(tick), y, x(tick), y + rows.length * 32 + 2));
            parts.push(text(x(tick), y + rows.length * 32 + 15, format(tick), { size: 10, anchor: 'middle', fill: PALE }));
        }
        for (const { label, marks, missing, ours } of rows) {
            const colour = ours ? OURS : OTHER;
            parts.push(text(left - 8, y + 20, label, { anchor: 'end', bold: ours }));
            if (missing) parts.push(text(left + 6, y + 20, missing, { size: 11, fill: PALE }));
            else {
                parts.push(line(x(marks[0][1]), y + 16, x(marks.at(-1)[1]), y + 16, colour, 3));
                const free = [0, 0]; // from where on there is room for a name, below and above
                for (const [name, value] of marks) {
                    parts.push(`<circle cx="${x(value).toFixed(1)}" cy="${(y + 16).toFixed(1)}" r="4.5" fill="${colour}"/>`);
                    const side = free.findIndex((from) => x(value) > from);
                    if (side < 0) continue;
                    free[side] = x(value) + 36;
                    parts.push(text(x(value), side === 0 ? y + 30 : y + 9, name, { size: 9, anchor: 'middle', fill: PALE }));
                }
            }
            y += 32;
        }
        y += 36;
    }
    parts.push(text(left, y - 4, unit, { size: 11, fill: PALE }));
    return page(width, y + 12, title, under, parts);
}

/**
 * panels: [{title, x: {ticks, label, log}, y: {max, format, log, min}, lines: [{name, colour, points: [[x, y|null]], dots}], band: [from, to, label], bars}]; each as high as the others.
 * `bars: [{name, colour, points: [[x, y]]}]` stand on each other.
 */
export function lines({ title, under, panels, height = 190 }) {
    const width = 860;
    const left = 80;
    const right = 24;
    const parts = [];
    let top = 70;
    for (const { title: name, x: xs, y: ys, lines: curves = [], band, bars: stacks = [] } of panels) {
        parts.push(text(20, top + 12, name, { size: 13, bold: true }));
        let legend = width - right;
        for (const { name: curve, colour } of [...curves, ...stacks].toReversed()) {
            legend -= curve.length * 6.8 + 26;
            parts.push(rect(legend, top + 4, 12, 10, colour), text(legend + 17, top + 13, curve, { size: 11 }));
        }
        top += 24;
        const bottom = top + height;
        const scale = (value, { min = 0, max, log }) => (log ? (Math.log(value) - Math.log(min)) / (Math.log(max) - Math.log(min)) : (value - min) / (max - min));
        const x = (value) => left + scale(value, xs) * (width - left - right);
        const y = (value) => bottom - Math.min(1, Math.max(0, scale(Math.max(value, ys.log ? ys.min : 0), ys))) * height;
        if (band) {
            parts.push(rect(x(band[0]), top, x(band[1]) - x(band[0]), height, '#f3e3c8', 'opacity="0.7"'));
            parts.push(text((x(band[0]) + x(band[1])) / 2, top + 14, band[2], { size: 11, anchor: 'middle', fill: '#8a6a2a' }));
        }
        const step = niceStep(ys.max, 5);
        const yTicks = ys.log ? decades(ys.min, ys.max) : Array.from({ length: Math.floor(ys.max / step + 1e-9) + 1 }, (_, i) => i * step);
        for (const tick of yTicks) parts.push(line(left, y(tick), width - right, y(tick)), text(left - 6, y(tick) + 4, ys.format(tick), { size: 10, anchor: 'end', fill: PALE }));
        for (const tick of xs.ticks) parts.push(line(x(tick), bottom, x(tick), bottom + 4, PALE), text(x(tick), bottom + 16, (xs.format ?? short)(tick), { size: 10, anchor: 'middle', fill: PALE }));
        const barWidth = stacks.length ? Math.min(46, ((width - left - right) / (stacks[0].points.length + 1)) * 0.55) : 0;
        for (let i = 0; i < (stacks[0]?.points.length ?? 0); i++) {
            let sum = 0;
            for (const { points, colour } of stacks) {
                const [at, value] = points[i];
                parts.push(rect(x(at) - barWidth / 2, y(sum + value), barWidth, y(sum) - y(sum + value), colour));
                sum += value;
            }
            parts.push(text(x(stacks[0].points[i][0]), y(sum) - 4, ys.format(sum), { size: 10, anchor: 'middle' }));
        }
        for (const { points, colour, dots, labels } of curves) {
            let path = '';
            let pen = 'M';
            for (const [at, value] of points) {
                if (value === null || !Number.isFinite(value)) {
                    pen = 'M';
                    continue;
                }
                path += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
                pen = 'L';
                if (dots) parts.push(`<circle cx="${x(at).toFixed(1)}" cy="${y(value).toFixed(1)}" r="4" fill="${colour}"/>`);
                if (labels) parts.push(text(x(at), y(value) - 8, ys.format(value), { size: 10, anchor: 'middle' }));
            }
            parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.8"/>`);
        }
        parts.push(line(left, bottom, width - right, bottom, PALE));
        parts.push(text((left + width - right) / 2, bottom + 32, xs.label, { size: 11, anchor: 'middle', fill: PALE }));
        top = bottom + 52;
    }
    return page(width, top, title, under, parts);
}
