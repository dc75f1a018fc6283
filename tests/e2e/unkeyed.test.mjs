/* SPDX-License-Identifier: Apache-2.0 */
// What reaches the upstream is keyed, or it is known to change nothing: an unknown header, whatever it carries, never lets one caller answer another.
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { after, before, test } from 'node:test';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const others = { token: 'beta' };
const textIn = async (answer) => (await messageOf(answer)).result.contents?.[0].text ?? (await messageOf(answer)).result.content[0].text;

for (const header of ['X-Forwarded-Host', 'Forwarded', 'X-Original-URL', 'X-HTTP-Method-Override', 'X-Tenant', 'Mcp-Tenant', 'Accept-Profile', 'Content-Profile', 'X-Envoy-Original-Path', 'Sec-Tenant']) {
    test(`${header} makes another question, also of what everybody may read`, async () => {
        const uri = `ttl://${header}`;
        stand.upstream.on(uri, (call) => call.result(contents(uri, `for ${call.header(header.toLowerCase())}`, { ttlMs: 60_000, cacheScope: 'public' })));
        await stand.fill(readResource(uri, { headers: { [header]: 'evil.example' } }));
        assert.equal(await textIn(await stand.expect('miss', readResource(uri, others))), 'for undefined');
        await stand.admit(readResource(uri, { token: 'gamma' }));
        await stand.settle();
        await stand.expect('hit', readResource(uri, { token: 'gamma' }));
        await stand.expect('miss:unproven', readResource(uri, { token: 'gamma', headers: { [header]: 'evil.example' } }), 'who was let in without it was not let in with it');
        await stand.admit(readResource(uri, { ...others, headers: { [header]: 'evil.example' } }));
        await stand.settle();
        assert.equal(await textIn(await stand.expect('hit', readResource(uri, { ...others, headers: { [header]: 'evil.example' } }))), 'for evil.example');
    });
}

for (const header of ['X-Goog-Api-Key', 'X-Access-Token', 'Private-Token', 'X-User-Id', 'Tailscale-User-Login']) {
    test(`two callers behind one token are told apart by ${header}, though nothing names it`, async () => {
        const name = `mine-${header.toLowerCase()}`;
        stand.upstream.on(name, (call) => call.result(complete(`for ${call.header(header.toLowerCase())}`)));
        const call = (who) => callTool(name, {}, { headers: { [header]: who } });
        await stand.fill(call('alice'));
        assert.equal(await textIn(await stand.expect('miss', call('bob'))), 'for bob');
        assert.equal(await textIn(await stand.expect('hit', call('alice'))), 'for alice');
    });
}

test('a legacy request whose mirror headers nobody checks is another question', async () => {
    stand.upstream.on('mine-mirror', (call) => call.result({ content: [{ type: 'text', text: `for ${call.header('mcp-name')}` }] }));
    await stand.fill(legacyCall('mine-mirror', {}, { headers: { 'Mcp-Name': 'routed-elsewhere' } }));
    assert.equal(await textIn(await stand.expect('miss', legacyCall('mine-mirror', {}))), 'for undefined');
});

test('headers that follow a request through a system, or describe a client, make no other question', async () => {
    stand.upstream.on('shared-inert', (call) => call.result(complete('x')));
    const call = (n) => callTool('shared-inert', {}, { headers: { 'User-Agent': `client/${n}`, 'X-Request-Id': `r${n}`, traceparent: `00-${n}-2-03`, 'X-Forwarded-For': `10.0.0.${n}`, 'Sec-Fetch-Mode': `m${n}` } });
    await stand.fill(call(1));
    await stand.expect('hit', call(2));
});

test("a stranger's bad cursor leaves everybody's list where it is", async () => {
    stand.upstream.on('tools/list', (call) => call.json.params.cursor === 'bogus' ? call.error(-32602, 'bad cursor') : call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'public' }));
    await stand.fill(modern('tools/list', {}));
    await (await stand.ask(modern('tools/list', { cursor: 'bogus' }, others))).body();
    await stand.admit(modern('tools/list', {}, { token: 'gamma' }));
    await stand.settle();
    await stand.expect('hit', modern('tools/list', {}, { token: 'gamma' }));
});

test('a session behind an upstream that compresses is learned: its reply is asked for as it is', async () => {
    stand.upstream.on('initialize', (call) => {
        const body = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 's', version: '1' } } });
        const packed = (call.header('accept-encoding') ?? '').includes('gzip');
        return call.reply(200, { 'Content-Type': 'application/json', 'Mcp-Session-Id': 'packed-1', ...(packed ? { 'Content-Encoding': 'gzip' } : {}) }, packed ? gzipSync(body) : body);
    });
    stand.upstream.on('mine-packed', (call) => call.result({ content: [{ type: 'text', text: 'x' }] }));
    const initialize = legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { headers: { 'Accept-Encoding': 'gzip' } });
    await (await stand.ask(initialize)).body();
    await stand.fill(legacyCall('mine-packed', {}, { session: 'packed-1' }));
    await stand.expect('hit', legacyCall('mine-packed', {}, { session: 'packed-1' }));
});
