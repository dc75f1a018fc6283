/* SPDX-License-Identifier: Apache-2.0 */
// Whose answer is it? Ways in which a caller could get what was made for another: by headers that two parsers read differently, by headers that
// do not travel on, by answers that stop being everybody's. Each of these was possible once.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';
import { ask } from './lib/raw.mjs';
import { callTool, complete, contents, legacyCall, messageOf, modern, outcomeOf, readResource } from './lib/rpc.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { Stand, POLICY } from './lib/stand.mjs';

const ONE = 'https://one.example';
const TWO = 'https://two.example';
const CANARY = '  - { name: canary, ttl: 60s, scope: principal }\n';

let stand;
before(async () => (stand = await Stand.open({
    policy: POLICY.replace('tools:\n', 'tools:\n  - { name: "write*", class: write }\n'),
    flags: ['--allow-origin', ONE, '--allow-origin', TWO, '--max-entry', '64KiB'],
})));
after(() => stand?.close());

const script = (name, result, options) => stand.upstream.on(name, (call) => call.result(typeof result === 'function' ? result(call) : result, options));
const others = { token: 'beta' };
const textIn = async (answer) => (await messageOf(answer)).result.content[0].text;

// ---- the body as the upstream reads it ------------------------------------------------------------------------------------------

const TYPES_OF_DOUBT = {
    'another charset': { 'Content-Type': 'application/json; charset=utf-7' },
    'a second charset': { 'Content-Type': 'application/json; charset=utf-8; charset=utf-7' },
    'another parameter': { 'Content-Type': 'application/json; profile=x' },
    'two Content-Type fields': { 'Content-Type': ['application/json', 'application/json; charset=utf-7'] },
    'the same Content-Type twice': { 'Content-Type': ['application/json', 'application/json'] },
    'a list of types': { 'Content-Type': 'application/json, text/plain' },
    'text/plain': { 'Content-Type': 'text/plain' },
    'an empty Content-Type': { 'Content-Type': '' },
    'no Content-Type': { 'Content-Type': null },
    'Content-Encoding: gzip': { 'Content-Encoding': 'gzip' },
    'Content-Encoding: identity': { 'Content-Encoding': 'identity' },
};
for (const [n, [what, headers]] of Object.entries(TYPES_OF_DOUBT).entries()) {
    test(`a request with ${what} is never looked up nor stored`, async () => {
        const name = `shared-type-${n}`;
        script(name, (call) => complete(call.header('content-type') ?? 'none'));
        await stand.expect('bypass:media-type', callTool(name, {}, { headers }), 'the first of all');
        await stand.fill(callTool(name, {}));
        await stand.expect('bypass:media-type', callTool(name, {}, { headers }), 'after a fill');
        assert.equal(stand.upstream.of(name).length, 3);
        await stand.admit(callTool(name, {}, others));
        await stand.expect('hit', callTool(name, {}, others));
    });
}

test('application/json in UTF-8 is one type, however it is written', async () => {
    script('shared-type-plain', complete('x'));
    await stand.fill(callTool('shared-type-plain', {}));
    for (const type of ['application/json; charset=utf-8', 'application/json;charset="UTF-8"', 'Application/JSON', ' application/json ; charset=UTF-8 ', 'application/json;']) {
        await stand.expect('hit', callTool('shared-type-plain', {}, { headers: { 'Content-Type': type } }), type);
    }
});

test('a write stays a write whatever its Content-Type', async () => {
    for (const name of ['write-type', 'unlisted-type']) {
        script(name, complete('x'));
        for (const headers of Object.values(TYPES_OF_DOUBT)) await stand.expect(name === 'write-type' ? 'bypass:write' : 'bypass:unlisted', callTool(name, {}, { headers }));
        await stand.sidecar.untilLogged(() => stand.sidecar.requests('tools/call').filter((request) => request.name === name && request.outcome === 'write').length === Object.keys(TYPES_OF_DOUBT).length);
    }
});

