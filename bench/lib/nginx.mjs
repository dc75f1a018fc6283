/* SPDX-License-Identifier: Apache-2.0 */
// Three subjects are nginx with one configuration each.
import path from 'node:path';
import { needPackages, versionOf } from './machine.mjs';
import { configure, freePort, startProgram } from './subjects.mjs';

export const nginx = (name, packages, more) => ({
    ...more,
    prepare: () => needPackages('nginx', ...packages),
    async start({ upstream, dir, core, ttl = '3600s' }) {
        const port = await freePort();
        const file = await configure(name, 'nginx.conf', dir, { DIR: dir, PORT: port, UPSTREAM: upstream.port, TTL: ttl });
        const program = await startProgram({ program: 'nginx', args: ['-e', path.join(dir, 'error.log'), '-p', dir, '-c', file], port, core, title: more.title });
        return { ...program, version: versionOf('nginx', ['-v']) };
    },
});
