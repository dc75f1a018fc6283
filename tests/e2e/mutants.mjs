/* SPDX-License-Identifier: Apache-2.0 */
// Do the tests notice a wrong sidecar? Builds once with every deliberate fault (meson option `mutants`, cachepolicy/mutant.h), then runs, for each of
// them, the tests that its line below names, with the fault switched on. A fault that passes them has survived, which is a failure; so is a fault
// without a line, and a line without a fault. The same tests have to pass on the same build with no fault, or the deaths mean nothing.
// Ends with "N passed, N failed". Arguments: names of mutants; default: all. --search: whatever its line says, meet the whole suite until a test fails.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const folder = fileURLToPath(new URL('.', import.meta.url));
const project = path.join(folder, '../..');
const buildDir = path.join(project, 'build-mutant');
const AT_ONCE = 2;
const TEST_WITHIN_MS = 120_000;

/**
 * Who notices each mutant, a line each: [file of end-to-end tests, part of the titles], {meson: name of a C test} or {oracle: a phase of it}.
 * Without a part of the titles the whole file runs, until its first failure.
 */
const LIKELY = {
    'wrong-id': ['case-envelope', 'case 01'],
    'key-without-caller': ['case-key', 'another token'],
    'hit-without-header-check': ['case-key', 'headers that do not mirror'],
    'buffered-sse': ['case-stream', 'holds the next (read-live, modern)'],
    'no-cancel': ['case-stream', 'modern: a client that leaves a stream with a FIN'],
    'session-header-dropped': ['case-key', 'Mcp-Session-Id and other headers'],
    'admission-off': ['case-admission', 'case 56: garbage'],
    'lease-ignored': ['case-admission', 'with probe: off a lapsed lease'],
    'grant-ignored': ['case-admission', 'a grant is for one tool and one resource'],
    'revocation-ignored': ['case-admission', '401 to a call ends every proof'],
    'fill-survives-revocation': ['case-admission', '401 while a fill is in flight'],
    'session-end-ignored': ['case-admission', 'with a refreshed token is dead for everybody'],
    'exp-ignored': ['case-admission', 'a token that expires between two calls'],
    'probe-always-true': ['case-admission', 'a probe that is answered with 500'],
    'proof-ignored': ['case-admission', 'case 59'],
    'anonymous-unproven': ['case-admission', 'once the upstream has challenged anyone (403)'],
    'claims-unadmitted': ['case-admission', 'identity.claims: forged claims'],
    'origin-ignored': ['case-headers', 'case 60: with a list, an Origin that is not on it'],
    'streams-unlimited': ['case-headers', 'case 70: more streams than the limit'],
    'wrong-id-stored': ['case-trust', 'S8: an upstream gives requests on kept connections each other'],
    'set-cookie-stored': ['case-results', 'case 61: a reply that sets a cookie'],
    'vary-ignored': ['case-key', 'Vary splits or forbids'],
    'is-error-stored': ['case-results', 'case 09'],
    'rate-off': ['security-rows', 'S11: one caller'],
    'share-off': { meson: 'store' },
    'framing-unchecked': ['framing', 'two different lengths, the longer last: refused'],
    'chunked-kept-alive': ['framing', 'chunks with something behind a size'],
    'slow-forever': ['limits-http', 'a head of which nothing more comes'],
    'token-never-ends': { meson: 'token' },
    'deep-bodies': { meson: 'message' },
    'claims-run-together': { meson: 'token' },
    'jitter-added': { meson: 'decide' },
    'negative-public': { meson: 'decide' },
    'veto-ignored': { meson: 'decide' },
    'definition-ignored': ['case-fresh', 'case 64: a definition that changed'],
    'own-writes-ignored': ['case-fresh', 'case 65: a write takes from its writer'],
    'writes-unstamped': ['case-fresh', 'case 65: a write that ends'],
    'purge-ignored': ['case-fresh', 'case 38: an update of a part'],
    'join-past-purge': ['case-fresh', 'case 37: what was asked for before'],
    'fill-survives-purge': { meson: 'stories' },
    'notices-unheard': ['case-fresh', 'case 35: resources/updated on the reply'],
    'losses-ignored': { meson: 'stories' },
    'no-flights': ['case-fresh', 'case 27: progress and log messages'],
    'breaker-never-opens': { meson: 'breaker' },
    'retry-writes': { meson: 'upstream' },
    'admin-token-ignored': ['purge', 'over TCP: no token'],
    'admin-origin-ignored': ['purge', 'over TCP: no token'],
    'admin-host-ignored': { meson: 'admin_gate' },
    'told-to-all': { meson: 'stories' },
    'told-ungranted': { meson: 'stories' },
    'polls-with-dead-credential': { meson: 'stories' },
    'two-streams-told': { meson: 'stories' },
    'subscription-id-foreign': { meson: 'stories' },
    'told-with-event-id': { meson: 'stories' },
    'unsubscribe-ignored': { meson: 'stories' },
    'polled-in-a-hurry': { meson: 'stories' },
    'baseline-told': { meson: 'stories' },
    'results-told-to-all': { meson: 'stories' },
    'acknowledged-unasked': { meson: 'stories' },
    'told-when-begun': { meson: 'stories' },
    'listen-cut-by-loss': { meson: 'stories' },
    'changes-untold': { meson: 'stories' },
    'purge-only-counted': ['purge', 'each kind of purge takes'],
};

