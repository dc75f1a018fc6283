/* SPDX-License-Identifier: Apache-2.0 */
// A hit is the upstream's answer, byte for byte, except for the id and what is left of ttlMs. corpus/ holds replies to a request with id 1 as
// upstreams have sent them; the first word of a file's name says what was asked. Nothing here compares parsed JSON.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { callTool, complete, legacyCall, modern, raw, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { sleep } from './lib/wait.mjs';

const folder = new URL('corpus/', import.meta.url);
const corpus = readdirSync(folder).filter((name) => name.endsWith('.json')).sort().map((name) => [name.slice(0, -5), readFileSync(new URL(name, folder))]);
corpus.push(['tool-large-text', Buffer.from(`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"${'0123456789 \\u00e9 \u00e9 \\n '.repeat(40_000)}"}],"structuredContent":{"n":1.0}}}`)]);

let stand;
before(async () => (stand = await Stand.open({ flags: ['--max-entry', '4MiB'] })));
after(() => stand?.close());

/** End of the JSON value that begins at `at`. The corpus is valid JSON: this only has to skip over it. */
function valueEnd(bytes, at) {
    const opening = bytes[at];
    if (opening === 0x22) {
        for (at += 1; bytes[at] !== 0x22; at++) if (bytes[at] === 0x5c) at += 1;
        return at + 1;
    }
    if (opening === 0x7b || opening === 0x5b) {
        for (let depth = 0; ; at++) {
            if (bytes[at] === 0x22) at = valueEnd(bytes, at) - 1;
            else if (bytes[at] === 0x7b || bytes[at] === 0x5b) depth += 1;
            else if (bytes[at] === 0x7d || bytes[at] === 0x5d) if ((depth -= 1) === 0) return at + 1;
        }
    }
    while (!',]} \t\r\n'.includes(String.fromCharCode(bytes[at]))) at += 1;
    return at;
}

/** [start, end] of the value of a member of the object that begins at or after `at`; null when it has none of that name. */
function memberSpan(bytes, name, at = 0) {
    const blank = () => {
        while (' \t\r\n'.includes(String.fromCharCode(bytes[at]))) at += 1;
    };
    blank();
    assert.equal(bytes[at], 0x7b);
    at += 1;
    for (blank(); bytes[at] !== 0x7d; blank()) {
        if (bytes[at] === 0x2c) {
            at += 1;
            continue;
        }
        const nameEnd = valueEnd(bytes, at);
        const member = JSON.parse(bytes.subarray(at, nameEnd).toString());
        at = nameEnd;
        blank();
        at += 1;
        blank();
        const end = valueEnd(bytes, at);
        if (member === name) return [at, end];
        at = end;
    }
    return null;
}

const slice = (bytes, [start, end]) => bytes.subarray(start, end);

function assertSameBytes(seen, expected, what) {
    if (seen.equals(expected)) return;
    let at = 0;
    while (seen[at] === expected[at]) at += 1;
    const around = (bytes) => JSON.stringify(bytes.subarray(Math.max(0, at - 40), at + 40).toString('latin1'));
    assert.fail(`${what}: differs at byte ${at} (${seen.length} and ${expected.length} bytes): ${around(seen)} instead of ${around(expected)}`);
}

const REQUESTS = {
    tool: (name, options) => callTool(`read-${name}`, {}, options),
    legacy: (name, options) => legacyCall(`read-${name}`, {}, options),
    resource: (name, options) => readResource(`doc://${name}`, options),
    list: (name, options) => modern('tools/list', { cursor: name }, options),
};
const NAMES = { tool: (name) => `read-${name}`, legacy: (name) => `read-${name}`, resource: (name) => `doc://${name}`, list: () => 'tools/list' };
const IDS = ['2', '-7', '"text"', '"esc\\u0061ped \\" \\\\ \\/"', '9007199254740993', '""', '1'];

test('the corpus is read as it was written', () => {
    assert.ok(corpus.length > 30);
    for (const [name, reply] of corpus) {
        const parsed = JSON.parse(reply);
        assert.equal(slice(reply, memberSpan(reply, 'id')).toString(), '1', name);
        assert.deepEqual(JSON.parse(slice(reply, memberSpan(reply, 'result'))), parsed.result, name);
        const [start] = memberSpan(reply, 'result');
        const ttl = memberSpan(reply, 'ttlMs', start);
        assert.equal(ttl === null, !Object.hasOwn(parsed.result, 'ttlMs'), name);
        if (ttl) assert.deepEqual(JSON.parse(slice(reply, ttl)), parsed.result.ttlMs, name);
    }
});

