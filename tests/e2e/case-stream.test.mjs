/* SPDX-License-Identifier: Apache-2.0 */
// Streams and endings: events as the upstream writes them, clients that leave, upstreams that break.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { callTool, complete, legacy, legacyCall, messageOf, modern, outcomeOf, textOf } from './lib/rpc.mjs';
import { POLICY, Stand } from './lib/stand.mjs';
import { Scripted } from './lib/scripted.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { soon } from './lib/raw.mjs';
import { Gate, until } from './lib/wait.mjs';

let stand; // with all the time in the world: what ends there, ends because somebody left
let hasty; // gives an upstream one second to begin
before(async () => {
    stand = await Stand.open({ flags: ['--max-body', '4MiB', '--max-entry', '256KiB'] });
    hasty = await Stand.open({ flags: ['--connect-timeout', '2s', '--first-byte-timeout', '1s'] });
});
after(() => Promise.all([stand?.close(), hasty?.close()]));

const notification = (n) => `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":${n}}}`;
const final = (request, result) => `{"jsonrpc":"2.0","id":${request.id},"result":${textOf(result)}}`;

// ---- events as they are written -------------------------------------------------------------------------------------------

for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
    for (const name of ['read-live', 'write-live']) {
        test(`headers come before the first event, each event while the upstream holds the next (${name}, ${era})`, async () => {
            const tool = `${name}-${era}`;
            const gate = new Gate();
            const sent = [];
            stand.upstream.on(tool, async (request) => {
                await request.stream({ 'X-Accel-Buffering': 'no', 'X-Upstream': 'yes' });
                await gate.pass();
                for (let n = 1; n <= 3; n++) {
                    sent.push(await request.event(notification(n), n === 2 ? { type: '' } : {}));
                    await gate.pass();
                }
                sent.push(await request.event(final(request, complete('done'))));
                await gate.pass();
                await request.endStream();
            });
            const answer = await stand.ask(call(tool, {}));
            assert.equal(answer.status, 200);
            assert.match(answer.header('content-type'), /^text\/event-stream/);
            assert.equal(answer.header('x-upstream'), 'yes');
            assert.equal(outcomeOf(answer), name === 'read-live' ? 'miss' : 'bypass:unlisted');
            assert.equal(answer.text.replace(/^(:[^\n]*\n+)+/, ''), '', 'no event before the upstream wrote one');
            for (let n = 1; n <= 3; n++) {
                gate.open();
                await answer.untilText(`"progress":${n}`);
                assert.equal(gate.arrived, n + 1, 'the upstream is still held');
                assert.equal(answer.ending, undefined);
            }
            gate.open();
            await answer.untilText('"result"');
            assert.equal(answer.ending, undefined, 'the stream is as open as the upstream\'s');
            gate.open();
            const body = (await answer.body()).toString();
            assert.equal(body.replace(/^(:[^\n]*\n+)+/, ''), sent.join(''), 'the events as they were written');
            assert.equal(answer.ending, 'clean');
        });
    }
}

test('an idle stream outlives the first-byte timeout', async () => {
    const gate = new Gate();
    hasty.upstream.on('write-idle', async (request) => {
        await request.stream();
        await gate.pass();
        await request.event(final(request, complete('late')));
        await request.endStream();
    });
    hasty.upstream.on('GET /mcp?idle', async (request) => {
        await request.stream();
        await gate.pass();
        await request.event(notification(1));
        await request.endStream();
    });
    const answers = [await hasty.ask(callTool('write-idle', {})), await hasty.ask({ method: 'GET', path: '/mcp?idle', headers: { Accept: 'text/event-stream' } })];
    // A real wait, as the next test's: longer than --first-byte-timeout 1s.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    for (const answer of answers) assert.equal(answer.ending, undefined);
    gate.open(2);
    assert.equal((await messageOf(answers[0])).result.content[0].text, 'late');
    assert.ok((await answers[1].body()).includes(notification(1)));
});

test('a JSON body that pauses longer than the first-byte timeout arrives whole', async () => {
    const gate = new Gate();
    const text = JSON.stringify({ jsonrpc: '2.0', id: 1, result: complete('x'.repeat(1000)) });
    hasty.upstream.on('write-pause', async (request) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
        await request.write(text.slice(0, 500));
        await gate.pass();
        await request.write(text.slice(500));
        request.finish();
    });
    const asking = hasty.ask(callTool('write-pause', {}));
    await hasty.upstream.call('write-pause');
    await new Promise((resolve) => setTimeout(resolve, 1300));
    gate.open();
    assert.equal((await (await asking).body()).toString(), text);
});

