/* SPDX-License-Identifier: Apache-2.0 */
// What a call costs that has to go upstream all the same: added latency over asking the upstream itself, beside what nginx adds that only forwards.
import { measure, median } from '../lib/load.mjs';
import { startSubject } from '../lib/subjects.mjs';

/** Where nginx adds nothing that can be told from noise, a ratio to it says nothing. */
const ratioOf = (added, nginx) => (median(nginx) < 2 ? null : median(added.map((us, i) => us / nginx[i])));

const FAR = 1_000_000_000; // questions that nobody asked before

export async function forward(bench) {
    const { cores, say, quick } = bench;
    const rounds = quick ? 3 : 5;
    const seconds = quick ? 0.5 : 1.2;
    const rows = [];
    const running = [];
    const upstream = { title: 'upstream, directly', port: bench.upstream.port, pid: bench.upstream.pid };
    try {
        const start = async (name) => running[running.push(await startSubject(bench.subjects[name], { upstream: bench.upstream, core: cores.subject, sizes: bench.sizes })) - 1];
        const nginx = bench.subjects['nginx-pass'] && !bench.leftOut['nginx-pass'] ? await start('nginx-pass') : undefined;
        const sidecar = await start('mcpcached');
        const legs = [
            { name: 'direct', title: 'the upstream itself', subject: upstream },
            ...(nginx ? [{ name: 'nginx-pass', title: 'nginx proxy_pass', subject: nginx }] : []),
            { name: 'miss', title: 'mcpcached, a miss', subject: sidecar },
            { name: 'write', title: 'mcpcached, a forwarded write', subject: sidecar, options: { write: 1 } },
        ];
        let asked = FAR;
        for (const connections of [1, 16]) {
            const samples = new Map(legs.map(({ name }) => [name, []]));
            for (let round = 0; round < rounds; round++) {
                for (let i = 0; i < legs.length; i++) {
                    const { name, title, subject, options } = legs[(i + round) % legs.length];
                    const sample = await measure(subject, { connections, order: 'each', first: asked, questions: FAR, tools: 1, warmup: 0.15, seconds, seed: bench.seed, ...options }, cores);
                    asked += sample.asked + connections;
                    samples.get(name).push(sample);
                    bench.judge(title, sample);
                    say(`round ${round + 1}/${rounds}  ${connections} connections  ${title.padEnd(28)} p50 ${sample.latencyUs.p50} us`);
                }
            }
            const direct = samples.get('direct');
            const p50Of = (name) => samples.get(name).map((sample, i) => sample.latencyUs.p50 - direct[i].latencyUs.p50);
            for (const { name, title } of legs) {
                const mine = samples.get(name);
                const added = p50Of(name);
                rows.push({
                    connections, name, title, perSecond: median(mine.map((s) => s.perSecond)), p50: median(mine.map((s) => s.latencyUs.p50)), p99: median(mine.map((s) => s.latencyUs.p99)),
                    cpuUs: median(mine.map((s) => s.cpuUs)), addedP50: name === 'direct' ? 0 : median(added),
                    ofNginx: name === 'direct' || !nginx ? null : ratioOf(added, p50Of('nginx-pass')), hits: mine.reduce((sum, s) => sum + s.hits, 0),
                });
            }
        }
    } finally {
        for (const subject of running) await subject.stop();
    }
    return { rounds, seconds, rows };
}
