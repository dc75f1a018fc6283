/* SPDX-License-Identifier: Apache-2.0 */
// The upstream fails for half a minute, in each of the ways that upstreams fail, while callers go on asking. Fresh answers are hits all the while, what may stand in stands in,
// who has to be told of the failure is told in time, and when the upstream is back it is found again by itself. All ways at once, each with a sidecar of its own.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask } from './lib/raw.mjs';
import { callTool, complete, outcomeOf } from './lib/rpc.mjs';
import { Scripted } from './lib/scripted.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { sleep, until } from './lib/wait.mjs';

const OUTAGE_MS = Number(process.env.OUTAGE_SECONDS ?? 30) * 1000;
const HEALTHY_MS = 2000;
const EVERY_MS = 200;
const TIMEOUT_MS = 1000; // of the rules
const FIRST_BYTE_MS = 2000; // of what has no rule
const SLACK_MS = 1500; // a slow build on a busy machine
const AT_ONCE_MS = 600;
// Open periods of the breaker double from 5 s: after half a minute one of 20 s is the longest.
const RECOVERY_MS = 25_000;
const KEYS = 3;

const POLICY = `version: 1
identity: { lease: 10m }
tools:
  - { name: fresh, ttl: 10m }
  - { name: sturdy, ttl: 500ms, stale_if_error: 10m, timeout: ${TIMEOUT_MS}ms }
  - { name: graceful, ttl: 500ms, grace: 10m, timeout: ${TIMEOUT_MS}ms }
  - { name: plain, ttl: 500ms, timeout: ${TIMEOUT_MS}ms }
  - { name: write, class: write }
`;
const KINDS = ['fresh', 'sturdy', 'graceful', 'plain', 'write'];

