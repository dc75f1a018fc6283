/* SPDX-License-Identifier: Apache-2.0 */
// What may be a hit. Upstream and clients live in one thread, so everything that they see has one order (ticks), and a sentence such as "a client
// had the whole 401 in hand before this question was sent" has no two meanings. Each doubt that the network leaves is given to the sidecar: an
// objection here means that no order of events inside it could have made that answer right.
import { EndsOf, NEVER } from './ends.mjs';
import { Freshness } from './fresh.mjs';
import { invalidatedBy, isPublic, lifetimeOf, privateScope } from './phases.mjs';
import { now } from './world.mjs';

/** Both sides cut milliseconds off their clocks. */
const SLACK_MS = 3;
/** kill -9 loses what the store was just about to commit. */
const COMMIT_MS = 250;
/** A loop reads the wall clock once a turn. */
const REAL_SLACK_MS = 50;
/** A fetch of which nobody saw the end is over for the sidecar soon after it is for the upstream. */
const LAND_MS = 500;
const ALL = 'all';

/** Was somebody certainly let in before, and not turned away since? */
class Standing {
    #letIn = null;
    #turns = [];
    sent(x) {
        if (x.status !== 401 && x.status !== 403 && x.status !== 404 && x.verb !== 'DELETE') return;
        this.#turns.push(x);
        if (this.#turns.length > 64) this.#turns.splice(0, 32);
    }
    seen(x) {
        if (x.status >= 200 && x.status < 300 && (x.verb === 'POST' || x.verb === 'GET')) this.#letIn = x;
    }
    wasLetInBefore(x) {
        const letIn = this.#letIn;
        return letIn !== null && letIn.seenTick < x.op.tick && this.#turns.every((turn) => turn === x || turn.seenMs + SLACK_MS < letIn.op.ms);
    }
}

const sessionOf = (asked) => asked.session?.id ?? '';
/** where: the headers by which servers tell tenants apart. What is shown in one place shows nothing of another. */
const aliveKey = (asked) => `${asked.credential.index} ${sessionOf(asked)} ${asked.where}`;
const grantKey = (asked) => `${asked.credential.index} ${asked.method} ${asked.name} ${asked.where}`;
/** What the client said of itself at initialize is part of what a wider entry answers. */
const clientOf = (asked) => (asked.era === 'legacy' ? (asked.session?.capabilities ?? '') : '');

export class Judge {
    /** No exchange that began in an earlier process proves anything in this one. */
    bornTick = NEVER;
    /** Last acceptances: (credential, session, where) -> {call, probe, probeBefore}. */
    #alive = new Map();
    /** (credential, method + name, where) -> arrival of the last one that had a result. */
    #granted = new Map();
    #refused = new EndsOf(); // credentials
    #killed = new EndsOf(); // principals: their private entries
    #ended = new EndsOf(); // sessions, of one principal or of all
    #withdrawn = new EndsOf(); // in-band refusals
    #unshared = new EndsOf(); // public questions that got a private answer
    #challenged = new EndsOf();
    #letIn = new Map();
    /** Where an answer should lie -> the last exchange of which the sidecar said that it was stored. */
    #stored = new Map();

    constructor(phase, book) {
        this.phase = phase;
        this.book = book;
        this.fresh = new Freshness(phase);
    }

    // ---- what happens -------------------------------------------------------------------------------------------------------

