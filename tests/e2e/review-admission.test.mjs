/* SPDX-License-Identifier: Apache-2.0 */
// What somebody could try who wants an answer that is not for him any more, or wants others to lose theirs: he hides headers from the upstream, lets others
// renew what he has lost, gets himself refused in others' name, leaves probes unanswered, comes under ever new names.
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { CHALLENGES, Door, REFUSALS, jwt, probesOf } from './lib/door.mjs';
import { callTool, complete, contents, legacy, legacyCall, messageOf, modern, outcomeOf, readResource } from './lib/rpc.mjs';
import { Stand } from './lib/stand.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const LEASE_MS = 400;
const GRANT_MS = 600;
const SHORT = `lease: ${LEASE_MS}ms`;
/** touch: asked of the upstream each time, and no write: a write would make everything older no answer for its caller. */
const policy = (identity) => `version: 1
identity: { ${identity} }
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: touch, ttl: off }
  - { name: "read*", ttl: 60s }
  - { name: "mine*", ttl: 60s, scope: principal }
  - { name: "shared*", ttl: 60s, scope: public }
`;

async function open(t, { identity = 'lease: 60s', flags, env } = {}) {
    const door = new Door();
    const stand = await Stand.open({ t, policy: policy(identity), flags, env, fallback: door.handle });
    return { stand, door, upstream: stand.upstream, asked: (name) => stand.upstream.of(name).length };
}

/** Longer than the lease. */
const lapse = () => sleep(LEASE_MS + 60);
/** What begins in the very millisecond of an end proves nothing. */
const moment = () => sleep(3);
const later = (promise) => {
    promise.catch(() => {});
    return promise;
};
const textIn = async (answer) => {
    const { result } = await messageOf(answer);
    return (result.content ?? result.contents)[0].text;
};
const argumentsOf = (call) => call.json.params.arguments;
async function statusOf(stand, request) {
    const answer = await stand.ask(request);
    await answer.body();
    return answer.status;
}
async function expectRefusal(stand, request, status) {
    const answer = await stand.ask(request);
    await answer.body();
    assert.deepEqual([answer.status, answer.text, answer.headerAll('www-authenticate')], [status, REFUSALS[status], CHALLENGES[status] ?? []], answer.header('cache-status'));
    return answer;
}
/** Opens a legacy session; what asks in it. */
async function session({ stand, door }, id, token = 'alpha') {
    door.opens = id;
    const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { token }));
    await answer.body();
    assert.equal(answer.header('mcp-session-id'), id);
    return (name, args = {}, more = {}) => legacyCall(name, args, { token, session: id, ...more });
}
/** Sends many requests over a few connections; every status that came back. */
async function flood(stand, t, requests, connections = 8) {
    const seen = new Set();
    await Promise.all(Array.from({ length: connections }, async (_, lane) => {
        const connection = await stand.connect(t);
        for (let n = lane; n < requests.length; n += connections) {
            const answer = await connection.ask(requests[n]);
            await answer.body();
            seen.add(answer.status);
        }
        connection.close();
    }));
    return [...seen];
}

// ---- what does not travel proves nothing ----------------------------------------------------------------------------------------------

test('Connection: authorization: what the upstream accepts without the token renews no lease of the token', async (t) => {
    const { stand, door, upstream } = await open(t, { identity: `${SHORT}, probe: off` });
    await stand.expect('miss', callTool('read', {}));
    await stand.expect('hit', callTool('read', {}));
    door.refuse = (call, who) => (who === 'alpha' ? 401 : undefined);
    await lapse();
    for (const request of [callTool('touch', {}, { headers: { Connection: 'authorization' } }), modern('notifications/cancelled', { requestId: 7 }, { id: null, headers: { Connection: 'close, Authorization' } })]) {
        assert.ok([200, 202].includes(await statusOf(stand, request)));
        assert.equal(upstream.calls.at(-1).header('authorization'), undefined, 'it travels without');
    }
    await expectRefusal(stand, callTool('read', {}), 401);
});

test('Connection: mcp-session-id: a DELETE that travels without its session ends none', async (t) => {
    const place = await open(t);
    const { stand, upstream, asked } = place;
    const call = await session(place, 'S');
    for (const name of ['read', 'mine']) await stand.fill(call(name));
    const quit = { method: 'DELETE', path: '/mcp', headers: { Authorization: 'Bearer alpha', 'Mcp-Session-Id': 'S', Connection: 'mcp-session-id' } };
    assert.equal(await statusOf(stand, quit), 200);
    assert.equal(upstream.calls.at(-1).header('mcp-session-id'), undefined, 'it travels without');
    for (const name of ['read', 'mine']) {
        await stand.expect('hit', call(name));
        assert.equal(asked(name), 1);
    }
});

