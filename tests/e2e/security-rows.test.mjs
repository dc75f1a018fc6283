/* SPDX-License-Identifier: Apache-2.0 */
// What an attacker would try, row by row: another's answers (S1, S2), inputs that no key knows (S3), texts that parsers read differently (S5), floods and
// bombs (S11, S12), secrets that stay behind (S14). Elsewhere: S4 in case-headers, S7 in framing, S8 and S9 in case-trust. S6 needs a build whose
// digests collide: tests/unit/test_key_collide.c, where two questions with one digest must not answer each other.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Door, jwt } from './lib/door.mjs';
import { ask } from './lib/raw.mjs';
import { callTool, complete, legacy, legacyCall, messageOf, modern, outcomeOf, raw, readResource, withBody } from './lib/rpc.mjs';
import { Scripted } from './lib/scripted.mjs';
import { Sidecar, defaultBinary, projectRoot } from './lib/sidecar.mjs';
import { POLICY, Stand } from './lib/stand.mjs';
import { sleep, until } from './lib/wait.mjs';

const CANARY = '  - { name: canary, ttl: 60s, scope: principal }\n';
const META = 'io.modelcontextprotocol/';

// ---- S1: two tokens, every method, every policy -----------------------------------------------------------------------------------------

const SCOPES = { 'no scope': '', 'session': ', scope: session', 'principal': ', scope: principal', 'public': ', scope: public' };
const HINTS = ['public', 'private', undefined, 'Public'];
const METHODS = {
    'tools/call': (n) => ({ name: `tool-${n}`, arguments: { n } }),
    'resources/read': (n) => ({ uri: `doc://${n}` }),
    'tools/list': (n) => ({ cursor: `c${n}` }),
    'prompts/list': (n) => ({ cursor: `c${n}` }),
    'resources/list': (n) => ({ cursor: `c${n}` }),
    'resources/templates/list': (n) => ({ cursor: `c${n}` }),
    'server/discover': (n) => ({ n }),
    'prompts/get': (n) => ({ name: `prompt-${n}`, arguments: {} }),
    'completion/complete': (n) => ({ ref: { type: 'ref/prompt', name: `p-${n}` }, argument: { name: 'a', value: '' } }),
    'tasks/get': (n) => ({ taskId: `task-${n}` }),
    'vendor/read': (n) => ({ n }),
};
/** Who may see what was made for another? By the rule's word and the server's, as docs/policy.md has it. */
function mayCross(era, method, rule, hint) {
    const lists = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'].includes(method);
    if (method === 'tools/call') return rule === 'public' && (era === 'legacy' || hint !== 'private');
    if (method === 'resources/read') return era === 'legacy' ? rule === 'public' : hint === 'public' && (rule === 'public' || rule === 'no scope');
    return lists && era === 'modern' && hint === 'public';
}
for (const [rule, scope] of Object.entries(SCOPES)) {
    for (const era of ['modern', 'legacy']) {
        test(`S1: two tokens, every method, in the ${era} era under a rule with ${rule}: what was made for one never reaches the other, unless it is everybody's`, async (t) => {
            const upstream = (call) => {
                const message = call.json;
                if (message.method === 'initialize') return call.result({ protocolVersion: '2025-11-25', capabilities: {}, serverInfo: { name: 's', version: '1' } }, { headers: { 'Mcp-Session-Id': `of-${call.header('authorization').slice(7)}` } });
                const hint = HINTS[message.params.hint];
                const canary = `canary-of-${call.header('authorization').slice(7)}`;
                return call.result({ ...(era === 'modern' ? { resultType: 'complete', ttlMs: 60_000, cacheScope: hint } : {}), content: [{ type: 'text', text: canary }], contents: [{ uri: 'x', text: canary }], tools: [{ name: canary, inputSchema: {} }] }, { via: message.params.hint % 2 ? 'sse' : 'json' });
            };
            const stand = await Stand.open({ t, policy: `version: 1\ndefaults: { lists: ${era === 'modern' ? 'hint' : '60s'} }\ntools:\n${CANARY}  - { name: "tool*", ttl: 60s${scope} }\nresources:\n  - { uri: "doc://**", ttl: 60s${scope} }\n`, fallback: upstream });
            for (const token of ['alpha', 'beta']) if (era === 'legacy') await (await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }, { token }))).body();
            let crossings = 0;
            let hits = 0;
            for (const [method, params] of Object.entries(METHODS)) {
                for (const [n, hint] of HINTS.entries()) {
                    const request = (token) => (era === 'modern' ? modern(method, { ...params(n), hint: n }, { token }) : legacy(method, { ...params(n), hint: n }, { token, session: `of-${token}` }));
                    // Twice around: in the second round both are admitted, and what the other has left behind is in reach.
                    for (const token of ['alpha', 'beta', 'alpha', 'beta', 'alpha']) {
                        const answer = await stand.ask(request(token));
                        const seen = [...new Set([...JSON.stringify(await messageOf(answer)).matchAll(/canary-of-(\w+)/g)].map((match) => match[1]))];
                        assert.equal(seen.length, 1);
                        const what = `${method}, cacheScope ${hint}, ${token}: ${answer.header('cache-status')}`;
                        if (seen[0] !== token) {
                            assert.ok(mayCross(era, method, rule, hint), `${what} saw what was made for ${seen[0]}`);
                            crossings += 1;
                        }
                        if (outcomeOf(answer) === 'hit') hits += 1;
                    }
                }
            }
            assert.ok(hits > 10, `${hits} hits: there was something to leak`);
            const open = Object.keys(METHODS).some((method) => HINTS.some((hint) => mayCross(era, method, rule, hint)));
            assert.equal(crossings > 0, open, `${crossings} crossings`);
        });
    }
}

// ---- S2: what the origin would refuse ----------------------------------------------------------------------------------------------------

