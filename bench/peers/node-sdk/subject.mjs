/* SPDX-License-Identifier: Apache-2.0 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { peerFolder, freePort, startProgram } from '../../lib/subjects.mjs';
import { projectRoot } from '../../lib/machine.mjs';

const packages = path.join(projectRoot, 'tests/e2e/node_modules/@modelcontextprotocol/server');

export default {
    title: 'Node server, official SDK',
    does: 'No cache. What a user has: @modelcontextprotocol/server v2 with a tool that computes nothing.',
    once: true,
    prepare: () => (existsSync(packages) ? undefined : 'its npm packages (tests/e2e) are not installed'),
    async start({ core }) {
        const port = await freePort();
        return { ...(await startProgram({ program: process.execPath, args: [path.join(peerFolder('node-sdk'), 'server.cjs'), String(port)], port, core, title: this.title })), version: `Node.js ${process.version}` };
    },
};
