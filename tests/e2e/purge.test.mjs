/* SPDX-License-Identifier: Apache-2.0 */
// Purges by an operator: what each kind takes and leaves, softly and hard, what the count says, who may ask, and the verb that asks.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { lstat, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { adminOf, askAdmin, socketPath } from './lib/admin.mjs';
import { join } from './lib/crowd.mjs';
import { callTool, complete, contents, legacyCall, messageOf, modern, outcomeOf, readResource } from './lib/rpc.mjs';
import { runToEnd } from './lib/sidecar.mjs';
import { Stand } from './lib/stand.mjs';
import { until } from './lib/wait.mjs';

/** shared*, tagged*: everybody's. mine*: to credentials. brief*: in grace soon. sturdy*: stands in soon. Else: a write. */
const POLICY = `version: 1
defaults:
  lists: 60s
  resources: hint
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "shared*", ttl: 60s, scope: public }
  - { name: "tagged*", ttl: 60s, scope: public, tags: ["item:{/id}", "all-items"] }
  - { name: "mine*", ttl: 60s, scope: principal }
  - { name: "mild*", ttl: 60s, grace: 60s, scope: public }
  - { name: "sturdy*", ttl: 60s, stale_if_error: 60s, scope: public }
resources:
  - { uri: "docs://**", ttl: 60s, scope: public }
`;
const TOKEN = 'token-of-the-operator-1234';

/** A sidecar with an admin listener on a Unix socket, and an upstream whose every answer is another one. */
async function open(t, { policy = POLICY, flags = [] } = {}) {
    const at = `unix:${await socketPath(t)}`;
    let answers = 0;
    const fallback = (call) => {
        const text = `answer ${(answers += 1)}`;
        const { method } = call.json;
        if (method === 'resources/read') return call.result(contents(call.name, text, { ttlMs: 60_000, cacheScope: 'public' }));
        if (method === 'tools/list') return call.result({ resultType: 'complete', tools: [], ttlMs: 60_000, cacheScope: 'public', nextCursor: undefined });
        if (method === 'prompts/list') return call.result({ resultType: 'complete', prompts: [], ttlMs: 60_000, cacheScope: 'public' });
        return call.result(complete(text));
    };
    const stand = await Stand.open({ t, policy, fallback, flags: ['--admin', at, ...flags] });
    const purge = async (body) => {
        const answer = await askAdmin(at, { body });
        assert.equal(answer.status, 200, answer.text);
        return answer.json;
    };
    return { stand, at, purge };
}

const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};

/** What is in the store of `everything`, by a name for each. */
const everything = {
    'shared-a': callTool('shared-a', {}),
    'shared-b': callTool('shared-b', {}),
    'item 1': callTool('tagged', { id: 1 }),
    'item 2': callTool('tagged', { id: 2 }),
    'docs a': readResource('docs://a'),
    'docs b': readResource('docs://b'),
    'tools/list': modern('tools/list'),
    'prompts/list': modern('prompts/list'),
    'mine of alpha': callTool('mine', {}),
    'mine of beta': callTool('mine', {}, { token: 'beta' }),
};

/** Each kind: the order, what it takes. */
const KINDS = [
    [{ all: true }, Object.keys(everything)],
    [{ tool: 'shared-a' }, ['shared-a']],
    [{ tool: 'tagged' }, ['item 1', 'item 2']],
    [{ tool: ['shared-a', 'shared-b', 'nowhere'] }, ['shared-a', 'shared-b']],
    [{ list: 'prompts/list' }, ['prompts/list']],
    [{ uri: 'docs://a' }, ['docs a']],
    [{ uri: ['docs://a', 'docs://b', 'docs://a'] }, ['docs a', 'docs b']],
    [{ tag: 'item:1' }, ['item 1']],
    [{ tag: ['all-items', 'item:2'] }, ['item 1', 'item 2']],
    [{ principal: { authorization: 'Bearer beta' } }, ['mine of beta']],
    [{ principal: { Authorization: ' Bearer beta ' }, tool: 'shared-b' }, ['mine of beta', 'shared-b']],
    [{ tool: 'tagged', tag: 'item:1', uri: 'docs://b' }, ['item 1', 'item 2', 'docs b']],
];

