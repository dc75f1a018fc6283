/* SPDX-License-Identifier: Apache-2.0 */
// What it takes: memory by entries, and whether many of them make it slower; what it costs to have it idle; what is left after a restart; what a second loop brings.
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { load, measure, median } from '../lib/load.mjs';
import { cpuSeconds, familyOf, memory as memoryOf, sleep } from '../lib/machine.mjs';
import { freePort, startSubject } from '../lib/subjects.mjs';

const SIZE = 1024;
const TOOLS = 10;
const WORKING_SET = 10_000;
const FULL = [10_000, 100_000, 2_000_000];

const sizeOnDisk = (folder) => readdirSync(folder).reduce((sum, file) => sum + statSync(path.join(folder, file)).blocks * 512, 0);

export async function memory(bench) {
    const { cores, say, quick } = bench;
    const steps = (quick ? [10_000, 50_000] : FULL).filter((count) => !bench.entries || count <= bench.entries);
    const rows = [];
    const sidecar = await startSubject(bench.subjects.mcpcached, { upstream: bench.upstream, core: cores.subject, ttl: '24h', storeSize: quick ? '1GiB' : '12GiB' });
    try {
        const options = { port: sidecar.port, connections: 64, tools: TOOLS, size_min: SIZE, size_max: SIZE, seed: bench.seed };
        await sleep(500);
        const empty = memoryOf(familyOf(sidecar.pid));
        const deadline = Date.now() + (quick ? 40_000 : 300_000);
        let have = 0;
        for (const count of steps) {
            if (Date.now() > deadline) {
                say(`no time left for ${count} entries`);
                break;
            }
            const each = { ...options, order: 'each', first: have, questions: count - have, seconds: Math.max(5, (deadline - Date.now()) / 1000 + 30) };
            const filled = await load(each, { core: cores.load });
            await sleep(500);
            // Where the writer's queue had no room for all, what is missing is asked for once more.
            const again = await load({ ...each, order: 'random', seconds: quick ? 0.5 : 2 }, { core: cores.load });
            if (again.hits < 0.999 * again.ok) await load(each, { core: cores.load });
            await sleep(1500);
            have = count;
            const used = memoryOf(familyOf(sidecar.pid));
            const speed = async (questions, zipf) => {
                const samples = [];
                for (let round = 0; round < 3; round++) samples.push(await measure(sidecar, { ...options, questions, zipf, warmup: 0.2, seconds: quick ? 0.6 : 1.5 }, cores));
                for (const sample of samples) bench.judge(`${count} entries`, sample);
                return { perSecond: median(samples.map((s) => s.perSecond)), cpuUs: median(samples.map((s) => s.cpuUs)), hitShare: median(samples.map((s) => s.hits / s.ok)) };
            };
            const set = await speed(Math.min(WORKING_SET, count), 0.8);
            const all = await speed(count, 0);
            const after = memoryOf(familyOf(sidecar.pid));
            const storeBytes = sizeOnDisk(path.join(sidecar.dir, 'store'));
            rows.push({
                entries: count, filledPerSecond: filled.asked / filled.wallSeconds, storedAtOnce: again.hits / again.ok, rss: used.rss, anon: used.anon, file: used.file, rssAfterReading: after.rss, storeBytes,
                anonPerEntry: (used.anon - empty.anon) / count, diskPerEntry: storeBytes / count, residentBeyond: (used.rss - empty.rss) / count - SIZE, workingSet: set, everything: all,
            });
            say(`${count} entries: ${(used.rss / 2 ** 20).toFixed(0)} MiB resident, ${(used.anon / 2 ** 20).toFixed(1)} MiB of it its own, ${Math.round(set.perSecond)}/s`);
        }
        return { size: SIZE, workingSet: WORKING_SET, empty, rows };
    } finally {
        await sidecar.stop();
    }
}

