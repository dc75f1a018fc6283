/* SPDX-License-Identifier: Apache-2.0 */
// The oracle: many clients, tokens, sessions and policies in front of a server that stamps every answer with who asked, in which session, for which
// version of the data, in which exchange. It fails on any byte that crosses a boundary which the policy does not open, on any hit after a refusal was
// seen, on any hit without admission; on any answer that is older than a write which its reader saw end, than a purge or a notification that somebody saw, than the
// policy's grace, or that is old and does not say so; on any fetch that is shared with who may not have it, or asked after it was purged; on any notice to who did not ask for it, may
// not hear it, or for whom nothing changed, on a wrong stream, or after an end that was seen, and on one that does not come; on any poll that nobody's subscription asks for; and when
// a run did not bring every protection into play, because then it shows nothing.
//
//   node oracle.mjs [--ops 100000] [--seed N] [--phase NAME,...] [--tolerate WORD,...] [--expect-violation] [--threads N] [--log]
//
// A seed repeats each client's plan, not the timing between them. --tolerate counts violations of these words and goes on. MCPCACHED names the binary. Ends with "N passed, N failed".
import { parseArgs } from 'node:util';
import { defaultBinary } from './lib/sidecar.mjs';
import { PHASES } from './oracle/phases.mjs';
import { Run } from './oracle/run.mjs';

/** What is bounded in the sidecar must not run over within one phase: more operations are more rounds. */
const PER_PHASE = 10_000;

const { values } = parseArgs({ options: {
    ops: { type: 'string', default: '100000' }, seed: { type: 'string', default: String(Date.now() % 1_000_000_000) }, phase: { type: 'string' }, tolerate: { type: 'string', default: '' },
    'expect-violation': { type: 'boolean', default: false }, log: { type: 'boolean', default: false }, threads: { type: 'string' },
} });
const wanted = Number(values.ops);
const seed = Number(values.seed);
const phases = values.phase === undefined ? PHASES : PHASES.filter(({ name }) => values.phase.split(',').includes(name));
if (!(wanted > 0) || !Number.isInteger(seed) || phases.length === 0) {
    console.error(`usage: node oracle.mjs [--ops N] [--seed N] [--phase ${PHASES.map(({ name }) => name).join(',')}] [--tolerate WORD,...] [--expect-violation] [--threads N] [--log]`);
    process.exit(2);
}

/** What 100,000 operations must have brought about at least; in proportion for more, and less for fewer. Without it a green run means little. */
const ENOUGH = {
    'hit session': 800, 'hit no session': 150, 'hit principal': 2500, 'hit public (rule)': 1500, 'hit public (hint)': 400, 'hit modern': 3000, 'hit legacy': 2000,
    "hit on another's public": 700, 'hit by claims of another token': 10, 'hit anonymous': 150, 'hit after a probe': 20, 'hit older than a write': 500,
    'hit stale': 150, 'hit stand-in': 10, "hit on a refresh's": 60, 'hit only-if-cached': 30, 'own 504 only-if-cached': 150, 'bypass stored': 80,
    'collapsed result': 1500, 'collapsed isError': 20, 'collapsed error': 20, 'own 503 breaker': 40,
    'withheld: revoked': 200, 'withheld: session-end': 20, 'withheld: lease': 40, 'withheld: grant': 30, 'withheld: withdrawn': 4, 'withheld: ungranted': 300, 'withheld: restarted': 8,
    'withheld: expired': 15, 'withheld: proof': 80, 'withheld: origin': 60, 'withheld: killed': 2, 'withheld: client-control': 150,
    'withheld: purged who': 1000, 'withheld: purged tag': 400, 'withheld: purged uri': 20, 'withheld: purged list': 40, 'withheld: purged tool': 8, 'withheld: soft purged reads': 80,
    'withheld: soft purged list': 20, 'withheld: vetoed': 30, 'withheld: definition': 2, 'refreshes': 80, 'heard': 80, 'stream lost': 8, 'purge hard': 60, 'purge soft': 40,
    'own 400 header': 80, 'own 403 origin': 20,
    'polls': 500, "hit on a poll's": 150, 'poll answered 200 error': 20, 'told modern': 500, 'told legacy': 100, 'told of a list': 80, 'told of a result': 120, 'told of a resource (public)': 250,
    'told of a resource (private)': 15, 'told of a resource (flip)': 12, 'told of what is gone': 8, 'told of what the upstream tells of': 20, 'told one of several streams': 20, 'told in time': 8,
    'hit after a notice': 120, 'one view changed, of several': 25, 'acknowledged here alone': 60, 'acknowledged more than upstream': 35, 'subscribed here': 200, 'subscribed upstream': 60,
    'unsubscribed': 25, 'offers made': 400, 'stream after a probe': 6, 'listen sought again': 5, 'listen outlived a loss': 8, 'listen ended by the stop': 8, 'streams of who was refused': 25,
    'subscribed sessions that ended': 200,
};

