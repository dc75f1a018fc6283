/* SPDX-License-Identifier: Apache-2.0 */
// A hit is an answer that the upstream never saw, so it is given only where the upstream has lately said that it would give it: to this very
// credential, in this very session, for this very tool or resource. Proofs, the probe that renews them, and everything that takes them away.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CHALLENGES, Door, REFUSALS, jwt, probesOf } from './lib/door.mjs';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const LEASE_MS = 300;
const SHORT = `lease: ${LEASE_MS}ms`;
/** touch*: asked of the upstream each time, and no write: what it tells is about admission alone. A write would make everything older no answer for its caller. */
const policy = (identity, ttl) => `version: 1
identity: { ${identity} }
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "touch*", ttl: off }
  - { name: "public:*", ttl: off }
  - { name: "read*", ttl: ${ttl} }
  - { name: "mine*", ttl: ${ttl}, scope: principal }
  - { name: "shared*", ttl: ${ttl}, scope: public }
resources:
  - { uri: "public:**", ttl: ${ttl} }
`;

/** A sidecar in front of a server with a door. */
async function open(t, { identity = 'lease: 60s', ttl = '60s', flags } = {}) {
    const door = new Door();
    const stand = await Stand.open({ t, policy: policy(identity, ttl), flags, fallback: door.handle });
    return { stand, door, upstream: stand.upstream, asked: (name) => stand.upstream.of(name).length };
}

/** An answer that is awaited later: a test that fails before then has its own reason. */
const later = (promise) => {
    promise.catch(() => {});
    return promise;
};
/** Longer than the lease: what was accepted before counts no more. Time itself is the point. */
const lapse = () => sleep(LEASE_MS + 60);
/** What begins in the very millisecond of an end proves nothing; whoever wants to be let in again comes later. */
const moment = () => sleep(3);
const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};
/** Opens a legacy session; what asks in it. */
async function session({ stand, door }, id, token = 'alpha') {
    door.opens = id;
    const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { token }));
    await answer.body();
    assert.equal(answer.header('mcp-session-id'), id);
    return (name, args = {}, more = {}) => legacyCall(name, args, { token, session: id, ...more });
}
/** What the upstream says to those whom it turns away, byte for byte. */
async function expectRefusal(answering, status) {
    const answer = await answering;
    await answer.body();
    assert.equal(answer.status, status);
    assert.deepEqual(answer.headerAll('www-authenticate'), CHALLENGES[status] ?? []);
    assert.equal(answer.text, REFUSALS[status]);
    assert.equal(answer.header('content-type'), 'application/json');
}

/** Brings answers of every scope into the store, and this caller's proofs. */
async function warm(stand, call) {
    for (const name of ['read', 'mine', 'shared']) {
        await (await stand.ask(call(name))).body();
        await stand.expect('hit', call(name), name);
    }
}

// ---- the lease and its probe ----------------------------------------------------------------------------------------------------

const ERAS = {
    modern: { call: () => callTool, method: 'server/discover' },
    'legacy without a session': { call: () => legacyCall, method: 'ping' },
    'legacy session': { call: (place) => session(place, 'probed'), method: 'ping', session: 'probed' },
};
for (const [era, { call: make, method, session: id }] of Object.entries(ERAS)) {
    test(`a lapsed lease costs one probe and then the hit: the tool does not run again (${era})`, async (t) => {
        const place = await open(t, { identity: 'lease: 1s' });
        const { stand, upstream, asked } = place;
        const call = await make(place);
        const request = () => call('read', { n: 1 }, { headers: { 'X-Api-Key': 'k-1' } });
        await stand.fill(request());
        await stand.expect('hit', request(), 'within the lease');
        assert.equal(probesOf(upstream, 'alpha').length, 0, 'no probe within the lease');
        await sleep(1100);
        const hit = await stand.expect('hit', request(), 'after the lease');
        assert.match(await textIn(hit), /^read for alpha, 1$/);
        await stand.expect('hit', request(), 'the probe has renewed it');
        assert.equal(asked('read'), 1, 'the tool ran once');

        const probes = probesOf(upstream, 'alpha');
        assert.equal(probes.length, 1);
        const [probe] = probes;
        assert.equal(probe.method, 'POST');
        assert.equal(probe.target, '/mcp');
        assert.equal(probe.json.method, method);
        assert.equal(probe.json.jsonrpc, '2.0');
        assert.match(probe.json.id, /^mcpcached-./);
        assert.equal(probe.header('x-api-key'), 'k-1', 'with every credential of the caller');
        assert.equal(probe.header('host'), new URL(stand.origin).host);
        assert.match(probe.header('content-type'), /^application\/json\b/);
        assert.match(probe.header('accept'), /application\/json/);
        assert.match(probe.header('accept'), /text\/event-stream/);
        assert.deepEqual(probe.headerAll('mcp-session-id'), id ? [id] : []);
        if (method === 'ping') {
            assert.equal(probe.header('mcp-protocol-version'), '2025-11-25');
        } else {
            assert.equal(probe.header('mcp-protocol-version'), '2026-07-28');
            assert.equal(probe.header('mcp-method'), method);
            assert.equal(probe.json.params._meta['io.modelcontextprotocol/protocolVersion'], '2026-07-28');
            assert.ok(probe.json.params._meta['io.modelcontextprotocol/clientCapabilities'], 'modern servers require it');
        }
        assert.deepEqual(Object.keys(probe.json.params?._meta ?? {}).filter((key) => /progressToken|traceparent|logLevel/.test(key)), [], 'nothing of the call\'s own');
    });
}

test('with probe: off a lapsed lease sends the call itself', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: `${SHORT}, probe: off` });
    await stand.expect('miss', callTool('read', {}));
    await lapse();
    assert.match((await stand.expect('miss:unproven', callTool('read', {}))).header('cache-status'), /^mcpcached; fwd=miss; stored; detail=unproven$/);
    assert.equal(asked('read'), 2);
    assert.equal(probesOf(upstream).length, 0);
});

test('any success renews the lease, whichever tool it was for, so that no probe is needed', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: 'lease: 1s' });
    await stand.expect('miss', callTool('read', {}));
    for (let n = 0; n < 4; n++) {
        await sleep(400);
        await (await stand.ask(callTool('touch', { n }))).body();
    }
    await stand.expect('hit', callTool('read', {}));
    assert.equal(asked('read'), 1);
    assert.equal(probesOf(upstream, 'alpha').length, 0);
});

test('a notification, a GET stream and an answer without a result renew it too: they were let in', async (t) => {
    const { stand, upstream, door } = await open(t, { identity: `${SHORT}, probe: off` });
    await stand.expect('miss', callTool('read', {}));
    const renewals = [
        () => stand.ask(modern('notifications/cancelled', { requestId: 7 }, { id: null })),
        () => stand.ask({ method: 'GET', path: '/mcp', headers: { Authorization: 'Bearer alpha', Accept: 'text/event-stream' } }),
        () => stand.ask(callTool('touch-error', {})),
    ];
    upstream.on('touch-error', (call) => call.error(-32603, 'broken'));
    for (const renew of renewals) {
        await lapse();
        const answer = await renew();
        assert.ok(answer.status === 200 || answer.status === 202);
        await stand.expect('hit', callTool('read', {}), String(renew));
        answer.connection.close();
    }
    assert.equal(door.opens, undefined);
});

