/* SPDX-License-Identifier: Apache-2.0 */
// How many hits a second, and what one costs: every subject at every size, closed loop, hot key, in rounds that take turns, so that what slows the machine slows all.
import { measure, median } from '../lib/load.mjs';
import { startSubject } from '../lib/subjects.mjs';

export async function throughput(bench) {
    const { sizes, cores, say, quick } = bench;
    const rounds = quick ? 3 : 5;
    const seconds = quick ? 0.5 : 1.5;
    const running = [];
    const samples = new Map();
    try {
        for (const subject of Object.values(bench.subjects)) {
            try {
                running.push(await startSubject(subject, { upstream: bench.upstream, core: cores.subject, sizes }));
                bench.versions[subject.name] = running.at(-1).version;
            } catch (error) {
                bench.leftOut[subject.name] = error.message;
            }
        }
        // Once each, so that no measurement begins with the first miss.
        for (const subject of running) for (const size of sizes) await measure(subject, { connections: 1, order: 'each', questions: 1, size_min: size, size_max: size, seconds: 10 }, cores);
        for (let round = 0; round < rounds; round++) {
            for (const size of sizes) {
                for (let i = 0; i < running.length; i++) {
                    const subject = running[(i + round) % running.length];
                    if (subject.once && size !== sizes[0] && round > 0) continue;
                    await bench.upstream.reset();
                    const sample = await measure(subject, { connections: 64, size_min: size, size_max: size, warmup: 0.2, seconds, seed: bench.seed + round }, cores);
                    const { calls } = await bench.upstream.stats();
                    const key = `${subject.name} ${size}`;
                    samples.set(key, [...(samples.get(key) ?? []), { round, ...sample, upstreamShare: ['direct', 'node-sdk', 'fastmcp'].includes(subject.name) ? NaN : calls / sample.asked }]);
                    bench.judge(`${subject.title}, ${size} B`, sample);
                    say(`round ${round + 1}/${rounds}  ${String(size).padStart(6)} B  ${subject.title.padEnd(28)} ${Math.round(sample.perSecond).toString().padStart(7)}/s  ${sample.cpuUs.toFixed(1)} us`);
                }
            }
        }
    } finally {
        for (const subject of running) await subject.stop();
    }
    const rows = [];
    for (const size of sizes) {
        for (const { name, title } of running) {
            const mine = samples.get(`${name} ${size}`) ?? [];
            if (mine.length === 0) continue;
            const bare = samples.get(`bare ${size}`) ?? [];
            const of = (what) => median(mine.map(what));
            const ratio = (what) => median(mine.map((sample) => what(sample) / what(bare.find(({ round }) => round === sample.round) ?? {}) ));
            rows.push({
                size, name, title, rounds: mine.length, perSecond: of((s) => s.perSecond), ofBare: ratio((s) => s.perSecond ?? NaN), cpuUs: of((s) => s.cpuUs), cpuOfBare: ratio((s) => s.cpuUs ?? NaN),
                p50: of((s) => s.latencyUs.p50), p99: of((s) => s.latencyUs.p99), busy: of((s) => s.busy), loadCpuUs: of((s) => s.loadCpuUs), upstreamShare: of((s) => s.upstreamShare),
            });
        }
    }
    return { connections: 64, rounds, seconds, rows };
}

/** Latency of hits at a rate that is the same for all: half of what the bare handler can do. */
export async function latency(bench) {
    const { sizes, cores, say, quick } = bench;
    const rounds = quick ? 2 : 3;
    const seconds = quick ? 0.7 : 2;
    const found = bench.results.throughput?.rows ?? [];
    const rows = [];
    const running = [];
    try {
        for (const name of ['bare', 'mcpcached', 'nginx-lua', 'nginx-cache', 'varnish']) {
            if (bench.subjects[name] && !bench.leftOut[name]) running.push(await startSubject(bench.subjects[name], { upstream: bench.upstream, core: cores.subject, sizes }));
        }
        for (const size of sizes) {
            const bare = found.find((row) => row.size === size && row.name === 'bare');
            if (!bare) continue;
            const rate = Math.round(bare.perSecond / 2);
            const samples = new Map();
            const able = running.filter(({ name }) => (found.find((row) => row.size === size && row.name === name)?.perSecond ?? 0) > rate * 1.05);
            for (let round = 0; round < rounds; round++) {
                for (let i = 0; i < able.length; i++) {
                    const subject = able[(i + round) % able.length];
                    const sample = await measure(subject, { connections: 64, size_min: size, size_max: size, rate, poisson: 1, warmup: 0.3, seconds, seed: bench.seed + round }, cores);
                    samples.set(subject.name, [...(samples.get(subject.name) ?? []), sample]);
                    if (sample.failed > 0) bench.judge(`${subject.title} at ${rate}/s`, sample);
                    say(`round ${round + 1}/${rounds}  ${String(size).padStart(6)} B at ${rate}/s  ${subject.title.padEnd(28)} p99 ${sample.latencyUs.p99} us`);
                }
            }
            for (const { name, title } of running) {
                const mine = samples.get(name);
                const of = (what) => (mine ? median(mine.map((s) => s.latencyUs[what])) : null);
                const p99OfBare = mine ? median(mine.map((s, i) => s.latencyUs.p99 / samples.get('bare')[i].latencyUs.p99)) : null;
                rows.push({ size, rate, name, title, p50: of('p50'), p90: of('p90'), p99: of('p99'), p999: of('p99.9'), p9999: of('p99.99'), max: of('max'), p99OfBare });
            }
        }
    } finally {
        for (const subject of running) await subject.stop();
    }
    return { rounds, seconds, rows };
}
