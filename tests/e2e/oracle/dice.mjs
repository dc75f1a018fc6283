/* SPDX-License-Identifier: Apache-2.0 */
// Chance from a seed: the same seed draws the same plan, whatever the timing makes of it.

/** mulberry32 */
export class Dice {
    constructor(seed) { this.state = seed >>> 0; }
    next() {
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let t = this.state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }
    below(n) { return Math.floor(this.next() * n); }
    between(low, high) { return low + this.next() * (high - low); }
    chance(p) { return this.next() < p; }
    of(list) { return list[this.below(list.length)]; }
    /** An index of the list, small ones far more often. */
    zipf(n) { return Math.min(n - 1, Math.floor(n ** this.next()) - 1); }
    /** One of [[weight, value], ...] whose weights are known to sum up to `sum`. */
    weighted(table, sum) {
        let left = this.next() * sum;
        for (const [weight, value] of table) if ((left -= weight) < 0) return value;
        return table[0][1];
    }
}

/** A seed for one part of a run. */
export function seedOf(...parts) {
    let hash = 0x811c9dc5;
    for (const char of parts.join('/')) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
    return hash >>> 0;
}
