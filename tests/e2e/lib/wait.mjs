/* SPDX-License-Identifier: Apache-2.0 */
// Waiting for things to become true. No test sleeps for a guessed time in the hope that something has happened meanwhile.
import { setTimeout as sleep } from 'node:timers/promises';
export { sleep };

/** Resolves with the first truthy value of `condition`, rejects when that takes longer than `withinMs`. */
export async function until(condition, { withinMs = 15_000, everyMs = 20, what = 'a condition' } = {}) {
    const deadline = performance.now() + withinMs;
    for (;;) {
        const value = await condition();
        if (value) return value;
        if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms in vain for ${typeof what === 'function' ? what() : what}`);
        await sleep(everyMs);
    }
}

/** The error that a promise rejects with; throws when it does not reject. */
export async function rejection(promise) {
    try {
        await promise;
    } catch (error) {
        return error;
    }
    throw new Error('a call that had to fail succeeded');
}

/** A door that tests hold closed while they look, and open when they have seen enough. */
export class Gate {
    #waiting = [];
    #passes = 0;
    /** How many have come to the gate so far, those that went through included. */
    arrived = 0;

    /** Waits for one open(); rejects with the signal's reason when it aborts first. */
    pass(signal) {
        this.arrived += 1;
        if (this.#passes > 0) {
            this.#passes -= 1;
            return Promise.resolve();
        }
        return new Promise((resolve, reject) => {
            const entry = () => resolve();
            this.#waiting.push(entry);
            signal?.addEventListener('abort', () => {
                this.#waiting = this.#waiting.filter((other) => other !== entry);
                reject(signal.reason);
            }, { once: true });
        });
    }

    /** Lets this many through, now or later; Infinity takes the gate off its hinges. */
    open(times = 1) {
        this.#passes += times;
        while (this.#passes > 0 && this.#waiting.length > 0) {
            this.#passes -= 1;
            this.#waiting.shift()();
        }
    }
}
