/* SPDX-License-Identifier: Apache-2.0 */
import { configure } from '../../lib/subjects.mjs';
import { nginx } from '../../lib/nginx.mjs';

const subject = nginx('nginx-lua', ['libnginx-mod-http-lua', 'lua-cjson'], {
    title: 'nginx + Lua',
    does: 'The hit itself, yes: parse, canonical key with the caller, own id, lifetime. Not: is the caller still let in, writes, purges, event streams.',
});

export default {
    ...subject,
    async start(options) {
        await configure('nginx-lua', 'cache.lua', options.dir, { TTL: options.ttl ?? '3600s' });
        return subject.start(options);
    },
};
