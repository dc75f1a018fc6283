/* SPDX-License-Identifier: Apache-2.0 */
// A thousand callers want the same thing at the same moment, cold, from an upstream that takes 0.3 s: what mcpcached makes of it, and beside it nginx with
// proxy_cache_lock in front of the same upstream. Every answer is checked. What counts is the number of upstream calls and how the times compare; they
// hold for the machine that they were taken on.
// Usage: ./dev bench herd [--count N] [--latency MS] [--rounds N] [--only mcpcached|nginx|alone]
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { callTool, complete, contents, readResource } from '../tests/e2e/lib/rpc.mjs';
import { built, bytesOf, end, freePort, median, sorted, start, startMcpcached, untilItListens } from './lib/parts.mjs';

const { values: given } = parseArgs({ options: { count: { type: 'string', default: '1000' }, latency: { type: 'string', default: '300' }, rounds: { type: 'string', default: '3' }, only: { type: 'string' } } });
const COUNT = Number(given.count);
const LATENCY_MS = Number(given.latency);
const ROUNDS = Number(given.rounds);
const PLACE = '@@@@@@@@';
const NUMBER = 10_000_000;

const POLICY = `version: 1
defaults: { unlisted_tools: neutral }
tools:
  - { name: "keep*", ttl: 60s }
  - { name: "error*", ttl: 60s }
  - { name: "ask*", ttl: 60s }
`;

/** What is asked, and what the upstream answers; `again`: once more for the same thing, as soon as the first herd has its answers. */
const STORIES = [
    { title: 'complete, stored', ask: (n, id) => callTool(`keep-${n}`, {}, { id }), expect: (n) => complete(`yes keep-${n}`) },
    { title: 'isError: complete, not stored', ask: (n, id) => callTool(`error-${n}`, {}, { id }), expect: (n) => complete(`no error-${n}`, { isError: true }) },
    {
        title: 'no lifetime: complete, not stored',
        ask: (n, id) => readResource(`plain://${n}`, { id }),
        expect: (n) => ({ resultType: 'complete', contents: [{ uri: `plain://${n}`, text: 'plain' }], ttlMs: 0, cacheScope: 'private' }),
    },
    {
        title: 'input_required: each his own',
        again: 'input_required, the next herd',
        ask: (n, id) => callTool(`ask-${n}`, {}, { id }),
        expect: (n) => ({ resultType: 'input_required', inputRequests: { name: { method: 'elicitation/create', params: { message: `ask-${n}` } } } }),
    },
];

// ---- those who take part ----------------------------------------------------------------------------------------------------------

