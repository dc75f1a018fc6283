/* SPDX-License-Identifier: Apache-2.0 */
// Requests of both eras as a raw client sends them, down to the byte, and the reading of what the sidecar says about them.
import { headerPairs } from './http1.mjs';

/** JSON text that goes out exactly as written. */
export class Raw {
    constructor(text) { this.text = text; }
}
export const raw = (text) => new Raw(text);

/** JSON of a value in which Raw parts stand verbatim. */
export function textOf(value) {
    if (value instanceof Raw) return value.text;
    if (Array.isArray(value)) return `[${value.map(textOf).join(',')}]`;
    if (value && typeof value === 'object') return `{${Object.entries(value).filter(([, member]) => member !== undefined).map(([name, member]) => `${JSON.stringify(name)}:${textOf(member)}`).join(',')}}`;
    return JSON.stringify(value);
}

const MIRRORED_NAME = { 'tools/call': 'name', 'prompts/get': 'name', 'resources/read': 'uri', 'tasks/get': 'taskId', 'tasks/update': 'taskId', 'tasks/cancel': 'taskId' };
export const MODERN = '2026-07-28';
export const ACCEPT = 'application/json, text/event-stream';
const META = 'io.modelcontextprotocol/';

/** A header value: printable ASCII as it is, anything else in the Base64 form of 2026-07-28. */
const mirrored = (text) => (/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?base64?') ? text : `=?base64?${Buffer.from(text).toString('base64')}?=`);

function request(body, headers, extra) {
    const given = headerPairs(extra);
    const named = new Set((Array.isArray(extra) ? extra : Object.entries(extra ?? {})).map(([name]) => name.toLowerCase()));
    return { method: 'POST', path: '/mcp', headers: [...headers.filter(([name, value]) => value !== undefined && !named.has(name.toLowerCase())), ...given], body };
}

const envelope = (id, method, params) => `{"jsonrpc":"2.0",${id === undefined ? '' : `"id":${id},`}"method":${JSON.stringify(method)}${params === undefined ? '' : `,"params":${textOf(params)}`}}`;
const bearer = (token) => (token === null ? undefined : `Bearer ${token}`);

/**
 * A request of 2026-07-28.
 * @param id       raw JSON token; null: a notification
 * @param token    bearer token; null: no Authorization
 * @param meta     further members of _meta (undefined removes one)
 * @param headers  further headers; null removes one of the usual
 */
export function modern(method, params = {}, { id = '1', token = 'alpha', version = MODERN, capabilities = {}, meta = {}, headers = {} } = {}) {
    const _meta = { [`${META}protocolVersion`]: version, [`${META}clientInfo`]: { name: 'raw', version: '1' }, [`${META}clientCapabilities`]: capabilities, ...meta };
    const name = params[MIRRORED_NAME[method]];
    return request(envelope(id ?? undefined, method, { ...params, _meta }), [
        ['Content-Type', 'application/json'],
        ['Accept', ACCEPT],
        ['MCP-Protocol-Version', version],
        ['Mcp-Method', method],
        ['Mcp-Name', typeof name === 'string' ? mirrored(name) : undefined],
        ['Authorization', bearer(token)],
    ], headers);
}

/** A request of 2025-xx-xx. */
export function legacy(method, params, { id = '1', token = 'alpha', version = '2025-11-25', session, headers = {} } = {}) {
    return request(envelope(id ?? undefined, method, params), [
        ['Content-Type', 'application/json'],
        ['Accept', ACCEPT],
        ['MCP-Protocol-Version', method === 'initialize' ? undefined : version],
        ['Mcp-Session-Id', session],
        ['Authorization', bearer(token)],
    ], headers);
}

export const callTool = (name, args, options) => modern('tools/call', { name, arguments: args }, options);
export const readResource = (uri, options) => modern('resources/read', { uri }, options);
export const legacyCall = (name, args, options) => legacy('tools/call', { name, arguments: args }, options);
/** What the body of any request becomes when a test wants its own bytes, its headers kept. */
export const withBody = (request, body) => ({ ...request, body });

/** A tool's complete result in the modern era. */
export const complete = (text, more = {}) => ({ resultType: 'complete', content: [{ type: 'text', text }], ...more });
/** A resource's. */
export const contents = (uri, text, more = {}) => ({ resultType: 'complete', contents: [{ uri, mimeType: 'text/plain', text }], ...more });

/** The message that an answer carries: the JSON body, or the last event of the stream that has a result or an error. */
export async function messageOf(answer) {
    const body = (await answer.body()).toString('utf8');
    if (!/text\/event-stream/.test(answer.header('content-type') ?? '')) return JSON.parse(body);
    return body.split('\n\n')
        .map((event) => event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart()).join('\n'))
        .filter(Boolean).map((data) => JSON.parse(data)).findLast((message) => 'result' in message || 'error' in message);
}

/**
 * What Cache-Status says: 'hit', 'stale' (in grace), 'stale:stale-if-error', 'miss', 'collapsed' (a miss that waited for somebody else's fetch), 'bypass:REASON', 'error:REASON' (a refusal of
 * the sidecar's own for which the upstream was not asked); 'miss:unproven' and 'miss:expired' where an entry was there and this caller was not let in, which says nothing about whose the
 * entry is. Whatever else is said of a miss (purged, hit-for-miss, why it was not kept, why the fetch failed) leaves it a 'miss'; 'none' when there is no
 * such header.
 */
export function outcomeOf(answer) {
    const status = answer.header('cache-status');
    if (status === undefined) return 'none';
    const [cache, ...parts] = status.split(';').map((part) => part.trim());
    if (cache !== 'mcpcached') return `strange:${status}`;
    const forwarded = parts.find((part) => part.startsWith('fwd='))?.slice(4);
    const detail = parts.find((part) => part.startsWith('detail='))?.slice(7);
    if (parts.includes('hit')) return detail === 'stale' ? 'stale' : 'hit';
    if (parts.includes('collapsed')) return 'collapsed';
    if (forwarded === 'stale') return `stale:${detail}`;
    if (forwarded === undefined && detail !== undefined) return `error:${detail}`;
    if (forwarded === 'bypass' || ['unproven', 'expired'].includes(detail)) return `${forwarded}:${detail}`;
    return forwarded ?? `strange:${status}`;
}
