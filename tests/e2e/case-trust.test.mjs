/* SPDX-License-Identifier: Apache-2.0 */
// How far the upstream itself is believed: a reply is stored only when it is whole, plain and an answer to just this request; whatever else comes is
// passed on as far as sense allows, once, to the one who asked. Each poisoned reply comes once; then a clean request has to reach the upstream.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { callTool, complete, contents, legacyCall, messageOf, modern, outcomeOf, raw, readResource } from './lib/rpc.mjs';
import { POLICY, Stand } from './lib/stand.mjs';
import { Gate, until } from './lib/wait.mjs';

let stand;
before(async () => (stand = await Stand.open({ flags: ['--max-entry', '64KiB', '--first-byte-timeout', '800ms'] })));
after(() => stand?.close());

const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};
const later = (promise) => {
    promise.catch(() => {});
    return promise;
};

// ---- S9: poison ---------------------------------------------------------------------------------------------------------------------

const EVIL = complete('evil');
const evil = (call, more = '') => `{"jsonrpc":"2.0","id":${call.id}${more},"result":${JSON.stringify(EVIL)}}`;
const asJson = (call, body, headers = {}, status = 200) => call.reply(status, { 'Content-Type': 'application/json', ...headers }, body);
const asEvents = async (call, events, headers) => {
    await call.stream(headers);
    for (const event of events) await call.event(event);
    await call.endStream();
};
/** Members of a result that make it no answer for others. */
const NOT_FOR_OTHERS = {
    'isError': { isError: true },
    'resultType input_required': { resultType: 'input_required', inputRequests: {} },
    'a requestState': { requestState: 'r' },
    'inputRequests': { inputRequests: { a: { method: 'elicitation/create' } } },
    'a task': { resultType: 'task', taskId: 't' },
    'a taskId': { taskId: 't' },
    'a related task': { _meta: { 'io.modelcontextprotocol/related-task': { taskId: 't' } } },
    'an unknown resultType': { resultType: 'x-foo' },
    'no resultType': { resultType: undefined },
};
const POISONS = {
    ...Object.fromEntries([201, 202, 203, 204, 206, 301, 400, 401, 403, 404, 408, 413, 429, 431, 500, 502, 503, 504].map((status) => [`status ${status}`, (call) => asJson(call, status === 204 ? '' : evil(call), {}, status)])),
    'a JSON-RPC error': (call) => asJson(call, `{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"evil"}}`),
    'an error beside the result': (call) => asJson(call, evil(call, ',"error":{"code":-32603,"message":"evil"}')),
    ...Object.fromEntries(Object.entries(NOT_FOR_OTHERS).map(([what, more]) => [what, (call) => call.result({ ...EVIL, ...more })])),
    ...Object.fromEntries(Object.entries(NOT_FOR_OTHERS).map(([what, more]) => [`${what}, in a stream`, (call) => call.result({ ...EVIL, ...more }, { via: 'sse' })])),
    'the id of another request': (call) => asJson(call, evil(call).replace(/"id":[^,]*/, '"id":4711')),
    'the id in another type': (call) => asJson(call, evil(call).replace(/"id":([^,]*)/, '"id":"$1"')),
    'the id null': (call) => asJson(call, evil(call).replace(/"id":[^,]*/, '"id":null')),
    'no id': (call) => asJson(call, evil(call).replace(/"id":[^,]*,/, '')),
    'an id with a fraction': (call) => asJson(call, evil(call).replace(/"id":([^,]*)/, '"id":$1.0')),
    'the id of another request, in a stream': (call) => asEvents(call, [evil(call).replace(/"id":[^,]*/, '"id":4711')]),
    'the id twice': (call) => asJson(call, evil(call).replace('"id"', '"id":9,"id"')),
    'the result twice': (call) => asJson(call, evil(call).replace('"result"', '"result":{"resultType":"complete","content":[]},"result"')),
    'two messages in one body': (call) => asJson(call, evil(call) + evil(call)),
    'two messages on two lines': (call) => asJson(call, `${evil(call)}\n${evil(call)}`),
    'an array of one': (call) => asJson(call, `[${evil(call)}]`),
    'an array of two': (call) => asJson(call, `[${evil(call)},${evil(call)}]`),
    'another jsonrpc': (call) => asJson(call, evil(call).replace('"2.0"', '"1.0"')),
    'no jsonrpc': (call) => asJson(call, evil(call).replace('"jsonrpc":"2.0",', '')),
    'a method beside the result': (call) => asJson(call, evil(call, ',"method":"tools/call"')),
    'a result that is no object': (call) => asJson(call, `{"jsonrpc":"2.0","id":${call.id},"result":"evil"}`),
    'the result null': (call) => asJson(call, `{"jsonrpc":"2.0","id":${call.id},"result":null}`),
    'nothing': (call) => asJson(call, ''),
    'white space': (call) => asJson(call, ' \n '),
    'half a message': (call) => asJson(call, evil(call).slice(0, -3)),
    'bytes after the message': (call) => asJson(call, `${evil(call)}x`),
    'a byte order mark': (call) => asJson(call, `\ufeff${evil(call)}`),
    'UTF-16': (call) => asJson(call, Buffer.from(evil(call), 'utf16le')),
    'invalid UTF-8': (call) => asJson(call, Buffer.concat([Buffer.from(evil(call).slice(0, -6)), Buffer.from([0xff]), Buffer.from(evil(call).slice(-6))])),
    'a comment': (call) => asJson(call, `/* x */${evil(call)}`),
    'NaN': (call) => asJson(call, evil(call).replace('"evil"', 'NaN')),
    'nesting without end': (call) => asJson(call, evil(call).replace('"evil"', '['.repeat(100_000) + ']'.repeat(100_000)).slice(0, 60_000)),
    'text/plain': (call) => call.reply(200, { 'Content-Type': 'text/plain' }, evil(call)),
    'text/html': (call) => call.reply(200, { 'Content-Type': 'text/html' }, evil(call)),
    'no Content-Type': (call) => call.reply(200, {}, evil(call)),
    'two Content-Types': (call) => call.reply(200, { 'Content-Type': ['application/json', 'text/html'] }, evil(call)),
    'problem+json': (call) => call.reply(200, { 'Content-Type': 'application/problem+json' }, evil(call)),
    'JSON in UTF-16 by its header': (call) => call.reply(200, { 'Content-Type': 'application/json; charset=utf-16' }, evil(call)),
    'gzip': (call) => asJson(call, gzipSync(evil(call)), { 'Content-Encoding': 'gzip' }),
    'brotli': (call) => asJson(call, brotliCompressSync(evil(call)), { 'Content-Encoding': 'br' }),
    'an encoding that is only said': (call) => asJson(call, evil(call), { 'Content-Encoding': 'x-unknown' }),
    'gzip that is not said': (call) => asJson(call, gzipSync(evil(call))),
    'part of it': (call) => asJson(call, evil(call), { 'Content-Range': 'bytes 0-10/100' }, 206),
    'Set-Cookie': (call) => asJson(call, evil(call), { 'Set-Cookie': 'sid=evil' }),
    'Set-Cookie, in a stream': (call) => asEvents(call, [evil(call)], { 'Set-Cookie': 'sid=evil' }),
    'Vary: *': (call) => asJson(call, evil(call), { Vary: '*' }),
    'Vary: * among others': (call) => asJson(call, evil(call), { Vary: ['Accept', 'Origin, *'] }),
    'Vary: *, in a stream': (call) => asEvents(call, [evil(call)], { Vary: '*' }),
    'Vary by something unkeyed': (call) => asJson(call, evil(call), { Vary: 'X-Secret' }),
    'Cache-Control: no-store': (call) => asJson(call, evil(call), { 'Cache-Control': 'no-store' }),
    'more than the limit': (call) => call.result(complete(`evil ${'x'.repeat(100_000)}`)),
    'more than the limit, in a stream': (call) => call.result(complete(`evil ${'x'.repeat(100_000)}`), { via: 'sse' }),
    'more than the limit, in chunks': async (call) => {
        await call.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        for (const piece of evil(call).replace('evil', 'x'.repeat(100_000)).match(/.{1,10000}/gs)) await call.chunk(piece);
        await call.endChunks();
    },
    'a body that ends before its length': async (call) => {
        await call.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${evil(call).length + 1}\r\n\r\n${evil(call)}`);
        call.close();
    },
    'chunks without their end': async (call) => {
        await call.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await call.chunk(evil(call));
        call.close();
    },
    'chunks without their end, by a reset': async (call) => {
        await call.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await call.chunk(evil(call));
        await call.consumed();
        call.reset();
    },
    'two lengths': async (call) => {
        await call.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${evil(call).length}\r\nContent-Length: ${evil(call).length + 7}\r\n\r\n${evil(call)}garbage`);
        call.close();
    },
    'an event that is only half there': async (call) => {
        await call.stream();
        await call.sse(`data: ${evil(call)}\n`);
        await call.endStream();
    },
    'a stream that ends before its answer': (call) => asEvents(call, ['{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"evil"}}']),
    'a question of the server\'s in the stream': (call) => asEvents(call, ['{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}', evil(call)]),
    'an event that is no JSON before the answer': (call) => asEvents(call, ['{"jsonrpc"', evil(call)]),
    'two different answers in one stream': (call) => asEvents(call, [evil(call), evil(call).replace('evil', 'worse')]),
    'the same answer twice in one stream': (call) => asEvents(call, [evil(call), evil(call)]),
    'an answer and then an error in one stream': (call) => asEvents(call, [evil(call), `{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"no"}}`]),
};
for (const rule of ['shared', 'read']) {
    test(`S9: each poisoned reply comes once, to the one who asked; then a clean request goes upstream (${rule})`, async (t) => {
        for (const [n, [what, poison]] of Object.entries(POISONS).entries()) {
            await t.test(what, async () => {
                const name = `${rule}-s9-${n}`;
                let asked = 0;
                stand.upstream.on(name, (call) => ((asked += 1) === 1 ? poison(call) : call.result(complete('clean'))));
                const first = await stand.ask(callTool(name, {}));
                await first.finished;
                assert.notEqual(outcomeOf(first), 'hit');
                assert.ok(!/stored/.test(first.header('cache-status') ?? ''), first.header('cache-status'));
                await stand.settle();
                const second = await stand.expect('miss', callTool(name, {}));
                assert.equal(await textIn(second), 'clean');
                assert.equal(asked, 2, 'the clean request reached the upstream');
                await stand.settle();
                assert.equal(await textIn(await stand.expect('hit', callTool(name, {}))), 'clean', 'and what it got is kept');
            });
        }
    });
}

