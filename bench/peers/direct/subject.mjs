/* SPDX-License-Identifier: Apache-2.0 */
import { startUpstream } from '../../lib/load.mjs';

export default {
    title: 'fixture upstream, directly',
    does: 'No cache. The C program that stands behind all others, without any latency: what a server costs that has nothing to do.',
    once: true,
    async start({ core }) {
        return { ...(await startUpstream({}, { core })), version: 'this tree' };
    },
};
