/* SPDX-License-Identifier: Apache-2.0 */
// What the process owes its clients beside the right answer: whole answers when it ends, room when many wait, headers that arrive, entries
// that are found again. Each of these failed once.
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { Connection, ask } from './lib/raw.mjs';
import { callTool, complete, legacy, legacyCall, messageOf, modern, raw } from './lib/rpc.mjs';
import { Scripted } from './lib/scripted.mjs';
import { defaultBinary, Sidecar } from './lib/sidecar.mjs';
import { Stand } from './lib/stand.mjs';
import { sleep, until } from './lib/wait.mjs';

test('a browser of old gets every Vary field of an answer, however many there are', async (t) => {
    const stand = await Stand.open({ t });
    const headers = { 'User-Agent': 'Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)' };
    const fields = Array.from({ length: 60 }, (_, n) => (n % 2 ? 'Accept-Language' : `X-Field-${n}`));
    for (const via of ['json', 'sse']) {
        stand.upstream.on(`read-vary-${via}`, (call) => call.result(complete('x'), { via, headers: fields.map((field) => ['Vary', field]) }));
        for (const request of [callTool(`read-vary-${via}`, {}, { headers }), legacyCall(`read-vary-${via}`, {}, { headers })]) {
            const answer = await stand.expect('miss', request);
            assert.deepEqual(answer.headerAll('vary'), fields);
            assert.equal((await messageOf(answer)).result.content[0].text, 'x');
        }
    }
    stand.upstream.on('GET /page', (call) => call.reply(200, [['Content-Type', 'text/html'], ...fields.map((field) => ['Vary', field])], 'x'));
    const page = await stand.ask({ method: 'GET', path: '/page', headers });
    await page.body();
    assert.deepEqual(page.headerAll('vary'), fields);
});