    /** The upstream sends the head of a reply. */
    sent(x) {
        const isGood = x.status >= 200 && x.status < 300;
        if (!x.isProbe) this.#standings(x).forEach((standing) => standing.sent(x));
        if (isGood && (x.verb === 'POST' || x.verb === 'GET') && !(x.isProbe && x.content !== 'result')) {
            this.#accept(aliveKey(x), x);
            if (x.opened) this.#accept(aliveKey({ ...x, session: x.opened }), x);
        }
        if (isGood && x.content === 'result' && x.method !== undefined) {
            const key = grantKey(x);
            if (!(this.#granted.get(key)?.tick > x.tick)) this.#granted.set(key, { tick: x.tick, ms: x.ms });
        }
    }

    #accept(key, x) {
        let alive = this.#alive.get(key);
        if (alive === undefined) this.#alive.set(key, (alive = { call: null, probe: null, probeBefore: null }));
        const proof = { tick: x.tick, ms: x.ms, sentTick: x.sentTick, sentMs: x.sentMs };
        if (x.isProbe) [alive.probe, alive.probeBefore] = [proof, alive.probe];
        else if (!(alive.call?.tick > x.tick)) alive.call = proof;
    }

    /** The upstream got a request that may change something. */
    writeArrived(x) {
        x.isOfKnown = this.#standings(x)[0].wasLetInBefore(x);
        if (x.isOfKnown) this.fresh.writeArrived(x.op, x.tick);
        this.book.purged(invalidatedBy(x.op), x.tick);
    }

    /** The sidecar was killed: its proofs are gone, and so may be what it was told last. */
    killed(tick, ms) {
        this.bornTick = tick;
        this.fresh.born(tick);
        this.#letIn.clear();
        this.#killed.forgetSince(ms - COMMIT_MS);
        this.#ended.forgetSince(ms - COMMIT_MS);
        this.#unshared.forgetSince(ms - COMMIT_MS);
    }

    /** A client has the whole reply of an exchange that was made for it. */
    seen(x, isMiss, isStored) {
        const { sentTick, seenTick, credential } = x;
        const principal = credential.principal(this.phase);
        const [ofCaller, inSession] = this.#standings(x);
        if (x.status === 401 || x.status === 403) this.#challenged.note(ALL, sentTick, seenTick);
        // all who are nobody look alike: what one of them is refused for his Origin is no word on the others
        if (x.status === 401 || (x.status === 403 && !(credential.isAnonymous && x.op.origin !== undefined))) {
            this.#refused.note(credential.index, sentTick, seenTick);
            this.book.refused(credential, x);
            // anybody can write claims: a token that was never let in speaks for nobody
            if (credential.isByClaims(this.phase) ? x.status === 403 && ofCaller.wasLetInBefore(x) : true) this.#killed.note(principal, sentTick, seenTick);
        }
        if (x.session && (x.status === 404 || (x.verb === 'DELETE' && x.status >= 200 && x.status < 300))) this.book.sessionEnded(x);
        if (x.session && x.status === 404) this.#ended.note(`${principal} ${x.session.id}`, sentTick, seenTick);
        if (x.session && x.verb === 'DELETE' && x.status >= 200 && x.status < 300) {
            this.#ended.note(`${principal} ${x.session.id}`, sentTick, seenTick);
            // only who was in it ends it for others
            if (inSession.wasLetInBefore(x)) this.#ended.note(`* ${x.session.id}`, sentTick, seenTick);
        }
        this.#standings(x).forEach((standing) => standing.seen(x));
        // of what only passes through, the sidecar reads no more than the head
        if (isMiss && x.status === 200 && (x.content === 'isError' || x.content === 'error')) this.#withdrawn.note(grantKey(x), sentTick, seenTick);
        if (x.content !== 'result' || x.rule === null || x.rule === undefined) return;
        // asked after the public one was there, so the server's newer word
        // (of a tool it may lie elsewhere too: under the definition that others know)
        if (isMiss && !isPublic(x.rule, x) && x.method !== 'tools/call') this.#unshared.note(this.#publicPlace(x), x.op.tick, seenTick);
        if (isStored) this.#stored.set(isPublic(x.rule, x) ? this.#publicPlace(x) : this.#privatePlace(x), x);
    }

    /** It came from the store: from now on it is known to lie there, and to grow old. */
    known(x, tick) {
        x.seenTick ??= tick;
        x.seenMs ??= now();
    }

    /** Of the caller, and of his session. */
    #standings(x) {
        const keys = [String(x.credential.index), ...(x.session ? [`${x.credential.principal(this.phase)} ${x.session.id}`] : [])];
        return keys.map((key) => {
            let standing = this.#letIn.get(key);
            if (standing === undefined) this.#letIn.set(key, (standing = new Standing()));
            return standing;
        });
    }

