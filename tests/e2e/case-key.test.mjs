/* SPDX-License-Identifier: Apache-2.0 */
// Which requests share an answer: parameters, _meta, headers, callers, sessions, eras and versions.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, raw, readResource, withBody } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const script = (name, result) => stand.upstream.on(name, (request) => request.result(typeof result === 'function' ? result(request) : result));
const META = 'io.modelcontextprotocol/';

/** Fills with the first request; each of `same` must hit, each of `different` must reach the upstream. */
async function partition(name, first, { same = [], different = [] }) {
    await stand.fill(first);
    let asked = stand.upstream.of(name).length;
    for (const [what, request] of same) {
        await stand.expect('hit', request, what);
        assert.equal(stand.upstream.of(name).length, asked, what);
    }
    for (const [what, request] of different) {
        await stand.expect('miss', request, what);
        assert.equal(stand.upstream.of(name).length, (asked += 1), what);
    }
    await stand.settle();
    await stand.expect('hit', first, 'the first again');
    for (const [what, request] of different) await stand.expect('hit', request, `${what}, again`);
}

test('case 14: a hit states what is left of ttlMs; an entry ends with its ttlMs', async () => {
    // The one real wait of this file: 1.2 s, for all entries at once.
    const uris = [];
    const began = performance.now();
    for (const via of ['json', 'sse']) {
        for (const [n, where] of ['{"resultType":"complete","contents":[],"ttlMs":60000,"cacheScope":"private"}', '{ "ttlMs" : 60000 , "contents":[{"uri":"x","text":"\\"ttlMs\\":1"}],"resultType":"complete","cacheScope":"private"}'].entries()) {
            const uri = `doc://14-${via}-${n}`;
            stand.upstream.on(uri, (request) => request.result(raw(where), { via }));
            uris.push(uri);
            await stand.expect('miss', readResource(uri));
        }
    }
    for (const uri of ['doc://14-short', 'ttl://14-short']) script(uri, contents(uri, 'x', { ttlMs: 1000, cacheScope: 'private' }));
    script('tools/list', { resultType: 'complete', tools: [], ttlMs: 60000, cacheScope: 'private' });
    for (const request of [readResource('doc://14-short'), readResource('ttl://14-short'), modern('tools/list')]) await stand.expect('miss', request);
    await stand.settle();

    const remaining = (answer) => {
        const texts = [...answer.text.matchAll(/"ttlMs"\s*:\s*([^,}\s]*)/g)].map((match) => match[1]);
        assert.equal(texts.length, 1, answer.text);
        assert.match(texts[0], /^\d+$/, 'an integer');
        return Number(texts[0]);
    };
    const requests = [...uris.map((uri) => readResource(uri)), modern('tools/list')];
    // An entry is as old as the time since its fill began, at most; the sidecar's clock may tick once per round of its loop.
    const oldest = () => performance.now() - began;
    const TICK_MS = 50;
    for (const request of requests) {
        const left = remaining(await stand.expect('hit', request));
        assert.ok(left <= 60_000 && left >= 60_000 - oldest() - TICK_MS, `${left} at once, ${oldest()} ms after the first fill`);
    }
    const between = oldest();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    for (const request of requests) {
        const hit = await stand.expect('hit', request);
        const left = remaining(hit);
        assert.ok(left <= 58_800 + TICK_MS, `${left} after 1.2 s`);
        assert.ok(left >= 60_000 - oldest() - TICK_MS, `${left} after ${oldest()} ms (${between} before the wait)`);
        assert.ok(Number(hit.header('age')) >= 1 && Number(hit.header('age')) <= oldest() / 1000, `Age ${hit.header('age')}`);
        const ttl = Number(/^mcpcached; hit; ttl=(\d+)$/.exec(hit.header('cache-status'))[1]);
        // the sidecar's own end comes up to a tenth of the lifetime before the server's, never behind it
        assert.ok(ttl <= left / 1000 + 1 && ttl >= left / 1000 - 6 - 1, `ttl=${ttl} and ttlMs ${left}`);
    }
    await stand.expect('miss', readResource('doc://14-short'), 'its second is over');
    await stand.expect('miss', readResource('ttl://14-short'), 'the policy only caps what the server says');
});

test('case 14: where a policy caps the lifetime, ttlMs still tells the server\'s own value less the age', async (t) => {
    const own = await Stand.open({ t, policy: 'version: 1\ndefaults: { lists: 1s }\ntools:\n  - { name: canary, ttl: 60s }\n' });
    own.upstream.on('tools/list', (request) => request.result({ resultType: 'complete', tools: [], ttlMs: 60000, cacheScope: 'private' }));
    const started = performance.now();
    await own.expect('miss', modern('tools/list'));
    let hit;
    do {
        const answer = await own.ask(modern('tools/list'));
        await answer.body();
        if (outcomeOf(answer) === 'hit') hit = answer;
    } while (performance.now() - started < 1100);
    assert.ok(hit, 'there was a hit while it was fresh');
    const left = JSON.parse(hit.text).result.ttlMs;
    assert.ok(Number.isInteger(left) && left >= 0 && left <= 60_000, String(left));
    assert.ok(own.upstream.of('tools/list').length >= 2, 'after one second the server was asked again');
});

