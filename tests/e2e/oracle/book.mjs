/* SPDX-License-Identifier: Apache-2.0 */
// Who asked to hear of what, what he was told of it, and why he may have been: the judge of subscriptions, of notices and of polls. As in judge.mjs each doubt is given to the
// sidecar. A change that may be told is one of what this very subscriber is shown (world.mjs), a write that purged it, or the loss of the stream that told him of it; each is told
// at most once, but of tools' results, where many answers have one name, and each of them is looked at when its tool is called again.
import { lifetimeOf, reachOf, ruleOf, subjectsOf, toolOf } from './phases.mjs';
import { now } from './world.mjs';

/** What was on its way when something ended. Two sockets keep no order. */
const FLIGHT_MS = 400;
const SLACK_MS = 60;
/** A poll may have to wait for a connection. */
const POLL_FLIGHT_MS = 2500;
/** A change that was told of had been noticed at most so long before: the upstream takes its time, and where it tells itself it is waited for. */
const NOTICED_MS = 2500;
/** Two requests may be nearer to each other when they arrive than when they were sent: others work on this machine, too. */
const LATE_MS = 900;
/** Streams of which the token has run out are ended once a second. */
const EXPIRY_MS = 1500;
const MIN_POLL_MS = 1000;
/** Two streams that are told at once are told the same. */
const TWINS_MS = 60;
/** Beside lifetime and jitter: the upstream's time, one poll that found a fetch under way, and a machine that has more to do. */
const MARGIN_MS = 900;
/** So long before a change that must be told nothing else happened. */
const QUIET_MS = 2500;
const REMEMBER_MS = 60_000;
const ID = 'io.modelcontextprotocol/subscriptionId';
const METHODS = { tools: ['tools/list'], prompts: ['prompts/list'], resources: ['resources/list', 'resources/templates/list'] };
const NOTICES = { 'notifications/tools/list_changed': 'tools', 'notifications/prompts/list_changed': 'prompts', 'notifications/resources/list_changed': 'resources' };
const ACK = 'notifications/subscriptions/acknowledged';

/** Events that are whole by now: {id, data}. */
function* eventsOf(message) {
    const { body } = message;
    for (let start = message.eventsUntil ?? 0; ;) {
        const end = body.indexOf('\n\n', start);
        if (end < 0) return;
        const fields = body.slice(start, end).split('\n');
        message.eventsUntil = start = end + 2;
        const valueOf = (name) => fields.find((field) => field.startsWith(`${name}:`))?.slice(name.length + 1).trim();
        const data = valueOf('data');
        if (data !== undefined && data !== '') yield { id: valueOf('id'), data };
    }
}

export class Book {
    /** Number of an operation -> the stream it opened: {op, links, openedTick, isAcked, closedMs, deadMs}. */
    streams = new Map();
    /** Principal and session -> {links, streams}. */
    #sessions = new Map();
    /** Subject -> when a write purged it: [{tick, ms}]. */
    #purges = new Map();
    #polled = new Map();
    /** What must be told: {link, stream, change, dueMs}. */
    #promised = [];

    constructor(run) { this.run = run; }

