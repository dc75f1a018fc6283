/* SPDX-License-Identifier: Apache-2.0 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { installed, run, versionOf } from '../../lib/machine.mjs';
import { configure, freePort, startProgram } from '../../lib/subjects.mjs';

const VERSION = '0.6.0';
const LIMIT_MS = 600_000;
const binary = path.join(installed('cargo'), 'bin/mcp-proxy');

export default {
    title: 'mcp-proxy (Rust)',
    does: 'Yes, as it sees it: a gateway that keeps results of tools by name and arguments. The caller is no part of its key, errors and writes are kept as well.',
    era: 'legacy',
    prefix: 'bench/',
    path: () => '/',
    once: true,
    prepare() {
        if (existsSync(binary)) return undefined;
        if (!versionOf('cargo', ['--version'])) return 'there is no cargo here to build it with';
        const failed = run('cargo', ['install', `mcp-proxy@${VERSION}`, '--locked', '--no-default-features', '--root', installed('cargo'), '--target-dir', installed('cargo-target')], { timeoutMs: LIMIT_MS });
        return failed && `cargo cannot build it within ${LIMIT_MS / 60_000} minutes: ${failed}`;
    },
    async start({ upstream, dir, core }) {
        const port = await freePort();
        const file = await configure('mcp-proxy', 'proxy.toml', dir, { PORT: port, UPSTREAM: upstream.port });
        const program = await startProgram({ program: binary, args: ['--config', file], port, core, cwd: dir, title: this.title });
        return { ...program, version: `mcp-proxy ${VERSION}` };
    },
};