async function startUpstream() {
    const child = start(built('herd_upstream'), [String(LATENCY_MS)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    const origin = `http://127.0.0.1:${line}`;
    return { port: Number(line), url: `${origin}/mcp`, count: async () => Number(await (await fetch(`${origin}/count`)).text()), close: () => end(child) };
}

/** nginx as one would set it up for this: bodies in the key, one fetch at a time for each key. It cannot tell an id from the rest of a body. */
async function startNginx(upstream, dir) {
    const port = await freePort();
    const file = path.join(dir, 'nginx.conf');
    const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((what) => `    ${what}_temp_path ${dir}/${what};`).join('\n');
    await writeFile(file, `daemon off;
pid ${dir}/nginx.pid;
worker_processes 2;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
    access_log off;
${places}
    keepalive_requests 100000;
    client_body_buffer_size 64k;
    proxy_cache_path ${dir}/cache keys_zone=herd:16m;
    upstream behind { server 127.0.0.1:${upstream.port}; keepalive 1024; }
    server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache herd;
            proxy_cache_methods POST;
            proxy_cache_key "$request_uri $http_authorization $request_body";
            proxy_cache_valid 200 60s;
            proxy_cache_lock on;
            add_header X-Cache $upstream_cache_status;
        }
    }
}
`);
    const child = start('nginx', ['-e', path.join(dir, 'error.log'), '-p', dir, '-c', file], { stdio: ['ignore', 'inherit', 'inherit'] });
    await untilItListens(port, 'nginx');
    return { name: 'nginx', port, isLeader: (head) => /^x-cache: MISS/im.test(head), ownIds: false, close: () => end(child) };
}

async function startSidecar(upstream, dir) {
    const { port, close } = await startMcpcached(upstream.url, dir, POLICY);
    return { name: 'mcpcached', port, isLeader: (head) => !/^cache-status:.*collapsed/im.test(head), ownIds: true, close };
}

// ---- one herd -----------------------------------------------------------------------------------------------------------------------

function* answersIn(output) {
    for (let at = 0; at < output.length;) {
        const eol = output.indexOf('\n', at);
        const [sentUs, endUs, bytes] = output.toString('latin1', at, eol).split(' ').map(Number);
        yield { sentMs: sentUs / 1000, endMs: endUs / 1000, text: output.toString('utf8', eol + 1, eol + 1 + bytes) };
        at = eol + 1 + bytes;
    }
}

function bodyOf(text) {
    const [head, ...rest] = text.split('\r\n\r\n');
    const body = rest.join('\r\n\r\n');
    if (!/^transfer-encoding: chunked/im.test(head)) return [head, body];
    let whole = '';
    for (let at = 0; ;) {
        const eol = body.indexOf('\r\n', at);
        const bytes = parseInt(body.slice(at, eol), 16);
        if (bytes === 0) return [head, whole];
        whole += body.slice(eol + 2, eol + 2 + bytes); // ASCII only
        at = eol + 2 + bytes + 2;
    }
}

async function herd(proxy, upstream, dir, story, n) {
    const id = proxy.ownIds ? PLACE : '7';
    const files = { warm: path.join(dir, 'warm'), burst: path.join(dir, 'burst') };
    await writeFile(files.warm, bytesOf(callTool('warm', { number: 1 }, { id: PLACE }), proxy.port));
    await writeFile(files.burst, bytesOf(story.ask(n, id), proxy.port));
    const before = await upstream.count();
    const child = start(built('herd_load'), [String(proxy.port), String(COUNT), files.warm, files.burst], { stdio: ['ignore', 'pipe', 'inherit'] });
    const pieces = [];
    child.stdout.on('data', (piece) => pieces.push(piece));
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(`the load in front of ${proxy.name} ended with ${code}`);
    // Each connection was used once before the burst, and that went upstream.
    const calls = (await upstream.count()) - before - COUNT;

    const answers = [...answersIn(Buffer.concat(pieces))];
    if (answers.length !== COUNT) throw new Error(`${answers.length} answers`);
    const wanted = JSON.stringify(story.expect(n));
    answers.forEach((answer, number) => {
        const [head, body] = bodyOf(answer.text);
        const right = `{"jsonrpc":"2.0","id":${proxy.ownIds ? NUMBER + number : 7},"result":${wanted}}`;
        if (!head.startsWith('HTTP/1.1 200 ') || body !== right) throw new Error(`${proxy.name}, ${story.title}, connection ${number}: not what the upstream says:\n${answer.text}\nbut should be\n${right}`);
        answer.leads = proxy.isLeader(head);
    });
    const ends = sorted(answers.map(({ endMs }) => endMs));
    const leaders = answers.filter(({ leads }) => leads).map(({ endMs }) => endMs);
    const leader = leaders.length ? Math.min(...leaders) : ends[0];
    return { calls, leader, p50: ends[Math.floor(ends.length / 2)], max: ends.at(-1), behind: ends.at(-1) - leader, sent: Math.max(...answers.map(({ sentMs }) => sentMs)) };
}

// ---- the table ----------------------------------------------------------------------------------------------------------------------

const ms = (number) => number.toFixed(0).padStart(8);
function print(title, proxy, rounds) {
    const calls = [...new Set(rounds.map((round) => round.calls))].join('/');
    const of = (what) => median(rounds.map((round) => round[what]));
    console.log(`${title.padEnd(36)} ${proxy.padEnd(12)} ${calls.padStart(9)} ${ms(of('leader'))} ${ms(of('p50'))} ${ms(of('max'))} ${ms(of('behind'))}   ${(of('max') / LATENCY_MS).toFixed(2).padStart(6)}`);
}

const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-herd-'));
await chmod(dir, 0o755); // started by root, nginx works as somebody else
const upstream = await startUpstream();
const hasNginx = spawnSync('nginx', ['-v']).status === 0;
const starts = {
    alone: () => ({ name: 'no proxy', port: upstream.port, isLeader: () => true, ownIds: true, close: () => {} }),
    mcpcached: () => startSidecar(upstream, dir),
    ...(hasNginx ? { nginx: () => startNginx(upstream, dir) } : {}),
};
if (!hasNginx) console.log('nginx is not installed, so it is left out (apt-get install nginx).');
console.log(`${COUNT} identical requests at once, cold, on open connections; the upstream takes ${LATENCY_MS} ms; times in ms from the first byte sent, medians of ${ROUNDS} rounds`);
console.log(`${'the answer'.padEnd(36)} ${'proxy'.padEnd(12)} ${'calls'.padStart(9)} ${['leader', 'p50', 'max', 'behind*'].map((word) => word.padStart(8)).join(' ')}   max in latencies`);
let n = 0;
try {
    for (const [name, begin] of Object.entries(starts)) {
        if (given.only && given.only !== name) continue;
        const proxy = await begin();
        try {
            for (const story of name === 'alone' ? STORIES.slice(0, 1) : STORIES) {
                const [firsts, seconds] = [[], []];
                for (let round = 0; round < ROUNDS; round++) {
                    n += 1;
                    firsts.push(await herd(proxy, upstream, dir, story, n));
                    if (story.again) seconds.push(await herd(proxy, upstream, dir, story, n));
                }
                print(story.title, proxy.name, firsts);
                if (story.again) print(story.again, proxy.name, seconds);
            }
        } finally {
            await proxy.close();
        }
    }
    console.log('* how long after the leader the last one had his answer. nginx gets the same id from everybody, as it cannot tell ids from the rest; what it may keep the upstream says in a header.');
} finally {
    await upstream.close();
    await rm(dir, { recursive: true, force: true });
}
