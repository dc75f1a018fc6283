/* SPDX-License-Identifier: Apache-2.0 */
// What several benchmarks begin with: programs of bench/ and the sidecar as children that do not outlive the script, requests as bytes, and figures.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { formatHead } from '../../tests/e2e/lib/http1.mjs';
import { projectRoot } from '../../tests/e2e/lib/sidecar.mjs';
import { until } from '../../tests/e2e/lib/wait.mjs';

/** Where a program of bench/ lies once it was built; HERD_PROGRAMS names another folder. */
export const built = (name) => path.join(process.env.HERD_PROGRAMS || path.join(projectRoot, 'build/bench'), name);

const children = new Set();
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

export function start(program, args, options) {
    const child = spawn(program, args, options);
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
}

export async function end(child) {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
}

export async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

export async function untilItListens(port, what) {
    await until(() => new Promise((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => socket.end(() => resolve(true))).on('error', () => resolve(false));
    }), { what: `${what} to listen` });
}

/** The sidecar in front of `url`, its policy and store in a folder of its own below `dir`: `{port, pid, close}`. MCPCACHED names another binary. */
export async function startMcpcached(url, dir, policyText, { name = 'mcpcached', flags = [], env = {} } = {}) {
    const port = await freePort();
    const own = path.join(dir, name);
    const policy = path.join(own, 'policy.yaml');
    await mkdir(own);
    await writeFile(policy, policyText);
    const binary = process.env.MCPCACHED || path.join(projectRoot, 'build/mcpcached');
    const args = ['serve', '--listen', `127.0.0.1:${port}`, '--upstream', url, '--policy', policy, '--store', path.join(own, 'store'), '--log-level', 'warn', ...flags];
    const child = start(binary, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...env } });
    await untilItListens(port, 'mcpcached');
    return { port, pid: child.pid, close: () => end(child) };
}

/** The bytes of a request as it goes out. */
export function bytesOf({ method, path: target, headers, body }, port) {
    const own = body === undefined ? [] : [['Content-Length', Buffer.byteLength(body)]];
    return Buffer.concat([Buffer.from(formatHead(`${method} ${target} HTTP/1.1`, [['Host', `127.0.0.1:${port}`], ...headers, ...own])), Buffer.from(body ?? '')]);
}

export const sorted = (numbers) => numbers.toSorted((a, b) => a - b);
export const quantile = (numbers, q) => sorted(numbers)[Math.min(numbers.length - 1, Math.floor(numbers.length * q))];
export const median = (numbers) => quantile(numbers, 0.5);
