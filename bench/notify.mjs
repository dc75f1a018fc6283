/* SPDX-License-Identifier: Apache-2.0 */
// How late a client hears of a change: from the moment the upstream's data changes to the notification on the client's stream, for lifetimes of 1, 5 and 30 s, in front of upstreams with
// and without subscriptions of their own, in both eras. What is counted is verified: one notification for each change and none besides, and who reads again at once gets the new content.
// All rows at the same time, each with clients of its own. Usage: ./dev bench notify [--latency MS] [--clients N] [--seconds N]
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { legacy, modern } from '../tests/e2e/lib/rpc.mjs';
import { sleep } from '../tests/e2e/lib/wait.mjs';
import { median, startMcpcached } from './lib/parts.mjs';

const { values: given } = parseArgs({ options: { latency: { type: 'string', default: '50' }, clients: { type: 'string', default: '4' }, seconds: { type: 'string', default: '150' } } });
const LATENCY_MS = Number(given.latency);
const CLIENTS = Number(given.clients);
/** After that no further change is begun. */
const UNTIL_MS = performance.now() + Number(given.seconds) * 1000;
const TTLS_S = [1, 5, 30];
/** So long, after its notification, a second one of the same change is waited for: longer than the sidecar waits for the upstream's own. */
const QUIET_MS = 1500;

const POLICY = `version: 1
resources:
${TTLS_S.map((ttl) => `  - { uri: "bench://${ttl}s/**", ttl: ${ttl}s, scope: public }`).join('\n')}
`;
const SUBSCRIPTION_ID = 'io.modelcontextprotocol/subscriptionId';

// ---- the upstream -----------------------------------------------------------------------------------------------------------------

/** Answers after the latency, by what is true then. `tells`: it has subscriptions of its own. */
class Upstream {
    static async start(tells) {
        const upstream = new Upstream();
        upstream.tells = tells;
        await new Promise((resolve) => upstream.server.listen(0, '127.0.0.1', resolve));
        return upstream;
    }

    versions = new Map();
    /** [uri, what writes a notification] */
    listeners = new Set();
    sessions = new Map();
    server = http.createServer((req, res) => this.#serve(req, res));

    get url() { return `http://127.0.0.1:${this.server.address().port}/mcp`; }
    versionOf(uri) { return this.versions.get(uri) ?? 1; }

    /** The moment of the change. */
    change(uri) {
        this.versions.set(uri, this.versionOf(uri) + 1);
        const at = performance.now();
        for (const [wanted, tell] of this.listeners) if (wanted === uri) tell();
        return at;
    }

    async #serve(req, res) {
        const pieces = [];
        for await (const piece of req) pieces.push(piece);
        const message = pieces.length ? JSON.parse(Buffer.concat(pieces)) : { method: req.method };
        await sleep(LATENCY_MS);
        const say = (status, body, headers = {}) => {
            res.writeHead(status, { ...(body ? { 'Content-Type': 'application/json' } : {}), ...headers });
            res.end(body && JSON.stringify({ jsonrpc: '2.0', id: message.id, ...body }));
        };
        const stream = () => {
            res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
            res.flushHeaders();
            return (method, params) => res.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', method, params })}\n\n`);
        };
        const hear = (uri, tell) => {
            const listener = [uri, tell];
            this.listeners.add(listener);
            res.on('close', () => this.listeners.delete(listener));
        };
        const isModern = message.params?._meta !== undefined;
        const resources = this.tells ? { subscribe: true } : {};
        switch (message.method) {
        case 'resources/read': {
            const { uri } = message.params;
            // in the legacy era the lifetime is the policy's
            const hints = isModern ? { resultType: 'complete', ttlMs: 1000 * Number(/\d+/.exec(uri)), cacheScope: 'public' } : {};
            return say(200, { result: { ...hints, contents: [{ uri, text: `version ${this.versionOf(uri)}` }] } });
        }
        case 'server/discover':
            return say(200, { result: { resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: { resources }, serverInfo: { name: 'bench', version: '1' } } });
        case 'initialize': {
            const id = `session-${this.sessions.size + 1}`;
            this.sessions.set(id, { uris: new Set() });
            return say(200, { result: { protocolVersion: '2025-11-25', capabilities: { resources }, serverInfo: { name: 'bench', version: '1' } } }, { 'Mcp-Session-Id': id });
        }
        case 'notifications/initialized':
            return say(202);
        case 'ping':
            return say(200, { result: {} });
        case 'resources/subscribe':
            if (!this.tells) break;
            this.sessions.get(req.headers['mcp-session-id']).tell(message.params.uri);
            return say(200, { result: {} });
        case 'GET': {
            if (!this.tells) return say(405);
            const write = stream();
            this.sessions.get(req.headers['mcp-session-id']).tell = (uri) => hear(uri, () => write('notifications/resources/updated', { uri }));
            return undefined;
        }
        case 'subscriptions/listen': {
            if (!this.tells) break;
            const write = stream();
            const _meta = { [SUBSCRIPTION_ID]: message.id };
            write('notifications/subscriptions/acknowledged', { notifications: { resourceSubscriptions: message.params.notifications.resourceSubscriptions }, _meta });
            for (const uri of message.params.notifications.resourceSubscriptions) hear(uri, () => write('notifications/resources/updated', { uri, _meta }));
            return undefined;
        }
        }
        return say(isModern ? 404 : 200, { error: { code: -32601, message: 'Method not found' } });
    }

