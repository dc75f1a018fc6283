/* SPDX-License-Identifier: Apache-2.0 */
// What one client may cost: sizes of heads and bodies, time to send them, time to read the answer, depth of what they say. Over a limit there is the documented
// answer, as JSON-RPC, and the end of that connection; everybody else is served meanwhile. The timeouts are short here; each is noticed up to two seconds late.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { formatChunk, headerOne } from './lib/http1.mjs';
import { callTool, complete, legacyCall, messageOf, modern, outcomeOf, raw, textOf, withBody } from './lib/rpc.mjs';
import { Connection, soon } from './lib/raw.mjs';
import { Stand } from './lib/stand.mjs';
import { sleep, until } from './lib/wait.mjs';

const LIMIT_MS = 1000;
/** A busy machine is late; never is later. */
const LATEST_MS = LIMIT_MS + 6000;

let stand;
before(async () => {
    stand = await Stand.open({
        flags: ['--header-timeout', `${LIMIT_MS}ms`, '--body-timeout', `${LIMIT_MS}ms`, '--write-timeout', `${LIMIT_MS}ms`, '--max-body', '1MiB', '--max-header', '16KiB', '--max-entry', '1MiB'],
        fallback: (call) => (call.method === 'POST' ? call.result(complete(`answer to ${call.name}`)) : call.reply(200, { 'Content-Type': 'text/plain' }, `answer to ${call.target}`)),
    });
    await stand.fill(callTool('shared-warm', {}));
    await stand.fill(callTool('shared-large', {}));
});
after(() => stand?.close());

const host = 'Host: a.example';
const head = (...lines) => lines.flat().map((line) => `${line}\r\n`).join('') + '\r\n';
const fieldsOf = ({ headers }) => headers.map(([name, value]) => `${name}: ${value}`);
const wholeOf = (request) => head('POST /mcp HTTP/1.1', host, fieldsOf(request), `Content-Length: ${Buffer.byteLength(request.body)}`) + request.body;

/** The one answer of a connection that ends behind it; how long it took to end. */
async function lastAnswer(connection) {
    const answer = await connection.answer();
    await answer.body();
    assert.equal(headerOne(answer.headers, 'connection'), 'close');
    assert.equal(await soon(connection.source.ended, 'the end of the connection'), 'fin');
    assert.equal(await connection.source.some(), null, 'nothing behind the answer');
    return answer;
}

async function assertRefusal(answer, status, reason, id = null) {
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.header('content-type'), 'application/json');
    assert.equal(answer.header('cache-status'), reason ? `mcpcached; detail=${reason}` : undefined);
    assert.ok(Number.isInteger(Date.parse(answer.header('date'))));
    const message = await answer.json();
    assert.deepEqual({ jsonrpc: message.jsonrpc, id: message.id, code: message.error.code }, { jsonrpc: '2.0', id, code: -32600 });
    assert.ok(message.error.message.length > 10);
}

/** Others are served, hits and misses, while `during` goes on. */
let healthy = 0;
async function besides(during) {
    let isOver = false;
    const others = (async () => {
        while (!isOver) {
            const began = performance.now();
            const hit = await stand.ask(callTool('shared-warm', {}));
            await hit.body();
            assert.equal(outcomeOf(hit), 'hit');
            const tool = `shared-healthy-${(healthy += 1)}`;
            assert.equal((await messageOf(await stand.ask(callTool(tool, {})))).result.content[0].text, `answer to ${tool}`);
            assert.ok(performance.now() - began < 5000, `others waited ${performance.now() - began} ms`);
            await sleep(20);
        }
    })();
    try {
        return await Promise.race([during(), others.then(() => new Promise(() => {}))]);
    } finally {
        isOver = true;
        await others;
    }
}

