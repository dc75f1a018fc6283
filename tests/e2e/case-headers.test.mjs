/* SPDX-License-Identifier: Apache-2.0 */
// What a hit has to check because the upstream does not see it: headers against body, the Origin. And the refusals that are the sidecar's own: each
// tells a client in its own language what is wrong, with its own id, and never looks like another server or a lost session.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Door } from './lib/door.mjs';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const script = (name, result) => stand.upstream.on(name, (call) => call.result(typeof result === 'function' ? result(call) : result));
const base64 = (text) => Buffer.from(text).toString('base64');
const later = (promise) => {
    promise.catch(() => {});
    return promise;
};

/** An own refusal: status, JSON-RPC error and id, nothing of an answer in it, and Cache-Status says why. */
async function expectOwn(answer, status, code, id, detail, why = '') {
    const text = (await answer.body()).toString('utf8');
    assert.equal(answer.status, status, `${why} ${text}`);
    assert.equal(answer.header('content-type'), 'application/json');
    const message = JSON.parse(text);
    assert.equal(message.jsonrpc, '2.0');
    assert.equal(message.error.code, code);
    assert.ok(typeof message.error.message === 'string' && message.error.message.length > 0);
    assert.ok(!('result' in message));
    assert.ok(text.includes(`"id":${id}`), `the id ${id} as it was sent, in ${text}`);
    assert.equal(answer.header('cache-status'), `mcpcached; detail=${detail}`);
    return message;
}

// ---- header against body, on a warm cache -----------------------------------------------------------------------------------------

/** What is wrong -> headers of the request; each on a body that names a usable entry. */
const wrongNames = (name) => ({
    'another name': { 'Mcp-Name': 'other' },
    'a name in capitals': { 'Mcp-Name': name.toUpperCase() },
    'half a name': { 'Mcp-Name': name.slice(0, -1) },
    'a name and more': { 'Mcp-Name': `${name}x` },
    'a name and another, in one field': { 'Mcp-Name': `${name}, other` },
    'no name': { 'Mcp-Name': null },
    'an empty name': { 'Mcp-Name': '' },
    'a name twice': { 'Mcp-Name': [name, 'other'] },
    'the same name twice': { 'Mcp-Name': [name, name] },
    'a quoted name': { 'Mcp-Name': `"${name}"` },
    'another name in Base64': { 'Mcp-Name': `=?base64?${base64('other')}?=` },
    'the sentinel in capitals': { 'Mcp-Name': `=?BASE64?${base64(name)}?=` },
    'no end of the sentinel': { 'Mcp-Name': `=?base64?${base64(name)}` },
    'Base64 with a wrong letter': { 'Mcp-Name': `=?base64?${base64(name).slice(0, -1)}!?=` },
    'Base64 with padding in its middle': { 'Mcp-Name': `=?base64?=${base64(name)}?=` },
    'an empty Base64': { 'Mcp-Name': '=?base64??=' },
    'Base64 of Base64': { 'Mcp-Name': `=?base64?${base64(`=?base64?${base64(name)}?=`)}?=` },
});
const wrongMethods = (method) => ({
    'another method': { 'Mcp-Method': method === 'tools/list' ? 'tools/call' : 'tools/list' },
    'a method in capitals': { 'Mcp-Method': method.toUpperCase() },
    'no method': { 'Mcp-Method': null },
    'an empty method': { 'Mcp-Method': '' },
    'a method twice': { 'Mcp-Method': [method, method] },
    'a method and another, in one field': { 'Mcp-Method': `${method}, ping` },
});
const WRONG_VERSIONS = {
    'an older version': { 'MCP-Protocol-Version': '2025-11-25' },
    'a future version': { 'MCP-Protocol-Version': '2027-01-01' },
    'no version': { 'MCP-Protocol-Version': null },
    'an empty version': { 'MCP-Protocol-Version': '' },
    'a version twice': { 'MCP-Protocol-Version': ['2026-07-28', '2026-07-28'] },
};
const WARM = {
    'tools/call': { name: 'mine-s4', request: (o) => callTool('mine-s4', { a: 1 }, o), result: complete('x') },
    'tools/call of everybody\'s': { name: 'shared-s4', request: (o) => callTool('shared-s4', { a: 1 }, o), result: complete('x') },
    'resources/read': { name: 'doc://s4', request: (o) => readResource('doc://s4', o), result: contents('doc://s4', 'x', { ttlMs: 60_000, cacheScope: 'public' }) },
    'tools/list': { name: 'tools/list', request: (o) => modern('tools/list', {}, o), result: { resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'public' } },
    'server/discover': { name: 'server/discover', request: (o) => modern('server/discover', {}, o), result: { resultType: 'complete', supportedVersions: [], capabilities: {}, ttlMs: 60_000, cacheScope: 'public' } },
};
for (const [what, { name, request, result }] of Object.entries(WARM)) {
    test(`S4: ${what}: whatever headers disagree with the body of a request that could be answered: 400, -32020, its own id, never a hit`, async () => {
        const token = `s4-${what.replaceAll(/\W/g, '-')}`;
        script(name, result);
        await stand.fill(request({ token }));
        await stand.expect('hit', request({ token }));
        const asked = stand.upstream.of(name).length;
        const isNamed = request({}).headers.some(([header]) => header === 'Mcp-Name');
        const method = JSON.parse(request({}).body).method;
        const wrong = { ...wrongMethods(method), ...WRONG_VERSIONS, ...(isNamed ? wrongNames(name) : {}) };
        for (const [n, [why, headers]] of Object.entries(wrong).entries()) {
            const id = n % 2 ? `"s4 \\u0041 ${n}"` : `${9007199254740993n + BigInt(n)}`;
            const answer = await stand.ask(request({ token, id, headers }));
            await expectOwn(answer, 400, -32020, id, 'header', why);
        }
        assert.equal(stand.upstream.of(name).length, asked, 'the upstream was not asked');
        await stand.expect('hit', request({ token }), 'and the entry is still there');
    });
}

