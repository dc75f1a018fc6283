/* SPDX-License-Identifier: Apache-2.0 */
// An upstream that does exactly what a test tells it: it hands over each request as it came and sends the bytes, pauses and endings that the
// test decides on. It knows HTTP framing and just enough JSON-RPC to echo an id; it never behaves well by itself.
import net from 'node:net';
import { ByteSource, formatChunk, formatHead, framingOf, headerAll, headerOne, headerPairs, readBody, readHead } from './http1.mjs';
import { soon } from './raw.mjs';
import { until } from './wait.mjs';
import { textOf } from './rpc.mjs';

const REASONS = { 200: 'OK', 202: 'Accepted', 204: 'No Content', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed' };

/** One request that reached the upstream, and the means to answer it. */
export class Call {
    method;
    target;
    httpVersion;
    headers;
    body;
    /** Which of the upstream's connections it came on, counted from 1, and the how many-eth request on it. */
    connection;
    position;
    #upstream;
    #socket;
    #source;
    #done;
    done = new Promise((resolve) => (this.#done = resolve));
    /** Set when the handler wants the connection to end after this reply. */
    closes = false;

    constructor(upstream, socket, source, facts) {
        this.#upstream = upstream;
        this.#socket = socket;
        this.#source = source;
        Object.assign(this, facts);
    }

    header(name) { return headerOne(this.headers, name); }
    headerAll(name) { return headerAll(this.headers, name); }
    get text() { return this.body.toString('utf8'); }
    /** The body as JSON; undefined when it is none. */
    get json() {
        try {
            return JSON.parse(this.text);
        } catch {
            return undefined;
        }
    }
    /** The id token as it stands in the body (the first "id" member: the builders of rpc.mjs write it before params). */
    get id() { return /"id"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\s]+)/.exec(this.text)?.[1] ?? 'null'; }
    get name() { return this.json?.params?.name ?? this.json?.params?.uri ?? this.json?.params?.taskId; }

    /** True when the peer has closed or reset the connection. */
    get isGone() { return this.#source.ending !== undefined; }
    /** Resolves when that happens: 'fin' or 'reset'. */
    gone(withinMs) { return soon(this.#source.ended, 'the peer to leave', withinMs); }

    /** Bytes as they are, in a TCP segment of their own as far as that can be had. */
    async write(bytes) {
        await new Promise((resolve) => this.#socket.write(bytes, () => resolve()));
    }

    /** Waits until the peer has read what was sent so far: the next write() starts a new read on its side. */
    async consumed() { await this.#upstream.turn(); }

    /** Writes pieces such that the peer reads each of them on its own. */
    async writeApart(pieces) {
        for (const piece of pieces) {
            await this.write(piece);
            await this.consumed();
        }
    }

    /** Status line and headers as given; nothing is added. */
    async head(status, headers = {}) {
        await this.write(Buffer.from(formatHead(`HTTP/1.1 ${status} ${REASONS[status] ?? 'Whatever'}`, headerPairs(headers)), 'latin1'));
    }
    async chunk(bytes) { await this.write(formatChunk(bytes)); }
    /** Ends a chunked body. */
    async endChunks() {
        await this.write('0\r\n\r\n');
        this.finish();
    }

    /** A whole reply with content-length. */
    async reply(status, headers = {}, body = '') {
        const bytes = Buffer.from(body);
        const pairs = headerPairs(headers);
        if (headerOne(pairs, 'content-length') === undefined && status !== 204) pairs.push(['Content-Length', bytes.length]);
        await this.write(Buffer.concat([Buffer.from(formatHead(`HTTP/1.1 ${status} ${REASONS[status] ?? 'Whatever'}`, pairs), 'latin1'), this.method === 'HEAD' ? Buffer.alloc(0) : bytes]));
        this.finish();
    }

    /** `{"jsonrpc":"2.0","id":…,"result":…}` as JSON, or as the one event of a stream. `result` may be anything that textOf() takes. */
    async result(result, { via = 'json', headers = {} } = {}) {
        await this.message(`{"jsonrpc":"2.0","id":${this.id},"result":${textOf(result)}}`, { via, headers });
    }
    async error(code, message, { status = 200, headers = {} } = {}) {
        await this.reply(status, [['Content-Type', 'application/json'], ...headerPairs(headers)], `{"jsonrpc":"2.0","id":${this.id},"error":{"code":${code},"message":${JSON.stringify(message)}}}`);
    }
    async message(text, { via = 'json', headers = {} } = {}) {
        if (via === 'json') return this.reply(200, [['Content-Type', 'application/json'], ...headerPairs(headers)], text);
        await this.stream(headers);
        await this.event(text);
        await this.endStream();
    }

    /** Opens an event stream, chunked as servers do. */
    async stream(headers = {}) {
        await this.head(200, [['Content-Type', 'text/event-stream'], ['Cache-Control', 'no-cache, no-transform'], ...headerPairs(headers), ['Transfer-Encoding', 'chunked']]);
    }
    /** One event: `event: message`, then `id:` when given, then the data (text). Returns the bytes that were sent. */
    async event(data, { id, type = 'message' } = {}) {
        const bytes = `${type ? `event: ${type}\n` : ''}${id === undefined ? '' : `id: ${id}\n`}data: ${data}\n\n`;
        await this.sse(bytes);
        return bytes;
    }
    /** Stream bytes as they are, as one chunk. */
    async sse(bytes) { await this.chunk(bytes); }
    async endStream() { await this.endChunks(); }

    /** Leaves with RST, or with FIN, wherever it stands. */
    reset() {
        this.#socket.resetAndDestroy();
        this.finish();
    }
    close() {
        this.closes = true;
        this.#socket.end();
        this.finish();
    }
    /** The reply is complete: the connection takes the next request. */
    finish() { this.#done(); }
}

export class Scripted {
    /**
     * @param fallback  answers what no on() names; default: 500, so that a request nobody thought of is seen
     */
    static async start({ fallback, port = 0 } = {}) {
        const upstream = new Scripted();
        upstream.fallback = fallback ?? ((call) => call.reply(500, { 'Content-Type': 'text/plain' }, `no script for ${call.method} ${call.target} ${call.name ?? ''}`));
        await new Promise((resolve, reject) => upstream.#server.once('error', reject).listen(port, '127.0.0.1', resolve));
        return upstream;
    }

    /** One round of the peer's loop, for consumed(); whoever knows the peer sets it. */
    turn = () => Promise.reject(new Error('nobody told this upstream how its peer turns'));
    /** Every request, in order of arrival. */
    calls = [];
    connections = 0;
    failures = [];
    #handlers = new Map();
    #sockets = new Set();
    #server = net.createServer({ noDelay: true }, (socket) => this.#serve(socket));

    get port() { return this.#server.address().port; }
    get origin() { return `http://127.0.0.1:${this.port}`; }
    get url() { return `${this.origin}/mcp`; }

    /** Handles requests by params.name, params.uri, params.taskId, JSON-RPC method, or "GET /path": whichever is registered, in that order. */
    on(what, handler) {
        this.#handlers.set(what, handler);
    }

    /** Requests of that name, as on() has it. */
    of(what) {
        return this.calls.filter((call) => call.name === what || call.json?.method === what || `${call.method} ${call.target}` === what);
    }
    /** Waits until there are that many of them; the last one. */
    async call(what, count = 1) {
        await until(() => this.of(what).length >= count, { everyMs: 2, withinMs: 10_000, what: `request ${count} for ${what} at the upstream` });
        return this.of(what)[count - 1];
    }

    async #serve(socket) {
        const connection = (this.connections += 1);
        this.#sockets.add(socket);
        socket.on('close', () => this.#sockets.delete(socket));
        const source = new ByteSource(socket);
        for (let position = 1; ; position++) {
            const head = await readHead(source);
            if (head === null) break;
            const [method, target, httpVersion] = head.line.split(' ');
            if (/100-continue/i.test(headerOne(head.headers, 'expect') ?? '')) socket.write('HTTP/1.1 100 Continue\r\n\r\n');
            const pieces = [];
            if ((await readBody(source, head.headers, framingOf(head.headers, { isResponse: false }), (piece) => pieces.push(piece))) === 'cut') break;
            const call = new Call(this, socket, source, { method, target, httpVersion, headers: head.headers, body: Buffer.concat(pieces), connection, position });
            this.calls.push(call);
            const handler = this.#handlers.get(call.name) ?? this.#handlers.get(call.json?.method) ?? this.#handlers.get(`${method} ${target}`) ?? this.fallback;
            Promise.resolve().then(() => handler(call)).catch((error) => {
                this.failures.push(error);
                socket.destroy();
                call.finish();
            });
            await Promise.race([call.done, source.ended]);
            if (call.closes || source.ending) break;
        }
        socket.end();
    }

    /** Ends every connection that waits for a request or is being answered. */
    dropConnections() {
        for (const socket of this.#sockets) socket.destroy();
    }

    async close() {
        this.dropConnections();
        await new Promise((resolve) => this.#server.close(resolve));
        if (this.failures.length) throw new AggregateError(this.failures, `a script of the upstream failed: ${this.failures.map((error) => error.stack).join('\n')}`);
    }
}
