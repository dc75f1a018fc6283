/* SPDX-License-Identifier: Apache-2.0 */
// What is true upstream at this moment: who is welcome, which sessions live, who may use what, which version the data has. It changes when a
// client's plan says so; everything that lasts for a while is a time until which it does, so there are no timers.
import { Dice } from './dice.mjs';
import { NOTED, privateScope, reachOf } from './phases.mjs';

export const now = () => performance.now();
const base64url = (text) => Buffer.from(text).toString('base64url');
const jwt = (payload) => `${base64url('{"alg":"none"}')}.${base64url(payload)}.${base64url('unsigned')}`;

/** All that a client sends to say who he is. */
export class Credential {
    refusedUntil = 0;
    refusal = 401;
    sessions = [];
    /** tool or URI -> {until, how: 'status' | 'isError' | 'error'} */
    denied = new Map();

    /** @param claims  [iss, sub] when both name somebody  @param expS  of the token, undefined: says nothing */
    constructor(index, name, headers, { claims = null, expS, isLenient = false } = {}) {
        Object.assign(this, { index, name, headers, claims, expS, isLenient });
        this.isAnonymous = headers.length === 0;
        this.mark = markOf(headers);
        this.others = markOf(headers.filter(([header]) => header !== 'authorization'));
    }
    /** Who he is: with claims a refreshed token is the same principal. */
    principal(phase) { return phase.claims && this.claims ? `claims ${JSON.stringify(this.claims)} ${this.others}` : `credential ${this.index}`; }
    isByClaims(phase) { return phase.claims && this.claims !== null; }
    hasExpired(atMs = Date.now()) { return this.expS !== undefined && atMs >= this.expS * 1000; }

    /** The sidecar may take it for expired: it reads whole seconds, and drops the rest. */
    maySeemExpired(atMs = Date.now()) { return this.expS !== undefined && atMs >= Math.floor(this.expS) * 1000; }
}

/** The same for the same credentials, in whatever order and case the headers came. */
export function markOf(headers) {
    const all = { authorization: [], cookie: [], 'x-api-key': [] };
    for (const [name, value] of headers) all[name]?.push(value);
    return JSON.stringify(all);
}

export class World {
    credentials = [];
    byMark = new Map();
    /** Places from which clients take whoever stands there now: tokens get refreshed. */
    places = [];
    slowPlaces = [];
    sessions = new Map();
    versions = new Map();
    /** URI -> whether it is everybody's now */
    flips = new Map();
    /** tool -> {until, how: 'status' | 'reset' | 'truncate' | 'hang'} */
    broken = new Map();
    /** tool -> {number, annotation: 'none' | 'reads' | 'veto', text}; what tools/list says */
    definitions = new Map();
    isOpen = false;
    /** What an answer shows -> when it changed: [{tick, ms, isBump}]; isBump: to what it never was. */
    changes = new Map();
    /** Resources that are not there at the moment. */
    gone = new Set();
    /** Where only subscribers ask. */
    quietPlaces = [];
    clock = () => 0;
    #viewers = new Map();
    #users = 0;
    #sessionCount = 0;

