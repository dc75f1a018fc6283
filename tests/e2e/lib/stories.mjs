/* SPDX-License-Identifier: Apache-2.0 */
// The stories that must be true for every official client in front of every official server: each is told once here and run for each pair.
// A pair is {name, startUpstream({t}), connect(url, {t, ...}), modern, session, streams}:
//   modern   the 2026-07-28 era; session  a legacy session exists; streams  answers come as event streams, so that progress can arrive
import assert from 'node:assert/strict';
import { test as nodeTest } from 'node:test';
import { textOf } from './clients.mjs';
import { Sidecar } from './sidecar.mjs';
import { longText, ONE_MEGABYTE, readPolicy } from './upstreams/world.mjs';
import { rejection, sleep, until } from './wait.mjs';

const anonymousPolicy = `${readPolicy}identity: { anonymous: shared }\n`;
const withTtl = (ttl) => `version: 1\ntools:\n  - { name: echo, ttl: ${ttl} }\nresources:\n  - { uri: "doc://**", ttl: ${ttl} }\n`;

/** An upstream, a sidecar in front of it, and how to connect to that. */
async function scene(t, pair, { policy = readPolicy, flags } = {}) {
    const upstream = await pair.startUpstream({ t });
    const sidecar = await Sidecar.start(policy, { t, upstream, flags });
    const connect = (options) => pair.connect(sidecar.url, { t, token: 'ann', ...options });
    return { upstream, world: upstream.world, sidecar, connect };
}

/**
 * Repeats `attempt` until it is a hit, the first time being a miss; then once more: from there on it stays a hit. The store is written
 * beside the answer, so the second attempt may come too early; `misses` counts what had to reach the upstream. Returns {first, hit, misses}.
 */
export async function missThenHit(attempt) {
    const first = await attempt();
    const status = ({ exchange }) => JSON.stringify(exchange?.cacheStatus);
    assert.equal(first.outcome, 'miss', `first: ${status(first)}`);
    let misses = 1;
    let last = first;
    const hit = await until(async () => {
        last = await attempt();
        if (last.outcome === 'hit') return last;
        assert.equal(last.outcome, 'miss', status(last));
        misses += 1;
        return undefined;
    }, { withinMs: 5000, what: () => `a hit; the last answer said ${status(last)}` });
    assert.equal((await attempt()).outcome, 'hit', 'once a hit, it stays one');
    return { first, hit, misses };
}

const withoutTtl = ({ ttlMs, ...rest }) => rest;