test('case 20: Mcp-Name: other, with the body\'s name in the store: 400 and -32020 with the request\'s id', async () => {
    script('read20', complete('secret'));
    await stand.fill(callTool('read20', {}));
    for (const id of ['1', '"20"', '9007199254740993', '"\\u0061"', '-1', '""']) {
        const answer = await stand.ask(callTool('read20', {}, { id, headers: { 'Mcp-Name': 'other' } }));
        await expectOwn(answer, 400, -32020, id, 'header');
        assert.ok(!answer.text.includes('secret'));
    }
    const answer = await stand.ask(callTool('read20', {}, { headers: { 'Mcp-Method': 'TOOLS/CALL' } }));
    await expectOwn(answer, 400, -32020, '1', 'header');
    assert.equal(stand.upstream.of('read20').length, 1);
});

test('case 20: a disagreement that the cache could not have answered is the upstream\'s to judge', async () => {
    script('read20-cold', complete('x'));
    script('write20', complete('x'));
    const headers = { 'Mcp-Name': 'other' };
    await stand.expect('bypass:header', callTool('read20-cold', {}, { headers }), 'nothing in the store');
    await stand.fill(callTool('read20-cold', {}));
    await stand.expect('bypass:header', callTool('read20-cold', { n: 2 }, { headers }), 'other arguments');
    await stand.expect('bypass:header', callTool('read20-cold', {}, { headers, token: 'beta' }), 'another caller');
    const write = await stand.ask(callTool('write20', {}, { headers }));
    await write.body();
    assert.equal(write.status, 200);
    assert.equal(stand.upstream.of('write20').at(-1).header('mcp-name'), 'other');
    assert.deepEqual(stand.upstream.of('read20-cold').map((call) => call.header('mcp-name')), ['other', 'read20-cold', 'other', 'other']);
});

test('case 20: a caller without proof learns nothing of what is stored from a disagreement', async () => {
    script('shared20', complete('x'));
    await stand.fill(callTool('shared20', {}));
    const headers = { 'Mcp-Name': 'other' };
    await stand.expect('bypass:header', callTool('shared20', {}, { headers, token: 'stranger' }), 'an entry of everybody\'s, a caller that the upstream has not seen');
    assert.equal(stand.upstream.of('shared20').length, 2);
});

test('case 20: after the upstream has accepted a disagreement, that answer is nobody\'s', async () => {
    stand.upstream.on('shared20-bad', (call) => call.result(complete(call.header('mcp-name'))));
    await stand.expect('bypass:header', callTool('shared20-bad', {}, { headers: { 'Mcp-Name': 'evil' } }));
    await stand.settle();
    const answer = await stand.expect('miss', callTool('shared20-bad', {}));
    assert.equal((await messageOf(answer)).result.content[0].text, 'shared20-bad');
});