test('S2: a revoked token, an expired one and a bad Origin never get 200 from the store', async (t) => {
    const door = new Door();
    const stand = await Stand.open({ t, policy: `version: 1\ntools:\n${CANARY}  - { name: "read*", ttl: 60s }\n  - { name: "shared*", ttl: 60s, scope: public }\n`, flags: ['--allow-origin', 'https://app.example'], fallback: door.handle });
    const exp = Math.ceil(Date.now() / 1000) + 1;
    const tokens = { revoked: 'alpha', expired: jwt({ sub: 'alpha', exp }), steady: 'steady' };
    const names = ['read', 'shared'];
    for (const token of Object.values(tokens)) for (const name of names) await (await stand.ask(callTool(name, {}, { token }))).body();
    for (const token of Object.values(tokens)) for (const name of names) if (token !== tokens.expired || Date.now() < exp * 1000 - 300) await stand.expect('hit', callTool(name, {}, { token }));
    door.refuse = (call, who) => (who === tokens.revoked || (who === tokens.expired && Date.now() >= exp * 1000) ? 401 : undefined);
    // The revocation shows in the first answer that the upstream gives that token, whatever it was asked.
    assert.equal((await stand.ask(callTool('write', {}, { token: tokens.revoked }))).status, 401);
    await sleep(Math.max(0, exp * 1000 - Date.now() + 20));
    for (let n = 0; n < 3; n++) {
        for (const name of names) {
            assert.equal((await stand.ask(callTool(name, {}, { token: tokens.revoked }))).status, 401);
            assert.equal((await stand.ask(callTool(name, {}, { token: tokens.expired }))).status, 401);
            assert.equal((await stand.ask(callTool(name, {}, { token: tokens.steady, headers: { Origin: 'https://evil.example' } }))).status, 403);
            await stand.expect('hit', callTool(name, {}, { token: tokens.steady, headers: { Origin: 'https://app.example' } }));
        }
    }
});

// ---- S3: inputs that reach the upstream and no key ------------------------------------------------------------------------------------------

/** Headers that change no answer, as the house knows them. One more on this list is a decision, made here and in sidecar/wire/headers.c at once. */
const INERT = new Set(['accept', 'accept-charset', 'accept-encoding', 'cache-control', 'content-type', 'last-event-id', 'mcp-session-id', 'pragma', 'access-control-request-headers', 'access-control-request-method', 'date', 'dnt', 'priority', 'referer', 'sec-gpc', 'user-agent',
    'b3', 'baggage', 'cf-connecting-ip', 'cf-ray', 'correlation-id', 'elastic-apm-traceparent', 'request-id', 'sentry-trace', 'traceparent', 'tracestate', 'true-client-ip', 'uber-trace-id', 'via', 'x-amzn-trace-id', 'x-cloud-trace-context',
    'x-correlation-id', 'x-forwarded-for', 'x-real-ip', 'x-request-id', 'x-request-start']);
const isInert = (name) => INERT.has(name) || /^(sec-fetch-|sec-ch-|x-b3-|x-datadog-)/.test(name);
/** Headers that say who asks: part of the caller, and so of all that is his, but not of what the policy calls everybody's. */
const CREDENTIALS = ['authorization', 'cookie', 'proxy-authorization', 'x-api-key', 'api-key', 'x-auth-token', 'remote-user', 'x-forwarded-user', 'x-auth-request-user'];
const MINED = [...INERT, 'sec-fetch-site', 'sec-fetch-mode', 'sec-ch-ua', 'x-b3-traceid', 'x-datadog-trace-id', 'sec-websocket-key', 'sec-fetch', 'x-b4-traceid', 'x-datadog',
    'a-im', 'accept-datetime', 'accept-features', 'accept-language', 'accept-patch', 'accept-profile', 'accept-ranges', 'age', 'allow', 'alt-used', 'api-key', 'apikey', 'authentication-info', 'cdn-loop', 'client-ip', 'cluster-client-ip', 'content-disposition',
    'content-encoding', 'content-language', 'content-location', 'content-md5', 'content-profile', 'content-range', 'content-security-policy', 'cookie', 'cookie2', 'depth', 'destination', 'device-memory', 'digest', 'dpop', 'dpr', 'early-data', 'etag', 'expires', 'fastly-client-ip', 'forwarded',
    'from', 'front-end-https', 'http2-settings', 'if', 'if-match', 'if-modified-since', 'if-none-match', 'if-range', 'if-unmodified-since', 'label', 'last-modified', 'link', 'location', 'max-forwards', 'mcp-method', 'mcp-name', 'mcp-param-region', 'mcp-protocol-version', 'mcp-tenant', 'mcp-x',
    'origin', 'overwrite', 'prefer', 'private-token', 'profile', 'proxy-authenticate', 'proxy-authorization', 'range', 'remote-user', 'save-data', 'sec-tenant', 'server', 'set-cookie', 'signature', 'signature-input', 'slug', 'soapaction', 'surrogate-capability', 'tenant', 'timeout',
    'upgrade-insecure-requests', 'vary', 'viewport-width', 'want-digest', 'warning', 'www-authenticate', 'x-access-token', 'x-api-key', 'x-api-version', 'x-att-deviceid', 'x-auth-request-user', 'x-auth-token', 'x-authenticated-user', 'x-aws-ec2-metadata-token', 'x-azure-ref', 'x-b3', 'x-client-cert', 'x-client-ip',
    'x-cluster-client-ip', 'x-compress-hint', 'x-correlationid', 'x-csrf-token', 'x-debug', 'x-device-id', 'x-env', 'x-envoy-original-path', 'x-feature-flags', 'x-forwarded', 'x-forwarded-host', 'x-forwarded-path', 'x-forwarded-port', 'x-forwarded-prefix', 'x-forwarded-proto', 'x-forwarded-scheme', 'x-forwarded-server',
    'x-forwarded-uri', 'x-forwarded-user', 'x-geo-country', 'x-goog-api-key', 'x-host', 'x-http-destinationurl', 'x-http-host-override', 'x-http-method', 'x-http-method-override', 'x-locale', 'x-method-override', 'x-original-host', 'x-original-method', 'x-original-url', 'x-original-uri', 'x-override-url', 'x-proxy-url',
    'x-real-host', 'x-requested-with', 'x-rewrite-url', 'x-role', 'x-scheme', 'x-session', 'x-tenant', 'x-tenant-id', 'x-timezone', 'x-token', 'x-user', 'x-user-id', 'x-vary-me', 'x-wap-profile', 'x_tenant', 'zz-unheard-of'];

