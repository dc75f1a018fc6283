/* SPDX-License-Identifier: Apache-2.0 */
// Programs that nobody here wrote, on either side of the sidecar: the inspector's command line as a client, servers from npm as upstreams.
// Each says through the sidecar what it says without.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { connectV1, connectV2, textOf } from './lib/clients.mjs';
import { missThenHit } from './lib/stories.mjs';
import { projectRoot, Sidecar } from './lib/sidecar.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { startNpmServer } from './lib/upstreams/npm-server.mjs';
import { readPolicy } from './lib/upstreams/world.mjs';

const launcher = fileURLToPath(new URL('node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js', import.meta.url));

describe('the inspector, as a client on the command line', () => {
    let home;
    before(async () => (home = await mkdtemp(path.join(tmpdir(), 'mcpcached-inspector-'))));
    after(() => rm(home, { recursive: true, force: true }));

    /** {code, said} of one run; said is what it printed, parsed. */
    const inspect = (url, era, ...args) => new Promise((resolve, reject) => {
        const all = [launcher, '--cli', '--server-url', url, '--transport', 'http', '--protocol-era', era, ...args, '--format', 'json'];
        execFile(process.execPath, all, { env: { ...process.env, HOME: home, NODE_NO_WARNINGS: '1' }, timeout: 60_000, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
            if (stdout.trim() === '') reject(new Error(`the inspector said nothing: ${stderr}`));
            else resolve({ code: error?.code ?? 0, said: JSON.parse(stdout) });
        });
    });

    test('lists, calls and reads in front of server-everything (legacy)', async (t) => {
        const upstream = await startNpmServer('everything', { t });
        const sidecar = await Sidecar.start(await readFile(path.join(projectRoot, 'examples/policy.yaml'), 'utf8'), { t, upstream });
        for (const args of [
            ['--method', 'tools/list'],
            ['--method', 'tools/call', '--tool-name', 'get-sum', '--tool-arg', 'a=2', '--tool-arg', 'b=40'],
            ['--method', 'resources/read', '--uri', 'demo://resource/static/document/features.md'],
        ]) {
            const direct = await inspect(upstream.url, 'legacy', ...args);
            assert.equal(direct.code, 0);
            assert.deepEqual(await inspect(sidecar.url, 'legacy', ...args), direct);
        }
    });

    test('lists and calls in the modern era; the second run is answered from the store', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(`${readPolicy}identity: { anonymous: shared }\n`, { t, upstream });
        const call = ['--method', 'tools/call', '--tool-name', 'echo', '--tool-arg', 'text=hello'];
        const first = await inspect(sidecar.url, 'modern', ...call);
        const second = await inspect(sidecar.url, 'modern', ...call);
        assert.equal(textOf(first.said.result), 'hello');
        assert.deepEqual(second.said.result.content, first.said.result.content);
        assert.equal(upstream.world.timesRun('echo'), 1); // a start of the inspector lies between the two
        const failed = await inspect(sidecar.url, 'modern', '--method', 'tools/call', '--tool-name', 'refuse');
        assert.equal(failed.code, 5, 'the inspector saw isError');
    });
});

describe('servers from npm, behind the sidecar', () => {
    const policy = (tool) => `version: 1\nidentity: { anonymous: shared }\ndefaults: { lists: 1m, resources: hint }\ntools:\n  - { name: ${tool}, ttl: 1m, despite_annotations: true }\nresources:\n  - { uri: "**", ttl: 1m }\n`;

    for (const { name, tool, args, good = true } of [
        { name: 'everything', tool: 'get-sum', args: { a: 1, b: 2 } },
        { name: 'budget', tool: 'get-budget-data', args: {} },
        { name: 'monitor', tool: 'get-system-info', args: {} },
        // Without a browser on the machine each of its tools says so, as an isError result.
        { name: 'playwright', tool: 'browser_tabs', args: { action: 'list' }, good: false },
    ]) {
        for (const [client, connect] of [['v1', connectV1], ['v2', (url, options) => connectV2(url, { ...options, era: 'legacy' })]]) {
            test(`${name}: lists its tools and answers a call, to the ${client} client`, async (t) => {
                const upstream = await startNpmServer(name, { t });
                const sidecar = await Sidecar.start(policy(tool), { t, upstream });
                const direct = await connect(upstream.url, { t });
                const through = await connect(sidecar.url, { t });

                const expected = await direct.tools();
                assert.ok(expected.result.tools.some((offered) => offered.name === tool));
                const listed = await missThenHit(() => through.tools());
                for (const { result } of [listed.first, listed.hit]) assert.deepEqual(result, expected.result);

                const truth = await direct.call(tool, args);
                const isError = truth.result.isError === true;
                assert.ok(!good || !isError, textOf(truth.result));
                if (isError) {
                    for (let turn = 0; turn < 3; turn++) {
                        const { result, outcome } = await through.call(tool, args);
                        assert.equal(outcome, 'miss');
                        assert.deepEqual(result, truth.result);
                    }
                } else {
                    // What the budget server reports is made up anew on each call, so of that only the form can be compared.
                    const comparable = (result) => (name === 'budget' ? Object.keys(result).sort() : result);
                    const called = await missThenHit(() => through.call(tool, args));
                    for (const { result } of [called.first, called.hit]) assert.deepEqual(comparable(result), comparable(truth.result));
                }
                if (name === 'everything' || name === 'playwright') assert.ok(through.transport.sessionId, 'it works with sessions');
            });
        }
    }
});
