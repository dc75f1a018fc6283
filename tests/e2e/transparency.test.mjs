/* SPDX-License-Identifier: Apache-2.0 */
// Removing the sidecar must change nothing: methods, paths, headers, statuses and bodies travel as they are, both ways.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatHead } from './lib/http1.mjs';
import { callTool, complete, legacy, legacyCall, messageOf, modern, outcomeOf } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, until } from './lib/wait.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

/** Headers without those that belong to one connection, names in lower case, order of equal names kept. */
const HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'te', 'trailer', 'upgrade', 'proxy-connection']);
const endToEnd = (headers) => headers.map(([name, value]) => [name.toLowerCase(), value]).filter(([name]) => !HOP.has(name)).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

/** What the upstream got for this request. */
async function passed(request, answerWith = (call) => call.reply(200, { 'Content-Type': 'text/plain' }, 'ok')) {
    stand.upstream.fallback = answerWith;
    const before = stand.upstream.calls.length;
    const answer = await stand.ask(request);
    await answer.body();
    assert.equal(stand.upstream.calls.length, before + 1, `one request upstream for ${request.method} ${request.path}`);
    return { answer, call: stand.upstream.calls.at(-1) };
}

const PATHS = ['/', '/other', '/mcp?x=1&y=%2F', '/mcp/deeper', '/MCP', '/.well-known/oauth-protected-resource/mcp', '/authorize?state=a%20b&scope=x+y', '/token', '/register', '/%7Euser/%2e%2e/a', '/a//b', '/a;v=1,2/@:!$&\'()*+=', '/health?'];
for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD', 'PROPFIND']) {
    test(`${method} on any path and with any query is forwarded as it is`, async () => {
        for (const path of PATHS) {
            const body = ['POST', 'PUT', 'PATCH', 'PROPFIND'].includes(method) ? Buffer.from([0, 1, 2, 255, 13, 10, 65]) : undefined;
            const { answer, call } = await passed({ method, path, headers: { 'Content-Type': body && 'application/octet-stream', 'X-Path': path, Accept: '*/*' }, body },
                (request) => request.reply(200, { 'Content-Type': 'text/plain', 'X-Seen': `${request.method} ${request.target}` }, 'body of the reply'));
            assert.equal(call.method, method);
            assert.equal(call.target, path);
            assert.deepEqual(call.body, body ?? Buffer.alloc(0));
            assert.equal(call.header('x-path'), path);
            assert.equal(answer.status, 200);
            assert.equal(answer.header('x-seen'), `${method} ${path}`);
            assert.equal(answer.text, method === 'HEAD' ? '' : 'body of the reply');
            assert.notEqual(outcomeOf(answer), 'hit');
        }
    });
}

test('other paths are never cached, even when they look like a cacheable read', async () => {
    const read = callTool('shared-elsewhere', {});
    stand.upstream.on('shared-elsewhere', (request) => request.result(complete('x')));
    for (const path of ['/other', '/mcp/', '/MCP', '/mcp/x']) {
        for (let n = 0; n < 2; n++) {
            const answer = await stand.ask({ ...read, path });
            await answer.body();
            await stand.settle();
            assert.ok(!['hit', 'miss'].includes(outcomeOf(answer)), `${path}: ${answer.header('cache-status')}`);
        }
    }
    assert.equal(stand.upstream.of('shared-elsewhere').length, 8);
});