for (const method of ['tools/list', 'resources/list', 'resources/templates/list', 'prompts/list']) {
    test(`case 16 (keys): ${method} without a cursor, with an empty one and with others are different questions`, async () => {
        script(method, (request) => ({ resultType: 'complete', tools: [], page: request.json.params?.cursor ?? 'none', ttlMs: 60000, cacheScope: 'private' }));
        const token = `pages-${method}`;
        const asked = (cursor) => modern(method, cursor === undefined ? {} : { cursor }, { token });
        await partition(method, asked(), { same: [['no cursor', asked()]], different: [['empty', asked('')], ['p2', asked('p2')], ['P2', asked('P2')], ['null', asked(null)]] });
        const empty = await stand.expect('hit', asked(''));
        assert.equal((await messageOf(empty)).result.page, '');
    });
}

test('case 18: arguments with the same meaning share an entry, others do not', async () => {
    script('read18', (request) => complete(request.text));
    const call = (text, id = '1') => callTool('read18', raw(text), { id });
    await partition('read18', call('{"a":1,"b":2}'), {
        same: [
            ['another order', call('{"b":2,"a":1}')],
            ['white space', call('{ "a" : 1 ,\n\t"b" : 2 }')],
            ['an escaped name', call('{"\\u0061":1,"b":2}')],
            ['another id', call('{"a":1,"b":2}', '"x"')],
        ],
        different: [
            ['1.0', call('{"a":1.0,"b":2}')],
            ['1e0', call('{"a":1e0,"b":2}')],
            ['a string', call('{"a":"1","b":2}')],
            ['true', call('{"a":true,"b":2}')],
            ['null beside', call('{"a":1,"b":2,"c":null}')],
            ['b absent', call('{"a":1}')],
            ['b null', call('{"a":1,"b":null}')],
            ['names in capitals', call('{"A":1,"b":2}')],
            ['swapped values', call('{"a":2,"b":1}')],
            ['a nesting', call('{"a":{"a":1,"b":2}}')],
        ],
    });
});

test('case 18: strings are compared by what they say, without Unicode normalisation', async () => {
    script('read18-text', (request) => complete(request.text));
    const call = (text) => callTool('read18-text', raw(text));
    await partition('read18-text', call('{"q":"\u00e9"}'), {
        same: [['escaped', call('{"q":"\\u00e9"}')], ['escaped in capitals', call('{"q":"\\u00E9"}')]],
        different: [['decomposed', call('{"q":"e\u0301"}')], ['without the accent', call('{"q":"e"}')], ['twice escaped', call('{"q":"\\\\u00e9"}')]],
    });
    await partition('read18-text', call('{"q":"a/b\\ud83d\\ude00\\n"}'), {
        same: [['an escaped slash', call('{"q":"a\\/b\\ud83d\\ude00\\n"}')], ['a raw smiley', call('{"q":"a/b\u{1f600}\\u000a"}')]],
        different: [['another smiley', call('{"q":"a/b\u{1f601}\\n"}')]],
    });
    await partition('read18-text', call('{"q":[1,2,{"y":1,"x":2}]}'), {
        same: [['an inner order', call('{"q":[1,2,{"x":2,"y":1}]}')]],
        different: [['an array in another order', call('{"q":[2,1,{"y":1,"x":2}]}')]],
    });
});

test('case 18: absent arguments, {} and null are three questions', async () => {
    script('read18-none', (request) => complete(request.text));
    const call = (params) => {
        const request = callTool('read18-none', undefined);
        return withBody(request, request.body.replace('"name":"read18-none",', `"name":"read18-none",${params}`));
    };
    await stand.fill(call(''));
    await stand.expect('miss', call('"arguments":{},'));
    const odd = await stand.ask(call('"arguments":null,'));
    await odd.body();
    assert.notEqual(outcomeOf(odd), 'hit', 'null');
    await stand.settle();
    await stand.expect('hit', call(''));
    await stand.expect('hit', call('"arguments":{},'));
});