test('case 20: in the legacy era nothing mirrors anything: such headers make another question', async () => {
    stand.upstream.on('mine20', (call) => call.result({ content: [{ type: 'text', text: call.header('mcp-name') ?? 'none' }] }));
    await stand.fill(legacyCall('mine20', {}));
    const answer = await stand.expect('miss', legacyCall('mine20', {}, { headers: { 'Mcp-Name': 'other' } }));
    assert.equal((await messageOf(answer)).result.content[0].text, 'other');
});

test('case 21: a Base64 name that says what the body says is a hit; a sentinel in capitals is a literal; bad padding is refused', async () => {
    for (const name of ['read21', 'read21-\u00e9\u{1f600}', 'read21 ', '=?base64?x?=']) {
        stand.upstream.on(name, (call) => call.result(complete('x')));
        // One with a rule of its own each: the names themselves need not begin with "read".
        const request = (headers) => callTool(name, {}, { headers });
        if (name.startsWith('read')) {
            await stand.fill(request({}));
            await stand.expect('hit', request({ 'Mcp-Name': `=?base64?${base64(name)}?=` }), name);
            await stand.expect('hit', request({ 'Mcp-Name': `\t =?base64?${base64(name)}?= ` }), 'white space around');
            for (const value of [`=?BASE64?${base64(name)}?=`, `=?Base64?${base64(name)}?=`, `=?base64?${base64(name)}`, `=?base64?${base64(name)}=?=`, `=?base64?${base64(name)}=====?=`, '=?base64?cmVhZDIx=A?=', '=?base64?cmVhZDI?=', `=?base64? ${base64(name)}?=`, `x=?base64?${base64(name)}?=`]) {
                await expectOwn(await stand.ask(request({ 'Mcp-Name': value })), 400, -32020, '1', 'header');
            }
        } else {
            // A name that looks like the sentinel has to be sent in Base64 itself.
            const answer = await stand.ask(request({ 'Mcp-Name': name }));
            await answer.body();
            assert.notEqual(outcomeOf(answer), 'hit');
        }
    }
});

test('case 22: an Mcp-Param header that the fill had and the request lacks: a miss, and the upstream refuses', async () => {
    const refusal = (call) => call.error(-32020, 'Mcp-Param-Region is missing', { status: 400 });
    stand.upstream.on('shared22', (call) => (['us', `=?base64?${base64('us')}?=`].includes(call.headerAll('mcp-param-region').join('+')) ? call.result(complete('x')) : refusal(call)));
    const call = (headers, o = {}) => callTool('shared22', { region: 'us' }, { headers, ...o });
    await stand.fill(call({ 'Mcp-Param-Region': 'us' }));
    await stand.expect('hit', call({ 'Mcp-Param-Region': 'us' }));
    for (const [n, headers] of [{}, { 'Mcp-Param-Region': '' }, { 'Mcp-Param-Region': 'eu' }, { 'Mcp-Param-Region': 'US' }, { 'Mcp-Param-Region': ['us', 'us'] }, { 'Mcp-Param-Region': ['us', 'eu'] }].entries()) {
        const before = stand.upstream.of('shared22').length;
        const answer = await stand.ask(call(headers));
        const message = await messageOf(answer);
        assert.equal(answer.status, 400, JSON.stringify(headers));
        assert.equal(message.error.code, -32020);
        assert.notEqual(outcomeOf(answer), 'hit');
        if (n < 4) assert.equal(stand.upstream.of('shared22').length, before + 1, 'refused by the upstream, which alone knows its schema');
    }
    // A 400 may be a refusal of the tool: the next acceptance has to be seen.
    await stand.expect('miss:unproven', call({ 'Mcp-Param-Region': 'us' }));
    await stand.expect('hit', call({ 'mcp-param-region': ' us ' }), 'the same header, written otherwise');
    await stand.expect('hit', call({ 'Mcp-Param-Region': `=?base64?${base64('us')}?=` }), 'the same value in Base64');
});

// ---- Origin -----------------------------------------------------------------------------------------------------------------------

