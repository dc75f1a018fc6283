/* SPDX-License-Identifier: Apache-2.0 */
// What a lifetime buys: the share of hits, and the time that the upstream works, by ttl, from a cold start.
import { load, startUpstream } from '../lib/load.mjs';
import { startSubject } from '../lib/subjects.mjs';

const RATE = 1000;
const LATENCY_US = 20_000;

export async function ttl(bench) {
    const { cores, say, quick } = bench;
    const seconds = quick ? 4 : 8;
    const rows = [];
    for (const lifetime of quick ? ['off', '1s', '3s', '10m'] : ['off', '500ms', '1s', '2s', '5s', '10m']) {
        const upstream = await startUpstream({ latency_us: LATENCY_US }, { core: cores.load });
        let sidecar;
        try {
            sidecar = await startSubject(bench.subjects.mcpcached, { upstream, core: cores.subject, ttl: lifetime });
            const result = await load({ port: sidecar.port, connections: 128, rate: RATE, poisson: 1, questions: 1000, tools: 10, zipf: 0.9, seconds, seed: bench.seed }, { core: cores.load });
            const { calls, busyMs } = await upstream.stats();
            bench.judge(`ttl ${lifetime}`, result);
            rows.push({ ttl: lifetime, hitShare: result.hits / result.ok, calls, upstreamSeconds: busyMs / 1000, asked: result.asked, p50: result.latencyUs.p50, p99: result.latencyUs.p99 });
            say(`ttl ${lifetime}: ${(100 * result.hits / result.ok).toFixed(1)} % hits, upstream ${(busyMs / 1000).toFixed(1)} s`);
        } finally {
            await sidecar?.stop();
            await upstream.stop();
        }
    }
    return { rate: RATE, latencyUs: LATENCY_US, seconds, questions: 1000, zipf: 0.9, rows };
}
