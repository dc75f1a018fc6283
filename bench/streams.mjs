/* SPDX-License-Identifier: Apache-2.0 */
// Ten thousand open subscriptions/listen streams on one sidecar with two loops, all subscribed to one public resource: what memory each takes, how long a change of it needs to reach them
// all, and what hits take meanwhile. Each stream's acknowledgement and notifications are checked. Usage: ./dev bench streams [--streams N] [--changes N] [--rate N] [--only N]
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { modern, readResource } from '../tests/e2e/lib/rpc.mjs';
import { sleep } from '../tests/e2e/lib/wait.mjs';
import { built, bytesOf, end, quantile, sorted, start, startMcpcached } from './lib/parts.mjs';

const { values: given } = parseArgs({ options: { streams: { type: 'string', default: '10000' }, changes: { type: 'string', default: '5' }, rate: { type: 'string', default: '500' }, only: { type: 'string' } } });
const STREAMS = Number(given.streams);
const CHANGES = Number(given.changes);
const RATE = Number(given.rate);
const LOOPS = 2;
const TTL_MS = 2000;
const QUIET_MS = 5000;
/** After a change, a second notification of it is waited for: longer than the sidecar waits for the upstream's own. */
const SECOND_MS = 1500;
/** lapsed: what the upstream was seen to let a caller have counts for so long, and before the changes that time is over: each has to be asked for again. */
const LAPSED_S = 5;
/** Whoever was not told by then has missed it. */
const TOLD_WITHIN_MS = 20_000;
const HIT_CONNECTIONS = 16;
const PLACE = '@@@@@@@@';
const NUMBER = 10_000_000;
const URI = 'bench://shared';
const STILL = 'still://small';

const POLICY = `version: 1
resources:
  - { uri: "bench://**", scope: public }
  - { uri: "still://**", scope: public }
`;

// ---- descriptors ------------------------------------------------------------------------------------------------------------------

const HARD = Number(spawnSync('sh', ['-c', 'ulimit -Hn']).stdout.toString().replace('unlimited', '1048576'));
/** What the sidecar has to be allowed, so that 40 % of it for each loop hold the streams and a little more, as they do not spread evenly. */
const needed = (streams) => Math.ceil((streams * 1.1 + 200) / 0.4) + 128;
/** What it opens: with an upstream that listens, a connection to there for each stream. */
const opened = (streams, tells) => streams * (tells ? 2 : 1) + 1000;

function fitting(streams, tells) {
    const most = Math.floor((HARD - 1000) / (tells ? 2 : 1) / 100) * 100;
    return Math.min(streams, most);
}

// ---- those who take part ----------------------------------------------------------------------------------------------------------