test('the official SDK behind express.json(): a UTF-7 body that hides another call gives nobody else its answer', async (t) => {
    const app = createMcpExpressApp();
    app.post('/mcp', async (request, response) => {
        const server = new McpServer({ name: 'shop', version: '1' });
        server.registerTool('price', { inputSchema: { item: z.string() } }, async ({ item }) => ({ content: [{ type: 'text', text: `the price of ${item}` }] }));
        server.registerTool('echo', { inputSchema: { text: z.string() } }, async ({ text }) => ({ content: [{ type: 'text', text }] }));
        const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
        await server.connect(transport);
        await transport.handleRequest(request, response, request.body);
    });
    const http = app.listen(0, '127.0.0.1');
    await once(http, 'listening');
    t.after(() => (http.closeAllConnections(), http.close()));
    const sidecar = await Sidecar.start('version: 1\ntools:\n  - { name: price, ttl: 60s, scope: public }\n', { t, upstream: `http://127.0.0.1:${http.address().port}/mcp`, flags: ['--threads', '1'] });

    const victim = legacyCall('price', { item: 'gold' }, others);
    const utf7 = (text) => text.replace(/[^A-Za-z0-9 ]+/g, (run) => `+${Buffer.from(run, 'utf16le').swap16().toString('base64').replace(/=+$/, '')}-`);
    // Read as UTF-8: the price of gold, with a trace nobody looks at. Read as UTF-7: that trace ends early, and a second name and arguments follow.
    const hidden = utf7('x"},"name":"echo","arguments":{"text":"a lie"},"_meta":{"traceparent":"x');
    const attack = legacyCall('price', { item: 'gold' }, { headers: { 'Content-Type': 'application/json; charset=utf-7' } });
    attack.body = attack.body.replace('"arguments":{"item":"gold"}', `"arguments":{"item":"gold"},"_meta":{"traceparent":"${hidden}"}`);
    assert.equal(JSON.parse(attack.body).params.name, 'price');

    const lie = await ask(sidecar.origin, attack);
    assert.equal(await textIn(lie), 'a lie', 'the attack is real: this server reads another call');
    const answer = await ask(sidecar.origin, victim);
    assert.equal(await textIn(answer), 'the price of gold', answer.header('cache-status'));
    assert.equal(outcomeOf(lie), 'bypass:media-type');
});

// ---- headers that say who asks --------------------------------------------------------------------------------------------------

for (const [name, value] of [['Accept-Language', 'de'], ['Origin', ONE], ['Authorization', 'Bearer alpha'], ['Mcp-Param-X', '1'], ['X-Api-Key', 'k'], ['Mcp-Name', 'shared-conn-mcp-name']]) {
    test(`Connection: ${name.toLowerCase()} takes a header away from the upstream, so the request is neither looked up nor stored`, async () => {
        const tool = `shared-conn-${name.toLowerCase()}`;
        script(tool, (call) => complete(call.header(name) ?? 'none'));
        const call = (connection) => callTool(tool, {}, { headers: { [name]: value, Connection: connection } });
        for (const connection of [name.toLowerCase(), `keep-alive, ${name}`, ['keep-alive', name]]) await stand.expect('bypass:connection', call(connection));
        await stand.fill(call(null));
        await stand.expect('bypass:connection', call(name));
        assert.equal(stand.upstream.of(tool).length, 5);
        for (const connection of ['keep-alive', 'close', 'te', 'Keep-Alive, TE']) await stand.expect('hit', call(connection), connection);
    });
}

test('two Origin fields are never a hit, whichever of them is allowed', async () => {
    script('shared-origins', complete('x'));
    await stand.fill(callTool('shared-origins', {}));
    for (const origins of [['https://evil.example', ONE], [ONE, 'https://evil.example'], [ONE, TWO], [ONE, ONE]]) {
        await stand.expect('error:origin', callTool('shared-origins', {}, { headers: { Origin: origins } }), String(origins));
        assert.equal(stand.upstream.of('shared-origins').length, 1, 'a list of origins is enforced here');
    }
});

test('a hit allows the Origin of its own request, and never repeats what was said to another', async () => {
    script('shared-cors', complete('x'), { headers: { 'Access-Control-Allow-Origin': ONE, 'Access-Control-Allow-Credentials': 'true', Vary: 'Origin' } });
    const call = (Origin) => callTool('shared-cors', {}, { headers: { Origin, 'User-Agent': 'Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)' } });
    await stand.fill(call(ONE));
    for (const origin of [ONE, TWO]) {
        const hit = await stand.expect('hit', call(origin));
        assert.deepEqual(hit.headerAll('access-control-allow-origin'), [origin]);
        assert.deepEqual(hit.headerAll('vary'), ['Origin']);
        assert.match(hit.header('access-control-expose-headers') ?? '', /\bmcp-session-id\b/i);
    }
    const plain = await stand.expect('hit', call(null));
    assert.deepEqual(plain.headers.filter(([name]) => /^access-control-/i.test(name)), []);
});