test('of two Mcp-Session-Id fields nobody knows which one was accepted, or ended', async (t) => {
    const place = await open(t, { identity: `${SHORT}, probe: off` });
    const { stand, door, asked } = place;
    const [dead, live] = [await session(place, 'dead'), await session(place, 'live')];
    await stand.fill(dead('read'));
    await stand.fill(live('read'));
    const both = [['Mcp-Session-Id', 'dead'], ['Mcp-Session-Id', 'live']];
    // An upstream that takes the last of them.
    door.refuse = (call) => (call.headerAll('mcp-session-id').at(-1) === 'dead' ? 404 : undefined);
    await lapse();
    for (const request of [legacyCall('touch', {}, { headers: both }), legacy('ping', undefined, { headers: both })]) assert.equal(await statusOf(stand, request), 200);
    const before = asked('read');
    await expectRefusal(stand, dead('read'), 404);
    assert.equal(asked('read'), before + 1);

    await (await stand.ask(live('touch'))).body();
    await stand.expect('hit', live('read'));
    assert.equal(await statusOf(stand, { method: 'DELETE', path: '/mcp', headers: [['Authorization', 'Bearer alpha'], ['Mcp-Session-Id', 'live'], ['Mcp-Session-Id', 'other']] }), 200);
    await stand.expect('hit', live('read'), 'which of them the DELETE has ended, nobody knows');
});

// ---- the newest answer ----------------------------------------------------------------------------------------------------------------

const NEWER = {
    'isError': (call) => call.result(complete('no', { isError: true })),
    'isError in a stream': (call) => call.result(complete('no', { isError: true }), { via: 'sse' }),
    'a JSON-RPC error': (call) => call.error(-32603, 'no'),
    'no-store': (call) => call.result(complete('now otherwise'), { headers: { 'Cache-Control': 'no-store' } }),
    'no-store in a stream': (call) => call.result(complete('now otherwise'), { via: 'sse', headers: { 'Cache-Control': 'no-store' } }),
    'a status of 400': (call) => call.error(-32602, 'no', { status: 400 }),
    'a result of more than may be stored': (call) => call.result(complete('x'.repeat(70_000))),
};
for (const [what, newer] of Object.entries(NEWER)) {
    for (const past of [false, true]) {
        test(`a private answer is gone when a newer one to its question was not stored: ${what}${past ? ', to a client that asked past the cache' : ', after the grant had lapsed'}`, async (t) => {
            const { stand, door, upstream, asked } = await open(t, { identity: past ? 'lease: 60s' : `lease: 60s, grant: ${GRANT_MS}ms`, flags: ['--max-entry', '64KiB'] });
            const again = past ? { headers: { 'Cache-Control': 'no-cache' } } : {};
            await stand.fill(callTool('read', { n: 1 }));
            await stand.expect('hit', callTool('read', { n: 1 }));
            if (!past) await sleep(GRANT_MS + 60);
            upstream.on('read', newer);
            await (await stand.ask(callTool('read', { n: 1 }, again))).body();
            assert.equal(asked('read'), 2, 'the newer answer was given');
            upstream.on('read', door.handle);
            await moment();
            await stand.expect('miss', callTool('read', { n: 2 }), 'another question of the same tool: granted');
            const answer = await stand.ask(callTool('read', { n: 1 }));
            assert.notEqual(outcomeOf(answer), 'hit', await textIn(answer));
            assert.equal(asked('read'), 4);
        });
    }
}

test('a private answer is gone when a newer one to its question is everybody\'s', async (t) => {
    const { stand, upstream } = await open(t, { identity: `lease: 60s, grant: ${GRANT_MS}ms` });
    const says = (text, cacheScope) => upstream.on('doc://x', (call) => call.result(contents('doc://x', text, { ttlMs: 60_000, cacheScope })));
    says('old', 'private');
    await stand.fill(readResource('doc://x'));
    await sleep(GRANT_MS + 60);
    says('new', 'public');
    await stand.expect('miss:unproven', readResource('doc://x'));
    await stand.settle();
    assert.equal(await textIn(await stand.ask(readResource('doc://x'))), 'new');
    assert.equal(upstream.of('doc://x').length, 2);
});

// ---- refusals, wherever they are said -------------------------------------------------------------------------------------------------

const past = { headers: { 'Cache-Control': 'no-cache' } };
const nullId = (status) => (call) => call.reply(status, { 'Content-Type': 'application/json' }, '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"not for you"}}');
const SAID = {
    'HTTP 400': { says: (call) => call.error(-32602, 'not for you', { status: 400 }), isRefusal: true },
    'HTTP 404': { says: (call) => call.error(-32601, 'not for you', { status: 404 }), isRefusal: true },
    'HTTP 400 with "id":null': { says: nullId(400), isRefusal: true },
    'HTTP 200 with "id":null': { says: nullId(200), isRefusal: true },
    'isError to a client that asks past the cache': { says: (call) => call.result(complete('no', { isError: true })), isRefusal: true, more: past },
    'a JSON-RPC error to a client that asks past the cache': { says: (call) => call.error(-32603, 'no'), isRefusal: true, more: past },
    'a JSON-RPC error with "id":null to a client that asks past the cache': { says: nullId(200), isRefusal: true, more: past },
    'HTTP 400 to a client that asks past the cache': { says: (call) => call.error(-32602, 'no', { status: 400 }), isRefusal: true, more: past },
    'HTTP 408': { says: (call) => call.error(-32603, 'slow', { status: 408 }), isRefusal: false },
    'HTTP 429': { says: (call) => call.error(-32603, 'often', { status: 429 }), isRefusal: false },
    'HTTP 500': { says: (call) => call.error(-32603, 'broken', { status: 500 }), isRefusal: false },
    'HTTP 503': { says: (call) => call.error(-32603, 'busy', { status: 503 }), isRefusal: false },
    'HTTP 503 to a client that asks past the cache': { says: (call) => call.error(-32603, 'busy', { status: 503 }), isRefusal: false, more: past },
};
for (const [what, { says, isRefusal, more = {} }] of Object.entries(SAID)) {
    test(`${what}: ${isRefusal ? 'the grant is taken back' : 'says nothing about what the caller may do'}`, async (t) => {
        const { stand, door, upstream, asked } = await open(t);
        const beta = { token: 'beta' };
        await stand.fill(callTool('shared', { n: 1 }, beta));
        await stand.expect('miss', callTool('shared', { n: 2 }));
        await stand.expect('hit', callTool('shared', { n: 1 }), 'granted');
        upstream.on('shared', (call) => (argumentsOf(call).n === 3 ? says(call) : door.handle(call)));
        await (await stand.ask(callTool('shared', { n: 3 }, more))).body();
        const before = asked('shared');
        await stand.expect(isRefusal ? 'miss:unproven' : 'hit', callTool('shared', { n: 1 }));
        assert.equal(asked('shared'), before + (isRefusal ? 1 : 0));
        await stand.expect('hit', callTool('shared', { n: 1 }, beta), 'others are not concerned');
    });
}

