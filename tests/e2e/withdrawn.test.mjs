/* SPDX-License-Identifier: Apache-2.0 */
// What teaches nothing, and what takes a public answer away: a body that servers read otherwise, and later answers that are not for everybody.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';
import { ask } from './lib/raw.mjs';
import { callTool, complete, legacy, legacyCall, messageOf, modern } from './lib/rpc.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { Stand } from './lib/stand.mjs';

const others = { token: 'beta' };

test('the official SDK behind express.json(): an initialize in UTF-7 that hides another clientInfo teaches nothing', async (t) => {
    const sessions = new Map();
    const app = createMcpExpressApp();
    app.post('/mcp', async (request, response) => {
        const known = sessions.get(request.headers['mcp-session-id']);
        if (known) return known.handleRequest(request, response, request.body);
        const server = new McpServer({ name: 'shop', version: '1' });
        server.registerTool('help', { inputSchema: { about: z.string() } }, async () => ({ content: [{ type: 'text', text: `for ${server.server.getClientVersion().name}` }] }));
        const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID, enableJsonResponse: true, onsessioninitialized: (id) => sessions.set(id, transport) });
        await server.connect(transport);
        await transport.handleRequest(request, response, request.body);
    });
    const http = app.listen(0, '127.0.0.1');
    await once(http, 'listening');
    t.after(() => (http.closeAllConnections(), http.close()));
    const sidecar = await Sidecar.start('version: 1\ntools:\n  - { name: help, ttl: 60s, scope: public }\n', { t, upstream: `http://127.0.0.1:${http.address().port}/mcp`, flags: ['--threads', '1'] });
    const utf7 = (text) => text.replace(/[^A-Za-z0-9 ]+/g, (run) => `+${Buffer.from(run, 'utf16le').swap16().toString('base64').replace(/=+$/, '')}-`);
    const info = '"clientInfo":{"name":"good","version":"1"}';
    const initialize = (options) => legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'good', version: '1' } }, options);
    const attack = initialize({ headers: { 'Content-Type': 'application/json; charset=utf-7' } });
    attack.body = attack.body.replace(info, `${info},"_meta":{"traceparent":"${utf7('x"},"clientInfo":{"name":"evil","version":"1"},"_meta":{"traceparent":"x')}"}`);
    const help = async (opening, token) => {
        const opened = await ask(sidecar.origin, opening);
        await messageOf(opened);
        return (await messageOf(await ask(sidecar.origin, legacyCall('help', { about: 'x' }, { token, session: opened.header('mcp-session-id') })))).result.content[0].text;
    };
    assert.equal(await help(attack, 'alpha'), 'for evil', 'the attack is real');
    assert.equal(await help(initialize(others), 'beta'), 'for good');
});

for (const [what, more, options, headers] of [
    ['with ttlMs 0', { ttlMs: 0 }],
    ['without ttlMs', { ttlMs: undefined }],
    ['for a caller without credentials', {}, { token: null }],
    ['with Cache-Control: no-store', {}, {}, { 'Cache-Control': 'no-store' }],
    ['with a cookie', {}, {}, { 'Set-Cookie': 'a=b' }],
]) test(`case 16: a private second page takes the first away also ${what}`, async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.on('tools/list', (call) => {
        const later = call.json.params.cursor !== undefined;
        return call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: later ? 'private' : 'public', ...(later ? more : { nextCursor: 'p2' }) }, { headers: later ? headers : {} });
    });
    await stand.admit(modern('tools/list', {}, others));
    await stand.fill(modern('tools/list'));
    await stand.expect('miss', modern('tools/list', { cursor: 'p2' }, options));
    await stand.settle();
    await stand.expect('miss', modern('tools/list', {}, others));
});

test('case 16: any private page takes every public page of its list away', async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.on('tools/list', (call) => call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: call.json.params.cursor === 'p3' ? 'private' : 'public', nextCursor: 'x' }));
    await stand.admit(modern('tools/list', {}, others));
    for (const cursor of [undefined, 'p2', 'p3']) await stand.fill(modern('tools/list', { cursor }));
    await stand.expect('miss', modern('tools/list', {}, others), 'page 1');
    await stand.expect('miss', modern('tools/list', { cursor: 'p2' }, others), 'page 2');
});

const finalOf = (call, more) => `{"jsonrpc":"2.0","id":${call.id},"result":${JSON.stringify(complete('mine', more))}}`;
for (const [what, turn] of [
    ['after a doubtful event', async (call) => {
        await call.stream();
        await call.event('[1]');
        await call.event(finalOf(call, { cacheScope: 'private' }));
        await call.endStream();
    }],
    ['over the limit (json)', (call) => call.result(complete('x'.repeat(3 << 20), { cacheScope: 'private' }))],
    ['over the limit (sse)', (call) => call.result(complete('x'.repeat(3 << 20), { cacheScope: 'private' }), { via: 'sse' })],
]) test(`a private answer ${what} takes the public one that came before it away from others`, async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.on('shared', () => {});
    const first = stand.ask(callTool('shared', {}));
    const offered = await stand.upstream.call('shared', 1);
    const second = stand.ask(callTool('shared', {}, others));
    const turned = await stand.upstream.call('shared', 2);
    stand.upstream.on('shared', (call) => call.result(complete('x')));
    await offered.result(complete('x'));
    await (await first).body();
    await stand.admit(callTool('shared', {}, { token: 'gamma' }));
    await stand.settle();
    await stand.expect('hit', callTool('shared', {}, { token: 'gamma' }), 'public at first');
    await turn(turned);
    await (await second).body();
    await stand.settle();
    await stand.expect('miss', callTool('shared', {}, { token: 'gamma' }));
});
