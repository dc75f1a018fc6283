/* SPDX-License-Identifier: Apache-2.0 */
// An upstream that speaks broken HTTP. Whatever it says, the client gets an answer that it can tell from a good one, nothing broken is kept,
// nobody gets bytes that were meant for another request, and the sidecar goes on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callTool, complete, messageOf, outcomeOf } from './lib/rpc.mjs';
import { soon } from './lib/raw.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, until } from './lib/wait.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const BODY = `{"jsonrpc":"2.0","id":1,"result":${JSON.stringify(complete('well'))}}`;
const head = (...fields) => `HTTP/1.1 200 OK\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`;
const JSON_TYPE = 'Content-Type: application/json';
const LENGTH = `Content-Length: ${BODY.length}`;
const CHUNKED = 'Transfer-Encoding: chunked';
const chunk = `${BODY.length.toString(16)}\r\n${BODY}\r\n`;

/** Replies after which the upstream closes. `mayPass`: a recipient may take it for a good reply. */
const REPLIES = {
    'no HTTP at all': { bytes: 'hello\r\n\r\n' },
    'only a status line': { bytes: 'HTTP/1.1 200 OK\r\n' },
    'a status that is none': { bytes: `HTTP/1.1 2x0 OK\r\n${JSON_TYPE}\r\n${LENGTH}\r\n\r\n${BODY}` },
    'a status of four digits': { bytes: `HTTP/1.1 2000 OK\r\n${JSON_TYPE}\r\n${LENGTH}\r\n\r\n${BODY}` },
    'a status of 0': { bytes: `HTTP/1.1 000 OK\r\n${JSON_TYPE}\r\n${LENGTH}\r\n\r\n${BODY}` },
    'another protocol': { bytes: `SIP/2.0 200 OK\r\n${JSON_TYPE}\r\n${LENGTH}\r\n\r\n${BODY}` },
    'HTTP/2 in clear': { bytes: Buffer.from('000012040000000000000300000064000400100000000600004000', 'hex') },
    'a TLS alert': { bytes: Buffer.from('15030100020228', 'hex') },
    'a header without a colon': { bytes: `${head(JSON_TYPE, LENGTH, 'nonsense')}${BODY}`, mayPass: true },
    'a header with a space before its colon': { bytes: `${head('Content-Type : application/json', LENGTH)}${BODY}`, mayPass: true },
    'a folded header': { bytes: `${head(JSON_TYPE, LENGTH, 'X-Fold: a\r\n b')}${BODY}`, mayPass: true },
    'a NUL in a header': { bytes: `${head(JSON_TYPE, LENGTH, 'X-Nul: a\0b')}${BODY}`, mayPass: true },
    'bare line feeds': { bytes: `${head(JSON_TYPE, LENGTH).replaceAll('\r', '')}${BODY}`, mayPass: true },
    'a thousand headers': { bytes: `${head(JSON_TYPE, LENGTH, ...Array.from({ length: 1000 }, (_, n) => `X-${n}: ${n}`))}${BODY}`, mayPass: true },
    'a header of 300 kB': { bytes: `${head(JSON_TYPE, LENGTH, `X-Long: ${'v'.repeat(300_000)}`)}${BODY}`, mayPass: true },
    'a head without end': { bytes: `HTTP/1.1 200 OK\r\n${'X-More: and more\r\n'.repeat(60_000)}` },
    'two different lengths': { bytes: `${head(JSON_TYPE, LENGTH, 'Content-Length: 5')}${BODY}` },
    'a negative length': { bytes: `${head(JSON_TYPE, 'Content-Length: -1')}${BODY}` },
    'a length with a sign': { bytes: `${head(JSON_TYPE, `Content-Length: +${BODY.length}`)}${BODY}` },
    'a length in hex': { bytes: `${head(JSON_TYPE, `Content-Length: 0x${BODY.length.toString(16)}`)}${BODY}` },
    'a length beyond 64 bits': { bytes: `${head(JSON_TYPE, 'Content-Length: 18446744073709551999')}${BODY}` },
    'a length far beyond what comes': { bytes: `${head(JSON_TYPE, 'Content-Length: 9000000000000000000')}${BODY}` },
    'a length and chunks': { bytes: `${head(JSON_TYPE, 'Content-Length: 5', CHUNKED)}${chunk}0\r\n\r\n`, mayPass: true },
    'a transfer coding nobody knows': { bytes: `${head(JSON_TYPE, 'Transfer-Encoding: snappy, chunked')}${chunk}0\r\n\r\n` },
    'a chunk size that overflows': { bytes: `${head(JSON_TYPE, CHUNKED)}FFFFFFFFFFFFFFFFF\r\n${BODY}` },
    'a negative chunk size': { bytes: `${head(JSON_TYPE, CHUNKED)}-5\r\n${BODY}\r\n0\r\n\r\n` },
    'a chunk size that is none': { bytes: `${head(JSON_TYPE, CHUNKED)}zz\r\n${BODY}\r\n0\r\n\r\n` },
    'a chunk longer than its size': { bytes: `${head(JSON_TYPE, CHUNKED)}5\r\n${BODY}\r\n0\r\n\r\n` },
    'a chunk without its line end': { bytes: `${head(JSON_TYPE, CHUNKED)}${BODY.length.toString(16)}\r\n${BODY}0\r\n\r\n` },
    'an endless chunk extension': { bytes: `${head(JSON_TYPE, CHUNKED)}5;${'x'.repeat(200_000)}` },
    'an upgrade that nobody asked for': { bytes: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n' },
    'interim replies and no other': { bytes: 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(50) },
    'a thousand interim replies, then a good one': { bytes: `${'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1000)}${head(JSON_TYPE, LENGTH)}${BODY}`, mayPass: true },
};

for (const [n, [what, { bytes, mayPass = false }]] of Object.entries(REPLIES).entries()) {
    test(`an upstream that answers with ${what}`, async () => {
        const name = `read-hostile-${n}`;
        stand.upstream.on(name, async (request) => {
            await request.write(bytes);
            request.close();
        });
        for (let time = 1; time <= 2; time++) {
            const answer = await stand.ask(callTool(name, {})).catch((error) => (error.code === 'NO_ANSWER' ? null : Promise.reject(error)));
            if (!answer) continue;
            await soon(answer.finished, 'the end of the answer');
            if (outcomeOf(answer) === 'hit') assert.ok(mayPass && time === 2, 'what is broken is not kept');
            if (answer.status === 200 && answer.ending !== 'cut') {
                assert.ok(mayPass, `a clean answer of ${JSON.stringify(answer.text.slice(0, 200))}`);
                assert.equal(answer.text, BODY, 'if it passes, then whole');
            } else if (answer.status !== 200) {
                assert.equal(answer.status, 502);
                assert.equal(JSON.parse(answer.text).id, 1);
            }
            await stand.settle();
        }
    });
}

test('bytes after a reply are nobody\'s answer', async (t) => {
    const own = await Stand.open({ t });
    const planted = `${head(JSON_TYPE, `Content-Length: ${BODY.length}`)}${BODY.replace('well', 'evil')}`;
    for (const [n, first] of [`${head(JSON_TYPE, LENGTH)}${BODY}`, `${head(JSON_TYPE, CHUNKED)}${chunk}0\r\n\r\n`, 'HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n', 'HTTP/1.1 204 No Content\r\n\r\n'].entries()) {
        for (const apart of [false, true]) {
            const name = `write-planted-${n}-${apart}`;
            const gate = new Gate();
            own.upstream.on(name, async (request) => {
                if (apart) {
                    await request.write(first);
                    await gate.pass();
                    await request.write(planted);
                } else {
                    await request.write(first + planted);
                }
                request.finish();
            });
            const answer = await own.ask(callTool(name, {}));
            await answer.body();
            gate.open();
            // Planted for good: what comes while the next request is under way, nobody could tell from its answer.
            await (await own.upstream.call(name)).done;
            own.upstream.on('write-victim', (request) => request.result(complete('mine')));
            for (let time = 0; time < 3; time++) {
                const victim = await own.ask(callTool('write-victim', {}));
                const text = (await victim.body()).toString();
                assert.ok(!text.includes('evil'), `the planted reply came for another request (${JSON.stringify(first.slice(0, 40))}, ${apart ? 'apart' : 'together'})`);
                if (victim.status === 200) assert.equal((await messageOf(victim)).result.content[0].text, 'mine');
            }
        }
    }
});

test('a reply before the request was read is nobody else\'s either', async (t) => {
    const own = await Stand.open({ t });
    own.upstream.on('write-early', async (request) => {
        await request.reply(413, { Connection: 'close' }, 'too much');
        request.close();
    });
    own.upstream.on('write-next', (request) => request.result(complete('next')));
    for (let time = 0; time < 5; time++) {
        const early = await own.ask(callTool('write-early', { text: 'x'.repeat(500_000) }));
        await early.body();
        assert.equal(early.status, 413);
        assert.equal((await messageOf(await own.ask(callTool('write-next', {})))).result.content[0].text, 'next');
    }
});

test('after all this the sidecar still answers, from the upstream and from the store', async () => {
    stand.upstream.on('read-still', (request) => request.result(complete('still here')));
    await stand.fill(callTool('read-still', {}));
    await stand.expect('hit', callTool('read-still', {}));
    await until(() => stand.sidecar.running);
});