// ---- clients that leave ---------------------------------------------------------------------------------------------------

const LEAVES = { 'a FIN': (connection) => connection.close(), 'an RST': (connection) => connection.reset() };

for (const [how, leave] of Object.entries(LEAVES)) {
    for (const tool of ['read-cancel', 'write-cancel']) {
        test(`modern: a client that leaves with ${how} before the answer began ends the upstream call at once (${tool})`, async (t) => {
            const name = `${tool}-${Object.keys(LEAVES).indexOf(how)}`;
            stand.upstream.on(name, () => {});
            const connection = await stand.connect(t);
            await connection.send(callTool(name, {}));
            const call = await stand.upstream.call(name);
            assert.equal(call.isGone, false);
            leave(connection);
            await call.gone(5000);
        });

        test(`modern: a client that leaves a stream with ${how} ends the upstream call at once (${tool})`, async (t) => {
            const name = `${tool}-stream-${Object.keys(LEAVES).indexOf(how)}`;
            stand.upstream.on(name, async (request) => {
                await request.stream();
                await request.event(notification(1));
            });
            const connection = await stand.connect(t);
            await connection.send(callTool(name, {}));
            const answer = await connection.answer();
            await answer.untilText('"progress":1');
            const call = await stand.upstream.call(name);
            assert.equal(call.isGone, false);
            leave(connection);
            await call.gone(5000);
        });
    }
}

test('modern: a listen stream ends upstream when the client leaves', async (t) => {
    stand.upstream.on('subscriptions/listen', async (request) => {
        await request.stream();
        await request.event('{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}');
    });
    const connection = await stand.connect(t);
    await connection.send(modern('subscriptions/listen', { notifications: {} }));
    const answer = await connection.answer();
    await answer.untilText('acknowledged');
    connection.close();
    await (await stand.upstream.call('subscriptions/listen')).gone(5000);
});

test('a GET stream ends upstream when the client leaves', async (t) => {
    stand.upstream.on('GET /mcp?leave', async (request) => {
        await request.stream();
        await request.event(notification(1), { id: 'e-1' });
    });
    const connection = await stand.connect(t);
    const answer = await connection.ask({ method: 'GET', path: '/mcp?leave', headers: { Accept: 'text/event-stream', 'Mcp-Session-Id': 's' } });
    await answer.untilText('id: e-1');
    connection.close();
    await (await stand.upstream.call('GET /mcp?leave')).gone(5000);
});

/** A modern client leaves now; when its upstream call has ended, the sidecar has dealt with every disconnect before it. */
async function disconnectsAreNoticed(t, name) {
    stand.upstream.on(name, () => {});
    const connection = await stand.connect(t);
    await connection.send(callTool(name, {}));
    const call = await stand.upstream.call(name);
    connection.close();
    await call.gone(5000);
}

for (const [n, via] of ['json', 'sse'].entries()) {
    for (const tool of ['read', 'write']) {
        test(`case 30: a legacy client that drops its connection does not cancel the upstream call (${tool}, ${via})`, async (t) => {
            const name = `${tool}30-${via}`;
            const gate = new Gate();
            const big = 'x'.repeat(200_000);
            stand.upstream.on(name, async (request) => {
                if (via === 'sse') {
                    await request.stream();
                    await request.event(notification(1));
                }
                await gate.pass();
                if (via === 'json') return request.result({ content: [{ type: 'text', text: big }] });
                for (let i = 0; i < 10; i++) await request.event(notification(i));
                await request.event(final(request, { content: [{ type: 'text', text: big }] }));
                await request.consumed();
                await request.endStream();
            });
            const connection = await stand.connect(t);
            await connection.send(legacyCall(name, {}));
            const call = await stand.upstream.call(name);
            if (via === 'sse') await (await connection.answer()).untilText('"progress":1');
            connection.close();
            await disconnectsAreNoticed(t, `read30-fence-${tool}-${via}-${n}`);
            assert.equal(call.isGone, false, 'the upstream call goes on');
            gate.open();
            await soon(call.done, 'the upstream to write its reply to the end');
            await call.consumed();
            assert.equal(call.isGone, false, 'read to its end');
            if (tool === 'read') {
                stand.upstream.on(name, (request) => request.result({ content: [] }, { via }));
                const next = await stand.ask(legacyCall(name, {}));
                assert.equal((await messageOf(next)).id, 1);
            }
        });
    }
}

