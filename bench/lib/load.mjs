/* SPDX-License-Identifier: Apache-2.0 */
// The two ends that every measurement has: the load generator, run to its end, and the upstream that is behind the subjects.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { built, cpuSeconds, end, familyOf, start } from './machine.mjs';

/** Runs the load generator; its JSON. Whatever it said about wrong answers is in `said`. */
export async function load(options, { core } = {}) {
    const args = Object.entries(options).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${value}`);
    const child = start(built('bench/load/load'), args, { core, stdout: 'pipe' });
    let out = '';
    child.stdout.on('data', (piece) => (out += piece));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`the load generator ended with ${code}: ${child.said.slice(-800)}`);
    const result = JSON.parse(out);
    return { ...result, said: child.said, failureShare: result.failed / Math.max(1, result.ok + result.failed) };
}

/** One measurement of a running subject: what the load saw, and the CPU that the subject took for it. */
export async function measure(subject, options, cores) {
    const pids = familyOf(subject.pid);
    const before = cpuSeconds(pids);
    const began = performance.now();
    const result = await load({ port: subject.port, ids: subject.ids ?? 'own', era: subject.era ?? 'modern', prefix: subject.prefix, path: subject.path?.(options) ?? '/mcp', ...options }, { core: cores.load });
    const seconds = (performance.now() - began) / 1000;
    const cpu = cpuSeconds(pids) - before;
    return { ...result, cpuUs: (cpu / Math.max(1, result.asked)) * 1e6, busy: cpu / seconds, loadCpuUs: (result.cpuSeconds / Math.max(1, result.asked)) * 1e6 };
}

/** The upstream in C. `set` changes how it answers, `stats` is what it counted since `reset`. */
export async function startUpstream(options = {}, { core } = {}) {
    const child = start(built('bench/load/upstream'), Object.entries(options).map(([name, value]) => `${name}=${value}`), { core, stdout: 'pipe' });
    const line = await Promise.race([once(createInterface({ input: child.stdout }), 'line').then(([text]) => text), once(child, 'close').then(() => undefined)]);
    if (line === undefined) throw new Error(`the upstream did not start: ${child.said}`);
    const port = Number(line);
    const get = async (what) => {
        const answer = await fetch(`http://127.0.0.1:${port}/${what}`, { headers: { connection: 'close' } });
        if (!answer.ok) throw new Error(`the upstream says ${answer.status} to ${what}`);
        return answer;
    };
    return {
        port, pid: child.pid, url: `http://127.0.0.1:${port}/mcp`,
        set: (settings) => get(`set?${Object.entries(settings).map(([name, value]) => `${name}=${value}`).join('&')}`),
        stats: async () => (await get('stats')).json(),
        reset: () => get('reset'),
        stop: () => end(child),
        kill: () => end(child, 'SIGKILL'),
    };
}

export const median = (numbers) => {
    const sorted = numbers.filter((number) => Number.isFinite(number)).toSorted((a, b) => a - b);
    if (sorted.length === 0) return NaN;
    return sorted.length % 2 ? sorted[(sorted.length - 1) / 2] : (sorted[sorted.length / 2 - 1] + sorted[sorted.length / 2]) / 2;
};
