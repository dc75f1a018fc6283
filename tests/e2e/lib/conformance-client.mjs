/* SPDX-License-Identifier: Apache-2.0 */
// The client under test in client-mode conformance scenarios: the official v2 SDK, doing once all that the server offers. The suite
// appends its mock server's URL; with CONFORMANCE_POLICY set, a sidecar with that policy and an empty store stands in between.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Sidecar } from './sidecar.mjs';

const { MCP_CONFORMANCE_SCENARIO: scenario = '', MCP_CONFORMANCE_PROTOCOL_VERSION: version = '2025-11-25', MCP_CONFORMANCE_CONTEXT, CONFORMANCE_POLICY: policy } = process.env;
const target = process.argv.at(-1);

const examples = { string: 'x', number: 1.5, integer: 2, boolean: true, object: {}, array: [], null: null };
const exampleOf = (schema) => {
    if (typeof schema !== 'object') return 'x';
    return schema.default ?? schema.enum?.[0] ?? examples[[schema.type].flat()[0]] ?? 'x';
};
const requiredExamples = ({ properties = {}, required = [] }) => Object.fromEntries(required.map((name) => [name, exampleOf(properties[name])]));

// Arguments that a scenario looks at.
const particular = {
    tools_call: () => ({ a: 5, b: 3 }),
    'json-schema-2020-12-preservation': ([focal]) => ({ schema: focal.inputSchema }),
};

// A mock server may refuse on purpose; what it thinks of the request is then what the scenario checks.
async function tolerating(attempt, otherwise) {
    try {
        return await attempt();
    } catch (error) {
        if (process.env.VERBOSE) console.error(error);
        return otherwise;
    }
}

async function useEverything(client) {
    const offers = client.getServerCapabilities() ?? {};
    const planned = JSON.parse(MCP_CONFORMANCE_CONTEXT || '{}').toolCalls ?? [];
    // Twice, and past the client's own cache: with a sidecar in between, what is used below came from a hit.
    await tolerating(() => client.listTools());
    const { tools } = await tolerating(() => client.listTools(undefined, { cacheMode: 'bypass' }), { tools: [] });
    if (offers.resources) {
        const { resources } = await tolerating(() => client.listResources(), { resources: [] });
        for (const { uri } of resources) await tolerating(() => client.readResource({ uri }));
    }
    if (offers.prompts) {
        const { prompts } = await tolerating(() => client.listPrompts(), { prompts: [] });
        for (const { name, arguments: wanted = [] } of prompts) await tolerating(() => client.getPrompt({ name, arguments: Object.fromEntries(wanted.map((argument) => [argument.name, 'x'])) }));
    }
    for (const { name, inputSchema } of tools) {
        const wanted = planned.filter((call) => call.name === name);
        const calls = wanted.length > 0 ? wanted : [{ arguments: particular[scenario]?.(tools) ?? requiredExamples(inputSchema) }];
        for (const call of calls) await tolerating(() => client.callTool({ name, arguments: call.arguments }));
    }
}

const sidecar = policy === undefined ? undefined : await Sidecar.start(policy, { upstream: target });
const url = new URL(sidecar?.url ?? target);
url.hostname = 'localhost';

let status = 0;
try {
    const client = new Client({ name: 'conformance-client', version: '1.0.0' }, {
        capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
        versionNegotiation: { mode: version >= '2026' ? 'auto' : 'legacy' },
    });
    client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: scenario.startsWith('elicitation') ? {} : { confirmed: true, name: 'x' } }));
    client.setRequestHandler('sampling/createMessage', async () => ({ role: 'assistant', model: 'none', content: { type: 'text', text: 'x' } }));
    client.setRequestHandler('roots/list', async () => ({ roots: [] }));
    await client.connect(new StreamableHTTPClientTransport(url));
    await useEverything(client);
    // The mock server wants to see the stream it closed being asked for again.
    if (scenario === 'sse-retry') await new Promise((resolve) => setTimeout(resolve, 1000));
    await client.close();
} catch (error) {
    console.error(error.stack ?? error);
    status = 1;
}
await sidecar?.close();
process.exit(status);
