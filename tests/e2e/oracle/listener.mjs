/* SPDX-License-Identifier: Apache-2.0 */
// A subscriber: somebody who keeps event streams open and hears what changes, by a subscriptions/listen of the modern era, or by resources/subscribe and the GET streams of a
// session. It leaves after a while, or the upstream ends it, or the sidecar's stop does. Whatever it hears of the upstream is known from then on; that an old answer is given after
// that is for others to find out (client.mjs), and whether it should have heard it at all is the book's to say (book.mjs).
import net from 'node:net';
import { sleep } from '../lib/wait.mjs';
import { Reader, header, lines } from './http.mjs';
import { RESULT_URIS, SEEN_URIS, toolOf } from './phases.mjs';
import { now } from './world.mjs';

const META = 'io.modelcontextprotocol/';
const MODERN = '2026-07-28';
const LISTS = [['tools', 'tools/list'], ['prompts', 'prompts/list'], ['resources', 'resources/list', 'resources/templates/list']];
const OTHER_URIS = [0, 1, 2].flatMap((n) => [`hint://pub/${n}`, `rule://open/${n}`]);

export class Listener {
    #sockets = new Set();
    /** How to leave what is open, unless it stays for the stop. */
    #leaves = new Set();

    constructor(run, dice) {
        this.run = run;
        this.dice = dice;
    }
    cut() { for (const socket of this.#sockets) socket.destroy(); }
    /** The run is over; half of the streams stay for the stop of the sidecar. */
    finish() { for (const leave of this.#leaves) leave(this.dice.chance(0.5)); }

    async go() {
        const { run, dice } = this;
        while (!run.isOver) {
            await run.up;
            const credential = this.#credential();
            if (dice.chance(0.5)) await this.#listen(this.#drawListen(credential));
            else if (credential.sessions.length > 0) await this.#inSession(credential, dice.of(credential.sessions));
            else if (run.world.quietPlaces.includes(credential)) await this.#initialize(credential);
            await sleep(dice.between(5, 60));
        }
    }

    #credential() {
        const { run: { world }, dice } = this;
        const places = dice.chance(world.phase.tells ? 0.2 : 0.6) ? world.quietPlaces : world.places;
        return places[dice.zipf(places.length)];
    }
    #lastingMs() { return this.dice.chance(this.run.phase.tells ? 0.6 : 0.3) ? this.dice.between(60, 700) : this.dice.between(800, 4000); }

    #draw(credential, session) {
        const op = { number: this.run.nextOfOwn(), dice: this.dice, credential, session, path: '/mcp', name: '', rule: null, where: '- -', question: 'listen', era: session === null ? 'modern' : 'legacy', verb: 'POST', body: '', id: undefined };
        op.headers = [['X-Request-Id', op.number], ...credential.headers];
        if (session) op.headers.push(['Mcp-Session-Id', session.id], ['MCP-Protocol-Version', session.version]);
        return op;
    }

    #uris() {
        const { dice } = this;
        return [...SEEN_URIS.filter(() => dice.chance(0.35)), ...RESULT_URIS.filter(() => dice.chance(0.25)), ...OTHER_URIS.filter(() => dice.chance(0.2))];
    }

    #drawListen(credential) {
        const { dice } = this;
        const op = this.#draw(credential, null);
        op.id = dice.of([`"listen-${op.number}"`, `${op.number}`, `"${op.number}"`]);
        op.uris = this.#uris();
        const lists = LISTS.filter(() => dice.chance(0.5));
        op.lists = Object.fromEntries(lists.map(([what]) => [what, true]));
        const asked = [...lists.map(([what]) => `"${what}ListChanged":true`), ...(op.uris.length > 0 || dice.chance(0.2) ? [`"resourceSubscriptions":${JSON.stringify(op.uris)}`] : [])];
        op.covers = [...lists.flatMap(([, ...methods]) => methods.map((method) => `list ${method}`)), ...op.uris.map((uri) => `uri ${uri}`)];
        op.headers.push(['MCP-Protocol-Version', MODERN], ['Mcp-Method', 'subscriptions/listen'], ['Accept', 'application/json, text/event-stream'], ['Content-Type', 'application/json']);
        const body = `{"jsonrpc":"2.0","id":${op.id},"method":"subscriptions/listen","params":{"notifications":{${asked.join(',')}},"_meta":{"${META}protocolVersion":"${MODERN}","${META}clientCapabilities":{}}}}`;
        return Object.assign(op, { isStream: true, isListen: true, method: 'subscriptions/listen', body });
    }

