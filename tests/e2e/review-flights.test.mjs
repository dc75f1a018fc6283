/* SPDX-License-Identifier: Apache-2.0 */
// How waiting together ends when things go wrong at the same time: leaders who leave, streams that stay open, calls that turn out to be writes, failures behind a held head. Each of these
// was, or could have been, a way to hang, to leak, to ask twice or to say what is not true.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { join, joinAll, queue } from './lib/crowd.mjs';
import { callTool, complete, legacy, legacyCall, messageOf, modern, textOf, withBody } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const POLICY = `version: 1
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "read*", ttl: 60s }
  - { name: "shared*", ttl: 60s, scope: public }
  - { name: "brief*", ttl: 100ms, grace: 10m }
  - { name: "sturdy*", ttl: 100ms, stale_if_error: 10m }
`;
const open = (t, flags = [], policy = POLICY) => Stand.open({ t, policy, flags });
const final = (call, result) => `{"jsonrpc":"2.0","id":${call.id},"result":${textOf(result)}}`;
const json = { 'Content-Type': 'application/json' };
const progress = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"so far"}}';
/** Lets the sidecar notice those who left. */
async function turns(stand, count = 4) {
    for (let n = 0; n < count; n++) await stand.turn();
}

/** A stand with a legacy session; what is asked in it, and how that is taken back. */
async function session(t, first = 's-1') {
    const stand = await open(t);
    stand.upstream.on('initialize', (asked) => asked.result({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } }, { headers: { 'Mcp-Session-Id': asked.json.params.clientInfo.name } }));
    stand.upstream.on('notifications/cancelled', (asked) => asked.reply(202));
    const begin = async (id, token = 'alpha') => {
        await (await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: id, version: '1' } }, { token }))).body();
    };
    await begin(first);
    const cancel = async (requestId, { session: id = first, token = 'alpha' } = {}) => {
        const answer = await stand.ask(withBody(legacy('notifications/cancelled', {}, { session: id, token }), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":${requestId}}}`));
        await answer.body();
        assert.equal(answer.status, 202);
    };
    const cancels = () => stand.upstream.of('notifications/cancelled').map((asked) => `${asked.header('mcp-session-id')} ${asked.json.params.requestId}`);
    const call = (name, asked, { session: id = first, token = 'alpha' } = {}, args = {}) => legacyCall(name, args, { id: asked, session: id, token });
    return { stand, begin, cancel, cancels, call };
}

// ---- ends that must come --------------------------------------------------------------------------------------------------------------------

for (const [title, begin] of Object.entries({
    'an event stream that says nothing': (call) => call.stream(),
    'a body that stops in its middle': async (call) => {
        await call.head(200, { ...json, 'Content-Length': 1000 });
        await call.write('{"jsonrpc":"2.0",');
    },
})) {
    test(`a refresh does not last for ever: ${title}`, async (t) => {
        const stand = await open(t, ['--first-byte-timeout', '1s', '--max-refreshes', '1']);
        stand.upstream.on('brief', (call) => call.result(complete('old')));
        await stand.fill(callTool('brief', {}));
        await sleep(120);
        stand.upstream.on('brief', begin);
        await stand.expect('stale', callTool('brief', {}));
        const refresh = await stand.upstream.call('brief', 2);
        await refresh.gone(5000);
        // The place and the name are free again.
        stand.upstream.on('brief', (call) => call.result(complete('new')));
        await until(async () => {
            await stand.expect('stale', callTool('brief', {}));
            return stand.upstream.of('brief').length > 2;
        }, { everyMs: 100, withinMs: 5000, what: 'another refresh' });
    });
}

for (const [title, reply] of Object.entries({
    'a stream that stays open behind its result': async (call) => {
        await call.stream();
        await call.event(final(call, complete('for who waits')));
    },
    'a failure whose body never ends': async (call) => {
        await call.head(503, { ...json, 'Content-Length': 1000 });
        await call.write('{');
    },
    'a refusal whose body never ends': async (call) => {
        if (call !== undefined) await call.head(404, { ...json, 'Content-Length': 1000 });
    },
})) {
    test(`the leader left, and the others have what they waited for: nobody reads on (${title})`, async (t) => {
        const stand = await open(t);
        const gate = new Gate();
        stand.upstream.on('read-left', async (call) => {
            await gate.pass();
            await reply(call);
        });
        const { leader, followers: [follower], call } = await queue(stand, t, 'read-left', callTool('read-left', {}), [callTool('read-left', {}, { id: '2' })]);
        leader.close();
        await turns(stand);
        assert.equal(call.isGone, false, 'somebody waits');
        stand.upstream.on('read-left', (own) => own.result(complete('his own')));
        gate.open();
        await follower.answer();
        await call.gone(5000);
    });
}

test('a failure that comes as an event stream is told at its head', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('read-events', async (call) => {
        await gate.pass();
        await call.head(503, [['Content-Type', 'text/event-stream'], ['Transfer-Encoding', 'chunked']]);
    });
    const { followers: [follower] } = await queue(stand, t, 'read-events', callTool('read-events', {}), [callTool('read-events', {}, { id: '2' })]);
    gate.open();
    const answer = await follower.answer();
    assert.equal(answer.status, 503);
    assert.equal((await messageOf(answer)).id, 2);
});

