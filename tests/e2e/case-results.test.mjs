/* SPDX-License-Identifier: Apache-2.0 */
// What may be kept: results of every kind that an upstream can give, over JSON and over an event stream.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, raw, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate } from './lib/wait.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const both = (title, run) => {
    for (const via of ['json', 'sse']) test(`${title} (${via})`, () => run(via));
};

/** The upstream answers `name` with result(n), n counting from 1. */
const script = (name, via, result, headers) => {
    let n = 0;
    stand.upstream.on(name, (request) => request.result(typeof result === 'function' ? result((n += 1), request) : result, { via, headers }));
};

both('case 04: a task handle with a positive ttlMs is relayed and not stored', async (via) => {
    const result = { resultType: 'task', taskId: 't-1', status: 'working', ttlMs: 60000, cacheScope: 'public' };
    script(`read04-${via}`, via, result);
    const answers = await stand.expectNotStored(callTool(`read04-${via}`, {}));
    assert.equal(stand.upstream.of(`read04-${via}`).length, 2);
    for (const answer of answers) assert.deepEqual((await messageOf(answer)).result, result);
});

both('case 05: tasks/get is never stored, whatever it says of itself', async (via) => {
    const result = { resultType: 'complete', taskId: `t05-${via}`, status: 'completed', ttlMs: 60000, cacheScope: 'public', result: complete('done') };
    script(`t05-${via}`, via, result);
    const [first] = await stand.expectNotStored(modern('tasks/get', { taskId: `t05-${via}` }), 'bypass:method');
    assert.deepEqual((await messageOf(first)).result, result);
    assert.equal(stand.upstream.of(`t05-${via}`).length, 2);
});

both('case 05: ttlMs null is no lifetime and no trouble', async (via) => {
    script(`read05-${via}`, via, { resultType: 'task', taskId: 't-1', ttlMs: null });
    const [task] = await stand.expectNotStored(callTool(`read05-${via}`, {}));
    assert.equal((await messageOf(task)).result.ttlMs, null);
    script(`doc://05-${via}`, via, contents(`doc://05-${via}`, 'x', { ttlMs: null, cacheScope: 'private' }));
    await stand.expectNotStored(readResource(`doc://05-${via}`));
});

both('case 06: a legacy result with a task in it is not stored', async (via) => {
    script(`read06-${via}`, via, { task: { taskId: 't-1', status: 'working', ttl: 60000 } });
    await stand.expectNotStored(legacyCall(`read06-${via}`, {}));
    assert.equal(stand.upstream.of(`read06-${via}`).length, 2);
});

both('case 06: a legacy call that asks for a task is never looked up, never stored, never shared', async (via) => {
    const name = `read06-asked-${via}`;
    const gate = new Gate();
    stand.upstream.on(name, async (request) => {
        if (request.json.params.task) await gate.pass();
        await request.result({ content: [] }, { via });
    });
    const asked = legacy('tools/call', { name, arguments: {}, task: { ttl: 60000 } });
    const asking = [stand.ask(asked), stand.ask(asked)];
    await stand.upstream.call(name, 2);
    gate.open(2);
    for (const answer of await Promise.all(asking)) {
        await answer.body();
        assert.equal(outcomeOf(answer), 'bypass:task');
    }
    await stand.settle();
    await stand.expect('miss', legacyCall(name, {}), 'the same call without a task');
    await stand.settle();
    gate.open();
    await stand.expect('bypass:task', asked, 'with an entry for the plain call in the store');
});

both('case 07: neither a question nor the answer to its continuation is stored', async (via) => {
    const uri = `doc://07-${via}`;
    script(uri, via, (_, request) => {
        const { inputResponses, requestState } = request.json.params;
        return inputResponses || requestState ? contents(uri, 'answered', { ttlMs: 60000, cacheScope: 'public' })
            : { resultType: 'input_required', inputRequests: { name: { method: 'elicitation/create', params: {} } }, requestState: 'state-1' };
    });
    await stand.expectNotStored(readResource(uri));
    const continuations = [{ inputResponses: { name: { action: 'accept' } }, requestState: 'state-1' }, { inputResponses: {} }, { requestState: 'state-1' }];
    for (const more of continuations) {
        const continuation = modern('resources/read', { uri, ...more });
        const [answer] = await stand.expectNotStored(continuation, 'bypass:continuation');
        assert.equal((await messageOf(answer)).result.contents[0].text, 'answered');
        assert.equal(stand.upstream.calls.findLast((call) => call.name === uri).text, continuation.body);
    }
    const asked = stand.upstream.of(uri).length;
    const plain = await stand.expect('miss', readResource(uri), 'a plain read afterwards');
    assert.equal((await messageOf(plain)).result.resultType, 'input_required');
    assert.equal(stand.upstream.of(uri).length, asked + 1);
});