test('names and URIs are compared byte for byte', async () => {
    stand.upstream.fallback = (request) => request.result(complete(request.name));
    await stand.fill(callTool('readCase', {}));
    await stand.expect('miss', callTool('readcase', {}));
    stand.upstream.fallback = (request) => request.result(contents(request.name, request.name, { ttlMs: 60000, cacheScope: 'private' }));
    await stand.fill(readResource('doc://host/%41'));
    for (const uri of ['doc://host/A', 'doc://HOST/%41', 'doc://host/%41/', 'doc://host/%41?', 'doc://host/./%41', 'doc://host/%61']) await stand.expect('miss', readResource(uri), uri);
    await stand.expect('hit', readResource('doc://host/%41'));
});

test('case 23: an unknown Mcp-Param header reaches the upstream, an empty value included, and joins the key', async () => {
    script('read23', (request) => complete(JSON.stringify(request.headerAll('mcp-param-foo'))));
    const call = (headers) => callTool('read23', {}, { headers });
    await partition('read23', call({ 'Mcp-Param-Foo': '' }), {
        same: [['the same', call({ 'Mcp-Param-Foo': '' })], ['another spelling', call({ 'mcp-param-foo': '' })]],
        different: [['a value', call({ 'Mcp-Param-Foo': 'x' })], ['its capitals', call({ 'Mcp-Param-Foo': 'X' })], ['none', call({})], ['another one', call({ 'Mcp-Param-Foo': '', 'Mcp-Param-Bar': '' })]],
    });
    const [first, second, , none, two] = stand.upstream.of('read23');
    assert.deepEqual(first.headerAll('mcp-param-foo'), ['']);
    assert.deepEqual(second.headerAll('mcp-param-foo'), ['x']);
    assert.deepEqual(none.headerAll('mcp-param-foo'), []);
    assert.deepEqual(two.headerAll('mcp-param-bar'), ['']);
});

test('case 24: Mcp-Session-Id on a modern request counts neither for the era nor for the key, and is not echoed', async () => {
    script('read24', complete('x'));
    const call = (session) => callTool('read24', {}, { headers: { 'Mcp-Session-Id': session } });
    await stand.fill(call('session-1'));
    assert.equal(stand.upstream.of('read24')[0].header('mcp-session-id'), 'session-1', 'forwarded as it is');
    for (const session of ['session-1', 'session-2', null]) {
        const hit = await stand.expect('hit', call(session), String(session));
        assert.equal(hit.header('mcp-session-id'), undefined);
        assert.equal((await messageOf(hit)).result.resultType, 'complete');
    }
});

