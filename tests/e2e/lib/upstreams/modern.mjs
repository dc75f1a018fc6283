/* SPDX-License-Identifier: Apache-2.0 */
// The world on @modelcontextprotocol/server v2: the modern era (2026-07-28), and its stateless leg for legacy clients.
import { createMcpHandler, McpServer, ResourceTemplate } from '@modelcontextprotocol/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import * as z from 'zod';
import { serveMcp } from './host.mjs';
import { furnish, World } from './world.mjs';

const bridge = {
    ResourceTemplate,
    promptArguments: (shape) => z.object(shape),
    caller: (context) => context.http?.authInfo?.clientId ?? 'nobody',
    signal: (context) => context.mcpReq.signal,
    async progress(context, params) {
        const progressToken = context.mcpReq._meta?.progressToken;
        if (progressToken !== undefined) await context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, ...params } });
    },
};

const LISTS = ['server/discover', 'tools/list', 'prompts/list', 'resources/list', 'resources/templates/list'];

/**
 * Starts one; resolves with {url, origin, world, openStreams(), close}.
 * @param response  'auto' (JSON until something has to be said before the result), 'json' or 'sse'
 * @param hints     send ttlMs and cacheScope; without them the SDK's own defaults (0, private) are sent
 * @param ttlMs     lifetime of the lists
 * @param subscribe    has subscriptions to resources
 * @param keepAliveMs  comment interval on idle streams, 0 for silence
 */
export async function startModern({ t, response = 'auto', hints = true, ttlMs = 60_000, scope = 'public', subscribe = true, keepAliveMs, tls } = {}) {
    const world = new World();
    const cacheHints = hints ? Object.fromEntries(LISTS.map((method) => [method, { ttlMs, cacheScope: scope }])) : undefined;
    const build = () => {
        const server = new McpServer({ name: 'world-v2', version: '1.0.0' }, { capabilities: { resources: { ...(subscribe ? { subscribe } : {}), listChanged: true }, tools: { listChanged: true } }, cacheHints });
        furnish(server, world, { ...bridge, hints });
        return server;
    };
    const handler = createMcpHandler(build, { legacy: 'stateless', responseMode: response, keepAliveMs, onerror: () => {} });
    world.watch(({ updated, listChanged }) => {
        if (updated !== undefined) handler.notify.resourceUpdated(updated);
        if (listChanged === 'tools') handler.notify.toolsChanged();
        if (listChanged === 'resources') handler.notify.resourcesChanged();
    });
    const host = await serveMcp(world, toNodeHandler(handler), { t, tls, onClose: () => handler.close() });
    return { ...host, openStreams: () => handler.bus.listenerCount };
}