    #nameOf({ credential, session }) { return `${credential.principal(this.run.phase)} in ${session.id}`; }
    #sessionOf(asked) {
        const name = this.#nameOf(asked);
        let session = this.#sessions.get(name);
        if (session === undefined) this.#sessions.set(name, (session = { links: new Map(), streams: new Set() }));
        return session;
    }

    // ---- who asks for what --------------------------------------------------------------------------------------------------

    #link(op, thing) {
        const { run } = this;
        const uri = thing.startsWith('uri ') ? thing.slice(4) : undefined;
        const tool = uri === undefined ? undefined : toolOf(uri);
        const link = { thing, uri, op, isResult: tool !== undefined, sinceTick: run.clock(), sinceMs: now(), tolds: [], losses: [], asks: 0 };
        const asked = { credential: op.credential, session: op.session, era: op.era };
        const questions = uri === undefined ? METHODS[thing.slice(5)].map((method) => ({ ...asked, method, name: '' })) : [{ ...asked, method: tool === undefined ? 'resources/read' : 'tools/call', name: tool ?? uri, dataKey: uri }];
        for (const question of questions) question.rule = ruleOf(run.phase, question.method, question.name);
        link.parts = questions.flatMap((question) => run.world.partsOf(uri ?? question.method, question));
        link.subjects = questions.flatMap((question) => subjectsOf(question));
        // of what is no more than in these words nothing else is told; others may have had tags of their own
        link.perhaps = /^seen/.test(uri ?? 'seen') ? [] : ['tag dyn:k0', 'tag grp:k0'];
        link.subjects.push(...link.perhaps);
        link.lifetimeMs = Math.max(...questions.map(({ rule }) => lifetimeOf(rule, { era: 'legacy', content: 'result' })));
        link.maxAgeMs = link.lifetimeMs + (questions[0].rule.graceMs ?? 0) + (questions[0].rule.standInMs ?? 0) + 500;
        link.reach = reachOf(uri ?? questions[0].method);
        return link;
    }

    /** Somebody opens a stream: a listen, or a GET in a session. */
    open(op) {
        const stream = { op, links: undefined, openedTick: undefined, isAcked: false, polled: new Map() };
        this.streams.set(op.number, stream);
        if (op.isListen) {
            const things = [...Object.keys(METHODS).filter((what) => op.lists[what]).map((what) => `list ${what}`), ...op.uris.map((uri) => `uri ${uri}`)];
            stream.links = new Map(things.map((thing) => [thing, this.#link(op, thing)]));
            return stream;
        }
        const session = this.#sessionOf(op);
        stream.session = session;
        stream.links = session.links;
        session.streams.add(stream);
        this.#hearLists(op, session);
        return stream;
    }
    /** Whoever opens or subscribes in a session hears of its lists, also after an end that was none. */
    #hearLists(op, { links }) {
        for (const what of op.session.offers ?? []) {
            const thing = `list ${what}`;
            if (what !== 'subscribe' && (!links.has(thing) || links.get(thing).endedMs !== undefined)) links.set(thing, this.#link(op, thing));
        }
    }
    /** Its client has something of the answer in hand. */
    opened(stream, isGood) {
        stream.openedTick ??= this.run.clock();
        stream.openedMs ??= now();
        stream.isGood = isGood;
        if (stream.session !== undefined) for (const link of stream.links.values()) if (link.uri === undefined) link.answeredMs ??= now();
    }
    closed(stream) {
        stream.closedMs = now();
        stream.session?.streams.delete(stream);
    }

    /** A session subscribes; what comes of it is known later. */
    subscribe(op) {
        const session = this.#sessionOf(op);
        const { links } = session;
        const thing = `uri ${op.name}`;
        this.#hearLists(op, session);
        const before = links.get(thing);
        if (before !== undefined && before.endedMs === undefined) return Object.assign(before, { lookMs: now(), asks: before.asks + 1 });
        const link = Object.assign(this.#link(op, thing), { asks: 1 });
        if (before !== undefined) link.tolds = before.tolds.filter((ms) => ms > now() - FLIGHT_MS);
        links.set(thing, link);
        return link;
    }
    subscribed(op, link, isGood, isHere) {
        link.asks -= 1;
        link.lookMs = now();
        link.isCovered = isGood && !isHere;
        if (!isGood && link.answeredMs === undefined) link.endedMs ??= now();
        if (isGood) link.answeredMs ??= now();
    }
    unsubscribed(op) {
        const link = this.#sessionOf(op).links.get(`uri ${op.name}`);
        // of two that cross each other nobody knows which came first
        if (link !== undefined && link.asks === 0 && link.lookMs < op.ms) link.endedMs ??= now();
    }
    /** What a session has, to take back. */
    urisOf(op) { return [...this.#sessionOf(op).links.values()].filter(({ uri, endedMs }) => uri !== undefined && endedMs === undefined).map(({ uri }) => uri); }

    /** A part of this thing that only somebody who is subscribed to it is shown. */
    somebodysPart(uri, dice) {
        const parts = [...this.streams.values()].filter(({ closedMs }) => closedMs === undefined).map(({ links }) => links.get(`uri ${uri}`)?.parts[1]).filter(Boolean);
        if (parts.length === 0) return undefined;
        const part = dice.of(parts);
        this.run.count(`one view changed, of ${new Set(parts).size > 1 ? 'several' : 'one'}`, 1);
        return part;
    }

    // ---- what happens -------------------------------------------------------------------------------------------------------

    /** Somebody has the whole refusal of this credential in hand, which the upstream had got at this tick. */
    refused(credential, x) {
        const { run } = this;
        // all who come without credentials look alike
        if (credential.isAnonymous) return;
        for (const stream of this.streams.values()) {
            if (stream.op.credential !== credential || stream.closedMs !== undefined || !(stream.openedTick < x.tick)) continue;
            if (stream.deadMs !== undefined) continue;
            stream.deadMs = now();
            stream.whyDead = `credential refused in #${x.serial}`;
            run.count('streams of who was refused', 1);
        }
    }
    sessionEnded(x) {
        const session = this.#sessions.get(this.#nameOf(x));
        if (session === undefined) return;
        for (const stream of session.streams) {
            if (!(stream.openedTick < x.tick)) continue;
            stream.deadMs ??= now();
            stream.whyDead ??= `session ended in #${x.serial}`;
        }
        // not what was asked for since
        for (const link of session.links.values()) if (link.answeredMs !== undefined && link.asks === 0 && (link.lookMs ?? link.answeredMs) < x.ms) link.endedMs ??= now();
        this.run.count('subscribed sessions that ended', 1);
    }
    lost(x) {
        const stream = this.streams.get(x.op.number);
        for (const link of stream?.links.values() ?? []) link.losses.push({ tick: this.run.clock(), ms: now() });
    }
    /** A write reached the upstream. */
    purged(subjects, tick) {
        for (const subject of subjects) {
            const at = { tick, ms: now() };
            if (this.#purges.has(subject)) this.#purges.get(subject).push(at);
            else this.#purges.set(subject, [at]);
        }
    }
    /** What sessions are subscribed to outlives it. */
    killed() {
        for (const stream of this.streams.values()) if (stream.closedMs === undefined) this.closed(stream);
        this.#promised = [];
    }
    /** The upstream answers: what makes any promise void, and what a subscriber's own look has brought. */
    sent(x) {
        const isGood = x.status < 300 && (x.content === 'result' || x.content === 'other') && x.fault === undefined && !x.isBlemished;
        if (x.groups) this.purged(x.groups, x.tick);
        if (x.isPoll) {
            const key = this.#pollKey(x);
            if (this.#polled.has(key)) this.#polled.get(key).isGood = isGood && x.content === 'result';
            if (!isGood) this.run.count(`poll answered ${x.status} ${x.content}`, 1);
            const link = this.streams.get(x.op.number)?.links.get(this.#thingOf(x));
            if (link !== undefined && x.isGone) link.wasGone = true;
            if (link !== undefined && isGood) link.lookedMs ??= x.sentMs;
        }
        if (x.status === 401 || x.status === 403) for (const stream of this.streams.values()) if (stream.op.credential.principal(this.run.phase) === x.credential.principal(this.run.phase)) stream.refusedMs = now();
        if (isGood || x.op?.isStream) return;
        const principal = x.credential.principal(this.run.phase);
        const thing = this.#thingOf(x);
        for (const { links, op, closedMs } of this.streams.values()) {
            if (closedMs !== undefined || op.credential.principal(this.run.phase) !== principal) continue;
            for (const link of links.values()) if (x.status >= 400 || link.thing === thing) link.shakenMs = now();
        }
    }

    /** Somebody who waited for a stream has just left. */
    hadStream({ credential, session }) { return [...this.streams.values()].some(({ op, closedMs }) => op.credential === credential && (op.session ?? null) === session && now() - closedMs < POLL_FLIGHT_MS); }

    // ---- polls --------------------------------------------------------------------------------------------------------------

    #thingOf({ method, name }) { return method === 'resources/read' ? `uri ${name}` : `list ${Object.keys(METHODS).find((what) => METHODS[what].includes(method))}`; }
    #pollKey(x) { return [x.credential.isAnonymous && !x.session ? x.op.number : '', x.credential.index, x.era, x.session?.id ?? '', x.session?.version ?? '', x.method, x.name].join(' '); }

    objectionToPoll(stream, x) {
        const link = stream.links.get(this.#thingOf(x));
        const isOver = (endedMs) => endedMs !== undefined && now() - endedMs > POLL_FLIGHT_MS;
        if (link === undefined || (x.method !== 'resources/read' && !Object.values(METHODS).flat().includes(x.method))) return ['unasked', `${x.credential.name} is not subscribed to ${x.method} ${x.name} by stream ${stream.op.number}`];
        if (link.isResult) return ['result', 'a tool is not called without being asked'];
        if (isOver(stream.closedMs)) return ['closed', `a poll ${Math.round(now() - stream.closedMs)} ms after its stream was closed`];
        if (isOver(stream.deadMs)) return ['dead', `a poll ${Math.round(now() - stream.deadMs)} ms after its ${stream.whyDead} was seen`];
        if (isOver(link.endedMs)) return ['over', `a poll ${Math.round(now() - link.endedMs)} ms after its subscription was over`];
        if (x.credential.hasExpired(Date.now() - EXPIRY_MS)) return ['expired', `the token said exp ${x.credential.expS}`];
        const polled = this.#polled.get(this.#pollKey(x));
        // a new subscription looks at once, and who has not shown that he may hear of a change is asked for before he does
        const isFree = !polled?.isGood || (link.lookMs ?? link.sinceMs) > polled.lastMs - LATE_MS || this.#reasons(link, polled.lastMs - NOTICED_MS).length > 0;
        if (polled === undefined || isFree) this.#polled.set(this.#pollKey(x), { firstMs: x.ms, lastMs: x.ms, count: 1, isGood: false });
        else if (x.ms - polled.firstMs < polled.count * MIN_POLL_MS - LATE_MS) return ['often', `${polled.count + 1} in ${Math.round(x.ms - polled.firstMs)} ms`];
        else Object.assign(polled, { lastMs: x.ms, count: polled.count + 1, isGood: false });
        return null;
    }

    // ---- what is heard ------------------------------------------------------------------------------------------------------

    /** More of an answer is there. */
    hear(message, op) {
        if (!message.body.includes('data:', message.eventsUntil ?? 0)) return;
        for (const event of eventsOf(message)) {
            let heard;
            try {
                heard = JSON.parse(event.data);
            } catch {
                continue; // cut by the upstream
            }
            if (!Array.isArray(heard)) this.#judge(heard, event, op);
        }
    }

    #judge(heard, event, op) {
        const { run } = this;
        const stream = op === undefined || op === null ? undefined : this.streams.get(op.number);
        const complain = (word, text) => run.violation(`told: ${word}`, `stream ${op?.number} (${op?.era} ${op?.method ?? op?.verb}): ${text}; ${event.data.slice(0, 200)}`, op ?? undefined);
        if (op?.isListen && heard.result !== undefined) return this.#judgeEnd(heard, stream, complain);
        if (op?.isListen && heard.error !== undefined) return;
        if (heard.method === ACK) return this.#judgeAck(heard, stream, complain);
        const thing = heard.method === 'notifications/resources/updated' ? `uri ${heard.params?.uri}` : `list ${NOTICES[heard.method]}`;
        if (thing === 'list undefined') return;
        const link = stream?.links.get(thing);
        if (heard.params?._meta?.notice !== undefined) {
            if (link !== undefined) link.shakenMs = now();
            return;
        }
        if (stream === undefined) return complain('elsewhere', 'a notice of its own on what is no subscriber\'s stream');
        if (op.isListen ? heard.params?.[`_meta`]?.[ID] !== JSON.parse(op.id) : heard.params?._meta !== undefined) complain('id', `it does not carry the id of its own stream, ${op.id}`);
        if (event.id !== undefined) complain('event id', 'an event of ours has an id');
        if (op.isListen && !stream.isAcked) complain('early', 'before the acknowledgement');
        if (link === undefined) return complain('unasked', `nobody here asked for ${thing}`);
        this.#judgeTold(link, thing, stream, complain);
    }

    #judgeAck(heard, stream, complain) {
        if (stream === undefined || stream.isAcked) return complain('ack', 'one more acknowledgement, or where nobody listens');
        const { op } = stream;
        stream.isAcked = true;
        stream.ackedMs = now();
        const { notifications = {} } = heard.params;
        if (heard.params._meta?.[ID] !== JSON.parse(op.id)) complain('id', `not with the id of its own stream, ${op.id}`);
        const said = new Set([...Object.keys(METHODS).filter((what) => notifications[`${what}ListChanged`] === true).map((what) => `list ${what}`), ...(notifications.resourceSubscriptions ?? []).map((uri) => `uri ${uri}`)]);
        for (const thing of said) if (!stream.links.has(thing)) complain('ack', `${thing} was not asked for`);
        for (const [thing, link] of stream.links) {
            if (!said.has(thing)) stream.links.delete(thing);
            link.answeredMs = now();
            link.isCovered = op.granted?.has(thing) === true;
        }
        for (const thing of op.granted ?? []) if (!said.has(thing)) complain('ack', `the upstream tells of ${thing}, and it does not say so`);
        const covered = [...stream.links.values()].filter(({ isCovered }) => isCovered).length;
        this.run.count(`acknowledged ${op.granted === undefined ? 'here alone' : covered < stream.links.size ? 'more than upstream' : 'as upstream'}`, 1);
    }

    #judgeEnd(heard, stream, complain) {
        if (heard.id !== JSON.parse(stream.op.id) || heard.result._meta?.[ID] !== heard.id || heard.result.resultType !== 'complete') complain('end', 'a strange result');
        if (!this.run.isStopping) complain('end', 'a listen ended by a result although nothing stopped');
        if (stream.hasEnded) complain('end', 'a second result');
        stream.hasEnded = true;
    }

    /** All that may have been told to this subscriber since then. */
    #reasons(link, sinceMs) {
        const { changes } = this.run.world;
        return [...link.parts.flatMap((part) => changes.get(part) ?? []), ...link.subjects.flatMap((subject) => this.#purges.get(subject) ?? []), ...(link.isCovered !== false ? link.losses : [])].filter(({ ms }) => ms >= sinceMs);
    }

    #judgeTold(link, thing, stream, complain) {
        const { run } = this;
        const { op } = stream;
        const ms = now();
        const last = link.tolds.at(-1);
        if (link.endedMs !== undefined && ms - link.endedMs > FLIGHT_MS) complain('after the end', `${Math.round(ms - link.endedMs)} ms after the subscription was seen to be over`);
        if (stream.deadMs !== undefined && ms - stream.deadMs > FLIGHT_MS) complain('after the end', `${Math.round(ms - stream.deadMs)} ms after the end was seen: ${stream.whyDead}`);
        if (op.credential.hasExpired(Date.now() - EXPIRY_MS)) complain('after the end', `the token said exp ${op.credential.expS}`);
        // what lay there when he subscribed may have been older, and of results all is remembered
        const floorMs = link.isResult ? 0 : link.sinceMs - link.maxAgeMs;
        const reasons = this.#reasons(link, floorMs);
        const fresh = last === undefined ? reasons : reasons.filter((reason) => reason.ms >= (link.isResult ? 0 : last.ms - NOTICED_MS));
        link.tolds.push({ ms, stream });
        run.note(op, `   ${op.number} is told of ${thing}`);
        if (fresh.length === 0) complain('for nothing', `nothing of ${link.parts.join(', ')} changed since ${Math.round(ms - (last?.ms ?? floorMs))} ms ago, and nothing purged it`);
        else if (!link.isResult && link.tolds.length > reasons.length) complain('too often', `${link.tolds.length} times in ${Math.round(ms - link.sinceMs)} ms, for ${reasons.length} changes`);
        if (last !== undefined && last.stream !== stream && op.era === 'legacy' && ms - last.ms < TWINS_MS && !last.stream.op.hasLeft) complain('twice', `stream ${last.stream.op.number} of the same session was told, too`);
        if (!this.#mayHear(link, op)) complain('ungranted', `the upstream never let ${op.credential.name} have ${thing}`);
        this.#count(link, stream);
        // a tag that what he is served now does not have, or a lost stream: then what lies there may be all right
        const isHarmless = (reason) => link.losses.includes(reason) || link.perhaps.some((subject) => this.#purges.get(subject)?.includes(reason));
        if (!link.isResult && fresh.length > 0 && !fresh.some(isHarmless)) this.#readAgain(link, op, Math.min(...fresh.map(({ tick }) => tick)));
    }

    /** What is everybody's changes for those who may have it: the upstream tells him of it, it is his own, or he was seen to get it. */
    #mayHear(link, op) {
        // he asked himself, and there was none
        if (link.wasGone || link.isCovered === true || (link.isCovered === undefined && !link.isResult)) return true;
        const { judge } = this.run;
        const asked = { credential: op.credential, session: op.session, era: op.era, where: '- -' };
        const calls = link.isResult ? [['tools/call', toolOf(link.uri)]] : link.uri === undefined ? METHODS[link.thing.slice(5)].map((method) => [method, '']) : [['resources/read', link.uri]];
        return calls.some(([method, name]) => judge.mayHear({ ...asked, method, name }, NOTICED_MS));
    }

    #count(link, { op, session }) {
        const { run } = this;
        run.count(`told ${op.era}`, 1);
        run.count(`told of ${link.uri === undefined ? 'a list' : link.isResult ? 'a result' : `a resource (${link.reach})`}`, 1);
        if (link.isCovered) run.count('told of what the upstream tells of', 1);
        if (op.era === 'legacy' && [...session.streams].filter(({ isGood, deadMs }) => isGood && deadMs === undefined).length > 1) run.count('told one of several streams', 1);
        if (run.world.gone.has(link.uri)) run.count('told of what is gone', 1);
    }

    /** Whoever hears of a change asks at once, and must not get what is older. */
    #readAgain(link, op, tick) {
        const { credential, session, era } = op;
        const asked = { credential, session, era, notBefore: { tick, why: `a change of ${link.thing} after ${tick} was told on stream ${op.number}` } };
        if (this.run.rereads.length < 200) this.run.rereads.push(link.uri === undefined ? { ...asked, method: METHODS[link.thing.slice(5)][0], name: '', isTwin: link.thing === 'list resources' } : { ...asked, method: 'resources/read', name: link.uri });
    }

    // ---- what must be heard -------------------------------------------------------------------------------------------------

    /** Something that is watched became what it never was: who must hear of it? */
    promise(part) {
        if (this.run.phase.tells) return;
        const change = { tick: this.run.clock(), ms: now() };
        for (const stream of this.streams.values()) {
            if (stream.closedMs !== undefined || stream.deadMs !== undefined || !stream.isGood || (stream.op.isListen && !stream.isAcked)) continue;
            if (stream.session !== undefined && stream.session.streams.size !== 1) continue;
            for (const link of stream.links.values()) {
                const isWatched = !link.isResult && link.endedMs === undefined && link.answeredMs !== undefined && link.parts.includes(part) && link.reach !== 'flip' && link.lookedMs < change.ms - SLACK_MS;
                if (!isWatched || now() - (link.shakenMs ?? -Infinity) < QUIET_MS) continue;
                // a watch that failed before may be in a pause
                const everyMs = Math.max(link.lifetimeMs, MIN_POLL_MS);
                this.#promised.push({ link, stream, change, part, dueMs: change.ms + everyMs + Math.min(everyMs / 10, 1000) + MIN_POLL_MS + MARGIN_MS });
            }
        }
    }
    /** Were they kept? */
    look() {
        const { run } = this;
        this.#promised = this.#promised.filter(({ link, stream, change, dueMs, part }) => {
            const isTold = link.tolds.some(({ ms }) => ms >= change.ms);
            if (isTold) {
                run.count('told in time', 1);
                return false;
            }
            const isVoid = stream.closedMs !== undefined || stream.deadMs !== undefined || link.endedMs !== undefined || link.shakenMs > change.ms - QUIET_MS || stream.op.credential.maySeemExpired() ||
                this.#reasons(link, change.ms - QUIET_MS).some(({ isBump }) => isBump !== true);
            if (isVoid) return false;
            if (now() < dueMs) return true;
            run.violation('told: never', `stream ${stream.op.number} (${stream.op.era}): '${part}' changed ${Math.round(now() - change.ms)} ms ago, at ${change.tick}, and it did not hear of it`, stream.op);
            return false;
        });
    }

    forget() {
        for (const [number, stream] of this.streams) if (stream.closedMs < now() - REMEMBER_MS) this.streams.delete(number);
    }
}