test('a preflight, a HEAD, and a success on another path renew nothing: no server asks there who it is', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: `${SHORT}, probe: off` });
    for (const what of ['OPTIONS /mcp', 'HEAD /mcp', 'GET /health']) upstream.on(what, (call) => call.reply(200));
    await stand.expect('miss', callTool('read', {}));
    await lapse();
    const headers = { Authorization: 'Bearer alpha' };
    for (const [method, path] of [['OPTIONS', '/mcp'], ['HEAD', '/mcp'], ['GET', '/health']]) assert.equal((await stand.ask({ method, path, headers })).status, 200);
    await stand.expect('miss:unproven', callTool('read', {}));
    assert.equal(asked('read'), 2);
});

test('a lease counts from when the accepted request began, not from when its answer was there', async (t) => {
    const { stand, upstream } = await open(t, { identity: `${SHORT}, probe: off` });
    await stand.expect('miss', callTool('read', {}));
    upstream.on('touch-slow', async (call) => {
        await lapse();
        await call.result(complete('x'));
    });
    await (await stand.ask(callTool('touch-slow', {}))).body();
    await stand.expect('miss:unproven', callTool('read', {}), 'the upstream looked at the token before the lease was over');
});

// ---- what a probe may find ------------------------------------------------------------------------------------------------------

const PROBE_ANSWERS = {
    'a result as JSON': { says: (call) => call.result({ resultType: 'complete' }), hit: true },
    'a result as an event stream': { says: (call) => call.result({ resultType: 'complete' }, { via: 'sse' }), hit: true },
    'a result after a notification in the stream': {
        says: async (call) => {
            await call.stream();
            await call.event('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}');
            await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":{"resultType":"complete"}}`);
            await call.endStream();
        },
        hit: true,
    },
    '500': { says: (call) => call.reply(500, { 'Content-Type': 'text/plain' }, 'broken') },
    '503': { says: (call) => call.reply(503, { 'Retry-After': '1' }, '') },
    '404, as a server that knows no discover does': { says: (call) => call.error(-32601, 'Method not found', { status: 404 }) },
    '400': { says: (call) => call.error(-32600, 'Bad Request', { status: 400 }) },
    '202 without a body': { says: (call) => call.reply(202) },
    'a redirect': { says: (call) => call.reply(302, { Location: '/login' }) },
    'a JSON-RPC error': { says: (call) => call.error(-32603, 'no') },
    'a JSON-RPC error in a stream': { says: (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"no"}}`, { via: 'sse' }) },
    'a result to another id': { says: (call) => call.message('{"jsonrpc":"2.0","id":"mcpcached-other","result":{"resultType":"complete"}}') },
    'a stream that ends too early': {
        says: async (call) => {
            await call.stream();
            await call.endStream();
        },
    },
    'a login page': { says: (call) => call.reply(200, { 'Content-Type': 'text/html' }, '<html>who are you?</html>') },
    'a body that breaks off': {
        says: async (call) => {
            await call.head(200, { 'Content-Type': 'application/json', 'Content-Length': 500 });
            await call.write('{"jsonrpc":"2.0"');
            call.close();
        },
    },
    'a reset': { says: (call) => call.reset() },
    'nothing': { says: () => {} },
};
for (const [what, { says, hit = false }] of Object.entries(PROBE_ANSWERS)) {
    test(`a probe that is answered with ${what}: ${hit ? 'the hit' : 'the call itself goes upstream'}`, async (t) => {
        const { stand, upstream, asked } = await open(t, { identity: SHORT, flags: ['--first-byte-timeout', '500ms'] });
        await stand.expect('miss', callTool('read', {}));
        upstream.on('server/discover', says);
        await lapse();
        const answer = await stand.expect(hit ? 'hit' : 'miss:unproven', callTool('read', {}));
        assert.equal(await textIn(answer), `read for alpha, ${hit ? 1 : 2}`);
        assert.equal(asked('read'), hit ? 1 : 2);
        // A kept connection that the upstream closes is no answer: the probe, which changes nothing, is sent again on another, once.
        assert.ok(probesOf(upstream, 'alpha').length <= (what === 'a reset' ? 2 : 1), 'one probe, not repeated');
    });
}

for (const status of [401, 403]) {
    test(`a probe that is answered with ${status}: the client sees what the upstream says of its own call, and has no proof left`, async (t) => {
        const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
        await stand.expect('miss', callTool('read', {}));
        await lapse();
        door.refuse = (call, who) => (who === 'alpha' ? status : undefined);
        for (let n = 2; n <= 3; n++) {
            await expectRefusal(stand.ask(callTool('read', {})), status);
            assert.equal(asked('read'), n);
        }
        assert.ok(probesOf(upstream, 'alpha').length <= 1, 'without any proof there is nothing to renew');
    });
}

test('a probe is refused, the call is not: the call\'s own answer counts', async (t) => {
    const { stand, door, asked } = await open(t, { identity: SHORT });
    await stand.expect('miss', callTool('read', {}));
    await lapse();
    door.refuse = (call) => (call.json?.method === 'server/discover' ? 403 : undefined);
    const answer = await stand.expect('miss:unproven', callTool('read', {}));
    assert.equal(await textIn(answer), 'read for alpha, 2');
    // What begins in the millisecond of a refusal, as that call may, proves nothing; the next one does.
    await until(async () => {
        const again = await stand.ask(callTool('read', {}));
        await again.body();
        return outcomeOf(again) === 'hit';
    }, { what: 'a hit, after the upstream has accepted the caller' });
    assert.ok(asked('read') <= 3);
});

for (const [threads, callers] of [['1', 2], ['1', 40], ['2', 40]]) {
    test(`${callers} requests of one caller after a lapse wait for one probe (${threads} threads)`, async (t) => {
        const { stand, door, upstream, asked } = await open(t, { identity: 'lease: 1s', flags: ['--threads', threads] });
        await stand.fill(callTool('read', {}));
        await sleep(1100);
        const gate = new Gate();
        door.delay = (call, who) => (call.json?.method === 'server/discover' && who === 'alpha' ? gate.pass() : undefined);
        const asking = Array.from({ length: callers }, (_, n) => later(stand.ask(callTool('read', {}, { id: `${n}` }))));
        await until(() => gate.arrived > 0, { everyMs: 2, what: 'the probe' });
        for (let n = 0; n < 3; n++) await stand.turn();
        gate.open(Infinity);
        for (const [n, answer] of (await Promise.all(asking)).entries()) {
            const message = await messageOf(answer);
            assert.deepEqual([outcomeOf(answer), message.id, message.result.content[0].text], ['hit', n, 'read for alpha, 1']);
        }
        assert.equal(probesOf(upstream, 'alpha').length, 1);
        assert.equal(asked('read'), 1);
    });
}

test('callers wait for their own probe, not for each other\'s', async (t) => {
    const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
    for (const token of ['alpha', 'beta']) await stand.expect('miss', callTool('read', {}, { token }));
    await lapse();
    const gate = new Gate();
    door.delay = (call, who) => (call.json?.method === 'server/discover' && who === 'alpha' ? gate.pass() : undefined);
    const slow = later(stand.ask(callTool('read', {})));
    await until(() => gate.arrived === 1, { everyMs: 2, what: 'the first probe' });
    await stand.expect('hit', callTool('read', {}, { token: 'beta' }), 'with the other probe still unanswered');
    await stand.ask(callTool('touch', {})).then((answer) => answer.body());
    gate.open(Infinity);
    assert.equal(outcomeOf(await slow), 'hit');
    assert.deepEqual([probesOf(upstream, 'alpha').length, probesOf(upstream, 'beta').length, asked('read')], [1, 1, 2]);
});

for (const how of ['reset', 'close']) {
    test(`a client that leaves during its probe (${how}) takes nobody's answer along`, async (t) => {
        const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
        await stand.expect('miss', callTool('read', {}));
        await lapse();
        const gate = new Gate();
        door.delay = (call, who) => (call.json?.method === 'server/discover' && who === 'alpha' ? gate.pass() : undefined);
        const leaver = await stand.connect(t);
        await leaver.send(callTool('read', {}));
        await until(() => gate.arrived === 1, { everyMs: 2, what: 'the probe' });
        const stays = later(stand.ask(callTool('read', {}, { id: '"stays"' })));
        await stand.turn();
        leaver[how]();
        await stand.turn();
        gate.open(Infinity);
        const answer = await stays;
        assert.equal((await messageOf(answer)).id, 'stays');
        assert.equal(outcomeOf(answer), 'hit');
        // The one who was alone with his probe.
        await lapse();
        const alone = await stand.connect(t);
        const gone = new Gate();
        door.delay = (call, who) => (call.json?.method === 'server/discover' && who === 'alpha' ? gone.pass() : undefined);
        await alone.send(callTool('read', {}));
        await until(() => gone.arrived === 1, { everyMs: 2, what: 'another probe' });
        alone[how]();
        await stand.turn();
        gone.open(Infinity);
        await stand.expect('hit', callTool('read', {}), 'the next one');
        assert.equal(asked('read'), 1);
        assert.ok(probesOf(upstream, 'alpha').length <= 3);
    });
}