async function startUpstream(tells) {
    const child = start(built('streams_upstream'), [tells ? '1' : '0', String(TTL_MS)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    const origin = `http://127.0.0.1:${line}`;
    const get = async (what) => (await fetch(`${origin}/${what}`)).json();
    return { url: `${origin}/mcp`, change: () => get('change'), facts: () => get('facts'), close: () => end(child) };
}

/** A child of ours that is spoken to in lines. */
function talk(args) {
    const child = start(built('streams_load'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const pieces = [];
    let wake = () => {};
    child.stdout.on('data', (piece) => {
        pieces.push(piece);
        wake();
    });
    child.on('close', () => wake());
    const all = () => Buffer.concat(pieces);
    return {
        child,
        async line(wanted, withinMs) {
            const deadline = performance.now() + withinMs;
            while (!all().toString('latin1').split('\n').includes(wanted)) {
                if (child.exitCode !== null || performance.now() > deadline) throw new Error(`the clients did not say "${wanted}"`);
                await Promise.race([new Promise((resolve) => (wake = resolve)), sleep(500)]);
            }
        },
        forget: () => pieces.splice(0),
        /** Everything that it says after its stdin ended, or after this. */
        async rest(order) {
            if (order) child.stdin.write(order);
            let bytes = -1;
            while (order && bytes !== all().length) {
                bytes = all().length;
                await sleep(500);
            }
            child.stdin.end();
            if (child.exitCode === null) await once(child, 'close');
            if (child.exitCode !== 0) throw new Error(`the clients ended with ${child.exitCode}`);
            return all();
        },
    };
}

/** In KiB: resident; private and dirty, without the store's file. */
async function memoryOf(pid) {
    const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)[1]);
    return { resident: field('Rss'), own: field('Anonymous') };
}

/** The streams as streams_load reports them: `{text, atUs(position)}`. */
function* streamsIn(output) {
    for (let at = 0; at < output.length;) {
        const line = () => {
            const eol = output.indexOf('\n', at);
            const words = output.toString('latin1', at, eol).split(' ').map(Number);
            at = eol + 1;
            return words;
        };
        const [number, reads, bytes] = line();
        const times = Array.from({ length: reads }, line);
        yield { number, text: output.toString('latin1', at, at + bytes), atUs: (position) => times.findLast(([from]) => from < position)[1] };
        at += bytes;
    }
}

/** The times of a stream's notifications. Everything on it is looked at. */
function check({ number, text, atUs }) {
    const wrong = (what) => { throw new Error(`stream ${number}: ${what}:\n${text}`); };
    if (!text.startsWith('HTTP/1.1 200 ')) wrong('not accepted');
    const bodyAt = text.indexOf('\r\n\r\n') + 4;
    const rest = text.slice(bodyAt).replace(/data: .*\n\n|:\n\n|\r\n|^[0-9a-f]+(?=\r\n)|^event: message\n/gm, '');
    if (rest !== '') wrong(`neither an event nor a comment: ${JSON.stringify(rest)}`);
    const times = [];
    for (const event of text.matchAll(/data: (.*)\n\n/g)) {
        const { method, params } = JSON.parse(event[1]);
        if (params._meta['io.modelcontextprotocol/subscriptionId'] !== NUMBER + number) wrong('of another subscription');
        if (event.index === text.indexOf('data: ')) {
            if (method !== 'notifications/subscriptions/acknowledged' || params.notifications.resourceSubscriptions.join() !== URI) wrong('acknowledged otherwise');
        } else {
            if (method !== 'notifications/resources/updated' || params.uri !== URI) wrong('something else');
            times.push(atUs(event.index + event[0].length));
        }
    }
    if (times.length !== CHANGES) wrong(`${times.length} notifications of ${CHANGES} changes`);
    return times;
}

/** Asks once, so that what follows are hits. */
async function warm(file, port) {
    const socket = net.connect(port, '127.0.0.1');
    socket.write((await readFile(file, 'latin1')).replaceAll(PLACE, NUMBER));
    await once(socket, 'data');
    socket.destroy();
}

// ---- one run ----------------------------------------------------------------------------------------------------------------------

async function run({ tells, tokens, lapsed = false }, dir) {
    const streams = fitting(STREAMS, tells);
    const lies = needed(streams) > HARD;
    const upstream = await startUpstream(tells);
    const env = lies ? { LD_PRELOAD: built('streams_limit.so'), STREAMS_LIMIT: String(needed(streams)) } : {};
    const flags = ['--threads', String(LOOPS), '--max-streams', String(streams + 10), '--max-sessions', String(4 * streams), '--max-proofs', String(8 * streams), '--max-subscriptions', String(streams + 10)];
    const sidecar = await startMcpcached(upstream.url, dir, POLICY + (lapsed ? `identity: { grant: ${LAPSED_S}s }\n` : ''), { name: `${tokens}-${tells}-${lapsed}`, flags, env });
    try {
        const token = tokens === 'one' ? 'everybody' : PLACE;
        const write = async (name, request) => {
            const file = path.join(dir, name);
            await writeFile(file, bytesOf(request, sidecar.port));
            return file;
        };
        const read = await write('read', readResource(URI, { id: PLACE, token }));
        const listen = await write('listen', modern('subscriptions/listen', { notifications: { resourceSubscriptions: [URI] } }, { id: PLACE, token }));
        const still = await write('still', readResource(STILL, { id: PLACE, token: 'hits' }));
        await warm(still, sidecar.port);

        const before = await memoryOf(sidecar.pid);
        const began = performance.now();
        const clients = talk(['streams', String(sidecar.port), String(streams), read, listen]);
        await clients.line('open', 300_000);
        const openMs = performance.now() - began;
        await sleep(2000);
        const after = await memoryOf(sidecar.pid);
        const facts = await upstream.facts();
        if (tells && facts.open !== streams) throw new Error(`${facts.open} streams at the upstream`);

        const hits = talk(['hits', String(sidecar.port), String(HIT_CONNECTIONS), String(RATE), still]);
        const now = () => Number(process.hrtime.bigint() / 1000n);
        await sleep(lapsed ? LAPSED_S * 1000 : 1000);
        const quietFrom = now();
        await sleep(QUIET_MS);
        const quietTo = now();
        const shown = [];
        for (let n = 1; n <= CHANGES; n++) {
            await upstream.change();
            await clients.line(`all ${n}`, TTL_MS + TOLD_WITHIN_MS).catch(async (error) => {
                clients.forget();
                const missing = [...streamsIn(await clients.rest('report'))].filter(({ text }) => text.split('resources/updated').length <= n);
                throw new Error(`${missing.length} of ${streams} streams were not told of change ${n} within ${TOLD_WITHIN_MS} ms, the first is number ${missing[0]?.number}`, { cause: error });
            });
            shown.push((await upstream.facts()).shownUs);
            await sleep(SECOND_MS + Math.random() * TTL_MS);
        }
        const hitLines = (await hits.rest()).toString().trim().split('\n').map((line) => line.split(' ').map(Number));
        const told = await memoryOf(sidecar.pid);
        clients.forget();
        const missed = hitLines.filter(([, , isHit]) => isHit !== 1).length;
        if (missed > (lapsed ? hitLines.length / 100 : 0)) throw new Error(`${missed} of ${hitLines.length} hits were none`);
        const times = [...streamsIn(await clients.rest('report'))].map(check);
        if (times.length !== streams) throw new Error(`${times.length} streams`);

        const fans = shown.map((at, n) => sorted(times.map((of) => (of[n] - at) / 1000)));
        const quiet = hitLines.filter(([due]) => due >= quietFrom && due < quietTo).map(([, us]) => us);
        const busy = hitLines.filter(([due]) => shown.some((at, n) => due >= at && due < at + fans[n].at(-1) * 1000)).map(([, us]) => us);
        const perStream = (memory, what) => (memory[what] - before[what]) / streams;
        return { tells, tokens, lapsed, streams, lies, openMs, after: { resident: perStream(after, 'resident'), own: perStream(after, 'own') }, told: { resident: perStream(told, 'resident'), own: perStream(told, 'own') }, fans, quiet, busy };
    } finally {
        await sidecar.close();
        await upstream.close();
    }
}

// ---- the table --------------------------------------------------------------------------------------------------------------------

const RUNS = [
    { tells: false, tokens: 'one' },
    { tells: false, tokens: 'each' },
    { tells: false, tokens: 'each', lapsed: true },
    { tells: true, tokens: 'one' },
    { tells: true, tokens: 'each' },
];
const middle = (numbers) => quantile(numbers, 0.5);
const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-streams-'));
const columns = [];
try {
    for (const [number, one] of RUNS.entries()) if (!given.only || Number(given.only) === number + 1) columns.push(await run(one, dir));
} finally {
    await rm(dir, { recursive: true, force: true });
}
const row = (title, of) => console.log(`${title.padEnd(46)}${columns.map((column) => of(column).padStart(24)).join('')}`);
const three = (numbers) => [0.5, 0.99, 1].map((q) => (quantile(numbers, q) / 1000).toFixed(2)).join('/');
console.log(`${CHANGES} changes; a stream each, subscribed to one public resource whose lifetime is ${TTL_MS} ms; ${LOOPS} loops; ${RATE} hits a second on ${HIT_CONNECTIONS} connections`);
row('', ({ tells }) => (tells ? 'upstream tells' : 'upstream without'));
row('', ({ tokens, lapsed }) => (tokens === 'one' ? 'one token' : `a token each${lapsed ? ', lapsed' : ''}`));
row('streams', ({ streams, lies }) => `${streams}${lies ? '*' : ''}`);
row('opened within, s (a read and a listen each)', ({ openMs }) => (openMs / 1000).toFixed(1));
row('memory for each, KiB: private and dirty', ({ after }) => after.own.toFixed(2));
row('  resident', ({ after }) => after.resident.toFixed(2));
row('  private and dirty, after the changes', ({ told }) => told.own.toFixed(2));
row('told after, ms: the first', ({ fans }) => middle(fans.map((fan) => fan[0])).toFixed(1));
row('  median', ({ fans }) => middle(fans.map((fan) => middle(fan))).toFixed(1));
row('  last', ({ fans }) => middle(fans.map((fan) => fan.at(-1))).toFixed(1));
row('  last, the slowest change', ({ fans }) => Math.max(...fans.map((fan) => fan.at(-1))).toFixed(1));
row('hits when quiet, p50/p99/max, ms', ({ quiet }) => three(quiet));
row('  while they are told', ({ busy }) => (busy.length ? three(busy) : '-'));
row('  how many', ({ quiet, busy }) => `${quiet.length}, ${busy.length}`);
if (columns.some(({ lies }) => lies)) console.log(`* more than 40 % of the ${HARD} descriptors that this machine allows: the sidecar was told of more (bench/streams_limit.c).`);
for (const { tells, streams } of columns.filter((column, at) => column.streams < STREAMS && columns.findIndex(({ streams }) => streams < STREAMS) === at)) console.log(`${streams} and not ${STREAMS} streams ${tells ? 'where the upstream has one for each' : ''}: ${HARD} descriptors are allowed, ${opened(STREAMS, tells)} would be needed.`);
console.log('Each stream had its acknowledgement and one notification for each change, under its own subscription id, and nothing else but comments.');