const EVIL = ['https://evil.example', 'http://app.example', 'https://app.example.evil.example', 'https://app.example:8443', 'https://sub.app.example', 'null', '', 'https://app.example/', 'app.example', 'https://app.example@evil.example', 'file://'];
const APP = 'https://app.example';

test('case 60: without a list, a request with an Origin is forwarded and never a hit', async () => {
    script('shared60', (call) => complete(call.header('origin') ?? 'none'));
    for (const token of ['alpha', null]) await (await stand.ask(callTool('shared60', {}, { token }))).body();
    await stand.settle();
    for (const origin of [APP, ...EVIL]) {
        for (const token of ['alpha', null]) {
            const before = stand.upstream.of('shared60').length;
            const answer = await stand.expect('bypass:origin', callTool('shared60', {}, { token, headers: { Origin: origin } }), origin);
            assert.equal((await messageOf(answer)).result.content[0].text, origin);
            assert.equal(stand.upstream.of('shared60').length, before + 1);
        }
    }
    for (const token of ['alpha', null]) await stand.expect('hit', callTool('shared60', {}, { token }));
    const hit = await stand.expect('hit', callTool('shared60', {}), 'what was forwarded with an Origin was not kept');
    assert.equal((await messageOf(hit)).result.content[0].text, 'none');
});

test('case 60: with a list, an Origin that is not on it gets 403 here, whatever it asks for on the MCP path', async (t) => {
    const door = new Door();
    const own = await Stand.open({ t, flags: ['--allow-origin', APP], fallback: door.handle });
    await own.fill(callTool('shared60', {}));
    await own.fill(legacyCall('mine60', {}));
    const calls = () => own.upstream.calls.filter((call) => call.target === '/mcp').length;
    const before = calls();
    for (const [n, origin] of EVIL.entries()) {
        const headers = { Origin: origin };
        const id = `"o${n}"`;
        const requests = [
            [callTool('shared60', {}, { id, headers }), id],
            [callTool('write60', {}, { id, headers }), id],
            [legacyCall('mine60', {}, { id, headers }), id],
            [legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { id, headers }), id],
            [modern('subscriptions/listen', { notifications: { toolsListChanged: true } }, { id, headers }), id],
            [{ method: 'GET', path: '/mcp', headers: { ...headers, Accept: 'text/event-stream' } }, 'null'],
            [{ method: 'DELETE', path: '/mcp', headers: { ...headers, 'Mcp-Session-Id': 'S' } }, 'null'],
            [{ ...callTool('x', {}, { headers }), body: '[]' }, 'null'],
        ];
        for (const [request, wanted] of requests) {
            const answer = await own.ask(request);
            const text = (await answer.body()).toString();
            assert.equal(answer.status, 403, `${origin}: ${request.method} ${text}`);
            const message = JSON.parse(text);
            assert.ok(message.error && Number.isInteger(message.error.code) && !('result' in message), text);
            assert.ok(message.error.code < -32768 || message.error.code >= -32019 || message.error.code === -32600 || message.error.code === -32603, `no code with another meaning: ${message.error.code}`);
            assert.equal(JSON.stringify(message.id ?? null), wanted);
            assert.equal(answer.header('cache-status'), 'mcpcached; detail=origin');
            assert.equal(answer.header('access-control-allow-origin'), undefined, 'a browser is told nothing');
        }
    }
    assert.equal(calls(), before, 'the upstream was not asked');
    for (const origins of [[APP, EVIL[0]], [EVIL[0], APP]]) assert.equal((await own.ask(callTool('shared60', {}, { headers: { Origin: origins } }))).status, 403, 'two of them');
    for (const origin of [APP, null]) await own.expect('hit', callTool('shared60', {}, { headers: { Origin: origin } }), String(origin));
});

test('case 60: OPTIONS and other paths are the upstream\'s, whatever the Origin', async (t) => {
    const own = await Stand.open({ t, flags: ['--allow-origin', APP] });
    own.upstream.on('OPTIONS /mcp', (call) => call.reply(204, { 'Access-Control-Allow-Origin': call.header('origin') }));
    own.upstream.on('GET /authorize', (call) => call.reply(200, {}, call.header('origin')));
    for (const origin of [APP, EVIL[0]]) {
        const preflight = await own.ask({ method: 'OPTIONS', path: '/mcp', headers: { Origin: origin, 'Access-Control-Request-Method': 'POST' } });
        assert.deepEqual([preflight.status, preflight.header('access-control-allow-origin')], [204, origin]);
        assert.equal((await (await own.ask({ method: 'GET', path: '/authorize', headers: { Origin: origin } })).body()).toString(), origin);
    }
});