describe('sizes', { concurrency: 8 }, () => {
    test('a body larger than --max-body gets 413 while its client still sends', async (t) => {
        const request = callTool('shared-too-large', { text: 'x'.repeat(6 << 20) });
        const connection = await Connection.open(stand.origin, t);
        const sent = connection.write(wholeOf(request)).catch(() => 'cut');
        await assertRefusal(await lastAnswer(connection), 413, 'body-size');
        await sent;
        assert.equal(stand.upstream.of('shared-too-large').length, 0);
        await stand.sidecar.untilLogged(/refused.* reason=body-size status=413/);
    });

    test('and so does one in chunks', async (t) => {
        const request = callTool('shared-too-large-chunks', { text: 'x'.repeat(3 << 20) });
        const connection = await Connection.open(stand.origin, t);
        const pieces = request.body.match(/[^]{1,65536}/g);
        const sent = (async () => {
            await connection.write(head('POST /mcp HTTP/1.1', host, fieldsOf(request), 'Transfer-Encoding: chunked'));
            for (const piece of pieces) await connection.write(formatChunk(piece));
            await connection.write('0\r\n\r\n');
        })().catch(() => 'cut');
        await assertRefusal(await lastAnswer(connection), 413, 'body-size');
        await sent;
        assert.equal(stand.upstream.of('shared-too-large-chunks').length, 0);
    });

    test('and the official way of asking sees it', async () => {
        for (let i = 0; i < 5; i++) {
            const answer = await fetch(stand.sidecar.url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: callTool('shared-too-large-fetch', { text: 'x'.repeat(2 << 20) }).body });
            assert.equal(answer.status, 413);
            assert.equal((await answer.json()).error.code, -32600);
        }
    });

    test('a body as large as --max-body passes', async () => {
        const request = callTool('shared-just-fits', { text: 'x' });
        const body = request.body.padEnd(1 << 20);
        assert.equal((await messageOf(await stand.ask(withBody(request, body)))).result.content[0].text, 'answer to shared-just-fits');
        assert.equal(stand.upstream.of('shared-just-fits')[0].body.length, 1 << 20);
    });

    test('an expectation that nobody knows gets 417', async (t) => {
        const request = callTool('shared-expects', {});
        const connection = await Connection.open(stand.origin, t);
        await connection.write(wholeOf({ ...request, headers: [...request.headers, ['Expect', 'miracles']] }) + wholeOf(callTool('shared-warm', {})));
        await assertRefusal(await lastAnswer(connection), 417);
        assert.equal(stand.upstream.of('shared-expects').length, 0);
    });

    test('headers larger than --max-header get 431 under the id of their request', async (t) => {
        for (const [id, expected] of [['"an id"', 'an id'], ['7', 7]]) {
            const request = callTool('shared-headers', {}, { id, headers: { 'X-Long': 'v'.repeat(16 << 10) } });
            const connection = await Connection.open(stand.origin, t);
            await connection.write(wholeOf(request) + wholeOf(callTool('shared-warm', {})));
            await assertRefusal(await lastAnswer(connection), 431, 'header-size', expected);
        }
        const many = callTool('shared-headers', {}, { id: '8', headers: Object.fromEntries(Array.from({ length: 80 }, (_, n) => [`X-${n}`, 'v'.repeat(250)])) });
        const legacy = legacyCall('shared-headers', {}, { id: '9', headers: { 'X-Long': 'v'.repeat(16 << 10) } });
        for (const [request, id] of [[many, 8], [legacy, 9], [withBody(many, 'no JSON'), null], [withBody(many, '[]'), null]]) {
            const connection = await Connection.open(stand.origin, t);
            await connection.write(wholeOf(request));
            await assertRefusal(await lastAnswer(connection), 431, 'header-size', id);
        }
        const get = await Connection.open(stand.origin, t);
        await get.write(head('GET /elsewhere HTTP/1.1', host, `X-Long: ${'v'.repeat(16 << 10)}`));
        await assertRefusal(await lastAnswer(get), 431, 'header-size');
        assert.equal(stand.upstream.of('shared-headers').length + stand.upstream.of('GET /elsewhere').length, 0);
    });

    test('headers below it pass, also to a hit', async () => {
        const headers = { 'X-Long': 'v'.repeat(15 << 10) };
        assert.equal((await stand.ask(callTool('shared-headers-fit', {}, { headers }))).status, 200);
        assert.equal(stand.upstream.of('shared-headers-fit')[0].header('x-long').length, 15 << 10);
    });

    test('headers without end get 431 before they have ended', async (t) => {
        for (const bytes of [
            `POST /mcp HTTP/1.1\r\n${host}\r\nX-Long: ${'v'.repeat(20 << 10)}`,
            `POST /${'v'.repeat(20 << 10)}`,
            `POST /mcp HTTP/1.1\r\n${host}\r\nX-Long: ${'v'.repeat(20 << 10)}\r\nContent-Length: 100\r\n\r\n{`,
        ]) {
            const connection = await Connection.open(stand.origin, t);
            await connection.write(bytes);
            await assertRefusal(await lastAnswer(connection), 431, 'header-size');
        }
    });

    test('more than a hundred headers, or a head of a megabyte, end in a closed connection', async (t) => {
        for (const bytes of [
            head('POST /mcp HTTP/1.1', host, Array.from({ length: 120 }, (_, n) => `X-${n}: v`), 'Content-Length: 2') + '{}',
            `POST /mcp HTTP/1.1\r\nX-Long: ${'v'.repeat(1 << 20)}`,
        ]) {
            const connection = await Connection.open(stand.origin, t);
            await connection.write(bytes + wholeOf(callTool('shared-warm', {}))).catch(() => {});
            const answer = await connection.answer().catch((error) => error);
            assert.ok(answer.code === 'NO_ANSWER' || [400, 431].includes(answer.status), `${answer.status}`);
            await soon(connection.source.ended, 'the end of the connection');
        }
    });
});

