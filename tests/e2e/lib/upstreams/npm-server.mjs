/* SPDX-License-Identifier: Apache-2.0 */
// MCP servers from npm that nobody here wrote, as processes of their own on a free loopback port. What each of them can do is known to
// the tests that use it, not here.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const READY_WITHIN_MS = 60_000;
const loopback = pathToFileURL(fileURLToPath(new URL('../loopback.mjs', import.meta.url))).href;
const nodeModules = fileURLToPath(new URL('../../node_modules/', import.meta.url));

const recipes = {
    everything: { package: '@modelcontextprotocol/server-everything', bin: 'mcp-server-everything', args: ['streamableHttp'], env: { PORT: '0' } },
    budget: { package: '@modelcontextprotocol/server-budget-allocator', bin: 'mcp-budget-allocator-server', args: [], env: { PORT: '0' } },
    monitor: { package: '@modelcontextprotocol/server-system-monitor', bin: 'mcp-system-monitor-server', args: [], env: { PORT: '0' } },
    // It checks Host against the address it was given; behind another port that check has to know of any name.
    playwright: { package: '@playwright/mcp', bin: 'playwright-mcp', args: ['--headless', '--port', '0', '--host', '127.0.0.1', '--allowed-hosts', '*'], env: {} },
};

function entryOf({ package: name, bin }) {
    const folder = path.join(nodeModules, name);
    const { bin: bins } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
    return path.join(folder, typeof bins === 'string' ? bins : bins[bin]);
}

/** Starts one of `everything`, `budget`, `monitor`, `playwright`; resolves with `{url, name, close()}` when it listens. */
export async function startNpmServer(name, { t } = {}) {
    const recipe = recipes[name];
    const child = spawn(process.execPath, ['--import', loopback, entryOf(recipe), ...recipe.args], { env: { ...process.env, ...recipe.env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const reap = () => child.kill('SIGKILL');
    process.once('exit', reap);
    const words = [];
    child.stdout.resume();
    const close = async () => {
        process.off('exit', reap);
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
    };
    t?.after(close);
    const port = await new Promise((resolve, reject) => {
        const fail = (what) => reject(new Error(`${recipe.package} ${what}:\n${words.slice(-10).join('\n')}`));
        const timer = setTimeout(() => fail('did not listen in time'), READY_WITHIN_MS);
        child.once('exit', (code) => fail(`ended with ${code}`));
        createInterface({ input: child.stderr }).on('line', (line) => {
            words.push(line);
            const found = /^loopback: listening on (\d+)$/.exec(line);
            if (!found) return;
            clearTimeout(timer);
            resolve(Number(found[1]));
        });
    });
    return { url: `http://127.0.0.1:${port}/mcp`, name: recipe.package, pid: child.pid, close };
}