const REQUEST_HEADERS = [
    ['Host', 'mcp.example:8443'], ['User-Agent', 'raw/1 (x; y)'], ['Accept', 'text/event-stream, application/json;q=0.5'], ['Accept-Language', 'de-CH, fr;q=0.3'], ['Authorization', 'Bearer a.b-c_d~e+f/g=='],
    ['Mcp-Session-Id', '!~session|id'], ['MCP-Protocol-Version', '2025-11-25'], ['Last-Event-ID', 'stream-1/7'], ['Origin', 'https://app.example'], ['Cookie', 'a=1; b="2"'], ['X-Empty', ''],
    ['X-Repeated', 'one'], ['X-Repeated', 'two, three'], ['X-Repeated', 'one'], ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'], ['tracestate', 'a=1,b=2'], ['baggage', 'k=v'],
    ['X-Forwarded-For', '192.0.2.1'], ['X-Forwarded-Proto', 'https'], ['Forwarded', 'for=192.0.2.1'], ['Via', '1.1 front'], ['Cache-Control', 'no-cache'], ['If-None-Match', '"x"'], ['Mcp-Param-Region', ''], ['X-Long', 'v'.repeat(6000)],
    ['x-lower', 'kept'], ['X-Punctuation', '"quoted", (comment); a=b \\ {json:[1]}'], ['X-Latin', 'caf\u00e9'], ['Range', 'bytes=0-1'], ['Accept-Encoding', 'gzip, br'],
];
for (const request of [{ method: 'GET', path: '/mcp' }, { method: 'DELETE', path: '/mcp' }, { method: 'POST', path: '/other', body: 'x' }, { method: 'POST', path: '/mcp', body: legacy('ping', undefined).body }]) {
    const encoding = request.path === '/mcp' ? 'identity' : 'gzip, br';
    test(`${request.method} ${request.path}${request.body ? ' with a body' : ''}: headers reach the upstream as they were sent, empty and repeated ones too, and none is added; Accept-Encoding: ${encoding}`, async () => {
        const { call } = await passed({ ...request, headers: REQUEST_HEADERS });
        // On the MCP path alone it is another: any answer there may tell of changes, and is read along.
        const expected = REQUEST_HEADERS.map(([name, value]) => [name, name === 'Accept-Encoding' ? encoding : value]);
        assert.deepEqual(endToEnd(call.headers), endToEnd(expected));
    });
}

test('a lookup asks for an answer that can be read, stored or not: it may tell of changes', async () => {
    for (const [more, expected] of [[{ 'Cache-Control': 'no-store' }, ['identity']], [{ 'Cache-Control': 'no-cache' }, ['identity']], [{}, ['identity']]]) {
        const { call } = await passed(callTool('read-encodings', {}, { headers: { 'Accept-Encoding': 'gzip, br', ...more } }));
        assert.deepEqual(call.headerAll('accept-encoding'), expected, JSON.stringify(more));
    }
});

test('headers of one connection stay on it', async () => {
    const { call } = await passed({ method: 'GET', path: '/hop', headers: { Connection: 'close, X-Hop', 'X-Hop': '1', 'Keep-Alive': 'timeout=5', TE: 'trailers', 'Proxy-Connection': 'keep-alive', Upgrade: 'h2c', 'X-Stay': '1' } });
    for (const name of ['x-hop', 'keep-alive', 'te', 'proxy-connection', 'upgrade']) assert.equal(call.header(name), undefined, name);
    assert.equal(call.header('x-stay'), '1');
    assert.doesNotMatch(call.header('connection') ?? '', /X-Hop|close/i);
});

const REPLY_HEADERS = [
    ['Content-Type', 'application/json; charset=utf-8'], ['WWW-Authenticate', 'Bearer resource_metadata="https://x/.well-known/oauth-protected-resource", error="invalid_token"'], ['WWW-Authenticate', 'DPoP algs="ES256"'],
    ['Set-Cookie', 'a=1; Path=/; HttpOnly'], ['Set-Cookie', 'b=2; Expires=Thu, 01 Jan 2026 00:00:00 GMT'], ['Mcp-Session-Id', 's-1'], ['X-Empty', ''], ['X-Repeated', 'b'], ['X-Repeated', 'a'], ['Cache-Control', 'no-cache, no-transform'],
    ['ETag', 'W/"1"'], ['Vary', 'Origin'], ['Vary', 'Accept'], ['Access-Control-Allow-Origin', '*'], ['Access-Control-Expose-Headers', 'Mcp-Session-Id'], ['Retry-After', '7'], ['Server', 'upstream/1'],
    ['Link', '<https://x>; rel="a", <https://y>; rel="b"'], ['X-Accel-Buffering', 'no'], ['Location', '/elsewhere'], ['Age', '3'], ['X-Latin', 'caf\u00e9'], ['Server-Timing', 'db;dur=1'],
];
for (const status of [200, 201, 202, 400, 401, 403, 404, 405, 409, 410, 418, 422, 429, 500, 501, 503, 504]) {
    for (const [what, request] of [['a GET', { method: 'GET', path: '/mcp' }], ['a lookup', callTool(`read-status-${status}`, {})], ['a write', callTool('transfer', {})]]) {
        test(`${status} for ${what} keeps its status, headers and body`, async () => {
            const body = `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"status ${status}"}}\r\n `;
            const { answer } = await passed(request, (call) => call.reply(status, REPLY_HEADERS, body));
            assert.equal(answer.status, status);
            assert.equal(answer.text, body);
            // Date has a test of its own.
            const own = new Set(['cache-status', 'date']);
            assert.deepEqual(endToEnd(answer.headers).filter(([name]) => !own.has(name)), endToEnd(REPLY_HEADERS));
            assert.ok(answer.headerAll('cache-status').length <= 1);
        });
    }
}