// ---- a lease is good where it was given -----------------------------------------------------------------------------------------------

const at = (key, request) => ({ ...request, path: `/mcp?key=${key}` });
const revokedAtA = (call) => (call.target.includes('key=A') ? 401 : undefined);

for (const probe of ['off', 'on']) {
    test(`a key in the query is part of who is let in: what another key is answered renews no lease (probe: ${probe})`, async (t) => {
        const { stand, door, upstream, asked } = await open(t, { identity: `${SHORT}, probe: ${probe}` });
        for (const key of ['A', 'B']) {
            await stand.expect('miss', at(key, callTool('read', {})));
            await stand.expect('hit', at(key, callTool('read', {})));
        }
        door.refuse = revokedAtA;
        await lapse();
        assert.equal(await statusOf(stand, at('B', callTool('touch', {}))), 200);
        await stand.expect('hit', at('B', callTool('read', {})));
        await expectRefusal(stand, at('A', callTool('read', {})), 401);
        assert.equal(asked('read'), 3);
        assert.deepEqual(probesOf(upstream, 'alpha').map((call) => call.target), probe === 'on' ? ['/mcp?key=A'] : [], 'a probe asks where the call would');
    });
}

test('a probe of one place admits nobody who waits at another', async (t) => {
    const { stand, door, upstream } = await open(t, { identity: SHORT });
    for (const key of ['A', 'B']) await stand.expect('miss', at(key, callTool('read', {})));
    await lapse();
    door.refuse = revokedAtA;
    const gates = { A: new Gate(), B: new Gate() };
    door.delay = (call) => (call.json?.method === 'server/discover' ? gates[call.target.at(-1)].pass() : undefined);
    const asking = later(stand.ask(at('B', callTool('read', {}))));
    await until(() => gates.B.arrived === 1, { everyMs: 2, what: 'the probe at B' });
    const waiting = later(stand.ask(at('A', callTool('read', {}))));
    await until(() => gates.A.arrived === 1, { everyMs: 2, withinMs: 3000, what: 'a probe of its own at A' });
    gates.B.open(Infinity);
    assert.equal(outcomeOf(await asking), 'hit');
    gates.A.open(Infinity);
    assert.equal((await waiting).status, 401);
    assert.deepEqual(probesOf(upstream, 'alpha').map((call) => call.target), ['/mcp?key=B', '/mcp?key=A']);
});

// ---- a challenge ----------------------------------------------------------------------------------------------------------------------

test('a challenge is remembered over two restarts: who has no credentials needs proofs afterwards', async (t) => {
    const { stand, door, upstream, asked } = await open(t);
    const nobody = { token: null };
    await stand.fill(callTool('shared', {}, nobody));
    await stand.expect('hit', callTool('shared', {}, nobody));
    upstream.on('touch', (call) => Door.turnAway(call, 401));
    assert.equal(await statusOf(stand, callTool('touch', {}, { token: 'mallory' })), 401);
    door.refuse = (call, who) => (who === undefined ? 401 : undefined);
    for (let n = 0; n < 2; n++) await stand.sidecar.restart();
    await expectRefusal(stand, callTool('shared', {}, nobody), 401);
    assert.equal(asked('shared'), 2);
});

// ---- probes ---------------------------------------------------------------------------------------------------------------------------

test('a probe whose stream stays open with comments: the hit comes at once, no connection is left behind, SIGTERM ends at once', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: 'lease: 60ms' });
    upstream.on('server/discover', async (call) => {
        await call.stream();
        await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":{"resultType":"complete"}}`);
        const timer = setInterval(() => call.sse(': still here\n\n'), 20);
        await call.gone(60_000).finally(() => clearInterval(timer));
    });
    await stand.fill(callTool('read', {}));
    const round = async () => {
        await sleep(70);
        const began = performance.now();
        await stand.expect('hit', callTool('read', {}));
        assert.ok(performance.now() - began < 1500, 'nobody waits for the end of the stream');
    };
    for (let n = 0; n < 15; n++) await round();
    const probes = () => probesOf(upstream, 'alpha');
    assert.ok(probes().length >= 15);
    await until(() => probes().every((call) => call.isGone), { withinMs: 3000, what: () => `${probes().filter((call) => !call.isGone).length} connections to be closed` });
    assert.equal(asked('read'), 1);
    await round();
    const began = performance.now();
    assert.deepEqual(await stand.sidecar.stop(), { code: 0, signal: null });
    assert.ok(performance.now() - began < 3000, `SIGTERM took ${performance.now() - began} ms`);
});

