/* SPDX-License-Identifier: Apache-2.0 */
import { built } from '../../lib/machine.mjs';
import { freePort, startProgram } from '../../lib/subjects.mjs';

export default {
    title: 'bare libh2o handler',
    does: 'No. It reads nothing and answers with fixed bytes: the ceiling for anything built on this library.',
    ids: 'fixed',
    path: ({ size_min: size }) => `/${size}`,
    async start({ core, sizes }) {
        const port = await freePort();
        return { ...(await startProgram({ program: built('bench/peers/bare/bare'), args: [port, ...sizes].map(String), port, core, title: this.title })), version: 'libh2o-evloop' };
    },
};