both('case 08: an input_required that is only a requestState belongs to its own exchange', async (via) => {
    const name = `read08-${via}`;
    const gate = new Gate();
    let n = 0;
    stand.upstream.on(name, async (request) => {
        const state = `state-${(n += 1)}`;
        if (n > 1) await gate.pass();
        await request.result({ resultType: 'input_required', requestState: state }, { via });
    });
    const first = await stand.expect('miss', callTool(name, {}));
    assert.equal((await messageOf(first)).result.requestState, 'state-1');
    await stand.settle();
    gate.open(10);
    const answers = await Promise.all([1, 2].map(() => stand.ask(callTool(name, {}))));
    const states = await Promise.all(answers.map(async (answer) => (await messageOf(answer)).result.requestState));
    assert.deepEqual(states.sort(), ['state-2', 'state-3']);
    assert.equal(stand.upstream.of(name).length, 3);
});

both('case 09: isError true is relayed and not stored; false or absent is a success', async (via) => {
    script(`read09-true-${via}`, via, complete('broken', { isError: true }));
    const [answer] = await stand.expectNotStored(callTool(`read09-true-${via}`, {}));
    assert.equal((await messageOf(answer)).result.isError, true);
    for (const [what, more] of [['false', { isError: false }], ['absent', {}]]) {
        script(`read09-${what}-${via}`, via, complete('fine', more));
        await stand.fill(callTool(`read09-${what}-${via}`, {}));
        await stand.expect('hit', callTool(`read09-${what}-${via}`, {}));
    }
    script(`read09-legacy-${via}`, via, { content: [], isError: true });
    await stand.expectNotStored(legacyCall(`read09-legacy-${via}`, {}));
});

both('case 10: a modern result of unknown type, or of none, is relayed and not stored', async (via) => {
    for (const [n, type] of ['x-foo', undefined, 7, null, 'Complete'].entries()) {
        script(`read10-${n}-${via}`, via, { resultType: type, content: [] });
        await stand.expectNotStored(callTool(`read10-${n}-${via}`, {}));
    }
});

both('a JSON-RPC error is relayed and not stored', async (via) => {
    const name = `read-error-${via}`;
    stand.upstream.on(name, (request) => request.message(`{"jsonrpc":"2.0","id":${request.id},"error":{"code":-32602,"message":"no","data":{"ttlMs":60000}}}`, { via }));
    const [answer] = await stand.expectNotStored(callTool(name, {}));
    assert.equal((await messageOf(answer)).error.code, -32602);
});

both('results that speak for one exchange only are not stored', async (via) => {
    const related = { 'io.modelcontextprotocol/related-task': { taskId: 't' } };
    const immediate = { 'io.modelcontextprotocol/model-immediate-response': 'wait' };
    for (const [n, more] of [{ requestState: 's' }, { inputRequests: {} }, { taskId: 't' }, { _meta: related }, { _meta: immediate }, { _meta: { cache_hint: 'no-cache' } }].entries()) {
        script(`read-exchange-${n}-${via}`, via, complete('x', more));
        await stand.expectNotStored(callTool(`read-exchange-${n}-${via}`, {}));
    }
});

both('case 13: a scope that is not exactly "public" is private', async (via) => {
    for (const [n, scope] of ['Public', 7, undefined, 'PUBLIC', null, 'private', ' public', true].entries()) {
        const uri = `doc://13-${n}-${via}`;
        script(uri, via, (_, request) => contents(uri, request.header('authorization'), { ttlMs: 60000, cacheScope: scope }));
        await stand.fill(readResource(uri));
        await stand.expect('hit', readResource(uri));
        const other = await stand.expect('miss', readResource(uri, { token: 'beta' }), `cacheScope ${JSON.stringify(scope)}, another token`);
        assert.equal((await messageOf(other)).result.contents[0].text, 'Bearer beta');
    }
    const uri = `doc://13-public-${via}`;
    script(uri, via, contents(uri, 'for all', { ttlMs: 60000, cacheScope: 'public' }));
    await stand.fill(readResource(uri));
    await stand.expect('hit', readResource(uri));
});