test('case 25: traces, progress tokens, log levels and client names do not split an entry; capabilities do', async () => {
    script('read25', complete('x'));
    const call = (meta, more = {}) => callTool('read25', {}, { meta, ...more });
    await partition('read25', call({}), {
        same: [
            ['traceparent', call({ traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' })],
            ['tracestate and baggage', call({ tracestate: 'a=1', baggage: 'b=2' })],
            ['progressToken', call({ progressToken: 'p-1' })],
            ['a numeric progressToken', call({ progressToken: 7 })],
            ['logLevel', call({ [`${META}logLevel`]: 'debug' })],
            ['clientInfo', call({ [`${META}clientInfo`]: { name: 'other', version: '9' } })],
            ['no clientInfo', call({ [`${META}clientInfo`]: undefined })],
            ['trace headers', call({}, { headers: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: 'a=1', baggage: 'b=2' } })],
            ['a user agent', call({}, { headers: { 'User-Agent': 'other/1' } })],
        ],
        different: [
            ['the ui extension', call({}, { capabilities: { extensions: { 'io.modelcontextprotocol/ui': {} } } })],
            ['tasks', call({}, { capabilities: { extensions: { 'io.modelcontextprotocol/tasks': {} } } })],
            ['elicitation', call({}, { capabilities: { elicitation: {} } })],
        ],
    });
});

test('case 26: an unknown member of _meta, reserved or not, splits an entry', async () => {
    script('read26', complete('x'));
    const call = (meta) => callTool('read26', {}, { meta });
    await partition('read26', call({ 'com.example/tenant': 'a' }), {
        same: [['the same', call({ 'com.example/tenant': 'a' })]],
        different: [['another value', call({ 'com.example/tenant': 'b' })], ['none', call({})], ['a reserved one', call({ [`${META}acceptLanguage`]: 'fr' })], ['a nested one', call({ 'com.example/tenant': { a: 'a' } })]],
    });
});

test('key.ignore leaves named arguments out of the key', async (t) => {
    const own = await Stand.open({ t, policy: 'version: 1\ntools:\n  - { name: canary, ttl: 60s }\n  - { name: read, ttl: 60s, key: { ignore: [/request_id, /deep/0/x] } }\n' });
    own.upstream.on('read', (request) => request.result(complete('x')));
    const call = (text) => callTool('read', raw(text));
    await own.fill(call('{"q":1,"request_id":"a"}'));
    await own.expect('hit', call('{"request_id":"b","q":1}'));
    await own.expect('hit', call('{"q":1}'));
    await own.expect('miss', call('{"q":2,"request_id":"a"}'));
    await own.fill(call('{"deep":[{"x":1,"y":1}]}'));
    await own.expect('hit', call('{"deep":[{"x":2,"y":1}]}'));
    await own.expect('miss', call('{"deep":[{"x":1,"y":2}]}'));
    await own.expect('miss', call('{"deep":[{"x":1,"y":1},{"x":1}]}'));
});

test('another token, another scheme, another spelling, none: each is somebody else', async () => {
    for (const name of ['read-who', 'mine-who']) {
        script(name, (request) => complete(request.header('authorization') ?? 'nobody'));
        const call = (authorization) => callTool(name, {}, { headers: { Authorization: authorization } });
        await stand.fill(call('Bearer alpha'));
        await stand.expect('hit', call('Bearer alpha'));
        for (const other of ['Bearer beta', 'Bearer Alpha', 'Basic alpha', 'bearer alpha', 'Bearer alpha2', 'Bearer', null]) {
            const answer = await stand.expect(other === null ? 'bypass:anonymous' : 'miss', call(other), `${name}, ${other}`);
            assert.equal((await messageOf(answer)).result.content[0].text, other ?? 'nobody');
        }
        const twice = await stand.ask(call(['Bearer alpha', 'Bearer beta']));
        await twice.body();
        assert.notEqual(outcomeOf(twice), 'hit', 'two credentials at once');
    }
});

test('a public rule shares across tokens; the server\'s public scope shares a resource', async () => {
    script('shared-who', complete('x'));
    await stand.fill(callTool('shared-who', {}));
    await stand.expect('hit', callTool('shared-who', {}));
    script('doc://public', contents('doc://public', 'x', { ttlMs: 60000, cacheScope: 'public' }));
    await stand.fill(readResource('doc://public'));
    await stand.expect('hit', readResource('doc://public'));
    // Another token has its own first answer as proof that the upstream would talk to it.
    for (const request of [callTool('shared-who', { warm: 1 }, { token: 'beta' }), readResource('doc://public-warm', { token: 'beta' })]) {
        stand.upstream.fallback = (call) => call.result(contents(call.name, 'x'));
        await (await stand.ask(request)).body();
    }
    await stand.expect('hit', callTool('shared-who', {}, { token: 'beta' }));
});

test('Vary splits or forbids: a language that is keyed shares nothing, one that is not keyed is not stored', async () => {
    stand.upstream.on('read-vary', (request) => request.result(complete(request.header('accept-language') ?? 'none'), { headers: { Vary: 'Accept-Language' } }));
    const call = (language) => callTool('read-vary', {}, { headers: { 'Accept-Language': language } });
    await partition('read-vary', call('de'), { same: [['de', call('de')]], different: [['fr', call('fr')], ['none', call(null)]] });
    for (const [n, vary] of ['*', 'X-Tenant', 'Accept-Language, X-Tenant', 'x-tenant,accept'].entries()) {
        stand.upstream.on(`read-vary-${n}`, (request) => request.result(complete('x'), { headers: { Vary: vary } }));
        await stand.expectNotStored(callTool(`read-vary-${n}`, {}));
    }
    for (const [n, vary] of ['Origin', 'Accept-Encoding', 'Authorization'].entries()) {
        stand.upstream.on(`read-vary-fine-${n}`, (request) => request.result(complete('x'), { headers: { Vary: vary } }));
        await stand.fill(callTool(`read-vary-fine-${n}`, {}));
        await stand.expect('hit', callTool(`read-vary-fine-${n}`, {}), vary);
    }
});

/** Asks for one name with values of one header in turn; each must get the answer that was made for its own value. */
async function eachItsOwn(name, header, call) {
    stand.upstream.on(name, (request) => request.result({ ...(call === callTool ? { resultType: 'complete' } : {}), content: [{ type: 'text', text: request.header(header) }] }, { headers: { Vary: header } }));
    for (const value of ['vary-a', 'vary-b', 'vary-a']) {
        const answer = await stand.ask(call(name, {}, { headers: { [header]: value } }));
        assert.equal((await messageOf(answer)).result.content[0].text, value, `${name}, ${header}: ${value}, ${answer.header('cache-status')}`);
        await stand.settle();
    }
}

test('Vary names a credential: nobody gets the answer for another one, not even of a public rule', async () => {
    for (const header of ['Cookie', 'Authorization', 'X-Api-Key']) {
        for (const rule of ['read', 'mine', 'shared']) await eachItsOwn(`${rule}-vary-${header.toLowerCase()}`, header, callTool);
    }
});

test('Vary: Mcp-Session-Id keeps an answer within its session, whatever scope the rule gives', async () => {
    for (const id of ['vary-a', 'vary-b']) await session(id, '2025-11-25');
    for (const rule of ['read', 'mine', 'shared']) await eachItsOwn(`${rule}-vary-session`, 'Mcp-Session-Id', legacyCall);
});

test('other credentials than Authorization tell callers apart too', async () => {
    for (const [n, header] of ['Cookie', 'X-Api-Key'].entries()) {
        script(`read-credential-${n}`, (request) => complete(request.header(header)));
        const call = (value, more = {}) => callTool(`read-credential-${n}`, {}, { headers: { [header]: value }, ...more });
        await stand.fill(call('a'));
        await stand.expect('hit', call('a'));
        const other = await stand.expect('miss', call('b'), `another ${header}`);
        assert.equal((await messageOf(other)).result.content[0].text, 'b');
        await stand.fill(call('only', { token: null }));
        await stand.expect('hit', call('only', { token: null }), `${header} alone is a credential`);
    }
});

test('key.headers joins further headers to the key, so that Vary may name them', async (t) => {
    const own = await Stand.open({ t, policy: 'version: 1\nkey: { headers: [accept-language, x-tenant] }\ntools:\n  - { name: canary, ttl: 60s }\n  - { name: "read*", ttl: 60s, scope: public }\n' });
    own.upstream.on('read', (request) => request.result(complete(request.header('x-tenant') ?? 'none'), { headers: { Vary: 'X-Tenant' } }));
    const call = (tenant) => callTool('read', {}, { headers: { 'X-Tenant': tenant } });
    await own.fill(call('a'));
    await own.expect('hit', call('a'));
    await own.fill(call('b'));
    await own.fill(call(null));
    for (const tenant of ['a', 'b', null]) assert.equal((await messageOf(await own.expect('hit', call(tenant)))).result.content[0].text, tenant ?? 'none');
});

test('the query and the Host are part of the question', async () => {
    stand.upstream.on('read-where', (request) => request.result(complete(`${request.target} ${request.header('host')}`)));
    const call = (path, host) => ({ ...callTool('read-where', {}, { headers: { Host: host } }), path });
    const host = new URL(stand.origin).host;
    await partition('read-where', call('/mcp', host), { same: [['the same', call('/mcp', host)]], different: [['a query', call('/mcp?tenant=1', host)], ['another query', call('/mcp?tenant=2', host)], ['another host', call('/mcp', 'mcp.example')]] });
    assert.deepEqual(stand.upstream.of('read-where').map((request) => `${request.target} ${request.header('host')}`), [`/mcp ${host}`, `/mcp?tenant=1 ${host}`, `/mcp?tenant=2 ${host}`, '/mcp mcp.example']);
});

// ---- header and body ------------------------------------------------------------------------------------------------------

test('headers that do not mirror the body are never answered with a hit', async () => {
    script('read-mirror', (request) => complete('x'));
    await stand.fill(callTool('read-mirror', {}));
    await stand.expect('hit', callTool('read-mirror', {}));
    await stand.expect('hit', callTool('read-mirror', {}, { headers: { 'Mcp-Name': `=?base64?${Buffer.from('read-mirror').toString('base64')}?=` } }), 'the Base64 form');
    await stand.expect('hit', callTool('read-mirror', {}, { headers: { 'Mcp-Name': '  read-mirror\t' } }), 'white space around');
    const wrong = {
        'another name': { 'Mcp-Name': 'other' }, 'a name in capitals': { 'Mcp-Name': 'READ-MIRROR' }, 'no name': { 'Mcp-Name': null }, 'an empty name': { 'Mcp-Name': '' },
        'another method': { 'Mcp-Method': 'tools/list' }, 'a method in capitals': { 'Mcp-Method': 'TOOLS/CALL' }, 'no method': { 'Mcp-Method': null },
        'another version': { 'MCP-Protocol-Version': '2025-11-25' }, 'no version': { 'MCP-Protocol-Version': null },
        'a name twice': { 'Mcp-Name': ['read-mirror', 'other'] }, 'the same name twice': { 'Mcp-Name': ['read-mirror', 'read-mirror'] }, 'a method twice': { 'Mcp-Method': ['tools/call', 'tools/call'] },
        'Base64 in capitals': { 'Mcp-Name': `=?BASE64?${Buffer.from('read-mirror').toString('base64')}?=` }, 'broken Base64': { 'Mcp-Name': '=?base64?cmVhZC1taXJyb3!?=' },
    };
    for (const [what, headers] of Object.entries(wrong)) {
        const before = stand.upstream.of('read-mirror').length;
        const request = callTool('read-mirror', {}, { headers });
        const answer = await stand.ask(request);
        await answer.body();
        assert.notEqual(outcomeOf(answer), 'hit', what);
        if (answer.status !== 200) continue; // refusing it here is as good as letting the upstream refuse
        assert.equal(outcomeOf(answer), 'bypass:header', what);
        const [name, value] = Object.entries(headers)[0];
        assert.equal(stand.upstream.of('read-mirror').length, before + 1, what);
        assert.deepEqual(stand.upstream.of('read-mirror').at(-1).headerAll(name), value === null ? [] : [value].flat(), what);
    }
});

test('a name beyond ASCII is mirrored in Base64', async () => {
    script('read-\u00e9\u{1f600}', complete('x'));
    await stand.fill(callTool('read-\u00e9\u{1f600}', {}));
    await stand.expect('hit', callTool('read-\u00e9\u{1f600}', {}));
    await stand.expect('error:header', callTool('read-\u00e9\u{1f600}', {}, { headers: { 'Mcp-Name': `=?base64?${Buffer.from('read-e\u0301\u{1f600}').toString('base64')}?=` } }));
});

test('an Origin is forwarded; a hit is only for one on the allow list', async (t) => {
    script('shared-origin', complete('x'));
    await stand.fill(callTool('shared-origin', {}));
    const call = (origin) => callTool('shared-origin', {}, { headers: { Origin: origin } });
    await stand.expect('bypass:origin', call('https://app.example'));
    assert.equal(stand.upstream.of('shared-origin').at(-1).header('origin'), 'https://app.example');
    const own = await Stand.open({ t, flags: ['--allow-origin', 'https://app.example'] });
    own.upstream.on('shared-origin', (request) => request.result(complete('x'), { headers: { 'Access-Control-Allow-Origin': request.header('origin') ?? '*' } }));
    await own.fill(call('https://app.example'));
    const hit = await own.expect('hit', call('https://app.example'));
    assert.ok([undefined, 'https://app.example'].includes(hit.header('access-control-allow-origin')));
    await own.expect('hit', call(null));
    for (const origin of ['https://evil.example', 'http://app.example', 'https://app.example.evil.example', 'null', 'https://app.example:444']) {
        const answer = await own.ask(call(origin));
        await answer.body();
        assert.notEqual(outcomeOf(answer), 'hit', origin);
    }
});

// ---- eras, versions, sessions ---------------------------------------------------------------------------------------------

/** An initialize through the sidecar; the session that the upstream gives. */
async function session(id, version, { token = 'alpha', via = 'json', capabilities = {} } = {}) {
    stand.upstream.on('initialize', (request) => request.result({ protocolVersion: version, capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } }, { via, headers: { 'Mcp-Session-Id': id } }));
    const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities, clientInfo: { name: 'c', version: '1' } }, { token }));
    assert.equal((await messageOf(answer)).result.protocolVersion, version);
    assert.equal(answer.header('mcp-session-id'), id);
    assert.notEqual(outcomeOf(answer), 'hit');
}

