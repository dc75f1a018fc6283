/* SPDX-License-Identifier: Apache-2.0 */
import path from 'node:path';
import { needPackages, versionOf } from '../../lib/machine.mjs';
import { configure, freePort, startProgram } from '../../lib/subjects.mjs';

export default {
    title: 'Varnish + bodyaccess',
    does: 'No. The body is the key, id included, and it cannot write another id into an answer. Measured with the same id each time.',
    ids: 'fixed',
    prepare: () => needPackages('varnish', 'varnish-modules'),
    async start({ upstream, dir, core, ttl = '3600s' }) {
        const port = await freePort();
        const file = await configure('varnish', 'bench.vcl', dir, { UPSTREAM: upstream.port, TTL: ttl });
        const args = ['-F', '-j', 'none', '-n', path.join(dir, 'work'), '-a', `127.0.0.1:${port}`, '-f', file, '-s', 'malloc,512m', '-p', 'thread_pool_min=100', '-p', 'thread_pools=1'];
        return { ...(await startProgram({ program: 'varnishd', args, port, core, title: this.title })), version: versionOf('varnishd', ['-V']) };
    },
};