test('SIGTERM during a probe ends the process clean', async (t) => {
    const { stand, upstream } = await open(t, { identity: SHORT, flags: ['--drain', '300ms'] });
    await stand.expect('miss', callTool('read', {}));
    await lapse();
    upstream.on('server/discover', () => {});
    const asking = stand.ask(callTool('read', {})).catch(() => undefined);
    await upstream.call('server/discover');
    assert.deepEqual(await stand.sidecar.stop(), { code: 0, signal: null });
    await asking;
});

// ---- what is granted ------------------------------------------------------------------------------------------------------------

test('a grant is for one tool and one resource: what others may read is asked for first', async (t) => {
    const { stand, asked } = await open(t);
    const beta = { token: 'beta' };
    for (const [own, other, also] of [
        [(o) => callTool('shared-a', {}, o), (o) => callTool('shared-b', {}, o), (o) => callTool('shared-b', { n: 2 }, o)],
        [(o) => readResource('public:a', o), (o) => readResource('public:b', o)],
        [(o) => modern('tools/list', {}, o), (o) => modern('prompts/list', {}, o)],
    ]) {
        for (const request of [own, other, also]) if (request) await stand.fill(request(beta));
        const name = JSON.parse(other().body).params.name ?? JSON.parse(other().body).params.uri ?? JSON.parse(other().body).method;
        const before = asked(name);
        await stand.expect('miss:unproven', own(), 'the first of its kind');
        await stand.expect('miss:unproven', other(), 'accepted for one, not for the other');
        assert.equal(asked(name), before + 1);
        await stand.expect('hit', own());
        await stand.expect('hit', other());
        if (also) await stand.expect('hit', also(), 'a grant is for the tool, whatever its arguments');
        assert.equal(asked(name), before + 1);
    }
});

test('a tool and a resource of one name are two grants', async (t) => {
    const { stand, upstream } = await open(t);
    await stand.fill(readResource('public:x', { token: 'beta' }));
    await (await stand.ask(callTool('public:x', {}))).body();
    await stand.expect('miss:unproven', readResource('public:x'));
    assert.equal(upstream.of('public:x').length, 3);
});

