/* SPDX-License-Identifier: Apache-2.0 */
// Requests that can be read in more than one way, each with a second request behind it on the same socket, which somebody else's reading would have taken for a body (or
// the other way round). Whatever libh2o makes of them: 400 and the end of the connection, the upstream has seen neither, the second is never answered, not even
// when its answer lies in the store. Their well-formed twins pass. At the end the other direction: replies whose framing contradicts itself.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ByteSource, readBody, readHead, framingOf, headerOne, formatChunk } from './lib/http1.mjs';
import { callTool, complete, messageOf, outcomeOf } from './lib/rpc.mjs';
import { Connection, soon } from './lib/raw.mjs';
import { Stand } from './lib/stand.mjs';

let stand;
before(async () => {
    stand = await Stand.open({
        fallback: (call) => (call.method === 'POST' ? call.result(complete(`answer to ${call.name}`)) : call.reply(200, { 'Content-Type': 'text/plain' }, `answer to ${call.target}`)),
    });
    for (const tool of ['shared-warm', 'shared-warm-get']) await stand.fill(callTool(tool, {}));
});
after(() => stand?.close());

/** A tool call as the parts of its bytes. */
function parts(tool) {
    const { headers, body } = callTool(tool, {});
    return { line: 'POST /mcp HTTP/1.1', host: 'Host: a.example', fields: headers.map(([name, value]) => `${name}: ${value}`), length: `Content-Length: ${body.length}`, body };
}
const head = (...lines) => lines.flat().filter((line) => line !== undefined).map((line) => `${line}\r\n`).join('') + '\r\n';
const whole = (tool) => {
    const p = parts(tool);
    return head(p.line, p.host, p.fields, p.length) + p.body;
};
const chunked = (body) => `${formatChunk(body)}0\r\n\r\n`;
const CHUNKED = 'Transfer-Encoding: chunked';