test('a probe that is answered 403 costs no private entry, and for a while there is no other', async (t) => {
    const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
    for (const n of [1, 2]) await stand.fill(callTool('mine', { n }));
    door.refuse = (call) => (call.json?.method === 'server/discover' ? 403 : undefined);
    await lapse();
    await stand.expect('miss:unproven', callTool('mine', { n: 1 }), 'the call itself');
    assert.equal(await textIn(await stand.expect('hit', callTool('mine', { n: 2 }), 'renewed by that call; what was stored before is still his')), 'mine for alpha, 2');
    for (let n = 0; n < 2; n++) {
        await lapse();
        await stand.expect('miss:unproven', callTool('mine', { n: 1 }), 'without another probe');
    }
    assert.equal(probesOf(upstream, 'alpha').length, 1);
    assert.equal(asked('mine'), 5);
});

test('a probe that is never answered delays one call by two seconds, and the following ones not at all', async (t) => {
    const { stand, upstream } = await open(t, { identity: SHORT });
    await stand.fill(callTool('read', {}));
    upstream.on('server/discover', () => {});
    const took = async () => {
        const began = performance.now();
        await stand.expect('miss:unproven', callTool('read', {}));
        return performance.now() - began;
    };
    await lapse();
    const first = await took();
    assert.ok(first > 1500 && first < 4500, `${first} ms`);
    for (let n = 0; n < 2; n++) {
        await lapse();
        const next = await took();
        assert.ok(next < 1500, `${next} ms`);
    }
    assert.equal(probesOf(upstream, 'alpha').length, 1);
});

// ---- strangers ------------------------------------------------------------------------------------------------------------------------

test('3000 strangers who are refused, by 401 and by 404, take nobody\'s session away', async (t) => {
    const place = await open(t, { flags: ['--max-sessions', '512'] });
    const { stand, door } = place;
    const people = [];
    for (let n = 0; n < 20; n++) people.push(await session(place, `session-${n}`, `person-${n}`));
    for (const call of people) for (const name of ['read', 'mine']) await stand.expect('miss', call(name, { n: 1 }));
    await stand.settle();
    for (const call of people) for (const name of ['read', 'mine']) await stand.expect('hit', call(name, { n: 1 }));

    door.refuse = (call, who, id) => (who.startsWith('stranger') ? 401 : id?.startsWith('nowhere') ? 404 : undefined);
    assert.deepEqual(await flood(stand, t, Array.from({ length: 1500 }, (_, n) => callTool('touch', {}, { token: `stranger-${n}` }))), [401]);
    assert.deepEqual(await flood(stand, t, Array.from({ length: 1500 }, (_, n) => legacyCall('touch', {}, { session: `nowhere-${n}` }))), [404]);
    await moment();

    const kept = { read: 0, mine: 0 };
    for (const name of ['read', 'mine']) {
        for (const call of people) {
            // At worst he has to be proven again: by another question, so that what answers this one is what lay there before.
            for (const n of [2, 1]) {
                const answer = await stand.ask(call(name, { n }));
                await answer.body();
                assert.doesNotMatch(outcomeOf(answer), /bypass/, name);
                if (n === 1 && outcomeOf(answer) === 'hit') kept[name] += 1;
            }
        }
    }
    assert.ok(kept.read >= 18 && kept.mine >= 18, JSON.stringify(kept));
});

test('identity.claims: 403 to somebody who only claims to be another ends nothing of the other\'s', async (t) => {
    const { stand, door, asked } = await open(t, { identity: 'lease: 60s, claims: [iss, sub]' });
    const claims = { iss: 'https://idp.example', sub: 'ann', exp: 4_000_000_000 };
    const ann = { token: jwt({ ...claims, jti: 'real' }) };
    const forged = { token: jwt({ ...claims, jti: 'forged' }, { header: { alg: 'none' }, signature: '' }) };
    for (const n of [1, 2]) await stand.fill(callTool('mine', { n }, ann));
    door.refuse = (call, who) => (who === forged.token ? 403 : undefined);
    for (const request of [callTool('mine', { n: 1 }, forged), callTool('touch', {}, forged), callTool('write', {}, forged), { method: 'GET', path: '/mcp', headers: { Authorization: `Bearer ${forged.token}`, Accept: 'text/event-stream' } }]) {
        await expectRefusal(stand, request, 403);
        for (const n of [1, 2]) await stand.expect('hit', callTool('mine', { n }, ann), 'the real one');
    }
    assert.equal(asked('mine'), 3);
    const refreshed = { token: jwt({ ...claims, jti: 'refreshed' }) };
    await stand.expect('miss:unproven', callTool('mine', { n: 1 }, refreshed));
    await stand.expect('hit', callTool('mine', { n: 2 }, refreshed), 'and her next token');
});