const IN_BAND = {
    'isError: true': (call) => call.result(complete('no', { isError: true })),
    'isError: true in a stream': (call) => call.result(complete('no', { isError: true }), { via: 'sse' }),
    'a JSON-RPC error': (call) => call.error(-32603, 'not for you'),
    'a JSON-RPC error in a stream': (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"not for you"}}`, { via: 'sse' }),
};
for (const [what, refusal] of Object.entries(IN_BAND)) {
    test(`an answer with ${what} takes the grant back, and gives none`, async (t) => {
        const { stand, upstream, asked } = await open(t);
        const beta = { token: 'beta' };
        await stand.fill(callTool('shared', { n: 1 }, beta));
        await stand.expect('miss', callTool('shared', { n: 2 }));
        await stand.expect('hit', callTool('shared', { n: 1 }), 'granted');
        upstream.on('shared', (call) => (call.header('authorization') === 'Bearer alpha' ? refusal(call) : call.result(complete('x'))));
        await (await stand.ask(callTool('shared', { n: 3 }))).body();
        const before = asked('shared');
        await stand.expect('miss:unproven', callTool('shared', { n: 1 }), 'refused for other arguments a moment ago');
        assert.equal(asked('shared'), before + 1);
        await stand.expect('hit', callTool('shared', { n: 1 }, beta), 'a refusal of who was not let in is his alone');
        await stand.expect('miss:unproven', callTool('shared', { n: 1 }), 'and again');
        assert.equal(asked('shared'), before + 2);
        upstream.on('shared', (call) => call.result(complete('x')));
        await stand.expect('miss', callTool('shared', { n: 4 }));
        await stand.expect('hit', callTool('shared', { n: 1 }), 'granted again');
    });
}

test('a refused resource, and one that is not there, is granted no more', async (t) => {
    const { stand, upstream } = await open(t);
    await stand.expect('miss', readResource('public:x'));
    await stand.expect('hit', readResource('public:x'));
    upstream.on('public:x', (call) => call.error(-32602, 'Resource not found'));
    await (await stand.ask(readResource('public:x', { headers: { 'Cache-Control': 'no-cache' } }))).body();
    await stand.expect('miss', readResource('public:x'));
});

test('a grant ends by itself: then the call is sent, however alive its caller is', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: 'lease: 400ms, grant: 1s' });
    const began = performance.now();
    await stand.expect('miss', callTool('read', {}));
    while (performance.now() - began < 1100) {
        await (await stand.ask(callTool('touch', {}))).body();
        await sleep(50);
    }
    await stand.expect('miss:unproven', callTool('read', {}));
    assert.equal(asked('read'), 2);
    assert.equal(probesOf(upstream, 'alpha').length, 0);
    await stand.expect('hit', callTool('read', {}), 'granted anew');
});

test('a hit and a probe renew no grant', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: 'lease: 300ms, grant: 1s' });
    const began = performance.now();
    await stand.expect('miss', callTool('read', {}));
    let outcome = 'hit';
    while (outcome === 'hit' && performance.now() - began < 10_000) {
        await sleep(100);
        const answer = await stand.ask(callTool('read', {}));
        await answer.body();
        outcome = outcomeOf(answer);
        if (outcome === 'hit') assert.ok(performance.now() - began < 1200 + 100, 'no hit beyond the grant');
    }
    assert.equal(outcome, 'miss:unproven');
    assert.equal(asked('read'), 2);
    assert.ok(probesOf(upstream, 'alpha').length >= 1, 'there was a probe on the way');
});

test('a refusal takes back what an older call is about to be granted', async (t) => {
    const { stand, upstream } = await open(t);
    await stand.fill(callTool('shared', { n: 1 }, { token: 'beta' }));
    const gate = new Gate();
    upstream.on('shared', async (call) => {
        if (call.json.params.arguments.n === 2) await gate.pass();
        await call.result(complete('x', call.json.params.arguments.n === 3 ? { isError: true } : {}));
    });
    const slow = later(stand.ask(callTool('shared', { n: 2 })));
    await upstream.call('shared', 2);
    await moment();
    await (await stand.ask(callTool('shared', { n: 3 }))).body();
    gate.open(Infinity);
    await (await slow).body();
    await stand.expect('miss:unproven', callTool('shared', { n: 1 }), 'the newest that the upstream has said to a request of his is no');
});

const PLACES = {
    'another Host': (o, place) => callTool('shared', {}, { ...o, headers: { Host: `${place}.example` } }),
    'another query': (o, place) => ({ ...callTool('shared', {}, o), path: `/mcp?tenant=${place}` }),
    'another header that may choose an answer': (o, place) => callTool('shared', {}, { ...o, headers: { 'X-Tenant': place } }),
};
for (const [what, request] of Object.entries(PLACES)) {
    test(`a grant is good where it was given: ${what} is another place`, async (t) => {
        const { stand, door } = await open(t);
        const placeOf = (call) => /tenant=(\w)/.exec(call.target)?.[1] ?? call.header('x-tenant') ?? call.header('host')[0];
        door.refuse = (call, who) => (who === 'alpha' && placeOf(call) === 'b' ? 403 : undefined);
        await stand.expect('miss', request({ token: 'beta' }, 'b'));
        await stand.expect('miss', request({}, 'a'));
        await stand.expect('hit', request({}, 'a'));
        await expectRefusal(stand.ask(request({}, 'b')), 403);
        await stand.expect('hit', request({ token: 'beta' }, 'b'));
    });
}

test('a credential that nobody knows as one still tells proofs apart: what one gets back after its end is not by another\'s proof', async (t) => {
    const { stand, door } = await open(t);
    const call = (name, who, n) => callTool(name, { n }, { token: null, headers: { 'X-Unheard-Of-Token': who } });
    for (const who of ['a', 'b']) await stand.expect('miss', call('shared', who, 1));
    await stand.expect('hit', call('shared', 'a', 1));
    door.refuse = (request) => (request.header('x-unheard-of-token') === 'a' ? 401 : undefined);
    assert.equal((await stand.ask(call('touch', 'a', 1))).status, 401);
    await moment();
    await stand.expect('miss', call('shared', 'b', 2));
    await stand.expect('hit', call('shared', 'b', 1));
    await expectRefusal(stand.ask(call('shared', 'a', 1)), 401);
});

// ---- case 11: two callers ---------------------------------------------------------------------------------------------------------

for (const scope of ['public', 'private']) {
    for (const via of ['json', 'sse']) {
        test(`case 11: two tokens ask for one list at once, cold, and it is ${scope}: two calls, and nothing private crosses (${via})`, async (t) => {
            const { stand, upstream } = await open(t);
            const gate = new Gate();
            upstream.on('tools/list', async (call) => {
                await gate.pass();
                await call.result({ resultType: 'complete', tools: [{ name: call.header('authorization'), inputSchema: { type: 'object' } }], ttlMs: 60_000, cacheScope: scope }, { via });
            });
            const list = (token) => modern('tools/list', {}, { token });
            const nameIn = async (answer) => (await messageOf(answer)).result.tools[0].name;
            const asking = ['alpha', 'beta'].map((token) => later(stand.ask(list(token))));
            await upstream.call('tools/list', 2);
            gate.open(Infinity);
            const [alpha, beta] = await Promise.all(asking);
            assert.deepEqual([await nameIn(alpha), await nameIn(beta)], ['Bearer alpha', 'Bearer beta'], 'each from its own call');
            await stand.settle();
            for (const token of ['alpha', 'beta']) {
                const name = await nameIn(await stand.expect('hit', list(token)));
                if (scope === 'private') assert.equal(name, `Bearer ${token}`);
            }
            const third = await stand.expect(scope === 'public' ? 'miss:unproven' : 'miss', list('gamma'), 'a third has no proof yet');
            assert.equal(await nameIn(third), 'Bearer gamma');
            assert.equal(upstream.of('tools/list').length, 3);
        });
    }
}

// ---- refusals -------------------------------------------------------------------------------------------------------------------

const NOBODIES = {
    'an expired token': jwt({ sub: 'alpha', exp: 1 }),
    'garbage': 'garbage',
    'no token': null,
};
for (const [what, token] of Object.entries(NOBODIES)) {
    test(`case 56: ${what} in front of a protected server with a public entry gets the server's own 401, every time`, async (t) => {
        const { stand, door, asked } = await open(t);
        door.refuse = (call, who) => (who === 'alpha' ? undefined : 401);
        const requests = [(o) => callTool('shared', {}, o), (o) => readResource('public:x', o), (o) => modern('tools/list', {}, o)];
        for (const request of requests) {
            await stand.fill(request());
            await stand.expect('hit', request());
        }
        for (const request of requests) {
            for (let n = 0; n < 2; n++) {
                const before = stand.upstream.calls.length;
                await expectRefusal(stand.ask(request({ token })), 401);
                assert.equal(stand.upstream.calls.length, before + 1);
            }
            await stand.expect('hit', request(), 'the caller who may is not disturbed');
        }
        assert.equal(asked('shared'), 3);
    });
}

test('case 57: 403 for one tool is seen again and again, whatever others may read there', async (t) => {
    const { stand, door, asked } = await open(t);
    door.refuse = (call, who) => (who === 'alpha' && call.name === 'shared-x' ? 403 : undefined);
    const beta = { token: 'beta' };
    await stand.fill(callTool('shared-y', {}));
    await stand.expect('hit', callTool('shared-y', {}));
    await expectRefusal(stand.ask(callTool('shared-x', {})), 403);
    await stand.fill(callTool('shared-x', {}, beta));
    await stand.expect('hit', callTool('shared-x', {}, beta));
    for (let n = 0; n < 3; n++) {
        await expectRefusal(stand.ask(callTool('shared-x', {})), 403);
        // Alive and welcome elsewhere.
        await (await stand.ask(callTool('shared-y', {}))).body();
    }
    assert.equal(asked('shared-x'), 5);
    await stand.expect('hit', callTool('shared-x', {}, beta));
});

