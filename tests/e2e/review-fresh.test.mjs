/* SPDX-License-Identifier: Apache-2.0 */
// What a review of freshness and isolation tried to break: each test is one way in which somebody could have seen what is over, or somebody else's.
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import { queue } from './lib/crowd.mjs';
import { jwt } from './lib/door.mjs';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, readResource, textOf } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const POLICY = `version: 1
defaults:
  lists: hint
  resources: hint
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "read*", ttl: 60s, scope: principal }
  - { name: "shared*", ttl: 60s, scope: public }
  - { name: "brief*", ttl: 300ms, grace: 60s }
  - { name: "hush*", ttl: off }
  - { name: "write*", class: write, invalidates: ["item:{/id}"] }
resources:
  - { uri: "ttl://**", ttl: 60s }
  - { uri: "soon://**", ttl: 300ms, grace: 60s }
`;
/** Longer than the lifetime of what is brief. Time itself is the point. */
const lapse = () => sleep(400);
const open = (t, more = {}) => Stand.open({ t, policy: POLICY, ...more });
const updated = (uri) => JSON.stringify({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } });
const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};

/** Each answer of this name says the how many-eth it is. */
function count(stand, name) {
    stand.upstream.on(name, (call) => {
        const text = `${name}, ${stand.upstream.of(name).length}`;
        const isModern = call.json.params._meta?.['io.modelcontextprotocol/protocolVersion'] !== undefined;
        if (call.json.method === 'resources/read') return call.result(isModern ? contents(name, text, { ttlMs: 60_000, cacheScope: 'private' }) : { contents: [{ uri: name, text }] });
        return call.result(isModern ? complete(text) : { content: [{ type: 'text', text }] });
    });
}

/** Lets a legacy session of this credential begin. */
async function session(stand, id, token = 'alpha') {
    stand.upstream.on('initialize', (call) => call.result({ protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 's', version: '1' } }, { headers: { 'Mcp-Session-Id': id } }));
    const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { token }));
    await answer.body();
    assert.equal(answer.status, 200);
    return (name, args) => legacyCall(name, args, { session: id, token });
}

const tool = (name, annotations, more = {}) => ({ name, inputSchema: { type: 'object' }, ...(annotations ? { annotations } : {}), ...more });
const listing = (tools, more = {}) => ({ resultType: 'complete', tools, ttlMs: 0, cacheScope: 'private', ...more });

/** A GET stream of the client's that the upstream holds open: the upstream's end of it, once the client has its head. */
async function streamOf(stand, t, { path = '/mcp', headers = {} } = {}) {
    const told = new Promise((resolve) => stand.upstream.on(`GET ${path}`, async (call) => {
        await call.stream();
        resolve(call);
    }));
    const connection = await stand.connect(t);
    await connection.send({ method: 'GET', path, headers: { Accept: 'text/event-stream', Authorization: 'Bearer alpha', 'MCP-Protocol-Version': '2025-11-25', ...headers } });
    const call = await told;
    const answer = await connection.answer();
    return { call, answer, async say(text) {
        await call.event(text);
        await answer.untilText(text);
    } };
}

// ---- flights ----------------------------------------------------------------------------------------------------------------------------

for (const [what, reply] of [
    ['a result that is its session\'s alone', (call, text) => call.result({ content: [{ type: 'text', text }] }, { headers: { 'Cache-Control': 'private' } })],
    ['an error', (call, text) => call.error(-32000, text)],
]) {
    test(`who waits in another session of the same credential does not get ${what}`, async (t) => {
        const stand = await open(t);
        const one = await session(stand, 'S1');
        const two = await session(stand, 'S2');
        stand.upstream.on('shared', (call) => call.result({ content: [{ type: 'text', text: 'hello' }] }));
        for (const call of [one, two]) await (await stand.ask(call('shared', { n: call === one ? 1 : 2 }))).body();
        const gate = new Gate();
        stand.upstream.on('shared', async (call) => {
            await gate.pass();
            await reply(call, `of ${call.header('mcp-session-id')}`);
        });
        const { leader, followers } = await queue(stand, t, 'shared', one('shared', { n: 3 }), [two('shared', { n: 3 })]);
        gate.open(Infinity);
        assert.match((await leader.answer()).text, /of S1/);
        const answer = await followers[0].answer();
        assert.match(answer.text, /of S2/, answer.header('cache-status'));
    });
}