test('case 30: a legacy stream with event ids is given up when the client leaves, for it may resume', async (t) => {
    stand.upstream.on('write30-ids', async (request) => {
        await request.stream();
        await request.event(notification(1), { id: 'event-1' });
    });
    const connection = await stand.connect(t);
    await connection.send(legacyCall('write30-ids', {}));
    const answer = await connection.answer();
    await answer.untilText('"progress":1');
    connection.close();
    await (await stand.upstream.call('write30-ids')).gone(5000);
});

// ---- server requests, resumption, batches ---------------------------------------------------------------------------------

test('case 31: an elicitation in the middle of a legacy call is relayed, so is its answer; the result is nobody else\'s', async () => {
    const elicitation = '{"jsonrpc":"2.0","id":"srv-1","method":"elicitation/create","params":{"message":"Name?","requestedSchema":{"type":"object","properties":{}}}}';
    const gate = new Gate();
    stand.upstream.on('read31', async (request) => {
        await request.stream();
        await request.event(elicitation);
        await gate.pass();
        await request.event(final(request, { content: [{ type: 'text', text: `time ${stand.upstream.of('read31').length}` }] }));
        await request.endStream();
    });
    stand.upstream.fallback = (request) => request.reply(202);
    for (let n = 1; n <= 2; n++) {
        const answer = await stand.ask(legacyCall('read31', {}));
        await answer.untilText(elicitation);
        const reply = legacy('unused', undefined, {});
        const body = '{"jsonrpc":"2.0","id":"srv-1","result":{"action":"accept","content":{}}}';
        const posted = await stand.ask({ ...reply, body });
        assert.equal(posted.status, 202);
        assert.equal((await posted.body()).length, 0);
        assert.equal(stand.upstream.calls.at(-1).text, body);
        gate.open();
        assert.equal((await messageOf(answer)).result.content[0].text, `time ${n}`);
        assert.equal(outcomeOf(answer), 'miss');
        await stand.settle();
    }
    assert.equal(stand.upstream.of('read31').length, 2);
});

test('case 32: a legacy stream that ends after its priming event ends for the client too; nothing is stored, the resumption passes', async () => {
    const priming = 'id: prime-1\nretry: 100\ndata: \n\n';
    stand.upstream.on('read32', async (request) => {
        await request.stream();
        await request.sse(priming);
        await request.endStream();
    });
    for (let n = 1; n <= 2; n++) {
        const answer = await stand.ask(legacyCall('read32', {}, { id: '"call-1"' }));
        assert.equal((await answer.body()).toString().replace(/^(:[^\n]*\n+)+/, ''), priming);
        assert.equal(answer.ending, 'clean');
        assert.equal(outcomeOf(answer), 'miss');
        await stand.settle();
        assert.equal(stand.upstream.of('read32').length, n);
    }
    const rest = `id: next-2\ndata: {"jsonrpc":"2.0","id":"call-1","result":{"content":[]}}\n\n`;
    stand.upstream.on('GET /mcp', async (request) => {
        await request.stream();
        await request.sse(rest);
        await request.endStream();
    });
    const resumed = await stand.ask({ method: 'GET', path: '/mcp', headers: { Accept: 'text/event-stream', 'Last-Event-ID': 'prime-1', 'Mcp-Session-Id': 's-32', Authorization: 'Bearer alpha' } });
    assert.equal((await resumed.body()).toString().replace(/^(:[^\n]*\n+)+/, ''), rest);
    const [get] = stand.upstream.of('GET /mcp');
    assert.equal(get.header('last-event-id'), 'prime-1');
    assert.equal(get.header('mcp-session-id'), 's-32');
    assert.equal(get.header('accept'), 'text/event-stream');
    await stand.settle();
    const again = await stand.ask(legacyCall('read32', {}));
    await again.body();
    assert.equal(outcomeOf(again), 'miss', 'a reply on another stream stores nothing');
});