for (const status of [401, 403]) {
    for (const threads of ['1', '2']) {
        test(`case 58: ${status} where old data was: no old data, proofs and private entries gone, the next caller unaffected (${threads} threads)`, async (t) => {
            const { stand, door, asked } = await open(t, { ttl: '700ms', flags: ['--threads', threads] });
            const beta = { token: 'beta' };
            await stand.expect('miss', callTool('read', {}));
            await stand.expect('miss', readResource('doc://mine'));
            await stand.expect('hit', readResource('doc://mine'));
            await sleep(750);
            door.refuse = (call, who) => (who === 'alpha' ? status : undefined);
            await stand.expect('miss', callTool('read', {}, beta));
            await expectRefusal(stand.ask(callTool('read', {})), status);
            await expectRefusal(stand.ask(readResource('doc://mine')), status);
            assert.equal(await textIn(await stand.expect('hit', callTool('read', {}, beta))), 'read for beta, 2');
            door.refuse = () => undefined;
            await moment();
            // Welcome again, and granted by another resource of his: what was stored before is gone all the same.
            await stand.expect('miss', readResource('doc://mine'));
            assert.equal(asked('doc://mine'), 3);
        });
    }
}

const REFUSED = {
    'a call': (o) => callTool('touch', {}, o),
    'a notification': (o) => modern('notifications/cancelled', { requestId: 7 }, { id: null, ...o }),
    'a body that is no JSON': (o) => ({ ...callTool('touch', {}, o), body: 'hello' }),
    'a GET': () => ({ method: 'GET', path: '/mcp', headers: { Authorization: 'Bearer alpha', Accept: 'text/event-stream' } }),
    'a DELETE': () => ({ method: 'DELETE', path: '/mcp', headers: { Authorization: 'Bearer alpha' } }),
};
for (const status of [401, 403]) {
    for (const [what, refused] of Object.entries(REFUSED)) {
        test(`${status} to ${what} ends every proof and every private entry of that credential, and of no other`, async (t) => {
            // Two loops: what one of them has heard, the other has to know.
            const { stand, door, asked } = await open(t, { flags: ['--threads', '2'] });
            const beta = { token: 'beta' };
            const kinds = [(n, o) => callTool('read', { n }, o), (n, o) => callTool('mine', { n }, o), (n, o) => readResource(`doc://${n}`, o)];
            for (const kind of kinds) {
                await stand.fill(kind(1));
                await stand.expect('hit', kind(1));
                await stand.fill(kind(1, beta));
            }
            await stand.expect('miss', callTool('shared', {}));
            await stand.expect('miss:unproven', callTool('shared', {}, beta));
            await stand.expect('hit', callTool('shared', {}));
            door.refuse = (call, who) => (who === 'alpha' ? status : undefined);
            const answer = await stand.ask(refused());
            await answer.body();
            assert.equal(answer.status, status);
            door.refuse = () => undefined;
            await moment();

            // No proof: forwarded although the entry is everybody's. It is a new one: to whoever sent what cannot be read, and so may have written, an older one is no answer anyway.
            await stand.fill(callTool('shared', { n: 2 }, beta));
            const shared = asked('shared');
            await stand.expect('miss:unproven', callTool('shared', { n: 2 }));
            assert.equal(asked('shared'), shared + 1);
            for (const kind of kinds) {
                await stand.expect('miss', kind(2), 'a new proof');
                await stand.expect('hit', kind(2));
                await stand.expect('miss', kind(1), 'what was stored before is gone');
                await stand.expect('hit', kind(1, beta), 'others keep theirs');
            }
        });
    }
}

test('401 elsewhere says nothing about the MCP path', async (t) => {
    const { stand, upstream } = await open(t);
    await stand.fill(callTool('read', {}));
    upstream.on('GET /admin', (call) => Door.turnAway(call, 401));
    assert.equal((await stand.ask({ method: 'GET', path: '/admin', headers: { Authorization: 'Bearer alpha' } })).status, 401);
    await stand.expect('hit', callTool('read', {}));
});

for (const status of [401, 403]) {
    for (const via of ['json', 'sse']) {
        test(`${status} while a fill is in flight: its answer reaches its client and nobody after him, and proves nothing (${via})`, async (t) => {
            const { stand, door, upstream, asked } = await open(t, { flags: ['--threads', '2'] });
            const beta = { token: 'beta' };
            await stand.fill(callTool('shared', { n: 1 }, beta));
            const gate = new Gate();
            const slow = async (call) => {
                const who = call.header('authorization');
                if (who === 'Bearer alpha') await gate.pass();
                await call.result(complete(`for ${who}`), { via });
            };
            for (const name of ['read', 'shared']) upstream.on(name, slow);
            const asking = [callTool('read', {}), callTool('shared', { n: 2 })].map((request) => later(stand.ask(request)));
            await upstream.call('read');
            await upstream.call('shared', 2);
            door.refuse = (call, who) => (who === 'alpha' ? status : undefined);
            assert.equal((await stand.ask(callTool('touch', {}))).status, status);
            gate.open(2);
            for (const answer of await Promise.all(asking)) {
                assert.equal(answer.status, 200);
                assert.equal(await textIn(answer), 'for Bearer alpha');
                assert.ok(!/stored/.test(answer.header('cache-status')), answer.header('cache-status'));
            }
            await stand.settle();
            gate.open(Infinity);
            await moment();
            const reads = asked('read');
            await stand.expect('miss', callTool('read', {}), 'what was fetched across the revocation');
            assert.equal(asked('read'), reads + 1);
            const shares = asked('shared');
            await stand.expect('hit', callTool('shared', { n: 1 }, beta));
            await stand.expect('miss:unproven', callTool('shared', { n: 1 }), 'an acceptance that began before the revocation');
            assert.equal(asked('shared'), shares + 1);
        });
    }
}

test('401 to one while a probe of his is under way: the probe proves nothing any more', async (t) => {
    const { stand, door, asked } = await open(t, { identity: SHORT });
    await stand.expect('miss', callTool('read', {}));
    await lapse();
    const gate = new Gate();
    door.delay = (call, who) => (call.json?.method === 'server/discover' && who === 'alpha' ? gate.pass() : undefined);
    const asking = later(stand.ask(callTool('read', {})));
    await until(() => gate.arrived === 1, { everyMs: 2, what: 'the probe' });
    door.refuse = (call, who) => (who === 'alpha' ? 401 : undefined);
    assert.equal((await stand.ask(callTool('touch', {}))).status, 401);
    gate.open(Infinity);
    await expectRefusal(asking, 401);
    assert.equal(asked('read'), 2);
});

// ---- after a restart ------------------------------------------------------------------------------------------------------------

test('a restart on the same store: the first request of each caller and tool goes upstream, then there are hits', async (t) => {
    const { stand, door, asked } = await open(t);
    const beta = { token: 'beta' };
    await stand.fill(callTool('read', {}));
    await stand.fill(callTool('shared', {}, beta));
    await stand.fill(callTool('shared', { n: 2 }, beta));
    await stand.sidecar.restart();
    door.refuse = (call, who) => (who === 'beta' ? 401 : undefined);
    await stand.expect('miss:unproven', callTool('read', {}));
    await stand.expect('hit', callTool('read', {}));
    await expectRefusal(stand.ask(callTool('shared', {}, beta)), 401);
    await stand.expect('miss:unproven', callTool('shared', {}));
    await stand.expect('hit', callTool('shared', {}));
    await stand.expect('hit', callTool('shared', { n: 2 }), 'an entry from before the restart');
    assert.deepEqual([asked('read'), asked('shared')], [2, 4]);
});