for (const [how, mark, purge] of [
    ['a URI in it was updated', { content: [{ type: 'resource', resource: { uri: 'doc://x', text: 'old' } }] }, (stream) => stream.say(updated('doc://x'))],
    ['a tag that it has was purged by another\'s write', { _meta: { 'io.mcpcached/tags': ['item:7'] } }, (stream, stand) => stand.ask(callTool('write', { id: 7 }, { token: 'beta' })).then((answer) => answer.body())],
]) {
    test(`who asks after it was told that ${how} does not get what was asked for before`, async (t) => {
        const stand = await open(t);
        stand.upstream.on('write', (call) => call.result(complete('done')));
        stand.upstream.on('hush', (call) => call.result(complete('hello')));
        await (await stand.ask(callTool('hush', {}))).body();
        const stream = await streamOf(stand, t);
        const gate = new Gate();
        stand.upstream.on('read', async (call) => {
            const nth = stand.upstream.of('read').length;
            if (nth === 1) await gate.pass();
            await call.result({ ...complete(`read, ${nth}`), ...mark, structuredContent: { nth } });
        });
        const { leader } = await queue(stand, t, 'read', callTool('read', {}), []);
        await purge(stream, stand);
        const asking = queue(stand, t, 'hush', callTool('hush', {}), [callTool('read', {})]);
        const { followers } = await asking;
        gate.open(Infinity);
        await leader.answer();
        assert.match((await followers[0].answer()).text, /"nth":2/);
    });
}

// ---- definitions -------------------------------------------------------------------------------------------------------------------------

for (const [what, after] of [
    ['that the tool writes', [tool('read', { readOnlyHint: false })]],
    ['another definition', [tool('read', undefined, { description: 'another one' })]],
]) {
    test(`a hit of tools/list that says ${what} is heard: what was kept of the tool before is no answer to who was told`, async (t) => {
        const stand = await open(t);
        count(stand, 'read');
        let said = { tools: [tool('read')], ttlMs: 300 };
        stand.upstream.on('tools/list', (call) => call.result(listing(said.tools, { ttlMs: said.ttlMs, cacheScope: 'public' })));
        await stand.fill(modern('tools/list', {}, { token: 'beta' }));
        await stand.fill(callTool('read', {}, { token: 'beta' }));
        await stand.expect('hit', callTool('read', {}, { token: 'beta' }));
        await lapse();
        said = { tools: after, ttlMs: 60_000 };
        await stand.fill(modern('tools/list', {}, { token: 'alpha' }));
        const told = await stand.expect('hit', modern('tools/list', {}, { token: 'beta' }));
        assert.deepEqual((await messageOf(told)).result.tools, after, 'the client knows');
        const answer = await stand.ask(callTool('read', {}, { token: 'beta' }));
        assert.equal(await textIn(answer), 'read, 2', answer.header('cache-status'));
    });
}

test('of two lists the one that was asked for later counts, whichever is answered first', async (t) => {
    const stand = await open(t);
    count(stand, 'read');
    const gate = new Gate();
    stand.upstream.on('tools/list', async (call) => {
        if (stand.upstream.of('tools/list').length > 1) return call.result(listing([tool('read', { readOnlyHint: false })]));
        await gate.pass();
        return call.result(listing([tool('read')]));
    });
    const { leader } = await queue(stand, t, 'tools/list', modern('tools/list', {}, { token: 'alpha' }), []);
    await sleep(5);
    await (await stand.ask(modern('tools/list', {}, { token: 'beta' }))).body();
    gate.open(Infinity);
    await leader.answer();
    await stand.expect('bypass:annotation', callTool('read', {}, { token: 'gamma' }));
});

test('what another place promises of a tool is no promise here: it stays a write for who was told nothing', async (t) => {
    const stand = await open(t);
    count(stand, 'ttl://x');
    count(stand, 'unnamed');
    const here = { Host: 'here.example' };
    stand.upstream.on('tools/list', (call) => call.result(listing([tool('unnamed', { readOnlyHint: true })])));
    await stand.fill(readResource('ttl://x', { headers: here }));
    await stand.expect('hit', readResource('ttl://x', { headers: here }));
    await (await stand.ask(modern('tools/list', {}, { token: 'mallory', headers: { Host: 'there.example' } }))).body();
    await (await stand.ask(callTool('unnamed', {}, { headers: here }))).body();
    await stand.expect('miss', readResource('ttl://x', { headers: here }), 'a call of what may write lies between');
});

