/* SPDX-License-Identifier: Apache-2.0 */
// Processes of a measurement: started on a core of their own, watched through /proc, ended one by one. Always true: only what was started here is ended, by its pid, and none outlives
// this process.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const projectRoot = fileURLToPath(new URL('../../', import.meta.url));
export const built = (name) => path.join(process.env.BENCH_BUILD || path.join(projectRoot, 'build'), name);
/** What is installed for a subject that Debian does not have; ignored by git, and kept. */
export const installed = (name) => path.join(projectRoot, 'build-bench', name);

const TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux that we run on
const STOP_WITHIN_MS = 10_000;
const children = new Set();
const dirs = new Set();
process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A directory that dies with this process; others may read it, as nginx works as somebody else. */
export function scratch(name) {
    const dir = mkdtempSync(path.join(process.env.BENCH_SCRATCH || os.tmpdir(), `mcpcached-bench-${name}-`));
    spawnSync('chmod', ['755', dir]);
    dirs.add(dir);
    return dir;
}

export function discard(dir) {
    rmSync(dir, { recursive: true, force: true });
    dirs.delete(dir);
}

/** Starts a program, on `core` when one is given ("1", "0,1"). stderr is kept, its end shown when something goes wrong. */
export function start(program, args, { core, cwd, env, stdout = 'ignore' } = {}) {
    const [file, words] = core === undefined ? [program, args] : ['taskset', ['-c', String(core), program, ...args]];
    const child = spawn(file, words, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', stdout, 'pipe'] });
    children.add(child);
    child.said = '';
    child.stderr.on('data', (piece) => (child.said = (child.said + piece).slice(-4000)));
    child.once('error', (error) => (child.said += error.message));
    child.once('close', () => children.delete(child));
    return child;
}

export async function end(child, signal = 'SIGTERM') {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
    await exited;
    clearTimeout(timer);
}

export async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

export async function untilItListens(port, child, what, withinMs = 30_000) {
    for (const deadline = Date.now() + withinMs; ; ) {
        const open = await new Promise((resolve) => {
            const socket = net.connect(port, '127.0.0.1', () => socket.end(() => resolve(true))).on('error', () => resolve(false));
        });
        if (open) return;
        const gone = child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
        if (gone || Date.now() > deadline) throw new Error(`${what} ${gone ? 'ended' : 'did not listen'}: ${child.said.trim().split('\n').slice(-5).join(' | ')}`);
        await sleep(30);
    }
}

/** The process and all below it. */
export function familyOf(pid) {
    const parents = new Map();
    for (const name of readdirSync('/proc')) {
        if (!/^\d+$/.test(name)) continue;
        try {
            const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
            parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
        } catch { /* it has just ended */ }
    }
    const family = [pid];
    for (let i = 0; i < family.length; i++) for (const [child, parent] of parents) if (parent === family[i]) family.push(child);
    return family;
}

/** CPU seconds, user and system, of these processes so far. */
export function cpuSeconds(pids) {
    let ticks = 0;
    for (const pid of pids) {
        try {
            const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
            const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
            ticks += Number(fields[11]) + Number(fields[12]);
        } catch { /* it has ended */ }
    }
    return ticks / TICKS_PER_SECOND;
}

/** Resident bytes: all, anonymous, and of files. */
export function memory(pids) {
    const sum = { rss: 0, anon: 0, file: 0 };
    for (const pid of pids) {
        try {
            const status = readFileSync(`/proc/${pid}/status`, 'utf8');
            const kib = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
            sum.rss += kib('VmRSS') * 1024;
            sum.anon += kib('RssAnon') * 1024;
            sum.file += (kib('RssFile') + kib('RssShmem')) * 1024;
        } catch { /* it has ended */ }
    }
    return sum;
}

const wordOf = (program, args) => {
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    return status === 0 ? `${stdout}${stderr}`.trim().split('\n')[0] : undefined;
};
export const versionOf = wordOf;

/** Runs a command to its end; `undefined` when it went well, else what it said last. */
export function run(program, args, { cwd, timeoutMs = 900_000, env } = {}) {
    const done = spawnSync(program, args, { cwd, encoding: 'utf8', timeout: timeoutMs, env: { ...process.env, ...env }, maxBuffer: 1 << 28 });
    if (done.status === 0) return undefined;
    return (done.error?.message ?? `${done.stderr}${done.stdout}`).trim().split('\n').slice(-2).join(' | ').slice(-300) || `${program} ended with ${done.status}`;
}

/** Installs the Debian packages that are missing; `undefined` when all are there, else a sentence. */
export function needPackages(...packages) {
    const missing = packages.filter((name) => !/install ok installed/.test(spawnSync('dpkg-query', ['-W', '-f=${Status}', name], { encoding: 'utf8' }).stdout ?? ''));
    if (missing.length === 0) return undefined;
    const root = process.getuid() === 0 ? [] : ['sudo', '-n'];
    const apt = [...root, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get'];
    run(apt[0], [...apt.slice(1), 'update', '-qq']);
    const failed = run(apt[0], [...apt.slice(1), 'install', '-y', '-qq', '--no-install-recommends', ...missing]);
    return failed && `apt-get cannot install ${missing.join(', ')}: ${failed}`;
}

export function machine() {
    const cpus = os.cpus();
    return {
        cpu: cpus[0]?.model.trim(), cpus: cpus.length, memoryGiB: Math.round(os.totalmem() / 2 ** 30), kernel: os.release(),
        system: /^PRETTY_NAME="(.*)"/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1],
        loadBefore: os.loadavg().map((load) => Math.round(load * 100) / 100),
    };
}