for (const [title, headers] of Object.entries({ 'Set-Cookie': { 'Set-Cookie': 'a=b' }, 'Vary: *': { Vary: '*' } })) {
    test(`what the head says is the leader's alone keeps nobody waiting for its end: ${title}`, async (t) => {
        const stand = await open(t);
        const gate = new Gate();
        stand.upstream.on('read-alone', async (call) => {
            await gate.pass();
            await call.stream(headers);
            await call.event(progress);
        });
        const { followers: [follower] } = await queue(stand, t, 'read-alone', callTool('read-alone', {}), [callTool('read-alone', {}, { id: '2' })]);
        stand.upstream.on('read-alone', (call) => call.result(complete('his own')));
        gate.open();
        assert.equal((await messageOf(await follower.answer())).result.content[0].text, 'his own');
    });
}

// ---- asked once -----------------------------------------------------------------------------------------------------------------------------

test('a read that its server has declared a write meanwhile is not sent again when it fails', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('tools/list', (call) => call.result({ resultType: 'complete', ttlMs: 0, cacheScope: 'private', tools: [{ name: 'read-turned', inputSchema: { type: 'object' }, annotations: { readOnlyHint: false } }] }));
    stand.upstream.on('read-turned', async (call) => {
        await gate.pass();
        call.reset();
    });
    const leader = await join(stand, t, callTool('read-turned', {}));
    await stand.upstream.call('read-turned');
    await (await stand.ask(modern('tools/list'))).body();
    gate.open(Infinity);
    const answer = await leader.answer();
    assert.equal(answer.status, 502);
    assert.equal(stand.upstream.of('read-turned').length, 1, 'nobody knows whether it was done');
});

test('a session that ends while its call is under way does not make the call be sent again', async (t) => {
    const { stand, call } = await session(t);
    const gate = new Gate();
    stand.upstream.on('read-ended', async (asked) => {
        await gate.pass();
        // With a first byte: what a kept connection says no more on may be asked again on another one.
        await asked.writeApart(['HTTP/1.1 2']);
        asked.reset();
    });
    const leader = await join(stand, t, call('read-ended', '1'));
    await stand.upstream.call('read-ended');
    stand.upstream.on('ping', (asked) => asked.reply(404));
    await (await stand.ask(legacy('ping', {}, { session: 's-1' }))).body();
    gate.open(Infinity);
    assert.equal((await leader.answer()).status, 502);
    assert.equal(stand.upstream.of('read-ended').length, 1);
});

// ---- never another one's answer ---------------------------------------------------------------------------------------------------------------