describe('time', { concurrency: 16 }, () => {
    /** Sends bytes one by one, until the connection ends. */
    async function trickle(connection, bytes, everyMs = 100) {
        for (const byte of bytes) {
            if (connection.source.ending) return;
            await connection.write(byte).catch(() => {});
            await sleep(everyMs);
        }
    }

    const request = (tool) => wholeOf(callTool(tool, {}));
    const bodyLess = (tool, bytes) => request(tool).slice(0, -bytes);
    const chunkedHead = (tool) => head('POST /mcp HTTP/1.1', host, fieldsOf(callTool(tool, {})), 'Transfer-Encoding: chunked');
    /** First bytes, then what trickles in behind them. */
    const SLOW = {
        'a request line that does not end': ['POST /mcp', 'x'.repeat(100), 'header'],
        'a head that does not end': [`POST /mcp HTTP/1.1\r\n${host}\r\nX-A:`, 'b'.repeat(100), 'header'],
        'a head of which nothing more comes': [`POST /mcp HTTP/1.1\r\n${host}\r\n`, '', 'header'],
        'one byte': ['P', '', 'header'],
        'a body that does not end': [bodyLess('shared-slow-1', 100), ' '.repeat(99), 'body'],
        'a body of which nothing more comes': [bodyLess('shared-slow-2', 1), '', 'body'],
        'a body that does not begin': [head('POST /mcp HTTP/1.1', host, 'Content-Length: 10'), '', 'body'],
        'chunks that do not end': [chunkedHead('shared-slow-3'), '1\r\n \r\n'.repeat(20), 'body'],
        'a chunk size that does not end': [`${chunkedHead('shared-slow-4')}5;`, 'x'.repeat(100), 'body'],
        'trailers that do not end': [`${chunkedHead('shared-slow-5')}2\r\n{}\r\n0\r\n`, 'A: b\r\n'.repeat(20), 'body'],
        'a body that is awaited with 100': [head('POST /mcp HTTP/1.1', host, 'Expect: 100-continue', 'Content-Length: 10'), '', 'body'],
    };
    for (const [what, [begin, more, part]] of Object.entries(SLOW)) {
        test(`${what}: 408 after --${part}-timeout, also behind a good request`, async (t) => {
            for (const isSecond of [false, true]) {
                const connection = await Connection.open(stand.origin, t);
                if (isSecond) {
                    await connection.write(request('shared-warm'));
                    await (await connection.answer()).body();
                }
                const began = performance.now();
                await connection.write(begin);
                const trickled = trickle(connection, more);
                const answer = await lastAnswer(connection);
                const tookMs = performance.now() - began;
                await assertRefusal(answer, 408, 'slow');
                assert.ok(tookMs >= LIMIT_MS && tookMs < LATEST_MS, `took ${tookMs} ms`);
                await trickled;
            }
            await stand.sidecar.untilLogged(new RegExp(`refused.* reason=slow status=408 why=${part}`));
        });
    }

    test('what becomes complete after its 408 is not acted upon', async (t) => {
        for (const [begin, rest] of [[request('shared-late').slice(0, -1), '}'], [request('shared-late').slice(0, 30), request('shared-late').slice(30)]]) {
            const connection = await Connection.open(stand.origin, t);
            await connection.write(begin);
            await connection.answer();
            await connection.write(rest + request('shared-late')).catch(() => {});
            assert.equal(await soon(connection.source.ended, 'the end of the connection'), 'fin');
        }
        await stand.turn();
        assert.equal(stand.upstream.of('shared-late').length, 0);
    });

    test('a slow request that is in time is answered, and an idle connection waits as long as it likes', async (t) => {
        const connection = await Connection.open(stand.origin, t);
        for (let i = 0; i < 2; i++) {
            await sleep(LIMIT_MS * 2.2);
            const bytes = request('shared-warm');
            await connection.write(bytes.slice(0, 50));
            await sleep(LIMIT_MS * 0.3);
            await connection.write(bytes.slice(50, -10));
            await sleep(LIMIT_MS * 0.3);
            await connection.write(bytes.slice(-10));
            const answer = await connection.answer();
            assert.equal((await answer.json()).result.content[0].text, 'answer to shared-warm');
        }
    });

    test('an answer that takes its time, and a stream that is silent, have nothing to do with it', async () => {
        stand.upstream.on('read-thinks', async (call) => {
            await sleep(LIMIT_MS * 3.5);
            await call.result(complete('at last'));
        });
        stand.upstream.on('read-silent', async (call) => {
            await call.stream();
            await call.event('{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}');
            await sleep(LIMIT_MS * 3.5);
            await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":${textOf(complete('at last'))}}`);
            await call.endStream();
        });
        await Promise.all(['read-thinks', 'read-silent'].map(async (tool) => {
            assert.equal((await messageOf(await stand.ask(callTool(tool, {})))).result.content[0].text, 'at last');
        }));
    });

    /** An upstream that sends as much as is taken, up to a limit. */
    function pours(name, bytes) {
        stand.upstream.on(name, async (call) => {
            await call.stream();
            const piece = `data: ${'x'.repeat(65_536)}\n\n`;
            for (let sent = 0; sent < bytes && !call.isGone; sent += piece.length) await Promise.race([call.sse(piece), call.gone(60_000)]);
            if (!call.isGone) await call.endStream();
        });
    }

    test('a client that never reads is cut off after --write-timeout, and its upstream with it', async (t) => {
        pours('read-poured', Infinity);
        const connection = await Connection.open(stand.origin, t);
        connection.socket.pause();
        const began = performance.now();
        await connection.write(request('read-poured'));
        const call = await stand.upstream.call('read-poured');
        await call.gone(15_000);
        assert.ok(performance.now() - began >= LIMIT_MS);
        await stand.sidecar.untilLogged(/ cut reason=slow unsent=[1-9]/);
        connection.socket.resume();
        const answer = await connection.answer();
        assert.equal(await soon(answer.finished, 'the end of the connection'), 'cut');
    });

    test('so is one that asks and asks for hits and reads none', async (t) => {
        stand.upstream.on('shared-heavy', (call) => call.result(complete('x'.repeat(900_000))));
        await stand.fill(callTool('shared-heavy', {}));
        const connection = await Connection.open(stand.origin, t);
        connection.socket.pause();
        await connection.write(request('shared-heavy').repeat(30));
        await until(() => stand.sidecar.log.filter((line) => / cut reason=slow/.test(line)).length >= 2, { what: 'the second cut' });
        connection.socket.resume();
        let last;
        for (let i = 0; i < 30 && last !== 'cut'; i++) last = await (await connection.answer()).finished;
        assert.equal(last, 'cut', 'an answer that is not whole does not look whole');
    });

    test('a client that reads slowly but steadily gets everything', async (t) => {
        pours('read-sipped', 12 << 20);
        const connection = await Connection.open(stand.origin, t);
        await connection.write(request('read-sipped'));
        const sipping = setInterval(() => {
            connection.socket.resume();
            setTimeout(() => connection.socket.pause(), 2);
        }, 250);
        t.after(() => clearInterval(sipping));
        const answer = await connection.answer();
        await sleep(LIMIT_MS * 3.5);
        clearInterval(sipping);
        connection.socket.resume();
        assert.ok((await answer.body()).length >= 12 << 20);
    });
});

