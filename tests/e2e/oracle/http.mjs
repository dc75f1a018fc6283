/* SPDX-License-Identifier: Apache-2.0 */
// HTTP/1.1 for a hundred thousand messages a minute: whole messages as latin1 text, nothing else. What lies strangely on the wire is for lib/http1.mjs.

/** Cuts what comes into messages: {line, headers: [[lower-case name, value]], body}. Bodies end by length or by chunks. */
export class Reader {
    #rest = '';
    #message = null;
    #left = 0; /* of the body by length; -1: chunked */

    /**
     * @param isResponse  a reply without a length and without chunks is a violation of the framing, a request without has no body
     * @param onPiece     called with the message whenever more of it is there, its end included, before it is whole
     */
    constructor(isResponse, onMessage, onPiece = () => {}) {
        this.isResponse = isResponse;
        this.onMessage = onMessage;
        this.onPiece = onPiece;
    }
    get isIdle() { return this.#rest === '' && this.#message === null; }

    feed(piece) {
        this.#rest = this.#rest === '' ? piece : this.#rest + piece;
        for (;;) {
            if (this.#message === null && !this.#readHead()) return;
            const isWhole = this.#left < 0 ? this.#readChunks() : this.#readLength();
            this.onPiece(this.#message);
            if (!isWhole) return;
            const message = this.#message;
            this.#message = null;
            this.onMessage(message);
            if (this.#rest === '') return;
        }
    }

    #readHead() {
        const end = this.#rest.indexOf('\r\n\r\n');
        if (end < 0) return false;
        const [line, ...fields] = this.#rest.slice(0, end).split('\r\n');
        this.#rest = this.#rest.slice(end + 4);
        const headers = [];
        this.#left = 0;
        let isFramed = !this.isResponse || / (204|304) /.test(line);
        for (const field of fields) {
            const colon = field.indexOf(':');
            const name = field.slice(0, colon).toLowerCase();
            const value = field.slice(colon + 1).trim();
            headers.push([name, value]);
            if (name === 'content-length') {
                this.#left = Number(value);
                isFramed = true;
            } else if (name === 'transfer-encoding') {
                this.#left = -1;
                isFramed = true;
            }
        }
        if (!isFramed) throw new Error(`a reply whose end nobody can know: ${line}`);
        this.#message = { line, headers, body: '' };
        return true;
    }

    #readLength() {
        if (this.#rest.length < this.#left) return false;
        this.#message.body = this.#rest.slice(0, this.#left);
        this.#rest = this.#rest.slice(this.#left);
        return true;
    }

    #readChunks() {
        for (;;) {
            const end = this.#rest.indexOf('\r\n');
            if (end < 0) return false;
            const bytes = parseInt(this.#rest.slice(0, end), 16);
            if (!(bytes >= 0)) throw new Error(`no chunk: ${JSON.stringify(this.#rest.slice(0, 60))}`);
            if (this.#rest.length < end + 2 + bytes + 2) return false;
            this.#message.body += this.#rest.slice(end + 2, end + 2 + bytes);
            this.#rest = this.#rest.slice(end + 2 + bytes + 2);
            if (bytes === 0) return true;
        }
    }
}

export const header = (message, name) => message.headers.find(([key]) => key === name)?.[1];
export const chunk = (text) => `${text.length.toString(16)}\r\n${text}\r\n`;
export const lines = (line, headers) => `${line}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