test('a list of tools that is too large to be kept is still heard', async (t) => {
    const stand = await open(t, { flags: ['--max-entry', '4KiB'] });
    count(stand, 'read');
    for (const via of ['json', 'sse']) {
        stand.upstream.on('tools/list', (call) => call.result(listing([tool(`read-${via}`, { readOnlyHint: false }), tool('large', undefined, { description: 'x'.repeat(16_384) })]), { via }));
        count(stand, `read-${via}`);
        await (await stand.ask(modern('tools/list', {}))).body();
        await stand.expect('bypass:annotation', callTool(`read-${via}`, {}), via);
    }
});

// ---- writes ------------------------------------------------------------------------------------------------------------------------------

test('a write whose answer comes on another stream, as a resumed one, is over when it comes', async (t) => {
    const stand = await open(t);
    const call = await session(stand, 'S');
    count(stand, 'read');
    await stand.fill(call('read', {}));
    stand.upstream.on('write', async (request) => {
        await request.stream();
        await request.sse('id: 1\nretry: 10\ndata: \n\n');
        await request.endStream();
    });
    await (await stand.ask(call('write', { id: 1 }))).body();
    await stand.fill(call('read', {}));
    await stand.expect('hit', call('read', {}), 'fetched while the write goes on upstream');
    const stream = await streamOf(stand, t, { headers: { 'Mcp-Session-Id': 'S', 'Last-Event-ID': '1' } });
    await stream.say('{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done"}]}}');
    await stand.expect('miss', call('read', {}), 'the writer knows that it is done');
});

test('a write that was under way when the process was killed is over at the latest when it starts again', async (t) => {
    const stand = await open(t);
    count(stand, 'read');
    await stand.fill(callTool('read', { n: 1 }));
    stand.upstream.on('write', () => undefined);
    await queue(stand, t, 'write', callTool('write', { id: 1 }), []);
    await stand.fill(callTool('read', { n: 2 }));
    await stand.expect('hit', callTool('read', { n: 2 }), 'fetched while the write goes on upstream');
    await stand.sidecar.kill9();
    await stand.sidecar.restart();
    await stand.expect('miss', callTool('read', { n: 3 }), 'he is let in again');
    await stand.expect('miss', callTool('read', { n: 2 }), 'the write has been done meanwhile');
});

// ---- notices -----------------------------------------------------------------------------------------------------------------------------

test('a client that wants nothing stored and everything compressed hides no notice from the others', async (t) => {
    const stand = await open(t);
    count(stand, 'ttl://x');
    await stand.fill(readResource('ttl://x'));
    stand.upstream.on('read', async (call) => {
        const isEncoded = /gzip/.test(call.header('accept-encoding') ?? '');
        const events = Buffer.from(`data: ${updated('ttl://x')}\n\ndata: {"jsonrpc":"2.0","id":${call.id},"result":${textOf(complete('done'))}}\n\n`);
        await call.reply(200, [['Content-Type', 'text/event-stream'], ...(isEncoded ? [['Content-Encoding', 'gzip']] : [])], isEncoded ? gzipSync(events) : events);
    });
    await (await stand.ask(callTool('read', {}, { token: 'beta', headers: { 'Cache-Control': 'no-store', 'Accept-Encoding': 'gzip' } }))).body();
    await stand.expect('miss', readResource('ttl://x'));
});

test('a notice on a stream of another path is one', async (t) => {
    const stand = await open(t);
    count(stand, 'ttl://x');
    await stand.fill(readResource('ttl://x'));
    const stream = await streamOf(stand, t, { path: '/mcp/' });
    await stream.say(updated('ttl://x'));
    await stand.expect('miss', readResource('ttl://x'));
});

test('a notice in the reply to a batch is heard, however large the reply is', async (t) => {
    const stand = await open(t, { flags: ['--max-entry', '4KiB'] });
    count(stand, 'ttl://x');
    const batch = legacy('ping', undefined, { version: '2025-03-26' });
    stand.upstream.fallback = (call) => call.reply(200, { 'Content-Type': 'application/json' }, `[${updated('ttl://x')},{"jsonrpc":"2.0","id":1,"result":{"text":"${'x'.repeat(16_384)}"}}]`);
    await stand.fill(readResource('ttl://x', { token: 'beta' }));
    await (await stand.ask({ ...batch, body: '[{"jsonrpc":"2.0","id":1,"method":"ping"}]' })).body();
    await stand.expect('miss', readResource('ttl://x', { token: 'beta' }));
});

