/* SPDX-License-Identifier: Apache-2.0 */
// Freshness under fire: requests that wait for one fetch and leave it again, writes, and everything that takes an answer away before its time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { join, joinAll, queue } from './lib/crowd.mjs';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, readResource, textOf, withBody } from './lib/rpc.mjs';
import { soon } from './lib/raw.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

/** read*, shared*: kept. tagged*: everybody's, by item. write*: purges items. hush*: neither kept nor a write. brief*: in grace soon. sturdy*: stands in soon. Else: a write. */
const POLICY = `version: 1
defaults:
  lists: 60s
  resources: hint
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "read*", ttl: 60s, scope: principal }
  - { name: "session*", ttl: 60s }
  - { name: "shared*", ttl: 60s, scope: public }
  - { name: "despite*", ttl: 60s, despite_annotations: true }
  - { name: "tagged*", ttl: 60s, scope: public, tags: ["item:{/id}"] }
  - { name: "write*", class: write, invalidates: ["item:{/id}"] }
  - { name: "hush*", ttl: off }
  - { name: "brief*", ttl: 300ms, grace: 60s }
  - { name: "sturdy*", ttl: 300ms, stale_if_error: 60s }
resources:
  - { uri: "ttl://**", ttl: 60s }
  - { uri: "sturdy://**", ttl: 300ms, stale_if_error: 60s }
  - { uri: "frail://**", ttl: 300ms }
`;
/** Longer than the ttl of what is brief, sturdy or frail. Time itself is the point. */
const lapse = () => sleep(400);

/** Streams that are open when a test ends need no time to end well. */
const open = (t, { flags = [] } = {}) => Stand.open({ t, policy: POLICY, flags: ['--drain', '100ms', ...flags] });

const notification = (method, params) => JSON.stringify({ jsonrpc: '2.0', method: `notifications/${method}`, ...(params ? { params } : {}) });
const updated = (uri) => notification('resources/updated', { uri });
const final = (call, result) => `{"jsonrpc":"2.0","id":${call.id},"result":${textOf(result)}}`;
const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};

/** What the upstream answers to this name: who asked how often, in any era. */
function count(stand, name, more = {}) {
    stand.upstream.on(name, (call) => {
        if (call.json.id === undefined) return call.reply(202);
        const text = `${name}, ${stand.upstream.of(name).length}`;
        const isModern = call.json.params._meta?.['io.modelcontextprotocol/protocolVersion'] !== undefined;
        if (call.json.method === 'resources/read') return call.result(isModern ? contents(name, text, { ttlMs: 60_000, cacheScope: 'private', ...more }) : { contents: [{ uri: name, text }] });
        return call.result(isModern ? complete(text, more) : { content: [{ type: 'text', text }] });
    });
}

/** Makes a caller known before he leads: with his first answer ever he becomes somebody else for those who wait with him, if that answer is a stream that lasts. */
async function known(stand, request) {
    stand.upstream.on('hush-known', (call) => call.result(complete('hello')));
    const answer = await stand.ask(request ?? callTool('hush-known', {}));
    await answer.body();
    assert.equal(answer.status, 200);
}

/** Lists of tools, in any era: what `said.tools` holds when it is asked for. Never from the store. */
function tools(stand, given) {
    const said = { tools: given };
    stand.upstream.on('tools/list', (call) => call.result(call.json.params?._meta ? { resultType: 'complete', tools: said.tools, ttlMs: 0, cacheScope: 'private' } : { tools: said.tools }));
    return said;
}
const tool = (name, annotations, more = {}) => ({ name, inputSchema: { type: 'object' }, ...(annotations ? { annotations } : {}), ...more });
const list = async (stand, token = 'alpha') => {
    const answer = await stand.ask(modern('tools/list', {}, { token }));
    await answer.body();
    assert.equal(answer.status, 200);
};

/** An event stream of the era: what the upstream says on it, and the client's end of it. */
async function streamOf(stand, t, era, token = 'alpha') {
    const what = era === 'modern' ? 'subscriptions/listen' : 'GET /mcp';
    const told = new Promise((resolve) => stand.upstream.on(what, async (call) => {
        await call.stream();
        if (era === 'modern') await call.event(notification('subscriptions/acknowledged', { notifications: {}, _meta: { 'io.modelcontextprotocol/subscriptionId': 1 } }));
        resolve(call);
    }));
    const connection = await stand.connect(t);
    if (era === 'modern') await connection.send(modern('subscriptions/listen', { notifications: { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true, resourceSubscriptions: [] } }, { token }));
    else await connection.send({ method: 'GET', path: '/mcp', headers: { Accept: 'text/event-stream', Authorization: `Bearer ${token}`, 'MCP-Protocol-Version': '2025-11-25' } });
    const call = await soon(told, 'the stream to reach the upstream');
    const answer = await connection.answer();
    return {
        /** Resolves when the client has it. */
        async say(text) {
            const had = answer.text.length;
            await call.event(text);
            while (!answer.text.slice(had).includes(text)) {
                assert.equal(answer.ending, undefined, 'the stream is open');
                await new Promise(setImmediate);
            }
        },
        call,
        answer,
        connection,
    };
}
const STREAMS = ['modern', 'legacy'];

// ---- cursors ----------------------------------------------------------------------------------------------------------------------------

const LISTS = { 'tools/list': 'tools', 'prompts/list': 'prompts', 'resources/list': 'resources', 'resources/templates/list': 'resourceTemplates' };

/** Every list has two pages; who comes with another cursor is told so. */
function pages(stand, { scope = 'private', via } = {}) {
    const asked = [];
    for (const [method, member] of Object.entries(LISTS)) {
        stand.upstream.on(method, (call) => {
            const { cursor, _meta } = call.json.params ?? {};
            asked.push(`${method} ${cursor}`);
            if (cursor !== undefined && cursor !== 'two') {
                return call.message(`{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32602,"message":"Invalid cursor"}}`, { via });
            }
            return call.result({ ...(_meta ? { resultType: 'complete', ttlMs: 60_000, cacheScope: scope } : {}), [member]: [], ...(cursor === undefined ? { nextCursor: 'two' } : {}) });
        });
    }
    return asked;
}

for (const via of ['json', 'sse']) {
    for (const [era, make] of [['modern', modern], ['legacy', legacy]]) {
        test(`case 17: a cursor that the upstream refuses takes all pages of that list with it (${era}, ${via})`, async (t) => {
            const stand = await open(t);
            const asked = pages(stand, { via });
            const page = (method, cursor, more) => make(method, cursor === undefined ? {} : { cursor }, more);
            for (const method of ['tools/list', 'prompts/list']) for (const cursor of [undefined, 'two']) await stand.fill(page(method, cursor));
            for (const method of ['tools/list', 'prompts/list']) for (const cursor of [undefined, 'two']) await stand.expect('hit', page(method, cursor));
            const refused = await stand.ask(page('tools/list', 'gone', { id: '"bad"' }));
            assert.deepEqual(await messageOf(refused), { jsonrpc: '2.0', id: 'bad', error: { code: -32602, message: 'Invalid cursor' } });
            assert.equal(refused.status, 200);
            const before = asked.length;
            for (const cursor of [undefined, 'two']) {
                const next = await stand.ask(page('tools/list', cursor));
                await next.body();
                assert.notEqual(outcomeOf(next), 'hit', `page ${cursor}`);
            }
            assert.deepEqual(asked.slice(before), ['tools/list undefined', 'tools/list two'], 'both were fetched again');
            for (const cursor of [undefined, 'two']) await stand.expect('hit', page('prompts/list', cursor), 'another list is as it was');
        });
    }
}