/** Those that the oracle has to notice as well, each with the phase in which it must. */
const ORACLE = {
    'key-without-caller': 'plain', 'wrong-id': 'plain', 'session-header-dropped': 'plain', 'hit-without-header-check': 'plain', 'admission-off': 'plain',
    'grant-ignored': 'plain', 'lease-ignored': 'lease', 'probe-always-true': 'lease', 'revocation-ignored': 'plain', 'fill-survives-revocation': 'lease', 'session-end-ignored': 'plain',
    'exp-ignored': 'claims', 'proof-ignored': 'plain', 'origin-ignored': 'plain', 'anonymous-unproven': 'nobody',
    'set-cookie-stored': 'plain', 'wrong-id-stored': 'plain', 'vary-ignored': 'plain',
    'own-writes-ignored': 'plain', 'purge-ignored': 'plain', 'join-past-purge': 'fire', 'fill-survives-purge': 'fire', 'notices-unheard': 'fire', 'writes-unstamped': 'fire',
    'losses-ignored': 'fire', 'veto-ignored': 'fire', 'retry-writes': 'fire',
    'told-to-all': 'plain', 'told-ungranted': 'plain', 'subscription-id-foreign': 'plain', 'told-with-event-id': 'plain', 'baseline-told': 'plain', 'acknowledged-unasked': 'plain',
    'told-when-begun': 'plain', 'listen-cut-by-loss': 'plain', 'unsubscribe-ignored': 'watch',
};
const ORACLE_OPS = 10_000;

const textOf = (line) => {
    if (line.meson) return `C test ${line.meson}`;
    return line.oracle ? `oracle: ${line.oracle}` : line.filter(Boolean).join(': ');
};
const linesOf = (mutant) => [LIKELY[mutant], ORACLE[mutant] && { oracle: ORACLE[mutant] }].filter(Boolean);

