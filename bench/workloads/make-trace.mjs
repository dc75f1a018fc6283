#!/usr/bin/env node
/* SPDX-License-Identifier: Apache-2.0 */
// Makes the example trace from a seed: agents that work in sessions, ask for the same few things over and over, and now and then write. Not taken from anybody's logs.
// Usage: node make-trace.mjs [SEED] > example.csv
const seed = Number(process.argv[2] ?? 1);
const SECONDS = 20;
const AGENTS = 12;
const TOOLS = [ // name, how often, arguments, size in bytes, time upstream in us
    { name: 'get_ticket', weight: 30, of: (n) => ({ id: `T-${n}` }), things: 60, size: 900, costUs: 40_000 },
    { name: 'get_file', weight: 25, of: (n) => ({ path: `/src/file${n}.c` }), things: 40, size: 12_000, costUs: 8_000 },
    { name: 'get_search', weight: 20, of: (n) => ({ query: `words ${n}`, limit: 10 }), things: 150, size: 3_500, costUs: 120_000 },
    { name: 'get_prices', weight: 15, of: (n) => ({ symbol: `S${n}` }), things: 15, size: 300, costUs: 25_000 },
    { name: 'get_report', weight: 3, of: (n) => ({ month: n }), things: 6, size: 180_000, costUs: 300_000 },
    { name: 'put_comment', weight: 1, of: (n) => ({ ticket: `T-${n}`, text: `comment ${n}` }), things: 60, size: 200, costUs: 60_000 },
];

let state = seed >>> 0 || 1;
function chance() { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}

const total = TOOLS.reduce((sum, { weight }) => sum + weight, 0);
function tool() {
    let at = chance() * total;
    return TOOLS.find(({ weight }) => (at -= weight) < 0) ?? TOOLS[0];
}

const events = [];
for (let agent = 0; agent < AGENTS; agent++) {
    let time = chance() * 3;
    while (time < SECONDS) {
        // A turn: a few calls close together, then the model thinks.
        for (let calls = 1 + Math.floor(chance() * 6); calls > 0; calls--) {
            const { name, of, things, size, costUs } = tool();
            const thing = Math.floor(things * chance() ** 2.5); // some are asked for far more often
            events.push({ time, name, args: of(thing), size: Math.max(200, Math.round(size * (0.5 + ((thing * 7919) % 100) / 100))), costUs, principal: `team-${agent % 3}` });
            time += 0.002 + chance() * 0.03;
        }
        time += 0.05 + chance() * 0.9;
    }
}
const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
console.log('ts,tool,args,size,cost_us,principal');
for (const { time, name, args, size, costUs, principal } of events.sort((a, b) => a.time - b.time)) console.log([time.toFixed(4), name, quoted(JSON.stringify(args)), size, costUs, principal].join(','));