/** A final response in unusual clothes; each is recognised, so the next call hits. */
const CLOTHES = {
    'CRLF': (json) => `event: message\r\ndata: ${json}\r\n\r\n`,
    'CR': (json) => `event: message\rdata: ${json}\r\r`,
    'no space after the colon': (json) => `data:${json}\n\n`,
    'data over several lines': (json) => `data: ${json.replace(/,"/g, ',\ndata: "')}\n\n`,
    'comments between': (json) => `: hello\n\n: still here\n\nevent: message\n: inside\ndata: ${json}\n:\n\n: bye\n\n`,
    'id and retry': (json) => `id: 7\nretry: 10\ndata: ${json}\n\n`,
    'an empty event before': (json) => `data: \n\ndata:\n\n\n\ndata: ${json}\n\n`,
    'an unknown field': (json) => `foo: bar\nfoo\ndata: ${json}\n\n`,
    'a byte order mark': (json) => `\ufeffdata: ${json}\n\n`,
    'notifications before': (json) => `data: ${notification(1)}\n\ndata: ${notification(2)}\n\ndata: ${json}\n\n`,
};
for (const [n, [what, dress]] of Object.entries(CLOTHES).entries()) {
    test(`case 33: a final response is recognised with ${what}, in one piece and byte by byte, and relayed as it is`, async () => {
        for (const cut of ['whole', 'bytes']) {
            const name = `read33-${n}-${cut}`;
            let sent;
            stand.upstream.on(name, async (request) => {
                sent = Buffer.from(dress(final(request, complete('split \u00e9 result'))));
                await request.stream();
                if (cut === 'whole') await request.sse(sent);
                else for (const byte of sent) await request.chunk([byte]);
                await request.endStream();
            });
            const fill = await stand.expect('miss', callTool(name, {}));
            assert.ok(fill.bytes.equals(sent) || fill.text.replace(/^(:\n\n)/, '') === sent.toString(), `${JSON.stringify(fill.text)} is ${JSON.stringify(sent.toString())}`);
            await stand.settle();
            const hit = await stand.expect('hit', callTool(name, {}, { id: '"other"' }), what);
            assert.deepEqual(JSON.parse(hit.text), { jsonrpc: '2.0', id: 'other', result: complete('split \u00e9 result') });
        }
    });
}

test('case 33: a final response split over TCP segments at every place is recognised', async () => {
    stand.upstream.on('read33-segments', async (request) => {
        const bytes = Buffer.from(`event: message\r\ndata: ${final(request, complete('x'))}\r\n\r\n`);
        const { at } = request.json.params.arguments;
        await request.stream();
        const framed = Buffer.from(`${bytes.length.toString(16)}\r\n${bytes}\r\n`);
        await request.writeApart([framed.subarray(0, at), framed.subarray(at)]);
        await request.endStream();
    });
    const length = `xx\r\nevent: message\r\ndata: {"jsonrpc":"2.0","id":1,"result":${JSON.stringify(complete('x'))}}\r\n\r\n`.length;
    // Every place around the framing and the ends; in the middle of the JSON one in six.
    const places = Array.from({ length: length - 1 }, (_, i) => i + 1).filter((at) => at < 32 || at > length - 9 || at % 6 === 0);
    await Promise.all(places.map((at) => stand.expect('miss', callTool('read33-segments', { at }))));
    await stand.settle();
    for (const at of places) await stand.expect('hit', callTool('read33-segments', { at }), `cut after byte ${at}`);
});