test('case 68: an entry of the legacy era is never served to the modern one, nor to another version', async () => {
    stand.upstream.on('mine68', (request) => request.result(request.json.params._meta ? complete('modern') : { content: [{ type: 'text', text: `legacy ${request.header('mcp-protocol-version')}` }] }));
    await partition('mine68', legacyCall('mine68', {}), {
        same: [['the same version', legacyCall('mine68', {})]],
        different: [['modern', callTool('mine68', {})], ['2025-06-18', legacyCall('mine68', {}, { version: '2025-06-18' })], ['2025-03-26', legacyCall('mine68', {}, { version: '2025-03-26' })]],
    });
    await stand.expect('hit', legacyCall('mine68', {}, { version: undefined, headers: { 'MCP-Protocol-Version': null } }), 'no header means 2025-03-26');
    const hit = await stand.expect('hit', callTool('mine68', {}));
    assert.equal((await messageOf(hit)).result.content[0].text, 'modern');
});

for (const via of ['json', 'sse']) {
    test(`case 68: sessions of different versions do not share, whatever their headers say (initialize over ${via})`, async () => {
        const name = `mine68-session-${via}`;
        await session(`s03-${via}`, '2025-03-26', { via });
        await session(`s11-${via}`, '2025-11-25', { via });
        await session(`s11b-${via}`, '2025-11-25', { via });
        script(name, (request) => ({ content: [{ type: 'text', text: request.header('mcp-session-id') }] }));
        const call = (id, version) => legacyCall(name, {}, { session: id, version });
        await stand.fill(call(`s03-${via}`, '2025-03-26'));
        await stand.expect('miss', call(`s11-${via}`, '2025-11-25'), 'a session of another version');
        await stand.settle();
        await stand.expect('hit', call(`s11b-${via}`, '2025-11-25'), 'a session of the same version and the same credentials, by scope: principal');
        await stand.expect('hit', call(`s03-${via}`, '2025-03-26'));
    });
}