test('case 17: public pages go too, for everybody', async (t) => {
    const stand = await open(t);
    pages(stand, { scope: 'public' });
    const page = (cursor, token) => modern('tools/list', cursor === undefined ? {} : { cursor }, { token });
    for (const cursor of [undefined, 'two']) await stand.fill(page(cursor, 'alpha'));
    for (const cursor of [undefined, 'two']) await stand.expect('hit', page(cursor, 'alpha'));
    await (await stand.ask(page('gone', 'alpha'))).body();
    for (const cursor of [undefined, 'two']) {
        const next = await stand.ask(page(cursor, 'alpha'));
        await next.body();
        assert.notEqual(outcomeOf(next), 'hit', `page ${cursor}`);
    }
});

test('case 17: somebody else\'s cursor takes only what is his: private pages of others stay', async (t) => {
    const stand = await open(t);
    pages(stand);
    const page = (cursor, token) => modern('tools/list', cursor === undefined ? {} : { cursor }, { token });
    for (const token of ['alpha', 'beta']) for (const cursor of [undefined, 'two']) await stand.fill(page(cursor, token));
    await (await stand.ask(page('gone', 'beta'))).body();
    for (const cursor of [undefined, 'two']) await stand.expect('hit', page(cursor, 'alpha'), 'alpha asked for nothing wrong');
    const his = await stand.ask(page(undefined, 'beta'));
    await his.body();
    assert.notEqual(outcomeOf(his), 'hit');
});

// ---- who waits together -----------------------------------------------------------------------------------------------------------------

const LOG = 'io.modelcontextprotocol/logLevel';
const ERAS = {
    modern: {
        call: (name, id, meta, more) => callTool(name, {}, { id, meta, ...more }),
        result: (text) => complete(text),
        leader: { progressToken: 'lead', [LOG]: 'debug' },
    },
    legacy: {
        call: (name, id, meta, more) => legacy('tools/call', { name, arguments: {}, _meta: meta }, { id, ...more }),
        result: (text) => ({ content: [{ type: 'text', text }] }),
        leader: { progressToken: 'lead' },
    },
};

for (const [era, { call, result, leader: meta }] of Object.entries(ERAS)) {
    test(`case 27: progress and log messages are the leader's; who waits with him gets the result and nothing else (${era})`, async (t) => {
        const stand = await open(t);
        await known(stand, call('hush-known', '0', {}));
        const gate = new Gate();
        const progress = notification('progress', { progressToken: 'lead', progress: 1 });
        const message = notification('message', { level: 'debug', data: 'step' });
        stand.upstream.on('read27', async (asked) => {
            await asked.stream();
            await gate.pass();
            await asked.event(progress);
            await asked.event(message);
            await gate.pass();
            await asked.event(final(asked, result('done')));
            await asked.endStream();
        });
        const { leader, followers: [early] } = await queue(stand, t, 'read27', call('read27', '1', meta), [call('read27', '"f1"', { progressToken: 'follow' })]);
        const stream = await leader.answering;
        gate.open();
        await stream.untilText(message);
        assert.ok(stream.text.includes(progress));
        const late = await join(stand, t, call('read27', '2', {}));
        gate.open();
        const led = await leader.answer();
        assert.match(led.header('content-type'), /^text\/event-stream/);
        assert.deepEqual((await messageOf(led)).id, 1);
        for (const [follower, id] of [[early, '"f1"'], [late, '2']]) {
            const answer = await follower.answer();
            assert.equal(outcomeOf(answer), 'collapsed');
            assert.match(answer.header('cache-status'), /^mcpcached; fwd=miss; collapsed\b/);
            assert.match(answer.header('content-type'), /^application\/json/);
            assert.equal(answer.text, `{"jsonrpc":"2.0","id":${id},"result":${textOf(result('done'))}}`);
        }
        assert.equal(stand.upstream.of('read27').length, 1);
        await stand.sidecar.untilLogged(/\boutcome=collapsed\b/);
    });
}

/** A client that leaves, and whose leaving the upstream has noticed: whoever left before him has been noticed too. */
async function disconnectsAreNoticed(stand, t, name) {
    stand.upstream.on(name, () => {});
    const connection = await stand.connect(t);
    await connection.send(callTool(name, {}, { token: 'fence' }));
    const call = await stand.upstream.call(name);
    connection.close();
    await call.gone(5000);
}

const LEAVES = { FIN: 'close', RST: 'reset' };
for (const [how, leave] of Object.entries(LEAVES)) {
    for (const via of ['json', 'sse']) {
        test(`case 28: a leader who leaves does not take the fetch with him while somebody waits (${how}, ${via})`, async (t) => {
            const stand = await open(t);
            await known(stand);
            const gate = new Gate();
            stand.upstream.on('read28', async (asked) => {
                if (via === 'sse') {
                    await asked.stream();
                    await asked.event(notification('progress', { progressToken: 'lead', progress: 1 }));
                }
                await gate.pass();
                if (via === 'json') return asked.result(complete('done'));
                await asked.event(final(asked, complete('done')));
                await asked.endStream();
            });
            const { leader, followers: [follower], call } = await queue(stand, t, 'read28', callTool('read28', {}, { id: '1', meta: { progressToken: 'lead' } }), [callTool('read28', {}, { id: '2' })]);
            if (via === 'sse') await (await leader.answering).untilText('"progress":1');
            leader[leave]();
            await disconnectsAreNoticed(stand, t, 'hush28');
            assert.equal(call.isGone, false, 'the upstream works on');
            const late = await join(stand, t, callTool('read28', {}, { id: '3' }));
            gate.open();
            for (const [waiting, id] of [[follower, 2], [late, 3]]) {
                const answer = await waiting.answer();
                assert.equal(answer.text, `{"jsonrpc":"2.0","id":${id},"result":${JSON.stringify(complete('done'))}}`);
                assert.equal(outcomeOf(answer), 'collapsed');
            }
            await stand.settle();
            await stand.expect('hit', callTool('read28', {}), 'what came is kept');
            assert.equal(stand.upstream.of('read28').length, 1);
        });
    }

    test(`case 28: with the last who waits the upstream call ends, and who comes then begins anew (${how})`, async (t) => {
        const stand = await open(t);
        stand.upstream.on('read28', () => {});
        const { leader, followers, call } = await queue(stand, t, 'read28', callTool('read28', {}), [callTool('read28', {}, { id: '2' }), callTool('read28', {}, { id: '3' })]);
        followers[0][leave]();
        leader[leave]();
        await disconnectsAreNoticed(stand, t, 'hush28');
        assert.equal(call.isGone, false, 'one still waits');
        followers[1][leave]();
        await call.gone(5000);
        count(stand, 'read28');
        const answer = await stand.expect('miss', callTool('read28', {}, { id: '4' }));
        assert.equal((await messageOf(answer)).id, 4);
    });
}

test('case 28: in the legacy era a fetch outlives everybody who waited for it', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('read28', async (asked) => {
        await gate.pass();
        await asked.result({ content: [{ type: 'text', text: 'done' }] });
    });
    const { leader, followers: [follower], call } = await queue(stand, t, 'read28', legacyCall('read28', {}), [legacyCall('read28', {}, { id: '2' })]);
    leader.close();
    follower.close();
    await disconnectsAreNoticed(stand, t, 'hush28');
    assert.equal(call.isGone, false, 'leaving is not cancelling');
    gate.open();
    await call.done;
    await call.consumed();
    assert.equal(call.isGone, false, 'read to its end');
});

