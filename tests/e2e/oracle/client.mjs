/* SPDX-License-Identifier: Apache-2.0 */
// A connection to the sidecar, shared by whoever the plan says, as behind a reverse proxy; one question at a time; every answer is judged on arrival.
import net from 'node:net';
import { Reader, header, lines } from './http.mjs';
import { isPublic } from './phases.mjs';
import { now } from './world.mjs';

const SLACK_MS = 3;

/** All that a hit may say beside its body. */
const HIT_HEADERS = ['date', 'server', 'connection', 'content-type', 'content-length', 'cache-control', 'age', 'cache-status', 'mcp-session-id', 'access-control-allow-origin', 'access-control-expose-headers', 'vary'];

/** What Cache-Status says: {isHit, isMiss, isStored, isOwn, detail}. */
export function outcomeOf(text) {
    const parts = (text ?? '').split(';').map((part) => part.trim());
    const forwarded = parts.find((part) => part.startsWith('fwd='))?.slice(4);
    const isHit = parts.includes('hit');
    return {
        isHit, isMiss: forwarded === 'miss', isStored: parts.includes('stored'), detail: parts.find((part) => part.startsWith('detail='))?.slice(7),
        isOwn: text !== undefined && !isHit && forwarded === undefined, isCollapsed: parts.includes('collapsed'),
    };
}

export class Client {
    #socket = null;

    constructor(run, drawer) {
        this.run = run;
        this.drawer = drawer;
    }

    async #connect() {
        const socket = net.connect({ host: '127.0.0.1', port: this.run.port, noDelay: true });
        await new Promise((resolve, reject) => {
            socket.once('connect', resolve);
            socket.once('error', reject);
        });
        socket.setEncoding('latin1');
        const answer = (reply) => {
            const { settle } = socket;
            socket.settle = undefined;
            if (this.#socket !== socket && reply) return;
            if (settle) settle(reply);
            else if (reply) this.run.violation('framing', `an answer that nobody asked for: ${reply.line} ${reply.body}`);
        };
        const reader = new Reader(true, answer);
        socket.on('data', (piece) => {
            try {
                reader.feed(piece);
            } catch (error) {
                this.run.violation('framing', error.message);
                socket.destroy();
            }
        });
        socket.on('error', () => {});
        socket.on('close', () => {
            if (this.#socket === socket) this.#socket = null;
            answer(null);
        });
        this.#socket = socket;
    }

    #leave() {
        this.#socket?.destroy();
        this.#socket = null;
    }
    cut() { this.#leave(); }

    /** Asks until the phase has had its share. */
    async go() {
        const { run, drawer } = this;
        for (;;) {
            await run.up;
            await run.pace();
            const number = run.next();
            if (number === undefined) break;
            const op = drawer.draw(number);
            if (drawer.isSlow) await new Promise((done) => setTimeout(done, drawer.dice.between(...run.phase.slowPaceMs)));
            await run.up;
            try {
                if (this.#socket === null) await this.#connect();
            } catch (error) {
                if (!run.isUp) continue;
                throw error;
            }
            await this.#ask(op);
            this.run.judged();
        }
        this.#leave();
    }

    async #ask(op) {
        const { run } = this;
        run.upstream.operations.set(op.number, op);
        const body = op.body;
        const text = lines(`${op.verb} ${op.path} HTTP/1.1`, [['Host', `127.0.0.1:${run.port}`], ...op.headers, ...(op.verb === 'POST' || body !== '' ? [['Content-Length', body.length]] : [])]) + body;
        op.tick = run.clock();
        op.ms = now();
        op.realMs = Date.now();
        run.note(op, `op ${op.number} ${op.era} ${op.verb} ${op.method ?? op.path} ${op.name} ${op.never ?? ''} ${op.args?.map(([name, value]) => `${name}=${value}`).join(',') ?? ''}`);
        this.#expect(op);
        const reply = await new Promise((settle) => {
            op.process = run.process;
            this.#socket.settle = settle;
            this.#socket.write(text, 'latin1');
            if (op.leavesAfterMs !== undefined) setTimeout(() => settle('left'), op.leavesAfterMs);
        });
        if (reply === 'left') {
            // it may still reach the upstream, and what comes back may be kept
            op.hasLeft = true;
            run.note(op, `   ${op.number} -> left`);
            run.count('left early', 1);
            return this.#leave();
        }
        run.upstream.operations.delete(op.number);
        if (reply === null) {
            if (op.process === run.process && run.isUp && !run.isStopped) run.violation('answer', `operation ${op.number} got none: its connection was closed`, op);
            run.cut.add(op.number);
            run.count('cut by a kill', 1);
            return;
        }
        if (header(reply, 'connection') === 'close') this.#leave();
        const status = Number(reply.line.slice(9, 12));
        this.#judge(op, status, outcomeOf(header(reply, 'cache-status')), reply);
    }

    #judge(op, status, outcome, reply) {
        const { run } = this;
        op.answer = `${status} ${header(reply, 'cache-status') ?? '-'}`;
        run.note(op, `   ${op.number} -> ${op.answer} ${/#\d+[^"]*/.exec(reply.body)?.[0] ?? ''}`);
        if (outcome.isHit) return this.#judgeHit(op, status, reply);
        if (outcome.isOwn) return this.#judgeRefusal(op, status, outcome, reply);
        this.#judgeForwarded(op, status, outcome, reply);
    }