test('sessions: by default an entry belongs to one session of one caller', async () => {
    await session('own-1', '2025-11-25');
    await session('own-2', '2025-11-25');
    script('read-session', (request) => ({ content: [{ type: 'text', text: request.header('mcp-session-id') ?? 'none' }] }));
    const call = (id, more) => legacyCall('read-session', {}, { session: id, ...more });
    await stand.fill(call('own-1'));
    await stand.expect('hit', call('own-1'));
    const other = await stand.expect('miss', call('own-2'));
    assert.equal((await messageOf(other)).result.content[0].text, 'own-2');
    const thief = await stand.ask(call('own-1', { token: 'beta' }));
    await thief.body();
    assert.notEqual(outcomeOf(thief), 'hit', 'the same session with another token');
    await stand.ask(call('never-seen')).then(async (answer) => assert.equal((await messageOf(answer)).result.content[0].text, 'never-seen'));
    stand.upstream.on('mine-session', (request) => request.result({ content: [{ type: 'text', text: request.header('mcp-session-id') ?? 'none' }] }));
    await stand.fill(legacyCall('mine-session', {}, { session: 'own-1' }));
    await stand.expect('hit', legacyCall('mine-session', {}, { session: 'own-2' }), 'shared by scope: principal');
    await stand.expect('bypass:session', legacyCall('mine-session', {}, { session: 'never-seen-either' }), 'a session whose initialize was not seen here shares nothing');
    const echoed = await stand.expect('hit', call('own-1'));
    assert.ok([undefined, 'own-1'].includes(echoed.header('mcp-session-id')));
});

