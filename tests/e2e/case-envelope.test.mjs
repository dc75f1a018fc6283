/* SPDX-License-Identifier: Apache-2.0 */
// Whose answer is it: ids, envelopes, and bodies that the cache must not think it understands.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { callTool, complete, legacyCall, messageOf, outcomeOf, readResource, withBody } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, until } from './lib/wait.mjs';

let stand;
before(async () => (stand = await Stand.open()));
after(() => stand?.close());

const IDS = ['"7"', '9007199254740993', '"\\u0061"', '""', '-1', '0', '"a\\"b\\\\"', '18446744073709551617', '"\\ud83d\\ude00 \u00e9"'];

for (const via of ['json', 'sse']) {
    for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
        test(`case 01: a hit carries the caller's own id token, filled over ${via} in the ${era} era`, async () => {
            const name = `read01-${via}-${era}`;
            stand.upstream.on(name, (request) => request.result(complete('seven'), { via }));
            await stand.fill(call(name, { a: 1 }, { id: '7' }));
            for (const id of IDS) {
                const hit = await stand.expect('hit', call(name, { a: 1 }, { id }), `id ${id}`);
                const text = hit.text;
                assert.ok(text.includes(`"id":${id}`), `the token ${id} verbatim in ${text}`);
                assert.deepEqual(JSON.parse(text), { jsonrpc: '2.0', id: JSON.parse(id), result: complete('seven') });
            }
            assert.equal(stand.upstream.of(name).length, 1);
        });
    }
}

test('case 01: a miss carries the id as the upstream was asked with it', async () => {
    stand.upstream.on('read01-miss', (request) => request.result(complete(request.id)));
    for (const [n, id] of IDS.entries()) {
        const answer = await stand.expect('miss', callTool('read01-miss', { n }, { id }));
        assert.equal(answer.text, `{"jsonrpc":"2.0","id":${id},"result":${JSON.stringify(complete(id))}}`);
        assert.equal(stand.upstream.of('read01-miss')[n].id, id);
    }
});

for (const via of ['json', 'sse']) {
    test(`case 02: the same id from two clients at once: each gets its own body (${via})`, async () => {
        const name = `read02-${via}`;
        const gate = new Gate();
        stand.upstream.on(name, async (request) => {
            const who = request.header('authorization');
            await gate.pass();
            await request.result(complete(who), { via });
        });
        const asking = ['anna', 'bert'].map((token) => stand.ask(callTool(name, {}, { id: '1', token })));
        await stand.upstream.call(name, 2);
        gate.open(2);
        const [anna, bert] = await Promise.all(asking);
        assert.equal((await messageOf(anna)).result.content[0].text, 'Bearer anna');
        assert.equal((await messageOf(bert)).result.content[0].text, 'Bearer bert');
        await stand.settle();
        for (const token of ['anna', 'bert', 'anna']) {
            const hit = await stand.expect('hit', callTool(name, {}, { id: '1', token }));
            assert.equal((await messageOf(hit)).result.content[0].text, `Bearer ${token}`);
        }
    });
}

test('case 02: a hundred clients at once with one id and different arguments: each gets its own body, cold and warm', async () => {
    stand.upstream.on('read02-many', (request) => request.result(complete(`number ${request.json.params.arguments.n}`), { via: request.json.params.arguments.n % 2 ? 'sse' : 'json' }));
    for (const expected of ['miss', 'hit']) {
        await Promise.all(Array.from({ length: 100 }, async (_, n) => {
            const answer = await stand.ask(callTool('read02-many', { n }, { id: '1' }));
            const message = await messageOf(answer);
            assert.equal(outcomeOf(answer), expected);
            assert.equal(message.id, 1);
            assert.equal(message.result.content[0].text, `number ${n}`);
        }));
        await stand.settle();
    }
    assert.equal(stand.upstream.of('read02-many').length, 100);
});

test('case 02: the same over several loops, which share one store', async (t) => {
    const own = await Stand.open({ t, flags: ['--threads', '4'] });
    own.upstream.on('read02-loops', (request) => request.result(complete(`number ${request.json.params.arguments.n} of ${request.header('authorization')}`)));
    const ask = async (n, token) => {
        const answer = await own.ask(callTool('read02-loops', { n }, { id: '1', token }));
        assert.equal((await messageOf(answer)).result.content[0].text, `number ${n} of Bearer ${token}`);
        return outcomeOf(answer);
    };
    const all = () => Promise.all(Array.from({ length: 60 }, (_, n) => ask(n % 30, n < 30 ? 'anna' : 'bert')));
    assert.deepEqual([...new Set(await all())], ['miss']);
    await until(async () => (await all()).every((outcome) => outcome === 'hit'), { what: 'every loop to find what any of them has stored' });
});