export function cachingStories(pair) {
    const test = (title, story) => nodeTest(`${pair.name}: ${title}`, story);

    test('a repeated call is a hit, with the same result, and the tool does not run for it', async (t) => {
        const { world, connect, sidecar } = await scene(t, pair);
        const caller = await connect();
        const { first, hit, misses } = await missThenHit(() => caller.call('echo', { text: 'zoë "said" 漢字' }));
        assert.deepEqual(hit.result, first.result);
        assert.equal(world.timesRun('echo'), misses);
        const { cacheStatus, age } = hit.exchange;
        assert.equal(cacheStatus.cache, 'mcpcached');
        assert.ok(cacheStatus.ttl > 0 && cacheStatus.ttl <= 600, `ttl=${cacheStatus.ttl}`);
        assert.ok(age >= 0 && age < 60, `Age: ${age}`);
        await sidecar.untilLogged((line) => /outcome=hit/.test(line) && /method=tools\/call/.test(line) && /name=echo/.test(line), 'a line for the hit');
    });

    test('arguments in another order hit; other arguments, and the same ones absent, miss', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        const { misses } = await missThenHit(() => caller.call('echo', { text: 'a', loud: false }));
        assert.equal((await caller.call('echo', { loud: false, text: 'a' })).outcome, 'hit');
        assert.equal((await caller.call('echo', { text: 'b', loud: false })).outcome, 'miss');
        assert.equal((await caller.call('echo', { text: 'a' })).outcome, 'miss');
        assert.equal(world.timesRun('echo'), misses + 2);
    });

    test('another token misses, and each caller gets his own answer', async (t) => {
        const { world, connect } = await scene(t, pair);
        const [ann, bob] = [await connect({ token: 'ann' }), await connect({ token: 'bob' })];
        const forAnn = await missThenHit(() => ann.call('whoami'));
        const forBob = await missThenHit(() => bob.call('whoami'));
        assert.deepEqual([forAnn, forBob].map(({ hit }) => textOf(hit.result)), ['ann', 'bob']);
        assert.equal(world.timesRun('whoami'), forAnn.misses + forBob.misses);
    });

    test(`the same token from another client ${pair.session ? 'has its own session and misses' : 'hits'}`, async (t) => {
        const { world, connect } = await scene(t, pair);
        const [one, other] = [await connect(), await connect()];
        const { misses } = await missThenHit(() => one.call('echo', { text: 'shared' }));
        assert.equal((await other.call('echo', { text: 'shared' })).outcome, pair.session ? 'miss' : 'hit');
        assert.equal(world.timesRun('echo'), misses + (pair.session ? 1 : 0));
    });

    test('a caller without credentials is nobody: his results are not kept, unless the policy says that anonymous callers share', async (t) => {
        const strict = await scene(t, pair);
        const nobody = await strict.connect({ token: undefined });
        for (let turn = 0; turn < 5; turn++) {
            const { outcome, exchange } = await nobody.call('echo', { text: 'x' });
            assert.ok(outcome !== 'hit' && !exchange.cacheStatus?.stored, JSON.stringify(exchange.cacheStatus));
            await sleep(20);
        }
        assert.equal(strict.world.timesRun('echo'), 5);

        const shared = await scene(t, pair, { policy: anonymousPolicy });
        const anybody = await shared.connect({ token: undefined });
        const { misses } = await missThenHit(() => anybody.call('echo', { text: 'x' }));
        assert.equal(shared.world.timesRun('echo'), misses);
    });

    test('a stored result ends with its ttl', async (t) => {
        const { world, connect } = await scene(t, pair, { policy: withTtl('500ms') });
        const caller = await connect();
        const { misses } = await missThenHit(() => caller.call('echo', { text: 'short' }));
        await until(async () => (await caller.call('echo', { text: 'short' })).outcome === 'miss', { what: 'the entry to expire' });
        assert.equal(world.timesRun('echo'), misses + 1);
        // A miss before the end of a ttl would be no proof: the longer one has to survive it.
        const longer = await scene(t, pair, { policy: withTtl('10m') });
        const patient = await longer.connect();
        await missThenHit(() => patient.call('echo', { text: 'long' }));
        await sleep(500);
        assert.equal((await patient.call('echo', { text: 'long' })).outcome, 'hit');
    });

    test('a write, and a tool that no rule names, run every time', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        for (const expected of ['1', '2', '3']) {
            const { result, outcome, exchange } = await caller.call('tick', { counter: 'n' });
            assert.equal(textOf(result), expected);
            assert.ok(!['hit', 'stale'].includes(outcome) && !exchange.cacheStatus?.stored, `outcome ${outcome}`);
        }
        for (const expected of ['1', '2']) assert.equal(textOf((await caller.call('now')).result), expected);
        assert.equal(world.timesRun('tick'), 3);
        assert.equal(world.timesRun('now'), 2);
    });

    test('a result with isError is relayed and not kept', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        for (let turn = 1; turn <= 3; turn++) {
            const { result, outcome } = await caller.call('refuse');
            assert.equal(result.isError, true);
            assert.equal(textOf(result), `refused ${turn} times`);
            assert.equal(outcome, 'miss');
        }
        assert.equal(world.timesRun('refuse'), 3);
    });

    test('a result of one megabyte comes back intact, from the upstream and from the store', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        const called = await missThenHit(() => caller.call('blob', { length: ONE_MEGABYTE, seed: 7 }));
        const read = await missThenHit(() => caller.read('doc:///large'));
        for (const { result } of [called.first, called.hit]) assert.equal(textOf(result), longText(ONE_MEGABYTE, 7));
        for (const { result } of [read.first, read.hit]) assert.equal(textOf(result), longText(ONE_MEGABYTE));
        assert.deepEqual([world.timesRun('blob'), world.timesRun('doc:///large')], [called.misses, read.misses]);
    });

    test('structured content survives a hit, and the client still validates it', async (t) => {
        const { connect } = await scene(t, pair);
        const caller = await connect();
        await caller.tools();
        const { first, hit } = await missThenHit(() => caller.call('add', { a: 0.1, b: 2 }));
        for (const { result } of [first, hit]) assert.deepEqual(result.structuredContent, { sum: 2.1 });
    });

    test('the four lists are kept', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        for (const list of ['tools', 'resources', 'templates', 'prompts']) {
            const { first, hit, misses } = await missThenHit(() => caller[list]());
            assert.deepEqual(withoutTtl(hit.result), withoutTtl(first.result));
            assert.equal(world.arrived(first.exchange.method), misses);
        }
    });

    test('resources are kept for as long as hint and policy allow', async (t) => {
        const { world, connect } = await scene(t, pair);
        const caller = await connect();
        const { first, hit, misses } = await missThenHit(() => caller.read('doc:///guide'));
        assert.equal(textOf(hit.result), `guide, read ${misses}`);
        assert.equal(world.timesRun('doc:///guide'), misses);
        await missThenHit(() => caller.read('doc:///mine'));
        if (pair.modern) {
            assert.equal(first.result.ttlMs, 60_000);
            assert.ok(Number.isInteger(hit.result.ttlMs) && hit.result.ttlMs <= 60_000 && hit.result.ttlMs > 0, `ttlMs ${hit.result.ttlMs} on the hit`);
            for (let turn = 0; turn < 5; turn++) assert.equal((await caller.read('doc:///fleeting')).outcome, 'miss');
            await until(async () => (await caller.read('doc:///brief')).outcome === 'hit', { what: 'a hint of 300 ms to count' });
            await until(async () => (await caller.read('doc:///brief')).outcome === 'miss', { what: 'a hint of 300 ms to expire' });
        } else {
            assert.ok(!('ttlMs' in hit.result), 'a legacy hit gains no ttlMs');
            await missThenHit(() => caller.read('doc:///fleeting'));
            // No rule, and a legacy server cannot hint.
            for (let turn = 0; turn < 2; turn++) assert.notEqual((await caller.read('counter:///x')).outcome, 'hit');
            assert.equal(world.timesRun('counter:///x'), 2);
        }
        const bob = await connect({ token: 'bob' });
        assert.equal(textOf((await bob.read('doc:///mine')).result), 'of bob');
    });

    if (pair.streams) {
        test('progress arrives while the call is still running, and a hit needs none', async (t) => {
            const { world, connect } = await scene(t, pair);
            const caller = await connect();
            const seen = [];
            const running = caller.call('stroll', { steps: 3 }, { onprogress: ({ progress }) => seen.push(progress) });
            for (let step = 1; step <= 3; step++) {
                // The tool waits at the gate: what arrives now cannot have waited for the result.
                await until(() => seen.length >= step, { what: `progress ${step} before the call goes on` });
                world.gate.open();
            }
            assert.equal(textOf((await running).result), '3 steps');
            assert.deepEqual(seen, [1, 2, 3]);
            world.gate.open(Infinity);
            await until(async () => (await caller.call('stroll', { steps: 3 })).outcome === 'hit', { withinMs: 5000, what: 'a hit' });
            const runs = world.timesRun('stroll');
            const again = await caller.call('stroll', { steps: 3 }, { onprogress: ({ progress }) => seen.push(progress) });
            assert.deepEqual([again.outcome, textOf(again.result), world.timesRun('stroll')], ['hit', '3 steps', runs]);
        });
    }

    if (pair.modern || (pair.session && pair.streams)) {
        test(`a client that gives up ${pair.modern ? '(by closing)' : '(by notifications/cancelled)'} stops the tool at the upstream`, async (t) => {
            const { world, connect } = await scene(t, pair);
            const caller = await connect();
            const abort = new AbortController();
            const running = rejection(caller.call('stroll', { steps: 1, tag: 'given up' }, { signal: abort.signal, onprogress: () => {} }));
            await until(() => world.gate.arrived === 1, { what: 'the tool to start' });
            abort.abort(new Error('changed my mind'));
            await running;
            await until(() => world.aborted === 1, { what: 'the upstream to hear of it' });
            world.gate.open(Infinity);
            const again = await caller.call('stroll', { steps: 1, tag: 'given up' });
            assert.equal(again.outcome, 'miss', 'nothing of the abandoned call was kept');
        });
    }

    if (pair.session) {
        test('ending a session reaches the upstream, and its answer to whoever comes back with it reaches the client', async (t) => {
            const { upstream, world, connect, sidecar } = await scene(t, pair);
            const caller = await connect();
            await caller.call('now');
            const session = caller.transport.sessionId;
            await caller.transport.terminateSession();
            assert.equal(upstream.sessions.size, 0);
            const response = await fetch(sidecar.url, {
                method: 'POST',
                headers: { authorization: 'Bearer ann', 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' },
                body: JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'tools/call', params: { name: 'echo', arguments: { text: 'x' } } }),
            });
            assert.equal(response.status, 404);
            assert.deepEqual(await response.json(), { jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Session not found' } });
            assert.equal(world.timesRun('echo'), 0);
        });
    } else {
        for (const [how, end] of [['SIGTERM', (sidecar) => sidecar.stop()], ['kill -9', (sidecar) => sidecar.kill9()]]) {
            test(`after ${how} and a new start the first call is a hit`, async (t) => {
                const { world, connect, sidecar } = await scene(t, pair, { policy: anonymousPolicy });
                const before = await connect({ token: undefined });
                const { hit: { result }, misses } = await missThenHit(() => before.call('echo', { text: 'warm' }));
                // What waits for its commit counts already, and dies with a process that is killed in these few milliseconds.
                if (how !== 'SIGTERM') await sleep(500);
                const ended = await end(sidecar);
                if (how === 'SIGTERM') assert.deepEqual(ended, { code: 0, signal: null }, 'SIGTERM is a clean end');
                await sidecar.restart();
                const after = await connect({ token: undefined });
                const first = await after.call('echo', { text: 'warm' });
                assert.equal(first.outcome, 'hit', JSON.stringify(first.exchange.cacheStatus));
                assert.deepEqual(withoutTtl(first.result), withoutTtl(result));
                assert.equal(world.timesRun('echo'), misses);
            });
        }
    }
}

/** Streams that outlive the timeouts; `listen(caller, heard)` makes `heard.push('tools' | uri)` happen. */
export function idleStreamStory(pair, { title, subscribe }) {
    nodeTest(title, async (t) => {
        const { world, connect, upstream } = await scene(t, pair, { flags: ['--connect-timeout', '500ms', '--first-byte-timeout', '500ms'] });
        const heard = [];
        const caller = await subscribe({ connect, heard, world, upstream });
        // The one place where time itself is the point: longer than every timeout above, with nothing on the wire.
        await sleep(1800);
        world.announce({ listChanged: 'tools' });
        world.tick('watched');
        await until(() => heard.includes('tools') && heard.includes('counter:///watched'), { what: `both notifications after the silence; heard: ${heard}` });
        await caller.close();
    });
}