test('case 33: a JSON reply split over TCP segments, head included, is recognised', async () => {
    stand.upstream.on('read33-json', async (request) => {
        const body = final(request, complete('x'));
        const bytes = Buffer.from(`HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
        const { at } = request.json.params.arguments;
        await request.writeApart([bytes.subarray(0, at), bytes.subarray(at)]);
        request.finish();
    });
    const places = Array.from({ length: 18 }, (_, i) => 1 + i * 8);
    for (const at of places) await stand.expect('miss', callTool('read33-json', { at }));
    await stand.settle();
    for (const at of places) await stand.expect('hit', callTool('read33-json', { at }), `cut after byte ${at}`);
});

for (const via of ['json', 'sse']) {
    test(`case 33: a message with the same id value in another type is not the final response (${via})`, async () => {
        for (const [n, [asked, answered]] of [['1', '"1"'], ['"1"', '1'], ['1', '1.0'], ['1', '2'], ['1', 'null'], ['"a"', '"A"'], ['9007199254740993', '9007199254740992']].entries()) {
            const name = `read33-other-${n}-${via}`;
            stand.upstream.on(name, (request) => request.message(`{"jsonrpc":"2.0","id":${answered},"result":${JSON.stringify(complete('not yours'))}}`, { via }));
            const [answer] = await stand.expectNotStored(callTool(name, {}, { id: asked }));
            assert.ok(answer.text.includes(`"id":${answered}`), 'relayed as it is');
        }
    });
}

test('case 33: the wrong type of id first, the right one after it: the second is the response', async () => {
    stand.upstream.on('read33-second', async (request) => {
        await request.stream();
        await request.event(`{"jsonrpc":"2.0","id":"1","result":${JSON.stringify(complete('wrong'))}}`);
        await request.event(final(request, complete('right')));
        await request.endStream();
    });
    const first = await stand.expect('miss', callTool('read33-second', {}, { id: '1' }));
    assert.ok(first.text.includes('wrong') && first.text.includes('right'));
    await stand.settle();
    const second = await stand.ask(callTool('read33-second', {}, { id: '1' }));
    assert.ok((await second.body()).toString().includes('right'));
    if (outcomeOf(second) === 'hit') assert.equal(JSON.parse(second.text).result.content[0].text, 'right');
});

test('case 33: an id written with other escapes is the same id', async () => {
    stand.upstream.on('read33-escapes', (request) => request.message(`{"jsonrpc":"2.0","id":"\\u0061","result":${JSON.stringify(complete('x'))}}`));
    await stand.fill(callTool('read33-escapes', {}, { id: '"a"' }));
    await stand.expect('hit', callTool('read33-escapes', {}, { id: '"a"' }));
});

for (const via of ['json', 'sse']) {
    test(`case 34: a batch of 2025-03-26 and its reply pass whole, list_changed inside included (${via}; the purge is another issue's)`, async () => {
        const name = `read34-${via}`;
        stand.upstream.on(name, (request) => request.result({ content: [{ type: 'text', text: 'single' }] }, { via }));
        const single = legacyCall(name, {}, { version: '2025-03-26' });
        await stand.fill(single);
        const body = `[${single.body}, {"jsonrpc":"2.0","method":"notifications/x"},${legacyCall(name, {}, { id: '"two"' }).body}]`;
        const reply = `[{"jsonrpc":"2.0","id":1,"result":{"content":[]}},{"jsonrpc":"2.0","method":"notifications/tools/list_changed"},{"jsonrpc":"2.0","id":"two","result":{"content":[]}}]`;
        stand.upstream.fallback = (request) => (request.text === body ? request.message(reply, { via }) : request.reply(500));
        for (let n = 1; n <= 2; n++) {
            const before = stand.upstream.calls.length;
            const answer = await stand.expect('bypass:batch', { ...single, body });
            assert.equal(answer.status, 200);
            assert.equal(stand.upstream.calls.length, before + 1);
            if (via === 'json') assert.equal(answer.text, reply);
            else assert.ok(answer.text.includes(`data: ${reply}\n\n`), answer.text);
        }
    });
}

test('case 34: a batch that is empty, nested or of the modern era is the upstream\'s to refuse', async () => {
    stand.upstream.fallback = (request) => request.reply(400, { 'Content-Type': 'application/json' }, '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}');
    for (const body of ['[]', '[[]]', `[${callTool('read34', {}).body}]`, ' [ 1 ] ']) {
        const answer = await stand.ask({ ...callTool('read34', {}), body });
        assert.equal(answer.status, 400);
        assert.equal((await answer.json()).error.code, -32600);
        assert.match(outcomeOf(answer), /^bypass:(batch|opaque)$/);
        assert.equal(stand.upstream.calls.at(-1).text, body);
    }
});

// ---- upstreams that break -------------------------------------------------------------------------------------------------

async function ownError(answer, status, id) {
    assert.equal(answer.status, status);
    assert.match(answer.header('content-type'), /^application\/json/);
    const text = (await answer.body()).toString();
    assert.ok(text.includes(`"id":${id}`), `${text} carries the id ${id}`);
    const message = JSON.parse(text);
    assert.equal(message.jsonrpc, '2.0');
    assert.equal(message.error.code, -32603);
    assert.equal(typeof message.error.message, 'string');
    assert.equal('result' in message, false);
}

for (const [what, breakOff] of Object.entries({ 'resets the connection': (request) => request.reset(), 'closes the connection': (request) => request.close(), 'closes in the middle of the head': (request) => request.write('HTTP/1.1 200 OK\r\nContent-').then(() => request.close()) })) {
    for (const warm of [false, true]) {
        test(`case 66: a write whose upstream ${what}${warm ? ' (on a connection used before)' : ''} is not sent again: 502 with the request's id`, async (t) => {
            const own = await Stand.open({ t });
            if (warm) {
                own.upstream.on('transfer-warm', (request) => request.result(complete('x')));
                await (await own.ask(callTool('transfer-warm', {}))).body();
            }
            own.upstream.on('transfer', breakOff);
            const id = '"a\\u0062\\"c"';
            await ownError(await own.ask(callTool('transfer', { amount: 1 }, { id })), 502, id);
            await own.settle();
            assert.equal(own.upstream.of('transfer').length, 1, 'asked once and no more');
            const [call] = own.upstream.of('transfer');
            if (warm) assert.deepEqual([call.connection, call.position], [1, 2], 'it came on the connection used before');
            await own.sidecar.untilLogged((line) => /outcome=error\b/.test(line) && /reason=reset\b/.test(line), 'the error and its reason');
        });
    }
}

test('case 66: the same in the legacy era', async () => {
    stand.upstream.on('transfer-legacy', (request) => request.reset());
    await ownError(await stand.ask(legacyCall('transfer-legacy', {}, { id: '9007199254740993' })), 502, '9007199254740993');
    assert.equal(stand.upstream.of('transfer-legacy').length, 1);
});

test('an upstream that does not listen: 502 with the request\'s id, and the next call works when it does', async (t) => {
    const place = net.createServer();
    await new Promise((resolve) => place.listen(0, '127.0.0.1', resolve));
    const { port } = place.address();
    await new Promise((resolve) => place.close(resolve));
    const sidecar = await Sidecar.start(POLICY, { upstream: `http://127.0.0.1:${port}/mcp`, t });
    const down = new Stand();
    down.sidecar = sidecar;
    for (const [request, id] of [[callTool('read-down', {}, { id: '"x"' }), '"x"'], [callTool('transfer', {}, { id: '18446744073709551617' }), '18446744073709551617'], [legacy('tools/list', {}, { id: '3' }), '3']]) {
        await ownError(await down.ask(request), 502, id);
    }
    const get = await down.ask({ method: 'GET', path: '/other' });
    assert.equal(get.status, 502);
    await get.body();
    await sidecar.untilLogged((line) => /outcome=error\b/.test(line) && /reason=connect\b/.test(line));
    const upstream = await Scripted.start({ port });
    t.after(() => upstream.close());
    upstream.on('read-down', (request) => request.result(complete('up again')));
    assert.equal((await messageOf(await down.ask(callTool('read-down', {})))).result.content[0].text, 'up again');
});

test('an upstream that never answers: 504 with the request\'s id, its connection is given up', async () => {
    for (const [n, tool] of ['read-hang', 'transfer-hang'].entries()) {
        hasty.upstream.on(tool, () => {});
        await ownError(await hasty.ask(callTool(tool, {}, { id: `${n + 41}` })), 504, `${n + 41}`);
        await hasty.upstream.of(tool)[0].gone();
        assert.equal(hasty.upstream.of(tool).length, 1);
    }
});

test('an error of the sidecar\'s own is not stored', async () => {
    stand.upstream.on('read-once', (request) => (stand.upstream.of('read-once').length === 1 ? request.write('garbage\r\n\r\n').then(() => request.close()) : request.result(complete('fine'))));
    const first = await stand.ask(callTool('read-once', {}));
    await first.body();
    assert.ok(first.status === 502 || first.status === 200, `${first.status}`);
    await stand.settle();
    const second = await stand.ask(callTool('read-once', {}));
    assert.equal((await messageOf(second)).result.content[0].text, 'fine');
});

const TRUNCATED = {
    'a chunked JSON reply cut in a chunk': async (request, text) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await request.write(`${(text.length).toString(16)}\r\n${text.slice(0, 40)}`);
    },
    'a chunked JSON reply cut between chunks': async (request, text) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await request.chunk(text.slice(0, 40));
    },
    'a chunked JSON reply without its last chunk': async (request, text) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await request.chunk(text);
    },
    'a JSON reply shorter than its content-length': async (request, text) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
        await request.write(text.slice(0, -20));
    },
    'a JSON reply one byte short, the missing one white space': async (request, text) => {
        await request.head(200, { 'Content-Type': 'application/json', 'Content-Length': text.length + 1 });
        await request.write(text);
    },
    'an event stream cut in an event': async (request, text) => {
        await request.stream();
        await request.sse(`event: message\ndata: ${text}`);
    },
    'an event stream cut between events': async (request) => {
        await request.stream();
        await request.event(notification(1));
    },
};
for (const [n, [what, write]] of Object.entries(TRUNCATED).entries()) {
    for (const how of ['FIN', 'RST']) {
        for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
            test(`${what} (${how}, ${era}) is never stored, and the client sees that it broke`, async () => {
                const name = `read-cut-${n}-${how}-${era}`;
                stand.upstream.on(name, async (request) => {
                    await write(request, final(request, complete('a text that will not arrive whole')));
                    await request.consumed();
                    if (how === 'FIN') request.close();
                    else request.reset();
                });
                for (let time = 1; time <= 2; time++) {
                    const answer = await stand.ask(call(name, {})).catch((error) => (error.code === 'NO_ANSWER' ? null : Promise.reject(error)));
                    if (answer) {
                        await soon(answer.finished, 'the end of the answer');
                        if (answer.status === 200) assert.equal(answer.ending, 'cut', `a clean end after ${JSON.stringify(answer.text)}`);
                        else assert.equal(answer.status, 502);
                        assert.notEqual(outcomeOf(answer), 'hit');
                    }
                    await stand.settle();
                    assert.equal(stand.upstream.of(name).length, time);
                }
            });
        }
    }
}