    constructor(seed, phase) {
        this.dice = new Dice(seed);
        this.phase = phase;
        this.isOpen = phase.openShare > 0;
        for (const name of NOTED) this.redefine(name, this.dice);
        const place = (...given) => this.places.push(this.add(...given));
        const bearer = (token) => [['authorization', `Bearer ${token}`]];
        place('nobody', []);
        for (let i = 0; i < 6; i++) place(`opaque${i}`, bearer(`opaque-${i}`));
        for (let i = 0; i < 4; i++) this.places.push(this.refreshing(this.dice));
        // two tokens each of one user, both good
        for (let i = 0; i < 2; i++) for (const n of ['a', 'b']) this.places.push(this.issue(`user${i}${n}`, ['https://as.example', `u${i}`], { more: n }));
        for (let i = 0; i < 3; i++) place(`key${i}`, [['x-api-key', `key-${i}`]]);
        for (let i = 0; i < 2; i++) place(`cookie${i}`, [['cookie', `sid=${i}`]]);
        // users behind one service's token
        for (let i = 0; i < 2; i++) place(`behind${i}`, [...bearer('opaque-0'), ['cookie', `sid=${i}`]]);
        for (let i = 0; i < 2; i++) place(`double${i}`, [...bearer('opaque-1'), ...bearer(`opaque-${i + 2}`)]);
        // tokens whose claims could be taken for another's
        place('number', bearer(jwt('{"iss":"https://as.example","sub":7}')), { claims: ['https://as.example', 7] });
        place('digits', bearer(jwt('{"iss":"https://as.example","sub":"7"}')), { claims: ['https://as.example', '7'] });
        place('doubled', bearer(jwt('{"iss":"https://as.example","sub":"u0","sub":"u1"}')));
        place('halved', bearer(jwt('{"iss":"https://as.example"}')));
        place('moved', bearer(jwt('{"iss":"https://as.exampleu","sub":"0"}')), { claims: ['https://as.exampleu', '0'] });
        place('keyed', [...bearer(jwt('{"iss":"https://as.example","sub":"u0","n":"keyed"}')), ['x-api-key', 'key-0']], { claims: ['https://as.example', 'u0'] });
        place('fraction', bearer(jwt(`{"iss":"https://as.example","sub":"f","exp":${Math.floor(Date.now() / 1000) + 2}.5}`)), { claims: ['https://as.example', 'f'], expS: Math.floor(Date.now() / 1000) + 2.5, isLenient: true });
        place('bygone', bearer(jwt('{"iss":"https://as.example","sub":"b","exp":1500000000}')), { claims: ['https://as.example', 'b'], expS: 1500000000, isLenient: true });
        // those who come first come often
        if (phase.claims) this.places.sort((a, b) => Number(b.claims !== null && !b.isLenient) - Number(a.claims !== null && !a.isLenient));
        for (let i = 0; i < 16; i++) this.slowPlaces.push(i % 4 === 3 ? this.issue(`slow${i}`, ['https://as.example', `slow${i}`], {}) : this.add(`slow${i}`, i % 4 === 2 ? [['x-api-key', `slow-${i}`]] : bearer(`slow-${i}`)));
        for (let i = 0; i < 8; i++) this.quietPlaces.push(i % 4 === 3 ? this.issue(`quiet${i}`, ['https://as.example', `quiet${i}`], {}) : this.add(`quiet${i}`, bearer(`quiet-${i}`)));
    }

    add(name, headers, more) {
        const credential = new Credential(this.credentials.length, name, headers, more);
        this.credentials.push(credential);
        this.byMark.set(credential.mark, credential);
        return credential;
    }

    issue(name, claims, { expS, more = '', isLenient }) {
        const payload = { iss: claims[0], sub: claims[1], ...(expS === undefined ? {} : { exp: expS }), n: more };
        return this.add(name, [['authorization', `Bearer ${jwt(JSON.stringify(payload))}`]], { claims, expS, isLenient });
    }

    /** A token that runs out soon, of a new user or of the one of an older token. */
    refreshing(dice, old) {
        const sub = old?.claims[1] ?? `r${(this.#users += 1)}`;
        const count = (old?.count ?? 0) + 1;
        const credential = this.issue(`${sub}.${count}`, ['https://as.example', sub], { expS: Math.floor(Date.now() / 1000) + 1 + dice.below(3), more: count, isLenient: dice.chance(0.6) });
        credential.count = count;
        credential.isRefreshing = true;
        if (old) Object.assign(credential, { sessions: old.sessions, isLenient: old.isLenient }); // the same client goes on in its sessions
        return credential;
    }

    // ---- changes ------------------------------------------------------------------------------------------------------------