const totals = new Map();
const add = (counts) => {
    for (const [what, n] of counts) totals.set(what, (totals.get(what) ?? 0) + n);
};
const tens = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',');
const say = (text) => console.log(text);

function tell(run, ops, ownSeed) {
    for (const what of [...run.suspicions, ...run.violations]) {
        const { word, text, asked, tick, story } = what;
        say(`\n${run.suspicions.includes(what) ? 'SUSPECTED, once,' : 'VIOLATION'} (${word}) in phase ${run.phase.name}, seed ${ownSeed}, tick ${tick}`);
        say(`  ${text}`);
        if (asked) say(`  asked by ${asked}; what happened around it lately (tick, ms):`);
        for (const line of story) say(line);
        if (run.level === 'info') for (const line of run.process.words.slice(-60)) say(`  log: ${line}`);
    }
    if (run.violations.length > 0) say(`\n${run.counts.get('violations')} violations; once more with: node tests/e2e/oracle.mjs --ops ${ops} --seed ${ownSeed} --phase ${run.phase.name}`);
}

function table() {
    const width = Math.max(...[...totals.keys()].map((what) => what.length));
    for (const what of [...totals.keys()].sort()) say(`  ${what.padEnd(width)} ${tens(totals.get(what)).padStart(10)}`);
}

const shares = phases.reduce((sum, { share }) => sum + share, 0);
let passed = 0;
let failed = 0;
let done = 0;
let tookMs = 0;
say(`oracle: seed ${seed}, ${tens(wanted)} operations against ${defaultBinary}`);
rounds: for (let round = 0; done < wanted; round++) {
    const ownSeed = seed + round;
    const ops = Math.min(PER_PHASE * phases.length, wanted - done);
    for (const phase of phases) {
        const share = Math.ceil((ops * phase.share) / shares);
        const run = new Run(phase, { ops: share, seed: ownSeed, binary: defaultBinary, tolerated: values.tolerate.split(','), level: values.log ? 'info' : 'warn', ...(values.threads === undefined ? {} : { threads: Number(values.threads) }) });
        await run.play(({ done: soFar, counts }, ms) => say(`  ${phase.name}: ${tens(soFar)} of ${tens(share)}, ${tens((soFar / ms) * 1000)}/s, ${tens(counts.get('hits') ?? 0)} hits`));
        done += run.done;
        tookMs += run.tookMs;
        add(run.counts);
        const isBad = run.violations.length > 0;
        if (isBad) failed += 1;
        else passed += 1;
        say(`  ${phase.name}: ${tens(run.done)} operations, ${tens((run.done / run.tookMs) * 1000)}/s, ${Math.round(((run.counts.get('hits') ?? 0) / run.done) * 100)} % hits${isBad ? ', VIOLATED' : ''}`);
        if ((isBad || run.suspicions.length > 0) && !values['expect-violation']) tell(run, share, ownSeed);
        if (isBad && values['expect-violation']) {
            say(`violated as expected: ${run.violations[0].word}: ${run.violations[0].text}`);
            break rounds;
        }
        if (isBad) break rounds;
    }
}

if (values['expect-violation']) {
    say(failed > 0 ? '1 passed, 0 failed' : `${tens(done)} operations without a violation\n0 passed, 1 failed`);
    process.exit(failed > 0 ? 0 : 1);
}
say(`${tens(done)} operations in ${tens(tookMs / 1000)} s, ${tens((done / tookMs) * 1000)}/s`);
table();
if (failed === 0 && phases === PHASES && values.tolerate === '' && wanted >= 20_000) {
    // in a short run what needs its time, or is seldom, may be missing
    const isShort = wanted < 100_000;
    const missing = Object.entries(ENOUGH).filter(([what, n]) => !(isShort && n < 100) && (totals.get(what) ?? 0) < Math.floor((n * done) / (isShort ? 300_000 : 100_000)));
    for (const [what, n] of missing) say(`too little of "${what}": ${totals.get(what) ?? 0} of at least ${n} in 100,000 operations`);
    if (missing.length > 0) failed += 1;
    else passed += 1;
}
say(`seed ${seed}`);
say(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
