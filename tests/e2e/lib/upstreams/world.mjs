/* SPDX-License-Identifier: Apache-2.0 */
// What our upstreams offer, whatever SDK serves it: tools, resources, a prompt, and the small state behind them. And what happened
// there, counted at the handlers: the proof that a call did, or did not, reach the upstream.
import * as z from 'zod';
import { Gate } from '../wait.mjs';

/** Policy under which everything readable here is cached and nothing else; tests replace what they are about. */
export const readPolicy = `version: 1
defaults:
  lists: 10m
  resources: hint
tools:
  - { name: echo, ttl: 10m }
  - { name: add, ttl: 10m }
  - { name: whoami, ttl: 10m }
  - { name: peek, ttl: 10m }
  - { name: blob, ttl: 10m }
  - { name: refuse, ttl: 10m }
  - { name: stroll, ttl: 10m }
  - { name: ask, ttl: 10m, despite_annotations: true }
  - { name: "tick*", class: write }
resources:
  - { uri: "doc://**", ttl: 10m }
`;

/** `length` characters that are awkward in JSON and in UTF-8, different for each seed, and always the same. */
export function longText(length, seed = 0) {
    const line = `${seed}: quotes " and back\\slashes, tab\t, line\n, zoë, 漢字, 🎈; `;
    return line.repeat(Math.ceil(length / line.length)).slice(0, length).toWellFormed();
}

export const ONE_MEGABYTE = 1 << 20;

export class World {
    /** Handler runs by tool name or resource URI. */
    runs = {};
    /** HTTP requests at the MCP path: {verb, method, name, id, session, headers}. */
    wire = [];
    /** "VERB path" of requests elsewhere. */
    other = [];
    /** Calls whose client went away before the end. */
    aborted = 0;
    counters = new Map();
    /** Each step of `stroll` waits here after it has told its progress. */
    gate = new Gate();
    #watchers = new Set();

    note(request, body) {
        for (const message of Array.isArray(body) ? body : [body]) {
            this.wire.push({
                verb: request.method,
                method: message?.method,
                name: message?.params?.name ?? message?.params?.uri,
                id: message?.id,
                session: request.headers['mcp-session-id'],
                headers: request.headers,
            });
        }
    }
    ran(what) {
        this.runs[what] = this.timesRun(what) + 1;
    }
    timesRun(what) {
        return this.runs[what] ?? 0;
    }
    /** How many requests of this JSON-RPC method (or HTTP verb) arrived. */
    arrived(method) {
        return this.wire.filter((entry) => entry.method === method || (entry.method === undefined && entry.verb === method)).length;
    }