/** Every name that the sources ask for. */
function mutantsOfSources() {
    const names = new Set();
    for (const part of ['cachepolicy', 'sidecar']) {
        for (const name of readdirSync(path.join(project, part), { recursive: true })) {
            if (!/\.[ch]$/.test(name)) continue;
            for (const [, mutant] of readFileSync(path.join(project, part, name), 'utf8').matchAll(/\bMUTANT\("([^"]*)"\)/g)) names.add(mutant);
        }
    }
    return [...names].sort();
}

function command(name, ...args) {
    const { status, stdout, stderr } = spawnSync(name, args, { cwd: project, encoding: 'utf8', maxBuffer: 1 << 26 });
    const complaints = `${stdout}${stderr}`.split('\n').filter((line) => /error|warning/i.test(line)).slice(0, 5);
    if (status !== 0) throw new Error(`${name} ${args.join(' ')} failed:\n${complaints.join('\n')}`);
    return stdout;
}

/** Builds the sidecar and the C tests that the lines name: name of the test -> its command. */
function build(lines) {
    let options = [];
    try {
        options = JSON.parse(command('meson', 'introspect', '--buildoptions', buildDir));
    } catch {
        // no such folder, or one that an interrupted setup left half made
    }
    if (options.find((option) => option.name === 'mutants')?.value !== true) {
        rmSync(buildDir, { recursive: true, force: true });
        command('meson', 'setup', buildDir, '--buildtype=plain', '-Dmutants=true');
    }
    command('ninja', '-C', buildDir, 'mcpcached');
    const known = JSON.parse(command('meson', 'introspect', '--tests', buildDir));
    const tests = new Map(lines.filter((line) => line.meson).map((line) => [line.meson, known.find((test) => test.name === line.meson)?.cmd]));
    const programs = [...tests.values()].filter(Boolean).map(([program]) => path.relative(buildDir, program));
    if (programs.length) command('ninja', '-C', buildDir, ...programs);
    return tests;
}

/** Starts a program in a process group of its own; `each` reads its lines of stdout and stderr and may call the end. */
async function runProgram([program, ...args], { env, each, withinMs }) {
    const child = spawn(program, args, { cwd: project, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const end = () => {
        try {
            process.kill(-child.pid, 'SIGKILL');
        } catch {
            // it has ended by itself
        }
    };
    running.add(end);
    const timer = setTimeout(end, withinMs);
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', (line) => each(line, end));
    const how = await new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code, signal) => resolve({ code, signal }));
    });
    clearTimeout(timer);
    running.delete(end);
    return how;
}
const running = new Set();
for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
        for (const end of running) end();
        process.exit(1);
    });
}

/** Names of tests that passed, that failed, and what broke around them. With a mutant it ends at the first failure. */
async function runLine(line, mutant) {
    const outcomes = { passed: [], failed: [], broken: [] };
    const env = { ...process.env, MCPCACHED: path.join(buildDir, 'mcpcached'), TMPDIR: scratch };
    delete env.NODE_TEST_CONTEXT;
    delete env.MCPCACHED_MUTANT;
    if (mutant !== undefined) env.MCPCACHED_MUTANT = mutant;
    if (line.meson) {
        const test = cTests.get(line.meson);
        if (!test) return { ...outcomes, broken: [`there is no C test '${line.meson}'`] };
        const each = (text) => {
            const failed = /^\[  FAILED  \] (?!\d+ test)(?:[^:]+: )?(\S+)$/.exec(text)?.[1];
            if (failed && !outcomes.failed.includes(failed)) outcomes.failed.push(failed);
        };
        const { code, signal } = await runProgram(test, { env, each, withinMs: TEST_WITHIN_MS });
        if (code === 0) outcomes.passed.push(line.meson);
        else if (signal !== null && signal !== 'SIGABRT') outcomes.broken.push(`${line.meson} ended by ${signal}`);
        else if (!outcomes.failed.length) outcomes.failed.push(line.meson);
        return outcomes;
    }
    if (line.oracle) {
        const each = (text) => {
            const how = /^violated as expected: ([^:]+): /.exec(text)?.[1];
            if (how) outcomes.failed.push(`oracle: ${how}`);
            else if (/^VIOLATION/.test(text)) outcomes.failed.push(text);
            else if (/without a violation$|^1 passed, 0 failed$/.test(text)) outcomes.passed.push(textOf(line));
        };
        const expects = mutant === undefined ? [] : ['--expect-violation'];
        // A short random run may miss a fault: it gets a second, longer one.
        for (const ops of mutant === undefined ? [ORACLE_OPS] : [ORACLE_OPS, 5 * ORACLE_OPS]) {
            await runProgram([process.execPath, path.join(folder, 'oracle.mjs'), '--ops', String(ops), '--phase', line.oracle, ...expects], { env, each, withinMs: TEST_WITHIN_MS });
            if (outcomes.failed.length) break;
        }
        if (outcomes.failed.length) outcomes.passed = [];
        else if (!outcomes.passed.length) outcomes.broken.push('the oracle said nothing');
        return outcomes;
    }
    const [file, part] = line;
    const pattern = part === undefined ? [] : ['--test-name-pattern', part.replace(/[^\w\s:-]/g, '\\$&')];
    const each = (text, end) => {
        if (!text.startsWith('{"outcome":')) return;
        const { outcome, name, why } = JSON.parse(text);
        outcomes[outcome].push(outcome === 'broken' ? `${name}: ${why ?? 'no reason'}` : name);
        if (outcome === 'failed' && mutant !== undefined) end();
    };
    const node = [process.execPath, '--test', '--test-force-exit', `--test-timeout=${TEST_WITHIN_MS}`];
    const reporter = ['--test-reporter', path.join(folder, 'lib/jsonlines.mjs'), '--test-reporter-destination', 'stdout'];
    await runProgram([...node, ...reporter, ...pattern, path.join(folder, `${file}.test.mjs`)], { env, each, withinMs: 600_000 });
    return outcomes;
}