/** Parts of the first request and bytes of the smuggled one -> bytes of the first. What follows them is always the smuggled request. */
const AMBIGUOUS = {
    // two statements about the length
    'a length, then chunks, where the length covers what follows': (p, s) => head(p.line, p.host, p.fields, `Content-Length: ${chunked(p.body).length + s.length}`, CHUNKED) + chunked(p.body),
    'a length, then chunks, where the length ends earlier': (p) => head(p.line, p.host, p.fields, 'Content-Length: 4', CHUNKED) + chunked(p.body),
    'a length, then an empty chunked body': (p, s) => head(p.line, p.host, p.fields, `Content-Length: ${5 + s.length}`, CHUNKED) + '0\r\n\r\n',
    'chunks, then a length': (p) => head(p.line, p.host, p.fields, CHUNKED, `Content-Length: ${chunked(p.body).length}`) + chunked(p.body),
    'chunks, then a length of 0': (p) => head(p.line, p.host, p.fields, CHUNKED, 'Content-Length: 0') + chunked(p.body),
    'chunks that the length says, on a body without any': (p) => head(p.line, p.host, p.fields, p.length, CHUNKED) + p.body,
    'two different lengths, the longer last': (p, s) => head(p.line, p.host, p.fields, p.length, `Content-Length: ${p.body.length + s.length}`) + p.body,
    'two different lengths, the longer first': (p, s) => head(p.line, p.host, p.fields, `Content-Length: ${p.body.length + s.length}`, p.length) + p.body,
    'two different lengths, the first longer than all that comes': (p) => head(p.line, p.host, p.fields, 'Content-Length: 100000', p.length) + p.body,
    'two equal lengths': (p) => head(p.line, p.host, p.fields, p.length, p.length) + p.body,
    'two equal lengths far apart and in other case': (p) => head(p.line, p.host, p.length, p.fields, p.length.toUpperCase()) + p.body,
    'two codings, the last identity': (p) => head(p.line, p.host, p.fields, CHUNKED, 'Transfer-Encoding: identity') + chunked(p.body),
    'two codings, the last chunked': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: identity', CHUNKED) + chunked(p.body),
    'chunked twice': (p) => head(p.line, p.host, p.fields, CHUNKED, CHUNKED) + chunked(p.body),
    // one statement that is none
    'a length with a plus': (p) => head(p.line, p.host, p.fields, `Content-Length: +${p.body.length}`) + p.body,
    'a length with a minus': (p) => head(p.line, p.host, p.fields, 'Content-Length: -1') + p.body,
    'a length with a blank inside': (p) => head(p.line, p.host, p.fields, `Content-Length: ${p.body.length} ${p.body.length}`) + p.body,
    'a list of lengths': (p) => head(p.line, p.host, p.fields, `Content-Length: ${p.body.length}, ${p.body.length}`) + p.body,
    'a length in hex': (p) => head(p.line, p.host, p.fields, `Content-Length: 0x${p.body.length.toString(16)}`) + p.body,
    'an empty length': (p) => head(p.line, p.host, p.fields, 'Content-Length:') + p.body,
    'a length beyond 64 bits': (p) => head(p.line, p.host, p.fields, `Content-Length: ${2n ** 64n + BigInt(p.body.length)}`) + p.body,
    'a coding that is not chunked': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: identity') + p.body,
    'a coding that looks like chunked': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: xchunked') + chunked(p.body),
    'chunked, identity': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: chunked, identity') + chunked(p.body),
    'identity, chunked': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: identity, chunked') + chunked(p.body),
    'gzip, chunked': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: gzip, chunked') + chunked(p.body),
    'a coding behind a vertical tab': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding: \x0bchunked') + chunked(p.body),
    'chunks in HTTP/1.0': (p) => head('POST /mcp HTTP/1.0', p.host, 'Connection: keep-alive', p.fields, CHUNKED) + chunked(p.body),
    // names
    'a blank before the colon of a length': (p) => head(p.line, p.host, p.fields, `Content-Length : ${p.body.length}`) + p.body,
    'a blank before the colon of a coding': (p) => head(p.line, p.host, p.fields, p.length, 'Transfer-Encoding : chunked') + p.body,
    'a tab before a colon': (p) => head(p.line, p.host, p.fields, p.length, 'X\t: y') + p.body,
    'a field without a name': (p) => head(p.line, p.host, p.fields, p.length, ': y') + p.body,
    'a line that is no field': (p) => head(p.line, p.host, p.fields, p.length, 'nonsense') + p.body,
    // lines
    'a bare line feed after the request line': (p) => `${p.line}\n${head(p.host, p.fields, p.length)}${p.body}`,
    'a bare line feed after a header': (p) => `${head(p.line, p.host, p.fields, p.length).replace('a.example\r\n', 'a.example\n')}${p.body}`,
    'a bare line feed that hides a coding': (p) => head(p.line, p.host, p.fields, p.length, 'X: y\nTransfer-Encoding: chunked') + p.body,
    'a bare line feed as the end of the head': (p) => `${head(p.line, p.host, p.fields, p.length).replace(/\r\n$/, '\n')}${p.body}`,
    'bare line feeds everywhere': (p) => `${head(p.line, p.host, p.fields, p.length).replaceAll('\r', '')}${p.body}`,
    'a bare line feed before the request': (p) => `\n${head(p.line, p.host, p.fields, p.length)}${p.body}`,
    'a bare carriage return in a header': (p) => head(p.line, p.host, p.fields, p.length, 'X: y\rTransfer-Encoding: chunked') + p.body,
    'a folded header': (p) => head(p.line, p.host, p.fields, p.length, 'X: y', ' z') + p.body,
    'a length that is folded into another header': (p, s) => head(p.line, p.host, p.fields, p.length, 'X: y', `\tContent-Length: ${p.body.length + s.length}`) + p.body,
    'a folded coding': (p) => head(p.line, p.host, p.fields, 'Transfer-Encoding:', ' chunked') + chunked(p.body),
    'a NUL in a header': (p) => head(p.line, p.host, p.fields, p.length, 'X: y\0z') + p.body,
    // whom it is for
    'two hosts': (p) => head(p.line, p.host, 'Host: b.example', p.fields, p.length) + p.body,
    'two equal hosts': (p) => head(p.line, p.host, p.fields, p.host, p.length) + p.body,
    'a list of hosts': (p) => head(p.line, 'Host: a.example, b.example', p.fields, p.length) + p.body,
    'no host': (p) => head(p.line, p.fields, p.length) + p.body,
    'a host with a path': (p) => head(p.line, 'Host: a.example/x', p.fields, p.length) + p.body,
    'a host with somebody before it': (p) => head(p.line, 'Host: b.example@a.example', p.fields, p.length) + p.body,
    // request lines
    'HTTP/1.2': (p) => head('POST /mcp HTTP/1.2', p.host, p.fields, p.length) + p.body,
    'no method': (p) => head(' /mcp HTTP/1.1', p.host, p.fields, p.length) + p.body,
    'a method that is no token': (p) => head('PO{ST /mcp HTTP/1.1', p.host, p.fields, p.length) + p.body,
    // chunks that libh2o itself refuses
    'a negative chunk size': (p) => head(p.line, p.host, p.fields, CHUNKED) + `-5\r\n${p.body}\r\n0\r\n\r\n`,
    'a chunk size in 0x': (p) => head(p.line, p.host, p.fields, CHUNKED) + `0x${p.body.length.toString(16)}\r\n${p.body}\r\n0\r\n\r\n`.replace('0x', 'x'),
    'a chunk size that overflows': (p) => head(p.line, p.host, p.fields, CHUNKED) + `1${'0'.repeat(16)}\r\n${p.body}\r\n0\r\n\r\n`,
    'a chunk longer than its size': (p) => head(p.line, p.host, p.fields, CHUNKED) + `4\r\n${p.body}\r\n0\r\n\r\n`,
};