both('case 13: a ttlMs that is no positive integer is 0, one without measure is clamped to a day', async (via) => {
    for (const [n, ttl] of ['-1', '"60000"', '1.5', '0', 'null', 'true', '[60000]', undefined, '-0'].entries()) {
        const uri = `doc://13-ttl-${n}-${via}`;
        script(uri, via, contents(uri, 'x', { ttlMs: ttl === undefined ? undefined : raw(ttl), cacheScope: 'private' }));
        const [answer] = await stand.expectNotStored(readResource(uri));
        if (ttl !== undefined) assert.ok(answer.text.includes(`"ttlMs":${ttl}`), 'relayed as it was');
    }
    for (const [n, ttl] of ['1e30', '99999999999999999999', '86400001'].entries()) {
        const uri = `doc://13-huge-${n}-${via}`;
        script(uri, via, contents(uri, 'x', { ttlMs: raw(ttl), cacheScope: 'private' }));
        await stand.fill(readResource(uri));
        const hit = await stand.expect('hit', readResource(uri), `ttlMs ${ttl}`);
        const said = /"ttlMs":([^,}]*)/.exec(hit.text)[1];
        assert.match(said, /^\d+$/);
        assert.ok(Number(said) <= 86_400_000 && Number(said) > 86_000_000, said);
    }
});

both('case 61: a reply that sets a cookie is not stored', async (via) => {
    script(`read61-cookie-${via}`, via, complete('x'), { 'Set-Cookie': 'sid=1; HttpOnly' });
    const answers = await stand.expectNotStored(callTool(`read61-cookie-${via}`, {}));
    for (const answer of answers) assert.deepEqual(answer.headerAll('set-cookie'), ['sid=1; HttpOnly']);
});

both('case 61: headers of the fill are not replayed on a hit', async (via) => {
    const name = `shared61-${via}`;
    const headers = { 'Mcp-Session-Id': 'session-of-the-fill', 'WWW-Authenticate': 'Bearer', 'Server-Timing': 'db;dur=1', Traceresponse: '00-1-2-03', Date: 'Thu, 01 Jan 2026 00:00:00 GMT',
        'Access-Control-Allow-Origin': 'https://fill.example', 'X-Upstream': 'yes', ETag: '"1"', 'Last-Modified': 'Thu, 01 Jan 2026 00:00:00 GMT' };
    script(name, via, complete('x'), headers);
    const fill = await stand.fill(callTool(name, {}));
    for (const [header, value] of Object.entries(headers)) if (header !== 'Date') assert.equal(fill.header(header), value, `${header} of the fill itself`);
    const hit = await stand.expect('hit', callTool(name, {}));
    for (const header of Object.keys(headers)) if (header !== 'Date') assert.equal(hit.header(header), undefined, `${header} on a hit`);
    assert.notEqual(hit.header('date'), headers.Date);
});

both('case 62: no-cache and no-transform are what every SDK stamps and no veto; no-store is one', async (via) => {
    script(`read62-${via}`, via, complete('x'), via === 'json' ? { 'Cache-Control': 'no-cache, no-transform' } : {});
    await stand.fill(callTool(`read62-${via}`, {}));
    await stand.expect('hit', callTool(`read62-${via}`, {}));
    for (const [n, value] of ['no-store', 'no-cache, No-Store', 'max-age=60,no-store'].entries()) {
        script(`read62-${n}-${via}`, via, complete('x'), { 'Cache-Control': value });
        await stand.expectNotStored(callTool(`read62-${n}-${via}`, {}));
    }
});

both('Cache-Control: private narrows a public grant', async (via) => {
    script(`shared-private-${via}`, via, complete('x'), { 'Cache-Control': 'private' });
    await stand.fill(callTool(`shared-private-${via}`, {}));
    await stand.expect('miss', callTool(`shared-private-${via}`, {}, { token: 'beta' }));
    await stand.expect('hit', callTool(`shared-private-${via}`, {}));
});

both('case 79: structuredContent null, 2^60 and 1.0 come back byte for byte', async (via) => {
    for (const [n, value] of ['null', '1152921504606846976', '1.0', '{"b":1152921504606846976,"a":1.0,"n":null,"e":1E+2}', '[]', '""', 'false'].entries()) {
        const result = `{"resultType":"complete","content":[],"structuredContent":${value}}`;
        script(`read79-${n}-${via}`, via, raw(result));
        const fill = await stand.fill(callTool(`read79-${n}-${via}`, {}));
        assert.ok(fill.text.includes(result));
        const hit = await stand.expect('hit', callTool(`read79-${n}-${via}`, {}, { id: '2' }));
        assert.ok(hit.text.includes(`"result":${result}`), `${result} in ${hit.text}`);
    }
});