/** A stand with a legacy session; what is asked in it. */
async function session(t, id = 's-1') {
    const stand = await open(t);
    stand.upstream.on('initialize', (asked) => asked.result({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } }, { headers: { 'Mcp-Session-Id': asked.json.params.clientInfo.name } }));
    stand.upstream.on('notifications/cancelled', (asked) => asked.reply(202));
    const begin = async (name, token = 'alpha') => {
        const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name, version: '1' } }, { token }));
        await answer.body();
        assert.equal(answer.header('mcp-session-id'), name);
    };
    await begin(id);
    const call = (name, asked) => legacyCall(name, {}, { id: asked, session: id });
    const cancel = async (requestId, { token, session: where = id } = {}) => {
        const request = legacy('notifications/cancelled', {}, { session: where, token });
        const answer = await stand.ask(withBody(request, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":${requestId},"reason":"enough"}}`));
        await answer.body();
        return answer;
    };
    const cancels = () => stand.upstream.of('notifications/cancelled').map((asked) => asked.json.params.requestId);
    return { stand, begin, call, cancel, cancels };
}

test('case 29: a legacy client cancels the call that leads: 202, the upstream hears nothing, others are served, he is not', async (t) => {
    const { stand, call, cancel, cancels } = await session(t);
    const gate = new Gate();
    stand.upstream.on('session29', async (asked) => {
        await gate.pass();
        await asked.result({ content: [{ type: 'text', text: 'done' }] });
    });
    const { leader, followers: [follower], call: asked } = await queue(stand, t, 'session29', call('session29', '1'), [call('session29', '2')]);
    const answer = await cancel('1');
    assert.equal(answer.status, 202);
    assert.equal(answer.text, '');
    assert.deepEqual(cancels(), [], 'not forwarded');
    assert.equal(asked.isGone, false);
    const late = await join(stand, t, call('session29', '3'));
    gate.open();
    for (const [waiting, id] of [[follower, 2], [late, 3]]) assert.equal((await waiting.answer()).text, `{"jsonrpc":"2.0","id":${id},"result":{"content":[{"type":"text","text":"done"}]}}`);
    assert.doesNotMatch(await leader.remains(), /"(result|error)"/, 'nothing for the id that was cancelled');
    assert.equal(stand.upstream.of('session29').length, 1);
});

test('case 29: a legacy client cancels one that waits: 202, the upstream hears nothing, the leader is served', async (t) => {
    const { stand, call, cancel, cancels } = await session(t);
    const gate = new Gate();
    stand.upstream.on('session29', async (asked) => {
        await gate.pass();
        await asked.result({ content: [] });
    });
    const { leader, followers: [follower, other] } = await queue(stand, t, 'session29', call('session29', '1'), [call('session29', '"1"'), call('session29', '2')]);
    assert.equal((await cancel('"1"')).status, 202);
    assert.doesNotMatch(await follower.remains(), /"(result|error)"/);
    assert.deepEqual(cancels(), []);
    gate.open();
    assert.equal((await messageOf(await leader.answer())).id, 1, 'an id that is a number is another one');
    assert.equal((await messageOf(await other.answer())).id, 2);
});

test('case 29: who waits alone cancels upstream', async (t) => {
    const { stand, call, cancel, cancels } = await session(t);
    stand.upstream.on('session29', () => {});
    const { call: asked } = await queue(stand, t, 'session29', call('session29', '1'), []);
    assert.equal((await cancel('1')).status, 202);
    assert.deepEqual(cancels(), [1]);
    assert.equal(asked.isGone, false, 'what to do with the call is the upstream\'s affair');
    // A newcomer does not wait for what was cancelled.
    count(stand, 'session29');
    assert.equal((await messageOf(await stand.expect('miss', call('session29', '2')))).id, 2);
});

test('case 29: when all have cancelled, the upstream hears of the one call that it knows', async (t) => {
    const { stand, call, cancel, cancels } = await session(t);
    stand.upstream.on('session29', () => {});
    await queue(stand, t, 'session29', call('session29', '1'), [call('session29', '2')]);
    assert.equal((await cancel('1')).status, 202);
    assert.deepEqual(cancels(), []);
    assert.equal((await cancel('2')).status, 202);
    await until(() => cancels().length > 0, { what: 'the upstream to hear of it' });
    assert.deepEqual(cancels(), [1]);
});

test('case 29: a cancellation of another caller, session or id is somebody else\'s: forwarded, and all are served', async (t) => {
    const { stand, begin, call, cancel, cancels } = await session(t);
    await begin('s-2');
    const gate = new Gate();
    stand.upstream.on('session29', async (asked) => {
        await gate.pass();
        await asked.result({ content: [] });
    });
    const { leader, followers: [follower] } = await queue(stand, t, 'session29', call('session29', '1'), [call('session29', '2')]);
    const strangers = [['1', { token: 'beta' }], ['1', { session: 's-2' }], ['"1"'], ['7']];
    for (const [id, more] of strangers) assert.equal((await cancel(id, more)).status, 202);
    assert.equal(cancels().length, strangers.length, 'each was forwarded');
    gate.open();
    assert.equal((await messageOf(await leader.answer())).id, 1);
    assert.equal((await messageOf(await follower.answer())).id, 2);
});

// ---- what the upstream takes back -------------------------------------------------------------------------------------------------------

for (const via of ['json', 'sse']) {
    test(`case 34: list_changed inside a batch's reply purges (${via})`, async (t) => {
        const stand = await open(t);
        const asked = [];
        stand.upstream.on('tools/list', (call) => {
            asked.push(call);
            return call.result({ tools: [] });
        });
        count(stand, 'prompts/list');
        stand.upstream.on('prompts/list', (call) => call.result({ prompts: [] }));
        const lists = (method) => legacy(method, {}, { version: '2025-03-26' });
        for (const method of ['tools/list', 'prompts/list']) {
            await stand.fill(lists(method));
            await stand.expect('hit', lists(method));
        }
        stand.upstream.fallback = (call) => call.message(`[{"jsonrpc":"2.0","id":1,"result":{}},${notification('tools/list_changed')},{"jsonrpc":"2.0","id":"two","result":{}}]`, { via });
        const batch = withBody(lists('ping'), '[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":"two","method":"ping"}]');
        await stand.expect('bypass:batch', { ...batch, headers: batch.headers.map(([name, value]) => [name, name === 'Authorization' ? 'Bearer beta' : value]) });
        await stand.expect('miss', lists('tools/list'));
        assert.equal(asked.length, 2);
        await stand.expect('hit', lists('prompts/list'), 'nothing was said of this one');
    });
}

for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
    test(`case 35: resources/updated on the reply of a POST purges, from the moment that it is seen (${era})`, async (t) => {
        const stand = await open(t);
        const gate = new Gate();
        for (const uri of ['ttl://35', 'ttl://35-other']) {
            count(stand, uri);
            await stand.fill(readResource(uri));
            await stand.expect('hit', readResource(uri));
        }
        stand.upstream.on('hush35', async (asked) => {
            await asked.stream();
            await asked.event(updated('ttl://35'));
            await gate.pass();
            await asked.event(final(asked, complete('done')));
            await asked.endStream();
        });
        const other = await stand.ask(call('hush35', {}, { token: 'beta' }));
        await other.untilText(updated('ttl://35'));
        assert.equal(other.ending, undefined);
        const again = await stand.expect('miss', readResource('ttl://35'));
        assert.equal(await textIn(again), 'ttl://35, 2');
        gate.open();
        await other.body();
        await stand.expect('hit', readResource('ttl://35-other'), 'nothing was said of this one');
    });
}