test('each kind of purge takes what it names, counts it, and leaves the rest; a dry run tells the same and takes nothing', async (t) => {
    const { stand, purge } = await open(t);
    const canaries = async () => (await purge({ tool: 'canary', dry_run: true })).purged;
    for (const request of Object.values(everything)) await stand.fill(request);
    for (const [order, taken] of KINDS) {
        const what = JSON.stringify(order);
        for (const [name, request] of Object.entries(everything)) await stand.expect('hit', request, `${name} before ${what}`);
        await stand.settle();
        const more = order.all ? await canaries() : 0;
        const dry = await purge({ ...order, dry_run: true });
        assert.equal(dry.purged, taken.length + more, what);
        assert.ok(dry.bytes > 20 * taken.length, `${what}: ${dry.bytes} bytes`);
        assert.equal(dry.dry_run, true);
        for (const [name, request] of Object.entries(everything)) await stand.expect('hit', request, `${name} after the dry run of ${what}`);
        const done = await purge(order);
        assert.deepEqual(done, { purged: dry.purged, bytes: dry.bytes, soft: false, dry_run: false, reclaimed: 'in the background' }, what);
        const again = await purge(order);
        assert.equal(again.purged, 0, `${what}, a second time`);
        assert.match(again.hint, /purged already/);
        for (const [name, request] of Object.entries(everything)) await stand.expect(taken.includes(name) ? 'miss' : 'hit', request, `${name} after ${what}`);
        await stand.settle();
    }
});

test('answers of the session-based versions, and what the server tagged and named, are purged too', async (t) => {
    const { stand, purge } = await open(t);
    stand.upstream.on('mine-old', (call) => call.result({ content: [{ type: 'text', text: 'old' }] }));
    stand.upstream.on('shared-grouped', (call) => call.result(complete('grouped'), { headers: { 'Cache-Groups': '"from the server"' } }));
    stand.upstream.on('shared-linked', (call) => call.result(complete('linked', { content: [{ type: 'resource_link', uri: 'docs://linked', name: 'x' }], _meta: { 'io.mcpcached/tags': ['in meta'] } })));
    const requests = [legacyCall('mine-old', {}), callTool('shared-grouped', {}), callTool('shared-linked', {})];
    for (const request of requests) await stand.fill(request);
    for (const request of requests) await stand.expect('hit', request);
    assert.equal((await purge({ tool: 'mine-old' })).purged, 1);
    await stand.expect('miss', requests[0]);
    assert.equal((await purge({ tag: 'from the server' })).purged, 1);
    await stand.expect('miss', requests[1]);
    assert.equal((await purge({ tag: 'in meta' })).purged, 1);
    await stand.expect('miss', requests[2]);
});

test('an entry with more tags than it can carry goes with every tag, and is counted', async (t) => {
    const { stand, purge } = await open(t);
    const groups = (from) => Array.from({ length: 32 }, (_, n) => `"g${from + n}"`).join(', ');
    stand.upstream.on('shared-many', (call) => call.result(complete('many', { _meta: { 'io.mcpcached/tags': Array.from({ length: 32 }, (_, n) => `m${n}`) } }), { headers: { 'Cache-Groups': groups(0) } }));
    for (const tag of ['g0', 'g31', 'm0', 'm31']) {
        await stand.fill(callTool('shared-many', {}));
        await stand.expect('hit', callTool('shared-many', {}));
        assert.equal((await purge({ tag })).purged, 1, tag);
        await stand.expect('miss', callTool('shared-many', {}), tag);
        await stand.settle();
        await purge({ all: true });
    }
});