/** Chunks that libh2o reads although they are broken. Their first request is whole by any reading that lets it end there; nothing behind it is believed. */
const BROKEN_CHUNKS = {
    'a bare line feed behind a size': (body) => `${body.length.toString(16)}\n${body}\r\n0\r\n\r\n`,
    'a bare line feed behind a chunk': (body) => `${body.length.toString(16)}\r\n${body}\n0\r\n\r\n`,
    'something behind a size': (body) => `${body.length.toString(16)} x\r\n${body}\r\n0\r\n\r\n`,
    'an extension with a bare line feed': (body) => `${body.length.toString(16)};x\n${body}\r\n0\r\n\r\n`,
    'too many carriage returns': (body) => `${body.length.toString(16)}\r\n${body}\r\r\r\n0\r\n\r\n`,
    'an end in bare line feeds': (body) => `${body.length.toString(16)}\r\n${body}\r\n0\n\n`,
};

/** Everything that a connection answers until it ends. */
async function conversation(connection) {
    const answers = [];
    for (;;) {
        const message = await soon(readHead(connection.source), 'an answer or the end of the connection');
        if (message === null) return answers;
        const pieces = [];
        const status = Number(message.line.split(' ')[1]);
        const ending = await soon(readBody(connection.source, message.headers, framingOf(message.headers, { isResponse: true, status }), (piece) => pieces.push(piece)), 'the end of a body');
        if (status !== 100) answers.push({ status, headers: message.headers, text: Buffer.concat(pieces).toString(), ending });
    }
}

async function sayAll(t, ...pieces) {
    const connection = await Connection.open(stand.origin, t);
    for (const piece of pieces) await connection.write(Buffer.from(piece, 'latin1')).catch(() => {});
    return conversation(connection);
}

/** One 400, and that is all. */
function assertRefused(answers, { isPlain = false } = {}) {
    assert.ok(answers.length <= 1, `${answers.length} answers: ${JSON.stringify(answers)}`);
    const [answer] = answers;
    assert.equal(answer?.status, 400, JSON.stringify(answers));
    assert.equal(headerOne(answer.headers, 'connection'), 'close');
    assert.doesNotMatch(answer.text, /answer to/);
    if (isPlain) return;
    assert.equal(headerOne(answer.headers, 'content-type'), 'application/json');
    assert.equal(headerOne(answer.headers, 'cache-status'), 'mcpcached; detail=framing');
    const message = JSON.parse(answer.text);
    assert.deepEqual({ id: message.id, code: message.error.code }, { id: null, code: -32600 });
}