    revoke(credential, dice) {
        credential.refusal = dice.chance(0.8) ? 401 : 403;
        credential.refusedUntil = now() + dice.between(60, 500);
    }
    revokeAll(forMs) {
        for (const credential of this.credentials) Object.assign(credential, { refusal: 401, refusedUntil: now() + forMs });
    }
    deny(credential, what, dice) {
        credential.denied.set(what, { until: now() + dice.between(50, 500), how: dice.of(['status', 'isError', 'error']) });
    }
    openSession(credential, { version, capabilities, dice }) {
        const session = { id: `s-${(this.#sessionCount += 1)}`, owner: credential, version, capabilities, isStrict: dice.chance(0.5), gone: false, goneUntil: 0, tells: this.tells(credential), subscribed: new Set() };
        this.sessions.set(session.id, session);
        return session;
    }
    forget(session, dice) {
        // some servers forget for good; behind a balancer a session may be gone and come back
        if (dice.chance(0.3)) session.gone = true;
        else session.goneUntil = now() + dice.between(20, 200);
    }
    breakDown(tool, dice) {
        this.broken.set(tool, { until: now() + dice.between(15, 70), how: dice.of(['status', 'status', 'reset', 'truncate', 'hang']) });
    }
    redefine(tool, dice) {
        const number = (this.definitions.get(tool)?.number ?? 0) + 1;
        const [annotation, text] = dice.of([['none', ''], ['none', '{}'], ['reads', '{"readOnlyHint":true}'], ['reads', '{"readOnlyHint":true,"destructiveHint":true}'], ['veto', '{"readOnlyHint":false}'], ['veto', '{"destructiveHint":true}']]);
        this.definitions.set(tool, { number, annotation, text });
        this.#changed('tools/list', true);
    }
    bump(key) {
        this.versions.set(key, (this.versions.get(key) ?? 0) + 1);
        this.#changed(key, true);
    }
    /** Only in the view of one. */
    bumpFor(whose, key) { this.bump(`${key} of ${whose}`); }
    flip(uri) {
        this.flips.set(uri, !this.isEverybodys(uri));
        this.#changed(uri, false);
    }
    vanish(uri) {
        if (!this.gone.delete(uri)) this.gone.add(uri);
        this.#changed(uri, false);
    }
    #changed(key, isBump) {
        const change = { tick: this.clock(), ms: now(), isBump };
        const list = this.changes.get(key);
        if (list === undefined) this.changes.set(key, [change]);
        else list.push(change);
    }

    // ---- questions ----------------------------------------------------------------------------------------------------------

    versionOf(key) { return this.versions.get(key) ?? 0; }
    /** Does the upstream itself tell this caller of changes? */
    tells(credential) { return this.phase.tells && credential.index % 2 === 1; }
    /** Whose view of it a caller gets, when it is not everybody's. */
    whoseOf({ credential, session, era, rule }) {
        const principal = credential.principal(this.phase);
        return rule !== null && privateScope(rule, era) === 'session' ? `${principal} in ${session?.id ?? '-'}` : principal;
    }
    /** What changes when his answer does. */
    partsOf(key, asked) {
        const reach = reachOf(key);
        return reach === 'public' ? [key] : [key, `${key} of ${this.whoseOf(asked)}`];
    }
    /** What this caller is shown: the same text as long as nothing changed. */
    viewOf(key, asked) {
        const reach = reachOf(key);
        if (reach === 'public' || (reach === 'flip' && asked.era === 'modern' && this.isEverybodys(key))) return `all v=${this.versionOf(key)}`;
        const whose = this.whoseOf(asked);
        if (!this.#viewers.has(whose)) this.#viewers.set(whose, this.#viewers.size + 1);
        return `of ${this.#viewers.get(whose)} v=${this.versionOf(key)} p=${this.versionOf(`${key} of ${whose}`)}`;
    }
    isEverybodys(uri) { return this.flips.get(uri) ?? true; }
    failureOf(tool) {
        const failure = this.broken.get(tool);
        return failure === undefined || failure.until <= now() ? undefined : failure.how;
    }
    isGone(session) { return session === undefined || session.gone || session.goneUntil > now(); }

    /** The status with which the upstream turns this caller away, or 0. */
    refusalOf(credential) {
        if (this.isOpen) return 0;
        if (credential.refusedUntil > now()) return credential.refusal;
        return credential.hasExpired() && !credential.isLenient ? 401 : 0;
    }
    denialOf(credential, what) {
        const denial = credential.denied.get(what);
        if (denial === undefined || denial.until <= now() || (this.isOpen && denial.how === 'status')) return undefined;
        return denial.how;
    }
}