test('case 35: the same method POSTed by a client purges nothing', async (t) => {
    const stand = await open(t);
    count(stand, 'ttl://35');
    stand.upstream.on('tools/list', (call) => call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'private' }));
    const kept = [readResource('ttl://35'), modern('tools/list')];
    for (const request of kept) await stand.fill(request);
    for (const method of ['resources/updated', 'tools/list_changed', 'resources/list_changed']) stand.upstream.on(`notifications/${method}`, (call) => call.reply(202));
    const texts = [updated('ttl://35'), notification('tools/list_changed'), notification('resources/list_changed')];
    for (const make of [modern, legacy]) {
        for (const text of texts) {
            for (const body of [text, `[${text}]`]) {
                if (body !== text) stand.upstream.fallback = (call) => call.reply(202);
                const answer = await stand.ask(withBody(make(JSON.parse(text).method, {}), body));
                await answer.body();
                assert.equal(answer.status, 202);
                for (const request of kept) await stand.expect('hit', request, `after ${body}`);
            }
        }
    }
});

for (const era of STREAMS) {
    for (const threads of ['1', '2']) {
        test(`case 36: whoever is told that a resource changed and reads it at once reads the new one (${era}, ${threads} loops)`, async (t) => {
            const stand = await open(t, { flags: ['--threads', threads] });
            let version = 1;
            for (const uri of ['ttl://36-mine', 'ttl://36-all']) stand.upstream.on(uri, (call) => call.result(contents(uri, `version ${version}`, { ttlMs: 60_000, cacheScope: uri.endsWith('all') ? 'public' : 'private' })));
            const stream = await streamOf(stand, t, era);
            const readers = await Promise.all(Array.from({ length: 4 }, () => stand.connect(t)));
            const read = async (reader, uri) => {
                const answer = await reader.ask(readResource(uri));
                await answer.body();
                return answer;
            };
            for (let turn = 0; turn < 25; turn++) {
                for (const uri of ['ttl://36-mine', 'ttl://36-all']) {
                    await until(async () => outcomeOf(await read(readers[turn % readers.length], uri)) === 'hit', { everyMs: 2, what: 'something to purge' });
                    version += 1;
                    await stream.say(updated(uri));
                    const answers = await Promise.all(readers.map((reader) => read(reader, uri)));
                    for (const answer of answers) assert.equal(await textIn(answer), `version ${version}`, `turn ${turn}: ${answer.header('cache-status')}`);
                }
            }
        });
    }
}

for (const era of STREAMS) {
    test(`case 37: what was asked for before list_changed is answered and not kept; who asks after it does not wait for that (${era})`, async (t) => {
        const stand = await open(t);
        const gate = new Gate();
        const asked = [];
        stand.upstream.on('tools/list', async (call) => {
            const number = asked.push(call);
            await gate.pass();
            await call.result({ resultType: 'complete', tools: [tool(`tool-${number}`)], ttlMs: 60_000, cacheScope: 'private' });
        });
        const stream = await streamOf(stand, t, era);
        const { leader, followers: [follower] } = await queue(stand, t, 'tools/list', modern('tools/list'), [modern('tools/list', {}, { id: '2' })]);
        await stream.say(notification('tools/list_changed'));
        const late = await join(stand, t, modern('tools/list', {}, { id: '3' }));
        await stand.upstream.call('tools/list', 2);
        const names = async (waiting) => (await messageOf(await waiting.answer())).result.tools.map(({ name }) => name);
        gate.open();
        assert.deepEqual(await names(leader), ['tool-1']);
        assert.deepEqual(await names(follower), ['tool-1']);
        assert.equal(outcomeOf(await follower.answering), 'collapsed');
        await stand.settle();
        const between = await join(stand, t, modern('tools/list', {}, { id: '4' }));
        gate.open();
        assert.deepEqual(await names(late), ['tool-2']);
        assert.deepEqual(await names(between), ['tool-2'], 'the first answer was not kept');
        await stand.settle();
        const hit = await stand.expect('hit', modern('tools/list'));
        assert.deepEqual((await messageOf(hit)).result.tools.map(({ name }) => name), ['tool-2']);
        assert.equal(asked.length, 2);
    });
}

test('case 37: the same with a resource that is read while it is updated', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('ttl://37', async (call) => {
        const text = `version ${stand.upstream.of('ttl://37').length}`;
        await gate.pass();
        await call.result(contents('ttl://37', text, { ttlMs: 60_000, cacheScope: 'public' }));
    });
    const stream = await streamOf(stand, t, 'legacy');
    const { leader, followers: [follower] } = await queue(stand, t, 'ttl://37', readResource('ttl://37'), [readResource('ttl://37', { id: '2' })]);
    await stream.say(updated('ttl://37'));
    gate.open();
    assert.equal(await textIn(await leader.answer()), 'version 1');
    assert.equal(await textIn(await follower.answer()), 'version 1');
    await stand.settle();
    gate.open();
    const next = await stand.expect('miss', readResource('ttl://37'));
    assert.equal(await textIn(next), 'version 2');
});

for (const era of STREAMS) {
    test(`case 38: an update of a part purges what contains it, and is forwarded (${era})`, async (t) => {
        const stand = await open(t);
        const uris = { 'ttl://dir': ['ttl://dir/a', 'ttl://dir/b\u00e9'], 'ttl://other': ['ttl://other/a'] };
        for (const [uri, parts] of Object.entries(uris)) {
            stand.upstream.on(uri, (call) => call.result({ resultType: 'complete', contents: parts.map((part) => ({ uri: part, text: `${stand.upstream.of(uri).length}` })), ttlMs: 60_000, cacheScope: 'public' }));
        }
        const embeds = (uri) => ({ type: 'resource', resource: { uri, text: 'embedded' } });
        stand.upstream.on('read38', (call) => call.result({ resultType: 'complete', content: [{ type: 'text', text: 'see' }, embeds('ttl://dir/a')] }));
        stand.upstream.on('read38-other', (call) => call.result({ resultType: 'complete', content: [embeds('ttl://dir/c')] }));
        const requests = { dir: readResource('ttl://dir'), other: readResource('ttl://other'), tool: callTool('read38', {}), otherTool: callTool('read38-other', {}) };
        for (const request of Object.values(requests)) await stand.fill(request);
        const stream = await streamOf(stand, t, era);
        await stream.say(updated('ttl://dir/a'));
        await stand.expect('miss', requests.dir, 'contains it');
        await stand.expect('miss', requests.tool, 'embeds it');
        await stand.expect('hit', requests.other);
        await stand.expect('hit', requests.otherTool);
        await stand.settle();
        await stand.expect('hit', requests.dir);
        await stream.say(updated('ttl://dir/b\u00e9'));
        await stand.expect('miss', requests.dir, 'the other part, whose name is written otherwise in JSON');
    });
}

// ---- definitions ------------------------------------------------------------------------------------------------------------------------

const READS = { readOnlyHint: true };
const VETOES = { 'readOnlyHint false': { readOnlyHint: false }, 'destructiveHint true': { destructiveHint: true }, 'both': { readOnlyHint: false, destructiveHint: false } };
for (const [what, annotations] of Object.entries(VETOES)) {
    test(`case 63: a tool that is annotated as one that writes is forwarded, and what was kept of it is gone (${what})`, async (t) => {
        const stand = await open(t);
        const said = tools(stand, [tool('read63', READS)]);
        count(stand, 'read63');
        await list(stand);
        await stand.fill(callTool('read63', {}));
        await stand.expect('hit', callTool('read63', {}));
        said.tools = [tool('read63', annotations)];
        await list(stand);
        for (const n of [2, 3]) {
            const answer = await stand.expect('bypass:annotation', callTool('read63', {}));
            assert.equal(await textIn(answer), `read63, ${n}`);
            await stand.settle();
        }
        said.tools = [tool('read63', READS)];
        await list(stand);
        const answer = await stand.expect('miss', callTool('read63', {}));
        assert.equal(await textIn(answer), 'read63, 4');
        await stand.settle();
        await stand.expect('hit', callTool('read63', {}));
    });
}

