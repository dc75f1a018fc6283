/* SPDX-License-Identifier: Apache-2.0 */
// A server that looks at who asks. Behind the sidecar it plays the upstream of every test about admission: each request passes `refuse` first, and
// what is let in is answered with who asked for it and the how many-eth time that was. It writes down nothing: the Scripted in front of it does.
import { complete, contents } from './rpc.mjs';

/** A JWT as far as anyone can tell who does not verify it. */
export function jwt(claims, { header = { alg: 'RS256', typ: 'JWT' }, signature = 'c2lnbmF0dXJl' } = {}) {
    const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
    return `${part(header)}.${part(claims)}.${signature}`;
}

/** Two challenges and a body whose bytes somebody could be tempted to tidy up. */
export const CHALLENGES = {
    401: ['Bearer realm="mcp",  error="invalid_token", resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"', 'DPoP algs="ES256 PS256"'],
    403: ['Bearer error="insufficient_scope", scope="tools:x  files:read", resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp"'],
};
export const REFUSALS = { 401: '{ "error" : "invalid_token" }\n', 403: '{"error":"insufficient_scope" }', 404: '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}' };

export class Door {
    /** (call, who, session) => a status to refuse with, or nothing. `who` is the Authorization value without its Bearer; undefined for nobody. */
    refuse = () => undefined;
    /** The session that the next initialize opens; undefined: none. */
    opens;
    /** How a caller is called in answers. */
    nameOf = (who) => who ?? 'nobody';
    /** Waited for before anything is answered: (call, who) => promise. */
    delay = () => undefined;
    #times = new Map();

    handle = async (call) => {
        const who = call.header('authorization')?.replace(/^Bearer /, '');
        const status = this.refuse(call, who, call.header('mcp-session-id'));
        await this.delay(call, who);
        return status === undefined ? this.#answer(call, who) : Door.turnAway(call, status);
    };

    static turnAway(call, status) {
        const challenges = (CHALLENGES[status] ?? []).map((challenge) => ['WWW-Authenticate', challenge]);
        return call.reply(status, [['Content-Type', 'application/json'], ...challenges], REFUSALS[status] ?? 'no');
    }

    #answer(call, who) {
        if (call.method === 'GET') return call.stream();
        if (call.method !== 'POST') return call.reply(200);
        const message = call.json;
        if (message?.id === undefined) return call.reply(202);
        const isModern = message.params?._meta !== undefined;
        const what = call.name ?? message.method;
        this.#times.set(what, (this.#times.get(what) ?? 0) + 1);
        const text = `${what} for ${this.nameOf(who)}, ${this.#times.get(what)}`;
        switch (message.method) {
        case 'initialize':
            return call.result({ protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'door', version: '1' } }, { headers: this.opens ? { 'Mcp-Session-Id': this.opens } : {} });
        case 'ping':
            return call.result({});
        case 'server/discover':
            return call.result({ resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, serverInfo: { name: 'door', version: '1' }, ttlMs: 0, cacheScope: 'private' });
        case 'resources/read':
            return call.result(isModern ? contents(what, text, { ttlMs: 60_000, cacheScope: what.startsWith('public:') ? 'public' : 'private' }) : { contents: [{ uri: what, text }] });
        case 'tools/call':
            return call.result(isModern ? complete(text) : { content: [{ type: 'text', text }] });
        default:
            return call.result({ resultType: 'complete', of: text, tools: [], ttlMs: 60_000, cacheScope: 'public' });
        }
    }
}

/** Requests of the sidecar's own, as the upstream saw them. */
export const probesOf = (upstream, who) => upstream.calls.filter((call) => call.id.startsWith('"mcpcached-') && (who === undefined || call.header('authorization') === `Bearer ${who}`));
