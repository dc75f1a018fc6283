/* SPDX-License-Identifier: Apache-2.0 */
// The official SDK clients, both generations, with a record of what each exchange looked like on the wire: the evidence that tests use
// to tell a hit from a miss. A client's own response cache is never what is tested, so the modern client is asked to bypass it.
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Client as ClientV2, StreamableHTTPClientTransport as TransportV2 } from '@modelcontextprotocol/client';

/** `mcpcached; hit; ttl=12` -> {hit: true, ttl: 12}; `mcpcached; fwd=miss; stored` -> {fwd: 'miss', stored: true}; no header -> undefined. */
export function parseCacheStatus(value) {
    if (value === null || value === undefined) return undefined;
    const [cache, ...members] = value.split(';').map((member) => member.trim());
    const status = { cache };
    for (const member of members) {
        const [name, given] = member.split('=', 2);
        status[name] = given === undefined ? true : /^-?\d+$/.test(given) ? Number(given) : given;
    }
    return status;
}

/** One word for what the sidecar did: hit, stale, miss, write, bypass; `none` when it said nothing. */
export function outcomeOf(cacheStatus) {
    if (!cacheStatus) return 'none';
    if (cacheStatus.hit) return cacheStatus.ttl < 0 ? 'stale' : 'hit';
    return cacheStatus.detail === 'write' ? 'write' : (cacheStatus.fwd ?? 'none');
}

/** A fetch that keeps notes: `exchanges` holds {verb, method, name, id, status, outcome, cacheStatus, age, headers} in the order of arrival. */
export function recordingFetch() {
    const exchanges = [];
    const recorded = async (url, init = {}) => {
        let message;
        try {
            message = JSON.parse(init.body);
        } catch {
            // A GET or DELETE has no message.
        }
        const response = await fetch(url, init);
        const cacheStatus = parseCacheStatus(response.headers.get('cache-status'));
        const age = response.headers.get('age');
        exchanges.push({
            verb: init.method ?? 'GET',
            method: message?.method,
            name: message?.params?.name ?? message?.params?.uri,
            id: message?.id,
            status: response.status,
            outcome: outcomeOf(cacheStatus),
            cacheStatus,
            age: age === null ? undefined : Number(age),
            headers: response.headers,
        });
        return response;
    };
    return { fetch: recorded, exchanges };
}

/** What the two generations have in common, under one set of names, so that one test can speak for both. */
class Caller {
    constructor(client, transport, exchanges, generation) {
        Object.assign(this, { client, transport, exchanges, generation });
    }
    /** The newest recorded exchange, or the newest of that method. */
    last(method) {
        return this.exchanges.findLast((exchange) => method === undefined || exchange.method === method);
    }
    async #noting(method, call) {
        const mark = this.exchanges.length;
        const result = await call();
        const exchange = this.exchanges.slice(mark).findLast((candidate) => candidate.method === method);
        return { result, outcome: exchange?.outcome ?? 'none', exchange };
    }
    #bypass(options) {
        return this.generation === 2 ? { cacheMode: 'bypass', ...options } : options;
    }
    /** `{result, outcome, exchange}` of a tool call. */
    call(name, args = {}, options) {
        return this.#noting('tools/call', () => this.generation === 2
            ? this.client.callTool({ name, arguments: args }, options)
            : this.client.callTool({ name, arguments: args }, undefined, options));
    }
    read(uri, options) {
        return this.#noting('resources/read', () => this.client.readResource({ uri }, this.#bypass(options)));
    }
    tools(options) {
        return this.#noting('tools/list', () => this.client.listTools(undefined, this.#bypass(options)));
    }
    resources(options) {
        return this.#noting('resources/list', () => this.client.listResources(undefined, this.#bypass(options)));
    }
    templates(options) {
        return this.#noting('resources/templates/list', () => this.client.listResourceTemplates(undefined, this.#bypass(options)));
    }
    prompts(options) {
        return this.#noting('prompts/list', () => this.client.listPrompts(undefined, this.#bypass(options)));
    }
    close() {
        return this.client.close();
    }
}

const headersOf = (token, headers) => ({ ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) });

/** Connects the v1 SDK's client (legacy era). `setup(client)` runs before the connection, e.g. to set request handlers. */
export async function connectV1(url, { t, token, headers, capabilities = {}, setup } = {}) {
    const { fetch: recorded, exchanges } = recordingFetch();
    const client = new ClientV1({ name: 'e2e-v1', version: '1.0.0' }, { capabilities });
    setup?.(client);
    const transport = new TransportV1(new URL(url), { fetch: recorded, requestInit: { headers: headersOf(token, headers) } });
    t?.after(() => client.close());
    await client.connect(transport);
    return new Caller(client, transport, exchanges, 1);
}

/** Connects the v2 SDK's client; `era` is 'modern' (2026-07-28, pinned) or 'legacy'. */
export async function connectV2(url, { t, token, headers, era = 'modern', capabilities = {}, setup } = {}) {
    const { fetch: recorded, exchanges } = recordingFetch();
    const client = new ClientV2({ name: 'e2e-v2', version: '1.0.0' }, { capabilities, versionNegotiation: { mode: era === 'modern' ? { pin: '2026-07-28' } : 'legacy' } });
    setup?.(client);
    const transport = new TransportV2(new URL(url), { fetch: recorded, requestInit: { headers: headersOf(token, headers) } });
    t?.after(() => client.close());
    await client.connect(transport);
    return new Caller(client, transport, exchanges, 2);
}

export const textOf = (result) => result.content?.[0]?.text ?? result.contents?.[0]?.text;
