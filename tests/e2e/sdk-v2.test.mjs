/* SPDX-License-Identifier: Apache-2.0 */
// The official v2 client through the sidecar: modern (2026-07-28) against the v2 server in each of its response modes, legacy against
// the v1 server.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { connectV1, connectV2, outcomeOf, parseCacheStatus, textOf } from './lib/clients.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { cachingStories, idleStreamStory, missThenHit } from './lib/stories.mjs';
import { startLegacy } from './lib/upstreams/legacy.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { readPolicy } from './lib/upstreams/world.mjs';
import { until } from './lib/wait.mjs';

const legacyClient = (url, options) => connectV2(url, { ...options, era: 'legacy' });
const pairs = {
    'modern, v2 server choosing its form': { startUpstream: startModern, connect: connectV2, modern: true, streams: true },
    'modern, v2 server always streaming': { startUpstream: (options) => startModern({ ...options, response: 'sse' }), connect: connectV2, modern: true, streams: true },
    'modern, v2 server always JSON': { startUpstream: (options) => startModern({ ...options, response: 'json' }), connect: connectV2, modern: true },
    'legacy, v1 server, sessions': { startUpstream: startLegacy, connect: legacyClient, session: true, streams: true },
    'legacy, v2 server, its legacy leg': { startUpstream: startModern, connect: legacyClient, streams: true },
};

for (const [name, pair] of Object.entries(pairs)) cachingStories({ ...pair, name: `v2 client, ${name}` });

describe('v2 client, modern only', () => {
    // A server that says nothing for longer than the timeouts: its own keep-alive comments are off.
    const silent = { startUpstream: (options) => startModern({ ...options, keepAliveMs: 0 }), connect: connectV2 };
    idleStreamStory(silent, {
        title: 'an idle subscriptions/listen stream outlives the timeouts, still delivers, and ends at the upstream when the client closes it',
        async subscribe({ connect, heard, upstream }) {
            const caller = await connect({
                setup(client) {
                    client.setNotificationHandler('notifications/tools/list_changed', () => void heard.push('tools'));
                    client.setNotificationHandler('notifications/resources/updated', ({ params }) => void heard.push(params.uri));
                },
            });
            const subscription = await caller.client.listen({ toolsListChanged: true, resourceSubscriptions: ['counter:///watched'] });
            assert.deepEqual(subscription.honoredFilter, { toolsListChanged: true, resourceSubscriptions: ['counter:///watched'] });
            assert.equal(upstream.openStreams(), 1);
            return {
                async close() {
                    await subscription.close();
                    await until(() => upstream.openStreams() === 0, { what: 'the stream to end at the upstream' });
                },
            };
        },
    });

    for (const scope of ['public', 'private']) {
        test(`server/discover is kept: its hint is ${scope}`, async (t) => {
            const upstream = await startModern({ t, scope });
            const sidecar = await Sidecar.start(readPolicy, { t, upstream });
            const discover = async (token) => {
                const caller = await connectV2(sidecar.url, { t, token });
                await caller.close();
                return caller.last('server/discover');
            };
            await until(async () => (await discover('ann')).outcome === 'hit', { what: 'a hit for ann' });
            const arrived = upstream.world.arrived('server/discover');
            assert.equal((await discover('ann')).outcome, 'hit');
            assert.equal(upstream.world.arrived('server/discover'), arrived);
            if (scope === 'private') assert.equal((await discover('bob')).outcome, 'miss');
        });
    }

    test('without hints nothing is kept but what the policy grants by itself', async (t) => {
        const upstream = await startModern({ t, hints: false });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        const caller = await connectV2(sidecar.url, { t, token: 'ann' });
        await missThenHit(() => caller.call('echo', { text: 'x' }));
        for (let turn = 0; turn < 5; turn++) {
            assert.equal((await caller.tools()).outcome, 'miss');
            assert.equal((await caller.read('doc:///guide')).outcome, 'miss');
        }
    });

    test('the two eras share nothing, on one URL', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        const legacy = await connectV1(sidecar.url, { t, token: 'ann' });
        const modern = await connectV2(sidecar.url, { t, token: 'ann' });
        const legacyFirst = await missThenHit(() => legacy.call('echo', { text: 'both' }));
        const modernThen = await missThenHit(() => modern.call('echo', { text: 'both' }));
        assert.equal(upstream.world.timesRun('echo'), legacyFirst.misses + modernThen.misses);
        for (const { hit } of [legacyFirst, modernThen]) assert.equal(textOf(hit.result), 'both');
        assert.ok(!('resultType' in legacyFirst.hit.result), 'a legacy hit gains no resultType');
    });

    test('what a loop has seen before changes no key: an Mcp-Param header of one request leaves the others their hits', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream, flags: ['--threads', '1'] });
        const caller = await connectV2(sidecar.url, { t, token: 'ann' });
        const { misses } = await missThenHit(() => caller.call('echo', { text: 'x' }));
        const other = await connectV2(sidecar.url, { t, token: 'ann', headers: { 'Mcp-Param-Region': 'north' } });
        await other.call('echo', { text: 'y' });
        assert.equal((await caller.call('echo', { text: 'x' })).outcome, 'hit');
        assert.equal(upstream.world.timesRun('echo'), misses + 1);
    });

    test('a hit leaves the trace of the request out of the key, and says no-store to caches beyond', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        const caller = await connectV2(sidecar.url, { t, token: 'ann' });
        const ask = (id, meta) => fetch(sidecar.url, {
            method: 'POST',
            headers: { authorization: 'Bearer ann', 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'echo' },
            body: JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'echo', arguments: { text: 'traced' }, _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' }, 'io.modelcontextprotocol/clientCapabilities': {}, ...meta } } }),
        });
        await caller.call('echo', { text: 'warm the caller' });
        const first = await ask(1, { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' });
        await first.text();
        const second = await until(async () => {
            const response = await ask('zwei', { traceparent: '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', progressToken: 5 });
            if (outcomeOf(parseCacheStatus(response.headers.get('cache-status'))) === 'hit') return response;
            await response.text();
            return undefined;
        }, { withinMs: 5000, what: 'a hit' });
        assert.match(second.headers.get('cache-control') ?? '', /no-store/);
        const message = await second.json();
        assert.equal(message.id, 'zwei');
        assert.equal(textOf(message.result), 'traced');
    });
});
