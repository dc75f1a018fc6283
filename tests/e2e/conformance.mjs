/* SPDX-License-Identifier: Apache-2.0 */
// The official conformance suite through the sidecar, with caching on, must give what it gives directly: each scenario the same number
// of passed and failed checks, measured in the same run. The suite passes caches that are wrong in ways it does not look at: it is a
// floor. Ends with "N passed, N failed", counting legs.
//   node conformance.mjs [server|client]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectV1, connectV2 } from './lib/clients.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { startConformanceUpstream } from './lib/upstreams/fixtures/conformance.mjs';

const suite = fileURLToPath(new URL('node_modules/@modelcontextprotocol/conformance/dist/index.js', import.meta.url));
const client = fileURLToPath(new URL('lib/conformance-client.mjs', import.meta.url));
const RUN_WITHIN_MS = 120_000;

// Everything that may be shared is. What tells the client something on the way to its result is a call one makes for that, and a hit is
// only a result: those tools are not granted.
const serverPolicy = `version: 1
identity: { anonymous: shared }
defaults: { lists: 10m, resources: hint }
tools:
  - { name: "test_trigger_*", class: write }
  - { name: "test_*logging*", class: write }
  - { name: test_tool_with_progress, class: write }
  - { name: test_reconnection, class: write }
  - { name: "*", ttl: 10m, scope: public }
resources:
  - { uri: "test://**", ttl: 10m, scope: public }
`;
const clientPolicy = `version: 1
identity: { anonymous: shared }
defaults: { lists: 10m, resources: hint }
tools:
  - { name: "*", ttl: 10m }
resources:
  - { uri: "**", ttl: 10m }
`;
const clientScenarios = {
    '2025-11-25': ['initialize', 'tools_call', 'elicitation-sep1034-client-defaults', 'sse-retry', 'json-schema-2020-12-preservation'],
    '2026-07-28': ['tools_call', 'request-metadata', 'sep-2322-client-request-state', 'http-standard-headers', 'http-custom-headers', 'http-invalid-tool-headers',
        'json-schema-ref-no-deref', 'json-schema-2020-12-preservation'],
};

async function runSuite(args, env = {}) {
    const child = spawn(process.execPath, [suite, ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (piece) => (output += piece));
    child.stderr.on('data', (piece) => (output += piece));
    const timer = setTimeout(() => child.kill('SIGKILL'), RUN_WITHIN_MS);
    const [code] = await once(child, 'close');
    clearTimeout(timer);
    return { code, output };
}

// Node on a machine whose "localhost" is ::1 first would not find a server on 127.0.0.1 otherwise; the suite wants the name.
const byName = (url) => url.replace('//127.0.0.1:', '//localhost:');

/** {code, scenarios: Map(name -> "N passed, M failed"), passed, output} of one run against a server. */
async function testServer(url, revision) {
    const out = await mkdtemp(path.join(tmpdir(), 'mcpcached-conformance-'));
    try {
        const { code, output } = await runSuite(['server', '--url', byName(url), '--requirements', revision, '-o', out]);
        const lines = [...output.matchAll(/^[✓✗] (\S+): (\d+) passed, (\d+) failed$/gm)];
        const scenarios = new Map(lines.map(([, name, passed, failed]) => [name, `${passed} passed, ${failed} failed`]));
        return { code, output, scenarios, passed: lines.reduce((sum, [, , passed]) => sum + Number(passed), 0) };
    } finally {
        await rm(out, { recursive: true, force: true });
    }
}

/** What two clients, one after the other, are given for the same question. */
async function askTwice(url, revision) {
    const outcomes = [];
    for (let n = 0; n < 2; n++) {
        const caller = revision < '2026' ? await connectV1(url) : await connectV2(url);
        outcomes.push((await caller.call('test_simple_text')).outcome);
        await caller.close();
    }
    return outcomes;
}

async function testClient(scenario, revision, policy) {
    const command = `${process.execPath} ${client}`;
    const { code, output } = await runSuite(['client', '--command', command, '--scenario', scenario, '--spec-version', revision], policy === undefined ? {} : { CONFORMANCE_POLICY: policy });
    return { code, output, result: /^Passed: .*$/m.exec(output)?.[0] ?? 'no result' };
}

let passed = 0;
let failed = 0;
function leg(name, good, text, details = '') {
    if (good) passed += 1;
    else failed += 1;
    console.log(`${good ? 'ok   ' : 'FAIL '} ${name}: ${text}`);
    if (!good && details) console.log(details.replace(/^/gm, '      '));
}

function compare(name, run, direct) {
    const names = new Set([...direct.scenarios.keys(), ...run.scenarios.keys()]);
    const differing = [...names].filter((scenario) => run.scenarios.get(scenario) !== direct.scenarios.get(scenario));
    const details = differing.map((scenario) => `${scenario}: ${run.scenarios.get(scenario)}; directly: ${direct.scenarios.get(scenario)}`);
    for (const scenario of differing) details.push(...(run.output.match(new RegExp(`^.*(?:FAILURE|Error).*$`, 'gm')) ?? []).slice(0, 8).map((line) => `${scenario}? ${line.slice(0, 200)}`));
    leg(name, differing.length === 0 && run.code === direct.code, `${run.passed} checks passed, directly ${direct.passed}`, [...new Set(details)].join('\n'));
}

async function serverLegs() {
    const upstream = await startConformanceUpstream();
    const direct = {};
    for (const [revision, least] of [['2025-11-25', 84], ['2026-07-28', 150]]) {
        direct[revision] = await testServer(upstream.url, revision);
        const { code, passed: checks, output } = direct[revision];
        leg(`server ${revision}, direct`, code === 0 && checks >= least, `${checks} checks passed`, output.slice(-2000));
    }
    for (const revision of Object.keys(direct)) {
        const sidecar = await Sidecar.start(serverPolicy, { upstream });
        compare(`server ${revision}, through the sidecar`, await testServer(sidecar.url, revision), direct[revision]);
        await sidecar.close();
    }
    const sidecar = await Sidecar.start(serverPolicy, { upstream });
    for (const [turn, revision] of ['2025-11-25', '2026-07-28', '2025-11-25'].entries()) {
        compare(`server ${revision}, turn ${turn + 1} at one sidecar`, await testServer(sidecar.url, revision), direct[revision]);
        // Without hits this would be no test of a cache. The suite's own calls are no measure of that: in between it calls tools that write, as the
        // same anonymous caller, who is given nothing older after that.
        const outcomes = await askTwice(sidecar.url, revision);
        leg(`server ${revision}, turn ${turn + 1}: the cache answers`, outcomes[1] === 'hit', outcomes.join(', then '));
    }
    await sidecar.close();
    await upstream.close();
}

async function clientLegs() {
    for (const [revision, scenarios] of Object.entries(clientScenarios)) {
        for (const scenario of scenarios) {
            const direct = await testClient(scenario, revision);
            const through = await testClient(scenario, revision, clientPolicy);
            const good = direct.code === 0 && through.code === 0 && direct.result === through.result;
            leg(`client ${revision} ${scenario}`, good, `${through.result}; directly ${direct.result}`, through.output.slice(-1500));
        }
    }
}

try {
    const [only] = process.argv.slice(2);
    if (only !== 'client') await serverLegs();
    if (only !== 'server') await clientLegs();
} catch (error) {
    leg('the run itself', false, error.message, error.stack);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
