/* SPDX-License-Identifier: Apache-2.0 */
// Many ask for the same thing at the same moment. What counts is how often the upstream is asked, and that everybody has his answer when the first one has it. How fast that
// is `./dev bench herd` measures; here the bounds are wide enough for a slow build on a busy machine, and narrow enough that nobody waits in a row.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { queue } from './lib/crowd.mjs';
import { callTool, complete, contents, legacyCall, modern, outcomeOf, readResource, textOf } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const POLICY = `version: 1
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "read*", ttl: 60s }
  - { name: "shared*", ttl: 60s, scope: public }
  - { name: "brief*", ttl: 100ms }
`;
const TWO_LOOPS = ['--threads', '2'];
const open = (t, flags = TWO_LOOPS) => Stand.open({ t, policy: POLICY, flags: ['--insert-rate', '0', '--drain', '100ms', ...flags] });
const final = (call, result) => `{"jsonrpc":"2.0","id":${call.id},"result":${textOf(result)}}`;

/** Waits until nothing lies unread at the sidecar's sockets. */
async function untilRead(stand) {
    const port = Number(new URL(stand.origin).port).toString(16).toUpperCase().padStart(4, '0');
    await until(async () => {
        const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1).map((line) => line.trim().split(/\s+/));
        return lines.every(([, local, , , queues]) => !local?.endsWith(`:${port}`) || queues.endsWith(':00000000'));
    }, { everyMs: 5, what: 'the sidecar to read what was sent' });
    // What was read by one loop is told to another one in a turn or two.
    for (let n = 0; n < 4; n++) await stand.turn();
}

/** So many connections, open and used. */
async function herdOf(stand, t, size) {
    const herd = [];
    for (let n = 0; n < size; n++) herd.push(await stand.connect(t));
    await each(herd, 'turn', () => ({ method: 'GET', path: '/turn' }));
    return herd;
}

/** All ask at once. When and what each is answered; and when that was, from the first byte. */
async function each(herd, what, make) {
    const began = performance.now();
    const answers = await Promise.all(herd.map(async (connection, n) => {
        await connection.send(make(String(n + 1)));
        const answer = await connection.answer({ withinMs: 60_000 });
        await answer.finished;
        answer.atMs = performance.now() - began;
        answer.id = n + 1;
        assert.equal(answer.ending, 'clean', `${what}: ${answer.text.slice(-200)}`);
        return answer;
    }));
    const times = answers.map(({ atMs }) => atMs);
    return { answers, firstMs: Math.min(...times), lastMs: Math.max(...times) };
}

function expectEach(answers, result) {
    for (const { text, id, status } of answers) {
        assert.equal(status, 200);
        assert.equal(text, `{"jsonrpc":"2.0","id":${id},"result":${textOf(result)}}`);
    }
}

// ---- a thousand -------------------------------------------------------------------------------------------------------------------------

const LATENCY_MS = 1000;
const SHARED = {
    'complete, stored': { what: 'read-herd', ask: (id) => callTool('read-herd', {}, { id }), result: complete('once') },
    'isError': { what: 'read-herd', ask: (id) => callTool('read-herd', {}, { id }), result: complete('once', { isError: true }) },
    'without a lifetime': { what: 'doc://herd', ask: (id) => readResource('doc://herd', { id }), result: contents('doc://herd', 'once') },
};
for (const [title, { what, ask, result }] of Object.entries(SHARED)) {
    test(`a thousand ask at once (${title}): one upstream call, and all have the answer when the first one has it`, async (t) => {
        const stand = await open(t);
        const herd = await herdOf(stand, t, 1000);
        // What it takes to ask and answer a thousand times, here and now.
        stand.upstream.on('shared-burst', (call) => call.result(complete('burst')));
        await stand.fill(callTool('shared-burst', {}));
        const burst = await each(herd, 'burst', (id) => callTool('shared-burst', {}, { id }));
        assert.ok(burst.answers.every((answer) => outcomeOf(answer) === 'hit'));

        const gate = new Gate();
        stand.upstream.on(what, async (call) => {
            await gate.pass();
            await call.result(result);
        });
        const asking = each(herd, title, ask);
        await stand.upstream.call(what);
        await sleep(burst.lastMs);
        await untilRead(stand);
        const opened = performance.now();
        gate.open(Infinity);
        const { answers, firstMs, lastMs } = await asking;
        expectEach(answers, result);
        assert.equal(stand.upstream.of(what).length, 1, 'one call for all');
        const outcomes = answers.map(outcomeOf);
        assert.equal(outcomes.filter((outcome) => outcome === 'miss').length, 1, 'one led');
        assert.equal(outcomes.filter((outcome) => outcome === 'collapsed').length, 999);
        const limitMs = 50 + 2 * burst.lastMs;
        assert.ok(lastMs - firstMs < limitMs, `the last one came ${lastMs - firstMs} ms after the first; as many hits took ${burst.lastMs} ms`);
        t.diagnostic(`spread ${(lastMs - firstMs).toFixed(0)} ms, ${(performance.now() - opened).toFixed(0)} ms after the upstream's answer; a burst of hits ${burst.lastMs.toFixed(0)} ms`);
    });
}

