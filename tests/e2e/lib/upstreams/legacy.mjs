/* SPDX-License-Identifier: Apache-2.0 */
// The world on @modelcontextprotocol/sdk v1: the legacy era, up to 2025-11-25.
import { randomUUID } from 'node:crypto';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CreateMessageResultSchema, ElicitResultSchema, isInitializeRequest, SubscribeRequestSchema, UnsubscribeRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { EventLog } from './events.mjs';
import { answerError, serveMcp } from './host.mjs';
import { furnish, World } from './world.mjs';

const resultSchemas = { 'elicitation/create': ElicitResultSchema, 'sampling/createMessage': CreateMessageResultSchema };

const bridge = {
    ResourceTemplate,
    hints: false,
    promptArguments: (shape) => shape,
    caller: (context) => context.authInfo?.clientId ?? 'nobody',
    signal: (context) => context.signal,
    request: (context, method, params) => context.sendRequest({ method, params }, resultSchemas[method]),
    async progress(context, params) {
        const progressToken = context._meta?.progressToken;
        if (progressToken !== undefined) await context.sendNotification({ method: 'notifications/progress', params: { progressToken, ...params } });
    },
};

function build(world, subscribe) {
    const server = new McpServer({ name: 'world-v1', version: '1.0.0' }, { capabilities: { resources: { ...(subscribe ? { subscribe } : {}), listChanged: true }, tools: { listChanged: true }, logging: {} } });
    furnish(server, world, bridge);
    const subscriptions = new Set();
    if (subscribe) {
        server.server.setRequestHandler(SubscribeRequestSchema, async ({ params }) => (subscriptions.add(params.uri), {}));
        server.server.setRequestHandler(UnsubscribeRequestSchema, async ({ params }) => (subscriptions.delete(params.uri), {}));
    }
    const unwatch = world.watch(({ updated, listChanged }) => {
        if (updated !== undefined && subscriptions.has(updated)) server.server.sendResourceUpdated({ uri: updated }).catch(() => {});
        if (listChanged === 'tools') server.sendToolListChanged();
        if (listChanged === 'resources') server.sendResourceListChanged();
    });
    return { server, unwatch };
}

/**
 * Starts one; resolves with {url, origin, world, sessions, close}.
 * @param sessions  true: Mcp-Session-Id, GET streams, DELETE; false: stateless, POST only
 * @param json      answer POSTs with application/json instead of an event stream
 * @param events    keep events, so that streams can be resumed
 * @param subscribe has subscriptions to resources
 */
export async function startLegacy({ t, sessions: stateful = true, json = false, events = false, subscribe = true, tls } = {}) {
    const world = new World();
    const sessions = new Map();

    async function handleStateless(request, response, body) {
        if (request.method !== 'POST') return answerError(response, 405, -32000, 'Method not allowed');
        const { server, unwatch } = build(world, subscribe);
        const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: json });
        response.on('close', () => {
            unwatch();
            transport.close();
            server.close();
        });
        await server.connect(transport);
        await transport.handleRequest(request, response, body);
    }

    async function handleSession(request, response, body) {
        const id = request.headers['mcp-session-id'];
        if (id !== undefined) {
            const transport = sessions.get(id);
            return transport ? transport.handleRequest(request, response, body) : answerError(response, 404, -32001, 'Session not found');
        }
        if (request.method !== 'POST' || !isInitializeRequest(body)) return answerError(response, 400, -32000, 'Bad Request: no session');
        const { server, unwatch } = build(world, subscribe);
        const transport = new StreamableHTTPServerTransport({
            sessionIdGenerator: randomUUID,
            enableJsonResponse: json,
            eventStore: events ? new EventLog() : undefined,
            retryInterval: events ? 100 : undefined,
            onsessioninitialized: (sessionId) => sessions.set(sessionId, transport),
        });
        transport.onclose = () => {
            unwatch();
            sessions.delete(transport.sessionId);
        };
        await server.connect(transport);
        await transport.handleRequest(request, response, body);
    }

    const host = await serveMcp(world, stateful ? handleSession : handleStateless, { t, tls });
    return { ...host, sessions };
}