test('403 to a stranger without credentials for his Origin is no word on others without credentials', async (t) => {
    const { stand, door, asked } = await open(t, { identity: 'lease: 60s, anonymous: shared' });
    const nobody = { token: null };
    for (const name of ['read', 'mine', 'shared']) {
        await stand.fill(callTool(name, { n: 1 }, nobody));
        await stand.expect('hit', callTool(name, { n: 1 }, nobody));
    }
    door.refuse = (call) => (call.header('origin') ? 403 : undefined);
    for (let n = 0; n < 2; n++) await expectRefusal(stand, callTool('read', { n: 1 }, { token: null, headers: { Origin: 'https://evil.example' } }), 403);
    await moment();
    for (const name of ['read', 'mine', 'shared']) {
        // They may have to be proven now, by another question.
        await (await stand.ask(callTool(name, { n: 2 }, nobody))).body();
        const before = asked(name);
        await stand.expect('hit', callTool(name, { n: 1 }, nobody));
        assert.equal(asked(name), before);
    }
});

for (const [what, refusal] of Object.entries({
    'isError': (call) => call.result(complete('no', { isError: true })),
    'isError in a stream': (call) => call.result(complete('no', { isError: true }), { via: 'sse' }),
    'a JSON-RPC error': (call) => call.error(-32603, 'no'),
    'HTTP 400': (call) => call.error(-32603, 'no', { status: 400 }),
})) {
    test(`${what}: said to a stranger it is his refusal alone; said to one who was let in it takes the public answer away`, async (t) => {
        const { stand, door, upstream } = await open(t, { identity: `${SHORT}, probe: off` });
        const beta = { token: 'beta' };
        await stand.fill(callTool('shared', { n: 1 }, beta));
        upstream.on('shared', (call) => (argumentsOf(call).n === 1 && call.header('authorization') !== 'Bearer beta' ? refusal(call) : door.handle(call)));
        const alive = async (n) => (await stand.ask(callTool('shared', { n }, beta))).body();
        for (let n = 0; n < 2; n++) await (await stand.ask(callTool('shared', { n: 1 }, { token: 'stranger' }))).body();
        await alive(2);
        await stand.expect('hit', callTool('shared', { n: 1 }, beta), 'a stranger\'s refusal');

        await stand.expect('miss', callTool('shared', { n: 3 }), 'alpha is let in');
        await lapse();
        await (await stand.ask(callTool('shared', { n: 1 }))).body();
        await alive(4);
        const answer = await stand.ask(callTool('shared', { n: 1 }, beta));
        assert.equal(outcomeOf(answer), 'miss', 'who was let in before is told otherwise now');
    });
}

const TURNED_AWAY = {
    401: (call) => Door.turnAway(call, 401),
    403: (call) => Door.turnAway(call, 403),
    400: (call) => call.error(-32602, 'no', { status: 400 }),
    404: (call) => call.error(-32601, 'no', { status: 404 }),
    503: (call) => call.error(-32603, 'no', { status: 503 }),
    'isError': (call) => call.result(complete('no', { isError: true })),
    'a JSON-RPC error': (call) => call.error(-32603, 'no'),
    'a JSON-RPC error with "id":null': nullId(200),
    'a redirect': (call) => call.reply(302, { Location: '/login' }),
    'a login page': (call) => call.reply(200, { 'Content-Type': 'text/html' }, '<html>who are you?</html>'),
};
test('what a refused stranger reads in the headers does not tell whether there is an answer', async (t) => {
    const { stand, upstream } = await open(t);
    const expired = jwt({ sub: 'x', exp: 1 });
    for (const [turn, [what, says]] of Object.entries(TURNED_AWAY).entries()) {
        for (const [k, token] of ['stranger', null, expired].entries()) {
            // A tool for each: one that fails five times in a row is not asked any more, by nobody, whatever is there.
            const tool = `shared-${turn}-${k}`;
            await stand.fill(callTool(tool, { n: 1 }, { token: 'beta' }));
            upstream.on(tool, says);
            const heard = [];
            for (const n of [1, 2]) {
                // A token of his own for each question: nothing of what he hears may come from the other one.
                const answer = await stand.ask(callTool(tool, { n }, { token: token === 'stranger' ? `stranger-${turn}-${k}-${n}` : token }));
                await answer.body();
                heard.push([answer.status, answer.headers.filter(([name]) => !/^date$/i.test(name)), answer.text]);
            }
            assert.deepEqual(heard[0], heard[1], `${what}, ${token}`);
            await stand.expect('hit', callTool(tool, { n: 1 }, { token: 'beta' }), 'it was there all the time');
        }
    }
});

// ---- questions and records ------------------------------------------------------------------------------------------------------------

test('Mcp-Name on a list, which nothing compares, makes another question', async (t) => {
    const { stand, upstream } = await open(t);
    upstream.on('tools/list', (call) => call.result({ resultType: 'complete', tools: [], of: call.header('mcp-name') ?? 'none', ttlMs: 60_000, cacheScope: 'public' }));
    const list = (name, token = 'alpha') => modern('tools/list', {}, { token, headers: name === undefined ? {} : { 'Mcp-Name': name } });
    for (const name of ['evil', undefined, 'other']) await stand.fill(list(name));
    for (const name of ['evil', undefined, 'other']) {
        const { result } = await messageOf(await stand.expect('hit', list(name)));
        assert.equal(result.of, name ?? 'none');
    }
});

