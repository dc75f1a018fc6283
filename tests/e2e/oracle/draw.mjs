/* SPDX-License-Identifier: Apache-2.0 */
// What a client does next, drawn from its own dice: a question of either era by somebody, now and then with what makes it one that only the upstream
// may answer, and now and then a change of the world upstream.
import { Dice } from './dice.mjs';
import { NOTED, RESULT_URIS, SEEN_URIS, TOOLS, WRITES, hasResultUri, reachOf, ruleOf, uriOf } from './phases.mjs';
import { now } from './world.mjs';

const MODERN = '2026-07-28';
const META = 'io.modelcontextprotocol/';
const LEGACY_VERSIONS = ['2025-11-25', '2025-06-18'];
const CAPABILITIES = ['{}', '{"sampling":{}}'];
const MIRRORED = { 'tools/call': 'name', 'resources/read': 'uri' };
const LISTS = ['tools/list', 'tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'];
const sumOf = (table) => table.reduce((sum, [weight]) => sum + weight, 0);
const TOOL_SUM = sumOf(TOOLS);
const WRITE_SUM = sumOf(WRITES);
const RESOURCES = ['hint://pub/', 'hint://priv/', 'hint://flip/', 'hint://none/', 'rule://mine/', 'rule://open/'];
/** Of what others hear of changes. */
const WATCHED = [...SEEN_URIS, ...RESULT_URIS];
const LISTS_WATCHED = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list'];
const KINDS = [[44, 'tool'], [17, 'resource'], [8, 'list'], [0.8, 'write'], [1.2, 'notification'], [1.2, 'ping'], [1, 'get'], [1, 'delete'], [0.6, 'elsewhere'], [0.2, 'strange'], [0.6, 'again']];
const KIND_SUM = sumOf(KINDS);
/** What makes a read a question for the upstream alone; the word is that of the report. */
const ODDITIES = ['proof', 'origin', 'name', 'method', 'version', 'mirrorless', 'no-cache', 'no-store', 'only-if-cached', 'accept'];

/** Letter case means nothing in a header's name. */
const cased = (name, dice) => (dice.chance(0.9) ? name : name.toUpperCase());

/** What agents who ask seldom ask again and again. */
const STEADY = ['frail_a', 'lag_a', 'frailpub_a', 'lagpub_a', 'frail_b', 'lag_b', 'frailpub_b', 'lagpub_b'];
const FRAIL = TOOLS.flatMap(([, names]) => names).filter((name) => name.startsWith('frail'));

/** The question, for whoever asks it again. */
const askedOf = ({ question, session, era, method, name, dataKey, args, language, extra, echo }) => ({ question, session, era, method, name, dataKey, args, language, extra, echo });

export class Drawer {
    /** @param run  the phase that runs  @param isSlow  an agent that asks seldom and is nobody but itself */
    constructor(run, seed, isSlow, index) {
        this.run = run;
        this.dice = new Dice(seed);
        this.isSlow = isSlow;
        this.index = index;
        this.place = 0;
        this.stay = 0;
    }

