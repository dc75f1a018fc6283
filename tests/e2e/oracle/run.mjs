/* SPDX-License-Identifier: Apache-2.0 */
// One phase: a world, a policy, a sidecar and its clients, from a seed. It counts, remembers the last events, and tells of what must not be.
import { sleep } from '../lib/wait.mjs';
import { Book } from './book.mjs';
import { Client } from './client.mjs';
import { Dice, seedOf } from './dice.mjs';
import { Drawer } from './draw.mjs';
import { Judge } from './judge.mjs';
import { Listener } from './listener.mjs';
import { Operator } from './operator.mjs';
import { policyText } from './phases.mjs';
import { Process } from './process.mjs';
import { Upstream } from './upstream.mjs';
import { World, now } from './world.mjs';

const FAST = 48;
const SLOW = 16;
const REMEMBERED = 60_000;
const TOLD = 120;
const VIOLATIONS_MAX = 5;
// When, and how often, something is told or asked for depends on who is quicker. Of each of these words one in a phase is told of and does not fail it: about one phase in forty has one, and
// whether the sidecar or the oracle is wrong there is not known. Two are a violation. Whom it concerns has no such leave.
const SUSPECT = ['told before', 'told: after the end', 'told: too often', 'told: twice', 'told: for nothing', 'told: never', 'told: cut', 'poll: often', 'poll: over', 'poll: closed', 'poll: dead', 'poll: expired'];
const ANSWER_WITHIN_MS = 20_000;
const NOTICE = /"notice":(\d+)\}/g;

export class Run {
    counts = new Map();
    /** Operations whose client lost its connection when the sidecar was killed, or left long ago. */
    cut = new Set();
    violations = [];
    suspicions = [];
    isUp = false;
    isStopped = false;
    isOver = false;
    /** What many ask at this moment: {asked, credential, untilMs}. */
    herd = undefined;
    /** What those who heard of a change ask next. */
    rereads = [];
    /** The sidecar was told to stop. */
    isStopping = false;
    drawn = 0;
    done = 0;
    #tick = 0;
    #notes = new Array(REMEMBERED);
    #noted = 0;
    #open;
    #own = 10_000_000;

    constructor(phase, { ops, seed, binary, tolerated = [], level = 'warn', threads = phase.threads }) {
        Object.assign(this, { phase, ops, seed, binary, tolerated, level, threads });
        this.world = new World(seedOf(seed, phase.name, 'world'), phase);
        this.world.clock = () => this.clock();
        this.book = new Book(this);
        this.judge = new Judge(phase, this.book);
    }

