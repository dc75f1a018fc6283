/* SPDX-License-Identifier: Apache-2.0 */
// The server behind: it knows its callers (world.mjs), stamps every answer with the number of the exchange that it was made in, and keeps a record of
// each exchange, probes, refreshes and polls of the sidecar's own included; it tells of changes in whatever streams are open. It also complains: about requests that nobody
// sent, that changed on their way, that came twice though they may change something, or that came with somebody else's credentials.
import { once } from 'node:events';
import net from 'node:net';
import { Dice, seedOf } from './dice.mjs';
import { Reader, chunk, header, lines } from './http.mjs';
import { LISTED, NOTED, RESULT_URIS, hasResultUri, ruleOf } from './phases.mjs';
import { markOf, now } from './world.mjs';

const REASONS = { 200: 'OK', 202: 'Accepted', 204: 'No Content', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout' };
const META = '"_meta"';
const REMEMBER_MS = 30_000;
const MODERN = '2026-07-28';
const ITEMS = { 'prompts/list': 'prompts', 'resources/list': 'resources', 'resources/templates/list': 'resourceTemplates' };
/** A stream that was lost is not sought again sooner. */
const RETRY_MS = 250;
const SLACK_MS = 30;
const CREDENTIAL_HEADERS = ['authorization', 'cookie', 'x-api-key'];
/** The word for what changed -> what is too old then, and what is only stale. */
const MEANINGS = {
    tools: { method: 'tools/list_changed', hard: ['list tools/list'], soft: [] },
    prompts: { method: 'prompts/list_changed', hard: ['list prompts/list'], soft: [] },
    resources: { method: 'resources/list_changed', hard: ['list resources/list', 'list resources/templates/list'], soft: ['reads'] },
};
/** What an acknowledgement grants, by what it makes old when its stream is lost: what was only asked for is nobody's loss. */
const isGranted = (op, subject) => op.granted?.has(subject.replace(/^list (resources\/templates|[a-z]+)\/list$/, (_, list) => `list ${list.split('/')[0]}`));
const COVERED_BY_GET = ['list tools/list', 'list prompts/list', 'list resources/list', 'list resources/templates/list', 'reads'];

const sameUser = (a, b) => a === b || (a.claims !== null && b.claims !== null && a.others === b.others && JSON.stringify(a.claims) === JSON.stringify(b.claims));

export class Upstream {
    /** Number of an operation -> the operation, while its client waits. */
    operations = new Map();
    /** The same for those that a refresh may follow, for some time longer. */
    refreshable = new Map();
    /** Serial number -> exchange, for as long as an answer may be found in a store. */
    exchanges = new Map();
    #serial = 0;
    #sockets = new Set();
    #probesUnderWay = new Map();
    /** Open streams: {socket, x, write, end}. */
    #streams = new Set();
    /** Number of a notification -> {hard, soft, sentTick}. */
    notices = new Map();
    #noticeCount = 0;
    /** What is told in the next event stream that answers something. */
    #untold = [];
    #server = net.createServer({ noDelay: true }, (socket) => {
        this.#sockets.add(socket);
        socket.setEncoding('latin1');
        const reader = new Reader(false, (message) => this.#take(socket, message));
        socket.on('error', () => {});
        socket.on('close', () => {
            this.#sockets.delete(socket);
            if (socket.x !== undefined) this.#ended(socket.x);
        });
        socket.on('data', (piece) => {
            try {
                reader.feed(piece);
            } catch (error) {
                this.run.violation('framing', `the upstream was sent ${error.message}`);
                socket.destroy();
            }
        });
    });

    /** @param run  the phase that runs: {world, judge, phase, clock, note, violation, count} */
    constructor(run) { this.run = run; }

    static async start(run) {
        const upstream = new Upstream(run);
        upstream.#server.listen(0, '127.0.0.1');
        await once(upstream.#server, 'listening');
        upstream.url = `http://127.0.0.1:${upstream.#server.address().port}/mcp`;
        return upstream;
    }
    async close() {
        for (const socket of this.#sockets) socket.destroy();
        await new Promise((done) => this.#server.close(done));
    }

    forget() {
        const before = now() - REMEMBER_MS;
        for (const [serial, x] of this.exchanges) {
            if (x.ms > before) break;
            this.exchanges.delete(serial);
        }
        for (const [number, op] of this.refreshable) {
            if (op.ms > now() - 3000) break;
            this.refreshable.delete(number);
        }
        for (const number of this.notices.keys()) {
            if (number > this.#noticeCount - 2000) break;
            this.notices.delete(number);
        }
    }

    /** The upstream's part of an exchange is over: all was sent, or the sidecar hung up. */
    #ended(x) {
        if (x.endTick !== undefined) return;
        x.endTick = this.run.clock();
        if (x.op?.isWrite && x.op.hasLeft) this.run.writeLeft(x.op);
    }

    // ---- what changes -------------------------------------------------------------------------------------------------------

    /** Tells whoever listens, or the next one who is answered by a stream. */
    announce(news) {
        const streams = [...this.#streams];
        if (streams.length > 0 && this.run.world.dice.chance(0.7)) this.run.world.dice.of(streams).write(this.#notice(news));
        else this.#untold.push(news);
    }
    /** The text of one event; sent at once. */
    #notice({ what, uri }) {
        const number = (this.#noticeCount += 1);
        const meaning = what === 'updated' ? { method: 'resources/updated', hard: [`uri ${uri}`], soft: [] } : MEANINGS[what];
        this.notices.set(number, { ...meaning, sentTick: this.run.clock() });
        const method = `notifications/${meaning.method}`;
        const message = `{"jsonrpc":"2.0","method":"${number % 8 === 0 ? method.replace('/', '\\/') : method}","params":{${uri === undefined ? '' : `"uri":"${number % 6 === 0 ? uri.replaceAll('/', '\\/') : uri}",`}"_meta":{"notice":${number}}}}`;
        this.run.count(`told of: ${what}`, 1);
        return number % 7 === 0 ? `[${message}]` : message;
    }

    // ---- what comes ---------------------------------------------------------------------------------------------------------

    #take(socket, message) {
        const { run } = this;
        const credential = run.world.byMark.get(markOf(message.headers.filter(([name]) => CREDENTIAL_HEADERS.includes(name))));
        if (credential === undefined) {
            run.violation('credentials', `the upstream saw credentials that nobody has: ${JSON.stringify(message.headers)}`);
            return socket.destroy();
        }
        const [verb, path] = message.line.split(' ');
        const sessionId = header(message, 'mcp-session-id');
        const number = Number(header(message, 'x-request-id'));
        const op = this.operations.get(number);
        const isOwn = verb === 'POST' && message.body.includes('"id":"mcpcached-');
        const isProbe = isOwn && /"method":"(ping|server\/discover)"/.test(message.body);
        const x = { serial: (this.#serial += 1), tick: run.clock(), ms: now(), verb, credential, socket, isProbe, op: null, session: null, content: 'other' };
        this.exchanges.set(x.serial, x);
        socket.x = x;
        if (isProbe) return this.#takeProbe(socket, message, x, sessionId);
        if (isOwn && !this.refreshable.has(number) && run.book.streams.has(number)) return this.#takePoll(socket, message, x, sessionId, run.book.streams.get(number));
        if (isOwn) return this.#takeRefresh(socket, message, x, sessionId, number);
        if (op === undefined && run.cut.has(number)) return socket.destroy(); // what a killed sidecar had sent
        if (op === undefined) {
            run.violation('request', `the upstream saw a request that nobody waits for: ${message.line} ${JSON.stringify(message.headers)} ${message.body}`, x);
            return socket.destroy();
        }
        if (op.credential !== credential) run.violation('credentials', `operation ${op.number} of ${op.credential.name} came with the credentials of ${credential.name}`, op);
        if ((op.isListen ? !this.#isListenOf(op, message.body) : message.body !== op.body) || verb !== op.verb || path !== op.path) run.violation('request', `operation ${op.number} changed on its way: ${message.line} ${message.body}`, op);
        if (sessionId !== (op.session ?? op.stray)?.id) run.violation('request', `operation ${op.number} of session ${(op.session ?? op.stray)?.id} came with session ${sessionId}`, op);
        // all that could have told the sidecar otherwise has been sent by now
        const veto = op.exchange ? undefined : run.judge.fresh.vetoOf(op);
        if (veto) {
            op.isWrite = true;
            run.note(op, `   ${op.number} is a write by #${veto.serial}`);
        }
        // a read may be asked again when its connection broke before anything was answered
        if (op.isListen && op.wasLost) {
            if (x.ms - op.lostMs < RETRY_MS - SLACK_MS) run.violation('retry', `stream ${op.number} was sought again after ${Math.round(x.ms - op.lostMs)} ms`, op);
            run.count('listen sought again', 1);
        } else if (op.isStream && op.exchange?.knowsNoStreams && !op.isProbed) {
            // whom it does not know to be let in is probed, and his stream is asked for once more
            op.isProbed = true;
            run.count('stream after a probe', 1);
        } else if (op.exchange && (op.isWrite || !['reset', 'hang'].includes(op.exchange.fault))) run.violation('request', `operation ${op.number} came twice: after #${op.exchange.serial} (${op.exchange.fault ?? op.exchange.status}) as #${x.serial}`, op);
        if (op.isOnlyIfCached) run.violation('only-if-cached', `operation ${op.number} came upstream although its client wants what is cached only`, op);
        op.exchange = x;
        this.#about(x, op);
        if (op.isWrite) run.judge.writeArrived(x);
        this.#answer(socket, x, op.dice);
    }

    /** What it asks for, without tools' results: of these only the sidecar knows. */
    #isListenOf(op, body) {
        // for a token that is over nothing is kept
        if (body === op.body) return !op.uris.some((uri) => RESULT_URIS.includes(uri)) || op.credential.maySeemExpired();
        const asked = JSON.parse(body);
        const wanted = JSON.parse(op.body);
        for (const { params } of [asked, wanted]) {
            const { notifications } = params;
            if (notifications.resourceSubscriptions?.length >= 0) notifications.resourceSubscriptions = notifications.resourceSubscriptions.filter((uri) => params === asked.params || !RESULT_URIS.includes(uri));
            if (notifications.resourceSubscriptions?.length === 0) delete notifications.resourceSubscriptions;
        }
        return JSON.stringify(asked) === JSON.stringify(wanted);
    }

    /** A poll is a question about what somebody is subscribed to, in his name, while he has a stream open. */
    #takePoll(socket, message, x, sessionId, stream) {
        const { run } = this;
        const asked = JSON.parse(message.body);
        const { op } = stream;
        const { era, credential, session } = op;
        const name = asked.params?.uri ?? '';
        const polled = { number: op.number, id: JSON.stringify(asked.id), credential, session, era, method: asked.method, name, dataKey: name || undefined, where: '- -', args: [], echo: name, path: op.path, isPoll: true, dice: new Dice(seedOf('poll', x.serial)) };
        polled.rule = ruleOf(run.phase, asked.method, name);
        polled.question = [era, era === 'modern' ? MODERN : session.version, asked.method, name, 'lang=-', 'extra=-', op.path].join(' ');
        this.#about(x, polled);
        x.isPoll = true;
        x.isRefresh = true;
        run.count('polls', 1);
        run.note(x, `poll ${asked.method} ${name} for stream ${op.number}`);
        const complain = (word, text) => run.violation(`poll: ${word}`, `${text}: ${message.line} session ${sessionId} ${message.body}`, op);
        if (credential !== x.credential || sessionId !== session?.id || message.line !== `POST ${op.path} HTTP/1.1`) complain('name', `a poll in another's name than ${credential.name} (${x.credential.name})`);
        if (header(message, 'last-event-id') !== undefined || (era === 'modern' && (header(message, 'mcp-method') !== asked.method || (header(message, 'mcp-name') ?? '') !== name))) complain('headers', `its headers are another question's: ${JSON.stringify(message.headers)}`);
        const objection = run.book.objectionToPoll(stream, x);
        if (objection) complain(...objection);
        this.#answer(socket, x, polled.dice);
    }

    #about(x, op) {
        Object.assign(x, { op, session: op.session, era: op.era, method: op.method, name: op.name, dataKey: op.dataKey, question: op.question, where: op.where, rule: op.rule });
    }

    /** A refresh is the question of a client who got a stale answer, in his name, without what binds it to his exchange. */
    #takeRefresh(socket, message, x, sessionId, number) {
        const { run } = this;
        const op = this.refreshable.get(number);
        const complain = (text) => run.violation('refresh', `${text}: ${message.line} session ${sessionId} ${message.body}`, op ?? x);
        run.count('refreshes', 1);
        if (op === undefined) {
            if (!run.cut.has(number)) complain(`a refresh after operation ${number}, which could not ask for one`);
            return socket.destroy();
        }
        const asked = JSON.parse(message.body);
        const wanted = JSON.parse(op.body);
        const { id } = asked;
        asked.id = wanted.id = 0;
        if (wanted.params?._meta) delete wanted.params._meta.progressToken;
        if (JSON.stringify(asked) !== JSON.stringify(wanted)) complain(`a refresh of another question than operation ${number}: ${op.body}`);
        if (op.credential !== x.credential || sessionId !== op.session?.id || message.line !== `POST ${op.path} HTTP/1.1`) complain(`a refresh in another's name than ${op.credential.name}`);
        if (op.never) complain(`a refresh for who got no stale answer (${op.never})`);
        this.#about(x, { ...op, id: JSON.stringify(id), exchange: x, isWrite: false, hasLeft: false, isRefresh: true });
        x.isRefresh = true;
        run.note(x, `refresh after ${number}`);
        this.#answer(socket, x, new Dice(seedOf('refresh', x.serial)));
    }

    /** A probe is a question of the sidecar's own: with a caller's credentials, the cheapest of his era, and only while he waits for something. */
    #takeProbe(socket, message, x, sessionId) {
        const { run } = this;
        const asked = JSON.parse(message.body);
        x.era = asked.params?._meta?.['io.modelcontextprotocol/protocolVersion'] === undefined ? 'legacy' : 'modern';
        x.session = sessionId === undefined ? null : (run.world.sessions.get(sessionId) ?? null);
        x.where = `${header(message, 'x-tenant') ?? '-'} ${header(message, 'dpop') === undefined ? '-' : 'proof'}`;
        const key = `${x.credential.index} ${sessionId ?? ''} ${x.where}`;
        const waiting = [...this.operations.values()].some((op) => op.credential === x.credential && op.era === x.era && op.session?.id === sessionId && op.where === x.where);
        run.count('probes', 1);
        run.note(x, `probe ${asked.method}`);
        if (!run.phase.probe) run.violation('probe', `a probe although the policy says off: ${message.body}`, x);
        if (!waiting && !run.book.hadStream(x)) run.violation('probe', `a probe for ${x.credential.name} in ${sessionId}, who waits for nothing: ${message.body}`, x);
        if (asked.method !== (x.era === 'legacy' ? 'ping' : 'server/discover')) run.violation('probe', `a strange probe: ${message.line} session ${sessionId} ${message.body}`, x);
        const underWay = (this.#probesUnderWay.get(key) ?? 0) + 1;
        if (underWay > 1) run.violation('probe', `${underWay} probes at once for ${x.credential.name} in ${sessionId}`, x);
        this.#probesUnderWay.set(key, underWay);
        x.probeKey = key;
        x.id = JSON.stringify(asked.id);
        this.#answer(socket, x, new Dice(seedOf('probe', x.serial)));
    }

    // ---- what goes ----------------------------------------------------------------------------------------------------------

    #answer(socket, x, dice) {
        const reply = this.#decide(x, dice);
        // the decision stands as of the request's arrival; the answer may take its time
        let delay = dice.weighted([[84, 0], [8, dice.between(1, 3)], [6, dice.between(4, 25)], [2, dice.between(30, 120)]], 100);
        if (x.op?.isOfHerd && dice.chance(0.7)) delay = dice.between(2, 40);
        if (x.fault === 'hang') delay = dice.between(300, 500);
        if (delay === 0) this.#send(socket, x, reply, dice);
        else setTimeout(() => this.#send(socket, x, reply, dice), delay);
    }

    #refuse(x, status) {
        const challenge = status === 401 ? [['WWW-Authenticate', 'Bearer']] : [];
        return this.#body(x, status, `{"jsonrpc":"2.0","id":${x.op?.id ?? x.id ?? 'null'},"error":{"code":-32001,"message":"refused #${x.serial} ${x.credential.name}"}}`, challenge);
    }
    #body(x, status, body, headers = []) { return { status, body, headers }; }

    #decide(x, dice) {
        const { run } = this;
        const { world } = run;
        const { op, session } = x;
        if (op?.isElsewhere) return this.#body(x, op.elsewhereStatus, `"elsewhere #${x.serial}"`);
        const refusal = world.refusalOf(x.credential);
        if (refusal) return this.#refuse(x, refusal);
        if (session && (world.isGone(session) || (session.isStrict && !sameUser(session.owner, x.credential)))) return this.#refuse(x, 404);
        if (dice.chance(x.isProbe ? 0.04 : 0.005)) return this.#refuse(x, dice.of([500, 503]));
        if (x.isProbe) {
            if (dice.chance(0.1)) {
                x.content = 'error';
                return this.#body(x, 200, `{"jsonrpc":"2.0","id":${x.id},"error":{"code":-32601,"message":"no"}}`);
            }
            x.content = 'result';
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${x.id},"result":${x.era === 'legacy' ? '{}' : '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"serverInfo":{"name":"s","version":"1"},"ttlMs":0,"cacheScope":"private"}'}}`);
        }
        if (op?.isListen && !world.tells(x.credential)) {
            x.knowsNoStreams = true;
            const error = `{"jsonrpc":"2.0","id":${op.id},"error":{"code":-32601,"message":"no such method"}}`;
            const how = op.dice.of(['404', 'json', 'events']);
            if (how === 'events') return { status: 200, events: [error], headers: [] };
            return this.#body(x, how === '404' ? 404 : 200, error);
        }
        if (op?.isStream && x.verb === 'GET' && session && !session.tells) {
            x.knowsNoStreams = true;
            return this.#body(x, 405, '');
        }
        if (op?.isStream) return { status: 200, isStream: true, headers: [] };
        if (op?.method === 'resources/subscribe' || op?.method === 'resources/unsubscribe') {
            if (!session?.tells) return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"error":{"code":-32601,"message":"no such method"}}`);
            run.count(`upstream ${op.method}`, 1);
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"result":{}}`);
        }
        if (x.verb === 'GET') return { status: 200, events: [`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"#${x.serial}"}}`], hasIds: true, headers: [] };
        if (x.verb === 'DELETE') {
            if (!session || dice.chance(0.1)) return this.#body(x, 405, '', []);
            session.gone = true;
            return this.#body(x, dice.of([200, 204]), '');
        }
        if (x.verb !== 'POST') return this.#body(x, 405, '');
        if (op.isNotification) return this.#body(x, 202, '');
        if (x.method === 'initialize') {
            x.content = 'result';
            x.opened = world.openSession(x.credential, { version: op.version, capabilities: op.capabilities, dice });
            x.capabilities = x.opened.tells ? '{"x":1,"tools":{},"resources":{"subscribe":true,"listChanged":true}}' : dice.of(['{"resources":{},"tools":{"y":[1]},"prompts":{}}', '{"prompts":{}, "resources":{"z": null}}', '{"tools":{},"resources":{"subscribe":false}}']);
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"result":{"protocolVersion":"${op.version}","capabilities":${x.capabilities},"serverInfo":{"name":"s","version":"1"},"stamp":"${this.#stamp(x)}"}}`, [['Mcp-Session-Id', x.opened.id]]);
        }
        if (x.method === 'ping') {
            x.content = 'result';
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"result":{"stamp":"${this.#stamp(x)}"}}`);
        }
        return this.#read(x, op, dice);
    }

    #stamp(x) {
        return `#${x.serial} who=${x.credential.name} session=${x.session?.id ?? '-'} v=${x.op.dataKey === undefined ? '-' : this.run.world.versionOf(x.op.dataKey)}`;
    }

    /** Lists, resources and tools. */
    #read(x, op, dice) {
        const { world } = this.run;
        const denial = world.denialOf(x.credential, op.name);
        if (NOTED.includes(op.name)) x.definition = world.definitions.get(op.name).number;
        if (denial === 'status') return this.#refuse(x, 403);
        if (op.isWrite) {
            world.bump(op.dataKey);
            x.fault = dice.weighted([[88, undefined], [5, 'reset'], [3, 'truncate'], [2, 'hang'], [2, 'status']], 100);
        } else if (op.rule?.timeoutMs !== undefined) {
            x.fault = world.failureOf(op.name);
        }
        if (x.fault === 'status') return this.#refuse(x, dice.of([500, 502, 503, 504]));
        const isModern = x.era === 'modern';
        if (denial === 'error') {
            x.content = 'error';
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"error":{"code":-32003,"message":"not allowed ${this.#stamp(x)}"}}`);
        }
        if (op.method === 'resources/read' && world.gone.has(op.name)) {
            x.content = 'error';
            x.isGone = true;
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"error":{"code":${dice.of([-32002, -32602])},"message":"not there ${this.#stamp(x)}"}}`);
        }
        x.content = denial === 'isError' && op.method === 'tools/call' ? 'isError' : 'result';
        const stamp = this.#stamp(x);
        const members = [];
        if (isModern) members.push('"resultType":"complete"');
        if (x.content === 'isError') members.push('"isError":true');
        // what a vendor says of this exchange: it may speak of the caller; and what is said to caches
        const vendor = dice.chance(0.2) ? `"example.com/for":"${x.credential.name}"` : undefined;
        const key = op.dataKey?.startsWith('k') ? op.dataKey : 'k0';
        // what is watched is purged by little
        const isWatched = op.name?.startsWith('seen') || op.method in ITEMS || op.method === 'tools/list';
        const tags = !op.isWrite && !isWatched && dice.chance(0.1) ? `"io.mcpcached/tags":["dyn:${key}"]` : undefined;
        const meta = dice.chance(0.5) ? [vendor, tags] : [tags, vendor];
        const metaOf = (...kept) => (meta.some(Boolean) ? `"_meta":{${meta.filter((member) => member !== undefined && kept.includes(member)).join(',')}}` : '');
        x.tags = tags === undefined ? [] : [`tag dyn:${key}`];
        if (meta.some(Boolean)) members.push(META);
        if (op.method === 'tools/call') {
            // of what others may hear of, the content says nothing of the exchange
            if (hasResultUri(op.name)) members.push(`"stamp":"${stamp}","content":[{"type":"text","text":"${world.viewOf(op.dataKey, x)} ${op.echo}"}]`);
            else members.push(`"content":[{"type":"text","text":"${stamp} ${op.echo}"}]`);
            if (isModern && dice.chance(0.05)) x.cacheScope = 'private';
        } else if (op.method === 'resources/read') {
            const view = world.viewOf(op.name, x);
            const ofView = new Dice(seedOf(op.name, view));
            const part = ofView.chance(0.15) ? `sub://${ofView.below(3)}` : undefined;
            if (part !== undefined) x.tags.push(`uri ${part}`);
            members.push(`"stamp":"${stamp}","contents":[{"uri":"${op.name}","mimeType":"text/plain","text":"${view} ${op.echo}"}${part === undefined ? '' : `,{"uri":"${part}","text":""}`}]`);
        } else {
            members.push(`"stamp":"${stamp}"`);
            if (op.method === 'tools/list') members.push(`"tools":[${this.#tools(x)}]`);
            if (op.method in ITEMS) members.push(`"${ITEMS[op.method]}":[{"name":"a","description":"v=${world.versionOf(op.method)}"}]`);
        }
        const hint = isModern && op.method !== 'tools/call' ? this.#hint(op, dice) : undefined;
        if (hint) [x.hintMs, x.cacheScope] = hint;
        if (x.cacheScope !== undefined) members.push(`"cacheScope":"${x.cacheScope}"`);
        const headers = [];
        if (dice.chance(0.1)) {
            headers.push(['Cache-Control', 'private']);
            x.saysPrivate = true;
        }
        if (!op.isWrite && !isWatched && dice.chance(0.08)) {
            headers.push(['Cache-Groups', `"grp:${key}", "other";a=1`]);
            x.tags.push(`tag grp:${key}`);
        } else if (op.isWrite && dice.chance(0.3)) {
            headers.push(['Cache-Group-Invalidation', `"grp:${key}"`]);
            x.groups = [`tag grp:${key}`];
        }
        if (op.isNotToBeKept) x.mayNotBeKept = 'no-store';
        // what nobody may keep, and an answer to another question (its connection served somebody else before)
        const blemish = dice.weighted([[94, undefined], [2, ['Set-Cookie', `for=${x.credential.name}`]], [2, ['Cache-Control', 'no-store']], [1, ['Vary', '*']], [1, 'id']], 100);
        x.isBlemished = blemish !== undefined;
        if (blemish === 'id') x.content = 'to another id';
        else if (blemish !== undefined) {
            headers.push(blemish);
            x.mayNotBeKept = blemish.join(': ');
        }
        const head = `{${members.join(',')}`;
        x.heads = { sent: head.replace(META, metaOf(vendor, tags)), own: head.replace(META, metaOf(vendor)), everybodys: head.replace(META, metaOf()) };
        x.parts = [hint ? ',"ttlMs":' : '', '}'];
        const id = blemish === 'id' ? `"not-${op.number}"` : op.id;
        return this.#body(x, 200, `{"jsonrpc":"2.0","id":${id},"result":${x.heads.sent}${x.parts[0]}${hint ? x.hintMs : ''}}}`, headers);
    }

    /** What tools/list says of each tool; of some it says something else now and then. */
    #tools(x) {
        x.definitions = new Map(this.run.world.definitions);
        return LISTED.map((name) => {
            const noted = x.definitions.get(name);
            const annotations = noted?.text ? `,"annotations":${noted.text}` : '';
            return `{"name":"${name}","inputSchema":{"type":"object"},"outputSchema":{"type":"object","$comment":"${noted?.number ?? 0}"}${annotations}}`;
        }).join(',');
    }

    /** [ttlMs, cacheScope] of what carries them, as the server sees it now. */
    #hint(op, dice) {
        const { world } = this.run;
        const ttlMs = dice.of(op.name?.startsWith('seen:') ? [300, 500] : [700, 1500, 3000]) * this.run.phase.stretch;
        if (op.name?.startsWith('hint://none/')) return undefined;
        if (op.name?.startsWith('hint://priv/') || op.name?.startsWith('rule://mine/') || op.name?.startsWith('seen://mine/') || op.method === 'tools/list') return [ttlMs, 'private'];
        if (op.name?.startsWith('hint://flip/') || op.name?.startsWith('seen://hint/') || op.method === 'resources/list') return [ttlMs, world.isEverybodys(op.name || op.method) ? 'public' : 'private'];
        return [ttlMs, 'public'];
    }

    #send(socket, x, reply, dice) {
        const { run } = this;
        if (x.probeKey !== undefined) this.#probesUnderWay.set(x.probeKey, this.#probesUnderWay.get(x.probeKey) - 1);
        if (x.fault === 'reset' || x.fault === 'hang') return this.#breakOff(socket, x);
        x.sentTick = run.clock();
        x.sentMs = now();
        x.status = reply.status;
        x.body = reply.body;
        run.note(x, `#${x.serial} ${x.isProbe ? 'probe ' : ''}${x.status} ${x.fault ?? x.content}${x.saysPrivate ? ' private' : ''}${x.cacheScope ? ` ${x.cacheScope}` : ''}`);
        if (!x.op?.isElsewhere) run.judge.sent(x);
        run.book.sent(x);
        if (x.definitions !== undefined && x.content === 'result') run.judge.fresh.listSent(x);
        if (x.status >= 500 || x.fault === 'truncate' || x.sentMs - x.ms > (x.rule?.timeoutMs ?? Infinity) / 2) run.judge.fresh.failed(x);
        if (socket.destroyed) return;
        const headers = [...reply.headers];
        if (x.opened === undefined && x.session && dice.chance(0.5)) headers.push(['Mcp-Session-Id', x.session.id]);
        const line = `HTTP/1.1 ${x.status} ${REASONS[x.status]}`;
        if (reply.isStream) return this.#stream(socket, x, lines(line, [...headers, ['Content-Type', 'text/event-stream'], ['Transfer-Encoding', 'chunked']]), dice);
        if (x.fault === 'truncate') {
            const half = reply.body.slice(0, dice.below(reply.body.length));
            const asEvents = dice.chance(0.4);
            socket.write(asEvents ? lines(line, [...headers, ['Content-Type', 'text/event-stream'], ['Transfer-Encoding', 'chunked']]) + chunk(`data: ${half}`) : lines(line, [...headers, ['Content-Type', 'application/json'], ['Content-Length', reply.body.length]]) + half, 'latin1');
            setTimeout(() => this.#breakOff(socket, x), dice.chance(0.5) ? 0 : dice.between(1, 20));
            return;
        }
        const write = (text, isLast) => {
            if (socket.destroyed) return;
            if (isLast) this.#ended(x);
            socket.write(text, 'latin1');
        };
        if (x.status === 204) return write(lines(line, headers), true);
        const canStream = reply.events || (x.status === 200 && x.verb === 'POST' && !x.op?.isElsewhere);
        const form = reply.events ? 'events' : canStream ? dice.weighted([[60, 'length'], [15, 'chunked'], [25, 'events']], 100) : 'length';
        if (form === 'length') return write(lines(line, [...headers, ['Content-Type', 'application/json'], ['Content-Length', reply.body.length]]) + reply.body, true);
        if (form === 'chunked') {
            const cut = dice.below(reply.body.length);
            return write(lines(line, [...headers, ['Content-Type', 'application/json'], ['Transfer-Encoding', 'chunked']]) + (cut === 0 ? '' : chunk(reply.body.slice(0, cut))) + chunk(reply.body.slice(cut)) + chunk(''), true);
        }
        const events = reply.events ?? [reply.body];
        if (!reply.events && dice.chance(0.3)) events.unshift(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"for ${x.credential.name}"}}`);
        const text = lines(line, [...headers, ['Content-Type', 'text/event-stream'], ['Transfer-Encoding', 'chunked']]);
        const data = (event) => chunk(`event: message\n${reply.hasIds ? `id: ${x.serial}\n` : ''}data: ${event}\n\n`);
        const isTold = this.#untold.length > 0 && dice.chance(0.7);
        if ((events.length > 1 || isTold) && dice.chance(0.3)) {
            if (isTold) events.unshift(this.#notice(this.#untold.shift()));
            write(text + data(events[0]), false);
            setTimeout(() => write(events.slice(1).map(data).join('') + chunk(''), true), dice.between(1, 15));
        } else {
            if (isTold) events.unshift(this.#notice(this.#untold.shift()));
            write(text + events.map(data).join('') + chunk(''), true);
        }
    }

    /** Hangs up in the middle of an answer, or before it. */
    #breakOff(socket, x) {
        const { run } = this;
        run.note(x, `#${x.serial} ${x.fault}`);
        run.count(`broken off: ${x.fault}`, 1);
        run.judge.fresh.failed(x);
        this.#ended(x);
        socket.destroy();
    }

    /** It tells of a part of what was asked for, the same part each time. */
    #acknowledgement(op) {
        const { tools, prompts, resources } = op.lists;
        op.granted ??= new Set([...Object.entries({ tools, prompts, resources }).filter(([, isAsked]) => isAsked).map(([what]) => `list ${what}`), ...op.uris.filter((uri) => !RESULT_URIS.includes(uri)).map((uri) => `uri ${uri}`)].filter(() => op.dice.chance(0.6)));
        const lists = ['tools', 'prompts', 'resources'].filter((what) => op.granted.has(`list ${what}`)).map((what) => `"${what}ListChanged":true`);
        const uris = op.uris.filter((uri) => op.granted.has(`uri ${uri}`));
        const notifications = [...lists, ...(uris.length > 0 ? [`"resourceSubscriptions":${JSON.stringify(uris)}`] : [])].join(',');
        return `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{${notifications}},"_meta":{"io.modelcontextprotocol/subscriptionId":${op.id}}}}`;
    }

    /** An open stream, until somebody ends it; what it would have told of is in doubt when that was the upstream, unless the client can go on where it ended. */
    #stream(socket, x, head, dice) {
        const { run } = this;
        let events = 0;
        const hasIds = dice.chance(0.4);
        const data = (event) => chunk(`${hasIds ? `id: ${x.serial}-${(events += 1)}\n` : ''}data: ${event}\n\n`);
        const stream = { x, write: (event) => !socket.destroyed && socket.write(data(event), 'latin1') };
        const acknowledged = x.verb === 'GET' ? [] : [data(this.#acknowledgement(x.op))];
        socket.write(head + acknowledged.join(''), 'latin1');
        this.#streams.add(stream);
        socket.once('close', () => this.#streams.delete(stream));
        if (dice.chance(run.phase.tells ? 0.6 : 0.9)) return;
        const how = dice.of(['end', 'destroy']);
        setTimeout(() => {
            if (socket.destroyed) return;
            this.#streams.delete(stream);
            x.lostTick = run.clock();
            Object.assign(x.op, { wasLost: true, lostMs: now() });
            run.book.lost(x);
            x.lost = how === 'end' && hasIds && events > 0 ? [] : x.verb === 'GET' ? COVERED_BY_GET : x.op.covers.filter((subject) => isGranted(x.op, subject));
            run.note(x, `#${x.serial} stream: ${how}${hasIds ? ' with ids' : ''}`);
            if (how === 'end') socket.write(chunk(''), 'latin1');
            else socket.destroy();
        }, dice.between(20, 300));
    }
}
