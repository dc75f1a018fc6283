/* SPDX-License-Identifier: Apache-2.0 */
// What was measured, as report.json, report.md and pictures beside them.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { bars, lines, OTHER, OURS, ranges, SECOND, short } from './svg.mjs';

export const QUIET = 1; // load average of a machine on which nobody else works

const sizeName = (size) => (size >= 1 << 20 ? `${size >> 20} MB` : size >= 1024 ? `${size >> 10} KB` : `${size} B`);
const fixed = (number, digits = 0) => (number === null || number === undefined || !Number.isFinite(number) ? '-' : number.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(share * 100).toFixed(digits)} %` : '-');
const mib = (bytes) => fixed(bytes / 2 ** 20, 1);
const micros = (us) => (us >= 1000 ? `${short(us / 1000)} ms` : `${short(us)} us`);

/** Numbers stand to the right; with `words` all columns are text. */
function table(head, rows, { words = false } = {}) {
    const row = (cells) => `| ${cells.join(' | ')} |`;
    return [row(head), row(head.map((name, i) => (i === 0 || words ? '---' : '---:'))), ...rows.map(row)].join('\n');
}

const ours = (name) => name === 'mcpcached';
const unit = (rows) => [...new Set(rows.map(({ size }) => size))];

const sections = {
    throughput({ connections, rounds, rows }, { pictures, ceiling, same }) {
        pictures['throughput.svg'] = bars({
            title: 'Hits per second, one core', under: `hot key, ${connections} connections, closed loop; medians of ${rounds} rounds; the ratio to the bare handler behind each bar; pale: not the same job`, unit: 'verified answers per second',
            panels: unit(rows).map((size) => ({ title: sizeName(size), rows: rows.filter((row) => row.size === size).toSorted((a, b) => b.perSecond - a.perSecond).map((row) => ({ label: row.title, value: row.perSecond, note: `(${fixed(row.ofBare, 2)})`, ours: ours(row.name), pale: !same.has(row.name) })) })),
        });
        const lazy = rows.filter((row) => row.name === 'bare' && row.busy < 0.85).map((row) => sizeName(row.size));
        return [`## Throughput and cost of a hit\n\nHot key, ${connections} connections, closed loop, ${rounds} rounds that take turns; medians, and medians of the ratios within each round. *CPU* is the subject's own, per request; *busy* how much of its core it used: where that is well below 1, something else was the limit.`,
            `The load generator takes ${fixed(ceiling.us, 1)} us of its own core for a request of 1 KB, so it could ask and verify ${fixed(ceiling.perSecond)} a second at most.`,
            ...(lazy.length ? [`At ${lazy.join(' and ')} even the bare handler left its core idle at times: the load, or somebody else on this machine, was the limit, and CPU per request is the better figure.`] : []),
            '![throughput](throughput.svg)',
            ...unit(rows).map((size) => `### ${sizeName(size)}\n\n${table(['subject', 'per second', 'of bare', 'CPU us', 'of bare', 'p50 us', 'p99 us', 'busy', 'load us', 'asked upstream'],
                rows.filter((row) => row.size === size).map((row) => [row.title, fixed(row.perSecond), fixed(row.ofBare, 2), fixed(row.cpuUs, 1), fixed(row.cpuOfBare, 2), fixed(row.p50), fixed(row.p99), fixed(row.busy, 2), fixed(row.loadCpuUs, 1), percent(row.upstreamShare, 2)]))}`)];
    },
    latency({ rounds, rows }, { pictures }) {
        pictures['latency.svg'] = ranges({
            title: 'Latency of hits at a fixed rate', under: `open loop at half of the bare handler's maximum, counted from when a request was due; medians of ${rounds} rounds`, unit: 'latency, logarithmic', format: micros,
            panels: unit(rows).map((size) => {
                const mine = rows.filter((row) => row.size === size);
                return { title: `${sizeName(size)} at ${fixed(mine[0].rate)}/s`, rows: mine.map((row) => ({ label: row.title, ours: ours(row.name), missing: row.p50 === null ? 'cannot keep this rate' : undefined, marks: [['p50', row.p50], ['p99', row.p99], ['p99.9', row.p999]] })) };
            }),
        });
        return [`## Latency at a fixed rate\n\nOpen loop, random arrivals, half of what the bare handler can do at that size; ${rounds} rounds. A time counts from when the request was due. A dash: it cannot keep that rate.`, '![latency](latency.svg)',
            table(['subject', 'size', 'rate', 'p50 us', 'p90', 'p99', 'p99.9', 'p99.99', 'max', 'p99 of bare'], rows.map((row) => [row.title, sizeName(row.size), fixed(row.rate), fixed(row.p50), fixed(row.p90), fixed(row.p99), fixed(row.p999), fixed(row.p9999), fixed(row.max), fixed(row.p99OfBare, 2)]))];
    },
    forward({ rounds, rows }) {
        return [`## Calls that go upstream\n\nNothing is asked twice; 1 KB; the upstream shares the load's core and answers at once, so with 16 connections it waits for the load: *added* is meant for one. *Added* is the median of p50 less the upstream's own p50 in the same round; *of nginx* is that, divided by what nginx adds. ${rounds} rounds.`,
            table(['leg', 'connections', 'per second', 'p50 us', 'p99 us', 'added us', 'of nginx', 'CPU us'], rows.map((row) => [row.title, row.connections, fixed(row.perSecond), fixed(row.p50, 1), fixed(row.p99), fixed(row.addedP50, 1), fixed(row.ofNginx, 2), fixed(row.cpuUs, 1)]))];
    },
    workloads({ rows }) {
        return ['## Workloads\n\n`bench/workloads/*.json`, mcpcached on one core. *Asked upstream* counts calls and lists.',
            table(['workload', 'per second', 'hits', 'asked upstream', 'CPU us', 'p50 us', 'p99 us', 'max us', 'right', 'failed'], rows.map((row) => [row.title, fixed(row.perSecond), percent(row.hits / row.ok), fixed(row.upstream.calls + row.upstream.lists), fixed(row.cpuUs, 1), fixed(row.latencyUs.p50), fixed(row.latencyUs.p99), fixed(row.latencyUs.max), fixed(row.ok), fixed(row.failed)])),
            rows.map((row) => `- *${row.title}*: ${row.about}`).join('\n')];
    },
    outage({ rate, latencyUs, seconds, from, to, runs }, { pictures }) {
        const colour = (run) => (ours(run.name) ? OURS : OTHER);
        const points = (run, column) => run.series.slice(0, seconds * 10).map((slot) => [slot[0] / 1000, column(slot)]);
        const x = { min: 0, max: seconds, ticks: Array.from({ length: seconds + 1 }, (_, i) => i).filter((i) => i % (seconds > 10 ? 2 : 1) === 0), label: 'seconds', format: String };
        const band = [from, to, 'upstream killed'];
        const highest = Math.max(...runs.flatMap((run) => run.series.map((slot) => slot[4])), 100_000);
        pictures['outage.svg'] = lines({
            title: 'An upstream that is killed and comes back', under: `${fixed(rate)} requests a second to an upstream that takes ${latencyUs / 1000} ms; ttl 1 s, grace 2 s, stale_if_error 1 min; in pieces of 100 ms`,
            panels: [
                { title: 'p99 of right answers', x, y: { log: true, min: 20, max: highest, format: micros }, band, lines: runs.map((run) => ({ name: run.title, colour: colour(run), points: points(run, (slot) => (slot[1] > 0 ? slot[4] : null)) })) },
                { title: 'failed requests per second', x, y: { max: rate * 1.1, format: short }, band, lines: runs.map((run) => ({ name: run.title, colour: colour(run), points: points(run, (slot) => slot[2] * 10) })) },
            ],
        });
        return [`## An outage\n\n${fixed(rate)} requests a second for ${seconds} s to 200 questions; the upstream, which takes ${latencyUs / 1000} ms, is killed at ${fixed(from, 1)} s and is back at ${fixed(to, 1)} s.`, '![outage](outage.svg)',
            table(['run', 'right', 'failed', 'p50 us', 'p99 us', 'max us'], runs.map((run) => [run.title, fixed(run.ok), fixed(run.failed), fixed(run.latencyUs.p50), fixed(run.latencyUs.p99), fixed(run.latencyUs.max)]))];
    },
    ttl({ rate, latencyUs, seconds, questions, zipf, rows }, { pictures }) {
        const x = { min: -0.5, max: rows.length - 0.5, ticks: rows.map((_, i) => i), format: (i) => rows[i].ttl, label: 'ttl in the policy' };
        pictures['ttl.svg'] = lines({
            title: 'What a lifetime buys', under: `${fixed(rate)} requests a second, ${fixed(questions)} questions by Zipf's law (${zipf}), ${seconds} s from a cold start; the upstream takes ${latencyUs / 1000} ms`,
            panels: [
                { title: 'share of hits', x, y: { max: 1, format: (share) => percent(share, 0) }, lines: [{ name: 'hits', colour: OURS, dots: true, labels: true, points: rows.map((row, i) => [i, row.hitShare]) }] },
                { title: 'time the upstream worked, seconds', x, y: { max: Math.max(...rows.map((row) => row.upstreamSeconds)) * 1.15, format: short }, bars: [{ name: 'upstream', colour: SECOND, points: rows.map((row, i) => [i, row.upstreamSeconds]) }] },
            ],
        });
        return [`## Hit ratio and upstream time by TTL\n\n${fixed(rate)} requests a second, ${fixed(questions)} questions (Zipf ${zipf}), ${seconds} s, from a cold start; each call takes the upstream ${latencyUs / 1000} ms.`, '![ttl](ttl.svg)',
            table(['ttl', 'hits', 'calls upstream', 'upstream seconds', 'p50 us', 'p99 us'], rows.map((row) => [row.ttl, percent(row.hitShare), fixed(row.calls), fixed(row.upstreamSeconds, 1), fixed(row.p50), fixed(row.p99)]))];
    },
    memory({ size, workingSet, empty, rows }, { pictures }) {
        const x = { min: -0.5, max: rows.length - 0.5, ticks: rows.map((_, i) => i), format: (i) => short(rows[i].entries), label: 'entries' };
        const highest = Math.max(...rows.map((row) => row.rss / 2 ** 20));
        pictures['memory.svg'] = lines({
            title: 'Memory by entries', under: `results of ${sizeName(size)}; the store's file is mapped, so its pages are resident as long as the system has no better use for them`,
            panels: [
                { title: 'resident, MiB', x, y: { max: highest * 1.15, format: short }, bars: [{ name: 'its own (anonymous)', colour: OURS, points: rows.map((row, i) => [i, row.anon / 2 ** 20]) }, { name: 'mapped file', colour: OTHER, points: rows.map((row, i) => [i, (row.rss - row.anon) / 2 ** 20]) }] },
                { title: `hits per second, working set of ${short(workingSet)}`, x, y: { max: Math.max(...rows.map((row) => row.workingSet.perSecond)) * 1.2, format: short }, lines: [{ name: 'working set', colour: OURS, dots: true, labels: true, points: rows.map((row, i) => [i, row.workingSet.perSecond]) }, { name: 'all entries alike', colour: SECOND, dots: true, points: rows.map((row, i) => [i, row.everything.perSecond]) }] },
            ],
        });
        return [`## Memory by entries\n\nResults of ${sizeName(size)}; empty it had ${mib(empty.rss)} MiB resident. *Own per entry* is anonymous memory; *beyond* is everything resident per entry, pages of the store included, less the result's ${size} bytes. The last columns are hits per second within the same ${fixed(workingSet)} questions (Zipf 0.8), and over all entries alike.`, '![memory](memory.svg)',
            table(['entries', 'filled/s', 'stored at once', 'resident MiB', 'own MiB', 'store file MiB', 'own per entry, B', 'file per entry, B', 'beyond, B', 'working set/s', 'of the first', 'all alike/s'],
                rows.map((row) => [fixed(row.entries), fixed(row.filledPerSecond), percent(row.storedAtOnce), mib(row.rss), mib(row.anon), mib(row.storeBytes), fixed(row.anonPerEntry), fixed(row.diskPerEntry), fixed(row.residentBeyond), fixed(row.workingSet.perSecond), fixed(row.workingSet.perSecond / rows[0].workingSet.perSecond, 2), fixed(row.everything.perSecond)]))];
    },
    idle({ fresh, used }) {
        return ['## Idle', table(['state', 'seconds', 'CPU ms', 'resident MiB', 'its own MiB'], [['just started', fresh.seconds, fixed(fresh.cpuMs), mib(fresh.rss), mib(fresh.anon)], ['after work', used.seconds, fixed(used.cpuMs), mib(used.rss), mib(used.anon)]])];
    },
    restart({ rows }) {
        return ['## After a restart', table(['ended by', 'questions', 'hits before', 'hits after', 'away, ms'], rows.map((row) => [row.signal, fixed(row.questions), percent(row.hitsBefore, 2), percent(row.hitsAfter, 2), fixed(row.awayMs)]))];
    },
    loops({ rows }) {
        return ['## Two loops\n\nWhere cores are said to be shared, load and subject compete for them: with two cores that says little about machines with more.',
            table(['loops', 'cores', 'per second', 'CPU us', 'cores used', 'p99 us'], rows.map((row) => [row.threads, row.cores, fixed(row.perSecond), fixed(row.cpuUs, 1), fixed(row.busy, 2), fixed(row.p99)]))];
    },
};

