/* SPDX-License-Identifier: Apache-2.0 */
// The usual stand of a wire-level test: scripted upstream, sidecar, raw clients. Tests of one file share it and keep apart by the names of
// tools and resources. Always true: after settle(), whatever earlier answers put into the store is visible.
import assert from 'node:assert/strict';
import { Sidecar } from './sidecar.mjs';
import { Connection, ask } from './raw.mjs';
import { Scripted } from './scripted.mjs';
import { callTool, complete, outcomeOf } from './rpc.mjs';
import { until } from './wait.mjs';

/** read*: private to credentials and session. mine*: to credentials. shared*: everybody's. ttl://: a lifetime that does not need the server's hint. */
export const POLICY = `version: 1
defaults:
  lists: hint
  resources: hint
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: "read*", ttl: 60s }
  - { name: "mine*", ttl: 60s, scope: principal }
  - { name: "shared*", ttl: 60s, scope: public }
resources:
  - { uri: "ttl://**", ttl: 60s }
  - { uri: "mine://**", ttl: 60s, scope: principal }
`;

export class Stand {
    upstream;
    sidecar;
    #canaries = 0;
    #nextTurn;

    /** Before all tests of a file, or inside one test (give it t). One loop: an answer that has ended is behind us everywhere. */
    static async open({ t, policy = POLICY, flags = [], env, fallback } = {}) {
        const stand = new Stand();
        t?.after(() => stand.close());
        stand.upstream = await Scripted.start({ fallback });
        stand.upstream.turn = () => stand.turn();
        stand.upstream.on('GET /turn', (call) => call.reply(204));
        stand.upstream.on('canary', (call) => call.result(complete('canary')));
        try {
            stand.sidecar = await Sidecar.start(policy, { upstream: stand.upstream, flags: flags.includes('--threads') ? flags : ['--threads', '1', ...flags], env });
        } catch (error) {
            await stand.upstream.close();
            throw error;
        }
        return stand;
    }

    get origin() { return this.sidecar.origin; }

    /**
     * One request on a connection of its own, in a later millisecond than whatever was answered before: what happens within one millisecond counts as refused first and
     * asked before, whichever it was.
     */
    async ask(request) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        return ask(this.origin, request);
    }
    connect(t) { return Connection.open(this.origin, t); }

    /** Waits until everything that was handed to the store before is in it: the writer works in order, so one more entry, seen there, proves it. */
    async settle() {
        const request = callTool('canary', { number: (this.#canaries += 1) }, { token: 'canary' });
        await until(async () => {
            const answer = await this.ask(request);
            await answer.body();
            return outcomeOf(answer) === 'hit';
        }, { withinMs: 10_000, everyMs: 2, what: 'a freshly stored answer to be found' });
    }

    /** A request there and back: the sidecar's one loop has read whatever lay at its sockets before. Shared by all who ask before it begins. */
    turn() {
        this.#nextTurn ??= new Promise(setImmediate).then(async () => {
            this.#nextTurn = undefined;
            await (await this.ask({ method: 'GET', path: '/turn' })).body();
        });
        return this.#nextTurn;
    }

    /** Asks, reads to the end, and expects this outcome. */
    async expect(outcome, request, why = '') {
        const unproven = () => this.sidecar.log.filter((line) => /\breason=unproven\b/.test(line)).length;
        const before = unproven();
        const answer = await this.ask(request);
        await answer.body();
        // A refused caller, and a stream that had to begin, do not hear that an entry was there; the log does.
        if (outcome === 'miss:unproven' && outcomeOf(answer) === 'miss') {
            await until(() => unproven() > before, { what: `a log line with reason=unproven; ${why}: ${answer.header('cache-status')} for ${String(request.body).slice(0, 300)}` });
            return answer;
        }
        assert.equal(outcomeOf(answer), outcome, `${why}${why ? ': ' : ''}${answer.status} ${answer.header('cache-status')} for ${String(request.body).slice(0, 300)}`);
        return answer;
    }

    /**
     * Makes callers known: each has a request like these answered by the upstream, with a member of _meta that makes another question of it. Without this a stranger
     * misses because nothing proves that he would be let in, and a test that no answer crosses to him would prove nothing.
     */
    async admit(...requests) {
        for (const request of requests) {
            const member = '"com.example/admit":"another question"';
            const body = request.body.includes('"_meta":{') ? request.body.replace('"_meta":{', `"_meta":{${member},`) : request.body.replace('"params":{', `"params":{"_meta":{${member}},`);
            assert.notEqual(body, request.body);
            const answer = await this.ask({ ...request, body });
            await answer.body();
            assert.equal(answer.status, 200, 'the upstream lets him in');
        }
    }

    /** A miss that is stored. */
    async fill(request) {
        const answer = await this.expect('miss', request, 'the fill');
        assert.equal(answer.status, 200);
        await this.settle();
        return answer;
    }

    /** Asks twice: both times the upstream is asked, so the first answer was not kept. `outcome` is what Cache-Status says of each. */
    async expectNotStored(request, outcome = 'miss') {
        const first = await this.expect(outcome, request, 'the first of two');
        await this.settle();
        const second = await this.expect(outcome, request, 'the second of two');
        return [first, second];
    }

    /** Ends both. A sidecar that fell over, or that does not end well (a sanitizer has something to say), fails the test or the file. */
    async close() {
        try {
            const { code, signal } = (await this.sidecar?.stop()) ?? { code: 0 };
            if (code !== 0) throw new Error(`the sidecar ended with ${signal ?? `exit ${code}`}; its last words:\n${this.sidecar.log.slice(-40).join('\n')}`);
        } finally {
            await this.sidecar?.close();
            await this.upstream?.close();
        }
    }
}