test('3000 callers who are let in once, each under a name of his own, do not fill the disk with what is known of them', async (t) => {
    const { stand } = await open(t, { flags: ['--insert-rate', '1'] });
    const bytes = async () => (await stat(path.join(stand.sidecar.store, 'store.mdb'))).size;
    await stand.fill(callTool('read', {}));
    const before = await bytes();
    assert.deepEqual(await flood(stand, t, Array.from({ length: 3000 }, (_, n) => callTool('touch', {}, { token: null, headers: { Cookie: `c=${n}` } }))), [200]);
    await stand.sidecar.stop();
    assert.ok((await bytes()) - before < 256 * 1024, `${before} bytes before, ${await bytes()} afterwards`);
});

// ---- a second reading: what began before an end, what is hidden, what is no answer -------------------------------------------------------

test('a probe whose session ended while it was under way proves nothing, though the same principal has opened the session again', async (t) => {
    const place = await open(t, { identity: `${SHORT}, claims: [iss, sub]` });
    const { stand, door, asked } = place;
    const claims = { iss: 'https://idp.example', sub: 'ann', exp: 4_000_000_000 };
    const [first, second] = ['first', 'second'].map((jti) => jwt({ ...claims, jti }));
    const call = await session(place, 'S', first);
    await stand.fill(call('mine'));
    await stand.expect('hit', call('mine'));
    await lapse();
    const gate = new Gate();
    door.delay = (seen) => (seen.json?.method === 'ping' ? gate.pass() : undefined);
    const waiting = later(stand.ask(call('mine')));
    await until(() => gate.arrived === 1, { everyMs: 2, what: 'the probe' });
    assert.equal(await statusOf(stand, { method: 'DELETE', path: '/mcp', headers: { Authorization: `Bearer ${second}`, 'Mcp-Session-Id': 'S' } }), 200);
    await moment();
    await session(place, 'S', second);
    await stand.expect('miss', legacyCall('mine', { n: 2 }, { token: second, session: 'S' }), 'accepted again');
    door.refuse = (seen, who) => (who === first ? 404 : undefined);
    gate.open(Infinity);
    const answer = await waiting;
    await answer.body();
    assert.equal(answer.status, 404, answer.header('cache-status'));
    assert.equal(asked('mine'), 3);
});

test('a request with two Mcp-Session-Id fields, or with headers that disagree with its body, has no probe sent', async (t) => {
    const place = await open(t, { identity: SHORT });
    const { stand, door, upstream } = place;
    const [dead, live] = [await session(place, 'dead'), await session(place, 'live')];
    for (const request of [dead('read'), live('read'), callTool('read', {})]) await stand.fill(request);
    // An upstream that takes the last of them.
    door.refuse = (call) => (call.headerAll('mcp-session-id').at(-1) === 'dead' ? 404 : undefined);
    await lapse();
    for (const request of [
        legacyCall('read', {}, { headers: [['Mcp-Session-Id', 'dead'], ['Mcp-Session-Id', 'live']] }),
        callTool('read', {}, { headers: [['Mcp-Session-Id', 'a'], ['Mcp-Session-Id', 'b']] }),
        callTool('read', {}, { headers: { 'Mcp-Name': 'other' } }),
    ]) {
        await statusOf(stand, request);
        assert.equal(probesOf(upstream, 'alpha').length, 0, String(request.headers));
    }
    await expectRefusal(stand, dead('read'), 404);
});

test('a probe accepts whatever may answer it: what its caller wants in an answer of his own mutes nobody', async (t) => {
    const { stand, door, upstream, asked } = await open(t, { identity: SHORT });
    await stand.fill(callTool('read', {}));
    upstream.on('server/discover', (call) => (/event-stream/.test(call.header('accept')) ? door.handle(call) : call.error(-32000, 'Not Acceptable', { status: 406 })));
    await lapse();
    await statusOf(stand, callTool('read', {}, { headers: { Accept: 'application/json' } }));
    await lapse();
    await stand.expect('hit', callTool('read', {}));
    assert.equal(asked('read'), 1);
    assert.deepEqual(probesOf(upstream, 'alpha').map((call) => call.headerAll('accept')), [['application/json, text/event-stream'], ['application/json, text/event-stream']]);
});

test('a refusal of a request that hides a header is one all the same', async (t) => {
    const { stand, door, asked } = await open(t);
    await stand.fill(callTool('read', {}));
    await stand.expect('hit', callTool('read', {}));
    door.refuse = () => 401;
    await expectRefusal(stand, callTool('touch', {}, { headers: { Connection: 'keep-alive, x-foo' } }), 401);
    await expectRefusal(stand, callTool('read', {}), 401);
    assert.equal(asked('read'), 2);
});

test('a login page instead of an answer renews no lease', async (t) => {
    const { stand, upstream, asked } = await open(t, { identity: `${SHORT}, probe: off` });
    await stand.fill(callTool('read', {}));
    await lapse();
    upstream.on('touch', (call) => call.reply(200, { 'Content-Type': 'text/html' }, '<html>who are you?</html>'));
    assert.equal(await statusOf(stand, callTool('touch', {})), 200);
    await stand.expect('miss:unproven', callTool('read', {}));
    assert.equal(asked('read'), 2);
});