test('the Date of an answer is the upstream\'s', async () => {
    for (const request of [{ method: 'GET', path: '/dated' }, callTool('read-dated', {}), callTool('transfer', {})]) {
        const { answer } = await passed(request, (call) => call.reply(200, { 'Content-Type': 'text/plain', Date: 'Thu, 01 Jan 2026 00:00:00 GMT' }, 'x'));
        assert.deepEqual(answer.headerAll('date'), ['Thu, 01 Jan 2026 00:00:00 GMT']);
    }
});

test('redirects and empty answers pass: 202, 204, 301, 304, 307 without a body', async () => {
    for (const status of [202, 204, 301, 304, 307]) {
        for (const request of [{ method: 'GET', path: '/mcp' }, { method: 'DELETE', path: '/mcp' }, legacy('notifications/initialized', undefined, { id: null })]) {
            const { answer } = await passed(request, (call) => (status === 304 ? call.head(304, { 'X-Kept': 'yes' }).then(() => call.finish()) : call.reply(status, { 'X-Kept': 'yes', Location: '/x' })));
            assert.equal(answer.status, status);
            assert.equal(answer.bytes.length, 0);
            assert.equal(answer.header('x-kept'), 'yes');
            assert.notEqual(answer.ending, 'cut');
        }
    }
});

test('a client keeps its connection over answers of every kind', async (t) => {
    const connection = await stand.connect(t);
    stand.upstream.on('write-kind', (request) => request.result(complete('x'), { via: request.json.params.arguments.via }));
    stand.upstream.on('read-kept', (request) => request.result(complete('x')));
    const asked = [callTool('read-kept', {}), callTool('write-kind', { via: 'sse' }), callTool('write-kind', { via: 'json' }), legacy('notifications/initialized', undefined, { id: null }), { method: 'GET', path: '/missing' }, { method: 'HEAD', path: '/mcp' }, { method: 'DELETE', path: '/mcp' }, callTool('read-kept', {}), callTool('read-kept', {})];
    stand.upstream.fallback = (request) => request.reply(request.json ? 202 : request.method === 'DELETE' ? 405 : 404, {}, request.json ? '' : 'no');
    const statuses = [];
    for (const request of asked) {
        const answer = await connection.ask(request);
        await answer.body();
        statuses.push(answer.status);
        assert.notEqual(answer.framing, 'close', `${request.method} ${request.path} ${answer.status}`);
    }
    assert.deepEqual(statuses, [200, 200, 200, 202, 404, 404, 405, 200, 200]);
});

test('HEAD has the headers of GET and no body', async () => {
    const { answer, call } = await passed({ method: 'HEAD', path: '/mcp' }, (request) => request.reply(200, { 'Content-Type': 'text/plain', 'Content-Length': '1234', 'X-Seen': 'yes' }));
    assert.equal(call.method, 'HEAD');
    assert.equal(answer.bytes.length, 0);
    assert.equal(answer.header('x-seen'), 'yes');
    assert.ok([undefined, '1234'].includes(answer.header('content-length')));
});

test('a HTTP/1.0 client is answered, and its connection ends with the answer', async (t) => {
    stand.upstream.on('read-old', (request) => request.result(complete('x')));
    for (const expected of ['miss', 'hit']) {
        const connection = await stand.connect(t);
        const answer = await connection.ask({ ...callTool('read-old', {}), version: 'HTTP/1.0' });
        assert.equal((await messageOf(answer)).result.content[0].text, 'x');
        assert.equal(outcomeOf(answer), expected);
        assert.notEqual(answer.framing, 'chunked', 'HTTP/1.0 knows no chunks');
        assert.equal(await connection.source.ended, 'fin');
        await stand.settle();
    }
});

