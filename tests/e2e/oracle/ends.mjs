/* SPDX-License-Identifier: Apache-2.0 */
// Ends of something: when the upstream (or who purges) sent the word, so that no exchange which it had before can count after it, and when somebody had seen it.
import { now } from './world.mjs';

export const NEVER = -1;

class Ends {
    #sent = [];
    #seen = [];
    #seenMs = [];
    #whys = [];
    /** In the order in which they were seen. */
    note(sentTick, seenTick, why = '') {
        this.#whys.push(sentTick < this.#sent.at(-1) ? this.#whys.at(-1) : why);
        this.#sent.push(Math.max(sentTick, this.#sent.at(-1) ?? NEVER));
        this.#seen.push(seenTick);
        this.#seenMs.push(now());
        if (this.#sent.length > 64) for (const list of this.#lists) list.splice(0, 32);
    }
    forgetSince(ms) {
        const keep = this.#seenMs.filter((seenMs) => seenMs <= ms).length;
        for (const list of this.#lists) list.length = keep;
    }
    get #lists() { return [this.#sent, this.#seen, this.#seenMs, this.#whys]; }
    #indexBefore(tick) {
        let i = this.#seen.length - 1;
        while (i >= 0 && this.#seen[i] >= tick) i--;
        return i;
    }
    /** The latest word that was seen before this tick. */
    before(tick) { return this.#sent[this.#indexBefore(tick)] ?? NEVER; }
    whyBefore(tick) { return this.#whys[this.#indexBefore(tick)]; }
}

export class EndsOf {
    #ends = new Map();
    note(key, sentTick, seenTick, why) {
        let ends = this.#ends.get(key);
        if (ends === undefined) this.#ends.set(key, (ends = new Ends()));
        ends.note(sentTick, seenTick, why);
    }
    before(key, tick) { return this.#ends.get(key)?.before(tick) ?? NEVER; }
    whyBefore(key, tick) { return this.#ends.get(key)?.whyBefore(tick); }
    forgetSince(ms) { for (const ends of this.#ends.values()) ends.forgetSince(ms); }
}