    close() {
        this.server.closeAllConnections();
        this.server.close();
    }
}

// ---- the clients ------------------------------------------------------------------------------------------------------------------

function open({ method, path: target, headers, body }, port) {
    const own = Object.fromEntries([...headers.filter(([, value]) => value !== undefined), ...(body === undefined ? [] : [['Content-Length', Buffer.byteLength(body)]])]);
    return new Promise((resolve, reject) => http.request({ host: '127.0.0.1', port, method, path: target, headers: own }, resolve).on('error', reject).end(body));
}

async function ask(request, port) {
    const res = await open(request, port);
    const pieces = [];
    for await (const piece of res) pieces.push(piece);
    const text = Buffer.concat(pieces).toString();
    if (res.statusCode >= 300) throw new Error(`${request.body}: ${res.statusCode} ${text}`);
    const message = text && JSON.parse(text);
    if (message.error) throw new Error(`${request.body}: ${text}`);
    return { headers: res.headers, result: message.result };
}

/** The messages of an event stream, each with the time of its last byte. */
class Stream {
    messages = [];
    constructor(res) {
        let text = '';
        if (res.statusCode !== 200) throw new Error(`a stream that is none: ${res.statusCode}`);
        res.setEncoding('utf8').on('data', (piece) => {
            const at = performance.now();
            text += piece;
            for (let cut; (cut = text.indexOf('\n\n')) >= 0; text = text.slice(cut + 2)) {
                const data = text.slice(0, cut).split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim()).join('');
                if (data) this.messages.push({ at, ...JSON.parse(data) });
            }
            this.wake?.();
        }).on('close', () => (this.closed = true)).on('error', () => {});
        this.res = res;
    }
    /** The message number n, from 0; undefined when it takes longer than that. */
    async message(n, withinMs) {
        const deadline = performance.now() + withinMs;
        while (this.messages.length <= n && performance.now() < deadline && !this.closed) {
            let timer;
            await Promise.race([new Promise((resolve) => (this.wake = resolve)), new Promise((resolve) => (timer = setTimeout(resolve, deadline - performance.now())))]);
            clearTimeout(timer);
        }
        return this.messages[n];
    }
}

async function subscribeModern(port, uri, token) {
    const stream = new Stream(await open(modern('subscriptions/listen', { notifications: { resourceSubscriptions: [uri] } }, { id: '"own"', token }), port));
    const ack = await stream.message(0, 5000);
    if (ack?.method !== 'notifications/subscriptions/acknowledged' || ack.params._meta[SUBSCRIPTION_ID] !== 'own' || ack.params.notifications.resourceSubscriptions?.[0] !== uri) throw new Error(`acknowledged otherwise: ${JSON.stringify(ack)}`);
    stream.messages.shift();
    return { stream, isRight: ({ method, params }) => method === 'notifications/resources/updated' && params.uri === uri && params._meta?.[SUBSCRIPTION_ID] === 'own' };
}

async function subscribeLegacy(port, uri, token, session) {
    const get = { method: 'GET', path: '/mcp', headers: [['Accept', 'text/event-stream'], ['MCP-Protocol-Version', '2025-11-25'], ['Mcp-Session-Id', session], ['Authorization', `Bearer ${token}`]] };
    const stream = new Stream(await open(get, port));
    await ask(legacy('resources/subscribe', { uri }, { token, session }), port);
    return { stream, isRight: ({ method, params }) => method === 'notifications/resources/updated' && params.uri === uri };
}