// ---- sessions -------------------------------------------------------------------------------------------------------------------

test('case 54: after one 404 nothing of that session is a hit before the upstream takes it again', async (t) => {
    const place = await open(t);
    const { stand, door, asked } = place;
    const call = await session(place, 'S');
    await stand.fill(call('read'));
    await stand.fill(call('mine'));
    await stand.expect('hit', call('read'));
    door.refuse = (request, who, id) => (id === 'S' ? 404 : undefined);
    await expectRefusal(stand.ask(call('touch')), 404);
    for (const name of ['read', 'mine', 'shared']) {
        const before = asked(name);
        await expectRefusal(stand.ask(call(name)), 404);
        assert.equal(asked(name), before + 1, `${name} reached the upstream`);
    }
    // The client begins anew, as the 404 tells it to.
    await moment();
    const anew = await session(place, 'S2');
    await stand.fill(anew('read'));
    await stand.expect('hit', anew('read'));
    // And should that server take the old one again: its own entries are gone, new ones are kept.
    door.refuse = () => undefined;
    await moment();
    await (await stand.ask(legacy('ping', undefined, { session: 'S' }))).body();
    const before = asked('read');
    await stand.expect('miss', call('read'), 'what the session had stored before it died');
    assert.equal(asked('read'), before + 1);
    await stand.expect('hit', call('read'));
});

test('case 54: 404 to a request that names no session, and to a modern one, ends nothing', async (t) => {
    const place = await open(t);
    const { stand, upstream } = place;
    const call = await session(place, 'S');
    await stand.fill(call('read'));
    await stand.fill(callTool('read', {}));
    for (const name of ['touch-404', 'read-404']) upstream.on(name, (request) => request.error(-32601, 'Method not found', { status: 404 }));
    for (const request of [legacyCall('touch-404', {}), callTool('touch-404', {}), callTool('read-404', {}, { headers: { 'Mcp-Session-Id': 'S' } })]) assert.equal((await stand.ask(request)).status, 404);
    await stand.expect('hit', call('read'));
    await stand.expect('hit', callTool('read', {}));
});

test('case 54: a session from before a restart: its first request goes upstream, and a session that is unknown there gets its 404', async (t) => {
    const place = await open(t);
    const { stand, door, asked } = place;
    const [lives, dies] = [await session(place, 'lives'), await session(place, 'dies')];
    await warm(stand, lives);
    await warm(stand, dies);
    await stand.sidecar.restart();
    door.refuse = (call, who, id) => (id === 'dies' ? 404 : undefined);
    const before = ['read', 'mine', 'shared'].map(asked);
    for (const name of ['read', 'mine', 'shared']) {
        await expectRefusal(stand.ask(dies(name)), 404);
        await stand.expect('miss:unproven', lives(name));
        await stand.expect('hit', lives(name));
    }
    assert.deepEqual(['read', 'mine', 'shared'].map(asked), before.map((n) => n + 2));
});

test('case 55: a session with another user\'s token is not his: no hit, and what becomes of him there does not touch its owner', async (t) => {
    const place = await open(t);
    const { stand, door, asked } = place;
    const call = await session(place, 'S');
    for (const name of ['read', 'mine', 'shared']) await stand.fill(call(name));
    const thief = { token: 'beta' };
    for (const status of [undefined, 404, 403, 401]) {
        door.refuse = (request, who) => (who === 'beta' ? status : undefined);
        for (const name of ['read', 'mine', 'shared']) {
            const before = asked(name);
            const answer = await stand.ask(call(name, {}, thief));
            await answer.body();
            assert.notEqual(outcomeOf(answer), 'hit', `${name} after ${status}`);
            assert.equal(asked(name), before + 1);
            if (status) await expectRefusal(answer, status);
            else assert.match(await textIn(answer), /for beta/);
        }
        for (const name of ['read', 'mine', 'shared']) {
            const hit = await stand.expect('hit', call(name), `the owner, while the thief sees ${status ?? 'nothing of his'}`);
            assert.doesNotMatch(await textIn(hit), /beta/);
        }
        // One who was let in unhindered has proofs of his own for what is everybody's; the next round begins without.
        door.refuse = (request, who) => (who === 'beta' ? 401 : undefined);
        await (await stand.ask(legacyCall('touch', {}, thief))).body();
    }
});

const quit = (id, token) => ({ method: 'DELETE', path: '/mcp', headers: { Authorization: `Bearer ${token}`, 'Mcp-Session-Id': id } });
for (const [what, token] of [['by its owner', 'alpha'], ['by its owner with a refreshed token', 'alpha-refreshed']]) {
    test(`a session that ended with a DELETE ${what} is dead for everybody`, async (t) => {
        const place = await open(t);
        const { stand, door, asked } = place;
        const call = await session(place, 'S');
        const other = await session(place, 'S2');
        await warm(stand, call);
        await warm(stand, other);
        assert.equal((await stand.ask(quit('S', token))).status, 200);
        door.refuse = (request, who, id) => (id === 'S' ? 404 : undefined);
        for (const name of ['read', 'mine', 'shared']) {
            const before = asked(name);
            await expectRefusal(stand.ask(call(name)), 404);
            assert.equal(asked(name), before + 1);
            await stand.expect('hit', other(name), 'another session of the same caller lives');
        }
    });
}

test('a DELETE that the upstream does not grant ends nothing; one that it answers with 404 does', async (t) => {
    const place = await open(t);
    const { stand, door } = place;
    const call = await session(place, 'S');
    await stand.fill(call('read'));
    for (const status of [405, 500]) {
        door.refuse = (request) => (request.method === 'DELETE' ? status : undefined);
        assert.equal((await stand.ask(quit('S', 'alpha'))).status, status);
        await stand.expect('hit', call('read'), `after ${status}`);
    }
    door.refuse = (request) => (request.method === 'DELETE' ? 404 : undefined);
    assert.equal((await stand.ask(quit('S', 'alpha'))).status, 404);
    await moment();
    await stand.expect('miss', call('read'), 'after 404');
});

test('proofs are per session: accepted in one says nothing about another', async (t) => {
    const place = await open(t, { identity: `${SHORT}, probe: off` });
    const { stand, door, asked } = place;
    const [one, two] = [await session(place, 'one'), await session(place, 'two')];
    await stand.fill(one('mine'));
    await (await stand.ask(two('touch'))).body();
    await stand.expect('hit', two('mine'), 'alive by its own request, granted to the credential');
    await lapse();
    await (await stand.ask(one('touch'))).body();
    door.refuse = (call, who, id) => (id === 'two' ? 404 : undefined);
    const before = asked('mine');
    await expectRefusal(stand.ask(two('mine')), 404);
    assert.equal(asked('mine'), before + 1);
});

// ---- what a token says of itself --------------------------------------------------------------------------------------------------