test('S3: every header, added alone: what the upstream can see of it is in the key, or on the list of what changes nothing', async (t) => {
    // What is always forwarded is no write here: after one its caller would find nothing at all.
    const stand = await Stand.open({ t, policy: POLICY.replace('tools:\n', 'tools:\n  - { name: "always-mined-*", ttl: off }\n') });
    const seen = (call) => call.headers.filter(([name]) => !/^(host|content-length)$/i.test(name)).map(([name, value]) => `${name.toLowerCase()}: ${value}`).sort().join('\n');
    stand.upstream.fallback = (call) => call.result(call.json.params._meta ? complete(seen(call)) : { content: [{ type: 'text', text: seen(call) }] });
    const unkeyed = [];
    const needless = [];
    const show = async (request) => {
        const answer = await stand.ask(request);
        return { outcome: outcomeOf(answer), text: (await messageOf(answer)).result?.content[0].text.replaceAll('always-', 'read-') };
    };
    const values = { accept: 'application/json, text/event-stream, x/y', 'content-type': 'application/json; charset=utf-8', 'cache-control': 'max-age=7', pragma: 'x', cookie: 'a=1', origin: 'https://a.example' };
    for (const [era, call] of [['modern', callTool], ['legacy', legacyCall]]) {
        for (const rule of ['read', 'shared']) {
            for (const name of MINED) {
                const where = `${name} (${era}, ${rule})`;
                const isDocumented = isInert(name) || (rule === 'shared' && CREDENTIALS.includes(name)) || (era === 'modern' && name === 'mcp-session-id');
                const headers = { [name]: values[name] ?? 'mined' };
                const tool = `${rule}-mined-${era}-${name}`;
                const baseline = await show(call(tool, {}));
                assert.equal(baseline.outcome, 'miss', where);
                const mined = await show(call(tool, {}, { headers }));
                if (mined.outcome === 'hit') {
                    // Would the upstream have seen a difference? Asked in a way that is never answered from the store.
                    const forwarded = [{}, headers].map(async (more) => (await show(call(`always-mined-${era}`, {}, { headers: more }))).text);
                    const [without, with_] = await Promise.all(forwarded);
                    if (without !== with_ && !isDocumented) unkeyed.push(where);
                } else if (isInert(name) && !(era === 'legacy' && name === 'mcp-session-id')) {
                    needless.push(`${where}: ${mined.outcome}`);
                }
                // What the mined request has brought into the store is not what the plain one gets.
                const after = await show(call(tool, {}));
                if (after.text !== baseline.text && !isDocumented) unkeyed.push(`${where} poisons`);
            }
        }
    }
    assert.deepEqual(unkeyed, []);
    assert.deepEqual(needless, [], 'the list is what the code does');
});