test('a HTTP/1.0 client gets a stream, delimited by its end', async (t) => {
    stand.upstream.on('write-old', (request) => request.result(complete('x'), { via: 'sse' }));
    const connection = await stand.connect(t);
    const answer = await connection.ask({ ...callTool('write-old', {}), version: 'HTTP/1.0' });
    await answer.finished;
    assert.equal(answer.framing, 'close');
    assert.ok(answer.text.includes('"result"'));
});

test('a chunked request body arrives whole, and finds the entry of the same body sent with a length', async () => {
    stand.upstream.on('read-chunked', (request) => request.result(complete(`${request.text.length}`)));
    const plain = callTool('read-chunked', { text: 'x'.repeat(1000) });
    const chunked = { ...plain, body: undefined, chunks: [plain.body.slice(0, 1), plain.body.slice(1, 700), plain.body.slice(700)] };
    await stand.fill(chunked);
    assert.equal(stand.upstream.of('read-chunked')[0].text, plain.body);
    await stand.expect('hit', plain);
    await stand.expect('hit', chunked);
});

test('a body in many small TCP segments, head included, is one request', async (t) => {
    stand.upstream.on('write-pieces', (request) => request.result(complete(`${request.text.length}`)));
    const request = callTool('write-pieces', { a: 'x'.repeat(50) });
    const connection = await stand.connect(t);
    const bytes = Buffer.from(formatHead('POST /mcp HTTP/1.1', [['Host', 'x'], ...request.headers, ['Content-Length', request.body.length]]) + request.body);
    for (let at = 0; at < bytes.length; at += 7) {
        await connection.write(bytes.subarray(at, at + 7));
        await new Promise(setImmediate);
    }
    const answer = await connection.answer();
    assert.equal((await messageOf(answer)).result.content[0].text, `${request.body.length}`);
    assert.equal(stand.upstream.of('write-pieces')[0].text, request.body);
});

test('3 MB each way', async () => {
    stand.upstream.on('write-large', (request) => request.result(complete(request.json.params.arguments.text), { via: request.json.params.arguments.via }));
    for (const via of ['json', 'sse']) {
        const text = `${via}${'0123456789\u00e9'.repeat(270_000)}`;
        const request = callTool('write-large', { via, text });
        const answer = await stand.ask(request);
        assert.equal((await messageOf(answer)).result.content[0].text, text);
        assert.ok(stand.upstream.of('write-large').at(-1).body.equals(Buffer.from(request.body)));
    }
    const bytes = Buffer.alloc(3_000_000, 7);
    const { answer, call } = await passed({ method: 'PUT', path: '/upload', body: bytes }, (request) => request.reply(200, {}, request.body));
    assert.ok(call.body.equals(bytes));
    assert.ok(answer.bytes.equals(bytes));
});

test('a slow reader gets everything, and the upstream is not drained into memory for it', async (t) => {
    let written = 0;
    stand.upstream.on('GET /endless', async (request) => {
        await request.head(200, { 'Content-Type': 'application/octet-stream', 'Transfer-Encoding': 'chunked' });
        for (let n = 0; n < 1200 && !request.isGone; n++) {
            await request.chunk(Buffer.alloc(100_000, n % 256));
            written = n + 1;
        }
        await request.endChunks();
    });
    const connection = await stand.connect(t);
    await connection.send({ method: 'GET', path: '/endless' });
    const answer = await connection.answer();
    connection.socket.pause();
    // Wait until the writing stands still: the buffers of the sockets in between may take some 20 MB, never 120.
    let last = -1;
    await until(async () => {
        const now = written;
        const still = now === last && now > 0;
        last = now;
        return still;
    }, { everyMs: 300, what: 'the upstream to be held back' });
    assert.ok(written < 1000, `the upstream wrote ${written * 100} kB for a client that does not read`);
    connection.socket.resume();
    await until(() => answer.ending, { what: 'the rest' });
    assert.equal(answer.ending, 'clean');
    assert.equal(answer.bytes.length, 120_000_000);
});

test('Expect: 100-continue is answered, then the request passes', async (t) => {
    stand.upstream.on('write-continue', (request) => request.result(complete(`${request.text.length}`)));
    const request = callTool('write-continue', { a: 1 });
    const connection = await stand.connect(t);
    await connection.write(formatHead('POST /mcp HTTP/1.1', [['Host', 'x'], ...request.headers, ['Expect', '100-continue'], ['Content-Length', request.body.length]]));
    const interim = await connection.source.line();
    assert.match(interim, /^HTTP\/1\.1 100/);
    assert.equal(await connection.source.line(), '');
    await connection.write(request.body);
    const answer = await connection.answer();
    assert.equal((await messageOf(answer)).result.content[0].text, `${request.body.length}`);
});