/** One client of a row: changes, one after the other, each at a random moment of the lifetime; the first one at once. Returns the delays. */
async function client(row, number) {
    const { port, upstream, era, ttl_s } = row;
    const uri = `bench://${ttl_s}s/${number}`;
    const token = `${era}-${ttl_s}-${number}`;
    let session;
    if (era === 'legacy') {
        const answer = await ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } }, { token }), port);
        session = answer.headers['mcp-session-id'];
        if (answer.result.capabilities.resources.subscribe !== true) throw new Error('subscribing is not offered');
        await ask(legacy('notifications/initialized', undefined, { id: null, token, session }), port);
    }
    const read = async () => (await ask(era === 'modern' ? modern('resources/read', { uri }, { token }) : legacy('resources/read', { uri }, { token, session }), port)).result.contents[0].text;
    const check = async (when) => {
        const [got, wanted] = [await read(), `version ${upstream.versionOf(uri)}`];
        if (got !== wanted) throw new Error(`${row.title}: ${when} a read brought ${got} instead of ${wanted}`);
    };
    await check('before');
    const { stream, isRight } = await (era === 'modern' ? subscribeModern(port, uri, token) : subscribeLegacy(port, uri, token, session));
    const delays = [];
    const limit = ttl_s * 1000 + 10_000;
    do {
        const heard = stream.messages.length;
        if (delays.length !== 0) await sleep(QUIET_MS + Math.random() * ttl_s * 1000);
        if (stream.messages.length !== heard) throw new Error(`${row.title}: told without a change: ${JSON.stringify(stream.messages.slice(heard))}`);
        const at = upstream.change(uri);
        const told = await stream.message(heard, limit);
        if (!told || !isRight(told)) throw new Error(`${row.title}: after ${limit} ms, change ${delays.length}, ${told ? JSON.stringify(told) : 'nothing'}`);
        delays.push(told.at - at);
        await check('after the notification');
    } while (performance.now() < UNTIL_MS);
    await sleep(QUIET_MS);
    if (stream.messages.length !== delays.length) throw new Error(`${row.title}: ${stream.messages.length} notifications of ${delays.length} changes`);
    stream.res.destroy();
    return delays;
}

// ---- the table --------------------------------------------------------------------------------------------------------------------

/** What the upstream takes, by itself: the longest of a few. */
async function roundTrip(upstream) {
    const port = upstream.server.address().port;
    let longest = 0;
    for (let n = 0; n < 20; n++) {
        const began = performance.now();
        await ask(modern('resources/read', { uri: 'bench://1s/nobody' }), port);
        longest = Math.max(longest, performance.now() - began);
    }
    return longest;
}

const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-notify-'));
const running = [];
try {
    const rows = [];
    let trip = 0;
    for (const tells of [false, true])
        for (const era of ['modern', 'legacy']) {
            const upstream = await Upstream.start(tells);
            running.push(upstream);
            trip = Math.max(trip, await roundTrip(upstream));
            const sidecar = await startMcpcached(upstream.url, dir, POLICY, { name: `${era}-${tells}` });
            running.push(sidecar);
            for (const ttl_s of TTLS_S) rows.push({ title: `${era === 'modern' ? 'listen' : 'subscribe, GET'}, upstream ${tells ? 'tells itself' : 'without'}`, era, ttl_s, upstream, port: sidecar.port });
        }
    console.log(`From the change of the upstream's data to the notification at the client, in ms; ${CLIENTS} clients for each row, all rows at the same time, about ${given.seconds} s.`);
    console.log(`The upstream takes ${LATENCY_MS} ms, measured ${trip.toFixed(0)} ms at most. bound: the lifetime, a tenth of it (1 s at most), and the upstream's answer.`);
    const outcomes = await Promise.all(rows.map(async (row) => (await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(row, number)))).flat()));
    console.log(`${''.padEnd(40)} ${'TTL'.padStart(5)} ${['changes', 'min', 'median', 'max', 'bound'].map((word) => word.padStart(8)).join(' ')}   held`);
    rows.forEach((row, at) => {
        const delays = outcomes[at];
        const ttl = row.ttl_s * 1000;
        const bound = ttl + Math.min(ttl / 10, 1000) + trip;
        const over = delays.filter((delay) => delay > bound).length;
        const figures = [delays.length, Math.min(...delays), median(delays), Math.max(...delays), bound].map((number) => number.toFixed(0).padStart(8)).join(' ');
        console.log(`${row.title.padEnd(40)} ${`${row.ttl_s} s`.padStart(5)} ${figures}   ${over === 0 ? 'yes' : `NO, ${over} later`}`);
        if (over !== 0) process.exitCode = 1;
    });
    console.log('Each change brought one notification and no second one; each read right after it brought the new content.');
} finally {
    for (const one of running.reverse()) await one.close();
    await rm(dir, { recursive: true, force: true });
}