test('a hit is plain JSON with headers of its own', async () => {
    script('read-plain', 'sse', complete('x'));
    await stand.fill(callTool('read-plain', {}));
    const hit = await stand.expect('hit', callTool('read-plain', {}));
    assert.equal(hit.status, 200);
    assert.match(hit.header('content-type'), /^application\/json\b/);
    assert.equal(hit.header('cache-control'), 'no-store');
    assert.match(hit.header('age'), /^\d+$/);
    assert.match(hit.header('cache-status'), /^mcpcached; hit; ttl=(5\d|60)$/);
    assert.equal(hit.framing, 'length');
});

test('a miss says that it is one, and whether it was stored where that is known in time', async () => {
    script('read-words', 'json', complete('x'));
    const fill = await stand.fill(callTool('read-words', {}));
    assert.match(fill.header('cache-status'), /^mcpcached; fwd=miss(; stored)?$/);
    assert.equal(fill.header('age'), '0');
    script('write-words', 'json', complete('x'));
    const [write] = await stand.expectNotStored(callTool('write-words', {}), 'bypass:unlisted');
    assert.equal(write.header('cache-status'), 'mcpcached; fwd=bypass; detail=unlisted');
});

test('statuses other than 200 are relayed and not stored, even with a perfect result in them', async () => {
    for (const status of [201, 202, 203, 400, 401, 403, 404, 429, 500, 503]) {
        const name = `read-status-${status}`;
        stand.upstream.on(name, (request) => request.reply(status, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":${request.id},"result":${JSON.stringify(complete('x'))}}`));
        const answers = await stand.expectNotStored(callTool(name, {}));
        for (const answer of answers) {
            assert.equal(answer.status, status);
            assert.equal(JSON.parse(answer.text).result.content[0].text, 'x');
        }
    }
});

test('an unlisted tool is a write: always forwarded, also when its result begs to be kept', async () => {
    script('transfer', 'json', complete('done', { ttlMs: 60000, cacheScope: 'public', annotations: { readOnlyHint: true, idempotentHint: true } }));
    await stand.expectNotStored(callTool('transfer', { amount: 1 }), 'bypass:unlisted');
    assert.equal(stand.upstream.of('transfer').length, 2);
});

test('a client that asks for the upstream gets it', async () => {
    script('read-control', 'json', (n) => complete(`time ${n}`));
    await stand.fill(callTool('read-control', {}));
    for (const headers of [{ 'Cache-Control': 'no-cache' }, { 'Cache-Control': 'no-store' }, { Pragma: 'no-cache' }]) {
        await stand.expect('bypass:client-control', callTool('read-control', {}, { headers }), JSON.stringify(headers));
    }
    assert.equal(stand.upstream.of('read-control').length, 4);
});

test('a request with a proof of its own is never a hit', async () => {
    script('read-proof', 'json', complete('x'));
    await stand.fill(callTool('read-proof', {}));
    await stand.expect('bypass:proof', callTool('read-proof', {}, { headers: { DPoP: 'eyJ.e30.x' } }));
});

test('a private result of a caller without credentials is nobody\'s and not stored', async () => {
    script('read-anonymous', 'json', complete('x'));
    await stand.expectNotStored(callTool('read-anonymous', {}, { token: null }), 'bypass:anonymous');
    script('doc://anonymous', 'json', contents('doc://anonymous', 'x', { ttlMs: 60000, cacheScope: 'private' }));
    await stand.expectNotStored(readResource('doc://anonymous', { token: null }), 'miss');
    script('shared-anonymous', 'json', complete('x'));
    await stand.fill(callTool('shared-anonymous', {}, { token: null }));
    await stand.expect('hit', callTool('shared-anonymous', {}, { token: null }));
});

test('anonymous: shared makes all callers without credentials one', async (t) => {
    const own = await Stand.open({ t, policy: 'version: 1\nidentity: { anonymous: shared }\ntools:\n  - { name: canary, ttl: 60s }\n  - { name: "read*", ttl: 60s }\n' });
    own.upstream.on('read-anonymous', (request) => request.result(complete('x')));
    await own.fill(callTool('read-anonymous', {}, { token: null }));
    await own.expect('hit', callTool('read-anonymous', {}, { token: null }));
    await own.expect('miss', callTool('read-anonymous', {}, { token: 'alpha' }), 'a caller with credentials is somebody else');
});
