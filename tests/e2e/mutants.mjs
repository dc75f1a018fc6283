/* SPDX-License-Identifier: Apache-2.0 */
// Do the end-to-end tests notice a wrong sidecar? Builds each deliberately wrong one (meson option `mutant`) and runs the tests against it, the
// likeliest file first, until one fails. The same build without a mutant has to pass what killed the mutants, or their deaths mean nothing.
// Ends with "N passed, N failed". Arguments: names of mutants; default: all that meson_options.txt knows.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('.', import.meta.url));
const project = path.join(folder, '../..');
const buildDir = path.join(project, 'build-mutant');

/** Where a mutant is expected to be noticed first: file and part of the titles. Whatever is not listed meets the whole suite. */
const LIKELY = {
    'wrong-id': ['case-envelope', 'case 01'],
    'key-without-caller': ['case-key', 'another token'],
    'hit-without-header-check': ['case-key', 'headers that do not mirror'],
    'buffered-sse': ['case-stream', 'holds the next (read-live, modern)'],
    'no-cancel': ['case-stream', 'modern: a client that leaves a stream with a FIN'],
    'session-header-dropped': ['case-key', 'Mcp-Session-Id and other headers'],
};

/** The choices of the meson option, so that a new mutant is not forgotten here. */
function mutantsOfProject() {
    const text = readFileSync(path.join(project, 'meson_options.txt'), 'utf8');
    const choices = /option\('mutant'[^\]]*choices:\s*\[([^\]]*)\]/.exec(text)[1];
    return [...choices.matchAll(/'([^']+)'/g)].map((match) => match[1]).filter((name) => name !== 'none');
}

/** Builds into the one build directory and keeps the binary under the mutant's name. */
function build(mutant, keepIn) {
    const command = (name, ...args) => {
        const { status, stdout, stderr } = spawnSync(name, args, { cwd: project, encoding: 'utf8' });
        const complaints = `${stdout}${stderr}`.split('\n').filter((line) => /error|warning/i.test(line)).slice(0, 5);
        if (status !== 0) throw new Error(`${name} ${args.join(' ')} failed:\n${complaints.join('\n')}`);
    };
    if (existsSync(path.join(buildDir, 'build.ninja'))) command('meson', 'configure', buildDir, `-Dmutant=${mutant}`);
    else command('meson', 'setup', buildDir, project, '--buildtype=plain', `-Dmutant=${mutant}`);
    command('ninja', '-C', buildDir, 'mcpcached');
    const binary = path.join(keepIn, `mcpcached-${mutant}`);
    copyFileSync(path.join(buildDir, 'mcpcached'), binary);
    execFileSync(binary, ['--version'], { stdio: 'ignore' });
    return binary;
}

/** Runs tests against a binary: titles of those that passed, and of those that failed in their own code (a sidecar that does not start kills no mutant). */
async function runTests(binary, files, pattern) {
    process.env.MCPCACHED = binary;
    const passed = [];
    const failed = [];
    const broken = [];
    const options = { files: files.map((file) => path.join(folder, file)), concurrency: 2, timeout: 120_000, ...(pattern ? { testNamePatterns: [new RegExp(pattern.replace(/[^\w\s:-]/g, '\\$&'))] } : {}) };
    for await (const { type, data } of run(options)) {
        if (type !== 'test:pass' && type !== 'test:fail') continue;
        if (data.skip !== undefined && data.skip !== false) continue;
        if (data.details?.type === 'suite' || data.name.endsWith('.test.mjs')) continue;
        if (type === 'test:pass') passed.push(data.name);
        else if (['testCodeFailure', 'testTimeoutFailure'].includes(data.details?.error?.failureType)) failed.push(data.name);
        else broken.push(`${data.name}: ${data.details?.error?.message ?? 'no reason'}`);
    }
    return { passed, failed, broken };
}

const everyFile = readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort();

/** Title of the first test that fails against this binary, or undefined. */
async function killerOf(mutant, binary) {
    const [file, pattern] = LIKELY[mutant] ?? [];
    if (file) {
        const { failed } = await runTests(binary, [`${file}.test.mjs`], pattern);
        if (failed.length) return failed[0];
    }
    const rest = file ? [`${file}.test.mjs`, ...everyFile.filter((name) => name !== `${file}.test.mjs`)] : everyFile;
    for (const name of rest) {
        const { failed } = await runTests(binary, [name]);
        if (failed.length) return failed[0];
    }
    return undefined;
}

let good = 0;
let bad = 0;
const tell = (isGood, text) => {
    if (isGood) good += 1;
    else bad += 1;
    console.log(text);
};

const mutants = process.argv.length > 2 ? process.argv.slice(2) : mutantsOfProject();
const keep = mkdtempSync(path.join(tmpdir(), 'mcpcached-mutants-'));
try {
    const killers = new Set();
    for (const mutant of mutants) {
        try {
            const killer = await killerOf(mutant, build(mutant, keep));
            if (killer) killers.add(killer);
            tell(killer !== undefined, killer ? `mutant ${mutant}: killed by ${killer}` : `mutant ${mutant}: SURVIVED every end-to-end test`);
        } catch (error) {
            tell(false, `mutant ${mutant}: ${error.message}`);
        }
    }
    // The control: everything in the files of LIKELY that the mutants met, and each killer among it, passes without a mutant.
    try {
        const control = build('none', keep);
        const red = [];
        const green = new Set();
        for (const [file, pattern] of mutants.map((mutant) => LIKELY[mutant]).filter(Boolean)) {
            const { passed, failed, broken } = await runTests(control, [`${file}.test.mjs`], pattern);
            red.push(...failed, ...broken);
            for (const name of passed) green.add(name);
        }
        const unproven = [...killers].filter((name) => !green.has(name) && !red.includes(name));
        if (unproven.length) {
            const { passed, failed } = await runTests(control, everyFile);
            red.push(...unproven.filter((name) => failed.includes(name) || !passed.includes(name)));
        }
        tell(red.length === 0, red.length ? `no mutant: RED, ${red.join('; ')}` : `no mutant: green, ${green.size} tests`);
    } catch (error) {
        tell(false, `no mutant: ${error.message}`);
    }
} finally {
    rmSync(keep, { recursive: true, force: true });
}
console.log(`${good} passed, ${bad} failed`);
process.exitCode = bad === 0 ? 0 : 1;