    clock() { return (this.#tick += 1); }
    count(what, n) { this.counts.set(what, (this.counts.get(what) ?? 0) + n); }
    note(asked, text) { this.#notes[this.#noted++ % REMEMBERED] = { tick: this.#tick, ms: now(), credential: asked.credential, session: asked.session, question: asked.question, text }; }

    /** What happened lately around this principal, this session or this question, one line each. */
    #story(asked) {
        const story = [];
        for (let i = this.#noted - 1; i >= 0 && i > this.#noted - REMEMBERED && story.length < TOLD; i--) {
            const { tick, ms, credential, session, question, text } = this.#notes[i % REMEMBERED];
            if (credential.principal(this.phase) !== asked.credential.principal(this.phase) && !(asked.session && session === asked.session) && !(asked.question && question === asked.question)) continue;
            story.unshift(`    ${tick} ${ms.toFixed(1)} ${credential.name}${session ? ` ${session.id}` : ''}: ${text}`);
        }
        return story;
    }

    violation(word, text, asked) {
        if (this.tolerated.includes(word)) return this.count(`tolerated: ${word}`, 1);
        const what = { word, text, at: now(), tick: this.#tick, asked: asked && `${asked.credential.name}${asked.session ? ` in ${asked.session.id}` : ''} (principal: ${asked.credential.principal(this.phase)})`, story: asked ? this.#story(asked) : [] };
        if (SUSPECT.includes(word) && !this.suspicions.some((one) => one.word === word)) {
            this.suspicions.push(what);
            return this.count(`suspected: ${word}`, 1);
        }
        this.count('violations', 1);
        this.count(`violation: ${word}`, 1);
        if (word === 'process' || this.violations.length < VIOLATIONS_MAX) this.violations.push(what);
    }

    // ---- the plan -----------------------------------------------------------------------------------------------------------

    /** Number of the next operation; undefined: that was all. */
    next() {
        if (this.drawn >= this.ops || this.violations.length >= VIOLATIONS_MAX || this.isStopped) return undefined;
        this.drawn += 1;
        if (this.world.isOpen && this.drawn > this.ops * this.phase.openShare) this.world.isOpen = false;
        const killAt = this.killsLeft > 0 ? Math.floor((this.ops * (this.phase.kills - this.killsLeft + 1)) / (this.phase.kills + 1)) : NaN;
        // what was refused shortly before must not be forgotten by the end of the process
        if (this.drawn === Math.max(1, killAt - 1200)) this.world.revokeAll(60);
        if (this.drawn >= killAt) this.#kill();
        return this.drawn;
    }
    judged() { this.done += 1; }
    /** A number for what is no operation of the plan. */
    nextOfOwn() { return (this.#own += 1); }

    // ---- what changes upstream, and who hears of it -------------------------------------------------------------------------

    announce(news) { this.upstream.announce(news); }

    /** More of a reply is there: what is in it is known. */
    hear(message, op) {
        if (op?.isWrite && op.exchange?.sentTick !== undefined && !op.isHeadSeen && !op.hasLeft) {
            op.isHeadSeen = true;
            this.judge.fresh.writeSeen(op, op.exchange.sentTick, this.clock(), [], 'began to be answered');
        }
        this.book.hear(message, op);
        NOTICE.lastIndex = message.heardUntil ?? 0;
        for (let found = NOTICE.exec(message.body); found !== null; found = NOTICE.exec(message.body)) {
            message.heardUntil = NOTICE.lastIndex;
            const notice = this.upstream.notices.get(Number(found[1]));
            if (notice === undefined) continue;
            this.count('heard', 1);
            const tick = this.clock();
            const why = `notification ${found[1]} was heard at ${tick}`;
            this.judge.fresh.purge(notice.hard, notice.sentTick, tick, why);
            this.judge.fresh.purge(notice.soft, notice.sentTick, tick, why, true);
        }
    }

    /** What a client was offered at initialize beside what the upstream offers: it is all that may differ. */
    learnOffers(op, body) {
        const { exchange: x } = op;
        if (!x?.opened || x.content !== 'result') return;
        const text = body.startsWith('{') ? body : (/^data: (\{.*"result".*)$/m.exec(body)?.[1] ?? '{}');
        const got = JSON.parse(text);
        const sent = JSON.parse(x.body);
        const has = got.result?.capabilities;
        const had = sent.result.capabilities;
        const offers = [];
        const add = (kind, flag, offer) => {
            if (had[kind] === undefined || had[kind][flag] === true || has?.[kind]?.[flag] !== true) return;
            offers.push(offer);
            had[kind][flag] = true;
        };
        add('resources', 'subscribe', 'subscribe');
        for (const kind of ['tools', 'prompts', 'resources']) add(kind, 'listChanged', kind);
        const sorted = (value) => JSON.stringify(value, (_, member) => (member !== null && typeof member === 'object' && !Array.isArray(member) ? Object.fromEntries(Object.entries(member).sort()) : member));
        if (sorted(got) !== sorted(sent)) return this.violation('offers', `operation ${op.number}: the upstream said ${x.body}; ${text}`, op);
        x.opened.offers = offers;
        this.count(`offers ${offers.length > 0 ? 'made' : 'none'}`, 1);
    }

    /** A write whose client left is over upstream. (Anybody can call and leave: that of a stranger counts for nothing.) */
    writeLeft(op) {
        if (op.exchange.isOfKnown) this.judge.fresh.writeLeft(op, () => this.isUp && op.process === this.process, () => this.clock());
    }

    /** Waits while the run is ahead of its time. */
    async pace() {
        for (;;) {
            const aheadMs = this.drawn / this.phase.opsPerMs - (now() - this.beganMs);
            if (aheadMs < 20) return;
            await sleep(aheadMs);
        }
    }

    async #kill() {
        this.killsLeft -= 1;
        const killedMs = now();
        const writes = [...this.upstream.operations.values()].filter(({ isWrite }) => isWrite);
        this.#down();
        try {
            await this.process.end('SIGKILL');
            for (const client of [...this.clients, ...this.listeners]) client.cut();
            const killedTick = this.clock();
            this.judge.killed(killedTick, killedMs);
            this.book.killed();
            this.rereads = [];
            await this.process.launch();
            for (const op of writes) if (op.exchange?.isOfKnown) this.judge.fresh.writeSeen(op, op.exchange.endTick ?? killedTick, this.clock(), [], 'was under way when the sidecar was killed');
            this.count('writes cut by a kill', writes.length);
            this.process = Object.assign(Object.create(Object.getPrototypeOf(this.process)), this.process); // another process, for those who compare
        } catch (error) {
            this.violation('process', error.message);
            this.isStopped = true;
        }
        this.#release();
    }
    #down() {
        this.isUp = false;
        this.up = new Promise((release) => (this.#open = release));
    }
    #release() {
        this.isUp = true;
        this.#open();
    }

    async play(onProgress) {
        this.killsLeft = this.phase.kills;
        this.#down();
        this.upstream = await Upstream.start(this);
        try {
            const flags = ['--threads', String(this.threads), ...this.phase.origins.flatMap((origin) => ['--allow-origin', origin])];
            this.process = await Process.start({ policy: policyText(this.phase), upstream: this.upstream.url, flags, binary: this.binary, level: this.level });
            this.port = this.process.port;
            this.#release();
            this.beganMs = now();
            this.clients = Array.from({ length: FAST + SLOW }, (_, i) => new Client(this, new Drawer(this, seedOf(this.seed, this.phase.name, i), i >= FAST, i)));
            const house = setInterval(() => this.#keepHouse(), 1000);
            const looks = setInterval(() => this.book.look(), 100);
            const progress = setInterval(() => onProgress(this, now() - this.beganMs), 5000);
            this.listeners = Array.from({ length: this.phase.subscribers }, (_, i) => new Listener(this, new Dice(seedOf(this.seed, this.phase.name, 'listener', i))));
            const others = [...this.listeners, ...(this.process.adminPath === undefined ? [] : [new Operator(this, new Dice(seedOf(this.seed, this.phase.name, 'operator')))])];
            const goingOn = others.map((other) => other.go());
            await Promise.all(this.clients.map((client) => client.go()));
            this.isOver = true;
            clearInterval(house);
            clearInterval(looks);
            clearInterval(progress);
            this.tookMs = now() - this.beganMs;
            for (const listener of this.listeners) listener.finish();
            const stopped = sleep(30).then(() => this.#end());
            await Promise.all([stopped, ...goingOn]);
        } finally {
            await this.process?.remove();
            await this.upstream.close();
        }
    }

    #keepHouse() {
        this.book.forget();
        this.upstream.forget();
        this.judge.forgetStoredBefore(now() - 20_000);
        if (!this.process.isRunning && this.isUp) {
            this.violation('process', `the sidecar ended by itself:\n${this.process.words.slice(-30).join('\n')}`);
            this.isStopped = true;
        }
        for (const op of this.upstream.operations.values()) {
            if (!op.hasLeft || now() - op.ms < 2000) continue;
            this.upstream.operations.delete(op.number);
            this.cut.add(op.number);
        }
        const late = [...this.upstream.operations.values()].find((op) => now() - op.ms > ANSWER_WITHIN_MS);
        if (late) {
            this.violation('answer', `operation ${late.number} waits for its answer since ${Math.round(now() - late.ms)} ms`, late);
            this.isStopped = true;
        }
        if (this.isStopped) for (const client of this.clients) client.cut();
    }

    async #end() {
        this.isStopping = true;
        const { code, signal } = await this.process.end('SIGTERM');
        if (code !== 0) this.violation('process', `it ended with ${code ?? signal}:\n${this.process.words.slice(-30).join('\n')}`);
        if (this.process.report.length > 0) this.violation('process', `a report on stderr:\n${this.process.report.join('\n')}`);
    }
}
