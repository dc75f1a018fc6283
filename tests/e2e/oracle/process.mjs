/* SPDX-License-Identifier: Apache-2.0 */
// The sidecar's process, without a line of log for each of a hundred thousand requests (lib/sidecar.mjs waits for such lines). Its last words are
// kept, and what a sanitizer says.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { runToEnd } from '../lib/sidecar.mjs';
import { sleep } from '../lib/wait.mjs';

const REPORT = /AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion|fatal/;
const alive = new Set();
process.on('exit', () => {
    for (const child of alive) child.kill('SIGKILL');
});

async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    await new Promise((done) => server.close(done));
    return port;
}

export class Process {
    words = [];
    /** Lines from the first one of a sanitizer's or an assertion's on. */
    report = [];

    static async start(settings) {
        const process = new Process();
        process.settings = settings;
        process.dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-oracle-'));
        process.port = await freePort();
        await writeFile(path.join(process.dir, 'policy.yaml'), settings.policy);
        const { stdout } = await runToEnd(['serve', '--help'], { binary: settings.binary });
        process.knows = (flag) => stdout.includes(flag);
        await process.launch();
        return process;
    }

    async launch() {
        const { binary, upstream, flags, level } = this.settings;
        // how fast one caller may store is shown elsewhere
        const rate = this.knows('--insert-rate') ? ['--insert-rate', '100000'] : [];
        if (this.knows('--admin')) this.adminPath = path.join(this.dir, 'admin.sock');
        const admin = this.adminPath === undefined ? [] : ['--admin', `unix:${this.adminPath}`];
        const args = ['serve', '--listen', `127.0.0.1:${this.port}`, '--upstream', upstream, '--policy', path.join(this.dir, 'policy.yaml'), '--store', path.join(this.dir, 'store'), '--store-size', '64MiB', '--log-level', level, ...rate, ...admin, ...flags];
        const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
        this.child = child;
        alive.add(child);
        child.once('close', () => alive.delete(child));
        createInterface({ input: child.stderr }).on('line', (line) => {
            this.words.push(line);
            if (this.words.length > 2000) this.words.splice(0, 1000);
            if (this.report.length > 0 ? this.report.length < 200 : REPORT.test(line)) this.report.push(line);
        });
        for (let i = 0; ; i++) {
            if (child.exitCode !== null || child.signalCode !== null || i > 2000) throw new Error(`${binary} ${args.join(' ')} does not listen:\n${this.words.slice(-10).join('\n')}`);
            const socket = net.connect({ host: '127.0.0.1', port: this.port });
            const listens = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'close').then(() => false)]).catch(() => false);
            socket.destroy();
            if (listens) return;
            await sleep(10);
        }
    }

    get isRunning() { return this.child.exitCode === null && this.child.signalCode === null; }

    async end(signal, withinMs = 20_000) {
        if (this.isRunning) {
            const closed = once(this.child, 'close');
            this.child.kill(signal);
            const timer = setTimeout(() => this.child.kill('SIGKILL'), withinMs);
            await closed;
            clearTimeout(timer);
        }
        return { code: this.child.exitCode, signal: this.child.signalCode };
    }

    async remove() {
        await this.end('SIGKILL');
        await rm(this.dir, { recursive: true, force: true, maxRetries: 5 });
    }
}