for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
    test(`Mcp-Session-Id and other headers of the ${era} era reach the upstream on a lookup too`, async () => {
        const name = `read-headers-${era}`;
        script(name, era === 'modern' ? complete('x') : { content: [] });
        if (era === 'legacy') await session('headers-1', '2025-11-25');
        const answer = await stand.expect('miss', call(name, {}, { headers: { 'Mcp-Session-Id': 'headers-1', 'X-Tenant': 'a', traceparent: '00-1-2-03', 'X-Api-Key': 'k' } }));
        assert.equal(answer.status, 200);
        const [request] = stand.upstream.of(name);
        assert.equal(request.header('mcp-session-id'), 'headers-1');
        assert.equal(request.header('authorization'), 'Bearer alpha');
        assert.equal(request.header('x-tenant'), 'a');
        assert.equal(request.header('traceparent'), '00-1-2-03');
        assert.equal(request.header('x-api-key'), 'k');
    });
}

for (const via of ['json', 'sse']) {
    test(`case 69: in the legacy era ttlMs and cacheScope are just members, and a hit gains none (${via})`, async () => {
        const uri = `doc://69-${via}`;
        stand.upstream.on(uri, (request) => request.result({ contents: [{ uri, text: 'x' }], ttlMs: 60000, cacheScope: 'public' }, { via }));
        const read = (options) => legacy('resources/read', { uri }, options);
        const [first] = await stand.ask(read()).then(async (answer) => [answer, await answer.body()]);
        assert.notEqual(outcomeOf(first), 'hit');
        await stand.settle();
        const again = await stand.ask(read());
        await again.body();
        assert.notEqual(outcomeOf(again), 'hit', 'no lifetime from the server');
        assert.equal(stand.upstream.of(uri).length, 2);

        const ruled = `ttl://69-${via}`;
        stand.upstream.on(ruled, (request) => request.result(raw(`{"contents":[{"uri":"${ruled}","text":"x"}],"cacheScope":"public"}`), { via }));
        await stand.fill(legacy('resources/read', { uri: ruled }));
        const hit = await stand.expect('hit', legacy('resources/read', { uri: ruled }));
        assert.equal(hit.text, `{"jsonrpc":"2.0","id":1,"result":{"contents":[{"uri":"${ruled}","text":"x"}],"cacheScope":"public"}}`);
        await stand.expect('miss', legacy('resources/read', { uri: ruled }, { token: 'beta' }), 'cacheScope public means nothing here');

        stand.upstream.on(`read69-${via}`, (request) => request.result(raw('{"content":[]}'), { via }));
        await stand.fill(legacyCall(`read69-${via}`, {}));
        const plain = await stand.expect('hit', legacyCall(`read69-${via}`, {}));
        assert.equal(plain.text, '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}');
    });
}