test('case 60: an Origin on the list is no proof: its caller has to be admitted like any other', async (t) => {
    const door = new Door();
    const own = await Stand.open({ t, flags: ['--allow-origin', APP], fallback: door.handle });
    await own.fill(callTool('shared60', {}));
    door.refuse = (call, who) => (who === 'alpha' || who === 'canary' ? undefined : 401);
    const answer = await own.ask(callTool('shared60', {}, { token: 'stolen', headers: { Origin: APP } }));
    assert.equal(answer.status, 401);
    assert.equal((await own.ask(callTool('shared60', {}, { token: null, headers: { Origin: APP } }))).status, 401);
});

// ---- refusals of our own ------------------------------------------------------------------------------------------------------------

test('case 70: more streams than the limit: 503 with Retry-After and a JSON-RPC error, never 404, and room again when one ends', async (t) => {
    const door = new Door();
    const own = await Stand.open({ t, flags: ['--max-streams', '2'], fallback: door.handle });
    own.upstream.on('subscriptions/listen', (call) => call.stream());
    const get = { method: 'GET', path: '/mcp', headers: { Accept: 'text/event-stream', Authorization: 'Bearer alpha' } };
    const listen = (id) => modern('subscriptions/listen', { notifications: { toolsListChanged: true } }, { id });
    const open = [await own.ask(get), await own.ask(listen('"l1"'))];
    for (const answer of open) assert.equal(answer.status, 200);
    const before = own.upstream.calls.length;
    for (const [request, id] of [[get, 'null'], [listen('"l2"'), '"l2"'], [listen('9007199254740993'), '9007199254740993']]) {
        const answer = await own.ask(request);
        const message = await expectOwn(answer, 503, -32603, id, 'streams');
        assert.match(answer.header('retry-after'), /^\d+$/);
        assert.notEqual(message.error.code, -32601);
    }
    assert.equal(own.upstream.calls.length, before);
    await own.fill(callTool('read', {}));
    await own.expect('hit', callTool('read', {}), 'what is no stream has room');
    open[0].connection.close();
    let answer;
    for (let n = 0; n < 100 && answer?.status !== 200; n++) {
        await own.turn();
        answer = await own.ask(listen(`"again-${n}"`));
    }
    assert.equal(answer.status, 200, 'one left, one may come');
    for (const one of [open[1], answer]) one.connection.close();
});

test('case 70: streams that ended by themselves, were refused or broke off leave no trace in the count', async (t) => {
    const own = await Stand.open({ t, flags: ['--max-streams', '1'] });
    const get = { method: 'GET', path: '/mcp', headers: { Accept: 'text/event-stream' } };
    const endings = [
        (call) => call.reply(405),
        (call) => call.reply(401, { 'WWW-Authenticate': 'Bearer' }),
        async (call) => {
            await call.stream();
            await call.endStream();
        },
        (call) => call.reset(),
        async (call) => {
            await call.stream();
            call.reset();
        },
        (call) => call.reply(200, { 'Content-Type': 'application/json' }, '{}'),
    ];
    for (const [n, ending] of endings.entries()) {
        own.upstream.on('GET /mcp', ending);
        const answer = await later(own.ask(get));
        await answer.finished;
        assert.notEqual(answer.status, 503, `ending ${n}`);
    }
});

test('case 70: a body over the limit is refused in JSON-RPC, on a modern request, too; never 404', async () => {
    const answer = await stand.ask(callTool('write70', { text: 'x'.repeat(5 << 20) }, { id: '"seventy"' })).catch((error) => error);
    if (answer instanceof Error) {
        // The sidecar had answered and closed before everything was sent: libh2o does not read on.
        assert.match(answer.code ?? '', /NO_ANSWER|EPIPE|ECONNRESET/);
    } else {
        assert.equal(answer.status, 413);
        assert.equal(answer.header('content-type'), 'application/json');
        const message = JSON.parse((await answer.body()).toString());
        assert.ok(message.error && 'id' in message);
    }
    assert.equal(stand.upstream.of('write70').length, 0);
});
