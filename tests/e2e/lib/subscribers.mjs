/* SPDX-License-Identifier: Apache-2.0 */
// Who wants to hear of changes, and what changes: a shelf of resources and lists behind the sidecar, written to the byte, and raw clients of both eras that subscribe.
// What proves that nothing was told is never a pause: the next change, or the next question of the sidecar's own, comes after it.
import assert from 'node:assert/strict';
import { contents, legacy, messageOf, modern, raw, textOf } from './rpc.mjs';
import { Stand } from './stand.mjs';
import { until } from './wait.mjs';

export const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId';

/** mine: private. public: everybody's. lasting: mine, for as long as a test takes. Balances are results of a tool. What is kept lives for a second, the shortest time between two polls. */
export const WATCHED = `version: 1
defaults:
  lists: off
  resources: hint
tools:
  - { name: canary, ttl: 60s, scope: principal }
  - { name: get_balance, ttl: 1s, scope: principal, tags: ["account:{/address}"], resource: "balance://{/address}" }
  - { name: get_fixed, ttl: 60s, scope: principal, tags: ["account:{/address}"], resource: "fixed://{/address}" }
  - { name: transfer, class: write, invalidates: ["account:{/from}", "account:{/to}"] }
resources:
  - { uri: "mine://**", ttl: 1s, scope: principal }
  - { uri: "public://**", ttl: 1s, scope: public }
  - { uri: "lasting://**", ttl: 60s, scope: principal }
`;
/** The same, and lists live for two seconds at most. */
export const WATCHED_LISTS = WATCHED.replace('lists: off', 'lists: 2s');

/** A stand whose upstream is a shelf. */
export async function shelfStand(t, { policy = WATCHED, flags = [], ...shelf } = {}) {
    const stand = await Stand.open({ t, policy, flags: ['--drain', '2s', ...flags] });
    stand.shelf = new Shelf(stand.upstream, shelf);
    return stand;
}

const LISTS = { 'tools/list': 'tools', 'prompts/list': 'prompts', 'resources/list': 'resources', 'resources/templates/list': 'resourceTemplates' };
const callerOf = (call) => call.header('authorization')?.replace(/^Bearer /, '');

/**
 * What stands there, and how the server that offers it behaves. By default it has no subscriptions: 405 for a GET, 404 for a listen.
 * @param own      it has subscriptions of its own: takes resources/subscribe, grants every listen what it asks for, streams on GET
 * @param get      status, or 'stream', for GETs without Last-Event-ID
 * @param listen   (call) => answers a listen; 'none' | 'grant'
 * @param via      form of the answers to POSTs
 * @param session  what initialize opens; null: none
 */
export class Shelf {
    /** URI -> text, or (token) => text; nothing: there is no such resource. */
    texts = {};
    /** Further members of a read's result. */
    more = () => ({});
    /** (call, token) => true: it has answered, otherwise than with what stands there. */
    instead = () => false;
    lists = { tools: [], prompts: [], resources: [], resourceTemplates: [] };
    balances = {};
    /** What initialize and discover say; raw() to the byte. */
    capabilities;
    deleteStatus = 200;
    #sessions = 0;

