/* SPDX-License-Identifier: Apache-2.0 */
// What is too old, whoever it belongs to: purged by a write, by the upstream's own word of a change, by an operator; or made under a definition of its tool that is not
// the one the asker knows. What was in force when a sidecar was killed stays in force.
//
// Of each purge two moments count: when the word was sent (what the upstream was asked before is older) and when it was seen to have been heard (who asks later gets nothing older).
import { EndsOf, NEVER } from './ends.mjs';
import { invalidatedBy, subjectsOf } from './phases.mjs';
import { now } from './world.mjs';

/** Nobody acknowledges the end of what a client left: it takes this long at most until the sidecar has seen it. */
const UNSEEN_MS = 150;
/** What the breaker needs before it shuts anything (docs/limits.md), and for how long it remembers. */
const BREAKS_AFTER = 5;
const BREAKER_MEMORY_MS = 80_000;
/** A failure that the upstream has sent may not have arrived yet when the next one asks. */
const LATE_MS = 500;
const SLACK_MS = 5;
/** More than a herd. */
const KEPT = 1024;
/** Of two lists that began in one millisecond nobody knows which is newer. */
const TIE_MS = 2;

const whereOf = ({ credential, session, where }) => `${credential.index} ${session?.id ?? ''} ${where}`;
const mayVeto = (definition) => definition?.annotation === 'veto';

export class Freshness {
    #hard = new EndsOf();
    #soft = new EndsOf();
    /** Who asks -> lists of tools that the upstream sent him, and the newest that he has seen. */
    #lists = new Map();
    #allLists = [];
    /** Question -> its last fetches that failed or may have. */
    #failures = new Map();
    /** Question, and method + name -> who asked last, where there is a deadline. */
    #asked = new Map();
    /** method + name -> when it failed. */
    #breaks = new Map();
    #bornTick = NEVER;

    constructor(phase) { this.phase = phase; }