test('S9: nor does a poisoned reply push out the good one that others have', async () => {
    // Two ask for what everybody may read, at once; the second gets poison. The first one's answer may be lost, it may not turn into the second.
    const turned = [];
    for (const [n, [what, poison]] of Object.entries(POISONS).entries()) {
        const name = `shared-s9-late-${n}`;
        const held = [];
        stand.upstream.on(name, (call) => held.push(call));
        const asking = ['alpha', 'beta'].map((token) => later(stand.ask(callTool(name, {}, { token }))));
        await until(() => held.length === 2, { everyMs: 1, what: 'both calls' });
        await held[0].result(complete('good'));
        await poison(held[1]);
        for (const answer of await Promise.allSettled(asking)) await answer.value?.finished;
        await stand.settle();
        stand.upstream.on(name, (call) => call.result(complete('good')));
        const third = await stand.ask(callTool(name, {}, { token: 'alpha' }));
        if ((await textIn(third)) !== 'good') turned.push(what);
    }
    assert.deepEqual(turned, []);
});

const leg = (name, more) => modern('tools/call', { name, arguments: {}, ...more });
const legacyLeg = (name, more) => ({ ...legacyCall(name, {}), body: legacyCall(name, {}).body.replace('"arguments":{}', `"arguments":{},"task":${JSON.stringify(more.task)}`) });
test('S9: a continuation of a call, and a task, are answered to their own client alone', async () => {
    for (const [n, more] of [{ inputResponses: {} }, { requestState: 's' }, { task: { ttl: 60_000 } }].entries()) {
        const name = `shared-s9-leg-${n}`;
        stand.upstream.on(name, (call) => call.result(complete(call.json.params.inputResponses || call.json.params.requestState || call.json.params.task ? 'evil' : 'clean')));
        await (await stand.ask((n === 2 ? legacyLeg : leg)(name, more))).body();
        await stand.settle();
        assert.equal(await textIn(await stand.expect('miss', callTool(name, {}))), 'clean');
    }
});