    /** `watcher(change)` hears {updated: uri} and {listChanged: 'tools' | 'resources'}; returns how to stop that. */
    watch(watcher) {
        this.#watchers.add(watcher);
        return () => this.#watchers.delete(watcher);
    }
    announce(change) {
        for (const watcher of this.#watchers) watcher(change);
    }
    tick(counter) {
        const value = (this.counters.get(counter) ?? 0) + 1;
        this.counters.set(counter, value);
        this.announce({ updated: `counter:///${counter}` });
        return value;
    }
}

const text = (value, more = {}) => ({ content: [{ type: 'text', text: String(value) }], ...more });
const READ = { readOnlyHint: true, openWorldHint: false };
const WRITE = { readOnlyHint: false, destructiveHint: false };

/**
 * Registers the world on an McpServer. `sdk` bridges what the two generations call differently:
 * {ResourceTemplate, hints, promptArguments(shape), caller(context), signal(context), progress(context, params), request(context, method, params)}.
 */
export function furnish(server, world, sdk) {
    const tool = (name, { description, input = {}, output, annotations }, run) =>
        server.registerTool(name, { description, inputSchema: z.object(input), ...(output ? { outputSchema: z.object(output) } : {}), ...(annotations ? { annotations } : {}) }, async (args, context) => {
            world.ran(name);
            return run(args, context);
        });

    tool('echo', { description: 'Says what it was told', input: { text: z.string(), loud: z.boolean().optional() }, annotations: READ }, ({ text: said, loud }) => text(loud ? said.toUpperCase() : said));
    tool('add', { description: 'Adds two numbers', input: { a: z.number(), b: z.number() }, output: { sum: z.number() }, annotations: READ }, ({ a, b }) => text(a + b, { structuredContent: { sum: a + b } }));
    tool('whoami', { description: 'Names the caller', annotations: READ }, (_args, context) => text(sdk.caller(context)));
    tool('peek', { description: 'Reads a counter', input: { counter: z.string() }, annotations: READ }, ({ counter }) => text(world.counters.get(counter) ?? 0));
    tool('tick', { description: 'Advances a counter', input: { counter: z.string() }, annotations: WRITE }, ({ counter }) => text(world.tick(counter)));
    tool('blob', { description: 'A long text', input: { length: z.number(), seed: z.number().optional() }, annotations: READ }, ({ length, seed }) => text(longText(length, seed)));
    tool('refuse', { description: 'Fails as tools fail', annotations: READ }, () => text(`refused ${world.timesRun('refuse')} times`, { isError: true }));
    tool('now', { description: 'Says how often it ran, without annotations' }, () => text(world.timesRun('now')));
    tool('stroll', { description: 'Walks step by step, through the gate', input: { steps: z.number(), tag: z.string().optional() }, annotations: READ }, async ({ steps }, context) => {
        try {
            for (let step = 1; step <= steps; step++) {
                await sdk.progress(context, { progress: step, total: steps });
                await world.gate.pass(sdk.signal(context));
            }
        } catch (error) {
            world.aborted += 1;
            throw error;
        }
        return text(`${steps} steps`);
    });
    if (sdk.request) {
        tool('ask', { description: 'Asks the user', input: { question: z.string() } }, async ({ question }, context) => {
            const schema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };
            const { action, content } = await sdk.request(context, 'elicitation/create', { message: question, requestedSchema: schema });
            return text(`${action}: ${content?.answer}`);
        });
        tool('sample', { description: 'Asks the model', input: { prompt: z.string() } }, async ({ prompt }, context) => {
            const { content } = await sdk.request(context, 'sampling/createMessage', { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 10 });
            return text(`model: ${content.text}`);
        });
    }

    const resource = (name, uri, hint, content) =>
        server.registerResource(name, uri, { mimeType: 'text/plain', ...(sdk.hints ? { cacheHint: hint } : {}) }, async (...given) => {
            const [{ href }, variables, context] = given.length === 2 ? [given[0], {}, given[1]] : given;
            world.ran(href);
            return { contents: [{ uri: href, mimeType: 'text/plain', text: String(await content({ href, variables, context })) }] };
        });
    const forAll = (ttlMs) => ({ ttlMs, cacheScope: 'public' });
    resource('guide', 'doc:///guide', forAll(60_000), ({ href }) => `guide, read ${world.timesRun(href)}`);
    resource('large', 'doc:///large', forAll(60_000), () => longText(ONE_MEGABYTE));
    resource('mine', 'doc:///mine', { ttlMs: 60_000, cacheScope: 'private' }, ({ context }) => `of ${sdk.caller(context)}`);
    resource('brief', 'doc:///brief', forAll(300), ({ href }) => `brief, read ${world.timesRun(href)}`);
    resource('fleeting', 'doc:///fleeting', forAll(0), ({ href }) => `fleeting, read ${world.timesRun(href)}`);
    resource('counter', new sdk.ResourceTemplate('counter:///{name}', { list: undefined }), forAll(60_000), ({ variables }) => world.counters.get(variables.name) ?? 0);

    server.registerPrompt('greeting', { description: 'Greets somebody', argsSchema: sdk.promptArguments({ name: z.string() }) }, ({ name }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Greet ${name}` } }] }));
}