const NAMES_OF_CALLERS = [
    'Cookie', 'Proxy-Authorization', 'X-Api-Key', 'Api-Key', 'X-Auth-Token', 'Remote-User', 'X-Remote-User', 'X-Forwarded-User', 'X-Forwarded-Email', 'X-Forwarded-Groups', 'X-Forwarded-Access-Token',
    'X-Forwarded-Client-Cert', 'X-Auth-Request-User', 'X-Auth-Request-Email', 'X-Auth-Request-Access-Token', 'X-Goog-Iap-Jwt-Assertion', 'X-Goog-Authenticated-User-Email', 'X-Amzn-Oidc-Data',
    'X-Amzn-Oidc-Identity', 'X-Amzn-Oidc-Accesstoken', 'Cf-Access-Jwt-Assertion', 'Cf-Access-Authenticated-User-Email', 'X-Ms-Client-Principal', 'X-Ms-Client-Principal-Id', 'X-Ms-Token-Aad-Access-Token',
];
test('callers behind one gateway share its Authorization and no private answer: what names them counts', async () => {
    for (const header of NAMES_OF_CALLERS) {
        const tool = `read-named-${header.toLowerCase()}`;
        script(tool, (call) => complete(call.headerAll(header).join('+')));
        const call = (value) => callTool(tool, {}, { token: 'gateway', headers: { [header]: value } });
        const seen = [];
        for (const value of ['ann', 'ben', null, ['ann', 'ben'], ['ben', 'ann']]) {
            const answer = await stand.expect('miss', call(value), `${header}: ${value}`);
            seen.push(await textIn(answer));
        }
        await stand.settle();
        assert.equal(new Set(seen).size, 5, `${header} reaches the upstream: ${seen}`);
        assert.equal(await textIn(await stand.expect('hit', call('ann'), header)), 'ann');
        assert.equal(await textIn(await stand.expect('hit', call('ben'), header)), 'ben');
    }
});

// ---- what is everybody's, and what stops being so -------------------------------------------------------------------------------

const PUBLIC_LIST = { resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'public' };

test('case 16: a second page that arrives private takes the public first page away from everybody', async () => {
    script('tools/list', (call) => ({ ...PUBLIC_LIST, ...(call.json.params.cursor === undefined ? { nextCursor: 'p2' } : { cacheScope: 'private' }) }));
    await stand.admit(modern('tools/list', {}, others));
    await stand.fill(modern('tools/list'));
    await stand.expect('hit', modern('tools/list', {}, others), 'page 1 is everybody\'s');
    await stand.fill(modern('tools/list', { cursor: 'p2' }));
    await stand.expect('miss', modern('tools/list', {}, others), 'page 1 after a private page 2');
});

test('case 16: a second page that is public, too, leaves the first where it is', async () => {
    script('resources/list', (call) => ({ resultType: 'complete', resources: [], ttlMs: 60_000, cacheScope: 'public', ...(call.json.params.cursor === undefined ? { nextCursor: 'p2' } : {}) }));
    await stand.fill(modern('resources/list'));
    await stand.fill(modern('resources/list', { cursor: 'p2' }));
    await stand.admit(modern('resources/list', {}, others));
    await stand.expect('hit', modern('resources/list', {}, others));
    await stand.expect('hit', modern('resources/list', { cursor: 'p2' }, others));
});