/** What libh2o cannot parse it answers itself, in plain text. */
const IS_PLAIN = /vertical tab|blank before|tab before|without a name|no field|carriage return|NUL|no token/;

describe('a request that can be read in more than one way', { concurrency: 16 }, () => {
    for (const [n, [what, bytesOf]] of Object.entries(AMBIGUOUS).entries()) {
        test(`${what}: refused, and what is behind it is not answered`, async (t) => {
            const options = { isPlain: IS_PLAIN.test(what) };
            const cold = whole(`shared-smuggled-${n}`);
            const warm = whole('shared-warm');
            assertRefused(await sayAll(t, bytesOf(parts(`shared-first-${n}`), cold) + cold), options);
            assertRefused(await sayAll(t, bytesOf(parts(`shared-first-${n}`), warm) + warm), options);
            // the first one may be warm as well, and the smuggled one something that is no MCP
            const get = head(`GET /smuggled-${n} HTTP/1.1`, 'Host: a.example');
            assertRefused(await sayAll(t, bytesOf(parts('shared-warm'), get) + get), options);
            assert.equal(stand.upstream.of(`shared-first-${n}`).length, 0, 'the upstream has seen the first');
            assert.equal(stand.upstream.of(`shared-smuggled-${n}`).length + stand.upstream.of(`GET /smuggled-${n}`).length, 0, 'the upstream has seen the smuggled one');
        });
    }

    for (const what of ['a length, then chunks, where the length covers what follows', 'two different lengths, the longer last', 'two hosts', 'a folded header', 'a bare line feed after a header', 'a coding that is not chunked']) {
        test(`${what}, behind a good request on the connection, or in pieces, or in a large request`, async (t) => {
            const tool = `shared-late-${what.length}`;
            const second = whole(`${tool}-second`);
            const bytes = AMBIGUOUS[what](parts(tool), second);
            const [good, ...rest] = await sayAll(t, whole('shared-warm') + bytes + second);
            assert.equal(good.status, 200);
            assertRefused(rest);
            assertRefused(await sayAll(t, ...(bytes + second).match(/[^]{1,40}/g)));
            const large = parts(tool);
            large.body = large.body.padEnd(700_000);
            large.length = `Content-Length: ${large.body.length}`;
            assertRefused(await sayAll(t, AMBIGUOUS[what](large, second) + second));
            const expecting = parts(tool);
            expecting.fields.push('Expect: 100-continue');
            assertRefused(await sayAll(t, AMBIGUOUS[what](expecting, second) + second));
            assert.equal(stand.upstream.of(tool).length + stand.upstream.of(`${tool}-second`).length, 0);
        });
    }

    test('other methods and paths are no exception', async (t) => {
        for (const line of ['GET /mcp HTTP/1.1', 'GET /elsewhere HTTP/1.1', 'DELETE /mcp HTTP/1.1', 'OPTIONS * HTTP/1.1', 'PUT http://a.example/mcp HTTP/1.1']) {
            const before = stand.upstream.calls.length;
            assertRefused(await sayAll(t, head(line, 'Host: a.example', 'Host: a.example') + whole('shared-warm')));
            assertRefused(await sayAll(t, head(line, 'Host: a.example', 'Content-Length: 0', CHUNKED) + '0\r\n\r\n' + whole('shared-warm')));
            assert.equal(stand.upstream.calls.slice(before).filter((call) => line.startsWith(`${call.method} ${call.target}`)).length, 0);
        }
        const [answer, ...rest] = await sayAll(t, head('HEAD /x HTTP/1.1', 'Host: a.example', 'X : y') + whole('shared-warm'));
        assert.equal(answer.status, 400);
        assert.equal(rest.length, 0);
    });

    for (const [what, chunks] of Object.entries(BROKEN_CHUNKS)) {
        test(`chunks with ${what}: nothing behind them is answered`, async (t) => {
            const tool = `shared-chunks-${what.length}`;
            const p = parts(tool);
            for (const second of [whole(`${tool}-second`), whole('shared-warm'), head('GET /behind-chunks HTTP/1.1', 'Host: a.example')]) {
                const answers = await sayAll(t, head(p.line, p.host, p.fields, CHUNKED) + chunks(p.body) + second);
                assert.equal(answers.length, 1, JSON.stringify(answers));
                assert.equal(headerOne(answers[0].headers, 'connection'), 'close');
                if (answers[0].status === 200) assert.match(answers[0].text, new RegExp(`answer to ${tool}"`));
                else assertRefused(answers);
            }
            assert.equal(stand.upstream.of(`${tool}-second`).length + stand.upstream.of('GET /behind-chunks').length, 0);
        });
    }

    test('each refusal is one line of the log, with its reason and without a byte of the request', async (t) => {
        assertRefused(await sayAll(t, head('POST /mcp HTTP/1.1', 'Host: secret.example', 'Host: secret.example', 'Authorization: Bearer secret') + whole('shared-warm')));
        await stand.sidecar.untilLogged(/refused.* outcome=error reason=framing status=400 why=hosts/);
        assert.ok(!stand.sidecar.log.some((line) => /secret/.test(line)));
    });
});