test('a JSON reply that only the end of the connection delimits is relayed whole', async () => {
    stand.upstream.on('read-close', async (request) => {
        await request.head(200, { 'Content-Type': 'application/json', Connection: 'close' });
        await request.write(final(request, complete('to the end')));
        request.close();
    });
    const answer = await stand.ask(callTool('read-close', {}));
    assert.equal((await messageOf(answer)).result.content[0].text, 'to the end');
    await stand.settle();
    const again = await stand.ask(callTool('read-close', {}));
    assert.equal((await messageOf(again)).result.content[0].text, 'to the end');
});

const NOT_ONE_REPLY = {
    'two replies': (reply) => `${reply}${reply}`,
    'two replies with a line end between': (reply) => `${reply}\n${reply}`,
    'garbage after it': (reply) => `${reply}x`,
    'garbage before it': (reply) => `x${reply}`,
    'a byte order mark': (reply) => `\ufeff${reply}`,
    'a NUL after it': (reply) => `${reply}\0`,
    'half of it': (reply) => reply.slice(0, -5),
    'nothing': () => '',
    'a batch of one': (reply) => `[${reply}]`,
    'invalid UTF-8 in it': (reply) => Buffer.concat([Buffer.from(reply.replace(/"x"\}.*/, '"')), Buffer.from([0xff]), Buffer.from(reply.slice(reply.indexOf('"x"}') + 2))]),
    'result and error at once': (reply) => reply.replace(/\}$/, ',"error":{"code":1,"message":"x"}}'),
    'the result twice': (reply) => reply.replace(/\}$/, ',"result":{"resultType":"complete","content":[]}}'),
    'resultType twice': (reply) => reply.replace('"resultType":"complete"', '"resultType":"complete","resultType":"complete"'),
    'another jsonrpc': (reply) => reply.replace('"2.0"', '"1.0"'),
    'no jsonrpc': (reply) => reply.replace('"jsonrpc":"2.0",', ''),
    'HTML': () => '<html></html>',
};
for (const [n, [what, change]] of Object.entries(NOT_ONE_REPLY).entries()) {
    test(`a JSON body with ${what} is relayed as it is and not stored`, async () => {
        const name = `read-not-one-${n}`;
        let sent;
        stand.upstream.on(name, (request) => {
            sent = Buffer.from(change(final(request, complete('x'))));
            return request.reply(200, { 'Content-Type': 'application/json' }, sent);
        });
        const answers = await stand.expectNotStored(callTool(name, {}));
        for (const answer of answers) assert.deepEqual(answer.bytes, sent);
    });
}