test('the principal is who sends exactly these credentials', async (t) => {
    const { stand, purge } = await open(t, { policy: `${POLICY}identity: { headers: [authorization, x-team] }\n` });
    const callers = {
        plain: {},
        cookie: { headers: { Cookie: 'a=1' } },
        'two cookies': { headers: [['Cookie', 'a=1'], ['Cookie', 'b=2']] },
        team: { headers: { 'X-Team': 'red' } },
    };
    for (const options of Object.values(callers)) await stand.fill(callTool('mine', {}, options));
    const expectAll = async (missing) => {
        for (const [name, options] of Object.entries(callers)) await stand.expect(name === missing ? 'miss' : 'hit', callTool('mine', {}, options), `${name}, ${missing} being purged`);
        await stand.settle();
    };
    const bearer = { authorization: 'Bearer alpha' };
    await expectAll();
    for (const [name, principal] of [['plain', bearer], ['cookie', { ...bearer, cookie: 'a=1' }], ['two cookies', { Cookie: ['a=1', 'b=2'], ...bearer }], ['team', { 'x-team': 'red', ...bearer }]]) {
        const { purged } = await purge({ principal });
        assert.ok(purged >= 1, name);
        await expectAll(name);
    }
    const { purged, hint } = await purge({ principal: { ...bearer, cookie: 'b=2' } });
    assert.equal(purged, 0);
    assert.match(hint, /no other credentials/);
});

test('identity.claims: any token of the same person names him', async (t) => {
    const { stand, purge } = await open(t, { policy: `${POLICY}identity: { claims: [iss, sub] }\n` });
    const jwt = (claims) => `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.`;
    const [first, second, other] = [{ iss: 'i', sub: 'ann', jti: '1' }, { iss: 'i', sub: 'ann', jti: '2' }, { iss: 'i', sub: 'ben', jti: '1' }].map(jwt);
    for (const token of [first, other]) await stand.fill(callTool('mine', {}, { token }));
    await stand.expect('hit', callTool('mine', {}, { token: first }));
    assert.equal((await purge({ principal: { authorization: `Bearer ${second}` } })).purged, 1);
    await stand.expect('miss', callTool('mine', {}, { token: first }));
    await stand.expect('hit', callTool('mine', {}, { token: other }));
});

test('softly: stale in grace, a stand-in where errors allow it, else gone; hard: never served again', async (t) => {
    const { stand, purge } = await open(t);
    const [mild, sturdy, plain] = ['mild', 'sturdy', 'shared-plain'].map((name) => callTool(name, {}));
    for (const request of [mild, sturdy, plain]) await stand.fill(request);
    const answered = await textIn(await stand.expect('hit', mild));

    const soft = await purge({ tool: ['mild', 'sturdy', 'shared-plain'], soft: true });
    assert.deepEqual({ purged: soft.purged, soft: soft.soft, reclaimed: soft.reclaimed }, { purged: 3, soft: true, reclaimed: undefined });
    assert.equal((await purge({ tool: ['mild', 'sturdy', 'shared-plain'], soft: true })).purged, 0, 'what is stale is not made stale');
    assert.equal((await purge({ tool: ['mild', 'sturdy', 'shared-plain'], dry_run: true })).purged, 3, 'a hard purge would take it');
    assert.equal(await textIn(await stand.expect('stale', mild)), answered);
    // the refresh that this began brings a new one
    await until(async () => outcomeOf(await stand.ask(mild)) === 'hit', { what: 'the refresh of what was purged softly' });
    await stand.expect('miss', plain);
    stand.upstream.on('sturdy', (call) => call.reply(503, {}, 'down'));
    await stand.expect('stale:stale-if-error', sturdy);

    stand.upstream.on('mild', (call) => call.reply(503, {}, 'down'));
    await stand.settle();
    assert.equal((await purge({ tool: ['mild', 'sturdy'] })).purged, 2);
    for (const request of [mild, sturdy]) {
        const answer = await stand.ask(request);
        await answer.body();
        assert.equal(answer.status, 503, 'the server\'s own answer, nothing from the store');
    }
});

test('what is being fetched while it is purged answers who waits, and is not kept', async (t) => {
    const { stand, purge } = await open(t);
    for (const [order, request] of [[{ tool: 'shared-slow' }, callTool('shared-slow', {})], [{ tag: 'item:9' }, callTool('tagged-slow', { id: 9 })], [{ all: true }, callTool('shared-slow', { n: 1 })]]) {
        const { name } = JSON.parse(request.body).params;
        let release;
        stand.upstream.on(name, async (call) => {
            await new Promise((resolve) => (release = resolve));
            await call.result(complete('begun before'));
        });
        const waiting = await join(stand, t, request);
        await until(() => release !== undefined);
        await purge(order);
        release();
        const answer = await waiting.answer();
        assert.equal(await textIn(answer), 'begun before');
        assert.match(answer.header('cache-status'), /fwd=miss; detail=purged/);
        stand.upstream.on(name, (call) => call.result(complete('begun behind')));
        assert.equal(await textIn(await stand.expect('miss', request, JSON.stringify(order))), 'begun behind');
        await stand.settle();
        await stand.expect('hit', request);
    }
});

