/* SPDX-License-Identifier: Apache-2.0 */
// The upstream is killed in the middle of steady traffic and comes back: what clients see with and without mcpcached, over time.
import { load, startUpstream } from '../lib/load.mjs';
import { freePort, startSubject } from '../lib/subjects.mjs';
import { sleep } from '../lib/machine.mjs';

const RATE = 1000;
const LATENCY_US = 10_000;

export async function outage(bench) {
    const { cores, say, quick } = bench;
    const seconds = quick ? 9 : 18;
    const from = seconds / 3;
    const to = 2 * from;
    const runs = [];
    for (const name of ['direct', 'mcpcached']) {
        const port = await freePort();
        let upstream = await startUpstream({ port, latency_us: LATENCY_US }, { core: cores.load });
        let sidecar;
        try {
            if (name === 'mcpcached') sidecar = await startSubject(bench.subjects.mcpcached, { upstream, core: cores.subject, policy: 'outage.yaml' });
            const options = { port: sidecar?.port ?? port, connections: 64, questions: 200, tools: 10, zipf: 0.8, seed: bench.seed };
            await load({ ...options, zipf: 0, order: 'each', seconds: 10 }, { core: cores.load });
            const run = load({ ...options, rate: RATE, seconds, series_ms: 100, timeout_ms: 3000 }, { core: cores.load });
            await sleep(from * 1000);
            await upstream.kill();
            await sleep((to - from) * 1000);
            upstream = await startUpstream({ port, latency_us: LATENCY_US }, { core: cores.load });
            const { series, said, ...result } = await run;
            runs.push({ name, title: name === 'direct' ? 'the upstream, directly' : 'mcpcached', ...result, series });
            say(`${name}: ${result.ok} right, ${result.failed} failed, p99 ${result.latencyUs.p99} us`);
        } finally {
            await sidecar?.stop();
            await upstream.stop();
        }
    }
    return { rate: RATE, latencyUs: LATENCY_US, seconds, from, to, runs };
}