test('S9: a second reply behind the first is an answer to nobody', async (t) => {
    const own = await Stand.open({ t, policy: POLICY });
    let planted = 0;
    own.upstream.on('write-plant', async (call) => {
        // A whole second reply behind the first: the next request on this connection would find it there.
        const body = `{"jsonrpc":"2.0","id":1,"result":${JSON.stringify(EVIL)}}`;
        const one = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        planted += 1;
        await call.write(one + one);
        call.finish();
    });
    own.upstream.on('read-victim', (call) => call.result(complete('mine')));
    for (let n = 0; n < 5; n++) {
        await (await own.ask(callTool('write-plant', { n }))).body();
        assert.equal(await textIn(await own.expect('miss', callTool('read-victim', { n }))), 'mine');
        assert.equal(await textIn(await own.expect('hit', callTool('read-victim', { n }))), 'mine');
    }
    assert.equal(planted, 5);
});

// ---- S8: whose reply is it ------------------------------------------------------------------------------------------------------------

const CROSSED = 24;
for (const [what, order] of [['each other\'s replies', (n) => (n + 1) % CROSSED], ['their own replies in any order', (n) => n]]) {
    test(`S8: an upstream gives requests on kept connections ${what}: nothing is kept under another's name`, async (t) => {
        const own = await Stand.open({ t });
        // Connections that have served before: what follows travels on kept ones.
        const gate = new Gate();
        own.upstream.on('read-warm', async (call) => (await gate.pass(), call.result(complete('warm'))));
        const warming = Array.from({ length: CROSSED }, (_, n) => later(own.ask(callTool('read-warm', { n }))));
        await own.upstream.call('read-warm', CROSSED);
        gate.open(Infinity);
        for (const answer of await Promise.all(warming)) await answer.body();
        const connections = own.upstream.connections;

        const held = new Map();
        own.upstream.on('read-crossed', (call) => held.set(call.json.params.arguments.n, call));
        const asking = Array.from({ length: CROSSED }, (_, n) => later(own.ask(callTool('read-crossed', { n }, { id: `${1000 + n}` }))));
        await until(() => held.size === CROSSED, { everyMs: 2, what: 'all calls' });
        assert.ok(own.upstream.connections < connections + CROSSED, 'kept connections were used');
        const bodyOf = (n) => `{"jsonrpc":"2.0","id":${1000 + n},"result":${JSON.stringify(complete(`number ${n}`))}}`;
        const turns = [...held.keys()].sort(() => Math.random() - 0.5);
        for (const n of turns) await held.get(n).reply(200, { 'Content-Type': 'application/json' }, bodyOf(order(n)));
        for (const answer of await Promise.all(asking)) {
            await answer.finished;
            if (order(0) !== 0) assert.ok(!/stored/.test(answer.header('cache-status') ?? ''), answer.header('cache-status'));
        }
        await own.settle();

        // Now it behaves. Whoever asks gets his own, and a hit is only ever his own.
        own.upstream.on('read-crossed', (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"result":${JSON.stringify(complete(`number ${call.json.params.arguments.n}`))}}`));
        for (let round = 0; round < 2; round++) {
            for (let n = 0; n < CROSSED; n++) {
                const answer = await own.ask(callTool('read-crossed', { n }, { id: `${n}` }));
                const message = await messageOf(answer);
                assert.deepEqual([message.id, message.result.content[0].text], [n, `number ${n}`], answer.header('cache-status'));
                if (round === 0) assert.equal(outcomeOf(answer), order(0) === 0 ? 'hit' : 'miss');
            }
        }
    });
}

test('S8: a client that leaves takes its upstream connection along: what still comes on it answers nobody', async (t) => {
    const own = await Stand.open({ t });
    for (let n = 0; n < 5; n++) {
        const name = `read-left-${n}`;
        own.upstream.on(name, () => {});
        const leaver = await own.connect(t);
        await leaver.send(callTool(name, {}));
        const held = await own.upstream.call(name);
        if (n % 2) leaver.reset();
        else leaver.close();
        await held.gone();
        own.upstream.on('read-next', (call) => call.result(complete('mine')));
        // The late reply goes into a connection that nobody reads.
        await held.write(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`);
        const next = await own.expect('miss', callTool('read-next', { n }));
        assert.equal(await textIn(next), 'mine');
        assert.notEqual(own.upstream.of('read-next').at(-1).connection, held.connection);
    }
});

