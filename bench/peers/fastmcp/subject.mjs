/* SPDX-License-Identifier: Apache-2.0 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { installed, needPackages, run, versionOf } from '../../lib/machine.mjs';
import { freePort, peerFolder, startProgram } from '../../lib/subjects.mjs';

const venv = installed('fastmcp');
const python = path.join(venv, 'bin/python');
const LIMIT_MS = 240_000;

export default {
    title: 'FastMCP + its cache',
    does: 'Within its own server: the result is kept in memory, by method and arguments. Stateless, JSON answers, which is its fastest way.',
    era: 'legacy',
    once: true,
    prepare() {
        if (existsSync(path.join(venv, '.installed'))) return undefined;
        const failed = needPackages('python3-venv') ?? run('python3', ['-m', 'venv', venv]) ?? run(python, ['-m', 'pip', 'install', '-q', '-r', path.join(peerFolder('fastmcp'), 'requirements.txt')], { timeoutMs: LIMIT_MS });
        if (failed) return `pip cannot install it: ${failed}`;
        return run('touch', [path.join(venv, '.installed')]);
    },
    async start({ core, dir }) {
        const port = await freePort();
        const program = await startProgram({ program: python, args: [path.join(peerFolder('fastmcp'), 'server.py'), String(port)], port, core, cwd: dir, title: this.title });
        return { ...program, version: `fastmcp ${versionOf(python, ['-c', 'import importlib.metadata as m; print(m.version("fastmcp"))'])}` };
    },
};