test('case 63: two at once of a tool that is annotated as one that writes are two calls', async (t) => {
    const stand = await open(t);
    tools(stand, [tool('read63', { readOnlyHint: false })]);
    await list(stand);
    const gate = new Gate();
    stand.upstream.on('read63', async (call) => {
        await gate.pass();
        await call.result(complete('done'));
    });
    const both = await joinAll(stand, t, [callTool('read63', {}), callTool('read63', {}, { id: '2' })]);
    await stand.upstream.call('read63', 2);
    gate.open(2);
    for (const one of both) await one.answer();
});

test('case 63: without annotations the rule\'s word counts; despite_annotations is stronger; destructiveHint means nothing beside readOnlyHint', async (t) => {
    const stand = await open(t);
    tools(stand, [tool('read63-plain'), tool('read63-odd', { title: 'x', idempotentHint: false }), tool('read63-both', { readOnlyHint: true, destructiveHint: true }), tool('read63-soft', { destructiveHint: false }), tool('despite63', { readOnlyHint: false, destructiveHint: true })]);
    await list(stand);
    for (const name of ['read63-plain', 'read63-odd', 'read63-both', 'read63-soft', 'despite63', 'read63-not-listed']) {
        count(stand, name);
        await stand.fill(callTool(name, {}));
        await stand.expect('hit', callTool(name, {}), name);
    }
});

test('case 63: idempotentHint is no licence: each call of a write is forwarded', async (t) => {
    const stand = await open(t);
    tools(stand, [tool('put', { idempotentHint: true }), tool('read63', { readOnlyHint: false, idempotentHint: true })]);
    await list(stand);
    for (const [name, outcome] of [['put', 'bypass:unlisted'], ['read63', 'bypass:annotation']]) {
        count(stand, name);
        for (const n of [1, 2, 3]) assert.equal(await textIn(await stand.expect(outcome, callTool(name, {}))), `${name}, ${n}`);
    }
});

test('case 63: readOnlyHint true makes a tool that no rule names neutral: not kept, but no write either', async (t) => {
    const stand = await open(t);
    tools(stand, [tool('look', READS), tool('change')]);
    await list(stand);
    count(stand, 'read63');
    count(stand, 'look');
    count(stand, 'change');
    await stand.fill(callTool('read63', {}));
    for (const n of [1, 2]) {
        assert.equal(await textIn(await stand.ask(callTool('look', {}))), `look, ${n}`);
        await stand.expect('hit', callTool('read63', {}), 'nothing was written');
    }
    await (await stand.ask(callTool('change', {}))).body();
    await stand.expect('miss', callTool('read63', {}), 'something may have been written');
});

test('case 63: what holds for a caller is what he was told, else what anybody was told', async (t) => {
    const stand = await open(t);
    stand.upstream.on('tools/list', (call) => call.result({ resultType: 'complete', tools: [tool('read63', { readOnlyHint: call.header('authorization') !== 'Bearer beta' })], ttlMs: 0, cacheScope: 'private' }));
    count(stand, 'read63');
    await list(stand, 'alpha');
    await list(stand, 'beta');
    await stand.fill(callTool('read63', {}, { token: 'alpha' }));
    await stand.expect('hit', callTool('read63', {}, { token: 'alpha' }));
    await stand.expect('bypass:annotation', callTool('read63', {}, { token: 'beta' }));
    await stand.expect('bypass:annotation', callTool('read63', {}, { token: 'gamma' }), 'the newest that anybody was told');
    await stand.expect('hit', callTool('read63', {}, { token: 'alpha' }), 'nobody wrote for him');
});

for (const via of ['json', 'sse']) {
    test(`case 64: a definition that changed leads to none of the old answers; the same one, said again, does (${via})`, async (t) => {
        const stand = await open(t);
        const schema = (type) => ({ outputSchema: { type: 'object', properties: { n: { type } } } });
        let pages = [[tool('read64', READS, schema('string'))]];
        stand.upstream.on('tools/list', (call) => {
            const page = Number(call.json.params.cursor ?? 0);
            return call.result({ resultType: 'complete', tools: pages[page], ...(page + 1 < pages.length ? { nextCursor: String(page + 1) } : {}), ttlMs: 0, cacheScope: 'private' }, { via });
        });
        let n = '1';
        stand.upstream.on('read64', (call) => call.result({ resultType: 'complete', content: [], structuredContent: { n } }));
        await list(stand);
        await stand.fill(callTool('read64', {}));
        await stand.expect('hit', callTool('read64', {}));
        await list(stand);
        await stand.expect('hit', callTool('read64', {}), 'nothing has changed');
        // It moves to the second page, and changes.
        pages = [[tool('other')], [tool('read64', READS, schema('number'))]];
        n = 1;
        await list(stand);
        await (await stand.ask(modern('tools/list', { cursor: '1' }))).body();
        const answer = await stand.expect('miss', callTool('read64', {}));
        assert.deepEqual((await messageOf(answer)).result.structuredContent, { n: 1 });
        await stand.settle();
        assert.deepEqual((await messageOf(await stand.expect('hit', callTool('read64', {})))).result.structuredContent, { n: 1 });
    });
}

// ---- writes -----------------------------------------------------------------------------------------------------------------------------

const WRITES = {
    'with a result': { end: (call) => call.result(complete('written')), status: 200 },
    'with a result in a stream': { end: (call) => call.result(complete('written'), { via: 'sse' }), status: 200 },
    'with isError': { end: (call) => call.result(complete('no', { isError: true })), status: 200 },
    'with a JSON-RPC error': { end: (call) => call.error(-32000, 'no'), status: 200 },
    'with 500': { end: (call) => call.reply(500, {}, 'oops'), status: 500 },
    'with a reset': { end: (call) => call.reset(), status: 502 },
    'with a timeout': { end: () => {}, status: 504 },
    'half-way': { end: async (call) => { await call.head(200, { 'Content-Type': 'application/json', 'Content-Length': 1000 }); call.close(); } },
    'with its client leaving': { leaves: true },
};
for (const [how, { end, status, leaves }] of Object.entries(WRITES)) {
    test(`case 65: a write that ends ${how}: what was read meanwhile is kept for nobody whom it touches`, async (t) => {
        const stand = await open(t, { flags: ['--first-byte-timeout', '1s'] });
        for (const name of ['tagged65', 'read65', 'shared65']) count(stand, name);
        const gate = new Gate();
        stand.upstream.on('write65', async (call) => {
            await gate.pass();
            await end?.(call);
        });
        const [item, others] = [{ id: 'a' }, { id: 'b' }];
        const ask = async (name, args, token) => {
            const answer = await stand.ask(callTool(name, args, { token }));
            return { outcome: outcomeOf(answer), text: await textIn(answer) };
        };
        await stand.fill(callTool('tagged65', item, { token: 'beta' }));
        await stand.fill(callTool('tagged65', others, { token: 'beta' }));
        await stand.fill(callTool('read65', {}, { token: 'beta' }));
        for (const name of ['read65', 'shared65']) await stand.fill(callTool(name, {}, { token: 'alpha' }));
        const write = await join(stand, t, callTool('write65', item, { token: 'alpha' }));
        const call = await stand.upstream.call('write65');
        // While it is under way: what is older is no answer any more, and what is read now may be from before.
        assert.equal((await ask('tagged65', item, 'beta')).text, 'tagged65, 3', 'the item, for anybody');
        for (const name of ['read65', 'shared65']) assert.equal((await ask(name, {}, 'alpha')).outcome, 'miss', `${name}, for the writer`);
        await stand.settle();
        const before = Object.fromEntries(['tagged65', 'read65', 'shared65'].map((name) => [name, stand.upstream.of(name).length]));

        if (leaves) {
            write.close();
            await call.gone(5000);
        } else {
            gate.open();
            const text = await write.remains();
            if (status !== undefined) assert.equal((await write.answering).status, status, text);
        }
        assert.equal((await ask('tagged65', item, 'beta')).text, `tagged65, ${before.tagged65 + 1}`, 'the item, for anybody');
        for (const name of ['read65', 'shared65']) assert.equal((await ask(name, {}, 'alpha')).text, `${name}, ${before[name] + 1}`, `${name}, for the writer`);
        // Nobody else's.
        await stand.expect('hit', callTool('tagged65', others, { token: 'beta' }), 'another item');
        await stand.expect('hit', callTool('read65', {}, { token: 'beta' }), 'another caller');
        assert.equal(stand.upstream.of('write65').length, 1, 'sent once');
    });
}

