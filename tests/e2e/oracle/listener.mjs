/* SPDX-License-Identifier: Apache-2.0 */
// Somebody who keeps an event stream open and hears what changes: a subscriptions/listen of the modern era, or the GET stream of a session. It leaves after a while, or the
// upstream ends it. Whatever it hears is known from then on; that an old answer is given after that is for others to find out (client.mjs).
import net from 'node:net';
import { sleep } from '../lib/wait.mjs';
import { Reader, lines } from './http.mjs';
import { now } from './world.mjs';

const META = 'io.modelcontextprotocol/';
const MODERN = '2026-07-28';

export class Listener {
    #socket = null;

    constructor(run, dice) {
        this.run = run;
        this.dice = dice;
    }
    cut() { this.#socket?.destroy(); }

    async go() {
        const { run, dice } = this;
        while (!run.isOver) {
            await run.up;
            const op = this.#draw();
            if (op !== null) await this.#listen(op);
            await sleep(dice.between(5, 60));
        }
    }

    #draw() {
        const { run, dice } = this;
        const credential = run.world.places[dice.zipf(run.world.places.length)];
        const op = { number: run.nextOfOwn(), dice, credential, session: null, path: '/mcp', name: '', rule: null, isStream: true, where: '- -', question: 'listen', era: 'modern' };
        op.headers = [['X-Request-Id', op.number], ...credential.headers];
        if (dice.chance(0.5)) {
            if (credential.sessions.length === 0) return null;
            op.session = dice.of(credential.sessions);
            op.headers.push(['Mcp-Session-Id', op.session.id], ['MCP-Protocol-Version', op.session.version], ['Accept', 'text/event-stream']);
            return Object.assign(op, { era: 'legacy', verb: 'GET', body: '' });
        }
        op.id = `"listen-${op.number}"`;
        const uris = [0, 1, 2].flatMap((n) => [`hint://pub/${n}`, `rule://open/${n}`]).filter(() => dice.chance(0.5));
        const lists = [['tools', 'tools/list'], ['prompts', 'prompts/list'], ['resources', 'resources/list', 'resources/templates/list']].filter(() => dice.chance(0.6));
        const asked = [...lists.map(([what]) => `"${what}ListChanged":true`), `"resourceSubscriptions":${JSON.stringify(uris)}`];
        op.covers = [...lists.flatMap(([, ...methods]) => methods.map((method) => `list ${method}`)), ...uris.map((uri) => `uri ${uri}`)];
        op.headers.push(['MCP-Protocol-Version', MODERN], ['Mcp-Method', 'subscriptions/listen'], ['Accept', 'application/json, text/event-stream'], ['Content-Type', 'application/json']);
        const body = `{"jsonrpc":"2.0","id":${op.id},"method":"subscriptions/listen","params":{"notifications":{${asked.join(',')}},"_meta":{"${META}protocolVersion":"${MODERN}","${META}clientCapabilities":{}}}}`;
        return Object.assign(op, { verb: 'POST', method: 'subscriptions/listen', body });
    }

    async #listen(op) {
        const { run, dice } = this;
        const socket = net.connect({ host: '127.0.0.1', port: run.port, noDelay: true });
        this.#socket = socket;
        run.upstream.operations.set(op.number, op);
        Object.assign(op, { tick: run.clock(), ms: now(), process: run.process });
        run.note(op, `listens ${op.number} ${op.verb}`);
        const endsAt = setTimeout(() => {
            op.hasLeft = true;
            socket.destroy();
        }, dice.between(60, 700));
        const ended = new Promise((done) => {
            socket.setEncoding('latin1');
            const reader = new Reader(true, () => done('whole'), (message) => run.hear(message, op));
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
        clearTimeout(endsAt);
        const isLost = !op.hasLeft && op.process === run.process && run.isUp && op.exchange?.lost !== undefined;
        if (isLost) run.judge.fresh.purge(op.exchange.lost, op.exchange.lostTick, run.clock(), `stream ${op.number} ended`, true);
        run.count(`stream ${op.hasLeft ? 'left' : isLost ? (op.exchange.lost.length > 0 ? 'lost' : 'ended, may go on') : how}`, 1);
        run.note(op, `   ${op.number} stream ended: ${op.hasLeft ? 'left' : how}`);
        socket.destroy();
        run.upstream.operations.delete(op.number);
        run.cut.add(op.number);
    }
}
