/* SPDX-License-Identifier: Apache-2.0 */
// Whoever writes sees it in his next read, whatever was kept before: official clients in front of official servers, on two loops, so that the write and the read that
// follows it are seldom on the same one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectV1, connectV2, textOf } from './lib/clients.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { startLegacy } from './lib/upstreams/legacy.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { until } from './lib/wait.mjs';

const policy = (scope) => `version: 1
identity: { anonymous: shared }
defaults: { lists: 10m, resources: hint }
tools:
  - { name: peek, ttl: 10m, scope: ${scope}, tags: ["counter:{/counter}"] }
  - { name: tick, class: write, invalidates: ["counter:{/counter}"] }
  - { name: echo, ttl: 10m, scope: ${scope} }
resources:
  - { uri: "counter://**", ttl: 10m }
`;
const TURNS = 30;

const PAIRS = {
    'v2 client, v2 server': { start: startModern, connect: connectV2, isModern: true },
    'v2 client, v2 server that streams': { start: (options) => startModern({ ...options, response: 'sse' }), connect: connectV2, isModern: true },
    'v1 client, v1 server with sessions': { start: startLegacy, connect: connectV1 },
    'v2 client in the legacy era, v1 server': { start: startLegacy, connect: (url, options) => connectV2(url, { ...options, era: 'legacy' }) },
};

for (const [pair, { start, connect, isModern }] of Object.entries(PAIRS)) {
    async function scene(t, scope) {
        const upstream = await start({ t });
        const sidecar = await Sidecar.start(policy(scope), { t, upstream, flags: ['--threads', '2'] });
        return { world: upstream.world, caller: (token) => connect(sidecar.url, { t, token }) };
    }
    const peek = (caller, counter = 'n') => caller.call('peek', { counter });
    const hits = (attempt) => until(async () => (await attempt()).outcome === 'hit', { everyMs: 5, what: 'a hit' });

    for (const scope of ['principal', 'public']) {
        test(`${pair}: after a write its writer reads the new value, at once and each time (${scope} entries)`, async (t) => {
            const { world, caller } = await scene(t, scope);
            const ann = await caller('ann');
            for (let turn = 1; turn <= TURNS; turn++) {
                await hits(() => peek(ann));
                await hits(() => ann.call('echo', { text: 'x' }));
                const ran = world.timesRun('echo');
                assert.equal(textOf((await ann.call('tick', { counter: 'n' })).result), String(turn));
                const [first, second] = await Promise.all([peek(ann), peek(ann)]);
                for (const { result, exchange } of [first, second]) assert.equal(textOf(result), String(turn), `turn ${turn}: ${JSON.stringify(exchange.cacheStatus)}`);
                // What he wrote may show anywhere.
                await ann.call('echo', { text: 'x' });
                assert.equal(world.timesRun('echo'), ran + 1, 'read anew');
            }
        });

        test(`${pair}: the same caller sees it through another client of his (${scope} entries)`, async (t) => {
            const { caller } = await scene(t, scope);
            const [one, other] = [await caller('ann'), await caller('ann')];
            for (let turn = 1; turn <= TURNS; turn++) {
                await hits(() => peek(other));
                await one.call('tick', { counter: 'n' });
                const { result, exchange } = await peek(other);
                assert.equal(textOf(result), String(turn), `turn ${turn}: ${JSON.stringify(exchange.cacheStatus)}`);
            }
        });
    }

    test(`${pair}: what a write names is new for everybody, once the writer has his answer`, async (t) => {
        const { caller } = await scene(t, 'public');
        const [ann, bob] = [await caller('ann'), await caller('bob')];
        await peek(bob, 'other');
        await hits(() => peek(bob, 'other'));
        for (let turn = 1; turn <= TURNS; turn++) {
            await hits(() => peek(bob));
            await ann.call('tick', { counter: 'n' });
            const { result, exchange } = await peek(bob);
            assert.equal(textOf(result), String(turn), `turn ${turn}: ${JSON.stringify(exchange.cacheStatus)}`);
            assert.equal((await peek(bob, 'other')).outcome, 'hit', 'what it does not name stays');
        }
    });

    test(`${pair}: a resource is read anew by whoever wrote`, async (t) => {
        const { caller } = await scene(t, 'principal');
        const [ann, bob] = [await caller('ann'), await caller('bob')];
        const read = (who) => who.read('counter:///n');
        for (let turn = 1; turn <= TURNS; turn++) {
            await hits(() => read(ann));
            if (isModern) await hits(() => read(bob));
            await ann.call('tick', { counter: 'n' });
            assert.equal(textOf((await read(ann)).result), String(turn));
        }
    });

    test(`${pair}: reads that go on while somebody writes never go back`, async (t) => {
        const { caller } = await scene(t, 'public');
        const [writer, ...readers] = await Promise.all(['ann', 'ann', 'bob', 'eve'].map(caller));
        let ends = false;
        let written = 0;
        const seen = [];
        const reading = readers.map(async (reader) => {
            while (!ends) {
                const before = written;
                const value = Number(textOf((await peek(reader)).result));
                seen.push([before, value]);
            }
        });
        for (let turn = 0; turn < 100; turn++) {
            written = Number(textOf((await writer.call('tick', { counter: 'n' })).result));
        }
        ends = true;
        await Promise.all(reading);
        assert.ok(seen.length > 100);
        for (const [before, value] of seen) assert.ok(value >= before, `read ${value} after ${before} had been written`);
    });
}