test('300 descriptors: callers that leave while the upstream hangs use none up, and callers that wait cost nothing', async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-e2e-'));
    const binary = path.join(dir, 'few');
    await writeFile(binary, `#!/bin/sh\nulimit -n 300\nexec '${defaultBinary}' "$@"\n`);
    await chmod(binary, 0o755);
    const upstream = await Scripted.start();
    t.after(async () => (await upstream.close(), await rm(dir, { recursive: true })));
    upstream.on('hang', () => {});
    upstream.on('read', (call) => call.result(complete('x')));
    const sidecar = await Sidecar.start('version: 1\ntools:\n  - { name: "*", ttl: 60s }\n', { t, upstream, binary, flags: ['--threads', '1', '--drain', '200ms'] });
    let n = 0;
    const answers = async (request) => assert.equal((await (await ask(sidecar.origin, { ...request, withinMs: 3000 })).json()).result.content[0].text, 'x');
    await answers(callTool('read', { n: n++ }));

    // Each of them has reached the upstream when its caller leaves.
    for (let round = 0; round < 12; round++) {
        const leavers = await Promise.all(Array.from({ length: 25 }, () => Connection.open(sidecar.origin, t)));
        // Each asks something else: who asks the same would wait for the one that was first.
        await Promise.all(leavers.map((leaver, who) => leaver.send(legacyCall('hang', { round, who }))));
        await until(() => upstream.of('hang').length === (round + 1) * 25, { withinMs: 3000, everyMs: 2, what: `25 more calls to reach the upstream, in round ${round}` });
        for (const leaver of leavers) leaver.close();
    }
    await answers(callTool('read', { n: n++ }));

    // More than can be accepted at once: the rest waits before the door.
    const waiting = await Promise.all(Array.from({ length: 250 }, () => Connection.open(sidecar.origin, t)));
    const ticks = async () => {
        const fields = (await readFile(`/proc/${sidecar.pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
        return Number(fields[11]) + Number(fields[12]);
    };
    const before = await ticks();
    await sleep(1000);
    const used = (await ticks()) - before;
    assert.ok(used < 30, `${used} hundredths of a second of CPU within one second of waiting`);
    for (const one of waiting) one.close();
    await answers(callTool('read', { n: n++ }));
    assert.deepEqual(await sidecar.stop(), { code: 0, signal: null });
});

test('SIGTERM: who reads a large answer slowly gets it whole within the time to drain', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-entry', '8MiB', '--drain', '10s'] });
    const large = 'x'.repeat(7 << 20);
    stand.upstream.on('read-large', (call) => call.result(raw(`{"resultType":"complete","content":[{"type":"text","text":"${large}"}]}`)));
    await stand.fill(callTool('read-large', {}));
    const readers = [];
    for (const [what, request] of [['a hit', callTool('read-large', {})], ['a miss', callTool('read-large', { n: 2 })]]) {
        const connection = await stand.connect(t);
        connection.socket.pause();
        await connection.send(request);
        readers.push({ what, connection });
    }
    await stand.sidecar.untilLogged(() => stand.sidecar.requests('tools/call').filter(({ name }) => name === 'read-large').length >= 3, 'both answers to be on their way');
    const stopped = stand.sidecar.stop();
    await sleep(500);
    assert.ok(stand.sidecar.running, 'it waits for its readers');
    for (const { what, connection } of readers) {
        const answer = connection.answer();
        connection.socket.resume();
        const message = await (await answer).json();
        assert.equal(message.result.content[0].text, large, what);
    }
    assert.deepEqual(await stopped, { code: 0, signal: null });
});

test('an error of the sidecar\'s own says which lookup came before it; a miss says that it is new', async (t) => {
    const stand = await Stand.open({ t, flags: ['--first-byte-timeout', '300ms', '--connect-timeout', '300ms'] });
    const refused = async (status, detail, request) => {
        const answer = await stand.ask(request);
        assert.equal(answer.status, status);
        assert.equal((await answer.json()).error.code, -32603);
        assert.equal(answer.header('cache-status'), `mcpcached; fwd=miss; detail=${detail}`);
    };
    stand.upstream.on('read-silent', () => {});
    stand.upstream.on('read-reset', (call) => call.reset());
    for (const call of [callTool, legacyCall]) {
        await refused(504, 'timeout', call('read-silent', {}));
        await refused(502, 'reset', call('read-reset', {}));
        stand.upstream.on('read-age', (request) => request.result(complete('x'), { via: 'json' }));
        assert.deepEqual((await stand.expect('miss', call('read-age', {}))).headerAll('age'), ['0']);
        stand.upstream.on('read-age-sse', (request) => request.result(complete('x'), { via: 'sse' }));
        assert.deepEqual((await stand.expect('miss', call('read-age-sse', {}))).headerAll('age'), ['0']);
        stand.upstream.on('read-age-theirs', (request) => request.result(complete('x'), { headers: { Age: '7' } }));
        assert.deepEqual((await stand.expect('miss', call('read-age-theirs', {}))).headerAll('age'), ['7'], 'a cache behind this one');
    }
    await stand.upstream.close();
    for (const call of [callTool, legacyCall]) await refused(502, 'connect', call('read-age', { another: true }));
});

test('a request without Host reaches the upstream with the upstream\'s own authority', async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.on('read-host', (call) => call.result(complete(call.headerAll('host').join('+'))));
    stand.upstream.on('GET /page', (call) => call.reply(200, {}, call.headerAll('host').join('+')));
    const own = `127.0.0.1:${stand.upstream.port}`;
    const page = await stand.ask({ method: 'GET', path: '/page', version: 'HTTP/1.0' });
    assert.equal((await page.body()).toString(), own);
    const call = await stand.expect('miss', { ...callTool('read-host', {}), version: 'HTTP/1.0' });
    assert.equal((await messageOf(call)).result.content[0].text, own);
    const named = await stand.expect('miss', { ...callTool('read-host', {}, { headers: { Host: 'default' } }), version: 'HTTP/1.0' }, 'one who names a host, though');
    assert.equal((await messageOf(named)).result.content[0].text, 'default');
});

test('after kill -9 a session that was open before finds its entries again as soon as the upstream has accepted it', async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.on('initialize', (call) => call.result({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 's', version: '1' } }, { via: 'sse', headers: { 'Mcp-Session-Id': 'long-lived' } }));
    stand.upstream.on('mine', (call) => call.result(complete('x')));
    const opened = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }));
    await messageOf(opened);
    const call = (options) => legacyCall('mine', {}, { session: 'long-lived', ...options });
    await stand.fill(call());
    // What waits for its commit counts already, and would die with the process.
    await sleep(300);
    await stand.sidecar.kill9();
    await stand.sidecar.restart();
    await stand.expect('miss:unproven', call(), 'nobody knows yet whether the upstream still has that session');
    await stand.expect('hit', call());
    await stand.expect('bypass:session', call({ token: 'beta' }), 'another caller who names that session');
    await stand.expect('bypass:version', call({ version: '2025-06-18' }), 'the session\'s version is remembered with it');
    assert.equal(stand.upstream.of('mine').length, 4);
});

test('what a loop has seen before changes no key', async (t) => {
    for (const call of [(n, headers) => callTool('read', { n }, { headers }), (n, headers) => modern('tools/list', {}, { headers }), (n, headers) => legacyCall('read', { n }, { headers })]) {
        const stand = await Stand.open({ t });
        stand.upstream.on('read', (request) => request.result(complete('x')));
        stand.upstream.on('tools/list', (request) => request.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'private' }));
        // No canary here: it would be something seen before.
        await stand.expect('miss', call(1, {}), 'the very first request of the process');
        await stand.expect('hit', call(1, {}));
        for (const headers of [{ 'Mcp-Param-Region': 'north' }, { 'Accept-Language': 'de' }, { Origin: 'https://other.example' }, { 'Mcp-Param-Empty': '' }]) {
            await (await stand.ask(call(1, headers))).body();
            await stand.expect('hit', call(1, {}), `after ${JSON.stringify(headers)}`);
        }
    }
});