describe('many at once', () => {
    const descriptors = () => readdirSync(`/proc/${stand.sidecar.pid}/fd`).length;

    test('two hundred connections that send a byte now and then hold up nobody and are gone after --header-timeout', async (t) => {
        await until(() => descriptors() < 60, { what: 'a quiet sidecar' });
        const before = descriptors();
        await besides(async () => {
            const slow = await Promise.all(Array.from({ length: 200 }, async (_, n) => {
                const connection = await Connection.open(stand.origin, t);
                await connection.write(n % 2 ? `POST /mcp HTTP/1.1\r\n${host}\r\nContent-Length: 100\r\n\r\n{` : 'POST /mcp HTTP/1.1\r\nX-');
                return connection;
            }));
            assert.ok(descriptors() >= before + 200);
            const drip = setInterval(() => slow.forEach((connection) => connection.source.ending || connection.socket.write('a', () => {})), 200);
            t.after(() => clearInterval(drip));
            for (const connection of slow) await assertRefusal(await lastAnswer(connection), 408, 'slow');
            clearInterval(drip);
            for (const connection of slow) connection.close();
        });
        await until(() => descriptors() <= before + 10, { what: 'their descriptors to be free' });
    });

    test('JSON that is a hundred thousand deep is forwarded as it came, and costs nobody anything', async () => {
        await besides(async () => {
            const depth = 100_000;
            const bodies = [
                callTool('shared-deep', { a: raw(`${'['.repeat(depth)}${']'.repeat(depth)}`) }).body,
                callTool('shared-deep', { a: raw(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`) }).body,
                '['.repeat(depth),
                `${'['.repeat(depth)}${']'.repeat(depth)}`,
                '{"a":'.repeat(depth),
            ];
            stand.upstream.on('shared-deep', (call) => call.reply(200, { 'Content-Type': 'application/json' }, '{}'));
            for (const body of bodies) {
                for (let i = 0; i < 2; i++) {
                    // Of a caller of its own: what cannot be read may be a write, after which its caller reads everything anew.
                    const answer = await stand.ask(withBody(callTool('shared-deep', {}, { token: 'deep' }), body));
                    await answer.body();
                    assert.match(outcomeOf(answer), /^bypass:/);
                    assert.equal(stand.upstream.calls.at(-1).text.length > 0, true);
                }
                assert.ok(stand.upstream.calls.filter((call) => call.text === body).length >= 2, 'forwarded byte for byte, twice');
            }
        });
    });

    test('a reply that is a hundred thousand deep is relayed, and not kept if it cannot be read', async () => {
        const depth = 100_000;
        const deep = `${'['.repeat(depth)}${']'.repeat(depth)}`;
        stand.upstream.on('shared-deep-reply', (call) => call.result(complete('x', { structuredContent: raw(deep) })));
        await besides(async () => {
            for (let i = 0; i < 2; i++) {
                const answer = await stand.ask(callTool('shared-deep-reply', {}));
                assert.ok((await answer.body()).toString().includes(deep));
                await stand.settle();
            }
        });
    });

    test('a request of the old era or of none is refused in the same form', async (t) => {
        for (const request of [legacyCall('shared-x', {}, { id: '3', headers: { 'X-Long': 'v'.repeat(17 << 10) } }), modern('tools/list', {}, { id: '3', headers: { 'X-Long': 'v'.repeat(17 << 10) } })]) {
            const connection = await Connection.open(stand.origin, t);
            await connection.write(wholeOf(request));
            await assertRefusal(await lastAnswer(connection), 431, 'header-size', 3);
        }
    });
});