    // ---- answers from the store ---------------------------------------------------------------------------------------------

    #judgeHit(op, status, reply) {
        const { run } = this;
        const complain = (word, text) => run.violation(word, `operation ${op.number} got a hit: ${text}; ${reply.body.slice(0, 300)}`, op);
        if (status !== 200) complain('status', `with status ${status}`);
        if (op.exchange) complain('request', 'and yet the upstream was asked');
        const serial = Number(/#(\d+) who=/.exec(reply.body)?.[1]);
        const x = run.upstream.exchanges.get(serial);
        if (x === undefined) return complain('unknown', 'nobody knows when it was made');
        const objection = run.judge.objection(op, x);
        if (objection) return complain(...objection);
        this.#judgeBytes(op, x, reply.body, complain);
        this.#judgeHeaders(op, reply, complain);
        for (const [name, value] of reply.headers) if (!HIT_HEADERS.includes(name)) complain('bytes', `with a header that no hit has: ${name}: ${value}`);
        this.#countHit(op, x);
    }

    /** The stored result as it was sent; only the id is the caller's own, and the lifetime what is left of it. */
    #judgeBytes(op, x, body, complain) {
        const shared = isPublic(op.rule, x);
        // public by the operator's word alone: the server did not know that everybody would read this
        const head = shared && x.cacheScope !== 'public' && x.vendor !== undefined ? x.parts[0].replace(x.vendor, '') : x.parts[0];
        const start = `{"jsonrpc":"2.0","id":${op.id},"result":${head}${x.parts[1]}`;
        const end = `${x.parts[2]}}`;
        const left = body.slice(start.length, body.length - end.length);
        if (!body.startsWith(start) || !body.endsWith(end)) return complain('bytes', `other bytes than ${start}`);
        if (x.parts[1] === '') {
            if (left !== '') complain('bytes', `other bytes than ${start}`);
            return;
        }
        const leftMs = Number(left);
        const atMost = x.seenMs === undefined ? x.hintMs : Math.max(0, x.hintMs - (op.decided.ms - x.seenMs) + SLACK_MS);
        if (!/^\d+$/.test(left) || leftMs > atMost) complain('ttl', `ttlMs ${left}, at most ${Math.round(atMost)} are left`);
    }

    /** Headers that speak of one caller speak of this one. */
    #judgeHeaders(op, reply, complain) {
        const own = [op.session?.id, op.exchange?.opened?.id];
        for (const [name, value] of reply.headers) {
            if (name === 'mcp-session-id' && !own.includes(value)) complain('session', `it says that its session is ${value}`);
            if (name === 'access-control-allow-origin' && value !== op.origin) complain('bytes', `it allows the Origin ${value}`);
            if (name === 'set-cookie' && value !== `for=${op.credential.name}`) complain('caller', `it sets the cookie ${value}`);
        }
    }

    #countHit(op, x) {
        const { run } = this;
        const isAnother = x.credential !== op.credential;
        const scope = isPublic(op.rule, x) ? (op.rule.scope === 'public' ? 'public (rule)' : 'public (hint)') : op.era === 'legacy' && op.rule.scope !== 'principal' ? (op.session ? 'session' : 'no session') : 'principal';
        run.count(`hit ${scope}`, 1);
        run.count(`hit ${op.era}`, 1);
        run.count('hits', 1);
        if (isAnother) run.count(isPublic(op.rule, x) ? "hit on another's public" : 'hit by claims of another token', 1);
        if (op.credential.isAnonymous) run.count('hit anonymous', 1);
        if (op.waitedForProbe) run.count('hit after a probe', 1);
        if (op.dataKey !== undefined && op.method === 'tools/call' && !x.body.includes(`v=${run.world.versionOf(op.dataKey)} `)) run.count('hit older than a write', 1);
    }

    // ---- answers of the sidecar's own ---------------------------------------------------------------------------------------

    #judgeRefusal(op, status, outcome, reply) {
        const { run } = this;
        const complain = (text) => run.violation('refusal', `operation ${op.number} was refused by the sidecar (${op.answer}): ${text}; ${reply.body}`, op);
        run.count(`own ${status} ${outcome.detail}`, 1);
        if (op.exchange) complain('and yet the upstream was asked');
        let message;
        try {
            message = JSON.parse(reply.body);
        } catch {
            return complain('with no JSON');
        }
        if (header(reply, 'content-type') !== 'application/json' || message.jsonrpc !== '2.0' || message.error === undefined) complain('not as JSON-RPC');
        if (status === 400 && message.error?.code === -32020) {
            if (op.never !== 'header') complain('its headers say what its body says');
            if (!reply.body.includes(`"id":${op.id},`)) complain('with another id');
            const refusal = run.judge.admission(op);
            if (refusal) complain(`a caller who proved nothing is told that an entry exists: ${refusal.join(', ')}`);
        } else if (status === 403 && outcome.detail === 'origin') {
            if (run.phase.origins.length === 0 || op.origin === undefined || run.phase.origins.includes(op.origin)) complain('its Origin is welcome, or nobody asked');
        } else {
            complain('why?');
        }
    }

    // ---- answers of the upstream --------------------------------------------------------------------------------------------

    #judgeForwarded(op, status, outcome, reply) {
        const { run } = this;
        const x = op.exchange;
        const complain = (word, text) => run.violation(word, `operation ${op.number} (${op.answer}): ${text}; ${reply.body.slice(0, 300)}`, op);
        run.count(`${outcome.isMiss ? 'miss' : 'bypass'} ${outcome.isStored ? 'stored' : (outcome.detail ?? '-')}`, 1);
        if (!x || x.sentTick === undefined) return complain('answer', 'it says no hit, and the upstream was not asked');
        if (x.status !== status) complain('status', `the upstream said ${x.status}`);
        if (x.body !== undefined && x.status !== 204 && !reply.body.includes(x.body)) complain('bytes', `the upstream sent ${x.body}`);
        if (run.phase.origins.length > 0 && op.origin !== undefined && !run.phase.origins.includes(op.origin) && op.path === '/mcp' && op.verb !== 'OPTIONS') complain('origin', `its Origin ${op.origin} is not on the list`);
        this.#judgeHeaders(op, reply, complain);
        this.#countWithheld(op);
        x.seenTick = run.clock();
        x.seenMs = now();
        if (op.isElsewhere) return;
        run.judge.seen(x, outcome.isMiss, outcome.isStored);
        this.#live(op, x);
    }

    /** Which protection stands between this question and an entry that is there, as far as all that has happened before it tells. */
    #expect(op) {
        const { judge } = this.run;
        op.entry = judge.expected(op);
        if (op.entry !== undefined) op.objection = judge.objection(op, op.entry);
    }
    #countWithheld(op) {
        if (op.entry === undefined) return;
        this.run.count(`withheld: ${op.objection?.[0] ?? 'unexplained'}`, 1);
        if (!op.objection) this.run.note(op, `   ${op.number} could have had #${op.entry.serial}`);
    }

    /** What a client does about an answer. */
    #live(op, x) {
        const { sessions } = op.credential;
        if (x.opened) sessions.push(x.opened);
        if (!op.session || !sessions.includes(op.session)) return;
        const isOver = x.status === 404 || (op.verb === 'DELETE' && x.status < 300);
        // some clients do not notice at once
        if (isOver && this.drawer.dice.chance(0.2)) sessions.splice(sessions.indexOf(op.session), 1);
    }
}