test('strangers who were told of another tool than everybody else do not get each other\'s answers', async (t) => {
    const stand = await open(t);
    const toolsOf = (word) => (call) => call.result({ resultType: 'complete', ttlMs: 0, cacheScope: 'private', tools: ['shared-a', 'shared-b'].map((name) => ({ name, description: word, inputSchema: { type: 'object' } })) });
    for (const [word, token] of [['old', null], ['new', 'beta']]) {
        stand.upstream.on('tools/list', toolsOf(word));
        await (await stand.ask(modern('tools/list', {}, { token }))).body();
    }
    const gate = new Gate();
    for (const name of ['shared-a', 'shared-b']) {
        stand.upstream.on(name, async (call) => {
            await gate.pass();
            await call.result(complete(name, { isError: true }));
        });
    }
    const names = ['shared-a', 'shared-b', 'shared-a', 'shared-b'];
    const asked = await joinAll(stand, t, names.map((name, n) => callTool(name, {}, { token: null, id: String(n) })));
    await stand.upstream.call('shared-b');
    gate.open(Infinity);
    for (const [n, waiting] of asked.entries()) {
        const { id, result } = await messageOf(await waiting.answer());
        assert.deepEqual([id, result.content[0].text], [n, names[n]]);
    }
    for (const name of new Set(names)) assert.equal(stand.upstream.of(name).length, 2, 'an error is nobody else\'s among callers without credentials');
});