test('a reply of another media type, or encoded, is relayed as it is and not stored', async () => {
    const kinds = [[{ 'Content-Type': 'text/plain' }, undefined], [{}, undefined], [{ 'Content-Type': 'application/problem+json' }, undefined], [{ 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3])], [{ 'Content-Type': 'application/json', 'Content-Encoding': 'br' }, undefined]];
    for (const [n, [headers, bytes]] of kinds.entries()) {
        const name = `read-kind-${n}`;
        stand.upstream.on(name, (request) => request.reply(200, headers, bytes ?? final(request, complete('x'))));
        for (const answer of await stand.expectNotStored(callTool(name, {}))) {
            assert.equal(answer.header('content-encoding'), headers['Content-Encoding']);
            assert.equal(answer.header('content-type'), headers['Content-Type']);
            assert.deepEqual(answer.bytes, Buffer.from(bytes ?? final({ id: 1 }, complete('x'))));
        }
    }
    stand.upstream.on('read-identity', (request) => request.result(complete('x'), { headers: { 'Content-Encoding': 'identity' } }));
    await stand.fill(callTool('read-identity', {}));
    stand.upstream.on('read-charset', (request) => request.reply(200, { 'content-type': 'Application/JSON; charset=utf-8' }, final(request, complete('x'))));
    await stand.fill(callTool('read-charset', {}));
    await stand.expect('hit', callTool('read-charset', {}));
});

