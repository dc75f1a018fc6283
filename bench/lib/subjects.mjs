/* SPDX-License-Identifier: Apache-2.0 */
// Whom we measure. Each has a folder in bench/peers/ with its configuration and a subject.mjs:
//   title      what it is called in the report
//   does       one sentence: is it the same job? What does it leave out?
//   ids        'fixed' where it cannot tell an id from the rest of a request, so that all must be the same for a hit
//   era        'legacy' where it does not speak 2026-07-28
//   once       too slow, or too little our concern, for every round: beyond the first size it has one round
//   prepare()  installs what is missing; a sentence when that cannot be, and then it is left out
//   start({upstream, dir, core, sizes, ttl})  resolves with {pid, port, version, stop()}; `upstream` is {url, port}
//   prefix, path(options)  what it wants before the names of tools, and where it serves
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { end, freePort, scratch, discard, start, untilItListens, projectRoot } from './machine.mjs';

const NAMES = ['bare', 'mcpcached', 'nginx-lua', 'nginx-cache', 'varnish', 'nginx-pass', 'direct', 'node-sdk', 'mcp-proxy', 'fastmcp'];

export const peerFolder = (name) => path.join(projectRoot, 'bench/peers', name);

/** Those that can run here, by name, and a sentence about each that cannot. */
export async function prepareSubjects(only, say) {
    const subjects = {};
    const leftOut = {};
    for (const name of NAMES) {
        if (only && !only.includes(name)) continue;
        const { default: subject } = await import(`../peers/${name}/subject.mjs`);
        say(`preparing ${subject.title}`);
        const why = await subject.prepare?.();
        if (why) leftOut[name] = why;
        else subjects[name] = { name, ...subject };
    }
    return { subjects, leftOut };
}

/** Starts one in a scratch folder of its own, on a free port. */
export async function startSubject(subject, options) {
    const dir = scratch(subject.name);
    try {
        const running = await subject.start({ ...options, dir });
        return { ...subject, ...running, dir, stop: async () => { await running.stop(); discard(dir); } };
    } catch (error) {
        discard(dir);
        throw new Error(`${subject.title}: ${error.message}`);
    }
}

/** Most start alike: one program with a port, ready when that listens. */
export async function startProgram({ program, args, port, core, title, cwd, env, withinMs }) {
    const child = start(program, args, { core, cwd, env });
    try {
        await untilItListens(port, child, title, withinMs);
    } catch (error) {
        await end(child);
        throw error;
    }
    return { pid: child.pid, port, child, stop: () => end(child) };
}

/** A peer's configuration file with its @NAMES@ filled in; the path of the copy. */
export async function configure(name, file, dir, values) {
    const text = readFileSync(path.join(peerFolder(name), file), 'utf8').replace(/@([A-Z_]+)@/g, (all, word) => values[word] ?? all);
    const copy = path.join(dir, file);
    await writeFile(copy, text);
    return copy;
}

export { freePort };