describe('a request that can be read in one way only', { concurrency: 16 }, () => {
    const CLEAR = {
        'a length': (p) => head(p.line, p.host, p.fields, p.length) + p.body,
        'a length with blanks around it': (p) => head(p.line, p.host, p.fields, p.length.replace(': ', ': \t ')) + p.body,
        'a length with zeros before it': (p) => head(p.line, p.host, p.fields, p.length.replace(': ', ': 000')) + p.body,
        'names in other case': (p) => head(p.line, p.host.toUpperCase(), p.fields, p.length.toLowerCase()) + p.body,
        'an expectation': (p) => head(p.line, p.host, p.fields, 'Expect: 100-continue', p.length) + p.body,
        'an empty line before it': (p) => `\r\n${head(p.line, p.host, p.fields, p.length)}${p.body}`,
        'an empty host': (p) => head(p.line, 'Host:', p.fields, p.length) + p.body,
        'a host in brackets': (p) => head(p.line, 'Host: [::1]:8080', p.fields, p.length) + p.body,
        'names that only look like others': (p) => head(p.line, p.host, p.fields, 'X-Content-Length: 1', 'Content_Length: 2', 'X-Host: b', 'TE: trailers', p.length) + p.body,
        'the same header twice, if it says nothing of lengths or hosts': (p) => head(p.line, p.host, p.fields, 'X-A: b', 'X-A: b', p.length) + p.body,
        'text beyond ASCII in a value': (p) => head(p.line, p.host, p.fields, 'X-A: \xe4\tb', p.length) + p.body,
        'a body of 700 kB': (p) => head(p.line, p.host, p.fields, `Content-Length: ${700_000}`) + p.body.padEnd(700_000),
    };
    const CLEAR_AND_LAST = {
        'chunks': (p) => head(p.line, p.host, p.fields, CHUNKED) + chunked(p.body),
        'chunks of one byte': (p) => head(p.line, p.host, p.fields, 'transfer-encoding:ChunKed') + [...p.body].map((byte) => formatChunk(byte)).join('') + '0\r\n\r\n',
        'chunks and an expectation': (p) => head(p.line, p.host, p.fields, CHUNKED, 'Expect: 100-continue') + chunked(p.body),
        '700 kB in chunks': (p) => head(p.line, p.host, p.fields, CHUNKED) + chunked(p.body.padEnd(700_000)),
        'HTTP/1.0 without a host': (p) => head('POST /mcp HTTP/1.0', p.fields, p.length) + p.body,
    };

    for (const [what, bytesOf] of Object.entries(CLEAR)) {
        test(`${what}: answered, and so is the next one on the connection`, async (t) => {
            const tool = `shared-clear-${what.length}`;
            for (const { first, second } of [{ first: tool, second: `${tool}-second` }, { first: 'shared-warm', second: 'shared-warm' }]) {
                const connection = await Connection.open(stand.origin, t);
                await connection.write(Buffer.from(bytesOf(parts(first)) + whole(second), 'latin1'));
                for (const name of [first, second]) {
                    const answer = await connection.answer();
                    assert.equal(answer.status, 200);
                    assert.match((await answer.body()).toString(), new RegExp(`answer to ${name}"`));
                }
                assert.equal(connection.source.ending, undefined);
            }
            // the next one may come later, too
            const connection = await Connection.open(stand.origin, t);
            for (let i = 0; i < 3; i++) {
                await connection.write(Buffer.from(bytesOf(parts('shared-warm')), 'latin1'));
                assert.equal((await (await connection.answer()).json()).result.content[0].text, 'answer to shared-warm');
            }
        });
    }

    for (const [what, bytesOf] of Object.entries(CLEAR_AND_LAST)) {
        test(`${what}: answered, as the last of the connection`, async (t) => {
            const tool = `shared-last-${what.length}`;
            for (const name of [tool, 'shared-warm']) {
                const answers = await sayAll(t, bytesOf(parts(name)) + whole('shared-behind'));
                assert.equal(answers.length, 1);
                assert.equal(answers[0].status, 200);
                assert.match(answers[0].text, new RegExp(`answer to ${name}"`));
                assert.equal(headerOne(answers[0].headers, 'connection'), 'close');
            }
            assert.equal(stand.upstream.of('shared-behind').length, 0);
        });
    }

    test('without a body', async (t) => {
        const connection = await Connection.open(stand.origin, t);
        await connection.write(head('GET /a HTTP/1.1', 'Host: a.example') + head('GET /b HTTP/1.1', 'host:a.example', 'X-A: b') + head('OPTIONS * HTTP/1.1', 'Host: a.example'));
        for (const path of ['/a', '/b', '\\*']) assert.match((await (await connection.answer()).body()).toString(), new RegExp(`answer to ${path}$`));
    });
});