test('a purge that was answered holds after kill -9, and the space comes back', async (t) => {
    const { stand, purge } = await open(t);
    const big = (n) => callTool('tagged-big', { id: n });
    stand.upstream.on('tagged-big', (call) => call.result(complete('x'.repeat(40_000))));
    for (let n = 0; n < 30; n++) await stand.expect('miss', big(n));
    await stand.fill(callTool('shared-kept', {}));
    await stand.expect('hit', big(3));
    const { purged, bytes } = await purge({ tag: 'all-items' });
    assert.equal(purged, 30);
    assert.ok(bytes > 30 * 40_000);
    await stand.sidecar.kill9();
    await stand.sidecar.restart();
    await stand.admit(big(100), callTool('shared-kept', { other: true }));
    await stand.expect('hit', callTool('shared-kept', {}), 'the store is the same');
    for (let n = 0; n < 30; n += 7) await stand.expect('miss', big(n), 'purged before the end of the process');

    await purge({ tag: 'all-items' });
    const reclaimed = () => Number(/\breclaimed=(\d+)/.exec(stand.sidecar.log.findLast((line) => /\bstore entries=/.test(line)) ?? '')?.[1] ?? 0);
    await until(() => {
        process.kill(stand.sidecar.pid, 'SIGUSR1');
        return reclaimed() >= 30;
    }, { everyMs: 50, what: 'the space of what was purged' });
    await stand.expect('hit', callTool('shared-kept', {}), 'it took nothing else');
});

test('two loops: no answer from before a purge is given by either behind its answer', async (t) => {
    const { stand, purge } = await open(t, { flags: ['--threads', '2'] });
    const request = callTool('shared-race', {});
    for (let round = 0; round < 30; round++) {
        const before = await textIn(await stand.ask(request));
        await purge({ tool: 'shared-race' });
        const answers = await Promise.all(Array.from({ length: 8 }, () => stand.ask(request)));
        for (const answer of answers) assert.notEqual(await textIn(answer), before, `round ${round}: ${answer.header('cache-status')}`);
    }
});

test('purges while requests pass: whoever asks behind a purge gets nothing that was fetched before it', async (t) => {
    const { stand, purge } = await open(t, { flags: ['--threads', '2'] });
    let version = 0;
    let acknowledged = 0;
    let isOver = false;
    const outcomes = new Set();
    stand.upstream.on('shared-versioned', (call) => call.result(complete(String(version))));
    const askers = Array.from({ length: 4 }, async () => {
        while (!isOver) {
            const least = acknowledged;
            const answer = await stand.ask(callTool('shared-versioned', {}));
            const seen = Number(await textIn(answer));
            outcomes.add(outcomeOf(answer));
            assert.ok(seen >= least, `version ${seen} after the purge of what was before ${least}: ${answer.header('cache-status')}`);
        }
    });
    for (let round = 1; round <= 100; round++) {
        version = round;
        await purge({ tool: 'shared-versioned' });
        acknowledged = round;
    }
    isOver = true;
    await Promise.all(askers);
    assert.ok(outcomes.has('hit') && outcomes.has('miss'), [...outcomes].join());
});