for (const [what, id] of [['"id":null', '"id":null,'], ['no id', '']]) {
    test(`an error with ${what} in a stream takes the grant back`, async (t) => {
        const { stand, door, upstream } = await open(t);
        await stand.fill(callTool('shared', { n: 1 }, { token: 'beta' }));
        await stand.expect('miss', callTool('shared', { n: 2 }));
        await stand.expect('hit', callTool('shared', { n: 1 }), 'granted');
        const text = `{"jsonrpc":"2.0",${id}"error":{"code":-32600,"message":"not for you"}}`;
        upstream.on('shared', (call) => (argumentsOf(call).n === 3 ? call.message(text, { via: 'sse' }) : door.handle(call)));
        await statusOf(stand, callTool('shared', { n: 3 }));
        await stand.expect('miss:unproven', callTool('shared', { n: 1 }));
    });
}

test('406 for what the client accepts is no refusal: the public answer stays everybody\'s', async (t) => {
    const { stand, door, upstream, asked } = await open(t);
    const beta = { token: 'beta' };
    await stand.fill(callTool('shared', { n: 1 }));
    await stand.admit(callTool('shared', { n: 1 }, beta));
    await stand.expect('hit', callTool('shared', { n: 1 }, beta));
    upstream.on('shared', (call) => (/event-stream/.test(call.header('accept')) ? door.handle(call) : call.error(-32000, 'Not Acceptable', { status: 406 })));
    assert.equal(await statusOf(stand, callTool('shared', { n: 1 }, { headers: { Accept: 'application/json', 'Cache-Control': 'no-cache' } })), 406);
    const before = asked('shared');
    await moment();
    await stand.settle();
    await stand.expect('hit', callTool('shared', { n: 1 }, beta));
    await stand.expect('hit', callTool('shared', { n: 1 }));
    assert.equal(asked('shared'), before);
});

// ---- a second reading: which answer is the newest ---------------------------------------------------------------------------------------

for (const scope of ['private', 'public']) {
    test(`an answer that was asked for earlier and came later (${scope}) does not replace a newer private one, and is nobody's`, async (t) => {
        const { stand, upstream } = await open(t);
        const gate = new Gate();
        upstream.on('doc://x', async (call) => {
            const isFirst = upstream.of('doc://x').length === 1;
            if (isFirst) await gate.pass();
            return call.result(contents('doc://x', isFirst ? 'old' : 'new', { ttlMs: 60_000, cacheScope: isFirst ? scope : 'private' }));
        });
        const slow = later(stand.ask(readResource('doc://x')));
        await upstream.call('doc://x');
        await moment();
        // Past the cache: whoever looks there waits for the answer that is on its way. What he gets is kept.
        const newer = await stand.expect('bypass:client-control', readResource('doc://x', past));
        assert.match(newer.header('cache-status'), /; stored;/);
        await stand.settle();
        gate.open();
        assert.equal(await textIn(await slow), 'old');
        await stand.settle();
        assert.equal(await textIn(await stand.expect('hit', readResource('doc://x'))), 'new');
        const beta = { token: 'beta' };
        await stand.admit(readResource('doc://x', beta));
        assert.equal(await textIn(await stand.expect('miss', readResource('doc://x', beta))), 'new');
    });
}

test('a private answer to a client that asked past the cache takes the public one to the same question away', async (t) => {
    const { stand, upstream } = await open(t);
    const beta = { token: 'beta' };
    const says = (text, cacheScope) => upstream.on('doc://x', (call) => call.result(contents('doc://x', text, { ttlMs: 60_000, cacheScope })));
    says('old', 'public');
    await stand.fill(readResource('doc://x'));
    await stand.admit(readResource('doc://x', beta));
    await stand.expect('hit', readResource('doc://x', beta));
    says('new', 'private');
    await statusOf(stand, readResource('doc://x', past));
    await stand.settle();
    assert.equal(await textIn(await stand.ask(readResource('doc://x', beta))), 'new');
});