    #drawGet(credential, session) {
        const op = this.#draw(credential, session);
        op.headers.push(['Accept', 'text/event-stream']);
        return Object.assign(op, { isStream: true, verb: 'GET' });
    }

    /** Subscribes to something, listens on one stream or on two, and takes some of it back. */
    async #inSession(credential, session) {
        const { run, dice } = this;
        const mostMs = now() + this.#lastingMs();
        const subscribe = async (uri) => {
            const op = this.#drawCall(credential, session, 'resources/subscribe', uri);
            const link = run.book.subscribe(op);
            const reply = await this.#post(op);
            const isGood = reply?.status === 200 && reply.body.includes('"result":{}');
            run.book.subscribed(op, link, isGood, reply?.isHere);
            if (isGood) run.count(`subscribed ${reply.isHere ? 'here' : 'upstream'}`, 1);
        };
        const uris = this.#uris();
        if (dice.chance(0.8)) for (const uri of uris.slice(0, 6)) await subscribe(uri);
        if (run.isOver || !run.isUp) return;
        const streams = [this.#listen(this.#drawGet(credential, session), mostMs)];
        if (dice.chance(0.3)) streams.push(this.#listen(this.#drawGet(credential, session), now() + dice.between(60, mostMs - now())));
        while (now() < mostMs && !run.isOver && run.isUp) {
            await sleep(dice.between(50, 500));
            const has = run.book.urisOf({ credential, session });
            if (has.length > 0 && dice.chance(0.4)) {
                const op = this.#drawCall(credential, session, 'resources/unsubscribe', dice.of(has));
                const reply = await this.#post(op);
                if (reply?.status === 200) run.book.unsubscribed(op);
                run.count('unsubscribed', 1);
            }
            if (dice.chance(0.1) && !run.isOver) await subscribe(dice.of(SEEN_URIS));
        }
        await Promise.all(streams);
    }

    #drawCall(credential, session, method, uri) {
        const op = this.#draw(credential, session);
        op.id = `"call-${op.number}"`;
        op.headers.push(['Accept', 'application/json, text/event-stream'], ['Content-Type', 'application/json']);
        return Object.assign(op, { method, name: uri, body: `{"jsonrpc":"2.0","id":${op.id},"method":"${method}","params":{"uri":${JSON.stringify(uri)}}}` });
    }

    async #initialize(credential) {
        const op = this.#draw(credential, null);
        op.headers.push(['Accept', 'application/json, text/event-stream'], ['Content-Type', 'application/json']);
        Object.assign(op, { era: 'legacy', method: 'initialize', id: '1', version: '2025-11-25', capabilities: '{}', body: '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}' });
        const reply = await this.#post(op);
        if (reply?.status !== 200 || op.exchange?.opened === undefined) return;
        this.run.learnOffers(op, reply.body);
        credential.sessions.push(op.exchange.opened);
    }

    /** {status, body, isHere}, or null when the connection ended. */
    async #post(op) {
        const { run } = this;
        const { reply } = await this.#exchange(op, () => {});
        if (reply === undefined) {
            if (op.process === run.process && run.isUp && !run.isOver && op.exchange?.fault === undefined) run.violation('answer', `operation ${op.number} (${op.method}) got none`, op);
            return null;
        }
        const status = Number(reply.line.slice(9, 12));
        const isHere = op.exchange === undefined;
        run.note(op, `   ${op.number} ${op.method} ${op.name} -> ${status} ${isHere ? 'here' : 'upstream'}`);
        if (isHere && status === 200 && reply.body !== `{"jsonrpc":"2.0","id":${op.id},"result":{}}`) run.violation('subscribe', `operation ${op.number} was answered ${reply.body}`, op);
        if (isHere && status === 200 && op.session.tells && toolOf(op.name) === undefined) run.violation('subscribe', `operation ${op.number} was answered here, though the upstream knows subscriptions`, op);
        if (op.exchange?.sentTick !== undefined) {
            op.exchange.seenTick = run.clock();
            op.exchange.seenMs = now();
            if (status === op.exchange.status) run.judge.seen(op.exchange, false, false);
        }
        return { status, body: reply.body, isHere };
    }

    /** Sends it on a connection of its own; tells of each piece of the answer. Returns {how, reply}. */
    async #exchange(op, onPiece, onSocket = () => {}) {
        const { run } = this;
        const socket = net.connect({ host: '127.0.0.1', port: run.port, noDelay: true });
        this.#sockets.add(socket);
        run.upstream.operations.set(op.number, op);
        Object.assign(op, { tick: run.clock(), ms: now(), realMs: Date.now(), process: run.process });
        run.note(op, `${op.isStream ? 'listens' : 'asks'} ${op.number} ${op.verb} ${op.method ?? ''} ${op.name} ${op.uris?.join(',') ?? ''} ${Object.keys(op.lists ?? {})}`);
        onSocket(socket);
        let reply;
        const ended = new Promise((done) => {
            socket.setEncoding('latin1');
            const reader = new Reader(true, (message) => {
                reply = message;
                done('whole');
            }, onPiece);
            socket.on('data', (piece) => {
                try {
                    reader.feed(piece);
                } catch (error) {
                    run.violation('framing', error.message, op);
                    socket.destroy();
                }
            });
            socket.on('error', () => {});
            socket.on('close', () => done('closed'));
        });
        socket.write(lines(`${op.verb} ${op.path} HTTP/1.1`, [['Host', `127.0.0.1:${run.port}`], ...op.headers, ...(op.body === '' ? [] : [['Content-Length', op.body.length]])]) + op.body, 'latin1');
        const how = await ended;
        socket.destroy();
        this.#sockets.delete(socket);
        run.upstream.operations.delete(op.number);
        run.cut.add(op.number);
        return { how, reply };
    }

    async #listen(op, untilMs = now() + this.#lastingMs()) {
        const { run } = this;
        const stream = run.book.open(op);
        let leave;
        const { how, reply } = await this.#exchange(op, (message) => {
            if (stream.openedTick === undefined) run.book.opened(stream, / 200 /.test(message.line) && /event-stream/.test(header(message, 'content-type') ?? ''));
            run.hear(message, op);
        }, (socket) => {
            op.endsAt = setTimeout(() => leave(false), Math.max(10, untilMs - now()));
            leave = (stays) => {
                clearTimeout(op.endsAt);
                this.#leaves.delete(leave);
                op.stays = stays && stream.isGood === true;
                if (op.stays) return;
                op.hasLeft = true;
                socket.destroy();
            };
            this.#leaves.add(leave);
        });
        clearTimeout(op.endsAt);
        this.#leaves.delete(leave);
        run.book.closed(stream);
        this.#judgeEnd(op, stream, how, reply);
    }

    #judgeEnd(op, stream, how, reply) {
        const { run } = this;
        const isLost = !op.hasLeft && !op.stays && op.process === run.process && run.isUp && op.exchange?.lost !== undefined;
        if (isLost) run.judge.fresh.purge(op.exchange.lost, op.exchange.lostTick, run.clock(), `stream ${op.number} ended`, true);
        const status = reply === undefined ? undefined : Number(reply.line.slice(9, 12));
        run.count(`stream ${op.stays ? 'stopped' : isLost ? (op.exchange.lost.length > 0 ? 'lost' : 'ended, may go on') : how === 'whole' && status !== 200 ? status : how === 'whole' ? 'whole' : 'left'}`, 1);
        run.note(op, `   ${op.number} stream ended: ${op.stays ? 'by the stop' : op.hasLeft ? 'left' : how} ${status ?? ''}`);
        if (op.isListen && op.stays && stream.isAcked && !stream.hasEnded && stream.deadMs === undefined && !op.wasLost && !op.credential.maySeemExpired()) run.violation('told: end', `stream ${op.number} ended without a result when the sidecar stopped`, op);
        // the upstream's loss is no end for his stream; unless the sidecar knows more of him by now
        if (op.isListen && op.wasLost && !op.hasLeft && !op.stays && stream.isAcked && op.process === run.process && run.isUp && op.exchange.lostTick !== undefined && stream.refusedMs === undefined && !op.credential.maySeemExpired()) run.violation('told: cut', `stream ${op.number} ended because the upstream's did`, op);
        if (op.isListen && stream.hasEnded) run.count('listen ended by the stop', 1);
        if (op.isListen && op.wasLost && op.hasLeft && stream.isAcked) run.count('listen outlived a loss', 1);
        if (stream.isGood && op.isListen && reply !== undefined && !stream.isAcked && !/"error"/.test(reply.body)) run.violation('told: ack', `stream ${op.number} ended without an acknowledgement`, op);
        if (status === 401 || status === 403 || status === 404) this.#seen(op, status);
    }
    #seen(op, status) {
        const { run } = this;
        const x = op.exchange;
        if (x?.status !== status || x.sentTick === undefined || op.hasLeft || x.seenTick !== undefined) return;
        Object.assign(x, { seenTick: run.clock(), seenMs: now() });
        run.judge.seen(x, false, false);
    }
}