/** Runs the jobs, AT_ONCE of them side by side: their tests use ports, stores and folders of their own. */
async function sideBySide(jobs) {
    const left = [...jobs];
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let job = left.shift(); job !== undefined; job = left.shift()) await job();
    }));
}

let good = 0;
let bad = 0;
const tell = (isGood, text) => {
    if (isGood) good += 1;
    else bad += 1;
    console.log(text);
};

/** A line's tests without any mutant; the same line is run once. */
async function control(line) {
    const { passed, failed, broken } = await runLine(line);
    const red = [...failed, ...broken];
    if (red.length) tell(false, `no mutant, ${textOf(line)}: RED, ${red.join('; ')}`);
    else if (!passed.length) tell(false, `no mutant, ${textOf(line)}: no test has that name`);
    else tell(true, `no mutant, ${textOf(line)}: green, ${passed.length} test${passed.length === 1 ? '' : 's'}`);
}

async function meet(mutant, line) {
    const { passed, failed, broken } = await runLine(line, mutant);
    if (failed.length) tell(true, `mutant ${mutant}: killed by ${failed[0]}`);
    else if (broken.length) tell(false, `mutant ${mutant}: nobody can tell, ${textOf(line)}: ${broken.join('; ')}`);
    else tell(false, `mutant ${mutant}: SURVIVED ${textOf(line)} (${passed.length} passed)`);
}

async function search(mutant) {
    const killers = [];
    const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort();
    await sideBySide(files.map((name) => async () => {
        if (killers.length) return;
        const line = [name.replace(/\.test\.mjs$/, '')];
        const { failed } = await runLine(line, mutant);
        if (failed.length) killers.push(`${line[0]}: ${failed[0]}`);
    }));
    tell(killers.length > 0, killers.length ? `mutant ${mutant}: noticed by ${killers.join(', ')}` : `mutant ${mutant}: SURVIVED every end-to-end test`);
}

const { values, positionals } = parseArgs({ options: { search: { type: 'boolean', default: false } }, allowPositionals: true });
const inSources = mutantsOfSources();
for (const name of new Set([...positionals, ...Object.keys(LIKELY), ...Object.keys(ORACLE)])) {
    if (!inSources.includes(name)) tell(false, `mutant ${name}: no source asks for MUTANT("${name}")`);
}
const mutants = (positionals.length ? positionals : inSources).filter((name) => inSources.includes(name));
const lines = mutants.flatMap(linesOf);
const scratch = mkdtempSync(path.join(tmpdir(), 'mcpcached-mutants-'));
let cTests = new Map();
try {
    cTests = build(lines);
    const controls = values.search ? [] : [...new Map(lines.map((line) => [textOf(line), line])).values()];
    const meetings = mutants.flatMap((mutant) => {
        if (values.search) return [() => search(mutant)];
        if (LIKELY[mutant] === undefined) return [() => tell(false, `mutant ${mutant}: has no line in LIKELY of tests/e2e/mutants.mjs; --search ${mutant} finds who notices it`)];
        return linesOf(mutant).map((line) => () => meet(mutant, line));
    });
    await sideBySide([...meetings, ...controls.map((line) => () => control(line))]);
} catch (error) {
    tell(false, error.message);
} finally {
    rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
}
console.log(`${good} passed, ${bad} failed`);
process.exitCode = bad === 0 ? 0 : 1;
