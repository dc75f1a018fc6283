/* SPDX-License-Identifier: Apache-2.0 */
// The HTTP side that our own upstreams share: a loopback port, the request's body, who calls, and a record of all that arrived.
// MCP itself is the SDKs' business.
import http from 'node:http';
import https from 'node:https';
import { once } from 'node:events';

const MCP_PATH = '/mcp';

async function bodyOf(request) {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const text = Buffer.concat(pieces).toString('utf8');
    if (text === '') return undefined;
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}

export function answerError(response, status, code, message, id = null) {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id, error: { code, message } }));
}

const isLoopback = (authority) => /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/.test(authority ?? '');

/** Guards against DNS rebinding as the specification asks: Host, and Origin where one is sent, must be loopback. */
function comesFromLoopback({ headers: { host, origin } }) {
    if (!isLoopback(host)) return false;
    return origin === undefined || (URL.canParse(origin) && isLoopback(new URL(origin).host));
}

/**
 * Serves `handle(request, response, body)` at http://127.0.0.1:<free port>/mcp. `body` is the parsed message, null when it is no JSON,
 * undefined without one. `world` gets a note of each request; a bearer token becomes `request.auth`, its text the caller's name.
 */
export async function serveMcp(world, handle, { t, tls, guard = true, onClose } = {}) {
    const listener = async (request, response) => {
        try {
            const url = new URL(request.url, 'http://upstream');
            if (guard && !comesFromLoopback(request)) return answerError(response, 403, -32000, 'Host or Origin is not allowed here');
            if (url.pathname !== MCP_PATH) {
                world.other.push(`${request.method} ${url.pathname}`);
                response.writeHead(404, { 'content-type': 'text/plain', 'x-upstream': 'yes' });
                return response.end(`nothing at ${url.pathname}`);
            }
            const token = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
            if (token) request.auth = { token, clientId: token, scopes: [] };
            const body = request.method === 'POST' ? await bodyOf(request) : undefined;
            world.note(request, body);
            if (body === null) return answerError(response, 400, -32700, 'Parse error');
            await handle(request, response, body);
        } catch (error) {
            if (response.headersSent) response.destroy();
            else answerError(response, 500, -32603, String(error));
        }
    };
    const server = tls ? https.createServer(tls, listener) : http.createServer(listener);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const close = async () => {
        if (!server.listening) return;
        await onClose?.();
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        await closed;
    };
    t?.after(close);
    const { port } = server.address();
    return { url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}${MCP_PATH}`, origin: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`, port, world, close };
}
