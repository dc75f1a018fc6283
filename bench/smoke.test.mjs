/* SPDX-License-Identifier: Apache-2.0 */
// A benchmark that does not verify its answers does not count: the two ends of the bench, with mcpcached between them, count right answers and nothing else.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { load, startUpstream } from './lib/load.mjs';
import { machine, scratch } from './lib/machine.mjs';
import { startSubject } from './lib/subjects.mjs';
import { readWorkloads, runWorkload } from './stages/workloads.mjs';
import { writeReport } from './lib/report.mjs';
import mcpcached from './peers/mcpcached/subject.mjs';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const subject = { name: 'mcpcached', ...mcpcached };
const anyCore = { load: undefined, subject: undefined };
const running = [];
after(async () => {
    for (const one of running.reverse()) await one.stop();
});

/** An upstream, mcpcached in front of it, and the load for either. */
async function scene(settings = {}) {
    const upstream = await startUpstream(settings);
    running.push(upstream);
    const sidecar = await startSubject(subject, { upstream });
    running.push(sidecar);
    const ask = (more, port = sidecar.port) => load({ port, connections: 8, seconds: 0.5, ...more });
    return { upstream, sidecar, ask };
}

const sum = (numbers) => Object.values(numbers).reduce((total, n) => total + n, 0);

for (const name of ['hot', 'mixed', 'lists', 'sse', 'legacy', 'tokens']) {
    test(`the workload ${name} runs, and all its answers are right`, async () => {
        const workload = readWorkloads().find((one) => one.name === name);
        workload.load = { ...workload.load, connections: 8, tokens: Math.min(workload.load.tokens ?? 1, 20) };
        if (workload.fillSeconds) workload.fillSeconds = 0.4;
        const result = await runWorkload(workload, subject, { cores: anyCore, seconds: 0.4, seed: 7 });
        assert.equal(result.failed, 0, result.said);
        assert.ok(result.ok > 50, `only ${result.ok} answers`);
        assert.ok(result.hits > 0.2 * result.ok, `${result.hits} hits of ${result.ok}`);
        const { posts } = result.upstream;
        assert.ok(posts < result.asked, `the upstream was asked ${posts} times for ${result.asked}`);
    });
}

test('a herd makes one call, a trace is replayed to its end', async () => {
    const herd = await scene({ latency_us: 50_000 });
    const burst = await herd.ask({ connections: 40, burst: 40, rate: 5, seconds: 0.55 });
    assert.equal(burst.failed, 0, burst.said);
    assert.equal((await herd.upstream.stats()).calls, burst.asked / 40);
    const replay = await herd.ask({ trace: path.join(import.meta.dirname, 'workloads/example.csv'), speed: 20, seconds: 60, connections: 32 });
    assert.equal(replay.failed, 0, replay.said);
    const lines = readFileSync(path.join(import.meta.dirname, 'workloads/example.csv'), 'utf8').trim().split('\n').length - 1;
    assert.equal(replay.ok, lines);
});

test('one wrong byte, or another caller\'s answer, is noticed, from the upstream and from the cache', async () => {
    const { upstream, ask } = await scene();
    const load = { questions: 50, tools: 5, private: 1, tokens: 3 };
    for (const mode of ['corrupt', 'stranger']) {
        await upstream.set({ mode });
        const direct = await ask({ ...load, seed: 3 }, upstream.port);
        assert.equal(direct.ok, 0, `${mode}: ${direct.ok} counted as right`);
        assert.equal(direct.failures.content, direct.failed);
        // Other questions in each mode: what was kept once is not asked again.
        const through = await ask({ ...load, first: mode === 'corrupt' ? 1000 : 2000 });
        assert.equal(through.ok, 0, `${mode} through mcpcached: ${through.ok} counted as right`);
        assert.equal(through.failures.content, through.failed);
        assert.match(through.said, /load: content: asked POST/);
    }
    await upstream.set({ mode: 'corrupt' });
    assert.equal((await ask({ list: 1 }, upstream.port)).ok, 0, 'a wrong list counted as right');
    await upstream.set({ mode: 'ok' });
    // The poison is in the store: a benchmark that counts statuses would call these fast hits.
    const poisoned = await ask({ ...load, first: 1000 });
    assert.ok(poisoned.failed > 0 && poisoned.ok === 0, `${poisoned.ok} right, ${poisoned.failed} failed`);
    const good = await ask({ ...load, first: 3000 });
    assert.equal(good.failed, 0, good.said);
    assert.ok(good.hits > 0);
});

test('failures are told apart: a status, a reset, silence, nobody there', async () => {
    const upstream = await startUpstream();
    running.push(upstream);
    const ask = (more) => load({ port: upstream.port, connections: 4, rate: 50, seconds: 0.4, ...more });
    for (const [mode, kind] of [['500', 'status'], ['reset', 'closed'], ['hang', 'timeout']]) {
        await upstream.set({ mode });
        const result = await ask({ timeout_ms: 150 });
        assert.equal(result.ok, 0);
        assert.ok(result.failed > 0 && result.failures[kind] === result.failed, `${mode}: ${JSON.stringify(result.failures)}`);
    }
    await upstream.set({ mode: 'ok' });
    const run = load({ port: upstream.port, connections: 4, rate: 100, seconds: 0.8, series_ms: 100 });
    await new Promise((resolve) => setTimeout(resolve, 400));
    await upstream.kill();
    const result = await run;
    assert.ok(result.ok > 0 && result.failures.connect > 0, JSON.stringify(result.failures));
    assert.equal(result.series.reduce((total, slot) => total + slot[1], 0), result.ok);
    assert.equal(sum(result.failures), result.failed);
});

test('a stall is charged to all that were due meanwhile', async () => {
    const upstream = await startUpstream({ latency_us: 100_000 });
    running.push(upstream);
    // One connection can do 10 a second; 50 a second are due, so the last ones wait for most of the run.
    const open = await load({ port: upstream.port, connections: 1, rate: 50, seconds: 1 });
    assert.ok(open.latencyUs.max > 500_000, `max ${open.latencyUs.max} us`);
    const closed = await load({ port: upstream.port, connections: 1, seconds: 0.5 });
    assert.ok(closed.latencyUs.p50 >= 100_000 && closed.latencyUs.p50 < 400_000, `p50 ${closed.latencyUs.p50} us`);
});

test('a report is written from what was measured', () => {
    const folder = scratch('report');
    const row = (name, title, perSecond) => ({ size: 1024, name, title, perSecond, ofBare: perSecond / 1000, cpuUs: 5, cpuOfBare: 1, p50: 10, p99: 20, busy: 1, loadCpuUs: 4, upstreamShare: 0 });
    const files = writeReport(folder, {
        date: 'today', kind: 'quick', minutes: 1, seed: 1, cores: { load: '0', subject: '1' }, machine: machine(), commit: 'x', subjects: [{ name: 'bare', title: 'bare', does: 'No.' }], leftOut: { varnish: 'a <reason>' }, failures: [],
        results: { throughput: { connections: 64, rounds: 1, seconds: 1, rows: [row('bare', 'bare', 1000), row('mcpcached', 'mcpcached', 800)] }, idle: { broke: 'as a test' } },
    });
    for (const file of files) assert.ok(existsSync(path.join(folder, file)), file);
    const text = readFileSync(path.join(folder, 'report.md'), 'utf8');
    assert.match(text, /\| mcpcached \| 800 \| 0\.80 \|/);
    assert.match(text, /This part broke: as a test/);
    assert.match(readFileSync(path.join(folder, 'throughput.svg'), 'utf8'), /^<svg [^]*<\/svg>\n$/);
});
