/* SPDX-License-Identifier: Apache-2.0 */
// An MCP server on the official SDK whose answers are those of load/content.h. Usage: node server.cjs PORT
const { createRequire } = require('node:module');
const http = require('node:http');
const path = require('node:path');
const ours = createRequire(path.join(__dirname, '../../../tests/e2e/package.json'));
const { createMcpHandler, McpServer } = ours('@modelcontextprotocol/server');
const { toNodeHandler } = ours('@modelcontextprotocol/node');
const z = ours('zod');

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const SHIFT = 4096;
const pattern = (() => {
    const bytes = Buffer.alloc((2 << 20) + SHIFT);
    for (let i = 0, x = 2463534242; i < bytes.length; i++) {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        bytes[i] = ALPHABET.charCodeAt(x & 63);
    }
    return bytes.toString('latin1');
})();

function contentOf(tool, args, size) {
    let hash = 2166136261;
    for (const byte of Buffer.from(`${tool} ${args} -`)) hash = Math.imul(hash ^ byte, 16777619);
    hash >>>= 0;
    const mark = `${tool}#${hash.toString(16).padStart(8, '0')}/${size}/- `;
    const from = hash % SHIFT;
    return mark + pattern.slice(from, from + Math.max(0, size - mark.length));
}

const build = () => {
    const server = new McpServer({ name: 'bench', version: '1.0.0' });
    for (let i = 0; i < 1; i++) {
        const tool = `get_${i}`;
        server.registerTool(tool, { inputSchema: z.object({ key: z.string(), size: z.number().int() }) }, async ({ key, size }) => ({
            content: [{ type: 'text', text: contentOf(tool, `{"key":"${key}","size":${size}}`, size) }],
        }));
    }
    return server;
};
const handle = toNodeHandler(createMcpHandler(build, { legacy: 'stateless', responseMode: 'json', onerror: (error) => console.error(error.message) }));
http.createServer(async (request, response) => {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    await handle(request, response, pieces.length ? JSON.parse(Buffer.concat(pieces).toString('utf8')) : undefined);
}).listen(Number(process.argv[2]), '127.0.0.1');
