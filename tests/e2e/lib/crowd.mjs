/* SPDX-License-Identifier: Apache-2.0 */
// Several callers at once: requests that are sent, and whose answers come later. Always true: after `join`, the sidecar has read what was sent (a stand has one loop; with
// more of them the turn proves nothing).
import { soon } from './raw.mjs';

/** One request under way, on a connection of its own. */
export class Waiting {
    constructor(connection) {
        this.connection = connection;
        this.answering = connection.answer({ withinMs: 15_000 });
        this.answering.catch(() => {}); // a test that fails before it looks has its own reason
    }
    /** The whole answer. */
    async answer() {
        const answer = await this.answering;
        await soon(answer.finished, 'the end of the answer', 15_000);
        if (answer.ending === 'cut') throw new Error(`the answer broke off: ${answer.text.slice(-300)}`);
        return answer;
    }
    /** What came, if anything, once nothing more will: the end of the answer, or of the connection. */
    async remains() {
        const answer = await this.answering.catch((error) => {
            if (error.code === 'NO_ANSWER') return undefined;
            throw error;
        });
        if (answer) await soon(answer.finished, 'the end of the answer');
        return answer?.text ?? '';
    }
    close() { this.connection.close(); }
    reset() { this.connection.reset(); }
}

/** Sends, and waits until the sidecar has read it. */
export async function join(stand, t, request) {
    const [waiting] = await joinAll(stand, t, [request]);
    return waiting;
}

export async function joinAll(stand, t, requests) {
    const waiting = [];
    for (const request of requests) {
        const connection = await stand.connect(t);
        await connection.send(request);
        waiting.push(new Waiting(connection));
    }
    await stand.turn();
    return waiting;
}

/** A leader whose request has reached the upstream, and then the others: `{leader, followers, call}`. */
export async function queue(stand, t, what, first, others) {
    const asked = stand.upstream.of(what).length;
    const leader = await join(stand, t, first);
    const call = await stand.upstream.call(what, asked + 1);
    const followers = await joinAll(stand, t, others);
    return { leader, followers, call };
}
