/* SPDX-License-Identifier: Apache-2.0 */
// The official v1 client (legacy era) through the sidecar, against servers on both official SDKs.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CreateMessageRequestSchema, ElicitRequestSchema, ResourceUpdatedNotificationSchema, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { connectV1, textOf } from './lib/clients.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { cachingStories, idleStreamStory } from './lib/stories.mjs';
import { startLegacy } from './lib/upstreams/legacy.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { readPolicy } from './lib/upstreams/world.mjs';
import { until } from './lib/wait.mjs';

const pairs = {
    'v1 server, sessions, event streams': { startUpstream: (options) => startLegacy(options), session: true, streams: true },
    'v1 server, sessions, event streams with event ids': { startUpstream: (options) => startLegacy({ ...options, events: true }), session: true, streams: true },
    'v1 server, sessions, JSON': { startUpstream: (options) => startLegacy({ ...options, json: true }), session: true },
    'v1 server, stateless, event streams': { startUpstream: (options) => startLegacy({ ...options, sessions: false }), streams: true },
    'v1 server, stateless, JSON': { startUpstream: (options) => startLegacy({ ...options, sessions: false, json: true }) },
    'v2 server, its legacy leg': { startUpstream: (options) => startModern(options), streams: true },
};

for (const [name, pair] of Object.entries(pairs)) cachingStories({ ...pair, name: `v1 client, ${name}`, connect: connectV1 });

async function subscribe({ connect, heard }) {
    const caller = await connect({
        setup(client) {
            client.setNotificationHandler(ToolListChangedNotificationSchema, () => void heard.push('tools'));
            client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => void heard.push(params.uri));
        },
    });
    await caller.client.subscribeResource({ uri: 'counter:///watched' });
    await until(() => caller.exchanges.some(({ verb, status }) => verb === 'GET' && status === 200), { what: 'the GET stream' });
    return caller;
}

describe('v1 client, what only sessions have', () => {
    const pair = { startUpstream: startLegacy, connect: connectV1 };
    idleStreamStory(pair, { title: 'an idle GET stream outlives the timeouts and still delivers', subscribe });

    for (const events of [false, true]) {
        test(`a question to the user and one to the model make the round trip, and their results are not kept (event ids: ${events})`, async (t) => {
            const upstream = await startLegacy({ t, events });
            const sidecar = await Sidecar.start(`${readPolicy}  - { uri: "x://*", ttl: 1m }\n`, { t, upstream });
            const asked = [];
            const caller = await connectV1(sidecar.url, {
                t,
                token: 'ann',
                capabilities: { elicitation: {}, sampling: {} },
                setup(client) {
                    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
                        asked.push(params.message);
                        return { action: 'accept', content: { answer: `answer ${asked.length}` } };
                    });
                    client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
                        asked.push(params.messages[0].content.text);
                        return { model: 'none', role: 'assistant', content: { type: 'text', text: `thought ${asked.length}` } };
                    });
                },
            });
            // `ask` is granted by the policy: it is the question in mid-call that makes the result this exchange's own.
            for (const turn of [1, 2]) {
                const { result, exchange } = await caller.call('ask', { question: 'which?' });
                assert.equal(textOf(result), `accept: answer ${turn}`);
                assert.ok(!exchange.cacheStatus?.stored);
            }
            assert.equal(textOf((await caller.call('sample', { prompt: 'think' })).result), 'model: thought 3');
            assert.deepEqual(asked, ['which?', 'which?', 'think']);
            assert.equal(upstream.world.timesRun('ask'), 2);
        });
    }
});