test('three hundred ask at once for what is nobody else\'s: the first herd leaves together, the next one at once', async (t) => {
    const stand = await open(t);
    const herd = await herdOf(stand, t, 300);
    const ask = (id) => callTool('read-ask', {}, { id });
    const required = { resultType: 'input_required', inputRequests: { name: { method: 'elicitation/create', params: { message: 'Name?' } } } };
    stand.upstream.on('hurry', (call) => call.result(complete('x')));
    const burst = await each(herd, 'burst', (id) => callTool('hurry', {}, { id }));
    stand.upstream.on('read-ask', async (call) => {
        await sleep(LATENCY_MS);
        await call.result(required);
    });
    for (const [title, latencies] of [['the first herd', 2], ['the next herd', 1], ['the one after', 1]]) {
        const before = stand.upstream.of('read-ask').length;
        const { answers, lastMs } = await each(herd, title, ask);
        expectEach(answers, required);
        assert.equal(stand.upstream.of('read-ask').length - before, 300, title);
        const limitMs = (latencies + 0.5) * LATENCY_MS + 3 * burst.lastMs;
        t.diagnostic(`${title}: ${lastMs.toFixed(0)} ms with a latency of ${LATENCY_MS} ms; as many calls without it ${burst.lastMs.toFixed(0)} ms`);
        assert.ok(lastMs < limitMs, `${title}: ${lastMs} ms, more than ${limitMs}`);
    }
});

// ---- the outcome table, twenty at a time ------------------------------------------------------------------------------------------------

const SIZE = 20;

/** A leader whose call is held, the others behind him; then the gate is opened. `{answers, held}`: how many calls there were while it was closed. */
async function held(stand, t, herd, name, ask, reply) {
    const gate = new Gate();
    const before = stand.upstream.of(name).length;
    stand.upstream.on(name, async (call) => {
        await gate.pass();
        await reply(call);
    });
    const asking = each(herd, name, ask);
    asking.catch(() => {});
    await stand.upstream.call(name, before + 1);
    await untilRead(stand);
    const calls = stand.upstream.of(name).length - before;
    gate.open(Infinity);
    return { ...(await asking), held: calls, calls: stand.upstream.of(name).length - before };
}

const json = { 'Content-Type': 'application/json' };
const rpcError = (call, message) => `{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"${message}"}}`;