const WAYS = {
    killed: {},
    hung: { reply: () => {} },
    resetting: { reply: (call) => call.reset() },
    'answering 500': { reply: (call) => call.reply(500, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32603,"message":"down"}}`) },
    truncating: {
        cuts: true,
        async reply(call) {
            const text = `{"jsonrpc":"2.0","id":${call.id},"result":${JSON.stringify(complete('never to be believed'))}}`;
            await call.head(200, { 'Content-Type': 'application/json', 'Content-Length': text.length });
            await call.write(text.slice(0, -10));
            call.close();
        },
    },
};

/** One sidecar, its upstream, and the callers. */
class Scene {
    version = 1;
    asked = [];
    arrived = [];
    broken = undefined;
    #number = 0;
    #loads = [];
    #ends = false;

    async open(t) {
        this.upstream = await Scripted.start({ fallback: this.#serve });
        t.after(() => this.upstream.close());
        this.sidecar = await Sidecar.start(POLICY, { t, upstream: this.upstream, flags: ['--threads', '2', '--first-byte-timeout', `${FIRST_BYTE_MS}ms`, '--connect-timeout', `${TIMEOUT_MS}ms`] });
    }

    #serve = (call) => {
        const { name, arguments: args } = call.json.params;
        this.arrived.push({ at: performance.now(), kind: name, id: call.id });
        return this.broken ? this.broken(call) : call.result(complete(`${name} ${args.key}, version ${this.version}`));
    };

    /** One request, to its end, however it ends. Who writes is somebody else: his own reads would have to be newer than his writes. */
    async ask(kind, key) {
        const id = (this.#number += 1);
        const one = { kind, key, id, at: performance.now() };
        this.asked.push(one);
        try {
            const answer = await ask(this.sidecar.origin, callTool(kind, { key }, { id: String(id), token: kind === 'write' ? 'writer' : 'reader' }));
            await answer.finished;
            Object.assign(one, { status: answer.status, ending: answer.ending, outcome: outcomeOf(answer), text: answer.text, retryAfter: answer.header('retry-after'), status9211: answer.header('cache-status') });
        } catch (error) {
            one.failure = error;
        }
        one.ms = performance.now() - one.at;
        return one;
    }

    load() {
        for (const [n, kind] of KINDS.entries()) {
            this.#loads.push((async () => {
                await sleep((n * EVERY_MS) / KINDS.length);
                const asking = [];
                for (let turn = 0; !this.#ends; turn++) {
                    asking.push(this.ask(kind, turn % KEYS));
                    await sleep(EVERY_MS);
                }
                await Promise.all(asking);
            })());
        }
    }
    async rest() {
        this.#ends = true;
        await Promise.all(this.#loads);
    }

    async break(reply) {
        this.brokeAt = performance.now();
        this.broken = reply;
        if (reply) return;
        this.port = this.upstream.port;
        await this.upstream.close();
    }
    async heal(t) {
        this.version = 2;
        this.broken = undefined;
        if (this.port) {
            this.upstream = await Scripted.start({ fallback: this.#serve, port: this.port });
            t.after(() => this.upstream.close());
        }
        this.healedAt = performance.now();
    }
}

const say = ({ kind, id, at, ms, status, outcome, text, failure }) => `${kind} ${id} at ${at.toFixed(0)}, ${ms?.toFixed(0)} ms: ${failure ?? `${status} ${outcome} ${text}`}`;
const result = (one, version) => `{"jsonrpc":"2.0","id":${one.id},"result":${JSON.stringify(complete(`${one.kind} ${one.key}, version ${version}`))}}`;
/** An error that says whose it is. */
function isError(one) {
    if (one.failure || one.ending === 'cut') return false;
    try {
        const message = JSON.parse(one.text);
        return message.id === one.id && typeof message.error.message === 'string' && !('result' in message);
    } catch {
        return false;
    }
}
const counted = (list, of) => JSON.stringify(Object.fromEntries([...new Set(list.map(of))].map((word) => [word, list.filter((one) => of(one) === word).length])));

describe('the upstream fails under load', { concurrency: true }, () => {
    for (const [way, { reply, cuts }] of Object.entries(WAYS)) {
        test(`an upstream that is ${way}: fresh hits, what may stand in stands in, errors in time, and back without a restart`, async (t) => {
            const scene = new Scene();
            await scene.open(t);
            for (const kind of KINDS) for (let key = 0; key < KEYS; key++) await scene.ask(kind, key);
            await until(async () => (await Promise.all([0, 1, 2].map((key) => scene.ask('fresh', key)))).every(({ outcome }) => outcome === 'hit'), { what: 'what is fresh to be kept' });
            const began = performance.now();
            scene.load();
            await sleep(HEALTHY_MS);
            await scene.break(reply);
            await sleep(OUTAGE_MS);
            await scene.heal(t);
            const recovered = {};
            await until(() => {
                for (const kind of ['plain', 'sturdy', 'graceful', 'write']) {
                    recovered[kind] ??= scene.asked.find((one) => one.kind === kind && one.at > scene.healedAt && one.text === result(one, 2));
                }
                return ['plain', 'sturdy', 'graceful', 'write'].every((kind) => recovered[kind]);
            }, { withinMs: RECOVERY_MS + 5000, what: () => `the upstream to be found again; so far ${Object.keys(recovered).filter((kind) => recovered[kind])}` }).finally(() => scene.rest());

            const of = (kind, from, to) => scene.asked.filter((one) => one.kind === kind && one.at >= from && one.at + one.ms < to);
            for (const kind of KINDS) {
                for (const one of of(kind, began, scene.brokeAt)) assert.ok(one.text === result(one, 1), `before: ${say(one)}`);
            }
            // What was under way when it broke could end either way.
            const [from, to] = [scene.brokeAt, scene.healedAt];
            const during = Object.fromEntries(KINDS.map((kind) => [kind, of(kind, from, to)]));
            t.diagnostic(`${way}: ${KINDS.map((kind) => `${kind} ${counted(during[kind], ({ outcome, status }) => `${outcome} ${status}`)}`).join(', ')}`);
            for (const kind of KINDS) assert.ok(during[kind].length >= (OUTAGE_MS / EVERY_MS) * 0.5, `${during[kind].length} requests for ${kind}`);
            for (const one of during.fresh) assert.ok(one.outcome === 'hit' && one.text === result(one, 1), say(one));
            for (const one of during.sturdy) assert.ok(one.text === result(one, 1) && one.ms < TIMEOUT_MS + SLACK_MS, say(one));
            for (const one of during.graceful) assert.ok(one.text === result(one, 1) && one.ms < AT_ONCE_MS, say(one));
            assert.ok(during.sturdy.some(({ outcome }) => outcome === 'stale:stale-if-error'));
            assert.ok(during.graceful.some(({ outcome }) => outcome === 'stale'));
            // Their last good answer lives on a little.
            const failing = (kind) => during[kind].filter(({ at }) => at > from + 600);
            for (const one of failing('plain')) assert.ok((isError(one) || (cuts && one.ending === 'cut')) && one.ms < TIMEOUT_MS + SLACK_MS, say(one));
            for (const one of failing('write')) assert.ok((isError(one) || (cuts && one.ending === 'cut')) && one.ms < FIRST_BYTE_MS + SLACK_MS, say(one));

            // The breaker: visible, and the upstream is left alone.
            const shut = during.plain.filter(({ outcome }) => outcome === 'error:breaker');
            assert.ok(shut.length > during.plain.length / 4, `${shut.length} of ${during.plain.length} because of the breaker`);
            for (const one of shut) assert.ok(one.status === 503 && Number(one.retryAfter) >= 1 && one.ms < AT_ONCE_MS, `${say(one)} retry-after ${one.retryAfter}`);
            assert.ok(during.write.every(({ outcome }) => outcome !== 'error:breaker'), 'a write is the client\'s to risk');
            assert.ok(scene.sidecar.log.some((line) => /\breason=breaker\b/.test(line)));
            const arrived = scene.arrived.filter(({ kind, at }) => kind !== 'write' && at > from && at < to);
            const wanted = ['sturdy', 'graceful', 'plain'].reduce((sum, kind) => sum + during[kind].length, 0);
            assert.ok(arrived.length < wanted / 4, `the upstream was asked ${arrived.length} times, for ${wanted} reads`);

            // Writes are sent once; what is fresh was fetched once.
            const writes = scene.arrived.filter(({ kind }) => kind === 'write').map(({ id }) => id);
            assert.equal(new Set(writes).size, writes.length, 'no write was sent twice');
            for (const one of scene.asked.filter(({ kind, at }) => kind === 'fresh' && at > from)) assert.ok(one.outcome === 'hit' && one.text === result(one, 1), `nothing good was replaced: ${say(one)}`);
            // Nothing that was broken was ever believed, and who had the new answer did not fall back.
            for (const one of scene.asked) assert.ok(!one.text?.includes('never to be believed') || one.ending === 'cut', say(one));
            const backs = Object.entries(recovered).map(([kind, { at, ms }]) => [kind, at + ms - to]);
            t.diagnostic(`${way}: found again after ${backs.map(([kind, ms]) => `${kind} ${(ms / 1000).toFixed(1)} s`).join(', ')}; asked ${arrived.length} times for ${wanted} reads`);
            for (const [kind, ms] of backs) assert.ok(ms < RECOVERY_MS, `${kind} took ${ms} ms`);
            assert.ok(scene.sidecar.running);
        });
    }
});
