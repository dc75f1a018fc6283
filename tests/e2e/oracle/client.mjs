/* SPDX-License-Identifier: Apache-2.0 */
// A connection to the sidecar, shared by whoever the plan says, as behind a reverse proxy; one question at a time; every answer is judged on arrival.
import net from 'node:net';
import { Reader, header, lines } from './http.mjs';
import { invalidatedBy, isPublic } from './phases.mjs';
import { now } from './world.mjs';

const SLACK_MS = 3;

/** All that a hit may say beside its body. */
const HIT_HEADERS = ['date', 'server', 'connection', 'content-type', 'content-length', 'cache-control', 'age', 'cache-status', 'mcp-session-id', 'access-control-allow-origin', 'access-control-expose-headers', 'vary'];

/** What a failed fetch makes the sidecar say, beside the upstream's own 5xx. */
const FAILURES = { reset: 502, connect: 502, truncated: 502, timeout: 504 };

/** What Cache-Status says: {isHit, isMiss, isStored, isOwn, isCollapsed, standsInFor, detail}. */
export function outcomeOf(text) {
    const parts = (text ?? '').split(';').map((part) => part.trim());
    const forwarded = parts.find((part) => part.startsWith('fwd='))?.slice(4);
    const isHit = parts.includes('hit');
    return {
        isHit, isMiss: forwarded === 'miss', isStored: parts.includes('stored'), detail: parts.find((part) => part.startsWith('detail='))?.slice(7),
        isOwn: text !== undefined && !isHit && forwarded === undefined, isCollapsed: parts.includes('collapsed'),
        standsInFor: forwarded === 'stale' ? Number(parts.find((part) => part.startsWith('fwd-status='))?.slice(11)) : undefined,
    };
}

export class Client {
    #socket = null;
    /** What it waits for. */
    #asked = null;

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
        const reader = new Reader(true, answer, (message) => {
            const stream = this.run.book.streams.get(this.#asked?.number);
            if (stream !== undefined && this.#socket === socket) this.run.book.opened(stream, / 200 /.test(message.line));
            this.run.hear(message, this.#asked);
        });
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
                run.violation('process', `nobody listens (${error.message}):\n${run.process.words.slice(-60).join('\n')}`);
                break;
            }
            await this.#ask(op);
            this.run.judged();
        }
        this.#leave();
    }

