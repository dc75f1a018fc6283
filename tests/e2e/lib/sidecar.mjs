/* SPDX-License-Identifier: Apache-2.0 */
// A running mcpcached: its process, its policy and store on disk, its log. Everything a test needs to put the sidecar in front of an
// upstream, and nothing about MCP itself. Always true: the directory outlives restarts and dies with close(); no child survives this process.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { until } from './wait.mjs';

export const projectRoot = fileURLToPath(new URL('../../../', import.meta.url));
export const defaultBinary = path.resolve(process.env.MCPCACHED || path.join(projectRoot, 'build/mcpcached'));

const READY_WITHIN_MS = 20_000;
const STOP_WITHIN_MS = 10_000;

const alive = new Set();
process.on('exit', () => {
    for (const child of alive) child.kill('SIGKILL');
});

/** Runs the binary to its end with these arguments: `{code, signal, stdout, stderr}`. For verbs that answer and leave. */
export async function runToEnd(args, { binary = defaultBinary, env = {}, withinMs = 20_000, input } = {}) {
    const child = spawn(binary, args, { env: { ...process.env, ...env }, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    alive.add(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (piece) => (stdout += piece));
    child.stderr.on('data', (piece) => (stderr += piece));
    child.stdin?.end(input);
    const timer = setTimeout(() => child.kill('SIGKILL'), withinMs);
    const [code, signal] = await once(child, 'close');
    clearTimeout(timer);
    alive.delete(child);
    return { code, signal, stdout, stderr };
}

export class Sidecar {
    /**
     * Starts `mcpcached serve` in front of `upstream` and waits until it listens.
     *
     * @param policyText  the policy, written to a file of its own
     * @param upstream    URL of the MCP endpoint behind the sidecar (or anything with `.url`)
     * @param t           node:test context; when given, the sidecar is closed after that test
     * @param store       store directory; default: one inside the fixture's own temporary directory
     * @param flags       further flags, e.g. ['--first-byte-timeout', '1s']
     */
    static async start(policyText, { upstream, t, store, storeSize = '64MiB', flags = [], binary = defaultBinary, env = {} } = {}) {
        const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-e2e-'));
        const sidecar = new Sidecar({ dir, upstream: String(upstream?.url ?? upstream), store: store ?? path.join(dir, 'store'), storeSize, flags, binary, env });
        t?.after(() => sidecar.close());
        try {
            await sidecar.setPolicy(policyText);
            await sidecar.#launch();
        } catch (error) {
            await sidecar.close();
            throw error;
        }
        return sidecar;
    }

    /** Every stderr line since the first start, restarts included. */
    log = [];
    /** "http://127.0.0.1:PORT" of the process that runs now. */
    origin;
    #child;
    #settings;

    constructor(settings) {
        this.#settings = settings;
    }

    /** URL for an MCP client: the upstream's path on the sidecar's own address. */
    get url() {
        const upstream = new URL(this.#settings.upstream);
        return new URL(upstream.pathname + upstream.search, this.origin).href;
    }
    get upstream() { return this.#settings.upstream; }
    get dir() { return this.#settings.dir; }
    get store() { return this.#settings.store; }
    get pid() { return this.#child?.pid; }
    get policyFile() { return path.join(this.#settings.dir, 'policy.yaml'); }

    async setPolicy(text) {
        await writeFile(this.policyFile, text);
    }

    async #launch() {
        const { upstream, store, storeSize, flags, binary, env } = this.#settings;
        // A free port at first; then the same again, because Host is part of what a client asked for.
        const listen = this.origin === undefined ? '127.0.0.1:0' : new URL(this.origin).host;
        const args = ['serve', '--listen', listen, '--upstream', upstream, '--policy', this.policyFile, '--store', store, '--store-size', storeSize, '--log', 'text', ...flags];
        const child = spawn(binary, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
        this.#child = child;
        alive.add(child);
        child.once('close', () => alive.delete(child));
        await new Promise((ready, fail) => {
            const timer = setTimeout(() => fail(this.#failure('did not say that it listens')), READY_WITHIN_MS);
            const settle = (outcome) => {
                clearTimeout(timer);
                outcome();
            };
            child.once('error', (error) => settle(() => fail(error)));
            child.once('close', (code, signal) => settle(() => fail(this.#failure(`ended before it listened (${signal ?? `exit ${code}`})`))));
            createInterface({ input: child.stderr }).on('line', (line) => {
                this.log.push(line);
                const address = /\blistening\b.*\baddr=(\S+)|\baddr=(\S+).*\blistening\b/.exec(line);
                if (!address) return;
                this.origin = `http://${address[1] ?? address[2]}`;
                settle(ready);
            });
        });
    }

    #failure(what) {
        return new Error(`${this.#settings.binary} ${what}; its last words:\n${this.log.slice(-15).join('\n')}`);
    }

    /** Requests that the log has told of, oldest first: `{method, name, outcome, line}`. A line may trail its answer: use untilLogged. */
    requests(method) {
        const word = (line, key) => new RegExp(`\\b${key}=("?)([^"\\s]*)\\1`).exec(line)?.[2];
        return this.log
            .filter((line) => /\boutcome=/.test(line))
            .map((line) => ({ method: word(line, 'method'), name: word(line, 'name'), outcome: word(line, 'outcome'), line }))
            .filter((request) => method === undefined || request.method === method);
    }

    async untilLogged(wanted, what = 'the expected log line') {
        const matches = typeof wanted === 'function' ? wanted : (line) => wanted.test(line);
        await until(() => this.log.some(matches), { what: `${what} in the log:\n${this.log.slice(-15).join('\n')}` });
    }

    get running() {
        return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
    }

    /** Asks with SIGTERM, waits for the end; `{code, signal}`. A process that will not leave is killed and reported as an error. */
    async stop() {
        return this.#end('SIGTERM');
    }

    async kill9() {
        return this.#end('SIGKILL');
    }

    async #end(signal) {
        const child = this.#child;
        if (!this.running) return { code: child?.exitCode ?? null, signal: child?.signalCode ?? null };
        const closed = once(child, 'close');
        child.kill(signal);
        let overdue = false;
        const timer = setTimeout(() => {
            overdue = true;
            child.kill('SIGKILL');
        }, STOP_WITHIN_MS);
        const [code, signalled] = await closed;
        clearTimeout(timer);
        if (overdue) throw this.#failure(`did not end within ${STOP_WITHIN_MS} ms of ${signal}`);
        return { code, signal: signalled };
    }

    /** Starts again on the same address, store and policy. */
    async restart() {
        await this.stop();
        await this.#launch();
    }

    /** Ends the process and removes what it left behind. */
    async close() {
        try {
            await this.stop();
        } finally {
            await rm(this.#settings.dir, { recursive: true, force: true });
        }
    }
}
