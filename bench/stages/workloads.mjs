/* SPDX-License-Identifier: Apache-2.0 */
// The workloads of bench/workloads/*.json, each with mcpcached fresh in front of an upstream of its own.
//   load        arguments of load/load.c; `about` says what it is
//   upstream    arguments of load/upstream.c
//   policy      a file of peers/mcpcached/
//   fillSeconds how long the same load runs before it counts; without it each question is asked once
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { load, measure, startUpstream } from '../lib/load.mjs';
import { projectRoot } from '../lib/machine.mjs';
import { startSubject } from '../lib/subjects.mjs';

const folder = path.join(projectRoot, 'bench/workloads');

export const readWorkloads = () => readdirSync(folder).filter((file) => file.endsWith('.json')).sort()
    .map((file) => ({ name: path.basename(file, '.json'), ...JSON.parse(readFileSync(path.join(folder, file), 'utf8')) }));

export async function runWorkload(workload, subject, { cores, seconds, seed, upstream: given }) {
    const upstream = given ?? await startUpstream({ latency_us: 0, ...workload.upstream }, { core: cores.load });
    let running;
    try {
        running = await startSubject(subject, { upstream, core: cores.subject, sizes: [1024], policy: workload.policy, storeSize: '4GiB' });
        const options = { seed, ...workload.load };
        if (options.trace) options.trace = path.join(projectRoot, options.trace);
        const to = { port: running.port };
        if (workload.fillSeconds) await load({ ...to, ...options, seconds: workload.fillSeconds }, { core: cores.load });
        else if (options.questions > 1) await load({ ...to, ...options, zipf: 0, write: 0, list: 0, burst: 0, order: 'each', seconds: 30 }, { core: cores.load });
        await upstream.reset();
        const sample = await measure(running, { warmup: 0.2, ...options, seconds: options.trace ? 120 : seconds }, cores);
        return { name: workload.name, title: workload.title, about: workload.about, ...sample, upstream: await upstream.stats() };
    } finally {
        await running?.stop();
        if (!given) await upstream.stop();
    }
}

export async function workloads(bench) {
    const rows = [];
    for (const workload of readWorkloads()) {
        if (bench.quick && workload.load.trace) workload.load.speed = 5;
        const row = await runWorkload(workload, bench.subjects.mcpcached, { cores: bench.cores, seconds: bench.quick ? 1.2 : 4, seed: bench.seed });
        bench.judge(workload.title, row);
        delete row.said;
        rows.push(row);
        bench.say(`${workload.title.padEnd(26)} ${Math.round(row.perSecond)}/s, ${(100 * row.hits / row.ok).toFixed(1)} % hits, ${row.failed} failed`);
    }
    return { rows };
}