const ONE_FOR_ALL = {
    'a JSON-RPC error': { reply: (call) => call.error(-32000, 'no'), status: 200, error: { code: -32000, message: 'no' } },
    'a JSON-RPC error in a stream': { reply: (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32000,"message":"no","data":{"n":1.0}}}`, { via: 'sse' }), status: 200, error: { code: -32000, message: 'no', data: { n: 1 } } },
    '500': { reply: (call) => call.reply(500, json, rpcError(call, 'down')), status: 500 },
    '503': { reply: (call) => call.reply(503, { ...json, 'Retry-After': '3' }, rpcError(call, 'down')), status: 503 },
    '429': { reply: (call) => call.reply(429, { ...json, 'Retry-After': '3' }, rpcError(call, 'slow down')), status: 429 },
    // A kept connection may have been dead before: a read is sent again, on another one.
    'a reset': { reply: (call) => call.reset(), status: 502, most: 3 },
    'silence': { reply: () => {}, status: 504, flags: ['--first-byte-timeout', '1s'] },
};
for (const [what, { reply, status, error, flags = [], most = 1 }] of Object.entries(ONE_FOR_ALL)) {
    test(`those who wait together share a failure, once: ${what}`, async (t) => {
        const stand = await open(t, [...TWO_LOOPS, ...flags]);
        const herd = await herdOf(stand, t, SIZE);
        const { answers, calls } = await held(stand, t, herd, 'read-fails', (id) => callTool('read-fails', {}, { id }), reply);
        assert.ok(calls <= most, `${calls} calls: nobody tried again for himself`);
        for (const answer of answers) {
            assert.equal(answer.status, status);
            const sse = /^text\/event-stream/.test(answer.header('content-type'));
            const message = JSON.parse(sse ? answer.text.split('data: ')[1] : answer.text);
            assert.equal(message.id, answer.id);
            assert.equal('result' in message, false);
            if (error) assert.deepEqual(message.error, error);
            else assert.equal(typeof message.error.message, 'string');
        }
        // The next ones try again.
        stand.upstream.on('read-fails', (call) => call.result(complete('well')));
        const next = await stand.ask(callTool('read-fails', {}));
        assert.equal((await next.json()).result.content[0].text, 'well');
    });
}

test('those who wait together share a failure, once: an answer that breaks off', async (t) => {
    const stand = await open(t);
    const gate = new Gate();
    stand.upstream.on('read-breaks', async (call) => {
        await gate.pass();
        await call.head(200, { ...json, 'Content-Length': 1000 });
        await call.write('{"jsonrpc":"2.0",');
        call.close();
    });
    const { leader, followers } = await queue(stand, t, 'read-breaks', callTool('read-breaks', {}), Array.from({ length: SIZE }, (_, n) => callTool('read-breaks', {}, { id: `"f${n}"` })));
    await untilRead(stand);
    gate.open(Infinity);
    for (const [n, follower] of followers.entries()) {
        const answer = await follower.answer();
        const message = await answer.json();
        assert.ok(answer.status >= 500, `status ${answer.status}`);
        assert.equal(message.id, `f${n}`);
        assert.equal(typeof message.error.message, 'string');
    }
    // He may have had the head of it before; then it breaks off for him too, and never looks whole.
    const led = await leader.answering;
    await led.finished;
    assert.ok(led.ending === 'cut' || (await led.json()).error, `${led.status} ${led.text}`);
    assert.equal(stand.upstream.of('read-breaks').length, 1);
});

const EACH_HIS_OWN = {
    'input_required': (call) => call.result({ resultType: 'input_required', inputRequests: {} }),
    'a task': (call) => call.result({ resultType: 'task', taskId: call.id, ttlMs: 60_000 }),
    'an unknown resultType': (call) => call.result({ resultType: 'x-foo' }),
    'no-store': (call) => call.result(complete('x'), { headers: { 'Cache-Control': 'no-store' } }),
    'Set-Cookie': (call) => call.result(complete('x'), { headers: { 'Set-Cookie': 'a=b' } }),
    'Vary: *': (call) => call.result(complete('x'), { headers: { Vary: '*' } }),
    'another id': (call) => call.message('{"jsonrpc":"2.0","id":"stranger","result":{"resultType":"complete","content":[]}}'),
    'no JSON': (call) => call.reply(200, json, 'well'),
    'another type': (call) => call.reply(200, { 'Content-Type': 'text/plain' }, 'well'),
    'an encoded body': (call) => call.reply(200, { ...json, 'Content-Encoding': 'gzip' }, gzipSync(final(call, complete('x')))),
    'too much': (call) => call.result(complete('x'.repeat(100_000))),
    '400': (call) => call.reply(400, json, rpcError(call, 'bad')),
    '401': (call) => call.reply(401, { 'WWW-Authenticate': 'Bearer' }, 'who?'),
    '403': (call) => call.reply(403, {}, 'no'),
    '404': (call) => call.reply(404, {}, 'gone'),
};
for (const [what, reply] of Object.entries(EACH_HIS_OWN)) {
    test(`what is one exchange's own is nobody else's: ${what}; and the next herd does not wait for that`, async (t) => {
        const stand = await open(t, [...TWO_LOOPS, '--max-entry', '64KiB']);
        const herd = await herdOf(stand, t, SIZE);
        const ask = (id) => callTool('read-own', {}, { id });
        const first = await held(stand, t, herd, 'read-own', ask, reply);
        assert.equal(first.held, 1, 'they waited for the first one');
        assert.equal(first.calls, SIZE, 'and then went each for himself');
        const second = await held(stand, t, herd, 'read-own', ask, reply);
        assert.equal(second.held, SIZE, 'now nobody waits');
        assert.equal(second.calls, SIZE);
        for (const { answers } of [first, second]) {
            for (const answer of answers) {
                assert.notEqual(outcomeOf(answer), 'collapsed');
                if (['input_required', 'no-store', '400'].includes(what)) assert.equal((await answer.json()).id, answer.id);
                if (what === 'a task') assert.equal((await answer.json()).result.taskId, String(answer.id));
            }
        }
    });
}

test('what is one exchange\'s own is nobody else\'s: a question of the server in a legacy call', async (t) => {
    const stand = await open(t);
    const herd = await herdOf(stand, t, SIZE);
    const { answers, held: waited, calls } = await held(stand, t, herd, 'read-asks', (id) => legacyCall('read-asks', {}, { id }), async (call) => {
        await call.stream();
        await call.event('{"jsonrpc":"2.0","id":"srv-1","method":"elicitation/create","params":{"message":"Name?"}}');
        await call.event(final(call, { content: [{ type: 'text', text: `for ${call.id}` }] }));
        await call.endStream();
    });
    assert.equal(waited, 1);
    assert.equal(calls, SIZE);
    for (const answer of answers) assert.ok(answer.text.includes(`"text":"for ${answer.id}"`), answer.text);
});

test('the mark of what is nobody else\'s goes with the first answer that is kept', async (t) => {
    const stand = await open(t);
    const herd = await herdOf(stand, t, SIZE);
    const ask = (id) => callTool('brief-own', {}, { id });
    await held(stand, t, herd, 'brief-own', ask, (call) => call.result({ resultType: 'input_required', inputRequests: {} }));
    stand.upstream.on('brief-own', (call) => call.result(complete('x')));
    const kept = await stand.ask(ask('1'));
    await kept.body();
    await until(async () => {
        const answer = await stand.ask(ask('1'));
        await answer.body();
        return outcomeOf(answer) === 'hit';
    }, { everyMs: 1, what: 'it to be kept' });
    await sleep(150); // its lifetime
    const { held: waited, calls } = await held(stand, t, herd, 'brief-own', ask, (call) => call.result(complete('y')));
    assert.equal(waited, 1, 'they wait again');
    assert.equal(calls, 1);
});

// ---- who may wait with whom -------------------------------------------------------------------------------------------------------------

test('callers who wait for what turns out to be another\'s own get their own: nothing private crosses', async (t) => {
    const stand = await open(t);
    const herd = await herdOf(stand, t, SIZE);
    const who = (id) => (Number(id) % 2 ? 'alpha' : 'beta');
    for (const [name, headers] of [['shared-private', { 'Cache-Control': 'private' }], ['read-private', {}]]) {
        const { answers, calls } = await held(stand, t, herd, name, (id) => callTool(name, {}, { id, token: who(id) }), (call) => call.result(complete(call.header('authorization')), { headers }));
        for (const answer of answers) assert.equal((await answer.json()).result.content[0].text, `Bearer ${who(answer.id)}`);
        assert.ok(calls >= 2 && calls < SIZE, `${calls} calls for two callers`);
    }
    const { answers, calls } = await held(stand, t, herd, 'resources/list', (id) => modern('resources/list', {}, { id, token: who(id) }), (call) => call.result({ resultType: 'complete', resources: [{ uri: 'x:', name: call.header('authorization') }], ttlMs: 60_000, cacheScope: 'private' }));
    for (const answer of answers) assert.equal((await answer.json()).result.resources[0].name, `Bearer ${who(answer.id)}`);
    assert.ok(calls >= 2 && calls < SIZE, `${calls} calls for two callers`);
});

test('a stranger who waits for what becomes everybody\'s still has to be let in himself', async (t) => {
    const stand = await open(t);
    const herd = await herdOf(stand, t, SIZE);
    const who = (id) => (Number(id) % 2 ? 'alpha' : 'mallory');
    const { answers } = await held(stand, t, herd, 'shared-door', (id) => callTool('shared-door', {}, { id, token: who(id) }), (call) => (call.header('authorization') === 'Bearer alpha' ? call.result(complete('inside')) : call.reply(401, { 'WWW-Authenticate': 'Bearer' }, 'out')));
    for (const answer of answers) {
        assert.equal(answer.status, who(answer.id) === 'alpha' ? 200 : 401, answer.text);
        if (answer.status === 401) assert.equal(answer.text, 'out');
    }
});

test('who is over the limit of those who may wait for one fetch goes for himself', async (t) => {
    const stand = await open(t, ['--threads', '1', '--max-waiters', '5']);
    const herd = await herdOf(stand, t, SIZE);
    const { answers, held: waited } = await held(stand, t, herd, 'read-full', (id) => callTool('read-full', {}, { id }), (call) => call.result(complete('x')));
    expectEach(answers, complete('x'));
    assert.equal(answers.filter((answer) => outcomeOf(answer) === 'collapsed').length, 5);
    assert.equal(waited, SIZE - 5);
});
