/* SPDX-License-Identifier: Apache-2.0 */
// The server behind: it knows its callers (world.mjs), stamps every answer with the number of the exchange that it was made in, and keeps a record of
// each exchange, probes of the sidecar's own included. It also complains: about requests that nobody sent, that changed on their way, or that came
// with somebody else's credentials.
import { once } from 'node:events';
import net from 'node:net';
import { Dice, seedOf } from './dice.mjs';
import { Reader, chunk, header, lines } from './http.mjs';
import { markOf, now } from './world.mjs';

const REASONS = { 200: 'OK', 202: 'Accepted', 204: 'No Content', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 500: 'Internal Server Error', 503: 'Service Unavailable' };
const REMEMBER_MS = 30_000;
const CREDENTIAL_HEADERS = ['authorization', 'cookie', 'x-api-key'];

const sameUser = (a, b) => a === b || (a.claims !== null && b.claims !== null && a.others === b.others && JSON.stringify(a.claims) === JSON.stringify(b.claims));

export class Upstream {
    /** Number of an operation -> the operation, while its client waits. */
    operations = new Map();
    /** Serial number -> exchange, for as long as an answer may be found in a store. */
    exchanges = new Map();
    #serial = 0;
    #sockets = new Set();
    #probesUnderWay = new Map();
    #server = net.createServer({ noDelay: true }, (socket) => {
        this.#sockets.add(socket);
        socket.setEncoding('latin1');
        const reader = new Reader(false, (message) => this.#take(socket, message));
        socket.on('error', () => {});
        socket.on('close', () => this.#sockets.delete(socket));
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
        const isProbe = verb === 'POST' && message.body.includes('"id":"mcpcached-');
        const x = { serial: (this.#serial += 1), tick: run.clock(), ms: now(), verb, credential, isProbe, op: null, session: null, content: 'other' };
        this.exchanges.set(x.serial, x);
        if (isProbe) return this.#takeProbe(socket, message, x, sessionId);
        if (op === undefined && run.cut.has(number)) return socket.destroy(); // what a killed sidecar had sent
        if (op === undefined) {
            run.violation('request', `the upstream saw a request that nobody waits for: ${message.line} ${JSON.stringify(message.headers)} ${message.body}`);
            return socket.destroy();
        }
        if (op.credential !== credential) run.violation('credentials', `operation ${op.number} of ${op.credential.name} came with the credentials of ${credential.name}`, op);
        if (message.body !== op.body || verb !== op.verb || path !== op.path) run.violation('request', `operation ${op.number} changed on its way: ${message.line} ${message.body}`, op);
        if (sessionId !== (op.session ?? op.stray)?.id) run.violation('request', `operation ${op.number} of session ${(op.session ?? op.stray)?.id} came with session ${sessionId}`, op);
        if (op.exchange) run.violation('request', `operation ${op.number} came twice`, op);
        op.exchange = x;
        Object.assign(x, { op, session: op.session, era: op.era, method: op.method, name: op.name, question: op.question, where: op.where, rule: op.rule });
        this.#answer(socket, x, op.dice);
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
        if (!waiting) run.violation('probe', `a probe for ${x.credential.name} in ${sessionId}, who waits for nothing: ${message.body}`, x);
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
        const delay = dice.weighted([[84, 0], [8, dice.between(1, 3)], [6, dice.between(4, 25)], [2, dice.between(30, 120)]], 100);
        if (delay === 0) this.#send(socket, x, reply, dice);
        else setTimeout(() => this.#send(socket, x, reply, dice), delay);
    }

    #refuse(x, status) {
        const challenge = status === 401 ? [['WWW-Authenticate', 'Bearer']] : [];
        return this.#body(x, status, `{"jsonrpc":"2.0","id":${x.op?.id ?? x.id ?? 'null'},"error":{"code":-32001,"message":"refused #${x.serial} ${x.credential.name}"}}`, challenge);
    }
    #body(x, status, body, headers = []) { return { status, body, headers }; }

    #decide(x, dice) {
        const { world } = this.run;
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
        if (x.verb === 'GET') return { status: 200, events: [`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"#${x.serial}"}}`], headers: [] };
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
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"result":{"protocolVersion":"${op.version}","capabilities":{},"serverInfo":{"name":"s","version":"1"},"stamp":"${this.#stamp(x)}"}}`, [['Mcp-Session-Id', x.opened.id]]);
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
        if (denial === 'status') return this.#refuse(x, 403);
        if (op.isWrite) world.bump(op.dataKey);
        const isModern = x.era === 'modern';
        if (denial === 'error') {
            x.content = 'error';
            return this.#body(x, 200, `{"jsonrpc":"2.0","id":${op.id},"error":{"code":-32003,"message":"not allowed ${this.#stamp(x)}"}}`);
        }
        x.content = denial === 'isError' && op.method === 'tools/call' ? 'isError' : 'result';
        const stamp = this.#stamp(x);
        const members = [];
        if (isModern) members.push('"resultType":"complete"');
        if (x.content === 'isError') members.push('"isError":true');
        // what a vendor says of this exchange: it may speak of the caller
        const vendor = dice.chance(0.2) ? `"example.com/for":"${x.credential.name}"` : undefined;
        if (vendor !== undefined) members.push(`"_meta":{${vendor}}`);
        if (op.method === 'tools/call') {
            members.push(`"content":[{"type":"text","text":"${stamp} ${op.echo}"}]`);
            if (isModern && dice.chance(0.05)) x.cacheScope = 'private';
        } else if (op.method === 'resources/read') {
            members.push(`"contents":[{"uri":"${op.name}","mimeType":"text/plain","text":"${stamp} ${op.echo}"}]`);
        } else {
            members.push(`"stamp":"${stamp}"`);
        }
        const hint = isModern && op.method !== 'tools/call' ? this.#hint(op, dice) : undefined;
        if (hint) [x.hintMs, x.cacheScope] = hint;
        if (x.cacheScope !== undefined) members.push(`"cacheScope":"${x.cacheScope}"`);
        const headers = [];
        if (dice.chance(0.1)) {
            headers.push(['Cache-Control', 'private']);
            x.saysPrivate = true;
        }
        // what nobody may keep, and an answer to another question (its connection served somebody else before)
        const blemish = dice.weighted([[94, undefined], [2, ['Set-Cookie', `for=${x.credential.name}`]], [2, ['Cache-Control', 'no-store']], [1, ['Vary', '*']], [1, 'id']], 100);
        if (blemish === 'id') x.content = 'to another id';
        else if (blemish !== undefined) {
            headers.push(blemish);
            x.mayNotBeKept = blemish.join(': ');
        }
        x.parts = [`{${members.join(',')}`, hint ? ',"ttlMs":' : '', '}'];
        x.vendor = vendor;
        const id = blemish === 'id' ? `"not-${op.number}"` : op.id;
        return this.#body(x, 200, `{"jsonrpc":"2.0","id":${id},"result":${x.parts[0]}${x.parts[1]}${hint ? x.hintMs : ''}}}`, headers);
    }

    /** [ttlMs, cacheScope] of what carries them, as the server sees it now. */
    #hint(op, dice) {
        const { world } = this.run;
        const ttlMs = dice.of([700, 1500, 3000]) * this.run.phase.stretch;
        if (op.name?.startsWith('hint://none/')) return undefined;
        if (op.name?.startsWith('hint://priv/') || op.name?.startsWith('rule://mine/') || op.method === 'tools/list') return [ttlMs, 'private'];
        if (op.name?.startsWith('hint://flip/') || op.method === 'resources/list') return [ttlMs, world.isEverybodys(op.name || op.method) ? 'public' : 'private'];
        return [ttlMs, 'public'];
    }

    #send(socket, x, reply, dice) {
        const { run } = this;
        x.sentTick = run.clock();
        x.sentMs = now();
        x.status = reply.status;
        x.body = reply.body;
        if (x.probeKey !== undefined) this.#probesUnderWay.set(x.probeKey, this.#probesUnderWay.get(x.probeKey) - 1);
        run.note(x, `#${x.serial} ${x.isProbe ? 'probe ' : ''}${x.status} ${x.content}${x.saysPrivate ? ' private' : ''}${x.cacheScope ? ` ${x.cacheScope}` : ''}`);
        if (!x.op?.isElsewhere) run.judge.sent(x);
        if (socket.destroyed) return;
        const headers = [...reply.headers];
        if (x.opened === undefined && x.session && dice.chance(0.5)) headers.push(['Mcp-Session-Id', x.session.id]);
        const line = `HTTP/1.1 ${x.status} ${REASONS[x.status]}`;
        if (x.status === 204) return socket.write(lines(line, headers), 'latin1');
        const canStream = reply.events || (x.status === 200 && x.verb === 'POST' && !x.op?.isElsewhere);
        const form = reply.events ? 'events' : canStream ? dice.weighted([[60, 'length'], [15, 'chunked'], [25, 'events']], 100) : 'length';
        if (form === 'length') {
            socket.write(lines(line, [...headers, ['Content-Type', 'application/json'], ['Content-Length', reply.body.length]]) + reply.body, 'latin1');
        } else if (form === 'chunked') {
            const cut = dice.below(reply.body.length);
            socket.write(lines(line, [...headers, ['Content-Type', 'application/json'], ['Transfer-Encoding', 'chunked']]) + (cut === 0 ? '' : chunk(reply.body.slice(0, cut))) + chunk(reply.body.slice(cut)) + chunk(''), 'latin1');
        } else {
            const events = reply.events ?? [reply.body];
            if (!reply.events && dice.chance(0.3)) events.unshift(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"for ${x.credential.name}"}}`);
            const text = lines(line, [...headers, ['Content-Type', 'text/event-stream'], ['Transfer-Encoding', 'chunked']]);
            const data = (event) => chunk(`event: message\ndata: ${event}\n\n`);
            if (events.length > 1 && dice.chance(0.3)) {
                socket.write(text + data(events[0]), 'latin1');
                setTimeout(() => !socket.destroyed && socket.write(data(events[1]) + chunk(''), 'latin1'), dice.between(1, 15));
            } else {
                socket.write(text + events.map(data).join('') + chunk(''), 'latin1');
            }
        }
    }
}