test('S8: a call that takes too long is given up together with its connection', async () => {
    for (let n = 0; n < 2; n++) {
        const name = `read-late-${n}`;
        stand.upstream.on(name, () => {});
        const answer = await stand.ask(callTool(name, {}, { id: '"late"' }));
        assert.equal(answer.status, 504);
        assert.equal((await answer.json()).id, 'late');
        const held = stand.upstream.of(name)[0];
        await held.gone();
        await held.result(complete('too late'));
        stand.upstream.on(name, (call) => call.result(complete('in time')));
        const next = await stand.expect('miss', callTool(name, {}));
        assert.equal(await textIn(next), 'in time');
        assert.notEqual(stand.upstream.of(name)[1].connection, held.connection);
    }
});

test('S8: a stream that breaks off in the middle takes its connection along, and is not kept', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('read-broken', async (call) => {
        await call.stream();
        await call.event('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}');
        await call.consumed();
        call.reset();
    });
    const answer = await own.ask(callTool('read-broken', {}));
    await answer.finished;
    assert.equal(answer.ending, 'cut');
    own.upstream.on('read-broken', (call) => call.result(complete('whole')));
    assert.equal(await textIn(await own.expect('miss', callTool('read-broken', {}))), 'whole');
});

// ---- cases 12 and 15 ------------------------------------------------------------------------------------------------------------------