export function writeReport(folder, report) {
    mkdirSync(folder, { recursive: true });
    const pictures = {};
    const oneKb = report.results.throughput?.rows.find((row) => row.name === 'bare');
    const ceiling = { us: oneKb?.loadCpuUs ?? NaN, perSecond: 1e6 / (oneKb?.loadCpuUs ?? NaN) };
    const same = new Set(report.subjects.filter(({ does }) => !does.startsWith('No')).map(({ name }) => name));
    const { machine, subjects, leftOut, failures } = report;
    const text = [
        `# Benchmark of mcpcached ${report.commit}\n\n${report.date}, ${report.kind} run of ${fixed(report.minutes, 1)} minutes, seed ${report.seed}. ${machine.cpu}, ${machine.cpus} CPUs, ${machine.memoryGiB} GiB, ${machine.system}, Linux ${machine.kernel}. The load had core ${report.cores.load}, the subject core ${report.cores.subject}; load average before: ${machine.loadBefore.join(' ')}.`,
        ...(machine.loadBefore[0] > QUIET ? ['**The machine was not quiet.** Others used it during the run, or shortly before: read CPU per request, and no times.'] : []),
        'Every answer that counts was verified: status 200, the own id, no error, the text to the byte. What bench/README.md says about what these figures do not show belongs to them.',
        failures.length ? `**Not all was right:**\n\n${failures.map((line) => `- ${line}`).join('\n')}` : 'No answer was wrong or missing, but where an outage was meant.',
        `## Who\n\n${table(['subject', 'version', 'the same job?'], subjects.map(({ title, version, does }) => [title, version ?? '-', does]), { words: true })}${Object.keys(leftOut).length ? `\n\nLeft out: ${Object.entries(leftOut).map(([name, why]) => `${name} (${why})`).join('; ')}.` : ''}`,
    ];
    for (const [name, result] of Object.entries(report.results)) {
        if (result.broke) text.push(`## ${name}\n\nThis part broke: ${result.broke}`);
        else text.push(...sections[name](result, { pictures, ceiling, same }));
    }
    for (const [name, picture] of Object.entries(pictures)) writeFileSync(path.join(folder, name), picture);
    writeFileSync(path.join(folder, 'report.md'), `${text.join('\n\n')}\n`);
    writeFileSync(path.join(folder, 'report.json'), `${JSON.stringify({ ...report, ceiling }, null, 1)}\n`);
    return ['report.md', 'report.json', ...Object.keys(pictures)];
}