test('interim responses of the upstream do not end the exchange', async () => {
    stand.upstream.on('write-hints', async (request) => {
        await request.write('HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n');
        await request.result(complete('x'));
    });
    const answer = await stand.ask(callTool('write-hints', {}));
    assert.equal(answer.status, 200);
    assert.equal((await messageOf(answer)).result.content[0].text, 'x');
});

test('two requests sent at once on one connection are answered in order', async (t) => {
    stand.upstream.on('write-pipeline', async (request) => request.result(complete(`${request.json.params.arguments.n}`)));
    const connection = await stand.connect(t);
    const texts = [1, 2, 3].map((n) => {
        const request = callTool('write-pipeline', { n }, { id: `${n}` });
        return formatHead('POST /mcp HTTP/1.1', [['Host', 'x'], ...request.headers, ['Content-Length', request.body.length]]) + request.body;
    });
    await connection.write(texts.join(''));
    for (const n of [1, 2, 3]) {
        const answer = await connection.answer();
        const message = await messageOf(answer);
        assert.deepEqual([message.id, message.result.content[0].text], [n, `${n}`]);
    }
});

// ---- the legacy conversation ----------------------------------------------------------------------------------------------

test('a legacy conversation passes: initialize, initialized, GET stream, DELETE', async (t) => {
    const initialized = '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"vendor":{"x":1.0}},"serverInfo":{"name":"s","version":"1"},"unknown":[12345678901234567890]}}';
    stand.upstream.on('initialize', (request) => request.reply(200, { 'Content-Type': 'application/json', 'Mcp-Session-Id': 'conversation-1' }, initialized));
    const initialize = legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { id: '0' });
    for (let n = 1; n <= 2; n++) {
        const answer = await stand.expect('bypass:method', initialize);
        assert.equal(answer.text, initialized);
        assert.equal(answer.header('mcp-session-id'), 'conversation-1');
        assert.equal(stand.upstream.of('initialize').length, n);
    }
    const headers = { 'Mcp-Session-Id': 'conversation-1', 'MCP-Protocol-Version': '2025-11-25', Authorization: 'Bearer alpha' };
    const gate = new Gate();
    stand.upstream.on('GET /mcp', async (request) => {
        await request.stream({ 'Mcp-Session-Id': 'conversation-1' });
        await request.event('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', { id: 'e-1' });
        await gate.pass();
        await request.event('{"jsonrpc":"2.0","id":"ping-1","method":"ping"}', { id: 'e-2' });
        await request.endStream();
    });
    const connection = await stand.connect(t);
    const stream = await connection.ask({ method: 'GET', path: '/mcp', headers: { ...headers, Accept: 'text/event-stream', 'Last-Event-ID': 'e-0' } });
    assert.equal(stream.header('mcp-session-id'), 'conversation-1');
    await stream.untilText('id: e-1');
    assert.equal(stream.ending, undefined);
    const pong = '{"jsonrpc":"2.0","id":"ping-1","result":{}}';
    const { answer, call } = await passed({ ...legacy('x', undefined, { session: 'conversation-1' }), body: pong }, (request) => request.reply(202));
    assert.equal(answer.status, 202);
    assert.equal(call.text, pong);
    gate.open();
    await stream.untilText('ping-1');
    await stream.body();
    assert.equal(stand.upstream.of('GET /mcp').at(-1).header('last-event-id'), 'e-0');
    const ended = await passed({ method: 'DELETE', path: '/mcp', headers }, (request) => request.reply(204));
    assert.equal(ended.answer.status, 204);
    assert.equal(ended.call.header('mcp-session-id'), 'conversation-1');
});