test('case 65: each piece of a write\'s answer may be the news that it was done', async (t) => {
    const stand = await open(t);
    count(stand, 'tagged65');
    count(stand, 'read65');
    const gate = new Gate();
    stand.upstream.on('write65', async (call) => {
        await call.stream();
        for (let n = 1; n <= 3; n++) {
            await gate.pass();
            await call.event(notification('progress', { progressToken: 'p', progress: n }));
        }
        await gate.pass();
        await call.event(final(call, complete('written')));
        await call.endStream();
    });
    const writing = await stand.ask(callTool('write65', { id: 'a' }, { meta: { progressToken: 'p' } }));
    const texts = async () => [await textIn(await stand.ask(callTool('tagged65', { id: 'a' }, { token: 'beta' }))), await textIn(await stand.ask(callTool('read65', {})))];
    for (let n = 1; n <= 3; n++) {
        const before = await texts();
        await stand.settle();
        gate.open();
        await writing.untilText(`"progress":${n}`);
        const after = await texts();
        assert.notEqual(after[0], before[0], `the item, after piece ${n}`);
        assert.notEqual(after[1], before[1], `the writer's own, after piece ${n}`);
    }
    gate.open();
    await writing.body();
});

test('case 65: a write takes from its writer what others fetched before it ended, and from others nothing that he did not name', async (t) => {
    const stand = await open(t);
    count(stand, 'shared65');
    count(stand, 'write65');
    await stand.admit(callTool('shared65', {}, { token: 'alpha' }));
    await stand.fill(callTool('shared65', {}, { token: 'beta' }));
    await stand.expect('hit', callTool('shared65', {}, { token: 'alpha' }));
    await (await stand.ask(callTool('write65', { id: 'a' }, { token: 'alpha' }))).body();
    await stand.expect('hit', callTool('shared65', {}, { token: 'beta' }));
    const mine = await stand.expect('miss', callTool('shared65', {}, { token: 'alpha' }));
    await stand.settle();
    const theirs = await stand.expect('hit', callTool('shared65', {}, { token: 'beta' }));
    assert.equal(await textIn(theirs), await textIn(mine), 'what he fetched is everybody\'s');
});

// ---- failures ---------------------------------------------------------------------------------------------------------------------------

const STURDY = {
    'a tool': { what: 'sturdy67', ask: (id) => callTool('sturdy67', {}, { id }) },
    'a resource': { what: 'sturdy://67', ask: (id) => readResource('sturdy://67', { id }) },
};
const FAILS = {
    503: (call) => call.reply(503, { 'Content-Type': 'application/json', 'Retry-After': '7' }, `{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"down"}}`),
    500: (call) => call.reply(500, {}, 'oops'),
    reset: (call) => call.reset(),
    timeout: () => {},
    truncation: async (call) => {
        await call.head(200, { 'Content-Type': 'application/json', 'Content-Length': 1000 });
        await call.write('{"jsonrpc":"2.0",');
        call.close();
    },
};
for (const [kind, { what, ask }] of Object.entries(STURDY)) {
    for (const [how, fail] of Object.entries(FAILS)) {
        test(`case 67: after ${how} ${kind} stands in past its lifetime, and says so`, async (t) => {
            const stand = await open(t, { flags: ['--first-byte-timeout', '1s'] });
            count(stand, what);
            await stand.fill(ask('1'));
            await lapse();
            stand.upstream.on(what, fail);
            const answer = await stand.expect('stale:stale-if-error', ask('"x"'));
            assert.equal(answer.status, 200);
            const message = await messageOf(answer);
            assert.equal(message.id, 'x');
            assert.equal((message.result.content ?? message.result.contents)[0].text, `${what}, 1`);
            if (kind === 'a resource') assert.equal(message.result.ttlMs, 0);
            else assert.equal('ttlMs' in message.result, false);
            assert.match(answer.header('cache-status'), /^mcpcached; fwd=stale; (fwd-status=\d{3}; )?detail=stale-if-error$/);
            if (/^\d/.test(how)) assert.match(answer.header('cache-status'), new RegExp(`fwd-status=${how}`));
            assert.ok(Number(answer.header('age')) >= 0);
            count(stand, what);
            const again = await until(async () => {
                const next = await stand.ask(ask('2'));
                await next.body();
                return outcomeOf(next) === 'miss' ? next : undefined;
            }, { what: 'the upstream to be asked again' });
            assert.equal(await textIn(again), `${what}, ${stand.upstream.of(what).length}`);
        });
    }

    test(`case 67: a JSON-RPC error is relayed and ends the entry: nothing stands in for ${kind} after it`, async (t) => {
        const stand = await open(t);
        count(stand, what);
        await stand.fill(ask('1'));
        await lapse();
        stand.upstream.on(what, (call) => call.error(-32602, 'no such thing'));
        assert.deepEqual((await messageOf(await stand.ask(ask('"x"')))).error, { code: -32602, message: 'no such thing' });
        await stand.settle();
        stand.upstream.on(what, FAILS[503]);
        const answer = await stand.ask(ask('2'));
        assert.equal(answer.status, 503);
        assert.equal((await messageOf(answer)).error.message, 'down');
    });

    for (const status of [401, 403]) {
        test(`case 67: ${status} is no failure: it is relayed, and nothing stands in for ${kind} after it`, async (t) => {
            const stand = await open(t);
            count(stand, what);
            await stand.fill(ask('1'));
            await lapse();
            stand.upstream.on(what, (call) => call.reply(status, { 'WWW-Authenticate': 'Bearer' }, 'no'));
            const refused = await stand.ask(ask('2'));
            await refused.body();
            assert.equal(refused.status, status);
            stand.upstream.on(what, FAILS[503]);
            const answer = await stand.ask(ask('3'));
            await answer.body();
            assert.equal(answer.status, 503);
        });
    }

    for (const status of [400, 404, 429]) {
        test(`case 67: ${status} is relayed, whatever ${kind} could stand in`, async (t) => {
            const stand = await open(t);
            count(stand, what);
            await stand.fill(ask('1'));
            await lapse();
            stand.upstream.on(what, (call) => call.reply(status, {}, 'no'));
            const refused = await stand.ask(ask('2'));
            assert.equal((await refused.body()).toString(), 'no');
            assert.equal(refused.status, status);
        });
    }
}

test('case 67: what was purged does not stand in', async (t) => {
    const stand = await open(t);
    count(stand, 'sturdy://67');
    await stand.fill(readResource('sturdy://67'));
    const stream = await streamOf(stand, t, 'legacy');
    await lapse();
    await stream.say(updated('sturdy://67'));
    stand.upstream.on('sturdy://67', FAILS[503]);
    const answer = await stand.ask(readResource('sturdy://67'));
    await answer.body();
    assert.equal(answer.status, 503);
});