for (const [name, reply] of corpus) {
    for (const via of ['json', 'sse']) {
        // An event's data cannot hold line ends: a server that pretty-prints sends a data line for each.
        const text = reply.toString();
        const event = `event: message\n${text.trim().split(/\r?\n/).map((line) => `data: ${line}\n`).join('')}\n`;
        const sent = via === 'json' ? reply : Buffer.from(text.trim().split(/\r?\n/).join('\n'));
        test(`byte identity: ${name} over ${via}`, async () => {
            const kind = name.split('-')[0];
            const asked = `${name}-${via}`;
            let bytes;
            stand.upstream.on(NAMES[kind](asked), async (request) => {
                if (via === 'json') return request.reply(200, { 'Content-Type': 'application/json' }, (bytes = reply));
                await request.stream();
                await request.sse((bytes = Buffer.from(event)));
                await request.endStream();
            });
            const fill = await stand.fill(REQUESTS[kind](asked));
            assertSameBytes(via === 'json' ? fill.bytes : Buffer.from(fill.text.replace(/^:\n\n/, '')), bytes, 'the miss itself');

            const result = slice(sent, memberSpan(sent, 'result'));
            const ttl = kind === 'legacy' ? null : memberSpan(result, 'ttlMs');
            for (const id of IDS) {
                const hit = (await stand.expect('hit', REQUESTS[kind](asked, { id }))).bytes;
                assert.equal(slice(hit, memberSpan(hit, 'id')).toString(), id);
                assert.equal(slice(hit, memberSpan(hit, 'jsonrpc')).toString(), '"2.0"');
                const seen = slice(hit, memberSpan(hit, 'result'));
                if (ttl === null) {
                    assertSameBytes(seen, result, `the hit with id ${id}`);
                    continue;
                }
                const seenTtl = memberSpan(seen, 'ttlMs');
                assertSameBytes(seen.subarray(0, seenTtl[0]), result.subarray(0, ttl[0]), `before ttlMs, id ${id}`);
                assertSameBytes(seen.subarray(seenTtl[1]), result.subarray(ttl[1]), `after ttlMs, id ${id}`);
                assert.match(slice(seen, seenTtl).toString(), /^\d+$/);
                assert.ok(Number(slice(seen, seenTtl)) <= Number(slice(result, ttl)));
            }
        });
    }
}

test('a trace of the fill is not replayed; every other byte of _meta is', async () => {
    const cases = [
        ['{"traceparent":"00-1-2-03","com.example/a":1.0,"tracestate":"x=1","baggage":"y=2"}', '{"com.example/a":1.0}'],
        ['{"com.example/a":1.0,"traceparent":"00-1-2-03"}', '{"com.example/a":1.0}'],
    ];
    for (const [n, [sent, kept]] of cases.entries()) {
        stand.upstream.on(`read-trace-${n}`, (request) => request.result(raw(`{"resultType":"complete","_meta":${sent},"content":[{"_meta":{"traceparent":"stays"}}]}`)));
        const fill = await stand.fill(callTool(`read-trace-${n}`, {}));
        assert.ok(fill.text.includes(sent));
        const hit = await stand.expect('hit', callTool(`read-trace-${n}`, {}));
        const result = JSON.parse(hit.text).result;
        assert.deepEqual(Object.keys(result._meta), ['com.example/a']);
        assert.ok(hit.text.includes('"com.example/a":1.0'), kept);
        assert.ok(hit.text.includes('{"_meta":{"traceparent":"stays"}}'));
    }
});

for (const how of ['stop', 'kill9']) test(`a restart after ${how} keeps every byte`, async () => {
    stand.upstream.on('read-restart', (request) => request.result(complete('\u00e9 \ud83d\ude00')));
    // The port changes, and Host is part of the question.
    const request = callTool('read-restart', { how }, { headers: { Host: 'mcp.example' } });
    const before = await stand.fill(request);
    // What waits for its commit counts already, and would die with the process.
    if (how === 'kill9') await sleep(300);
    await stand.sidecar[how]();
    await stand.sidecar.restart();
    await stand.admit(request);
    const hit = await stand.expect('hit', request);
    assertSameBytes(hit.bytes, before.bytes, 'after a restart');
});