test('what a legacy client says besides reading always reaches the upstream', async () => {
    const said = [['ping', undefined], ['logging/setLevel', { level: 'debug' }], ['resources/subscribe', { uri: 'doc://x' }], ['resources/unsubscribe', { uri: 'doc://x' }], ['notifications/cancelled', { requestId: 1 }], ['notifications/initialized', undefined], ['notifications/roots/list_changed', undefined], ['vendor/anything', { deep: [1, { a: null }] }]];
    for (const [method, params] of said) {
        const request = legacy(method, params, { id: method.startsWith('notifications/') ? null : '5', session: 'said-1' });
        for (let n = 0; n < 2; n++) {
            const { call } = await passed(request, (upstream) => (method.startsWith('notifications/') ? upstream.reply(202) : upstream.result({})));
            assert.equal(call.text, request.body);
            assert.equal(call.header('mcp-session-id'), 'said-1');
        }
    }
});

test('what a modern client says besides reading always reaches the upstream, its stream intact', async () => {
    for (const [method, params] of [['tasks/get', { taskId: 't' }], ['tasks/cancel', { taskId: 't' }], ['prompts/get', { name: 'p' }], ['completion/complete', { ref: {} }], ['vendor/anything', {}]]) {
        const request = modern(method, params);
        for (const via of ['json', 'sse']) {
            const { answer, call } = await passed(request, (upstream) => upstream.result({ resultType: 'complete', ttlMs: 60000, cacheScope: 'public' }, { via }));
            assert.equal(call.text, request.body);
            assert.match(outcomeOf(answer), /^bypass:/);
            assert.equal((await messageOf(answer)).result.ttlMs, 60000);
        }
    }
});

// ---- the pool -------------------------------------------------------------------------------------------------------------

test('connections to the upstream are used again', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('write', (request) => request.result(complete('x'), { via: request.json.params.arguments.via }));
    for (let n = 0; n < 20; n++) await messageOf(await own.ask(callTool('write', { via: n % 2 ? 'json' : 'sse' })));
    for (let n = 0; n < 5; n++) await messageOf(await own.ask(legacyCall('write', { via: 'sse' })));
    assert.ok(own.upstream.connections <= 3, `${own.upstream.connections} connections for 25 requests`);
});

test('an upstream that has closed its idle connections does not fail the next read', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('read', (request) => request.result(complete('x')));
    for (let n = 0; n < 10; n++) {
        const answer = await own.ask(callTool('read', { n }));
        assert.equal(answer.status, 200);
        await answer.body();
        own.upstream.dropConnections();
    }
    assert.equal(own.upstream.of('read').length, 10);
});

test('an upstream that closes after each reply, with and without saying so, does not fail the next read', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('read', (request) => {
        const body = `{"jsonrpc":"2.0","id":1,"result":${JSON.stringify(complete('x'))}}`;
        const { n } = request.json.params.arguments;
        return request.reply(200, { 'Content-Type': 'application/json', Connection: n % 2 ? 'close' : null }, body).then(() => request.close());
    });
    for (let n = 0; n < 10; n++) {
        const answer = await own.ask(callTool('read', { n }));
        assert.equal(answer.status, 200);
        await answer.body();
    }
    assert.equal(own.upstream.of('read').length, 10);
});

test('an upstream that closes a used connection instead of answering a read is asked again on another', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('read', (request) => (request.position > 1 ? request.close() : request.result(complete('x'))));
    await messageOf(await own.ask(callTool('read', { n: 1 })));
    const answer = await own.ask(callTool('read', { n: 2 }));
    assert.equal(answer.status, 200);
    assert.equal((await messageOf(answer)).result.content[0].text, 'x');
});

test('each request is told of in one log line', async () => {
    stand.upstream.on('read-log', (request) => request.result(complete('x')));
    await stand.fill(callTool('read-log', {}, { token: 'do-not-log-me' }));
    await stand.expect('hit', callTool('read-log', {}, { token: 'do-not-log-me' }));
    stand.upstream.on('transfer-log', (request) => request.result(complete('x')));
    await stand.expect('bypass:unlisted', callTool('transfer-log', {}));
    const of = (name) => stand.sidecar.requests('tools/call').filter((request) => request.name === name);
    await until(() => of('read-log').length === 2 && of('transfer-log').length === 1, { what: `the log lines:\n${stand.sidecar.log.slice(-8).join('\n')}` });
    assert.deepEqual(of('read-log').map((request) => request.outcome), ['miss', 'hit']);
    assert.equal(of('transfer-log')[0].outcome, 'write');
    assert.match(of('transfer-log')[0].line, /\breason=unlisted\b/);
    assert.ok(!stand.sidecar.log.join('\n').includes('do-not-log-me'), 'no credential in the log');
});