test('case 67: what a list_changed has aged may stand in: it is soft', async (t) => {
    const stand = await open(t);
    count(stand, 'sturdy://67');
    await stand.fill(readResource('sturdy://67'));
    const stream = await streamOf(stand, t, 'legacy');
    await stream.say(notification('resources/list_changed'));
    stand.upstream.on('sturdy://67', FAILS[503]);
    const answer = await stand.expect('stale:stale-if-error', readResource('sturdy://67'));
    assert.equal((await messageOf(answer)).result.ttlMs, 0);
});

test('case 67: a list that changed does not stand in', async (t) => {
    const stand = await open(t);
    stand.upstream.on('tools/list', (call) => call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'private' }));
    await stand.fill(modern('tools/list'));
    const stream = await streamOf(stand, t, 'legacy');
    await stream.say(notification('tools/list_changed'));
    stand.upstream.on('tools/list', FAILS[503]);
    const answer = await stand.ask(modern('tools/list'));
    await answer.body();
    assert.equal(answer.status, 503);
});

test('case 67: without the policy\'s word nothing stands in', async (t) => {
    const stand = await open(t);
    count(stand, 'frail://67');
    await stand.fill(readResource('frail://67'));
    await lapse();
    stand.upstream.on('frail://67', FAILS[503]);
    const answer = await stand.ask(readResource('frail://67'));
    assert.equal(answer.status, 503);
    assert.equal((await messageOf(answer)).error.message, 'down');
});

test('case 67: a writer\'s own older answers do not stand in for him', async (t) => {
    const stand = await open(t);
    count(stand, 'sturdy67');
    count(stand, 'write67');
    await stand.fill(callTool('sturdy67', {}));
    await (await stand.ask(callTool('write67', { id: 'a' }))).body();
    await lapse();
    stand.upstream.on('sturdy67', FAILS[503]);
    const answer = await stand.ask(callTool('sturdy67', {}));
    await answer.body();
    assert.equal(answer.status, 503);
});

// ---- what a hit says --------------------------------------------------------------------------------------------------------------------

test('case 72: a hit of server/discover is what the upstream said, to the byte, but for the remaining lifetime and what is told here', async (t) => {
    const stand = await open(t);
    const said = (ttl, resources = '{"listChanged":false}') => `{ "supportedVersions" : ["2026-07-28","2027-12-31-preview"],"resultType":"complete",  "capabilities":{"tools":{"listChanged":true},"resources":${resources},"x.vendor":{"a":1.0}},`
        + `"serverInfo":{"name":"s\\u00e9","version":"1","title":"T","extra":[1e3]},"instructions":"do","ttlMs":${ttl},"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}} }`;
    stand.upstream.on('server/discover', (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"result":${said(30_000)}}`));
    await stand.fill(modern('server/discover'));
    await sleep(1200);
    const hit = await stand.expect('hit', modern('server/discover', {}, { id: '"d"' }));
    const ttl = Number(/"ttlMs":(\d+)/.exec(hit.text)[1]);
    assert.ok(ttl > 20_000 && ttl <= 28_800, `ttlMs ${ttl}`);
    assert.equal(hit.text, `{"jsonrpc":"2.0","id":"d","result":${said(ttl, '{"subscribe":true,"listChanged":true}')}}`);
});

test('case 72: with subscriptions off, to the byte', async (t) => {
    const stand = await Stand.open({ t, policy: 'version: 1\n', flags: ['--subscriptions', 'off'] });
    const said = '{"resultType":"complete","capabilities":{"resources":{}},"supportedVersions":["2026-07-28"],"ttlMs":30000,"cacheScope":"public"}';
    stand.upstream.on('server/discover', (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"result":${said}}`));
    assert.equal(String(await (await stand.ask(modern('server/discover', {}, { id: '"d"' }))).body()), `{"jsonrpc":"2.0","id":"d","result":${said}}`);
});

// ---- streams that say nothing -----------------------------------------------------------------------------------------------------------

const IDLE = {
    '2025-03-26': { what: 'GET /mcp' },
    '2025-06-18': { what: 'GET /mcp' },
    '2025-11-25': { what: 'GET /mcp' },
    '2026-07-28': { what: 'subscriptions/listen', begins: notification('subscriptions/acknowledged', { notifications: {}, _meta: { 'io.modelcontextprotocol/subscriptionId': 1 } }) },
};
for (const [version, { what, begins }] of Object.entries(IDLE)) {
    test(`case 75: an idle stream outlives every timeout, the upstream's comments keep it alive, and nothing but comments is put into it (${version})`, async (t) => {
        const stand = await open(t, { flags: ['--first-byte-timeout', '1s', '--idle-timeout', '1s', '--write-timeout', '1s', '--body-timeout', '1s'] });
        stand.upstream.on(what, async (call) => {
            await call.stream();
            if (begins) await call.event(begins);
        });
        const connection = await stand.connect(t);
        const headers = { Accept: 'text/event-stream', Authorization: 'Bearer alpha', 'MCP-Protocol-Version': version };
        const answer = await connection.ask(begins ? modern(what, { notifications: {} }) : { method: 'GET', path: '/mcp', headers });
        const call = await stand.upstream.call(what);
        await sleep(2500);
        await call.sse(': still here\n\n');
        await answer.untilText(': still here\n\n');
        await sleep(1500);
        assert.equal(answer.ending, undefined, 'the stream is open');
        assert.equal(call.isGone, false);
        const lines = answer.text.split('\n').filter((line) => line !== '' && !line.startsWith(':'));
        assert.deepEqual(lines, begins ? ['event: message', `data: ${begins}`] : [], 'no event, no id, no empty data but the upstream\'s');
        const event = await call.event(notification('x'), { id: 'e-1' });
        await answer.untilText(event);
    });
}

// ---- refreshes --------------------------------------------------------------------------------------------------------------------------

const REFRESHES = {
    'modern': { call: (id) => callTool('brief76', {}, { id, meta: { progressToken: 'mine', [LOG]: 'debug', 'com.example/kept': 1 } }), result: (text) => complete(text) },
    'legacy session': { session: 's-76', call: (id) => legacy('tools/call', { name: 'brief76', arguments: {}, _meta: { progressToken: 'mine', 'com.example/kept': 1 } }, { id, session: 's-76' }), result: (text) => ({ content: [{ type: 'text', text }] }) },
};
for (const [era, { session: id, call, result }] of Object.entries(REFRESHES)) {
    test(`case 76: a refresh in the background is a request of the sidecar's own, with the caller's rights and without his tokens (${era})`, async (t) => {
        const { stand } = await session(t, id);
        stand.upstream.on('brief76', (asked) => asked.result(result(`brief76, ${stand.upstream.of('brief76').length}`)));
        await stand.fill(call('1'));
        await lapse();
        const stale = await stand.expect('stale', call('"x"'));
        assert.equal(await textIn(stale), 'brief76, 1');
        assert.match(stale.header('cache-status'), /^mcpcached; hit; ttl=-\d+; detail=stale$/);
        const refresh = await stand.upstream.call('brief76', 2);
        const first = stand.upstream.of('brief76')[0];
        assert.match(refresh.json.id, /^mcpcached-./, 'an id that no client has');
        assert.equal('progressToken' in refresh.json.params._meta, false);
        assert.equal(LOG in refresh.json.params._meta, false);
        const rest = (asked) => ({ ...asked.json, id: 0, params: { ...asked.json.params, _meta: { ...asked.json.params._meta, progressToken: 0, [LOG]: 0 } } });
        assert.deepEqual(rest(refresh), rest(first), 'for the rest what he had asked');
        for (const name of ['authorization', 'mcp-session-id', 'mcp-protocol-version', 'mcp-method', 'mcp-name', 'host', 'content-type']) assert.deepEqual(refresh.headerAll(name), first.headerAll(name), name);
        await until(async () => {
            const answer = await stand.ask(call('2'));
            const text = await textIn(answer);
            return text !== 'brief76, 1';
        }, { what: 'the new answer' });
    });
}

