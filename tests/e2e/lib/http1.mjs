/* SPDX-License-Identifier: Apache-2.0 */
// HTTP/1.1 as it lies on the wire, for both ends of a test: the scripted upstream and the raw client. Nothing is repaired, merged or
// normalised: header lists keep order, case and repetition; a body says how it was framed and how it ended.
import { Buffer } from 'node:buffer';

/** Bytes of a socket, taken piece by piece. `ending` tells how the peer left: 'fin' (asked politely) or 'reset'. */
export class ByteSource {
    #pieces = [];
    #waiting = [];
    ending;
    /** Resolves with `ending`. */
    ended;

    constructor(socket) {
        let settle;
        this.ended = new Promise((resolve) => (settle = resolve));
        const end = (how) => {
            this.ending ??= how;
            this.#stir();
            settle(this.ending);
        };
        socket.on('data', (piece) => {
            this.#pieces.push(piece);
            this.#stir();
        });
        socket.on('end', () => end('fin'));
        socket.on('error', () => end('reset'));
        socket.on('close', () => end('reset'));
    }

    #stir() {
        for (const wake of this.#waiting.splice(0)) wake();
    }

    async #more() {
        while (this.#pieces.length === 0) {
            if (this.ending) return false;
            await new Promise((wake) => this.#waiting.push(wake));
        }
        return true;
    }

    /** What has come, at most `limit` bytes; null when nothing will come any more. */
    async some(limit = Infinity) {
        if (!(await this.#more())) return null;
        const piece = this.#pieces.shift();
        if (piece.length <= limit) return piece;
        this.#pieces.unshift(piece.subarray(limit));
        return piece.subarray(0, limit);
    }

    /** One line without its line end; null when the peer left before one was whole. */
    async line() {
        const parts = [];
        for (;;) {
            const piece = await this.some();
            if (piece === null) return null;
            const at = piece.indexOf(10);
            if (at < 0) {
                parts.push(piece);
                continue;
            }
            if (at + 1 < piece.length) this.#pieces.unshift(piece.subarray(at + 1));
            parts.push(piece.subarray(0, at));
            return Buffer.concat(parts).toString('latin1').replace(/\r$/, '');
        }
    }
}

/** Start line and headers: `{line, headers: [[name, value], ...]}`; null when the peer left first. */
export async function readHead(source) {
    let line = await source.line();
    while (line === '') line = await source.line();
    if (line === null) return null;
    const headers = [];
    for (;;) {
        const field = await source.line();
        if (field === null) return null;
        if (field === '') return { line, headers };
        const colon = field.indexOf(':');
        headers.push([field.slice(0, colon), field.slice(colon + 1).trim()]);
    }
}

export const headerAll = (headers, name) => headers.filter(([key]) => key.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
export const headerOne = (headers, name) => headerAll(headers, name)[0];

/** How the body after this head is delimited: 'none', 'length', 'chunked' or 'close'. */
export function framingOf(headers, { isResponse, status, toHead = false }) {
    if (isResponse && (toHead || status === 204 || status === 304 || (status >= 100 && status < 200))) return 'none';
    if (headerAll(headers, 'transfer-encoding').some((value) => /chunked/i.test(value))) return 'chunked';
    if (headerOne(headers, 'content-length') !== undefined) return 'length';
    return isResponse ? 'close' : 'none';
}

/** Hands each piece of the body to `take` as it comes. Returns 'clean' when the framing says that the body is whole, 'close' when only the
 *  end of the connection says so, 'cut' when it broke off. */
export async function readBody(source, headers, framing, take) {
    if (framing === 'none') return 'clean';
    const measured = async (left) => {
        while (left > 0) {
            const piece = await source.some(left);
            if (piece === null) return false;
            left -= piece.length;
            take(piece);
        }
        return true;
    };
    if (framing === 'length') return (await measured(Number(headerOne(headers, 'content-length')))) ? 'clean' : 'cut';
    if (framing === 'close') {
        for (let piece = await source.some(); piece !== null; piece = await source.some()) take(piece);
        return source.ending === 'fin' ? 'close' : 'cut';
    }
    for (;;) {
        const line = await source.line();
        const size = line === null ? NaN : parseInt(line, 16);
        if (Number.isNaN(size)) return 'cut';
        if (size === 0) break;
        if (!(await measured(size)) || (await source.line()) !== '') return 'cut';
    }
    for (let trailer = await source.line(); trailer !== ''; trailer = await source.line()) if (trailer === null) return 'cut';
    return 'clean';
}

/** A head ready to be sent. */
export const formatHead = (line, headers) => `${line}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;

/** One piece of a chunked body. */
export function formatChunk(bytes) {
    const piece = Buffer.from(bytes);
    return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
}

/** Accepts {name: value | [values] | null} or pairs; gives pairs. */
export function headerPairs(headers) {
    const pairs = Array.isArray(headers) ? headers : Object.entries(headers ?? {});
    return pairs.flatMap(([name, value]) => (value === null || value === undefined ? [] : [value].flat().map((one) => [name, String(one)])));
}