    constructor(upstream, { own = false, get = own ? 'stream' : 405, listen = own ? 'grant' : 'none', via = 'json', session = 's', capabilities } = {}) {
        Object.assign(this, { upstream, get, listen, via });
        this.capabilities = capabilities ?? { tools: {}, resources: own ? { subscribe: true } : {} };
        const on = (what, handler) => upstream.on(what, async (call) => {
            if (!(await this.instead(call, callerOf(call)))) await handler(call);
        });
        on('initialize', (call) => call.result(
            { protocolVersion: call.json.params.protocolVersion, capabilities: this.capabilities, serverInfo: { name: 'shelf', version: '1' } },
            { via: this.via, headers: session === null ? {} : { 'Mcp-Session-Id': `${session}-${(this.#sessions += 1)}` } }));
        on('notifications/initialized', (call) => call.reply(202));
        on('ping', (call) => call.result({}));
        on('server/discover', (call) => call.result({ resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: this.capabilities, serverInfo: { name: 'shelf', version: '1' }, ttlMs: 0, cacheScope: 'private' }, { via: this.via }));
        on('resources/read', (call) => this.#read(call));
        for (const method of ['resources/subscribe', 'resources/unsubscribe']) on(method, (call) => (own ? call.result({}, { via: this.via }) : call.error(-32601, 'Method not found')));
        for (const [method, member] of Object.entries(LISTS)) {
            on(method, (call) => call.result({ ...(call.json.params?._meta ? { resultType: 'complete', ttlMs: 1000, cacheScope: 'private' } : {}), [member]: this.lists[member] }, { via: this.via }));
        }
        for (const name of ['get_balance', 'get_fixed']) on(name, (call) => this.#tool(call, this.balances[call.json.params.arguments.address] ?? 0));
        on('transfer', (call) => this.#tool(call, 'done'));
        on('GET /mcp', (call) => (this.get === 'stream' || call.header('last-event-id') ? call.stream() : call.reply(this.get, { Allow: 'POST, DELETE', 'Content-Type': 'text/plain' }, 'no stream here')));
        on('DELETE /mcp', (call) => call.reply(this.deleteStatus));
        on('subscriptions/listen', async (call) => {
            if (this.listen === 'grant') return this.acknowledge(call);
            if (this.listen === 'none') return call.error(-32601, 'Method not found', { status: 404 });
            return this.listen(call);
        });
    }

    #tool(call, text) {
        const isModern = call.json.params._meta !== undefined;
        return call.result({ ...(isModern ? { resultType: 'complete' } : {}), content: [{ type: 'text', text: String(text) }] }, { via: this.via });
    }

    #read(call) {
        const { uri, _meta } = call.json.params;
        const there = this.texts[uri];
        const text = typeof there === 'function' ? there(callerOf(call)) : there;
        if (text === undefined) return call.error(_meta ? -32602 : -32002, 'Resource not found');
        const result = contents(uri, text, { ttlMs: uri.startsWith('lasting:') ? 60_000 : 1000, cacheScope: uri.startsWith('public:') ? 'public' : 'private', ...this.more(call) });
        if (!_meta) for (const member of ['resultType', 'ttlMs', 'cacheScope']) delete result[member];
        return call.result(result, { via: this.via });
    }

    /** Opens a listen's stream and grants `filter`: by default all that was asked for. */
    async acknowledge(call, filter = call.json.params.notifications) {
        await call.stream();
        await call.event(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"${SUBSCRIPTION}":${call.id}},"notifications":${textOf(filter)}}}`);
    }

    /** A notification on a stream that the upstream holds: of a listen it carries the id that this upstream knows. */
    tell(call, method, params = {}) {
        const tag = call.method === 'POST' ? { _meta: { [SUBSCRIPTION]: raw(call.id) } } : {};
        return call.event(textOf({ jsonrpc: '2.0', method: `notifications/${method}`, params: { ...params, ...tag } }));
    }
    updated(call, uri) { return this.tell(call, 'resources/updated', { uri }); }

    /** How often it was asked for this: a URI, or a method. By this caller, or by all. */
    asked(what, token) {
        return this.upstream.of(what).filter((call) => call.method === 'POST' && !/subscribe$/.test(call.json?.method) && (token === undefined || callerOf(call) === token)).length;
    }
    /** Waits until it was asked for `more` times more: what the sidecar knew before has been compared with what is there now, but for the last. */
    async untilAsked(what, more = 1, token) {
        const before = this.asked(what, token);
        await until(() => this.asked(what, token) >= before + more, { everyMs: 5, what: () => `${more} more questions for ${what}; there were ${this.asked(what, token) - before}` });
    }
    /** Waits until it was asked for at all: what stands there now is what its subscribers know. */
    async untilKnown(what, token) {
        await until(() => this.asked(what, token) >= 1, { everyMs: 5, what: `the first question for ${what}` });
    }
    /** One more is answered, and the sidecar has read the answer. */
    async untilLookedAt(stand, what, token) {
        await this.untilAsked(what, 2, token);
        await stand.turn();
    }
}

/** Whole events of a stream's text: {raw, type, id, data, message}. Comments are none. */
export function eventsOf(text) {
    return text.split('\n\n').slice(0, -1).map((block) => {
        const event = { raw: `${block}\n\n`, data: undefined };
        for (const line of block.split('\n')) {
            const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
            if (name === 'data') event.data = event.data === undefined ? value ?? '' : `${event.data}\n${value ?? ''}`;
            else if (name === 'event') event.type = value;
            else if (name === 'id') event.id = value ?? '';
        }
        if (event.data) event.message = JSON.parse(event.data);
        return event;
    }).filter((event) => event.data !== undefined || event.id !== undefined);
}

/** A client's end of an event stream. */
export class Stream {
    constructor(stand, connection, answer) {
        Object.assign(this, { stand, connection, answer });
    }
    get events() { return eventsOf(this.answer.text); }
    get messages() { return this.events.map((event) => event.message).filter(Boolean); }
    get ending() { return this.answer.ending; }
    close() { this.connection.close(); }

    /** The notifications of this method (and, where given, URI). */
    heard(method, uri) {
        return this.messages.filter((message) => message.method === `notifications/${method}` && (uri === undefined || message.params?.uri === uri));
    }
    told(uri) { return this.heard('resources/updated', uri).length; }
    get results() { return this.messages.filter((message) => 'result' in message || 'error' in message); }

    async until(condition, what, withinMs = 10_000) {
        await until(() => condition() || (this.ending && Promise.reject(new Error(`the stream ended (${this.ending}) before ${what}: ${this.answer.text.slice(-600)}`))),
            { withinMs, everyMs: 2, what: () => `${what}; so far: ${this.answer.text.slice(-600)}` });
    }
    untilTold(uri, times = 1) { return this.until(() => this.told(uri) >= times, `${times} times resources/updated of ${uri}`); }
    untilHeard(method, times = 1) { return this.until(() => this.heard(method).length >= times, `${times} times ${method}`); }
    /** Waits until it is over; how. */
    async over(withinMs = 10_000) {
        await until(() => this.ending, { withinMs, everyMs: 2, what: () => `the end of the stream; so far: ${this.answer.text.slice(-600)}` });
        return this.ending;
    }
}

/** A subscriptions/listen, as soon as its head is there. */
export async function listen(stand, t, filter, options = {}) {
    const connection = await stand.connect(t);
    await connection.send(modern('subscriptions/listen', { notifications: filter }, options));
    return new Stream(stand, connection, await connection.answer());
}

/** The same, acknowledged: `stream.honoured` says what. */
export async function listening(stand, t, filter, options) {
    const stream = await listen(stand, t, filter, options);
    assert.equal(stream.answer.status, 200, stream.answer.text);
    assert.match(stream.answer.header('content-type'), /^text\/event-stream/);
    await stream.untilHeard('subscriptions/acknowledged');
    stream.honoured = stream.messages[0].params.notifications;
    return stream;
}

/** A legacy session: its client. */
export class Session {
    static async open(stand, { token = 'alpha', version = '2025-11-25', initialize = { protocolVersion: version, capabilities: {}, clientInfo: { name: 'raw', version: '1' } } } = {}) {
        const session = Object.assign(new Session(), { stand, token, version });
        session.opened = await stand.ask(legacy('initialize', initialize, { token }));
        assert.equal(session.opened.status, 200, 'initialize');
        session.id = session.opened.header('mcp-session-id');
        session.result = (await messageOf(session.opened)).result;
        const initialized = await stand.ask(session.request('notifications/initialized', undefined, { id: null }));
        assert.equal(initialized.status, 202, 'notifications/initialized');
        return session;
    }
    /** @param token  somebody else's, perhaps */
    request(method, params, { token = this.token, ...more } = {}) {
        return legacy(method, params, { token, version: this.version, session: this.id, ...more });
    }
    async ask(method, params, options) {
        const answer = await this.stand.ask(this.request(method, params, options));
        const message = await messageOf(answer);
        assert.ok(!answer.text.includes('"notifications/resources/updated"'), 'what changed is no part of the answer to a POST');
        return message;
    }
    async subscribe(uri) { assert.deepEqual((await this.ask('resources/subscribe', { uri }, { id: '"sub"' })), { jsonrpc: '2.0', id: 'sub', result: {} }); }
    async unsubscribe(uri) { assert.deepEqual((await this.ask('resources/unsubscribe', { uri }, { id: '8' })), { jsonrpc: '2.0', id: 8, result: {} }); }
    async read(uri) {
        const { result, error } = await this.ask('resources/read', { uri });
        return result ? result.contents[0].text : error.code;
    }
    async call(name, args) { return (await this.ask('tools/call', { name, arguments: args })).result.content[0].text; }
    /** A GET stream; `status` other than 200 is returned as an answer. */
    async get(t, { lastEventId, token = this.token } = {}) {
        const connection = await this.stand.connect(t);
        const answer = await connection.ask({
            method: 'GET', path: '/mcp',
            headers: { Accept: 'text/event-stream', Authorization: `Bearer ${token}`, 'MCP-Protocol-Version': this.version, 'Mcp-Session-Id': this.id, 'Last-Event-ID': lastEventId },
        });
        if (answer.status === 200) assert.match(answer.header('content-type'), /^text\/event-stream/);
        return new Stream(this.stand, connection, answer);
    }
    async end() {
        const answer = await this.stand.ask({ method: 'DELETE', path: '/mcp', headers: { Authorization: `Bearer ${this.token}`, 'MCP-Protocol-Version': this.version, 'Mcp-Session-Id': this.id } });
        await answer.body();
        return answer;
    }
}

/** Somebody who hears of these URIs, whichever era he lives in: {stream, read(uri), call(tool, arguments), session?}. */
export async function subscriber(stand, t, era, uris, { token = 'alpha', id = '"l-1"' } = {}) {
    if (era === 'legacy') {
        const session = await Session.open(stand, { token });
        for (const uri of uris) await session.subscribe(uri);
        const stream = await session.get(t);
        assert.equal(stream.answer.status, 200, 'the session has a stream');
        return { era, session, stream, read: (uri) => session.read(uri), call: (name, args) => session.call(name, args) };
    }
    const stream = await listening(stand, t, { resourceSubscriptions: uris }, { token, id });
    assert.deepEqual(stream.honoured.resourceSubscriptions?.toSorted(), uris.toSorted(), 'all is honoured');
    const ask = async (method, params) => messageOf(await stand.ask(modern(method, params, { token })));
    return {
        era,
        stream,
        async read(uri) {
            const { result, error } = await ask('resources/read', { uri });
            return result ? result.contents[0].text : error.code;
        },
        call: async (name, args) => (await ask('tools/call', { name, arguments: args })).result.content[0].text,
    };
}
