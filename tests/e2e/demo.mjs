/* SPDX-License-Identifier: Apache-2.0 */
// `./dev run`: a real MCP server, mcpcached in front of it with the example policy, and the official client calling both.
// Prints what each call cost directly and through the sidecar; then stays up for an MCP client, or, with --once, ends and says
// by its status whether the sidecar did what the policy asks of it.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { connectV1 } from './lib/clients.mjs';
import { Sidecar, projectRoot } from './lib/sidecar.mjs';
import { startNpmServer } from './lib/upstreams/npm-server.mjs';

const once = process.argv.includes('--once');
const policyFile = path.join(projectRoot, 'examples/policy.yaml');

const document = 'demo://resource/static/document/architecture.md';
const list = (expected) => ({ title: 'tools/list', expected, run: (caller) => caller.tools() });
const call = (expected, name, args = {}) => ({ title: `${name} ${JSON.stringify(args)}`, expected, run: (caller) => caller.call(name, args) });
const read = (expected, uri) => ({ title: `read ${path.basename(uri)}`, expected, run: (caller) => caller.read(uri) });

const story = [
    list('miss'),
    list('hit'),
    call('miss', 'get-sum', { a: 2, b: 3 }),
    call('hit', 'get-sum', { a: 2, b: 3 }),
    call('miss', 'get-sum', { a: 2, b: 4 }),
    call('miss', 'trigger-long-running-operation', { duration: 1, steps: 2 }),
    call('hit', 'trigger-long-running-operation', { steps: 2, duration: 1 }),
    call('write', 'toggle-simulated-logging'),
    call('write', 'toggle-simulated-logging'),
    read('miss', document),
    read('hit', document),
];

async function timed(work) {
    const began = performance.now();
    const value = await work();
    return { ms: performance.now() - began, ...value };
}

function printTable(rows) {
    const width = Math.max(...rows.map((row) => row.title.length), 'call'.length);
    const line = (title, outcome, direct, through, note = '') => console.log(`  ${title.padEnd(width)}  ${outcome.padEnd(7)}  ${direct.padStart(9)}  ${through.padStart(9)}  ${note}`.trimEnd());
    console.log();
    line('call', 'outcome', 'direct ms', 'through');
    for (const { title, outcome, direct, through, note } of rows) line(title, outcome, direct.toFixed(1), through.toFixed(1), note);
    console.log();
}

const running = [];
async function cleanUp() {
    for (const thing of running.reverse().splice(0)) await thing.close().catch(() => {});
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, async () => {
        await cleanUp();
        process.exit(signal === 'SIGINT' && !once ? 0 : 130);
    });
}

try {
    const upstream = await startNpmServer('everything');
    running.push(upstream);
    const sidecar = await Sidecar.start(await readFile(policyFile, 'utf8'), { upstream });
    running.push(sidecar);
    console.log(`upstream   ${upstream.url}  (${upstream.name})\nmcpcached  ${sidecar.url}  (policy: examples/policy.yaml)`);

    const direct = await connectV1(upstream.url);
    const through = await connectV1(sidecar.url);
    const rows = [];
    for (const { title, expected, run } of story) {
        const plain = await timed(() => run(direct));
        const cached = await timed(() => run(through));
        const good = cached.outcome === expected;
        rows.push({ title, outcome: cached.outcome, direct: plain.ms, through: cached.ms, good, note: good ? '' : `<- expected: ${expected}` });
    }
    await direct.close();
    await through.close();
    printTable(rows);

    const surprises = rows.filter((row) => !row.good).length;
    if (once) {
        await cleanUp();
        console.log(surprises ? `${surprises} of ${rows.length} calls had another outcome than the policy asks for` : `all ${rows.length} outcomes as the policy asks`);
        process.exit(surprises ? 1 : 0);
    }
    console.log(`Give this URL to an MCP client:  ${sidecar.url}\nCtrl-C stops both.`);
} catch (error) {
    console.error(error.stack ?? error);
    await cleanUp();
    process.exit(1);
}