// ---- other callers, other words -----------------------------------------------------------------------------------------------------------

test('an error that was kept for one token of a principal is no answer to another token of his that was never given one', async (t) => {
    const stand = await Stand.open({ t, policy: `version: 1
identity: { claims: [iss, sub] }
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "frail*", ttl: 60s, scope: principal, negative_ttl: 5s }
  - { name: "hush*", ttl: off }
` });
    const wide = jwt({ iss: 'i', sub: 's', scope: 'all' });
    const narrow = jwt({ iss: 'i', sub: 's', scope: 'little' });
    stand.upstream.on('hush', (call) => call.result(complete('hello')));
    stand.upstream.on('frail', (call) => call.result(complete(call.header('authorization').endsWith(wide) ? 'what only the wide token may see' : 'no', { isError: true })));
    for (const token of [wide, narrow]) await (await stand.ask(callTool('hush', {}, { token }))).body();
    await stand.fill(callTool('frail', {}, { token: wide }));
    await stand.expect('hit', callTool('frail', {}, { token: wide }), 'kept for whom it was said to');
    assert.equal(await textIn(await stand.ask(callTool('frail', {}, { token: narrow }))), 'no');
});

test('a client that wants only what is cached has the upstream asked nothing, not even in the background', async (t) => {
    const stand = await open(t);
    count(stand, 'brief');
    await stand.fill(callTool('brief', {}));
    await lapse();
    await stand.expect('stale', callTool('brief', {}, { headers: { 'Cache-Control': 'only-if-cached' } }));
    await stand.turn();
    await sleep(50);
    assert.equal(stand.upstream.of('brief').length, 1);
});

test('arguments that a tool does not take cost a caller nothing of what lies there for him', async (t) => {
    const stand = await open(t);
    count(stand, 'read');
    await stand.fill(callTool('read', {}));
    stand.upstream.on('read-other', (call) => call.error(-32602, 'Invalid arguments'));
    await (await stand.ask(callTool('read-other', {}))).body();
    await stand.expect('hit', callTool('read', {}));
});

test('what the server calls everybody\'s is fetched anew once, however many callers are served it past its lifetime', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    let holds = false;
    stand.upstream.on('soon://x', async (call) => {
        if (holds) await gate.pass();
        await call.result(contents('soon://x', `of ${call.header('authorization')}`, { ttlMs: 60_000, cacheScope: 'public' }));
    });
    const callers = ['a', 'b', 'c', 'd'];
    await stand.fill(readResource('soon://x', { token: 'a' }));
    for (const token of callers) await (await stand.ask(readResource('soon://x', { token, headers: { 'Cache-Control': 'no-cache' } }))).body();
    await stand.settle();
    await lapse();
    holds = true;
    const before = stand.upstream.of('soon://x').length;
    for (const token of callers) await stand.expect('stale', readResource('soon://x', { token }));
    await stand.turn();
    await sleep(50);
    assert.equal(stand.upstream.of('soon://x').length, before + 1);
    gate.open(Infinity);
    await until(async () => outcomeOf(await stand.ask(readResource('soon://x', { token: 'b' }))) === 'hit', { what: 'the new one' });
});

test('a subscription that is lost ages also what has more tags than can be named', async (t) => {
    const stand = await open(t);
    const tags = Array.from({ length: 60 }, (_, n) => `tag:${n}`);
    stand.upstream.on('read', (call) => call.result({ content: [{ type: 'resource', resource: { uri: 'doc://x', text: `read, ${stand.upstream.of('read').length}` } }], resultType: 'complete', _meta: { 'io.mcpcached/tags': tags } }));
    await stand.fill(callTool('read', {}));
    await stand.expect('hit', callTool('read', {}));
    const told = new Promise((resolve) => stand.upstream.on('subscriptions/listen', async (call) => {
        await call.stream();
        resolve(call);
    }));
    const connection = await stand.connect(t);
    await connection.send(modern('subscriptions/listen', { notifications: { resourceSubscriptions: ['doc://x'] } }));
    const call = await told;
    await connection.answer();
    call.reset();
    await until(() => stand.sidecar.log.some((line) => /subscriptions\/listen/.test(line)), { what: 'the end of the stream' });
    await stand.expect('miss', callTool('read', {}));
});