test('a tool\'s hit gains no ttlMs, cacheScope or resultType in the modern era either', async () => {
    script('read-bare', raw('{"resultType":"complete","content":[]}'));
    await stand.fill(callTool('read-bare', {}));
    const hit = await stand.expect('hit', callTool('read-bare', {}));
    assert.equal(hit.text, '{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}');
});

test('case 71: a version from the future is tunnelled: nothing stored, the upstream\'s refusal intact', async () => {
    const refusal = '{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2027-01-01"}}}';
    stand.upstream.on('read71', (request) => request.reply(400, { 'Content-Type': 'application/json', 'X-Refused': 'yes' }, refusal));
    const asked = callTool('read71', {}, { version: '2027-01-01' });
    for (let n = 1; n <= 2; n++) {
        const answer = await stand.expect('bypass:version', asked);
        assert.equal(answer.status, 400);
        assert.equal(answer.text, refusal);
        assert.equal(answer.header('x-refused'), 'yes');
        assert.equal(stand.upstream.of('read71').length, n);
        assert.equal(stand.upstream.of('read71')[n - 1].text, asked.body);
        assert.equal(stand.upstream.of('read71')[n - 1].header('mcp-protocol-version'), '2027-01-01');
    }
    script('read71-accepted', complete('x', { ttlMs: 60000, cacheScope: 'public' }));
    await stand.expectNotStored(callTool('read71-accepted', {}, { version: '2027-01-01' }), 'bypass:version');
    for (const version of ['2024-11-05', '2027-01-01', '', 'latest']) {
        const before = stand.upstream.of('read71-accepted').length;
        const answer = await stand.ask(legacyCall('read71-accepted', {}, { version }));
        await answer.body();
        await stand.settle();
        const again = await stand.ask(legacyCall('read71-accepted', {}, { version }));
        await again.body();
        assert.match(`${outcomeOf(answer)} ${outcomeOf(again)}`, /^bypass:\S+ bypass:\S+$/, `legacy header ${JSON.stringify(version)}`);
        assert.equal(stand.upstream.of('read71-accepted').length, before + 2);
    }
});

test('case 73: a client that takes only an event stream gets no JSON hit', async () => {
    stand.upstream.on('read73', (request) => request.result(complete('x'), { via: /json/.test(request.header('accept') ?? '') ? 'json' : 'sse' }));
    const call = (accept) => callTool('read73', {}, { headers: { Accept: accept } });
    await stand.fill(call('application/json, text/event-stream'));
    for (const accept of ['application/json', 'application/json;q=0.1, text/event-stream', '*/*', 'application/*, text/event-stream', 'text/event-stream, APPLICATION/JSON']) {
        await stand.expect('hit', call(accept), accept);
    }
    for (const accept of ['text/event-stream', 'text/html', 'application/json;q=0, text/event-stream', 'application/json-seq']) {
        const before = stand.upstream.of('read73').length;
        const answer = await stand.expect('bypass:accept', call(accept), accept);
        assert.equal(stand.upstream.of('read73').length, before + 1);
        assert.equal(stand.upstream.of('read73').at(-1).header('accept'), accept);
        if (accept === 'text/event-stream') assert.match(answer.header('content-type'), /^text\/event-stream/);
    }
});

test('server/discover and the four lists live on the server\'s own hints', async () => {
    for (const [method, member] of [['server/discover', 'supportedVersions'], ['tools/list', 'tools'], ['prompts/list', 'prompts'], ['resources/list', 'resources'], ['resources/templates/list', 'resourceTemplates']]) {
        const options = { token: `lists-${method}` };
        stand.upstream.on(method, (request) => request.result({ resultType: 'complete', [member]: [], ttlMs: 60000, cacheScope: 'private' }));
        await stand.fill(modern(method, {}, options));
        const hit = await stand.expect('hit', modern(method, {}, options), method);
        assert.deepEqual((await messageOf(hit)).result[member], []);
        stand.upstream.on(method, (request) => request.result({ resultType: 'complete', [member]: [], ttlMs: 0, cacheScope: 'public' }));
        await stand.expectNotStored(modern(method, { _probe: 1 }, options));
    }
});

test('methods that are no reads are never looked up', async () => {
    stand.upstream.fallback = (request) => request.result({ resultType: 'complete', ttlMs: 60000, cacheScope: 'public' });
    for (const method of ['completion/complete', 'prompts/get', 'ping', 'logging/setLevel', 'tasks/get', 'tasks/cancel', 'vendor/read', 'resources/subscribe', 'Tools/Call']) {
        const request = modern(method, { name: 'read-any', taskId: 't', uri: 'doc://any' });
        for (const answer of [await stand.ask(request), await stand.settle(), await stand.ask(request)]) {
            await answer?.body();
            if (answer) assert.match(outcomeOf(answer), /^bypass:(method|no-rule)$/, method);
        }
    }
});