    #credential() {
        const { run: { world }, dice } = this;
        const places = this.isSlow ? world.slowPlaces : world.places;
        if (this.isSlow) this.place = this.index % places.length;
        else if ((this.stay -= 1) < 0) {
            this.place = dice.zipf(places.length);
            this.stay = dice.below(12);
        }
        const credential = places[this.place];
        if (!credential.isRefreshing) return credential;
        // a client refreshes when its token has run out, sometimes before, sometimes somewhat later
        if (dice.chance(credential.hasExpired() ? 0.15 : world.phase.claims ? 0.04 : 0.005)) return (places[this.place] = world.refreshing(dice, credential));
        return credential;
    }

    #changeTheWorld(credential) {
        const { run: { world }, dice } = this;
        const often = this.isSlow ? 4 : 1;
        const { herd } = this.run;
        if (dice.chance(0.002 * often)) world.revoke(this.isSlow || dice.chance(0.5) ? credential : world.places[dice.below(world.places.length)], dice);
        if (dice.chance(0.006 * often)) world.deny(credential, dice.chance(0.8) ? dice.of(dice.weighted(TOOLS, TOOL_SUM)) : `${dice.of(RESOURCES)}${dice.below(3)}`, dice);
        if (herd && dice.chance(0.001)) world.revoke(herd.credential, dice);
        if (herd?.asked.name && dice.chance(0.006)) world.deny(herd.credential, herd.asked.name, dice);
        if (dice.chance(0.004)) world.flip(dice.chance(0.3) ? 'resources/list' : `hint://flip/${dice.below(3)}`);
        if (dice.chance(0.004 * world.phase.fire)) world.breakDown(dice.of(FRAIL), dice);
        if (world.phase.tells && dice.chance(0.004)) this.run.announce(this.#news());
        if (dice.chance(0.006 * world.phase.watches)) this.#changeWatched();
        if (dice.chance(0.008 * often) && credential.sessions.length > 0) world.forget(dice.of(credential.sessions), dice);
    }

    /** Something that somebody may be subscribed to changes, for everybody or in one view, and nobody says so. */
    #changeWatched() {
        const { run: { world, book }, dice } = this;
        const how = dice.weighted([[35, 'all'], [35, 'one'], [8, 'gone'], [4, 'flip'], [18, 'list']], 100);
        const uri = dice.of(WATCHED);
        if (how === 'list') {
            const list = dice.of(LISTS_WATCHED);
            if (list === 'tools/list') world.redefine(dice.of(NOTED), dice);
            else world.bump(list);
            book.promise(list);
        } else if (how === 'gone' && uri.startsWith('seen:')) {
            world.vanish(uri);
        } else if (how === 'flip' && uri.startsWith('seen://hint')) {
            world.flip(uri);
        } else if (how === 'one' && reachOf(uri) !== 'public') {
            const part = book.somebodysPart(uri, dice);
            if (part === undefined) return;
            world.bump(part);
            book.promise(part);
        } else {
            world.bump(uri);
            book.promise(uri);
        }
    }

    /** Something changed upstream, and whoever listens may be told. */
    #news() {
        const { run: { world }, dice } = this;
        const what = dice.weighted([[60, 'updated'], [20, 'tools'], [8, 'prompts'], [12, 'resources']], 100);
        if (what === 'tools' || dice.chance(0.15)) world.redefine(dice.of(NOTED), dice);
        if (what === 'prompts') world.bump('prompts/list');
        if (what === 'resources') world.bump(dice.of(['resources/list', 'resources/templates/list']));
        if (what !== 'updated') return { what };
        const uri = dice.weighted([[70, `${dice.of(RESOURCES)}${dice.below(3)}`], [15, `res://k${dice.zipf(5)}`], [15, `sub://${dice.below(3)}`]], 100);
        world.bump(uri);
        return { what, uri };
    }

    /** What many ask at once, for a moment; and now and then its caller writes in the middle of it. */
    #joinTheHerd(op) {
        const { run, dice } = this;
        const { herd } = run;
        if (this.isSlow || herd === undefined || herd.untilMs < now() || !dice.chance(0.3)) return false;
        op.credential = herd.credential;
        if (dice.chance(0.025 * run.phase.fire)) {
            Object.assign(op, { session: herd.asked.session, era: herd.asked.era });
            this.#tool(op, dice.of(dice.weighted(WRITES, WRITE_SUM)));
            if (herd.asked.dataKey?.startsWith('k')) this.#aboutKey(op, herd.asked.dataKey);
        } else {
            Object.assign(op, herd.asked, { isOfHerd: true });
        }
        return true;
    }
    #leadAHerd(op) {
        const { run, dice } = this;
        if (this.isSlow || (run.herd?.untilMs ?? 0) > now() || !dice.chance(0.2)) return;
        run.herd = { asked: askedOf(op), credential: op.credential, untilMs: now() + dice.between(5, 50) };
        op.isOfHerd = true;
    }

    /** The next operation. */
    draw(number) {
        const { run: { phase, world }, dice } = this;
        const credential = this.#credential();
        this.#changeTheWorld(credential);
        const op = { number, dice: new Dice(dice.below(2 ** 32)), credential, session: null, era: 'modern', verb: 'POST', path: '/mcp', method: undefined, name: '', rule: null, never: undefined };
        op.id = dice.of([String(number), `"${number}"`, `"op-${number}"`, `-${number}`]);
        let kind = dice.weighted(KINDS, KIND_SUM);
        const told = this.run.rereads.shift();
        if (told !== undefined) {
            this.#tellOf(op, told);
            kind = 'told';
        } else if (this.isSlow && this.index % 2 === 0 && dice.chance(0.7)) {
            kind = 'steady';
        } else if (this.curious && dice.chance(0.6)) {
            // whoever has read what a tool is calls it
            Object.assign(op, this.curious);
            kind = 'noted';
        } else if (this.#joinTheHerd(op)) {
            kind = op.isOfHerd ? 'repeat' : 'herd';
        } else if (this.again && (kind === 'again' || dice.chance(this.isSlow ? 0.5 : 0.25))) {
            // by the same caller, whose token may be another by now; seldom by anybody
            const isSame = dice.chance(0.97) && !(this.again.credential.isRefreshing && this.again.place === this.place && dice.chance(0.7));
            Object.assign(op, this.again, { credential: isSame ? this.again.credential : credential });
            kind = 'repeat';
        }
        if (kind === 'again') kind = 'tool';
        this.curious = undefined;
        if (!['told', 'repeat', 'herd', 'steady', 'noted'].includes(kind)) {
            const form = dice.weighted([[45, 'modern'], [43, 'session'], [12, 'bare']], 100);
            if (form !== 'modern') op.era = 'legacy';
            if (form === 'session' || kind === 'delete') this.#enterSession(op);
            if (op.method === 'initialize') kind = 'initialize';
        }
        op.headers = [];
        if (kind === 'steady') this.#tool(op, STEADY[(this.index / 2) % STEADY.length], true);
        else if (kind === 'noted') this.#tool(op, dice.of(NOTED));
        else if (kind === 'told') op.args = [];
        else if (kind === 'tool') this.#tool(op, dice.of(dice.weighted(TOOLS, TOOL_SUM)));
        else if (kind === 'write') this.#tool(op, dice.of(dice.weighted(WRITES, WRITE_SUM)));
        else if (kind === 'resource') this.#resource(op);
        else if (kind === 'list') this.#list(op);
        else if (kind === 'ping' && op.era === 'modern') this.#list(op);
        else if (kind === 'ping') op.method = 'ping';
        else if (kind === 'notification') Object.assign(op, { method: undefined, isNotification: true });
        else if (kind === 'get') Object.assign(op, { verb: 'GET', era: 'legacy' });
        else if (kind === 'delete') Object.assign(op, { verb: 'DELETE', era: 'legacy' });
        else if (kind === 'elsewhere') Object.assign(op, { verb: dice.of(['GET', 'GET', 'POST']), path: dice.of(['/', '/mcp/x', '/other']), isElsewhere: true, elsewhereStatus: dice.of([200, 401, 403, 404]) });
        else if (kind === 'strange') Object.assign(op, { verb: dice.of(['PUT', 'OPTIONS']), session: null });
        if (kind === 'repeat') op.id = dice.of([String(number), `"op-${number}"`]);
        op.rule = op.method !== undefined && !(op.method === 'server/discover' && op.era === 'legacy') && op.verb === 'POST' && !op.isElsewhere ? ruleOf(phase, op.method, op.name) : null;
        this.#question(op);
        if (op.method === 'tools/list') this.curious = { credential: op.credential, session: op.session, era: op.era, extra: op.extra };
        if (op.rule !== null && !op.isOfHerd && dice.chance(0.7)) this.again = { ...askedOf(op), credential: op.credential, place: this.place };
        if (op.rule !== null) this.#leadAHerd(op);
        this.#format(op);
        if (this.again?.question === op.question) this.again.oddity = op.oddity;
        if (phase.origins.length > 0 && op.origin === undefined && dice.chance(0.1)) {
            op.origin = phase.origins[0];
            op.headers.push(['Origin', op.origin]);
        }
        if (kind === 'get') op.leavesAfterMs = dice.between(5, 150);
        else if (dice.chance(op.isWrite ? 0.12 : op.isOfHerd ? 0.02 : 0.004)) op.leavesAfterMs = dice.below(12);
        return op;
    }

    /** In a session of the caller's, of somebody else's, or in none yet: then it opens one. */
    #enterSession(op) {
        const { run: { world }, dice } = this;
        op.era = 'legacy';
        const own = op.credential.sessions;
        if (dice.chance(0.04)) {
            const sessions = [...world.sessions.values()];
            if (sessions.length > 0) op.session = sessions[Math.max(0, sessions.length - 1 - dice.below(60))];
            return;
        }
        if (own.length === 0 || (own.length < 3 && dice.chance(0.03))) Object.assign(op, { method: 'initialize', version: dice.of(LEGACY_VERSIONS), capabilities: dice.of(CAPABILITIES), stray: dice.chance(0.1) && own.length > 0 ? own[0] : undefined });
        else op.session = dice.of(own);
    }

    /** Who heard of a change asks for what changed. */
    #tellOf(op, { credential, session, era, method, name, notBefore, isTwin }) {
        Object.assign(op, { credential, session, era, method, name, dataKey: name || undefined, echo: name });
        if (!isTwin) op.notBefore = notBefore;
    }

    #tool(op, name, isSteady = false) {
        const { dice } = this;
        op.method = 'tools/call';
        op.name = name;
        op.isWrite = WRITES.some(([, names]) => names.includes(name));
        this.#aboutKey(op, `k${dice.zipf(5)}`);
        if (/^(lag|frail)/.test(name)) {
            // what is asked often enough to be asked again while it is stale
            this.#aboutKey(op, isSteady || dice.chance(0.8) ? 'k4' : 'k3', '1');
            if (isSteady || dice.chance(0.6)) Object.assign(op, { era: 'modern', session: null });
        } else if (name.startsWith('note')) {
            this.#aboutKey(op, 'k4', '1');
        } else {
            this.#variants(op);
        }
    }
    #aboutKey(op, key, n = String(this.dice.chance(0.9) ? 1 : this.dice.below(3))) {
        op.dataKey = key;
        if (hasResultUri(op.name)) {
            key = `s${this.dice.below(3)}`;
            op.dataKey = uriOf(op.name, key);
        }
        op.args = [['key', `"${key}"`], ['n', n]];
        op.echo = `key=${key} n=${op.args[1][1]}`;
    }
    #resource(op) {
        const key = this.dice.below(3);
        op.method = 'resources/read';
        op.name = this.dice.chance(0.3) ? this.dice.of(SEEN_URIS) : `${this.dice.of(RESOURCES)}${key}`;
        op.dataKey = op.name;
        op.args = [];
        op.echo = op.name;
        this.#variants(op);
    }
    #list(op) {
        op.method = this.dice.of(op.era === 'modern' ? LISTS : LISTS.slice(0, 4));
        op.args = op.method === 'prompts/list' && this.dice.chance(0.3) ? [['cursor', '"p2"']] : [];
        this.#variants(op);
    }
    /** What is part of every question because the upstream might answer by it. */
    #variants(op) {
        if (this.dice.chance(0.06)) op.language = this.dice.of(['de', 'en']);
        if (this.dice.chance(0.02)) op.extra = this.dice.of(['a', 'b']);
    }

    /** The same text for the same question, whoever asks. */
    #question(op) {
        if (op.era === 'legacy') op.version ??= op.session?.version ?? '2025-11-25';
        op.question = [op.era, op.era === 'modern' ? MODERN : op.version, op.method, op.name, ...(op.args ?? []).map(([name, value]) => `${name}=${value}`), `lang=${op.language ?? '-'}`, `extra=${op.extra ?? '-'}`, op.path].join(' ');
    }

    #format(op) {
        const { dice } = this;
        const isRead = op.rule !== null;
        const oddity = isRead && dice.chance(0.09) ? dice.of(ODDITIES) : isRead && op.oddity && dice.chance(0.5) ? op.oddity : undefined;
        op.oddity = oddity;
        const mirrors = new Map();
        let accept = 'application/json, text/event-stream';
        if (op.isElsewhere || op.verb === 'PUT' || op.verb === 'OPTIONS') {
            op.body = op.verb === 'OPTIONS' || op.verb === 'GET' ? '' : '{"a":1}';
        } else if (op.verb !== 'POST') {
            op.body = '';
            accept = 'text/event-stream';
        } else {
            // written in another way it is the same question
            const args = dice.chance(0.15) ? [...(op.args ?? [])].reverse() : (op.args ?? []);
            const gap = dice.chance(0.1) ? ' ' : '';
            const members = args.map(([name, value]) => `"${dice.chance(0.03) ? `\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}` : name}":${gap}${value}`).join(`,${gap}`);
            const params = [];
            if (op.method === 'tools/call') params.push(`"name":"${op.name}"`, `"arguments":{${members}}`);
            else if (op.method === 'resources/read') params.push(`"uri":"${op.name}"`);
            else if (op.method === 'initialize') params.push(`"protocolVersion":"${op.version}"`, `"capabilities":${op.capabilities}`, '"clientInfo":{"name":"c","version":"1"}');
            else if (members !== '') params.push(members);
            if (op.era === 'modern' && !op.isNotification) params.push(`"_meta":{"${META}protocolVersion":"${MODERN}","${META}clientCapabilities":{},"progressToken":${op.number}}`);
            const method = op.isNotification ? 'notifications/initialized' : op.method;
            op.body = `{"jsonrpc":"2.0",${op.isNotification ? '' : `"id":${op.id},`}"method":"${method}"${params.length > 0 ? `,"params":{${params.join(',')}}` : ''}}`;
            if (op.era === 'modern') {
                mirrors.set('MCP-Protocol-Version', MODERN).set('Mcp-Method', method);
                if (MIRRORED[op.method]) mirrors.set('Mcp-Name', op.name);
            }
        }
        if (op.era === 'legacy' && op.method !== 'initialize') mirrors.set('MCP-Protocol-Version', op.version);
        const isMirrored = op.era === 'modern' && isRead;
        switch (oddity) {
        case 'proof':
            op.headers.push(['DPoP', 'proof']); // even one that is used again
            op.never = 'proof';
            break;
        case 'origin':
            op.origin = dice.of(['https://evil.example', 'null', 'https://app.example.evil', 'http://app.example']);
            op.headers.push(['Origin', op.origin]);
            op.never = 'origin';
            break;
        case 'name':
            if (!isMirrored || !mirrors.has('Mcp-Name')) break;
            mirrors.set('Mcp-Name', dice.of(['pub_a', 'x', `${op.name}x`]) === op.name ? 'y' : `${op.name}z`);
            op.never = 'header';
            break;
        case 'method':
            if (!isMirrored) break;
            mirrors.set('Mcp-Method', 'prompts/get');
            op.never = 'header';
            break;
        case 'version':
            if (!isMirrored) break;
            mirrors.set('MCP-Protocol-Version', '2025-11-25');
            op.never = 'header';
            break;
        case 'mirrorless':
            if (!isMirrored) break;
            mirrors.delete('Mcp-Method');
            op.never = 'header';
            break;
        case 'no-cache':
        case 'no-store':
            op.headers.push(dice.chance(0.2) && oddity === 'no-cache' ? ['Pragma', 'no-cache'] : ['Cache-Control', oddity]);
            if (op.rule.isFirm) break;
            op.never = 'client-control';
            op.isNotToBeKept = oddity === 'no-store';
            break;
        case 'only-if-cached':
            if (op.rule.kind.startsWith('note')) break;
            op.headers.push(['Cache-Control', oddity]);
            op.isOnlyIfCached = !op.rule.isFirm;
            break;
        case 'accept':
            accept = 'text/event-stream';
            op.never = 'accept';
            break;
        }
        op.where = `${op.extra ?? '-'} ${op.never === 'proof' ? 'proof' : '-'}`;
        op.headers.push(['Accept', accept], ['Content-Type', 'application/json'], ['X-Request-Id', op.number], ...mirrors);
        const session = op.session ?? op.stray;
        if (session) op.headers.push([cased('Mcp-Session-Id', dice), session.id]);
        if (op.language) op.headers.push(['Accept-Language', op.language]);
        if (op.extra) op.headers.push(['X-Tenant', op.extra]);
        for (const [name, value] of op.credential.headers) op.headers.push([cased(name, dice), value]);
    }
}