    #publicPlace(asked) { return `public ${asked.question} ${clientOf(asked)}`; }
    #privatePlace(asked) {
        const whose = asked.credential.principal(this.phase);
        return privateScope(asked.rule, asked.era) === 'session' ? `${whose} session ${sessionOf(asked)} ${asked.question}` : `${whose} ${asked.question} ${clientOf(asked)}`;
    }

    // ---- what follows -------------------------------------------------------------------------------------------------------

    /** Why no answer may come from the store for this question, whoever's and whatever it is: [word, text], or null. */
    #askedWrongly(op) {
        if (op.rule === null || op.rule === undefined) return ['kind', 'nothing of this kind may be kept'];
        if (op.never) return [op.never, `the request has what makes it a question for the upstream (${op.never})`];
        const veto = this.fresh.vetoOf(op);
        if (veto) return ['vetoed', `the server says in list #${veto.serial} (asked by ${veto.credential.name} at ${veto.op.tick}) that the tool changes something`];
        return null;
    }
    #hasExpired(op) {
        return op.credential.hasExpired(op.realMs - REAL_SLACK_MS) ? ['expired', `the token says exp ${op.credential.expS}`] : null;
    }

    /** Of callers without credentials and session the upstream may want nothing: until it was seen to challenge anybody they prove nothing, and get what one of
     *  them fetched. */
    #isFree(op, x) {
        const { credential, session } = op;
        if (!credential.isAnonymous || session || this.#challenged.before(ALL, op.tick) !== NEVER) return false;
        return x === undefined || x.credential.isAnonymous;
    }

    /** Has the upstream let this caller have this, lately enough, so that he may hear how it changes? */
    mayHear(asked, moreMs) {
        const granted = this.#granted.get(grantKey(asked));
        return (granted !== undefined && granted.ms >= now() - this.phase.grantMs - moreMs) || this.#isFree({ ...asked, tick: Infinity });
    }

    /** Would the upstream still talk to this caller about this (and what exchange x brought), as far as a sidecar can know? @param moreMs  of life without a sign of it */
    admission(op, x, moreMs = 0) {
        const { credential, session } = op;
        const { grantMs } = this.phase;
        const leaseMs = this.phase.leaseMs + moreMs;
        op.decided = { tick: op.tick, ms: op.ms }; // at the earliest
        if (this.#isFree(op, x)) return null;

        const alive = this.#alive.get(aliveKey(op));
        // a probe that is under way already is joined
        const isJoined = (proof) => proof === alive.probe && proof.sentTick > op.tick;
        const isFresh = (proof) => proof && (proof.ms >= op.ms - leaseMs - SLACK_MS || isJoined(proof));
        // decided after a probe's answer, when nothing else can have carried it
        const waited = alive?.probe?.sentTick > op.tick && !(alive.call?.tick > op.tick) && !isFresh(alive.call) && !isFresh(alive.probeBefore);
        if (waited) op.decided = { tick: alive.probe.sentTick, ms: alive.probe.sentMs };
        op.waitedForProbe = waited;
        const { tick } = op.decided;

        const refused = Math.max(this.#refused.before(credential.index, tick), this.bornTick);
        const ended = this.#endOf(op, tick);
        const proofs = [alive?.call, alive?.probe, alive?.probeBefore].filter(Boolean);
        if (proofs.length === 0) return ['unproven', 'the upstream never accepted this caller (and session)'];
        const standing = proofs.filter((proof) => proof.tick > refused);
        if (standing.length === 0) return [refused === this.bornTick ? 'restarted' : 'revoked', `last accepted at ${Math.max(...proofs.map((proof) => proof.tick))}, refused (or born) at ${refused}`];
        const living = standing.filter((proof) => proof.tick > ended);
        if (living.length === 0) return ['session-end', `last accepted at ${Math.max(...standing.map((proof) => proof.tick))}, the session ended at ${ended}`];

        const lapsed = living.some(isFresh) ? null : ['lease', `last accepted ${Math.round(op.ms - Math.max(...living.map((proof) => proof.ms)))} ms before`];
        // what an error shows needs no grant
        if (x?.content === 'isError') return lapsed;
        const granted = this.#granted.get(grantKey(op));
        const withdrawn = this.#withdrawn.before(grantKey(op), tick);
        if (granted === undefined) return ['ungranted', 'never a result for this method and name'];
        if (granted.tick <= refused) return ['ungranted', `last result at ${granted.tick}, refused (or born) at ${refused}`];
        if (granted.tick <= withdrawn) return ['withdrawn', `last result at ${granted.tick}, refused in band at ${withdrawn}`];
        if (granted.ms < op.ms - grantMs - SLACK_MS) return ['grant', `last result ${Math.round(op.ms - granted.ms)} ms before`];
        return lapsed;
    }

    /** May the answer of exchange x come from the store for this question? null, or [word, text]. @param how  'fresh', 'stale' (and it says so), or 'stand-in' for want of another */
    objection(op, x, how = 'fresh') {
        const wrongly = this.#askedWrongly(op) ?? this.#hasExpired(op);
        if (wrongly) return wrongly;
        const isNegative = x.content === 'isError' && op.rule.negativeMs > 0;
        if (x.content !== 'result' && !isNegative) return ['content', `what was sent was no result: ${x.content} ${x.status}`];
        if (x.fault !== undefined) return ['content', `it broke off: ${x.fault}`];
        if (x.mayNotBeKept !== undefined) return ['kept', `the upstream or who asked said ${x.mayNotBeKept}`];
        const foreign = this.#isForeign(op, x);
        if (foreign) return foreign;
        const { credential, session } = op;
        const principal = credential.principal(this.phase);
        const isShared = isPublic(op.rule, x);
        const refusal = this.admission(op, x, how === 'stand-in' ? op.rule.standInMs : 0);
        // known to have failed before: decided after that
        if (how === 'stand-in' && op.exchange?.endTick > op.decided.tick) op.decided = { tick: op.exchange.endTick, ms: op.decided.ms };
        const { tick, ms } = op.decided;
        // what somebody else fetched meanwhile is good without the policy's leave
        const lifetimeMs = lifetimeOf(op.rule, x) + (how === 'fresh' || isNegative ? 0 : how === 'stale' ? op.rule.graceMs : op.rule.standInMs);
        if (how === 'stale' && (op.rule.graceMs === 0 || isNegative)) return ['grace', 'the policy gives no grace'];
        if (how === 'stand-in' && isNegative) return ['stand-in', 'an error stands in for an error'];
        if (x.seenMs !== undefined && ms - x.seenMs > lifetimeMs + SLACK_MS) return ['age', `it is ${Math.round(ms - x.seenMs)} ms old and lives ${lifetimeMs}`];
        const purged = this.fresh.purged(op, x, tick) ?? this.fresh.outdated(op, x);
        if (purged) return purged;
        const older = this.#olderThanTold(op, x);
        if (older) return older;
        const soft = how === 'fresh' ? this.fresh.softPurged(op, x, tick) : null;
        if (soft) return [`soft ${soft[0]}`, `${soft[1]}, which is not said`];
        if (refusal && refusal[0] !== 'lease') return refusal;
        if (!isShared && x.tick <= this.#killed.before(principal, tick)) return ['killed', `fetched at ${x.tick}, the caller was refused at ${this.#killed.before(principal, tick)}`];
        if (!isShared && privateScope(op.rule, op.era) === 'session' && session) {
            const ended = this.#endOf(op, tick);
            if (x.tick <= ended) return ['killed-session', `fetched at ${x.tick}, the session ended at ${ended}`];
        }
        if (isShared && x.seenTick !== undefined && x.seenTick < this.#unshared.before(this.#publicPlace(op), tick)) return ['unshared', 'a private answer to the same question came since'];
        return refusal;
    }

    /** He was told that it changed, and reads it again. */
    #olderThanTold(op, x) {
        if (op.notBefore === undefined || x.tick >= op.notBefore.tick) return null;
        return ['told before', `asked upstream at ${x.tick}, and ${op.notBefore.why}`];
    }

    /** Another question, another caller, another session. */
    #isForeign(op, x) {
        if (x.question !== op.question) return ['question', `it answers ${x.question}`];
        const isShared = isPublic(op.rule, x);
        if (!isShared && x.credential.principal(this.phase) !== op.credential.principal(this.phase)) return ['caller', `it is ${x.credential.name}'s alone`];
        if (!isShared && op.credential.isAnonymous && !this.phase.shared) return ['nobody', 'a private answer for a caller who is nobody'];
        if (!isShared && privateScope(op.rule, op.era) === 'session') return sessionOf(x) === sessionOf(op) ? null : ['session', `it is of session ${sessionOf(x)}`];
        return clientOf(x) === clientOf(op) ? null : ['client', `it was for a client that said ${clientOf(x)}`];
    }
    #endOf({ credential, session }, tick) {
        return session ? Math.max(this.#ended.before(`${credential.principal(this.phase)} ${session.id}`, tick), this.#ended.before(`* ${session.id}`, tick)) : NEVER;
    }

    /** May this one have what exchange x brings, because it was under way when he asked, for the same caller? null, or [word, text]. */
    objectionToSharing(op, x) {
        const wrongly = this.#askedWrongly(op);
        if (wrongly) return wrongly;
        if (!['result', 'isError', 'error'].includes(x.content) || x.fault !== undefined) return ['content', `what was sent was no answer: ${x.fault ?? x.content} ${x.status}`];
        if (x.mayNotBeKept !== undefined) return ['kept', `the upstream or who asked said ${x.mayNotBeKept}`];
        if (x.credential !== op.credential) return ['caller', `it is ${x.credential.name}'s`];
        const foreign = this.#isForeign(op, x);
        if (foreign) return foreign;
        if (x.seenTick < op.tick || x.sentMs < op.ms - LAND_MS) return ['over', `it was over at ${x.seenTick ?? x.sentTick}, and asked for at ${op.tick}`];
        const refused = this.#refused.before(op.credential.index, op.tick);
        if (x.tick <= refused) return ['revoked', `asked upstream at ${x.tick}, the caller was refused at ${refused}`];
        const ended = this.#endOf(op, op.tick);
        if (op.session && x.tick <= ended) return ['session-end', `asked upstream at ${x.tick}, the session ended at ${ended}`];
        if (this.#hasExpired(op) && !x.credential.hasExpired(x.op.realMs)) return ['expired', `asked before the token ran out, at ${op.credential.expS}`];
        const older = this.#olderThanTold(op, x);
        if (older) return older;
        return this.fresh.purged(op, x, op.tick) ?? this.fresh.outdated(op, x);
    }

    /** What the store should hold for a question: the exchange that was kept before it and is surely still fresh, or undefined. */
    expected(op) {
        if (op.rule === null || op.rule === undefined) return undefined;
        const isFresh = (x) => x !== undefined && x.seenTick < op.tick && op.ms - x.sentMs < lifetimeOf(op.rule, x) * 0.9 - 20;
        const own = this.#stored.get(this.#privatePlace(op));
        if (isFresh(own)) return own;
        const shared = this.#stored.get(this.#publicPlace(op));
        return isFresh(shared) ? shared : undefined;
    }
    /** The last of which the sidecar said that it keeps it. */
    stored(op) { return this.#stored.get(this.#privatePlace(op)) ?? this.#stored.get(this.#publicPlace(op)); }
    forgetStoredBefore(ms) {
        for (const [place, x] of this.#stored) if (x.sentMs < ms) this.#stored.delete(place);
    }
}