test('a client that wants nothing stored gets an encoded answer as it is, and the private answer is gone though nobody here reads the newer one', async (t) => {
    const { stand, door, upstream, asked } = await open(t);
    await stand.fill(callTool('read', { n: 1 }));
    await stand.expect('hit', callTool('read', { n: 1 }));
    upstream.on('read', (call) => call.reply(200, { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, gzipSync(`{"jsonrpc":"2.0","id":${call.id},"result":${JSON.stringify(complete('now otherwise'))}}`)));
    const answer = await stand.ask(callTool('read', { n: 1 }, { headers: { 'Cache-Control': 'no-store', 'Accept-Encoding': 'gzip' } }));
    await answer.body();
    assert.equal(answer.header('content-encoding'), 'gzip');
    upstream.on('read', door.handle);
    await stand.settle();
    await stand.expect('miss', callTool('read', { n: 1 }));
    assert.equal(asked('read'), 3);
});

test('a client that asks past the cache gets an answer without encoding, which is kept; an encoded one takes the older one away', async (t) => {
    const { stand, door, upstream, asked } = await open(t);
    const again = { headers: { 'Cache-Control': 'no-cache', 'Accept-Encoding': 'gzip' } };
    await stand.fill(callTool('read', {}));
    await stand.expect('bypass:client-control', callTool('read', {}, again));
    assert.deepEqual(upstream.calls.at(-1).headerAll('accept-encoding'), ['identity']);
    await stand.settle();
    assert.equal(await textIn(await stand.expect('hit', callTool('read', {}))), 'read for alpha, 2');
    // An upstream that encodes whatever is wanted.
    upstream.on('read', (call) => call.reply(200, { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, gzipSync(`{"jsonrpc":"2.0","id":${call.id},"result":${JSON.stringify(complete('now otherwise'))}}`)));
    const answer = await stand.expect('bypass:client-control', callTool('read', {}, again));
    assert.equal(answer.header('content-encoding'), 'gzip');
    upstream.on('read', door.handle);
    await stand.settle();
    await stand.expect('miss', callTool('read', {}));
    assert.equal(asked('read'), 4);
});

// ---- a second reading: strangers --------------------------------------------------------------------------------------------------------

/** Twenty in sessions of their own, with a stored answer each to what they ask. */
async function twenty(place, name) {
    const people = [];
    for (let n = 0; n < 20; n++) people.push(await session(place, `session-${n}`, `person-${n}`));
    for (const call of people) await place.stand.expect('miss', call(name, { n: 1 }));
    await place.stand.settle();
    for (const call of people) await place.stand.expect('hit', call(name, { n: 1 }));
    return people;
}
/** How many of them still find it; `proven`: after another question, at worst. */
async function keeping(stand, people, name, { proven = false } = {}) {
    let kept = 0;
    for (const call of people) {
        const heard = [];
        for (const n of proven ? [1, 2, 1] : [1]) {
            const answer = await stand.ask(call(name, { n }));
            await answer.body();
            heard.push(outcomeOf(answer));
            if (heard[0] === 'hit') break;
        }
        if (heard.at(-1) === 'hit' && heard[0] !== 'miss') kept += 1;
    }
    return kept;
}

test('a challenge is remembered over a restart, however many were let in just before under ever new names', async (t) => {
    const { stand, door, asked } = await open(t, { flags: ['--insert-rate', '1'] });
    const nobody = { token: null };
    await stand.fill(callTool('shared', {}, nobody));
    await stand.expect('hit', callTool('shared', {}, nobody));
    assert.deepEqual(await flood(stand, t, Array.from({ length: 30 }, (_, n) => callTool('touch', {}, { token: null, headers: { Cookie: `c=${n}` } }))), [200]);
    door.refuse = (call, who) => (who === undefined ? 401 : undefined);
    await expectRefusal(stand, callTool('touch', {}, nobody), 401);
    await stand.settle();
    await stand.sidecar.restart();
    await expectRefusal(stand, callTool('shared', {}, nobody), 401);
    assert.equal(asked('shared'), 2);
});

for (const status of [401, 400]) {
    test(`1500 strangers who are refused by ${status} push nobody's proofs out`, async (t) => {
        const place = await open(t, { flags: ['--max-proofs', '512'] });
        const people = await twenty(place, 'mine');
        place.door.refuse = (call, who) => (who.startsWith('stranger') ? status : undefined);
        assert.deepEqual(await flood(place.stand, t, Array.from({ length: 1500 }, (_, n) => callTool('shared', { n }, { token: `stranger-${n}` }))), [status]);
        await moment();
        const kept = await keeping(place.stand, people, 'mine');
        assert.ok(kept >= 18, `${kept} of 20`);
    });
}

for (const name of ['read', 'mine']) {
    test(`strangers who are let in first and refused afterwards take nobody's session away: ${name}`, async (t) => {
        const place = await open(t, { flags: ['--max-sessions', '512'] });
        const people = await twenty(place, name);
        place.door.refuse = (call, who) => (who.startsWith('stranger') && call.json?.method !== 'ping' ? 401 : undefined);
        const requests = Array.from({ length: 2000 }, (_, n) => (n & 8 ? callTool('touch', {}, { token: `stranger-${n - 8}` }) : legacy('ping', undefined, { token: `stranger-${n}` })));
        assert.deepEqual((await flood(place.stand, t, requests)).sort(), [200, 401]);
        await moment();
        const kept = await keeping(place.stand, people, name, { proven: true });
        assert.ok(kept >= 18, `${kept} of 20`);
    });
}

test('sessions that a stranger ends take no newer ones of others away: the oldest ends are forgotten first', async (t) => {
    const place = await open(t, { flags: ['--max-sessions', '512'] });
    const end = (from, to) => flood(place.stand, t, Array.from({ length: to - from }, (_, n) => ({ method: 'DELETE', path: '/mcp', headers: { Authorization: 'Bearer mallory', 'Mcp-Session-Id': `own-${from + n}` } })));
    assert.deepEqual(await end(0, 1200), [200]);
    await moment();
    const people = await twenty(place, 'read');
    assert.deepEqual(await end(1200, 1400), [200]);
    await moment();
    const kept = await keeping(place.stand, people, 'read');
    assert.ok(kept >= 17, `${kept} of 20`);
});