for (const [what, exp, more] of [['seconds', 1_000_000_000], ['a fraction', 1_000_000_000.5], ['an exponent', '1e9'], ['zero', 0], ['a negative number', -5]]) {
    test(`a token whose exp is past is never a hit (${what})`, async (t) => {
        const { stand, upstream, asked } = await open(t);
        const token = jwt(`{"sub":"alpha","exp":${exp}${more ?? ''}}`);
        await stand.fill(callTool('shared', {}, { token: 'beta' }));
        for (const request of [callTool('read', {}, { token }), callTool('shared', {}, { token })]) {
            for (let n = 0; n < 3; n++) {
                const answer = await stand.expect(request.body.includes('"read"') && n === 0 ? 'miss' : 'miss:expired', request);
                assert.equal(answer.status, 200, 'the upstream decides');
            }
        }
        assert.deepEqual([asked('read'), asked('shared')], [3, 4]);
        assert.equal(probesOf(upstream).length, 0);
    });
}

test('a token that expires between two calls: the second goes upstream, whatever the first has proved', async (t) => {
    const { stand, door, asked } = await open(t);
    const exp = Math.ceil(Date.now() / 1000) + 1;
    const token = jwt({ sub: 'alpha', exp });
    for (const name of ['read', 'shared']) {
        await stand.expect('miss', callTool(name, {}, { token }));
        await stand.expect('hit', callTool(name, {}, { token }));
    }
    await sleep(exp * 1000 - Date.now() + 20);
    await stand.expect('miss:expired', callTool('read', {}, { token }));
    await stand.expect('miss:expired', callTool('shared', {}, { token, headers: { Authorization: `bearer ${token}` } }), 'the scheme has no case');
    door.refuse = () => 401;
    await expectRefusal(stand.ask(callTool('read', {}, { token })), 401);
    assert.deepEqual([asked('read'), asked('shared')], [3, 2]);
});

test('what is no JWT, or has no exp that can be read, is a token like any other', async (t) => {
    const { stand } = await open(t);
    const tokens = ['a.b.c', '..', 'a..c', jwt({ sub: 'x' }), jwt('{"exp":1'), jwt('[1]'), jwt('"exp"'), jwt({ exp: 4_000_000_000 }), jwt('{"exp":1e300}'), jwt({ nested: { exp: 1 } }), `${jwt({ sub: 'x' })}.more.parts`, jwt('{"a":'.repeat(2000))];
    for (const [n, token] of tokens.entries()) {
        await stand.expect('miss', callTool('read', {}, { token }), `${n}: ${token.slice(0, 60)}`);
        await stand.expect('hit', callTool('read', {}, { token }), `${n}: ${token.slice(0, 60)}`);
    }
});

// ---- identity by claims ---------------------------------------------------------------------------------------------------------

const CLAIMS = 'lease: 60s, claims: [iss, sub]';
const claimed = (n, more = {}) => jwt({ iss: 'https://idp.example', sub: 'ann', jti: `t-${n}`, exp: 4_000_000_000, ...more });

test('identity.claims: a refreshed token finds the private entries again, once it has been admitted itself', async (t) => {
    const { stand, asked } = await open(t, { identity: CLAIMS });
    const [first, second] = [{ token: claimed(1) }, { token: claimed(2) }];
    for (const n of [1, 2]) await stand.fill(callTool('mine', { n }, first));
    await stand.expect('hit', callTool('mine', { n: 1 }, first));
    const before = asked('mine');
    await stand.expect('miss:unproven', callTool('mine', { n: 1 }, second), 'a token that the upstream has not seen');
    assert.equal(asked('mine'), before + 1);
    const hit = await stand.expect('hit', callTool('mine', { n: 2 }, second), 'admitted: the entry of the first');
    assert.equal(await textIn(hit), `mine for ${first.token}, 2`);
    assert.equal(asked('mine'), before + 1);
});

test('identity.claims: other claims, other signatures of other people, and what is no such token are somebody else', async (t) => {
    const { stand } = await open(t, { identity: CLAIMS });
    await stand.fill(callTool('mine', {}, { token: claimed(1) }));
    const others = {
        'another subject': claimed(2, { sub: 'ben' }),
        'another issuer': claimed(2, { iss: 'https://other.example' }),
        'claims that run into each other': claimed(2, { iss: 'https://idp.exampleann', sub: '' }),
        'no subject': jwt({ iss: 'https://idp.example' }),
        'a subject that is no text': claimed(2, { sub: ['ann'] }),
        'no JWT': 'ann',
        'a claim twice': jwt('{"iss":"https://idp.example","sub":"ben","sub":"ann"}'),
    };
    for (const [what, token] of Object.entries(others)) {
        // Each is admitted by another call; what must not happen is a hit on Ann's entry.
        await stand.expect('miss', callTool('mine', { warm: what }, { token }), what);
        await stand.expect('miss', callTool('mine', {}, { token }), what);
    }
    const cookie = { token: claimed(1), headers: { Cookie: 'tenant=other' } };
    await stand.expect('miss', callTool('mine', { warm: 1 }, cookie));
    await stand.expect('miss', callTool('mine', {}, cookie), 'claims stand for the Authorization alone, not for other credentials');
});

test('identity.claims: forged claims get the upstream\'s 401 and empty nobody\'s cache; 403 empties the principal\'s', async (t) => {
    const { stand, door, asked } = await open(t, { identity: CLAIMS });
    const good = { token: claimed(1) };
    const forged = { token: claimed(9, { jti: 'forged' }) };
    for (const n of [1, 2]) await stand.fill(callTool('mine', { n }, good));
    door.refuse = (call, who) => (who === forged.token ? 401 : undefined);
    for (let n = 0; n < 3; n++) {
        await expectRefusal(stand.ask(callTool('mine', { n: 1 }, forged)), 401);
        await stand.expect('hit', callTool('mine', { n: 1 }, good), 'the real one');
    }
    assert.equal(asked('mine'), 5);

    const refreshed = { token: claimed(2) };
    door.refuse = (call, who) => (who === refreshed.token || who === undefined ? undefined : 401);
    assert.equal((await stand.ask(callTool('touch', {}, good))).status, 401);
    await moment();
    await stand.expect('miss:unproven', callTool('mine', { n: 1 }, refreshed), 'the refreshed token is admitted');
    await stand.expect('hit', callTool('mine', { n: 2 }, refreshed), 'the 401 of the old token has emptied nothing');
    await expectRefusal(stand.ask(callTool('mine', { n: 2 }, good)), 401);

    door.refuse = (call) => (call.name === 'touch' ? 403 : undefined);
    assert.equal((await stand.ask(callTool('touch', {}, refreshed))).status, 403);
    await moment();
    await stand.expect('miss', callTool('mine', { n: 3 }, refreshed));
    await stand.expect('miss', callTool('mine', { n: 2 }, refreshed), 'a 403 is about the person');
});