// ---- size -----------------------------------------------------------------------------------------------------------------

for (const via of ['sse', 'json']) {
    test(`case 74: a result over the limit streams through to its client and is not stored (${via})`, async () => {
        const name = `read74-${via}`;
        const gate = new Gate();
        const result = complete('y'.repeat(1_000_000));
        stand.upstream.on(name, async (request) => {
            const text = via === 'sse' ? `event: message\ndata: ${final(request, result)}\n\n` : final(request, result);
            if (via === 'sse') await request.stream();
            else await request.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
            await request.chunk(text.slice(0, 700_000));
            await gate.pass();
            await request.chunk(text.slice(700_000));
            await request.endChunks();
        });
        for (let n = 1; n <= 2; n++) {
            const answer = await stand.ask(callTool(name, {}));
            await until(() => answer.bytes.length > 256 * 1024, { everyMs: 5, withinMs: 5000, what: `the beginning of what the upstream still writes; so far ${answer.bytes.length} bytes` });
            assert.equal(gate.arrived, n);
            gate.open();
            assert.deepEqual((await messageOf(answer)).result, result);
            assert.equal(outcomeOf(answer), 'miss');
            await stand.settle();
            assert.equal(stand.upstream.of(name).length, n);
        }
    });

    test(`case 74: two clients at once with a result over the limit each get theirs whole (${via})`, async () => {
        const name = `read74-two-${via}`;
        const result = complete('z'.repeat(1_000_000));
        stand.upstream.on(name, (request) => request.result(result, { via }));
        const answers = await Promise.all(['1', '"two"'].map((id) => stand.ask(callTool(name, {}, { id }))));
        const messages = await Promise.all(answers.map(messageOf));
        assert.deepEqual(messages.map((message) => message.id), [1, 'two']);
        for (const message of messages) assert.deepEqual(message.result, result);
    });

    test(`a result just under the limit is stored whole (${via})`, async () => {
        const name = `read-under-${via}`;
        stand.upstream.on(name, (request) => request.result(complete('\u00e9'.repeat(120_000)), { via }));
        await stand.fill(callTool(name, {}));
        const hit = await stand.expect('hit', callTool(name, {}));
        assert.deepEqual(JSON.parse(hit.text).result, complete('\u00e9'.repeat(120_000)));
    });
}

test('a request body over the limit is refused with a JSON-RPC error, one under it passes', async () => {
    stand.upstream.on('write-size', (request) => request.result(complete(`${request.body.length}`)));
    const fits = callTool('write-size', { text: 'x'.repeat(3_000_000) });
    assert.equal((await messageOf(await stand.ask(fits))).result.content[0].text, `${fits.body.length}`);
    const before = stand.upstream.calls.length;
    const answer = await stand.ask(callTool('write-size', { text: 'x'.repeat(5_000_000) })).catch((error) => error);
    if (answer instanceof Error) assert.match(answer.code ?? '', /NO_ANSWER|EPIPE|ECONNRESET/);
    else assert.equal(answer.status, 413);
    assert.equal(stand.upstream.calls.length, before);
});