const ODD_IDS = { 'null': 'null', 'a fraction': '1.5', 'an object': '{"a":1}', 'a boolean': 'true', 'an array': '[1]' };
for (const [what, id] of Object.entries(ODD_IDS)) {
    test(`case 03: a tools/call whose id is ${what} travels byte for byte and is never a hit`, async () => {
        const name = `read03-${Object.keys(ODD_IDS).indexOf(what)}`;
        stand.upstream.on(name, (request) => request.reply(200, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":${request.id},"result":${JSON.stringify(complete('x'))}}`));
        await stand.fill(callTool(name, {}));
        await stand.expect('hit', callTool(name, {}));
        const odd = callTool(name, {}, { id });
        for (let n = 2; n <= 3; n++) {
            const answer = await stand.expect('bypass:opaque', odd);
            assert.equal(answer.status, 200);
            assert.equal(stand.upstream.of(name).length, n);
            assert.equal(stand.upstream.of(name)[n - 1].text, odd.body);
        }
    });
}

test('case 03: a tools/call without an id is a notification: forwarded, 202 with an empty body, never a hit', async () => {
    stand.upstream.on('read03-none', (request) => (/"id":/.test(request.text) ? request.result(complete('x')) : request.reply(202)));
    await stand.fill(callTool('read03-none', {}));
    await stand.expect('hit', callTool('read03-none', {}));
    const notification = callTool('read03-none', {}, { id: null });
    for (let n = 2; n <= 3; n++) {
        const answer = await stand.ask(notification);
        assert.equal(answer.status, 202);
        assert.equal((await answer.body()).length, 0);
        assert.notEqual(outcomeOf(answer), 'hit');
        assert.equal(stand.upstream.of('read03-none').length, n);
        assert.equal(stand.upstream.of('read03-none')[n - 1].text, notification.body);
    }
});

const DOUBTFUL = {
    'a name twice in the arguments': (body) => body.replace('"a":1', '"a":1,"a":1'),
    'a name twice, once in escapes': (body) => body.replace('"a":1', '"a":1,"\\u0061":1'),
    'a name twice in params': (body) => body.replace('"params":{', '"params":{"name":"read19",'),
    'a name twice in the envelope': (body) => body.replace('"jsonrpc":"2.0"', '"jsonrpc":"2.0","jsonrpc":"2.0"'),
    'the id twice': (body) => body.replace('"id":1', '"id":1,"id":1'),
    'the method twice': (body) => body.replace('"method":', '"method":"tools/list","method":'),
    'a lone surrogate': (body) => body.replace('"a":1', '"a":1,"b":"\\ud800"'),
    'an escaped NUL in the name': (body) => body.replace('"name":"read19"', '"name":"read19\\u0000"'),
    'invalid UTF-8': (body) => Buffer.concat([Buffer.from(body.replace('"a":1}', '"a":1,"b":"')), Buffer.from([0xc3, 0x28]), Buffer.from(body.slice(body.indexOf('"a":1}') + 5).replace('}', '"}'))]),
    'trailing bytes': (body) => `${body} {}`,
    'no end': (body) => body.slice(0, -1),
    'another jsonrpc': (body) => body.replace('"jsonrpc":"2.0"', '"jsonrpc":"1.0"'),
    'a byte order mark': (body) => `\ufeff${body}`,
    'nesting without end': (body) => body.replace('"a":1', `"a":${'['.repeat(5000)}${']'.repeat(5000)}`),
    'a number that is none': (body) => body.replace('"a":1', '"a":01'),
    'a comment': (body) => body.replace('"a":1', '"a":1/* one */'),
};
for (const [what, change] of Object.entries(DOUBTFUL)) {
    test(`case 19: a body with ${what} travels byte for byte past the cache`, async () => {
        const doubtful = Object.keys(DOUBTFUL).indexOf(what);
        stand.upstream.fallback = (request) => request.reply(200, { 'Content-Type': 'application/json', 'X-Case': '19' }, `{"jsonrpc":"2.0","id":1,"result":${JSON.stringify(complete(`time ${stand.upstream.calls.length}`))}}`);
        const token = `doubtful${doubtful}`;
        const plain = callTool('read19', { a: 1 }, { token });
        const others = callTool('read19', { a: 1 }, { token: `other${doubtful}` });
        for (const request of [plain, others]) {
            await stand.fill(request);
            await stand.expect('hit', request);
        }
        const body = Buffer.from(change(plain.body));
        assert.notDeepEqual(body, Buffer.from(plain.body), 'the change changes something');
        for (let n = 1; n <= 2; n++) {
            const before = stand.upstream.calls.length;
            const answer = await stand.expect('bypass:opaque', withBody(plain, body));
            assert.equal(stand.upstream.calls.length, before + 1);
            assert.deepEqual(stand.upstream.calls.at(-1).body, body);
            assert.equal(answer.header('x-case'), '19');
        }
        await stand.expect('hit', others, 'what was stored before is still there');
        await stand.expect('miss', plain, 'what cannot be read may be a write: whoever sent it reads anew');
        await stand.expect('hit', plain);
    });
}

test('case 19: a duplicate name in the arguments of a resource read, or in _meta, is no key either', async () => {
    stand.upstream.on('doc://19', (request) => request.result({ resultType: 'complete', contents: [], ttlMs: 60000, cacheScope: 'private' }));
    const plain = readResource('doc://19');
    await stand.fill(plain);
    await stand.expect('bypass:opaque', withBody(plain, plain.body.replace('"_meta":{', '"_meta":{"x":1,"x":2,')));
    await stand.expect('bypass:opaque', withBody(plain, plain.body.replace('"uri":', '"uri":"doc://other","uri":')));
});

test('members of the wrong type are forwarded, not guessed at', async () => {
    stand.upstream.on('tools/call', (request) => request.result(complete('odd')));
    const odd = (params) => withBody(callTool('read-odd', {}), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${params}}`);
    for (const params of ['{"name":7,"arguments":{}}', '[]', '"read-odd"', '{"name":["read-odd"]}', '{"arguments":{}}', '{"name":"read-odd","_meta":7}']) {
        const before = stand.upstream.calls.length;
        const [first, second] = [await stand.ask(odd(params)), await stand.ask(odd(params))];
        for (const answer of [first, second]) {
            assert.equal(answer.status, 200);
            await answer.body();
            assert.match(outcomeOf(answer), /^bypass:/, params);
        }
        assert.equal(stand.upstream.calls.length, before + 2);
        assert.ok(stand.upstream.calls.at(-1).text.includes(params));
    }
});
