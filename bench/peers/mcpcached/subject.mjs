/* SPDX-License-Identifier: Apache-2.0 */
import path from 'node:path';
import { built, versionOf } from '../../lib/machine.mjs';
import { configure, freePort, startProgram } from '../../lib/subjects.mjs';

const binary = path.resolve(process.env.MCPCACHED || built('mcpcached'));

export default {
    title: 'mcpcached',
    does: 'Yes: canonical key, own id, caller admitted, lifetime, purges.',
    /** `store` outlives stop(), `storeSize` and `threads` as the flags say; `policy` is a file of this folder. */
    async start({ upstream, dir, core, ttl = '1h', store = path.join(dir, 'store'), storeSize = '1GiB', threads = 1, policy = 'policy.yaml', port, flags = [] }) {
        port ??= await freePort();
        const file = await configure('mcpcached', policy, dir, { TTL: ttl, KEEP: ttl === 'off' ? 'ttl: off' : `ttl: ${ttl}, scope: principal` });
        const args = ['serve', '--listen', `127.0.0.1:${port}`, '--upstream', upstream.url, '--policy', file, '--store', store, '--store-size', storeSize, '--threads', String(threads),
            '--insert-rate', '0', '--principal-share', '100', '--log-level', 'warn', ...flags];
        return { ...(await startProgram({ program: binary, args, port, core, title: this.title })), version: versionOf(binary, ['--version']) };
    },
};