    async #ask(op) {
        const { run } = this;
        run.upstream.operations.set(op.number, op);
        const stream = op.verb === 'GET' && op.path === '/mcp' && op.session ? run.book.open(op) : undefined;
        if (op.rule?.graceMs > 0) run.upstream.refreshable.set(op.number, op);
        op.tick = run.clock();
        op.ms = now();
        this.#asked = op;
        if (op.rule?.timeoutMs !== undefined) run.judge.fresh.asked(op);
        const body = op.body;
        const text = lines(`${op.verb} ${op.path} HTTP/1.1`, [['Host', `127.0.0.1:${run.port}`], ...op.headers, ...(op.verb === 'POST' || body !== '' ? [['Content-Length', body.length]] : [])]) + body;
        op.realMs = Date.now();
        run.note(op, `op ${op.number} ${op.era} ${op.verb} ${op.method ?? op.path} ${op.name} ${op.never ?? ''} ${op.args?.map(([name, value]) => `${name}=${value}`).join(',') ?? ''}`);
        this.#expect(op);
        const reply = await new Promise((settle) => {
            op.process = run.process;
            this.#socket.settle = settle;
            this.#socket.write(text, 'latin1');
            if (op.leavesAfterMs !== undefined) setTimeout(() => settle('left'), op.leavesAfterMs);
        });
        if (stream !== undefined) run.book.closed(stream);
        if (reply === 'left') {
            // it may still reach the upstream, and what comes back may be kept
            op.hasLeft = true;
            // perhaps it never got there: nobody knows but that it may have
            if (op.isWrite) run.book.purged(invalidatedBy(op), op.tick);
            op.leftTick = run.clock();
            run.note(op, `   ${op.number} -> left`);
            run.count('left early', 1);
            if (op.isWrite && op.exchange?.endTick !== undefined) run.writeLeft(op);
            return this.#leave();
        }
        run.upstream.operations.delete(op.number);
        op.answeredMs = now();
        if (reply === null) {
            if (op.exchange?.fault === 'truncate') {
                run.count('cut by the upstream', 1);
                if (op.isWrite) run.judge.fresh.writeSeen(op, op.exchange.endTick, run.clock(), [], 'broke off');
                return;
            }
            // an event stream had begun when the time was over
            if (op.rule?.timeoutMs !== undefined && op.exchange?.sentTick !== undefined && run.judge.fresh.isLate(op)) return run.count('cut by its deadline', 1);
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
        if (op.isWrite && op.exchange) run.judge.fresh.writeSeen(op, op.exchange.endTick, run.clock(), status === op.exchange.status ? op.exchange.groups : []);
        if (outcome.isHit || outcome.standsInFor !== undefined) return this.#judgeHit(op, status, outcome, reply);
        if (outcome.isCollapsed) return this.#judgeShared(op, status, reply);
        // of a lookup whose fetch failed it is said that the upstream was asked, too
        const isOwn = outcome.isOwn || (outcome.isMiss && status >= 500 && !(op.exchange?.body && reply.body.includes(op.exchange.body)));
        if (isOwn) return this.#judgeRefusal(op, status, outcome, reply);
        this.#judgeForwarded(op, status, outcome, reply);
    }
    #complainer(op, what, reply) {
        return (word, text) => this.run.violation(word, `operation ${op.number} ${what} (${op.answer}): ${text}; ${reply.body.slice(0, 300)}`, op);
    }
    #exchangeOf(reply) { return this.run.upstream.exchanges.get(Number(/#(\d+) who=/.exec(reply.body)?.[1])); }

    // ---- answers from the store ---------------------------------------------------------------------------------------------

    #judgeHit(op, status, outcome, reply) {
        const { run } = this;
        const complain = this.#complainer(op, 'got a hit', reply);
        const how = outcome.standsInFor !== undefined ? 'stand-in' : outcome.detail === 'stale' ? 'stale' : 'fresh';
        if (status !== 200) complain('status', `with status ${status}`);
        if (how === 'stand-in') this.#judgeFailure(op, outcome.standsInFor, undefined, complain);
        // when his own fetch failed, and another's had not meanwhile
        else if (op.exchange && !(op.exchange.status >= 500) && op.exchange.fault === undefined && !(op.rule.timeoutMs !== undefined && run.judge.fresh.isLate(op))) complain('request', 'and yet the upstream was asked');
        const x = this.#exchangeOf(reply);
        if (x === undefined) return complain('unknown', 'nobody knows when it was made');
        const objection = run.judge.objection(op, x, how);
        if (objection) return complain(...objection);
        const shared = isPublic(op.rule, x);
        // public by the operator's word alone: the server did not know that everybody would read this
        this.#judgeBytes(op, x, shared && x.cacheScope !== 'public' ? x.heads.everybodys : x.heads.own, how === 'fresh' ? Infinity : 0, reply, complain);
        this.#judgeHeaders(op, reply, complain);
        for (const [name, value] of reply.headers) if (!HIT_HEADERS.includes(name)) complain('bytes', `with a header that no hit has: ${name}: ${value}`);
        this.#countHit(op, x, how);
        run.judge.known(x, run.clock());
        if (x.definitions) run.judge.fresh.listSeen(op, x, run.clock());
    }

    /** Another's fetch brought it. */
    #judgeShared(op, status, reply) {
        const { run } = this;
        const complain = this.#complainer(op, "shares another's fetch", reply);
        if (status !== 200) complain('status', `with status ${status}`);
        if (op.exchange) complain('request', 'and yet the upstream was asked');
        const x = this.#exchangeOf(reply);
        if (x === undefined) return complain('unknown', 'nobody knows when it was made');
        const objection = run.judge.objectionToSharing(op, x);
        if (objection) return complain(`shared: ${objection[0]}`, objection[1]);
        if (x.content === 'error') {
            if (reply.body !== x.body.replace(`"id":${x.op.id}`, `"id":${op.id}`)) complain('bytes', `the upstream sent ${x.body}`);
        } else {
            this.#judgeBytes(op, x, x.heads.own, Infinity, reply, complain);
        }
        this.#judgeHeaders(op, reply, complain);
        for (const [name, value] of reply.headers) if (!HIT_HEADERS.includes(name)) complain('bytes', `with a header that no shared answer has: ${name}: ${value}`);
        run.count(`collapsed ${x.content}`, 1);
        if (x.definitions && x.content === 'result') run.judge.fresh.listSeen(op, x, run.clock());
    }

    /** The stored result as it was sent; only the id is the caller's own, and the lifetime what is left of it. */
    #judgeBytes(op, x, head, mostMs, { body }, complain) {
        const start = `{"jsonrpc":"2.0","id":${op.id},"result":${head}${x.parts[0]}`;
        const end = `${x.parts[1]}}`;
        const left = body.slice(start.length, body.length - end.length);
        if (!body.startsWith(start) || !body.endsWith(end)) return complain('bytes', `other bytes than ${start}`);
        if (x.parts[0] === '') {
            if (left !== '') complain('bytes', `other bytes than ${start}`);
            return;
        }
        const leftMs = Number(left);
        const atMost = Math.min(mostMs, x.seenMs === undefined ? x.hintMs : Math.max(0, x.hintMs - ((op.decided ?? op).ms - x.seenMs) + SLACK_MS));
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

    #countHit(op, x, how) {
        const { run } = this;
        run.count(`hit ${how}`, 1);
        if (x.content === 'isError') run.count('hit negative', 1);
        if (op.isOnlyIfCached) run.count('hit only-if-cached', 1);
        if (x.isRefresh && !x.isPoll) run.count("hit on a refresh's", 1);
        const isAnother = x.credential !== op.credential;
        const scope = isPublic(op.rule, x) ? (op.rule.scope === 'public' ? 'public (rule)' : 'public (hint)') : op.era === 'legacy' && op.rule.scope !== 'principal' ? (op.session ? 'session' : 'no session') : 'principal';
        run.count(`hit ${scope}`, 1);
        run.count(`hit ${op.era}`, 1);
        run.count('hits', 1);
        if (op.notBefore) run.count('hit after a notice', 1);
        if (x.isPoll) run.count("hit on a poll's", 1);
        if (isAnother) run.count(isPublic(op.rule, x) ? "hit on another's public" : 'hit by claims of another token', 1);
        if (op.credential.isAnonymous) run.count('hit anonymous', 1);
        if (op.waitedForProbe) run.count('hit after a probe', 1);
        if (op.dataKey !== undefined && op.method === 'tools/call' && !x.body.includes(`v=${run.world.versionOf(op.dataKey)} `)) run.count('hit older than a write', 1);
    }

    // ---- answers of the sidecar's own ---------------------------------------------------------------------------------------

    #judgeRefusal(op, status, outcome, reply) {
        const { run } = this;
        const complain = (text) => run.violation('refusal', `operation ${op.number} was refused by the sidecar (${op.answer}): ${text}; ${reply.body}`, op);
        const isFailure = FAILURES[outcome.detail] !== undefined || outcome.detail === 'status' || outcome.detail === 'breaker';
        run.count(`own ${status} ${outcome.detail}`, 1);
        if (op.exchange && !isFailure) complain('and yet the upstream was asked');
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
            // it may be an error that is kept, for which he needs less
            const refusal = run.judge.admission(op, op.rule?.negativeMs > 0 ? { content: 'isError', credential: op.credential } : undefined);
            if (refusal) complain(`a caller who proved nothing is told that an entry exists: ${refusal.join(', ')}`);
        } else if (status === 403 && outcome.detail === 'origin') {
            if (run.phase.origins.length === 0 || op.origin === undefined || run.phase.origins.includes(op.origin)) complain('its Origin is welcome, or nobody asked');
        } else if (status === 504 && outcome.detail === 'only-if-cached') {
            if (!op.isOnlyIfCached) complain('nobody asked for that');
            if (!reply.body.includes(`"id":${op.id},`)) complain('with another id');
        } else if (isFailure) {
            if (!reply.body.includes(`"id":${op.id},`)) complain('with another id');
            this.#judgeFailure(op, status, outcome.detail, (word, text) => complain(text));
            const x = run.judge.stored(op);
            run.count(`failed, and ${x === undefined ? 'nothing was there' : (run.judge.objection(op, x, 'stand-in')?.[0] ?? 'what was there could have stood in')}`, 1);
            if (op.exchange) this.#countWithheld(op);
        } else {
            complain('why?');
        }
    }

    /** Did what this caller asked fail, his own fetch or another's that he waited for, so that the sidecar may say so, or give an older answer? */
    #judgeFailure(op, status, detail, complain) {
        const { fresh } = this.run.judge;
        if (op.rule === null || op.rule === undefined || op.never) return complain('failure', 'it is none of the sidecar\'s to tell');
        const doesFit = (x) => {
            const statuses = x.fault === 'status' || x.status >= 500 ? [x.status] : x.fault !== undefined ? [502, 504] : [];
            return statuses.includes(status) && (detail === undefined || detail === 'status' || FAILURES[detail] === status);
        };
        if (detail === undefined && status === 503 && !op.exchange && fresh.mayBeBroken(op)) return;
        if (detail === 'breaker') {
            if (op.exchange) complain('failure', 'the breaker was open, and yet the upstream was asked');
            if (!fresh.mayBeBroken(op)) complain('failure', 'the upstream did not fail so often');
            return;
        }
        if (status === 504 && fresh.isLate(op)) {
            // it may still be on its way
            if (!op.exchange) this.run.cut.add(op.number);
            return;
        }
        if (op.exchange ? !doesFit(op.exchange) : !fresh.failureFor(op, doesFit)) complain('failure', op.exchange ? `the upstream said ${op.exchange.status ?? op.exchange.fault}` : 'nothing failed so');
    }

    // ---- answers of the upstream --------------------------------------------------------------------------------------------

    #judgeForwarded(op, status, outcome, reply) {
        const { run } = this;
        const x = op.exchange;
        const complain = (word, text) => run.violation(word, `operation ${op.number} (${op.answer}): ${text}; ${reply.body.slice(0, 300)}`, op);
        run.count(`${outcome.isMiss ? 'miss' : 'bypass'} ${outcome.isStored ? 'stored' : (outcome.detail ?? '-')}`, 1);
        if (status === 504 && x?.status !== 504 && op.rule?.timeoutMs !== undefined && run.judge.fresh.isLate(op)) {
            // it, or its answer, may still be on its way
            if (!x) run.cut.add(op.number);
            return;
        }
        if (x && x.fault !== undefined && x.fault !== 'status') {
            if (status !== 502 && !(status === 504 && op.rule?.timeoutMs !== undefined)) complain('status', `the upstream broke off (${x.fault})`);
            return;
        }
        if (!x || x.sentTick === undefined) return complain('answer', 'it says no hit, and the upstream was not asked');
        if (x.status !== status) complain('status', `the upstream said ${x.status}`);
        if (x.opened) run.learnOffers(op, reply.body);
        else if (x.body !== undefined && x.status !== 204 && !reply.body.includes(x.body)) complain('bytes', `the upstream sent ${x.body}`);
        if (run.phase.origins.length > 0 && op.origin !== undefined && !run.phase.origins.includes(op.origin) && op.path === '/mcp' && op.verb !== 'OPTIONS') complain('origin', `its Origin ${op.origin} is not on the list`);
        this.#judgeHeaders(op, reply, complain);
        this.#countWithheld(op);
        if (outcome.isStored) this.#judgeStored(op, x, complain);
        x.seenTick = run.clock();
        x.seenMs ??= now();
        if (op.isElsewhere) return;
        run.judge.seen(x, outcome.isMiss, outcome.isStored);
        if (x.definitions && x.content === 'result') run.judge.fresh.listSeen(op, x, run.clock());
        this.#live(op, x);
    }

    /** What was purged while it was fetched is not kept (when the purge was acknowledged before there was an answer). */
    #judgeStored(op, x, complain) {
        const purged = this.run.judge.fresh.purged(op, x, x.sentTick);
        if (purged) complain('stored', `it says that it was stored, but it was ${purged[1]}`);
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
