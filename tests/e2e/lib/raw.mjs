/* SPDX-License-Identifier: Apache-2.0 */
// A client that hides nothing: what it sends is what is written here, what it got is what came, piece by piece, in order of arrival.
// It never retries, redirects or reconnects. Nothing about MCP lives here.
import net from 'node:net';
import { once } from 'node:events';
import { ByteSource, formatChunk, formatHead, framingOf, headerAll, headerOne, headerPairs, readBody, readHead } from './http1.mjs';
import { until } from './wait.mjs';

const WITHIN_MS = 10_000;

/** Rejects when the promise takes too long, naming what was waited for. */
export async function soon(promise, what, withinMs = WITHIN_MS) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`waited ${withinMs} ms in vain for ${what}`)), withinMs);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

/** What came back for one request. It exists as soon as the head is there; the body goes on arriving. */
export class Answer {
    status;
    reason;
    httpVersion;
    headers;
    framing;
    /** Interim (1xx) statuses that came before. */
    interim = [];
    /** Body bytes as they arrived. */
    pieces = [];
    /** undefined while it arrives, then 'clean', 'close' or 'cut' (see readBody). */
    ending;
    finished;

    header(name) { return headerOne(this.headers, name); }
    headerAll(name) { return headerAll(this.headers, name); }
    get bytes() { return Buffer.concat(this.pieces); }
    get text() { return this.bytes.toString('utf8'); }

    /** The whole body, once it has ended in a way that says so. */
    async body() {
        await soon(this.finished, `the end of the body; so far: ${this.text.slice(-300)}`);
        if (this.ending === 'cut') throw new Error(`the body broke off after ${this.bytes.length} bytes: ${this.text.slice(-300)}`);
        return this.bytes;
    }
    async json() { return JSON.parse((await this.body()).toString('utf8')); }

    /** Waits until the body so far contains this text. */
    async untilText(wanted, withinMs = WITHIN_MS) {
        await until(() => this.text.includes(wanted) || (this.ending && !this.text.includes(wanted) && Promise.reject(new Error(`the body ended (${this.ending}) without ${JSON.stringify(wanted)}: ${this.text.slice(-300)}`))),
            { withinMs, everyMs: 2, what: `${JSON.stringify(wanted)} in the body; so far: ${this.text.slice(-300)}` });
    }
}

/** One connection; requests on it go one after the other. */
export class Connection {
    static async open(origin, t) {
        const { hostname, port } = new URL(origin);
        const socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
        await soon(once(socket, 'connect'), `a connection to ${origin}`);
        const connection = new Connection(socket);
        t?.after(() => connection.close());
        return connection;
    }

    constructor(socket) {
        this.socket = socket;
        this.source = new ByteSource(socket);
    }

    /** Writes bytes as they are. */
    async write(bytes) {
        await new Promise((resolve, reject) => this.socket.write(bytes, (error) => (error ? reject(error) : resolve())));
    }

    /** Sends one request. Host and content-length (or `chunks`: a chunked body) are added unless given. Resolves with nothing: see answer(). */
    async send({ method = 'POST', path = '/mcp', version = 'HTTP/1.1', headers = [], body, chunks }) {
        const pairs = headerPairs(headers);
        if (headerOne(pairs, 'host') === undefined && version !== 'HTTP/1.0') pairs.unshift(['Host', `127.0.0.1:${this.socket.remotePort}`]);
        if (chunks) pairs.push(['Transfer-Encoding', 'chunked']);
        else if (body !== undefined && headerOne(pairs, 'content-length') === undefined) pairs.push(['Content-Length', Buffer.byteLength(body)]);
        const head = formatHead(`${method} ${path} ${version}`, pairs);
        if (chunks) {
            await this.write(Buffer.from(head, 'latin1'));
            for (const chunk of chunks) await this.write(formatChunk(chunk));
            await this.write('0\r\n\r\n');
        } else {
            await this.write(Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body ?? '')]));
        }
    }

    /** The next answer on this connection. */
    async answer({ toHead = false, withinMs = WITHIN_MS } = {}) {
        const answer = new Answer();
        for (;;) {
            const head = await soon(readHead(this.source), 'the head of an answer', withinMs);
            if (head === null) throw Object.assign(new Error(`the connection ended (${this.source.ending}) before an answer`), { code: 'NO_ANSWER' });
            const [, httpVersion, status, reason] = /^(HTTP\/\d\.\d) (\d{3}) ?(.*)$/.exec(head.line) ?? [];
            if (status === undefined) throw new Error(`not a status line: ${head.line}`);
            if (status[0] === '1') {
                answer.interim.push(Number(status));
                continue;
            }
            Object.assign(answer, { httpVersion, status: Number(status), reason, headers: head.headers });
            break;
        }
        answer.framing = framingOf(answer.headers, { isResponse: true, status: answer.status, toHead });
        answer.finished = readBody(this.source, answer.headers, answer.framing, (piece) => answer.pieces.push(piece)).then((how) => (answer.ending = how));
        return answer;
    }

    async ask(request) {
        await this.send(request);
        return this.answer({ toHead: request.method === 'HEAD', withinMs: request.withinMs });
    }

    /** Leaves at once with RST. */
    reset() { this.socket.resetAndDestroy(); }
    /** Leaves with FIN. */
    close() { this.socket.destroy(); }
}

/** One request on a connection of its own, which ends with the answer. `answer.connection` is there for those who leave earlier. */
export async function ask(origin, request) {
    const connection = await Connection.open(origin);
    try {
        const answer = await connection.ask(request);
        answer.connection = connection;
        answer.finished.then(() => connection.close());
        return answer;
    } catch (error) {
        connection.close();
        throw error;
    }
}
