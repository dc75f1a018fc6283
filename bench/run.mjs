/* SPDX-License-Identifier: Apache-2.0 */
// The whole benchmark: mcpcached and its peers, each on a core of its own, every answer verified; figures, tables and pictures in bench/out/.
// Usage: ./dev bench [--quick] [--only throughput,latency,...] [--subjects mcpcached,bare,...] [--entries N] [--seed N] [--out FOLDER]
import { spawnSync } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startUpstream } from './lib/load.mjs';
import { machine, projectRoot, scratch } from './lib/machine.mjs';
import { QUIET, writeReport } from './lib/report.mjs';
import { prepareSubjects } from './lib/subjects.mjs';
import { forward } from './stages/forward.mjs';
import { outage } from './stages/outage.mjs';
import { idle, loops, memory, restart } from './stages/room.mjs';
import { latency, throughput } from './stages/throughput.mjs';
import { ttl } from './stages/ttl.mjs';
import { workloads } from './stages/workloads.mjs';

// Later ones may read what earlier ones found: `latency` takes its rate from `throughput`.
const STAGES = { throughput, latency, forward, workloads, outage, ttl, memory, idle, restart, loops };
const SIZES = [1 << 10, 16 << 10, 256 << 10];

const { values: given } = parseArgs({ options: {
    quick: { type: 'boolean', default: false }, only: { type: 'string' }, subjects: { type: 'string' }, entries: { type: 'string' }, seed: { type: 'string', default: '1' },
    out: { type: 'string', default: path.join(projectRoot, 'bench/out') },
} });
const wanted = given.only?.split(',') ?? Object.keys(STAGES);
for (const name of wanted.filter((one) => !STAGES[one])) {
    process.stderr.write(`no part '${name}'; there are: ${Object.keys(STAGES).join(', ')}\n`);
    process.exit(2);
}

const began = Date.now();
const seconds = () => String(Math.round((Date.now() - began) / 1000)).padStart(4);
const say = (text) => process.stderr.write(`[${seconds()} s] ${text}\n`);

// The last core is the subject's, the first the load's: what the system does by itself, it mostly does on the first.
const count = os.availableParallelism();
const cores = { load: '0', subject: String(Math.max(0, count - 1)), all: count > 1 ? `0,${count - 1}` : '0' };
if (count < 2) say('there is one core only: load and subject share it, and no figure here means much');

const failures = [];
const bench = {
    quick: given.quick, seed: Number(given.seed), entries: given.entries && Number(given.entries), sizes: SIZES, cores, say, results: {}, versions: {}, scratch: scratch('run'),
    /** Every failed answer of a part in which none may fail is told in the report. */
    judge(what, { failed, ok, failures: kinds, said }) {
        if (failed === 0 && ok > 0) return;
        failures.push(`${what}: ${failed} failed, ${ok} right (${JSON.stringify(kinds)})`);
        say(`NOT RIGHT: ${failures.at(-1)}${said ? `\n${said.slice(0, 1500)}` : ''}`);
    },
};
const about = machine();
if (about.loadBefore[0] > QUIET) say(`this machine is busy (load average ${about.loadBefore[0]}): the figures will say more about that than about anybody here`);
const { subjects, leftOut } = await prepareSubjects(given.subjects?.split(','), say);
Object.assign(bench, { subjects, leftOut });
for (const [name, why] of Object.entries(leftOut)) say(`left out: ${name}: ${why}`);
bench.upstream = await startUpstream({}, { core: cores.load });

let files = [];
for (const [name, stage] of Object.entries(STAGES)) {
    if (!wanted.includes(name)) continue;
    say(`== ${name}`);
    try {
        bench.results[name] = await stage(bench);
    } catch (error) {
        bench.results[name] = { broke: error.message };
        failures.push(`${name} broke: ${error.message}`);
        say(`${name} broke: ${error.stack}`);
    }
    // After each part, so that a run that is interrupted leaves what it had.
    files = writeReport(given.out, {
        date: new Date().toISOString(), kind: given.quick ? 'quick' : 'full', minutes: (Date.now() - began) / 60_000, seed: bench.seed, cores, machine: about,
        commit: spawnSync('git', ['describe', '--always', '--dirty'], { cwd: projectRoot, encoding: 'utf8' }).stdout?.trim() || 'of an unknown commit', node: process.version,
        subjects: Object.values(subjects).map(({ name: key, title, does }) => ({ name: key, title, does, version: bench.versions[key] })), leftOut, failures, results: bench.results,
    });
}
await bench.upstream.stop();
say(`done: ${files.join(', ')} in ${path.relative(process.cwd(), given.out) || '.'}`);
if (failures.length) {
    say(`${failures.length} thing(s) were not right; see report.md`);
    process.exit(1);
}
process.exit(0);