test('S3: the list of what changes nothing is the one in the code', async () => {
    const source = await readFile(path.join(projectRoot, 'sidecar/wire/headers.c'), 'utf8');
    const body = /bool wire_is_inert\([^]*?\n}\n/.exec(source)[0];
    const listed = [...body.matchAll(/SPAN_OF\("([^"]+)"\)/g)].map((match) => match[1]);
    // Part of the key in another way, or checked: not inert, though the code need not key them again.
    const elsewhere = ['accept-language', 'content-encoding', 'mcp-protocol-version', 'origin', 'mcp-param-'];
    assert.deepEqual(listed.filter((name) => !isInert(name) && !isInert(`${name}x`) && !elsewhere.includes(name)), []);
    assert.ok(listed.length > 30);
});

test('S3: two values of one header are two questions, too', async (t) => {
    const stand = await Stand.open({ t });
    for (const name of MINED.filter((header) => !isInert(header) && !CREDENTIALS.includes(header) && !/^(mcp-(method|name|protocol-version)|origin|content-encoding|dpop)$/.test(header))) {
        stand.upstream.fallback = (call) => call.result(complete(call.headerAll(name).join('+')));
        for (const value of ['one', 'two']) {
            const answer = await stand.ask(callTool(`shared-two-${name}`, {}, { headers: { [name]: value } }));
            const text = (await messageOf(answer)).result.content[0].text;
            assert.ok([value, ''].includes(text), `${name}: ${value} got ${text}, ${answer.header('cache-status')}`);
        }
    }
});

test('S3: Mcp-Name where the body has no name is no way into everybody\'s lists', async (t) => {
    const stand = await Stand.open({ t });
    for (const method of ['tools/list', 'resources/list', 'prompts/list', 'resources/templates/list', 'server/discover']) {
        stand.upstream.on(method, (call) => call.result({ resultType: 'complete', of: call.header('mcp-name') ?? 'none', ttlMs: 60_000, cacheScope: 'public' }));
        for (const headers of [{ 'Mcp-Name': 'evil' }, {}]) {
            const answer = await stand.ask(modern(method, {}, { headers }));
            const { result } = await messageOf(answer);
            if (answer.status === 200) assert.equal(result.of, headers['Mcp-Name'] ?? 'none', `${method}: ${answer.header('cache-status')}`);
        }
    }
});

const INERT_META = ['progressToken', 'traceparent', 'tracestate', 'baggage', `${META}logLevel`, `${META}clientInfo`];
const MINED_META = [...INERT_META, 'com.example/tenant', 'tenant', 'user', 'locale', 'acceptLanguage', 'cache', 'cache_hint', 'claudecode/toolUseId', 'openai/userAgent', 'ProgressToken', 'progresstoken', 'traceParent', 'clientInfo', 'logLevel', 'protocolVersion', 'clientCapabilities',
    ...['acceptLanguage', 'contentLanguage', 'related-task', 'subscriptionId', 'toolVersion', 'serverInfo', 'tenant', 'loglevel', 'logLevelX', 'clientInfo/', 'clientinfo'].map((key) => META + key), 'mcpcached/x', '', ' ', 'a\u0000b', 'progressToken\u0000', 'é'];
test('S3: every member of _meta, of params and of the message, added alone, is in the key, or changes nothing', async (t) => {
    const stand = await Stand.open({ t });
    stand.upstream.fallback = (call) => call.result(call.json.params._meta?.[`${META}protocolVersion`] ? complete('x') : { content: [] });
    for (const [era, build] of [['modern', (name, more) => callTool(name, {}, { meta: more })], ['legacy', (name, more) => ({ ...legacyCall(name, {}), body: legacyCall(name, {}).body.replace('"arguments":{}', `"arguments":{},"_meta":${JSON.stringify(more)}`) })]]) {
        const name = `shared-meta-${era}`;
        const plain = build(name, {});
        await stand.fill(plain);
        for (const key of MINED_META) {
            for (const value of ['x', 7, { a: 1 }, null]) {
                const answer = await stand.ask(build(name, { [key]: value }));
                await answer.body();
                const inert = INERT_META.includes(key);
                // clientInfo of a legacy request means nothing in any version: unknown there, so keyed or not, but never between two callers.
                assert.equal(outcomeOf(answer) === 'hit', inert, `${era}: _meta ${JSON.stringify(key)} = ${JSON.stringify(value)}: ${answer.header('cache-status')}`);
            }
        }
        // a name with a NUL is not read, and whatever is not read may have written: its caller sees nothing older any more
        await stand.fill(plain);
        for (const key of ['extra', 'cursor', 'task_', 'tenant', 'Name', 'name ', '__proto__', 'jsonrpc', 'method', 'id']) {
            const answer = await stand.ask(withBody(plain, plain.body.replace('"params":{', `"params":{${JSON.stringify(key)}:"x",`)));
            await answer.body();
            assert.notEqual(outcomeOf(answer), 'hit', `${era}: params.${key}`);
        }
        for (const key of ['extra', 'tenant', 'Params', 'Method', 'auth', '_meta', 'ID']) {
            const answer = await stand.ask(withBody(plain, plain.body.replace('"jsonrpc":"2.0",', `"jsonrpc":"2.0",${JSON.stringify(key)}:"x",`)));
            await answer.body();
            assert.notEqual(outcomeOf(answer), 'hit', `${era}: the message's own ${key}`);
        }
    }
});

// ---- S5: one text, two readings -------------------------------------------------------------------------------------------------------------

/** Arguments of which no two may answer each other, though some parser takes them for the same. */
const DIFFERENT = [
    ['{"a":1,"a":2}', '{"a":2}', '{"a":1}'],
    ['{"a":1,"\\u0061":2}', '{"a":2}', '{"a":1}'],
    ['{"a":0.1}', '{"a":0.10000000000000000555}', '{"a":1e-1}', '{"a":0.10}'],
    ['{"a":123456789012345678.0}', '{"a":123456789012345680.0}'],
    ['{"a":9223372036854775807}', '{"a":9223372036854775808}', '{"a":9223372036854775806}'],
    ['{"a":9007199254740992}', '{"a":9007199254740993}'],
    ['{"a":18446744073709551616}', '{"a":18446744073709551617}', '{"a":1.8446744073709552e19}'],
    ['{"a":1e400}', '{"a":1e401}', '{"a":null}'],
    ['{"a":0}', '{"a":-0}', '{"a":0.0}', '{"a":0e0}', '{"a":"0"}', '{"a":false}', '{"a":null}', '{"a":""}', '{"a":[]}', '{"a":{}}', '{}'],
    ['{"a":1}', '{"a":1.0}', '{"a":1e0}', '{"a":1E0}', '{"a":1e+0}', '{"a":"1"}', '{"a":true}', '{"a":[1]}'],
    ['{"a":"\\ud800"}', '{"a":"\\ud801"}', '{"a":"\\ufffd"}', '{"a":"?"}', '{"a":""}'],
    ['{"a":"x\\u0000y"}', '{"a":"x"}', '{"a":"xy"}'],
    ['{"a\\u0000b":1}', '{"a":1}', '{"ab":1}'],
    ['{"a":"\u00e9"}', '{"a":"e\u0301"}', '{"a":"e"}', '{"a":"\\\\u00e9"}'],
    ['{"a":"\u212b"}', '{"a":"\u00c5"}', '{"a":"A\u030a"}'],
    ['{"a":"\\t"}', '{"a":" "}', '{"a":"\\\\t"}', '{"a":"t"}'],
    ['{"a":"x"}', '{"a":"x "}', '{"a":" x"}', '{"a":"X"}', '{"A":"x"}', '{"a":["x"]}'],
    ['{"a":1,"b":2}', '{"a":2,"b":1}', '{"a":{"b":2}}', '{"a,b":1}', '{"a":"1,\\"b\\":2"}'],
    ['{"a":[1,2]}', '{"a":[2,1]}', '{"a":[[1],2]}', '{"a":[12]}', '{"a":"1,2"}'],
    ['{"__proto__":{"a":1}}', '{"a":1}', '{"constructor":{"a":1}}'],
    ['{"a":1}//', '{"a":1}', '{"a":1,}'],
    ['{"a":NaN}', '{"a":null}', '{"a":Infinity}', '{"a":"NaN"}'],
    ['{"a":01}', '{"a":1}', '{"a":+1}', '{"a":0x1}', '{"a":.1}', '{"a":1.}'],
    ["{'a':1}", '{"a":1}', '{a:1}'],
    ['{"a":"\u2028"}', '{"a":"\\n"}'],
    [`{"a":${'['.repeat(70)}1${']'.repeat(70)}}`, `{"a":${'['.repeat(70)}2${']'.repeat(70)}}`, `{"a":${'['.repeat(71)}1${']'.repeat(71)}}`],
];
const SAME = [
    ['{"a":1,"b":[true,null]}', '{ "b" : [ true , null ] , "a" : 1 }', '{"\\u0061":1,"b":[true,null]}'],
    ['{"a":"\u00e9/\\n\u{1f600}"}', '{"a":"\\u00e9\\/\\u000a\\ud83d\\ude00"}', '{"a":"\\u00E9/\\n\\uD83D\\uDE00"}'],
];
test('S5: texts that some parser takes for the same never answer each other, and reach the upstream byte for byte', async (t) => {
    const stand = await Stand.open({ t, fallback: (call) => call.reply(200, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":${JSON.stringify(call.body.toString('base64'))}}]}}`) });
    const request = (text) => callTool('read-s5', raw(text));
    for (let round = 0; round < 2; round++) {
        for (const texts of DIFFERENT) {
            for (const text of texts) {
                const asked = request(text);
                const answer = await stand.ask(asked);
                const { result } = JSON.parse((await answer.body()).toString());
                assert.equal(Buffer.from(result.content[0].text, 'base64').toString(), asked.body, `round ${round}, ${text}: ${answer.header('cache-status')}`);
            }
        }
        await stand.settle();
    }
    for (const [first, ...others] of SAME) {
        await stand.fill(request(first));
        for (const other of others) await stand.expect('hit', request(other), other);
    }
});

test('S5: what is around the JSON: a byte order mark, other encodings, bytes before and after', async (t) => {
    const stand = await Stand.open({ t, fallback: (call) => call.reply(200, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":${JSON.stringify(call.body.toString('base64'))}}]}}`) });
    const plain = callTool('read-s5', { a: 1 });
    await stand.fill(plain);
    await stand.expect('hit', plain);
    const text = plain.body;
    const bodies = {
        'a byte order mark': Buffer.from(`\ufeff${text}`),
        'UTF-16': Buffer.from(`\ufeff${text}`, 'utf16le'),
        'UTF-16 without a mark': Buffer.from(text, 'utf16le'),
        'overlong UTF-8': Buffer.concat([Buffer.from(text.slice(0, text.indexOf('read-s5'))), Buffer.from([0xc1, 0xb2]), Buffer.from(text.slice(text.indexOf('read-s5') + 1))]),
        'a surrogate in UTF-8': Buffer.concat([Buffer.from(text.slice(0, -2)), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from(text.slice(-2))]),
        'a NUL behind': Buffer.from(`${text}\0`),
        'a NUL before': Buffer.from(`\0${text}`),
        'two messages': Buffer.from(text + text),
        'an XSSI prefix': Buffer.from(`)]}'\n${text}`),
        'a record separator': Buffer.from(`\x1e${text}\n`),
        'a vertical tab': Buffer.from(text.replace('"jsonrpc"', '\v"jsonrpc"')),
        'a no-break space': Buffer.from(text.replace('"jsonrpc"', '\u00a0"jsonrpc"')),
    };
    for (const [what, body] of Object.entries(bodies)) {
        const answer = await stand.expect('bypass:opaque', withBody(plain, body), what);
        assert.equal(JSON.parse(answer.text).result.content[0].text, body.toString('base64'));
    }
    // whatever cannot be read may have written: its caller sees nothing older any more
    await stand.fill(plain);
    for (const body of [` ${text}`, `${text}\n`, `\r\n\t${text}  `]) await stand.expect('hit', withBody(plain, body), 'white space around');
});

// ---- S11: floods ------------------------------------------------------------------------------------------------------------------------------

test('S11: one caller\'s flood of different questions is answered, but not kept beyond his rate; others keep storing', async (t) => {
    const stand = await Stand.open({ t, flags: ['--insert-rate', '3'], fallback: (call) => call.result(complete(`${call.json.params.arguments.n} for ${call.header('authorization')}`)) });
    const RATE = 3;
    const BURST = 10 * RATE;
    const ASKED = 5 * BURST;
    const began = performance.now();
    const outcomes = { stored: 0, rate: 0 };
    for (let n = 0; n < ASKED; n++) {
        const answer = await stand.ask(callTool('read', { n }));
        assert.equal((await messageOf(answer)).result.content[0].text, `${n} for Bearer alpha`);
        const status = answer.header('cache-status');
        assert.match(status, /^mcpcached; fwd=miss; (stored|detail=rate)$/);
        outcomes[/rate/.test(status) ? 'rate' : 'stored'] += 1;
    }
    const seconds = (performance.now() - began) / 1000;
    assert.ok(outcomes.stored >= BURST, `${outcomes.stored} were kept, a burst of ${BURST} is granted`);
    assert.ok(outcomes.stored <= BURST + RATE * (seconds + 1), `${outcomes.stored} were kept within ${seconds} s`);
    assert.ok(outcomes.rate > 0);
    // The share of one is not the share of all; and what was kept of the flood is still there.
    for (let n = 0; n < 5; n++) assert.match((await stand.expect('miss', callTool('read', { n }, { token: 'beta' }))).header('cache-status'), /stored/);
    await stand.expect('hit', callTool('read', { n: 0 }));
    await stand.expect('hit', callTool('read', { n: 4 }, { token: 'beta' }));
    await until(async () => /stored/.test((await stand.expect('miss', callTool('read', { n: `${performance.now()}` }))).header('cache-status')), { everyMs: 100, what: 'the rate to allow him one more' });
});

test('S11: a flood under ever new tokens grows nothing without bound, and leaves a working sidecar', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-proofs', '256', '--max-sessions', '64'], env: leanSanitizer(), fallback: (call) => call.result(complete(`for ${call.header('authorization')}`)) });
    const burst = async (from, count) => {
        for (let n = from; n < from + count; n += 20) {
            await Promise.all(Array.from({ length: 20 }, async (_, k) => {
                const token = `flood-${n + k}`;
                const answer = await stand.ask(callTool('shared', { n: n + k }, { token }));
                assert.equal((await messageOf(answer)).result.content[0].text, `for Bearer ${token}`);
            }));
        }
    };
    await burst(0, 500);
    const before = await residentKiB(stand);
    await burst(500, 2000);
    assert.ok((await residentKiB(stand)) - before < 24 * 1024, `${before} KiB before, ${await residentKiB(stand)} after`);
    // Whose proof was forgotten is asked for again, and nobody's answer was mixed up.
    await stand.expect('miss:unproven', callTool('shared', { n: 1 }, { token: 'flood-1' }));
    await stand.expect('hit', callTool('shared', { n: 1 }, { token: 'flood-1' }));
});

// ---- S12: bombs -------------------------------------------------------------------------------------------------------------------------------

/** The sanitizer keeps what was freed for a while; a test that weighs the process does not want that. */
function leanSanitizer() {
    return { ASAN_OPTIONS: [process.env.ASAN_OPTIONS, 'quarantine_size_mb=1'].filter(Boolean).join(':') };
}
const residentKiB = async (stand) => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${stand.sidecar.pid}/status`, 'utf8'))[1]);

test('S12: arguments larger than the limit make no key; they pass whole, each time', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-key', '2KiB'], fallback: (call) => call.result(complete(`${call.body.length}`)) });
    const call = (bytes) => callTool('read', { text: 'x'.repeat(bytes) });
    await stand.fill(call(1000));
    await stand.expect('hit', call(1000));
    for (const bytes of [3000, 100_000, 3_000_000]) {
        for (let n = 0; n < 2; n++) {
            const answer = await stand.expect('bypass:key-size', call(bytes));
            assert.equal((await messageOf(answer)).result.content[0].text, `${call(bytes).body.length}`);
        }
    }
});

test('S12: a result larger than the limit passes whole and is not kept', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-entry', '4KiB'], fallback: (call) => call.result(complete('x'.repeat(call.json.params.arguments.bytes)), { via: call.json.params.arguments.via }) });
    for (const via of ['json', 'sse']) {
        const call = (bytes) => callTool('read', { bytes, via });
        await stand.fill(call(2000));
        await stand.expect('hit', call(2000));
        for (const bytes of [4200, 1_000_000]) {
            for (const answer of await stand.expectNotStored(call(bytes))) assert.equal((await messageOf(answer)).result.content[0].text.length, bytes);
        }
    }
});

test('S12: JSON a hundred thousand levels deep passes untouched, as a request and as a reply, and is not kept', async (t) => {
    const stand = await Stand.open({ t });
    const deep = (depth) => '['.repeat(depth) + ']'.repeat(depth);
    stand.upstream.on('read-deep', (call) => call.reply(200, { 'Content-Type': 'application/json' }, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[],"n":${call.body.length}}}`));
    for (const depth of [100, 10_000, 100_000]) {
        const request = callTool('read-deep', raw(`{"a":${deep(depth)}}`));
        for (let n = 0; n < 2; n++) {
            const answer = await stand.expect('bypass:opaque', request);
            assert.equal((await messageOf(answer)).result.n, request.body.length, 'every byte reached the upstream');
        }
    }
    const reply = `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":${deep(100_000)}}}`;
    for (const via of ['json', 'sse']) {
        stand.upstream.on(`read-deep-${via}`, (call) => call.message(reply, { via }));
        for (const answer of await stand.expectNotStored(callTool(`read-deep-${via}`, {}))) assert.ok(answer.text.includes(reply));
    }
    await stand.fill(callTool('canary', { after: 1 }));
});

test('S12: --max-depth decides how deep a question may be that makes a key', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-depth', '8'], fallback: (call) => call.result(complete('x')) });
    const call = (depth) => callTool('read', raw(`{"a":${'['.repeat(depth)}1${']'.repeat(depth)}}`));
    await stand.fill(call(3));
    await stand.expect('hit', call(3));
    for (let n = 0; n < 2; n++) await stand.expect('bypass:opaque', call(9));
});

test('S12: a compressed bomb is passed on as it came, never unpacked, never kept', async (t) => {
    const stand = await Stand.open({ t, env: leanSanitizer() });
    const bomb = gzipSync(Buffer.alloc(200 << 20), { level: 9 });
    assert.ok(bomb.length < 400_000);
    for (const headers of [{ 'Content-Encoding': 'gzip' }, { 'Content-Encoding': 'gzip, gzip' }]) {
        for (const type of ['application/json', 'text/event-stream']) {
            const name = `read-bomb-${type}-${headers['Content-Encoding'].length}`;
            stand.upstream.on(name, (call) => call.reply(200, { 'Content-Type': type, ...headers }, bomb));
            await stand.ask(callTool('canary', { n: name }, { token: 'canary' })).then((answer) => answer.body());
            const before = await residentKiB(stand);
            for (const answer of await stand.expectNotStored(callTool(name, {}, { headers: { 'Accept-Encoding': 'gzip' } }))) {
                assert.ok(answer.bytes.equals(bomb));
                assert.equal(answer.header('content-encoding'), headers['Content-Encoding']);
            }
            assert.ok((await residentKiB(stand)) - before < 24 * 1024, `${before} KiB before, ${await residentKiB(stand)} after`);
            assert.equal(stand.upstream.of(name)[0].header('accept-encoding') ?? 'identity', 'identity', 'no one asked for it');
        }
    }
    // And as a request: nothing here decompresses.
    stand.upstream.on('POST /mcp', (call) => call.reply(415));
    const packed = { ...callTool('read', {}, { headers: { 'Content-Encoding': 'gzip' } }), body: bomb };
    const answer = await stand.ask(packed);
    assert.equal(answer.status, 415);
    assert.ok(stand.upstream.calls.at(-1).body.equals(bomb));
});

test('S12: a reply without end does not fill the memory', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-entry', '1MiB'], env: leanSanitizer() });
    const piece = 'x'.repeat(1 << 20);
    stand.upstream.on('read-endless', async (call) => {
        await call.head(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
        await call.chunk('{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"');
        for (let n = 0; n < 500 && !call.isGone; n++) await call.chunk(piece);
        call.close();
    });
    await stand.fill(callTool('canary', { n: 'before' }));
    const before = await residentKiB(stand);
    let most = 0;
    const answer = await stand.ask(callTool('read-endless', {}));
    while (answer.ending === undefined) {
        answer.pieces.length = 0; // read and forgotten
        most = Math.max(most, (await residentKiB(stand)) - before);
        await sleep(10);
    }
    assert.equal(answer.ending, 'cut');
    // What the kernel keeps for one socket (tcp_rmem, up to 32 MiB) may lie here a few times over; half a gigabyte may not.
    assert.ok(most < 256 * 1024, `${most} KiB more than before`);
    await stand.expect('hit', callTool('canary', { n: 'before' }));
});

test('S12: headers over the limit are refused, and the process lives', async (t) => {
    const stand = await Stand.open({ t, flags: ['--max-header', '4KiB'], fallback: (call) => call.result(complete('x')) });
    await stand.fill(callTool('read', {}, { headers: { 'X-Long': 'x'.repeat(2000) } }));
    for (const headers of [{ 'X-Long': 'x'.repeat(8000) }, Object.fromEntries(Array.from({ length: 90 }, (_, n) => [`X-Many-${n}`, 'x'.repeat(90)]))]) {
        const answer = await stand.ask(callTool('read', {}, { id: '"long"', headers }));
        const text = (await answer.body()).toString();
        assert.equal(answer.status, 431, text);
        const message = JSON.parse(text);
        assert.ok(message.error && !('result' in message));
        assert.equal(answer.header('cache-status'), 'mcpcached; detail=header-size');
    }
    assert.equal(stand.upstream.of('read').length, 1);
    await stand.expect('hit', callTool('read', {}, { headers: { 'X-Long': 'x'.repeat(2000) } }));
});

// ---- S14: secrets -----------------------------------------------------------------------------------------------------------------------------

const SECRET = 'c4n4ry';
/** Each place that a client may put a secret in has its own. */
const secret = (place) => `${SECRET}${place}${'5ecret'.repeat(3)}`;
const TRAFFIC_HEADERS = { Cookie: `sid=${secret('Cookie')}`, 'X-Api-Key': secret('ApiKey'), 'X-Auth-Token': secret('AuthToken'), 'Proxy-Authorization': `Basic ${secret('Proxy')}`, 'X-Unheard-Of-Token': secret('Unheard') };

/** Everything that the sidecar can be brought to do, with a secret at every place. */
async function traffic(origin, upstream, door) {
    const token = secret('Bearer');
    const args = { password: secret('Argument') };
    const o = { token, headers: TRAFFIC_HEADERS };
    const go = async (request) => {
        const answer = await ask(origin, request).catch(() => undefined);
        if (answer && !/event-stream/.test(answer.header('content-type') ?? '')) await answer.finished;
        return answer;
    };
    const all = [
        () => callTool('read', args, o), () => callTool('read', args, o), () => callTool('shared', args, o), () => callTool('write', args, o), () => callTool('unlisted', args, o), () => callTool('read-error', args, o), () => callTool('read-stream', args, o),
        () => readResource('doc://x', o), () => readResource('doc://x', o), () => modern('tools/list', { cursor: secret('Cursor') }, o), () => modern('server/discover', {}, o),
        () => callTool('read', args, { token: jwt({ sub: secret('Subject'), exp: 1 }) }), () => callTool('read', args, { token: jwt({ sub: secret('Subject') }, { signature: secret('Signature') }) }),
        () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, DPoP: secret('DPoP') } }), () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, Origin: 'https://evil.example' } }),
        () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, 'Mcp-Name': secret('McpName') } }), () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, 'Mcp-Param-Key': secret('McpParam') } }),
        () => callTool('read', args, { ...o, meta: { 'com.example/key': secret('Meta'), progressToken: secret('Progress') } }), () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, Authorization: [`Bearer ${token}`, `Bearer ${secret('Second')}`] } }),
        () => ({ ...callTool('read', args, o), body: `{"broken":"${secret('Broken')}` }), () => ({ ...callTool('read', args, o), body: `[${callTool('read', args, o).body}]` }), () => callTool('read', { text: secret('Large').repeat(5000) }, o),
        () => legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: secret('Client'), version: '1' } }, o), () => legacyCall('mine', args, { ...o, session: secret('Session') }), () => legacyCall('mine', args, { ...o, session: secret('Session') }),
        () => legacyCall('mine', args, { ...o, session: secret('UnknownSession') }), () => ({ method: 'GET', path: '/mcp', headers: { ...TRAFFIC_HEADERS, Authorization: `Bearer ${token}`, 'Mcp-Session-Id': secret('Session'), Accept: 'text/event-stream' } }),
        () => ({ method: 'DELETE', path: '/mcp', headers: { ...TRAFFIC_HEADERS, Authorization: `Bearer ${token}`, 'Mcp-Session-Id': secret('Session') } }),
        () => ({ method: 'GET', path: `/callback?code=${secret('Code')}&state=${secret('State')}`, headers: TRAFFIC_HEADERS }), () => ({ ...callTool('read', args, o), path: `/mcp?api_key=${secret('Query')}` }), () => ({ method: 'POST', path: '/token', headers: TRAFFIC_HEADERS, body: `client_secret=${secret('Form')}` }),
        () => callTool('read', args, { ...o, headers: { ...TRAFFIC_HEADERS, 'X-Long': secret('Long').repeat(2000) } }), () => callTool('read', { text: 'x'.repeat(5 << 20), key: secret('Body') }, o),
        () => ({ method: `GET`, path: `/${secret('Verb')}`, version: 'HTTP/9.9', headers: TRAFFIC_HEADERS }),
    ];
    for (const request of all) await go(request());
    await sleep(400);
    await go(callTool('read', args, o)); // by a probe
    door.refuse = () => 401;
    for (const request of [() => callTool('read', args, o), () => readResource('doc://x', o)]) await go(request());
    door.refuse = () => undefined;
    for (const request of all) await go(request());
    upstream.on('read-reset', (call) => call.reset());
    await go(callTool('read-reset', args, o));
}