test('a leader who does not read what he is sent keeps nobody waiting', async (t) => {
    const stand = await open(t, ['--max-entry', '32KiB']);
    const gate = new Gate();
    stand.upstream.on('read-lazy', async (call) => {
        await gate.pass();
        await call.stream();
        const noise = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"${'x'.repeat(8000)}"}}`;
        for (let n = 0; n < 2000 && !call.isGone; n++) await Promise.race([call.event(noise), sleep(20_000, undefined, { ref: false })]);
        await call.event(final(call, complete('at last')));
        await call.endStream();
    });
    const lazy = await stand.connect(t);
    await lazy.send(callTool('read-lazy', {}));
    await stand.upstream.call('read-lazy');
    lazy.socket.pause();
    const follower = await join(stand, t, callTool('read-lazy', {}, { id: '2' }));
    stand.upstream.on('read-lazy', (call) => call.result(complete('his own')));
    gate.open();
    const answer = await follower.answer();
    assert.equal((await messageOf(answer)).id, 2);
});

// ---- cancelled ------------------------------------------------------------------------------------------------------------------------------

test('a legacy leader who disconnects and cancels afterwards takes nothing from those who wait', async (t) => {
    const { stand, call, cancel, cancels } = await session(t);
    const gate = new Gate();
    stand.upstream.on('read-cancelled', async (asked) => {
        await gate.pass();
        await asked.result({ content: [] });
    });
    const { leader, followers: [follower] } = await queue(stand, t, 'read-cancelled', call('read-cancelled', '1'), [call('read-cancelled', '2')]);
    leader.close();
    await turns(stand);
    await cancel('1');
    assert.deepEqual(cancels(), [], 'the upstream works for another one now');
    gate.open();
    assert.equal((await messageOf(await follower.answer())).id, 2);
});

test('who waited for the call of another session cancels nothing of his own session under the other one\'s id', async (t) => {
    const { stand, begin, call, cancel, cancels } = await session(t);
    const his = { session: 's-2', token: 'beta' };
    await begin(his.session, his.token);
    stand.upstream.on('shared-two', (asked) => asked.result({ content: [] }));
    // Both are let in, so that both may wait for what may become everybody's.
    for (const [n, who] of [undefined, his].entries()) await (await stand.ask(call('shared-two', '1', who, { n }))).body();
    stand.upstream.on('shared-two', () => {});
    const { leader } = await queue(stand, t, 'shared-two', call('shared-two', '5'), [call('shared-two', '9', his)]);
    assert.equal(stand.upstream.of('shared-two').length, 3, 'they wait together');
    leader.close();
    await turns(stand);
    await cancel('9', his);
    await turns(stand);
    assert.deepEqual(cancels().filter((one) => one === 's-2 5'), [], 'that is, if anything, a call of his own');
});

test('who cancels while the answer arrives gets a stream without an answer, and none of the answer\'s headers', async (t) => {
    const { stand, call, cancel } = await session(t);
    const gate = new Gate();
    stand.upstream.on('read-half', async (asked) => {
        const text = final(asked, { content: [] });
        await asked.head(200, { ...json, 'Content-Length': text.length, 'X-Answer': 'yes' });
        await asked.write(text.slice(0, 20));
        await gate.pass();
        await asked.write(text.slice(20));
        asked.finish();
    });
    const { leader, followers: [follower] } = await queue(stand, t, 'read-half', call('read-half', '1'), [call('read-half', '2')]);
    await until(() => gate.arrived === 1, { what: 'half of the answer' });
    await turns(stand);
    await cancel('1');
    const answer = await leader.answer();
    assert.deepEqual(answer.headerAll('content-type'), ['text/event-stream']);
    assert.equal(answer.header('x-answer'), undefined);
    gate.open();
    assert.equal((await messageOf(await follower.answer())).id, 2);
});

// ---- what is said ---------------------------------------------------------------------------------------------------------------------------

for (const name of ['read-cut', 'sturdy-cut']) {
    test(`an answer that broke off behind a held head leaves nothing of that head in what is said instead (${name})`, async (t) => {
        const stand = await open(t);
        stand.upstream.on(name, (call) => call.result(complete('old')));
        if (name === 'sturdy-cut') {
            await stand.fill(callTool(name, {}));
            await sleep(120);
        }
        stand.upstream.on(name, async (call) => {
            await call.head(200, { ...json, 'Content-Length': 1000, 'Set-Cookie': 'session=stolen', 'Cache-Groups': '"a"' });
            await call.write('{"jsonrpc":"2.0",');
            call.close();
        });
        const answer = await stand.ask(callTool(name, {}, { id: '7' }));
        assert.equal((await messageOf(answer)).id, 7);
        assert.deepEqual(answer.headerAll('cache-status'), [name === 'read-cut' ? 'mcpcached; fwd=miss; detail=truncated' : 'mcpcached; fwd=stale; fwd-status=502; detail=stale-if-error']);
        assert.deepEqual(answer.headerAll('content-type'), ['application/json']);
        assert.equal(answer.headerAll('content-length').length, 1);
        assert.equal(answer.header('set-cookie'), undefined);
        assert.equal(answer.header('cache-groups'), undefined);
    });
}

test('429 is no failure that something may stand in for, for nobody who waits', async (t) => {
    const stand = await open(t);
    stand.upstream.on('sturdy-429', (call) => call.result(complete('old')));
    await stand.fill(callTool('sturdy-429', {}));
    await sleep(120);
    const gate = new Gate();
    stand.upstream.on('sturdy-429', async (call) => {
        await gate.pass();
        await call.reply(429, { ...json, 'Retry-After': '3' }, '{}');
    });
    const { leader, followers: [follower] } = await queue(stand, t, 'sturdy-429', callTool('sturdy-429', {}), [callTool('sturdy-429', {}, { id: '2' })]);
    gate.open(Infinity);
    assert.equal((await leader.answer()).status, 429);
    const answer = await follower.answer();
    assert.equal(answer.status, 429, answer.header('cache-status'));
    assert.equal(answer.header('retry-after'), '3');
});

test('who was sent off by the head of a probe\'s answer finds the breaker closed', async (t) => {
    const stand = await open(t);
    stand.upstream.on('read-broken', (call) => call.reply(503, json, '{}'));
    for (let n = 0; n < 5; n++) await (await stand.ask(callTool('read-broken', { n }))).body();
    await stand.expect('error:breaker', callTool('read-broken', {}));
    await sleep(5100);
    const gate = new Gate();
    stand.upstream.on('read-broken', async (call) => {
        await gate.pass();
        await call.stream({ 'Set-Cookie': 'a=b' });
    });
    const before = stand.upstream.of('read-broken').length;
    const { followers: [follower] } = await queue(stand, t, 'read-broken', callTool('read-broken', {}), [callTool('read-broken', {}, { id: '2' })]);
    assert.equal(stand.upstream.of('read-broken').length, before + 1);
    stand.upstream.on('read-broken', (call) => call.result(complete('his own')));
    gate.open();
    const answer = await follower.answer();
    assert.equal(answer.status, 200, answer.header('cache-status'));
    assert.equal((await messageOf(answer)).id, 2);
});

// glibc keeps the memory of a few threads that ended: with more loops than that, whatever is left for the main thread to end is gone.
test('eight loops stop as well as one', async (t) => {
    const stand = await open(t, ['--threads', '8']);
    stand.upstream.on('read-eight', (call) => call.result(complete('x')));
    await Promise.all(Array.from({ length: 32 }, async (_, n) => (await stand.ask(callTool('read-eight', { n }))).body()));
    assert.deepEqual(await stand.sidecar.stop(), { code: 0, signal: null });
});
