/* SPDX-License-Identifier: Apache-2.0 */
// What admission costs a caller who asks seldom. Agents make 10 to 50 calls an hour: one every two minutes, with a lease of one. Here time runs 300 times
// faster: a lease of 200 ms, a call every 400 ms, a tool that takes 150 ms. Each answer after the first should be a hit, and each of those pays for a
// probe, on a new connection, as after two minutes; the figures say what it adds, beside what the call would have taken. To see the figures alone:
//   node --test tests/e2e/admission-cost.test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { callTool, complete, legacy, legacyCall, messageOf, outcomeOf } from './lib/rpc.mjs';
import { Door, probesOf } from './lib/door.mjs';
import { Stand } from './lib/stand.mjs';
import { sleep } from './lib/wait.mjs';

const LEASE_MS = 200;
const EVERY_MS = 400;
const TOOL_MS = 150;
const CALLS = 12;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const ms = (value) => (value === undefined ? 'none' : `${value.toFixed(2)} ms`);

/** One call and what it took: connecting is not part of it. */
async function timed(connection, request) {
    const began = performance.now();
    const answer = await connection.ask(request);
    await answer.body();
    return { outcome: outcomeOf(answer), took: performance.now() - began, answer };
}

const ERAS = {
    modern: { probe: 'server/discover', make: async () => (o) => callTool('slow', { q: 1 }, o) },
    'legacy session': {
        probe: 'ping',
        make: async (stand, door) => {
            door.opens = 'cost';
            await (await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }))).body();
            return (o) => legacyCall('slow', { q: 1 }, { session: 'cost', ...o });
        },
    },
};
for (const [era, { probe, make }] of Object.entries(ERAS)) {
    test(`a caller with one call in every two leases still gets hits, and a probe costs far less than the call (${era})`, async (t) => {
        const door = new Door();
        const stand = await Stand.open({ t, policy: `version: 1\nidentity: { lease: ${LEASE_MS}ms }\ntools:\n  - { name: canary, ttl: 60s, scope: principal }\n  - { name: slow, ttl: 60s }\n`, flags: ['--upstream-keepalive', '50ms'], fallback: door.handle });
        stand.upstream.on('slow', async (call) => {
            await sleep(TOOL_MS);
            await call.result(call.json.params._meta ? complete('worth waiting for') : { content: [{ type: 'text', text: 'worth waiting for' }] });
        });
        const call = await make(stand, door);
        const connection = await stand.connect(t);
        const first = await timed(connection, call());
        assert.equal(first.outcome, 'miss');

        const seldom = [];
        for (let n = 0; n < CALLS; n++) {
            await sleep(EVERY_MS);
            const probes = probesOf(stand.upstream, 'alpha').length;
            const one = await timed(connection, call({ id: `${n + 2}` }));
            seldom.push({ ...one, probed: probesOf(stand.upstream, 'alpha').length - probes });
            assert.equal((await messageOf(one.answer)).result.content[0].text, 'worth waiting for');
        }
        const hits = seldom.filter(({ outcome }) => outcome === 'hit');
        // The same question within the lease, and the call itself, which a header makes another question each time.
        const within = [];
        const calls = [];
        for (let n = 0; n < CALLS; n++) {
            const one = await timed(connection, call());
            if (one.outcome === 'hit' && n > 0) within.push(one.took);
        }
        for (let n = 0; n < 5; n++) calls.push((await timed(connection, call({ headers: { 'X-Turn': `${n}` } }))).took);

        const cost = { probed: median(hits.map(({ took }) => took)), plain: median(within), call: median(calls) };
        const probes = hits.reduce((sum, { probed }) => sum + probed, 0);
        const figures = `admission cost, ${era}: ${hits.length}/${CALLS} hits; median hit with a probe ${ms(cost.probed)}, hit within the lease ${ms(cost.plain)}, so a probe adds ${ms(cost.probed - cost.plain)}; the call it saves takes ${ms(cost.call)}`;
        console.log(figures);

        assert.ok(hits.length >= CALLS - 2, `${hits.length} hits of ${CALLS}: ${seldom.map(({ outcome }) => outcome).join(' ')}`);
        assert.ok(probes >= CALLS / 2 && probes <= hits.length + 1, `${probes} probes for ${hits.length} hits`);
        assert.equal(stand.upstream.of('slow').length, 1 + (CALLS - hits.length) + calls.length, 'the tool ran for nobody\'s hit');
        assert.ok(cost.call >= TOOL_MS);
        assert.ok(cost.probed < cost.call / 2, `${ms(cost.probed)} for a hit with a probe, ${ms(cost.call)} for the call`);
    });
}