export async function idle(bench) {
    const { cores, say, quick } = bench;
    const sidecar = await startSubject(bench.subjects.mcpcached, { upstream: bench.upstream, core: cores.subject });
    try {
        await sleep(1000);
        const look = async () => {
            const pids = familyOf(sidecar.pid);
            const before = cpuSeconds(pids);
            const seconds = quick ? 2 : 15;
            await sleep(seconds * 1000);
            return { seconds, cpuMs: (cpuSeconds(pids) - before) * 1000, ...memoryOf(pids) };
        };
        const fresh = await look();
        await load({ port: sidecar.port, connections: 64, questions: 1000, tools: TOOLS, seconds: 1 }, { core: cores.load });
        await sleep(2000);
        const used = await look();
        say(`idle: ${fresh.cpuMs.toFixed(0)} ms CPU in ${fresh.seconds} s, ${(fresh.rss / 2 ** 20).toFixed(1)} MiB resident; after work ${(used.rss / 2 ** 20).toFixed(1)} MiB`);
        return { fresh, used };
    } finally {
        await sidecar.stop();
    }
}

export async function restart(bench) {
    const { cores, say } = bench;
    const questions = 5000;
    const rows = [];
    for (const signal of ['SIGTERM', 'SIGKILL']) {
        const port = await freePort();
        const store = path.join(bench.scratch, `store-${signal}`);
        const start = () => startSubject(bench.subjects.mcpcached, { upstream: bench.upstream, core: cores.subject, port, store });
        let sidecar = await start();
        try {
            const options = { port, connections: 16, order: 'each', questions, tools: TOOLS, seconds: 30, seed: bench.seed };
            await load(options, { core: cores.load });
            await sleep(500);
            const before = await load(options, { core: cores.load });
            await sleep(500);
            const began = performance.now();
            if (signal === 'SIGKILL') process.kill(sidecar.pid, 'SIGKILL');
            await sidecar.stop();
            sidecar = await start();
            const awayMs = performance.now() - began;
            const after = await load(options, { core: cores.load });
            bench.judge(`after ${signal}`, after);
            rows.push({ signal, questions, hitsBefore: before.hits / before.ok, hitsAfter: after.hits / after.ok, awayMs });
            say(`${signal}: ${(100 * after.hits / after.ok).toFixed(2)} % hits after the restart, which took ${awayMs.toFixed(0)} ms`);
        } finally {
            await sidecar.stop();
        }
    }
    return { rows };
}

export async function loops(bench) {
    const { cores, say, quick } = bench;
    const rounds = quick ? 2 : 5;
    const rows = [];
    const legs = [{ threads: 1, subject: cores.subject }, { threads: 1, subject: cores.all }, { threads: 2, subject: cores.all }];
    const running = [];
    try {
        for (const leg of legs) running.push(await startSubject(bench.subjects.mcpcached, { upstream: bench.upstream, core: leg.subject, threads: leg.threads }));
        const samples = legs.map(() => []);
        for (let round = 0; round < rounds; round++) {
            for (const [i, leg] of legs.entries()) {
                const load = leg.subject === cores.all ? cores.all : cores.load;
                const sample = await measure(running[i], { connections: 64, warmup: 0.3, seconds: quick ? 0.8 : 2, seed: bench.seed }, { load });
                bench.judge(`${leg.threads} loops`, sample);
                samples[i].push(sample);
            }
        }
        for (const [i, leg] of legs.entries()) {
            rows.push({ threads: leg.threads, cores: leg.subject, perSecond: median(samples[i].map((s) => s.perSecond)), cpuUs: median(samples[i].map((s) => s.cpuUs)), busy: median(samples[i].map((s) => s.busy)), p99: median(samples[i].map((s) => s.latencyUs.p99)) });
            say(`${leg.threads} loop(s) on ${leg.subject}: ${Math.round(rows[i].perSecond)}/s`);
        }
    } finally {
        for (const subject of running) await subject.stop();
    }
    return { rows };
}