for (const via of ['json', 'sse']) {
    test(`case 12: everybody's at first, private later, for the same question: the public answer is gone, the second token misses (${via})`, async () => {
        const uri = `doc://12-${via}`;
        let scope = 'public';
        stand.upstream.on(uri, (call) => call.result(contents(uri, `${scope} for ${call.header('authorization')}`, { ttlMs: 60_000, cacheScope: scope }), { via }));
        const read = (token) => readResource(uri, { token });
        await stand.fill(read('alpha'));
        await stand.expect('miss:unproven', read('beta'), 'not admitted yet');
        await stand.settle();
        await stand.expect('hit', read('alpha'), 'what beta has fetched is everybody\'s');
        await stand.expect('hit', read('beta'));
        scope = 'private';
        // A third caller, who has to be asked for, is the one who learns of it.
        await stand.expect('miss:unproven', read('gamma'));
        await stand.settle();
        assert.equal(await textIn(await stand.expect('miss', read('beta'))), 'private for Bearer beta');
        await stand.settle();
        for (const token of ['beta', 'gamma']) assert.equal(await textIn(await stand.expect('hit', read(token))), `private for Bearer ${token}`);
        assert.equal(await textIn(await stand.expect('miss', read('alpha'))), 'private for Bearer alpha');
    });

    test(`case 15: ttlMs 0 beside cacheScope public, and a policy that gives the time but no scope: private (${via})`, async (t) => {
        const own = await Stand.open({ t, policy: `${POLICY}  - { uri: "zero://**", ttl: 60s, despite_hints: true }\n  - { uri: "meant://**", ttl: 60s, despite_hints: true, scope: public }\n` });
        const own15 = async (uri, ttl) => {
            own.upstream.on(uri, (call) => call.result(contents(uri, call.header('authorization'), { ttlMs: raw(ttl), cacheScope: 'public' }), { via }));
            await own.fill(readResource(uri));
            await own.expect('hit', readResource(uri));
            // Beta is admitted for this very resource: only the scope stands between him and alpha's answer.
            await own.admit(readResource(uri, { token: 'beta' }));
            return own.ask(readResource(uri, { token: 'beta' }));
        };
        for (const ttl of ['0', '-1', 'null', '"60000"']) {
            const answer = await own15(`zero://${ttl.replaceAll('"', '')}`, ttl);
            assert.equal(await textIn(answer), 'Bearer beta', `ttlMs ${ttl}`);
            assert.equal(outcomeOf(answer), 'miss');
        }
        assert.equal(outcomeOf(await own15('zero://said', '60000')), 'hit', 'a server that gives it a life means what it says');
        assert.equal(outcomeOf(await own15('meant://0', '0')), 'hit', 'the operator\'s own word');
    });
}