test('case 76: one refresh at a time, however many are served meanwhile; and it needs no client', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    count(stand, 'brief76');
    await stand.fill(callTool('brief76', {}));
    stand.upstream.on('brief76', async (asked) => {
        await gate.pass();
        await asked.result(complete('new'));
    });
    await lapse();
    for (let n = 0; n < 20; n++) assert.equal(await textIn(await stand.expect('stale', callTool('brief76', {}))), 'brief76, 1');
    const refresh = await stand.upstream.call('brief76', 2);
    await disconnectsAreNoticed(stand, t, 'hush76');
    assert.equal(refresh.isGone, false, 'nobody who was served waits for it');
    gate.open();
    await until(async () => (await textIn(await stand.ask(callTool('brief76', {})))) === 'new', { what: 'the new answer' });
    assert.equal(stand.upstream.of('brief76').length, 2);
});

test('case 76: a question of the server during a refresh in a legacy session: given up, and nobody hears of it', async (t) => {
    const { stand } = await session(t);
    const heard = await streamOf(stand, t, 'legacy');
    const call = (id) => legacyCall('brief76', {}, { id, session: 's-1' });
    stand.upstream.on('brief76', (asked) => asked.result({ content: [{ type: 'text', text: 'first' }] }));
    await stand.fill(call('1'));
    await lapse();
    const elicitation = '{"jsonrpc":"2.0","id":"srv-1","method":"elicitation/create","params":{"message":"Name?"}}';
    stand.upstream.on('brief76', async (asked) => {
        await asked.stream();
        await asked.event(elicitation);
    });
    await stand.expect('stale', call('2'));
    const refresh = await stand.upstream.call('brief76', 2);
    await refresh.gone(5000);
    const stale = await stand.ask(call('3'));
    assert.equal(await textIn(stale), 'first', 'nothing good was replaced');
    assert.ok(!stale.text.includes('elicitation'));
    assert.ok(!heard.answer.text.includes('elicitation'));
});

/** No whole answer, and no word of the upstream that there is none: what is there is better. */
const NOT_WHOLE = {
    ...FAILS,
    'isError': (call) => call.result(complete('no', { isError: true })),
    'input_required': (call) => call.result({ resultType: 'input_required', inputRequests: {} }),
};
for (const [how, fail] of Object.entries(NOT_WHOLE)) {
    test(`case 76: a refresh that fails replaces nothing (${how})`, async (t) => {
        const stand = await open(t, { flags: ['--first-byte-timeout', '500ms'] });
        count(stand, 'brief76');
        await stand.fill(callTool('brief76', {}));
        await lapse();
        stand.upstream.on('brief76', fail);
        for (let turn = 0; turn < 3; turn++) {
            assert.equal(await textIn(await stand.expect('stale', callTool('brief76', {}))), 'brief76, 1');
            await stand.upstream.call('brief76', 2);
            await stand.settle();
        }
        count(stand, 'brief76');
        await until(async () => {
            const text = await textIn(await stand.ask(callTool('brief76', {})));
            assert.match(text, /^brief76, \d+$/);
            return text !== 'brief76, 1';
        }, { what: 'the new answer' });
    });
}

const NOTHING_TO_KEEP = {
    'a JSON-RPC error': (call) => call.error(-32602, 'no'),
    'no-store': (call) => call.result(complete('secret'), { headers: { 'Cache-Control': 'no-store' } }),
};
for (const [how, reply] of Object.entries(NOTHING_TO_KEEP)) {
    test(`case 76: a refresh that brings an answer of its own is nobody's answer; who asks next asks the upstream (${how})`, async (t) => {
        const stand = await open(t);
        count(stand, 'brief76');
        await stand.fill(callTool('brief76', {}));
        await lapse();
        stand.upstream.on('brief76', reply);
        assert.equal(await textIn(await stand.expect('stale', callTool('brief76', {}))), 'brief76, 1');
        await (await stand.upstream.call('brief76', 2)).done;
        await stand.settle();
        const answer = await stand.ask(callTool('brief76', {}, { id: '"next"' }));
        assert.equal((await messageOf(answer)).id, 'next');
        assert.ok(!answer.text.includes('brief76, 1'), answer.text);
        assert.equal(stand.upstream.of('brief76').length, 3);
    });
}

for (const status of [401, 403]) {
    test(`case 76: a refresh that is refused (${status}) takes the entry with it`, async (t) => {
        const stand = await open(t);
        count(stand, 'brief76');
        await stand.fill(callTool('brief76', {}));
        await lapse();
        stand.upstream.on('brief76', (call) => call.reply(status, { 'WWW-Authenticate': 'Bearer' }, 'no'));
        await stand.expect('stale', callTool('brief76', {}));
        await stand.upstream.call('brief76', 2);
        await until(async () => {
            const answer = await stand.ask(callTool('brief76', {}));
            await answer.body();
            return answer.status === status;
        }, { what: 'the refusal to count' });
    });
}

// ---- what is not shared -----------------------------------------------------------------------------------------------------------------

for (const name of ['write78', 'unlisted78', 'hush78']) {
    test(`case 78: two identical calls at once of what is not cacheable are two calls (${name})`, async (t) => {
        const stand = await open(t);
        const gate = new Gate();
        stand.upstream.on(name, async (call) => {
            const text = String(stand.upstream.of(name).length);
            await gate.pass();
            await call.result(complete(text));
        });
        const both = await joinAll(stand, t, [callTool(name, { id: 'x' }), callTool(name, { id: 'x' })]);
        await stand.upstream.call(name, 2);
        gate.open(2);
        const texts = await Promise.all(both.map(async (waiting) => textIn(await waiting.answer())));
        assert.deepEqual(texts.toSorted(), ['1', '2']);
    });
}

test('case 78: an answer that varies by language is another one in another language, and those who wait together speak the same', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    const ask = (language, id) => callTool('read78', {}, { id, headers: { 'Accept-Language': language } });
    stand.upstream.on('read78', async (call) => {
        await gate.pass();
        await call.result(complete(call.header('accept-language')), { headers: { Vary: 'Accept-Language' } });
    });
    const { leader, followers: [same, other] } = await queue(stand, t, 'read78', ask('de', '1'), [ask('de', '2'), ask('fr', '3')]);
    await stand.upstream.call('read78', 2);
    gate.open(2);
    assert.deepEqual(await Promise.all([leader, same, other].map(async (waiting) => textIn(await waiting.answer()))), ['de', 'de', 'fr']);
    assert.equal(outcomeOf(await same.answering), 'collapsed');
    await stand.settle();
    assert.equal(await textIn(await stand.expect('hit', ask('fr', '4'))), 'fr');
    gate.open();
    assert.equal(await textIn(await stand.expect('miss', ask('it', '5'))), 'it');
});

test('case 78: Vary: * is kept for nobody, and shared with nobody', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('read78', async (call) => {
        const text = String(stand.upstream.of('read78').length);
        await gate.pass();
        await call.result(complete(text), { headers: { Vary: '*' } });
    });
    const { leader, followers } = await queue(stand, t, 'read78', callTool('read78', {}), [callTool('read78', {}), callTool('read78', {})]);
    assert.equal(stand.upstream.of('read78').length, 1, 'they wait');
    gate.open();
    assert.equal(await textIn(await leader.answer()), '1');
    await stand.upstream.call('read78', 3);
    gate.open(3);
    assert.deepEqual((await Promise.all(followers.map(async (waiting) => textIn(await waiting.answer())))).toSorted(), ['2', '3']);
    await stand.expect('miss', callTool('read78', {}), 'not kept');
    assert.equal(stand.upstream.of('read78').length, 4);
});
