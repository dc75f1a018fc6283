/* SPDX-License-Identifier: Apache-2.0 */
// How many instructions each step of a hit takes, counted by callgrind, and no more than bench/budget.txt allows and 5 %. Counts do not
// depend on how busy a machine is; they do on compiler and libraries, so the file is for the release build on Debian 12.
// Usage: ./dev bench budget [--write]; --write makes what was counted the budget.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const SIZES = [250, 2048, 16384];
const STEPS = ['scan', 'message', 'canonical', 'key', 'lookup', 'answer'];
const SLACK = 0.05;
const FILE = path.join(import.meta.dirname, 'budget.txt');
const PROGRAM = process.env.BENCH_HIT ?? path.join(import.meta.dirname, '../build/bench/bench_hit');

const { values } = parseArgs({ options: { write: { type: 'boolean', default: false } } });

function count(bytes, folder) {
    const out = path.join(folder, `callgrind.${bytes}`);
    const quiet = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] };
    const times = Number(
        execFileSync('valgrind', ['-q', '--tool=callgrind', '--toggle-collect=count', `--callgrind-out-file=${out}`, PROGRAM, '--count', String(bytes)], quiet),
    );
    const lines = execFileSync('callgrind_annotate', ['--inclusive=yes', '--threshold=100', out], quiet).split('\n');
    return STEPS.map((step) => {
        const line = lines.find((text) => new RegExp(`:hit_${step}( |$)`).test(text));
        const total = Number(line?.trim().split(' ', 1)[0].replaceAll(',', ''));
        if (!(times > 0 && total > 0)) throw new Error(`callgrind did not count hit_${step} of ${PROGRAM}`);
        return Math.round(total / times);
    });
}

function readBudget() {
    const rows = readFileSync(FILE, 'utf8').split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(rows.map((row) => row.trim().split(/\s+/)).map(([bytes, step, most]) => [`${bytes} ${step}`, Number(most)]));
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'budget-'));
const counted = [];
try {
    for (const bytes of SIZES) count(bytes, folder).forEach((n, i) => counted.push([`${bytes} ${STEPS[i]}`, n]));
} finally {
    rmSync(folder, { recursive: true, force: true });
}
if (values.write) {
    const rows = counted.map(([name, n]) => { const [bytes, step] = name.split(' '); return `${bytes.padEnd(8)}${step.padEnd(12)}${n}`; });
    writeFileSync(FILE, ['# bytes, step of a hit (bench_hit.c), instructions; written by ./dev bench budget --write', ...rows, ''].join('\n'));
}
const budget = readBudget();
let failed = 0;
for (const [name, n] of counted) {
    const most = budget.get(name);
    const isWithin = most !== undefined && n <= most * (1 + SLACK);
    failed += !isWithin;
    const text = `${name.padEnd(18)}${String(n).padStart(9)} of ${String(most ?? 'nothing').padStart(8)}`;
    const percent = most === undefined ? '' : `${((100 * n) / most - 100).toFixed(1)} %`.padStart(9);
    console.log(isWithin ? `ok    ${text}${percent}` : `FAIL  ${text}${percent}: make it cheaper, or say why it must cost more and run ./dev bench budget --write`);
}
console.log(`${counted.length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