    born(tick) { this.#bornTick = tick; }

    // ---- purges -------------------------------------------------------------------------------------------------------------

    purge(subjects, sentTick, seenTick, why, isSoft = false) {
        for (const subject of subjects) (isSoft ? this.#soft : this.#hard).note(subject, sentTick, seenTick, why);
    }
    who(credential) { return `who ${credential.principal(this.phase)}`; }
    #changedBy(op) { return [this.who(op.credential), ...invalidatedBy(op)]; }

    /** A write of somebody whom the upstream is known to let in reached it: what was fetched before its client sent it is old now, however it ends. */
    writeArrived(op, tick) { this.purge(this.#changedBy(op), op.tick, tick, `operation ${op.number} reached the upstream at ${tick}`); }
    /** Its client has something of the reply in hand, or its end, of which the upstream had sent the last at sentTick. */
    writeSeen(op, sentTick, seenTick, groups = [], how = 'was answered') {
        // who is turned away has changed nothing
        if (op.exchange.status === 401 || op.exchange.status === 403) return;
        this.purge([...this.#changedBy(op), ...groups], sentTick, seenTick, `operation ${op.number} (${op.credential.name} ${op.session?.id ?? '-'} ${op.name} ${op.exchange?.status ?? op.exchange?.fault}) ${how}, which was seen at ${seenTick}`);
    }
    /** It is over upstream, and its client has left. Where the sidecar hung up because of that, the upstream may have read it, and done it, only afterwards: then
     *  what counts is when the client left. */
    writeLeft(op, isStillThere, clock) {
        setTimeout(() => {
            const { endTick, socket } = op.exchange;
            if (isStillThere()) this.writeSeen(op, socket.destroyed ? op.leftTick : endTick, clock(), [], 'was left and over');
        }, UNSEEN_MS);
    }

    /** What purges the answer of x: known from its question, and from itself. */
    subjects(x) { return [...subjectsOf(x), ...(x.tags ?? [])]; }

    /** What of these was purged so that exchange x is too old for who asks at this tick: [word, text], or null. */
    #isPurged(ends, subjects, x, tick) {
        for (const subject of subjects) {
            const endTick = ends.before(subject, tick);
            if (x.tick <= endTick) return [`purged ${subject.slice(0, subject.indexOf(' ') >>> 0)}`, `asked upstream at ${x.tick}, and '${subject}' was purged at ${endTick}: ${ends.whyBefore(subject, tick)}`];
        }
        return null;
    }
    purged(op, x, tick) {
        const own = this.#isPurged(this.#hard, [this.who(op.credential)], x, tick);
        return own ?? this.#isPurged(this.#hard, this.subjects(x), x, tick);
    }
    softPurged(op, x, tick) { return this.#isPurged(this.#soft, [...this.subjects(x), this.who(op.credential)], x, tick); }

    // ---- definitions --------------------------------------------------------------------------------------------------------

    #listsOf(asked) {
        const key = whereOf(asked);
        let lists = this.#lists.get(key);
        if (lists === undefined) this.#lists.set(key, (lists = { sent: [], seen: null, seenTick: NEVER }));
        return lists;
    }
    listSent(x) {
        const { sent } = this.#listsOf(x);
        sent.push(x);
        if (sent.length > 400) sent.splice(0, 200);
        this.#allLists.push(x);
        if (this.#allLists.length > 400) this.#allLists.splice(0, 200);
    }
    /** Somebody has this list in hand, wherever it came from. */
    listSeen(op, x, seenTick) {
        const lists = this.#listsOf(op);
        if (lists.seen === null || lists.seen.tick < x.tick) Object.assign(lists, { seen: x, seenTick });
    }

    /** The list that the asker saw last, and those that may have been asked for after it, or in the same millisecond; undefined: he saw none. */
    #newest(op) {
        const { seen, seenTick, sent } = this.#listsOf(op);
        if (seen === null || seenTick >= op.tick || seen.tick <= this.#bornTick) return undefined;
        // of what he saw of somebody else's, what anybody was told later may hold for him
        const lists = sent.includes(seen) ? sent : [...sent, ...this.#allLists];
        return { seen, others: lists.filter((other) => other !== seen && (other.tick >= seen.op.tick || other.ms > seen.op.ms - TIE_MS)) };
    }
    /** The upstream told this caller that the tool changes something, and until now has sent nothing else: the list that said so, or undefined. */
    vetoOf(op) {
        const newest = op.method === 'tools/call' ? this.#newest(op) : undefined;
        return newest !== undefined && [newest.seen, ...newest.others].every(({ definitions }) => mayVeto(definitions.get(op.name))) ? newest.seen : undefined;
    }
    /** The answer was made before the definition that the asker knows. */
    outdated(op, x) {
        const newest = op.method === 'tools/call' ? this.#newest(op) : undefined;
        const known = newest?.seen.definitions.get(op.name)?.number;
        if (known === undefined || [newest.seen, ...newest.others].some(({ definitions }) => x.definition >= definitions.get(op.name).number)) return null;
        return ['definition', `made under definition ${x.definition}, and the asker saw ${known} in the list #${newest.seen.serial}`];
    }

    // ---- failures -----------------------------------------------------------------------------------------------------------

    #add(map, key, what) {
        const at = { what, ms: now() };
        const list = map.get(key);
        if (list === undefined) map.set(key, [at]);
        else if (list.push(at) > KEPT) list.splice(0, KEPT / 2);
    }
    failed(x) {
        this.#add(this.#failures, x.question, x);
        this.#add(this.#breaks, `${x.method} ${x.name}`, x);
    }
    /** Somebody asks what may not take long; others may wait for the same fetch. */
    asked(op) {
        this.#add(this.#asked, op.question, op);
        this.#add(this.#asked, `${op.method} ${op.name}`, op);
    }
    #mayShare(op, asked) { return asked.credential === op.credential || op.rule.scope === 'public'; }

    /** A fetch that this one may have waited for, and that failed in a fitting way. */
    failureFor(op, isFitting = () => true) {
        return this.#failures.get(op.question)?.findLast(({ what, ms }) => ms >= op.ms - LATE_MS && this.#mayShare(op, what) && isFitting(what))?.what;
    }
    /** One takes too long; the upstream may not even have heard of it. */
    isLate(op) {
        const { timeoutMs } = op.rule;
        const isLate = ({ what, ms }) => ms <= now() - timeoutMs + SLACK_MS && ms >= op.ms - timeoutMs - LATE_MS && this.#mayShare(op, what);
        return timeoutMs !== undefined && this.#asked.get(op.question)?.some(isLate) === true;
    }
    mayBeBroken(op) {
        const since = now() - BREAKER_MEMORY_MS;
        const call = `${op.method} ${op.name}`;
        const failed = this.#breaks.get(call)?.filter(({ ms }) => ms > since) ?? [];
        const late = this.#asked.get(call)?.filter(({ what, ms }) => (what.answeredMs ?? Infinity) - ms >= op.rule.timeoutMs - SLACK_MS && ms <= now() - op.rule.timeoutMs + SLACK_MS) ?? [];
        return failed.length + late.length >= BREAKS_AFTER;
    }
}