/** What of the secrets stands in these bytes, also as Base64 and percent-encoded. */
const found = (bytes) => [...new Set([...bytes.toString('latin1').matchAll(/c4n4ry([A-Za-z]+?)5ecret/g)].map((match) => match[1]))].concat(bytes.includes(Buffer.from(SECRET).toString('base64').slice(0, 7)) ? ['Base64'] : []);

async function filesUnder(dir) {
    return (await readdir(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}

const S14_POLICY = `version: 1\nidentity: { lease: 300ms, claims: [iss, sub] }\ntools:\n  - { name: "read*", ttl: 60s }\n  - { name: "mine*", ttl: 60s, scope: principal }\n  - { name: "shared*", ttl: 60s, scope: public }\n  - { name: write, class: write }\n`;

for (const format of ['text', 'json']) {
    test(`S14: no credential and no argument lies in the store or in the log (${format}, debug)`, async (t) => {
        const door = new Door();
        door.opens = secret('Session');
        door.nameOf = () => 'somebody';
        const upstream = await Scripted.start({ fallback: door.handle });
        const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-e2e-'));
        const child = { lines: [] };
        t.after(async () => {
            child.process?.kill('SIGKILL');
            await upstream.close();
            await rm(dir, { recursive: true, force: true });
        });
        upstream.on('read-error', (call) => call.error(-32603, 'broken'));
        upstream.on('read-stream', (call) => call.result(complete('x'), { via: 'sse' }));
        await writeFile(path.join(dir, 'policy.yaml'), S14_POLICY);
        const store = path.join(dir, 'store');
        child.process = spawn(defaultBinary, ['serve', '--listen', '127.0.0.1:0', '--upstream', upstream.url, '--policy', path.join(dir, 'policy.yaml'), '--store', store, '--store-size', '64MiB', '--threads', '2',
            '--allow-origin', 'https://app.example', '--log', format, '--log-level', 'debug'], { stdio: ['ignore', 'ignore', 'pipe'] });
        createInterface({ input: child.process.stderr }).on('line', (line) => child.lines.push(line));
        const address = await until(() => /addr"?[=:]"?(127\.0\.0\.1:\d+)/.exec(child.lines.join('\n'))?.[1], { what: () => `an address in ${child.lines.join('\n')}` });
        await traffic(`http://${address}`, upstream, door);
        await until(() => child.lines.filter((line) => /outcome/.test(line)).length > 60, { what: () => `the log of it all; ${child.lines.length} lines` });
        // What lies there while it runs, and what it leaves.
        for (const when of ['running', 'ended']) {
            if (when === 'ended') {
                child.process.kill('SIGTERM');
                const [code] = await once(child.process, 'close');
                assert.equal(code, 0);
            }
            const files = await filesUnder(store);
            assert.ok(files.length >= 2);
            for (const file of files) assert.deepEqual(found(await readFile(file)), [], `in ${path.basename(file)}, ${when}`);
        }
        assert.deepEqual(found(Buffer.from(child.lines.join('\n'))), [], 'in the log');
        assert.deepEqual(upstream.calls.some((call) => call.text.includes(secret('Argument')) && call.header('cookie').includes(secret('Cookie'))), true, 'the secrets were there');
        const stored = (await Promise.all((await filesUnder(store)).map((file) => readFile(file)))).some((bytes) => bytes.includes('read for somebody'));
        assert.ok(stored, 'and answers were stored');
    });
}

test('S14: the store\'s directory and files are its owner\'s alone, whatever the umask', async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-e2e-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    const binary = path.join(dir, 'wide-open');
    await writeFile(binary, `#!/bin/sh\numask 000\nexec '${defaultBinary}' "$@"\n`);
    await chmod(binary, 0o755);
    const upstream = await Scripted.start({ fallback: (call) => call.result(complete('x')) });
    t.after(() => upstream.close());
    const sidecar = await Sidecar.start(`version: 1\ntools:\n  - { name: "read*", ttl: 60s }\n`, { t, upstream, binary });
    await (await ask(sidecar.origin, callTool('read', {}))).body();
    const check = async () => {
        assert.equal((await stat(sidecar.store)).mode & 0o7777, 0o700);
        const files = await filesUnder(sidecar.store);
        assert.ok(files.length >= 2);
        for (const file of files) assert.equal((await stat(file)).mode & 0o7777, 0o600, path.basename(file));
    };
    await check();
    await sidecar.restart();
    await check();
});