test('identity.claims: two callers behind the same claims share no proof, whatever is in flight', async (t) => {
    const { stand, door, upstream } = await open(t, { identity: CLAIMS });
    const [one, two] = [{ token: claimed(1) }, { token: claimed(2) }];
    const gate = new Gate();
    door.delay = (call, who) => (who === one.token ? gate.pass() : undefined);
    const asking = later(stand.ask(callTool('mine', {}, one)));
    await upstream.call('mine');
    await stand.expect('miss', callTool('mine', { n: 2 }, two));
    gate.open(Infinity);
    await (await asking).body();
    await stand.expect('hit', callTool('mine', {}, one));
    await stand.expect('hit', callTool('mine', {}, two));
    const three = { token: claimed(3) };
    await stand.expect('miss:unproven', callTool('mine', {}, three));
});

// ---- case 77, case 59 -------------------------------------------------------------------------------------------------------------

test('case 77: the same token with another scheme, or with a cookie more, is another caller: no entry and no proof in common', async (t) => {
    const { stand } = await open(t);
    const others = [{ Authorization: 'Basic alpha' }, { Authorization: 'Token alpha' }, { Authorization: 'Bearer alpha', Cookie: 'session=1' }, { Authorization: 'Bearer alpha', 'X-Api-Key': 'k' }];
    for (const name of ['read', 'shared']) {
        await stand.fill(callTool(name, {}));
        await stand.expect('hit', callTool(name, {}));
    }
    for (const headers of others) {
        for (const name of ['read', 'shared']) await stand.expect(name === 'read' ? 'miss' : 'miss:unproven', callTool(name, {}, { headers }), `${name}: ${JSON.stringify(headers)}`);
    }
});

test('case 77: a policy with a shorter ttl counts at once for what is already stored', async (t) => {
    const { stand, asked } = await open(t, { ttl: '60s' });
    const began = performance.now();
    for (const n of [1, 2]) await stand.fill(callTool('read', { n }));
    await stand.sidecar.restart();
    await stand.expect('miss', callTool('read', { proof: 1 }));
    await stand.expect('hit', callTool('read', { n: 1 }), 'the same policy');
    await stand.sidecar.setPolicy(policy('lease: 60s', '500ms'));
    await stand.sidecar.restart();
    await sleep(Math.max(0, 600 - (performance.now() - began)));
    await stand.expect('miss', callTool('read', { proof: 2 }));
    const before = asked('read');
    await stand.expect('miss', callTool('read', { n: 2 }), 'older than the new policy allows');
    assert.equal(asked('read'), before + 1);
});

test('case 59: a request with a proof of its own is never a hit, and no proof is made of it for others', async (t) => {
    const { stand, asked } = await open(t);
    await stand.fill(callTool('read', {}));
    await stand.fill(callTool('shared', {}, { token: 'beta' }));
    for (let n = 0; n < 2; n++) {
        for (const name of ['read', 'shared']) await stand.expect('bypass:proof', callTool(name, {}, { headers: { DPoP: `eyJ.${n}.x` } }));
    }
    assert.deepEqual([asked('read'), asked('shared')], [3, 3]);
    await stand.expect('hit', callTool('read', {}), 'without it, as before');
    const listed = await open(t, { identity: 'lease: 60s, proof_headers: [x-signature, dpop]' });
    await listed.stand.fill(callTool('read', {}));
    for (const header of ['X-Signature', 'DPoP']) await listed.stand.expect('bypass:proof', callTool('read', {}, { headers: { [header]: '' } }), `${header}, even an empty one`);
});

// ---- callers without credentials --------------------------------------------------------------------------------------------------

test('nobody needs no proof while the upstream challenges nobody, but gets only what nobody has fetched', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: SHORT });
    const nobody = { token: null };
    await stand.fill(callTool('shared', {}));
    const own = await stand.expect('miss:unproven', callTool('shared', {}, nobody), 'fetched by somebody: what he got may be for those with a token');
    assert.equal(await textIn(own), 'shared for nobody, 2');
    await stand.expect('hit', callTool('shared', {}, nobody));
    await lapse();
    await stand.expect('hit', callTool('shared', {}, nobody), 'long after');
    assert.equal(asked('shared'), 2);
    assert.deepEqual(upstream.calls.filter((call) => call.id.startsWith('"mcpcached-') && call.header('authorization') === undefined), [], 'and without a probe');
});

const CHALLENGING = {
    401: (call) => Door.turnAway(call, 401),
    403: (call) => Door.turnAway(call, 403),
    'WWW-Authenticate beside 200': (call) => call.result(complete('come in'), { headers: { 'WWW-Authenticate': 'Bearer realm="x"' } }),
    'WWW-Authenticate beside 400': (call) => call.reply(400, { 'WWW-Authenticate': 'Bearer realm="x"' }, 'no'),
};
for (const [what, challenge] of Object.entries(CHALLENGING)) {
    for (const restart of what === '401' ? [false, true] : [false]) {
        test(`once the upstream has challenged anyone (${what}), nobody needs the same proofs as others${restart ? ', also after a restart' : ''}`, async (t) => {
            const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
            const nobody = { token: null };
            await stand.fill(callTool('shared', {}, nobody));
            await stand.fill(readResource('public:x', nobody));
            await lapse();
            await stand.expect('hit', callTool('shared', {}, nobody), 'before');
            upstream.on('touch', challenge);
            await (await stand.ask(callTool('touch', {}, { token: 'mallory' }))).body();
            if (restart) await stand.sidecar.restart();
            door.refuse = (call, who) => (who === undefined ? 401 : undefined);
            const before = asked('shared');
            await expectRefusal(stand.ask(callTool('shared', {}, nobody)), 401);
            assert.equal(asked('shared'), before + 1);
            door.refuse = () => undefined;
            await moment();
            await stand.expect('miss', callTool('shared', { n: 2 }, nobody), 'accepted after all');
            await stand.expect('hit', callTool('shared', { n: 2 }, nobody));
            await stand.expect('miss:unproven', readResource('public:x', nobody), 'accepted for the tool, not for the resource');
            await lapse();
            const probes = () => probesOf(upstream).filter((call) => call.header('authorization') === undefined).length;
            const earlier = probes();
            await stand.expect('hit', callTool('shared', { n: 2 }, nobody), 'by a probe');
            assert.equal(probes(), earlier + 1, 'without credentials, as he asked');
        });
    }
}

test('anonymous: shared is no way around a challenge', async (t) => {
    const { stand, door, upstream, asked } = await open(t, { identity: 'lease: 60s, anonymous: shared' });
    const nobody = { token: null };
    await stand.fill(callTool('read', {}, nobody));
    await stand.expect('hit', callTool('read', {}, nobody));
    door.refuse = () => 401;
    upstream.on('canary', (call) => call.result(complete('canary')));
    assert.equal((await stand.ask(callTool('touch', {}, nobody))).status, 401);
    await expectRefusal(stand.ask(callTool('read', {}, nobody)), 401);
    assert.equal(asked('read'), 2);
});

test('a legacy session is something to prove, also without a credential', async (t) => {
    const place = await open(t, { identity: SHORT });
    const { stand, door, asked } = place;
    const call = await session(place, 'S', null);
    await stand.fill(call('shared'));
    door.refuse = (request, who, id) => (id === 'S' ? 404 : undefined);
    await lapse();
    await expectRefusal(stand.ask(call('shared')), 404);
    assert.equal(asked('shared'), 2);
});