const good = { tool: complete('everybody\'s'), read: contents('doc://x', 'everybody\'s', { ttlMs: 60_000, cacheScope: 'public' }) };
const TURNS = {
    'isError': [callTool, 'shared-turn-error', (call) => call.result(complete('no', { isError: true }))],
    'a JSON-RPC error': [callTool, 'shared-turn-rpc-error', (call) => call.error(-32000, 'no')],
    'Cache-Control: private': [callTool, 'shared-turn-private', (call) => call.result(complete('mine'), { headers: { 'Cache-Control': 'private' } })],
    'Cache-Control: no-store': [callTool, 'shared-turn-no-store', (call) => call.result(complete('mine'), { headers: { 'Cache-Control': 'no-store' } })],
    'cacheScope: private': [readResource, 'doc://turn-private', (call) => call.result(contents('doc://x', 'mine', { ttlMs: 60_000, cacheScope: 'private' }))],
    'ttlMs: 0': [readResource, 'doc://turn-zero', (call) => call.result(contents('doc://x', 'short', { ttlMs: 0, cacheScope: 'public' }))],
    'no ttlMs': [readResource, 'doc://turn-none', (call) => call.result(contents('doc://x', 'short', { cacheScope: 'public' }))],
};
for (const [what, [build, name, turn]] of Object.entries(TURNS)) {
    for (const via of what === 'a JSON-RPC error' ? ['json'] : ['json', 'sse']) test(`an answer with ${what} takes the public one that came before it away from others (${via})`, async () => {
        // A name for each: two who were let in there before would wait for one answer.
        const key = `${name}-${via}`;
        const request = (token) => (build === callTool ? callTool(key, {}, { token }) : readResource(key, { token }));
        const offer = (call) => call.result(good[build === callTool ? 'tool' : 'read'], { via });
        // Of who was never let in, a refusal would be his alone.
        stand.upstream.on(key, offer);
        await stand.admit(request('beta'));
        const earlier = stand.upstream.of(key).length;
        // Two callers ask while nothing is there; the answers come one after the other.
        stand.upstream.on(key, () => {});
        const first = stand.ask(request('alpha'));
        const offered = await stand.upstream.call(key, earlier + 1);
        const second = stand.ask(request('beta'));
        const turned = await stand.upstream.call(key, earlier + 2);
        stand.upstream.on(key, offer);
        await offer(offered);
        await (await first).body();
        await stand.admit(request('gamma'));
        await stand.settle();
        await stand.expect('hit', request('gamma'), 'public at first');
        await turn({ result: (result, options) => turned.result(result, { via, ...options }), error: (...all) => turned.error(...all) });
        await (await second).body();
        await stand.settle();
        await stand.expect('miss', request('gamma'), `after ${what}`);
    });
}

test('a modern tool result that says cacheScope: private is not shared under a public rule', async () => {
    for (const via of ['json', 'sse']) {
        script(`shared-narrowed-${via}`, (call) => complete(call.header('authorization'), { cacheScope: 'private' }), { via });
        await stand.fill(callTool(`shared-narrowed-${via}`, {}));
        const mine = await stand.expect('hit', callTool(`shared-narrowed-${via}`, {}), 'the caller\'s own');
        assert.equal(await textIn(mine), 'Bearer alpha');
        await stand.admit(callTool(`shared-narrowed-${via}`, {}, others));
        const theirs = await stand.expect('miss', callTool(`shared-narrowed-${via}`, {}, others));
        assert.equal(await textIn(theirs), 'Bearer beta');
    }
});

test('what a tool says in _meta about its caller is in no answer to others, what the protocol says there stays', async () => {
    const server = { name: 's', version: '1' };
    const own = (call) => ({ traceparent: 't', 'com.example/user': call.header('authorization'), 'io.modelcontextprotocol/serverInfo': server, 'io.modelcontextprotocolx/user': call.header('authorization'), plain: call.header('authorization') });
    for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
        for (const via of ['json', 'sse']) {
            const name = `shared-vendor-${era}-${via}`;
            script(name, (request) => complete('x', { _meta: own(request) }), { via });
            const first = await messageOf(await stand.fill(call(name, {})));
            assert.equal(first.result._meta['com.example/user'], 'Bearer alpha', 'the first caller gets all of it');
            await stand.admit(call(name, {}, others));
            for (const token of ['beta', 'alpha']) {
                const hit = await stand.expect('hit', call(name, {}, { token }));
                assert.ok(!hit.text.includes('Bearer'), hit.text);
                assert.deepEqual((await hit.json()).result._meta, { 'io.modelcontextprotocol/serverInfo': server });
            }
        }
    }
    script('read-vendor', (request) => complete('x', { _meta: own(request) }));
    await stand.fill(callTool('read-vendor', {}));
    const hit = await stand.expect('hit', callTool('read-vendor', {}));
    assert.equal((await hit.json()).result._meta['com.example/user'], 'Bearer alpha', 'a private answer keeps it');
});