describe('replies that say a length where there is no body', () => {
    const json = (text) => `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    const poison = json('{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"poison"}]}}');
    const REPLIES = {
        '204 with a length': `HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`,
        '204 with chunks': `HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n${formatChunk(poison)}0\r\n\r\n`,
        '204 with a length of 0 and more behind it': `HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n${poison}`,
        '304 with a length': `HTTP/1.1 304 Not Modified\r\nContent-Length: ${poison.length}\r\n\r\n${poison}`,
        '103 with a length, then a good reply': `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello${poison}`,
        '100 with chunks, then a good reply': `HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n${poison}`,
        '200 with more behind its length': `${json('{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}')}${poison}`,
    };
    for (const [n, [what, bytes]] of Object.entries(REPLIES).entries()) {
        test(`${what}: not kept, and no other request gets its bytes`, async () => {
            const tool = `shared-reply-${n}`;
            stand.upstream.on(tool, async (call) => {
                await call.write(bytes);
                call.finish();
            });
            for (let i = 1; i <= 2; i++) {
                const answer = await stand.ask(callTool(tool, {}));
                await soon(answer.finished, 'the end of the answer');
                assert.ok(!answer.text.includes('poison'), answer.text);
                assert.notEqual(outcomeOf(answer), 'hit');
                // whoever comes next on that connection must not be answered by what lay there
                const next = await stand.ask(callTool(`shared-after-${n}-${i}`, {}));
                assert.equal((await messageOf(next)).result.content[0].text, `answer to shared-after-${n}-${i}`);
                assert.equal(stand.upstream.of(tool).length, what.startsWith('200') ? 1 : i, 'asked again, so nothing was kept');
                await stand.settle();
                if (what.startsWith('200')) break;
            }
        });
    }
});