test('an operator who leaves, and an end of the process, cut no purge in two', async (t) => {
    const { stand, at } = await open(t);
    const body = '{"tool":"shared"}';
    const bytes = `POST /purge HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    await stand.fill(callTool('shared', {}));
    for (let round = 0; round < 20; round++) {
        await stand.expect('hit', callTool('shared', {}));
        const socket = net.connect(at.slice(5));
        await once(socket, 'connect');
        await new Promise((resolve) => socket.write(bytes, resolve));
        socket.destroy();
        await until(async () => outcomeOf(await stand.ask(callTool('shared', {}))) === 'miss', { everyMs: 2, what: 'the purge of somebody who has left' });
        await stand.settle();
    }
    const asked = Array.from({ length: 20 }, () => askAdmin(at, { body: { all: true } }).catch(() => undefined));
    await asked[0];
    assert.deepEqual(await stand.sidecar.stop(), { code: 0, signal: null });
    for (const answer of await Promise.all(asked)) if (answer) assert.equal(answer.status, 200);
});

// ---- who may ask ----------------------------------------------------------------------------------------------------------------

async function tokenFile(t, text = `${TOKEN}\nsecond line\n`) {
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-token-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    const file = path.join(dir, 'token');
    await writeFile(file, text);
    return file;
}

test('over TCP: no token, a wrong one, an Origin, a foreign Host, a large body, another method or path', async (t) => {
    const file = await tokenFile(t);
    const stand = await Stand.open({ t, policy: POLICY, fallback: (call) => call.result(complete('x')), flags: ['--admin', '127.0.0.1:0', '--admin-token-file', file] });
    const at = await adminOf(stand.sidecar);
    assert.match(at, /^127\.0\.0\.1:\d+$/);
    await stand.fill(callTool('shared', {}));
    const all = { body: { all: true } };
    const refused = [
        [401, all, /Bearer/],
        [401, { ...all, token: `${TOKEN}x` }],
        [401, { ...all, token: TOKEN.slice(0, -1) }],
        [401, { ...all, token: 'second line' }],
        [401, { ...all, headers: { Authorization: TOKEN } }],
        [401, { ...all, headers: { Authorization: [`Bearer ${TOKEN}`, `Bearer ${TOKEN}`] } }],
        [401, { method: 'GET', path: '/livez' }],
        [401, { method: 'GET', path: '/nowhere' }],
        [403, { ...all, token: TOKEN, headers: { Origin: 'http://localhost' } }, /Origin/],
        [403, { ...all, token: TOKEN, headers: { Origin: 'null' } }, /Origin/],
        [403, { ...all, token: TOKEN, headers: { Host: 'evil.example' } }, /Host/],
        [403, { ...all, token: TOKEN, headers: { Host: '127.0.0.1.evil.example:80' } }, /Host/],
        [404, { ...all, token: TOKEN, path: '/' }, /purge/],
        [404, { ...all, token: TOKEN, path: '/purge/' }],
        [404, { ...all, token: TOKEN, path: '/mcp' }],
        [405, { ...all, token: TOKEN, method: 'PUT' }, /POST/],
        [405, { token: TOKEN, method: 'GET' }, /POST/],
        [405, { token: TOKEN, method: 'DELETE' }, /POST/],
        [405, { token: TOKEN, path: '/livez' }, /GET/],
        [413, { token: TOKEN, body: JSON.stringify({ tag: 'x'.repeat(64 * 1024) }) }, /64 KiB/],
        [413, { token: TOKEN, body: JSON.stringify({ tag: 'x'.repeat(64 * 1024) }), headers: { 'Transfer-Encoding': 'chunked' } }, /64 KiB/],
        [400, { token: TOKEN, body: '{"all":true' }, /JSON/],
        [400, { token: TOKEN, body: { all: true, colour: 'blue' } }, /'colour'/],
        [400, { token: TOKEN, body: { soft: true } }, /nothing is named/],
        [400, { token: TOKEN, body: { tag: Array.from({ length: 251 }, (_, n) => `t${n}`) } }, /250/],
        [400, { token: TOKEN, body: { principal: { 'x-colour': 'blue' } } }, /'x-colour'/],
        [400, { token: TOKEN, body: { list: 'tools/call' } }, /'tools\/call'/],
        [400, { token: TOKEN }, /JSON/],
    ];
    for (const [status, request, words] of refused) {
        const answer = await askAdmin(at, request);
        const what = JSON.stringify({ ...request, body: JSON.stringify(request.body)?.slice(0, 40) });
        assert.equal(answer.status, status, `${what}: ${answer.text}`);
        assert.equal(answer.headers['content-type'], 'application/json', what);
        assert.equal(answer.headers['cache-control'], 'no-store');
        assert.ok(answer.json.error.length > 10, what);
        if (words) assert.match(answer.json.error, words, what);
        if (status === 401) assert.equal(answer.headers['www-authenticate'], 'Bearer');
        if (status === 405) assert.match(answer.headers.allow, /POST|GET/);
    }
    await stand.expect('hit', callTool('shared', {}), 'nothing of that purged anything');
    for (const host of [at, `localhost:${at.split(':')[1]}`, '[::1]', '127.0.0.2']) {
        assert.equal((await askAdmin(at, { method: 'GET', path: '/livez', token: TOKEN, headers: { Host: host } })).text, 'ok\n', host);
    }
    assert.equal((await askAdmin(at, { body: { tag: Array.from({ length: 250 }, (_, n) => `t${n}`) }, token: TOKEN })).json.purged, 0);
    assert.ok((await askAdmin(at, { ...all, token: TOKEN })).json.purged >= 1);
    await stand.expect('miss', callTool('shared', {}));
    assert.equal(stand.sidecar.log.filter((line) => line.includes(TOKEN)).length, 0, 'no token in the log');
    // on the MCP port none of this exists
    const answer = await stand.ask({ method: 'POST', path: '/purge', headers: { Authorization: `Bearer ${TOKEN}` }, body: '{"all":true}' });
    await answer.body();
    await stand.expect('hit', callTool('shared', {}));
});

/** A request of raw bytes: everything that comes back. */
async function raw(at, bytes) {
    const socket = at.startsWith('unix:') ? net.connect(at.slice(5)) : net.connect(at.split(':')[1], '127.0.0.1');
    socket.on('error', () => {});
    let text = '';
    socket.on('data', (piece) => (text += piece));
    socket.write(bytes);
    await once(socket, 'close');
    return text;
}

test('requests that can be read in two ways are not acted upon; those that never end give way', async (t) => {
    const { stand, at } = await open(t);
    await stand.fill(callTool('shared', {}));
    const body = '{"all":true}';
    const head = `POST /purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`;
    for (const [what, bytes] of [
        ['two lengths', `${head}Content-Length: ${body.length}\r\nContent-Length: 3\r\n\r\n${body}`],
        ['a length and chunks', `${head}Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n${body}\r\n0\r\n\r\n`],
        ['two hosts', `${head}Host: evil.example\r\nContent-Length: ${body.length}\r\n\r\n${body}`],
        ['no host', `POST /purge HTTP/1.1\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`],
        ['bare line feeds', `${head}Content-Length: ${body.length}\r\n\r\n${body}`.replaceAll('\r', '')],
    ]) assert.match(await raw(at, bytes), /^HTTP\/1.1 400 /, what);
    await stand.expect('hit', callTool('shared', {}));
    // more than are let in at once, and silent: one more waits, and is answered when they have been sent away
    const idle = Array.from({ length: 70 }, () => net.connect(at.slice(5)));
    for (const socket of idle) socket.on('error', () => {});
    assert.equal((await askAdmin(at, { method: 'GET', path: '/livez' })).status, 200);
    for (const socket of idle) socket.destroy();
});

test('a Unix socket is its owner\'s alone; one that was left behind is replaced, one in use and other files are not', async (t) => {
    const { stand, at } = await open(t);
    const file = at.slice(5);
    const mode = async () => ((await lstat(file)).mode & 0o777).toString(8);
    assert.equal(await mode(), '600');
    const serve = (more) => runToEnd(['serve', '--listen', '127.0.0.1:0', '--upstream', 'http://127.0.0.1:9/mcp', '--store', path.join(path.dirname(file), 'store'), '--store-size', '16MiB', ...more]);
    const second = await serve(['--admin', at]);
    assert.equal(second.code, 2);
    assert.match(second.stderr, /somebody listens there already/);
    assert.equal((await askAdmin(at, { method: 'GET', path: '/livez' })).status, 200, 'the first is still there');

    await stand.sidecar.kill9();
    assert.equal(await mode(), '600');
    await stand.sidecar.restart();
    assert.equal((await askAdmin(at, { method: 'GET', path: '/livez' })).status, 200);
    assert.equal(await mode(), '600');
    await stand.sidecar.stop();
    await assert.rejects(lstat(file), /ENOENT/);

    await writeFile(file, 'precious');
    const third = await serve(['--admin', at]);
    assert.equal(third.code, 2);
    assert.match(third.stderr, /no socket/);
    await rm(file);
    const fourth = await serve(['--admin', `unix:${path.dirname(file)}/nowhere/a.sock`]);
    assert.equal(fourth.code, 2);
    assert.match(fourth.stderr, /nowhere/);
    await stand.sidecar.restart();
});

test('an address without a token, and settings that do not fit, are refused in one sentence', async (t) => {
    const file = await tokenFile(t);
    const short = await tokenFile(t, 'short\n');
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-purge-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    for (const [flags, ...words] of [
        [['--admin', '127.0.0.1:0'], '--admin-token-file', 'unix:'],
        [['--admin', '[::1]:0'], '--admin-token-file', 'unix:'],
        [['--admin', '0.0.0.0:0'], '--admin-token-file', 'other machines'],
        [['--admin', 'nonsense'], "--admin 'nonsense'", '127.0.0.1:8081'],
        [['--admin', 'unix:relative.sock'], 'begins with /'],
        [['--admin', '127.0.0.1:0', '--admin-token-file', '/nowhere'], '--admin-token-file', '/nowhere'],
        [['--admin', '127.0.0.1:0', '--admin-token-file', short], '--admin-token-file', 'openssl'],
        [['--admin-token-file', file], '--admin-token-file', '--admin '],
    ]) {
        const { code, stderr } = await runToEnd(['serve', '--listen', '127.0.0.1:0', '--upstream', 'http://127.0.0.1:9/mcp', '--store', path.join(dir, 'store'), '--store-size', '16MiB', ...flags]);
        assert.equal(code, 2, `${flags}: ${stderr}`);
        assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
        for (const word of words) assert.ok(stderr.includes(word), `${stderr} does not say ${word}`);
    }
});

// ---- the verb -------------------------------------------------------------------------------------------------------------------

const verb = (...args) => runToEnd(['purge', ...args], { env: { MCPCACHED_ADMIN: '', MCPCACHED_ADMIN_TOKEN_FILE: '' } });

test('mcpcached purge: one line for each purge', async (t) => {
    const { stand, at } = await open(t);
    const fill = async () => {
        for (const request of Object.values(everything)) await (await stand.ask(request)).body();
        await stand.settle();
    };
    const said = async (args, wanted) => {
        await fill();
        const { code, stdout, stderr } = await verb(...args, '--admin', at);
        assert.equal(stderr, '');
        assert.equal(code, 0);
        assert.match(stdout, wanted);
        assert.equal(stdout.split('\n').length, 2, stdout);
    };
    const size = String.raw`\(\d+(\.\d)? (bytes|KiB)\)`;
    await said(['--tag', 'item:1'], new RegExp(`^purged 1 entry ${size} with tag item:1\n$`));
    await said(['--tag=all-items'], new RegExp(`^purged 2 entries ${size} with tag all-items\n$`));
    await said(['--tag', 'item:1', '--tag', 'item:2', '--tool', 'shared-a'], new RegExp(`^purged 3 entries ${size} of tool shared-a or with any of 2 tags\n$`));
    await said(['--uri', 'docs://a', '--dry-run'], new RegExp(`^would purge 1 entry ${size} with URI docs://a\n$`));
    await said(['--list', 'prompts/list', '--soft'], new RegExp(`^made 1 entry ${size} stale of list prompts/list\n$`));
    await said(['--principal', 'Authorization: Bearer beta'], new RegExp(`^purged 1 entry ${size} of one principal\n$`));
    const headers = path.join(path.dirname(at.slice(5)), 'headers');
    await writeFile(headers, '\nAuthorization: Bearer beta\r\n\n');
    await said(['--principal', `@${headers}`], new RegExp(`^purged 1 entry ${size} of one principal\n$`));
    await said(['--tag', 'item:3'], /^purged nothing with tag item:3: nothing stored has this tag/);
    await said(['--tag', 'a\x1b[31m'], /^purged nothing with tag a\?\[31m: /);
    await said(['--all', '--soft', '--dry-run'], new RegExp(`^would make all \\d+ entries ${size} stale\n$`));
    await said(['--all'], new RegExp(`^purged all \\d+ entries ${size}\n$`));
    const { code, stdout } = await runToEnd(['purge', '--tool', 'nothing'], { env: { MCPCACHED_ADMIN: at } });
    assert.equal(code, 0);
    assert.match(stdout, /^purged nothing of tool nothing: /);
});

test('mcpcached purge: over TCP with a token, and what it says when it cannot', async (t) => {
    const file = await tokenFile(t);
    const wrong = await tokenFile(t, 'another-token-that-is-long\n');
    const stand = await Stand.open({ t, policy: POLICY, fallback: (call) => call.result(complete('x')), flags: ['--admin', '127.0.0.1:0', '--admin-token-file', file] });
    const at = await adminOf(stand.sidecar);
    await stand.fill(callTool('shared', {}));
    const says = async (args, code, words) => {
        const ended = await verb(...args);
        assert.equal(ended.code, code, `${args}: ${ended.stderr}`);
        assert.equal(ended.stdout, '');
        assert.match(ended.stderr, words);
        assert.equal(ended.stderr.split('\n').length, 2, ended.stderr);
        assert.ok(ended.stderr.startsWith('mcpcached: '));
    };
    await says(['--all', '--admin', at], 1, /nothing was purged.* 401, .*--admin-token-file/);
    await says(['--all', '--admin', at, '--admin-token-file', wrong], 1, /401/);
    await says(['--list', 'tools', '--admin', at, '--admin-token-file', file], 1, /'tools' is no list/);
    await stand.expect('hit', callTool('shared', {}));
    const done = await verb('--tool', 'shared', '--admin', at, '--admin-token-file', file);
    assert.match(done.stdout, /^purged 1 entry .* of tool shared\n$/);
    await stand.expect('miss', callTool('shared', {}));

    await says(['--all', '--admin', 'unix:/nowhere/admin.sock'], 1, /cannot reach 'unix:\/nowhere\/admin.sock'.*--admin/);
    await says(['--all', '--admin', '127.0.0.1:1'], 1, /cannot reach '127.0.0.1:1'/);
    await says(['--all', '--admin', new URL(stand.origin).host], 1, /nothing was purged/);
    await says(['--all'], 2, /--admin ADDR/);
    await says(['--all', '--admin', 'nonsense'], 2, /'nonsense'/);
    await says(['--admin', at], 2, /nothing is named/);
    await says(['--soft', '--admin', at], 2, /nothing is named/);
    await says(['--colour', '--admin', at], 2, /'--colour'/);
    await says(['everything'], 2, /'everything'/);
    await says(['--admin', at, '--tag'], 2, /--tag needs a value/);
    await says(['--principal', 'Bearer x', '--admin', at], 2, /--principal/);
    await says(['--principal', '@/nowhere', '--admin', at], 2, /\/nowhere/);
    await says(['--all', '--admin', at, '--admin-token-file', '/nowhere'], 2, /\/nowhere/);
});

test('mcpcached purge: a listener that is no mcpcached, or that says nothing', async (t) => {
    const answers = ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', 'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi', '220 mail.example\r\n', '', 'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"purged":-1 }', `HTTP/1.1 500 No\r\n\r\n{"error":"\u001b[2J"}`];
    for (const answer of answers) {
        const server = net.createServer((socket) => socket.on('error', () => {}).end(answer)).listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        const ended = await verb('--all', '--admin', `127.0.0.1:${server.address().port}`);
        assert.equal(ended.code, 1, answer);
        assert.equal(ended.stdout, '');
        assert.match(ended.stderr, /^mcpcached: [^\x00-\x1f]+\n$/, answer);
    }
});

test('mcpcached purge --help names every flag and every exit status', async () => {
    const { code, stdout } = await verb('--help');
    assert.equal(code, 0);
    for (const word of ['--all', '--tool', '--list', '--uri', '--tag', '--principal', '--soft', '--dry-run', '--admin ADDR', '--admin-token-file', 'MCPCACHED_ADMIN', 'MCPCACHED_ADMIN_TOKEN_FILE', 'unix:', 'Exit status: 0', '1 ', '2 ']) assert.ok(stdout.includes(word), word);
    assert.match((await runToEnd(['--help'])).stdout, /^ {2}purge /m);
});