// ---- event streams whose end is not all there is --------------------------------------------------------------------------------

const ASKS = '{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}';
const DOUBTS = {
    'a server\'s request in an array': `[${ASKS}]`,
    'a server\'s request in an array, among others': `[{"jsonrpc":"2.0","method":"notifications/message","params":{}},${ASKS}]`,
    'an event that cannot be read': ASKS.slice(0, -2),
    'an event with a name twice': `{"method":"x","jsonrpc":"2.0","id":"s1","method":"sampling/createMessage"}`,
    'an event over the limit': ASKS.replace('{}', `{"text":"${'x'.repeat(80 * 1024)}"}`),
};
for (const [n, [what, event]] of Object.entries(DOUBTS).entries()) {
    test(`a stream with ${what} before its result is relayed whole and not stored`, async () => {
        for (const [name, request] of [[`read-doubt-${n}`, callTool], [`mine-doubt-${n}`, legacyCall], [`shared-doubt-${n}`, callTool]]) {
            let sent = '';
            stand.upstream.on(name, async (call) => {
                await call.stream();
                sent = (await call.event(event)) + (await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":{"resultType":"complete","content":[]}}`));
                await call.endStream();
            });
            for (const answer of await stand.expectNotStored(request(name, {}))) assert.equal(answer.text, sent);
        }
    });
}

// ---- other policies on the same store -------------------------------------------------------------------------------------------

test('a store that was filled under another list of key headers is found empty', async (t) => {
    const policy = (headers) => `version: 1\nkey: { headers: [${headers}] }\ntools:\n${CANARY}  - { name: "shared*", ttl: 60s, scope: public }\n`;
    const own = await Stand.open({ t, policy: policy('x-tenant') });
    own.upstream.on('shared', (call) => call.result(complete(`${call.header('x-tenant')} ${call.header('x-region')}`)));
    const tenant = (name) => callTool('shared', {}, { headers: { 'X-Tenant': name } });
    const region = (name) => callTool('shared', {}, { ...others, headers: { 'X-Region': name } });
    await own.fill(tenant('acme'));
    await own.fill(tenant(null));
    await own.sidecar.restart();
    await own.admit(tenant('acme'));
    await own.expect('hit', tenant('acme'), 'the same list');
    for (const list of ['x-region', 'accept-language', '']) {
        await own.sidecar.setPolicy(policy(list));
        await own.sidecar.restart();
        await own.admit(region('acme'));
        const answer = await own.expect('miss', region('acme'), `now keyed by ${list}`);
        assert.equal(await textIn(answer), 'undefined acme');
    }
    await own.sidecar.setPolicy(policy('x-tenant'));
    await own.sidecar.restart();
    await own.admit(tenant('acme'));
    assert.equal(await textIn(await own.expect('hit', tenant('acme'), 'the first list again')), 'acme undefined');
});

test('what only the operator called public is nobody else\'s once he has taken it back', async (t) => {
    const policy = (scope) => `version: 1\ntools:\n${CANARY}resources:\n  - { uri: "doc://**", ttl: 60s, despite_hints: true${scope} }\n`;
    const own = await Stand.open({ t, policy: policy(', scope: public') });
    for (const [uri, ttlMs] of [['doc://zero', 0], ['doc://none', undefined], ['doc://meant', 60_000]]) {
        own.upstream.on(uri, (call) => call.result(contents(uri, call.header('authorization'), { ttlMs, cacheScope: 'public' })));
        await own.fill(readResource(uri));
        await own.admit(readResource(uri, others));
        await own.expect('hit', readResource(uri, others), uri);
    }
    await own.sidecar.setPolicy(policy(''));
    await own.sidecar.restart();
    for (const uri of ['doc://zero', 'doc://none', 'doc://meant']) await own.admit(readResource(uri, others));
    for (const uri of ['doc://zero', 'doc://none']) await own.expect('miss', readResource(uri, others), `${uri}, the server gave it no life of its own`);
    await own.expect('hit', readResource('doc://meant', others), 'the server\'s own word stands');
});
