/* SPDX-License-Identifier: Apache-2.0 */
// Upstreams that are down, silent, slow, secured, or asked for something that is not MCP: what the client gets then.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before, after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { connectV1, connectV2, textOf } from './lib/clients.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { missThenHit } from './lib/stories.mjs';
import { startLegacy } from './lib/upstreams/legacy.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { readPolicy } from './lib/upstreams/world.mjs';
import { until } from './lib/wait.mjs';

const post = (url, message, headers = {}) => fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
    body: typeof message === 'string' ? message : JSON.stringify(message),
});
const echo = (id) => ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'echo', arguments: { text: 'x' } } });

/** An address where nothing listens. */
async function deadUrl() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${server.address().port}/mcp`;
    server.close();
    await once(server, 'close');
    return url;
}

/** Accepts, reads, never answers. `ended` counts connections that the other side gave up. */
async function startSilent(t) {
    const silent = { connections: 0, ended: 0 };
    const sockets = new Set();
    const server = net.createServer((socket) => {
        silent.connections += 1;
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
            silent.ended += 1;
            sockets.delete(socket);
        });
        socket.resume();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
        for (const socket of sockets) socket.destroy();
        server.close();
    });
    return Object.assign(silent, { url: `http://127.0.0.1:${server.address().port}/mcp` });
}

async function assertOwnError(response, status, id) {
    assert.equal(response.status, status);
    assert.match(response.headers.get('content-type'), /^application\/json/);
    const message = await response.json();
    assert.deepEqual({ ...message, error: message.error.code }, { jsonrpc: '2.0', id, error: -32603 });
    assert.ok(message.error.message.length > 0);
}

describe('an upstream that is down', () => {
    test('is a 502 with a JSON-RPC error that carries the id as it was sent', async (t) => {
        const sidecar = await Sidecar.start(readPolicy, { t, upstream: await deadUrl() });
        for (const id of [7, '7', 'ü', 0]) await assertOwnError(await post(sidecar.url, echo(id)), 502, id);
        const text = await (await post(sidecar.url, '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}')).text();
        assert.match(text, /"id":\s*9007199254740993\b/);
        await sidecar.untilLogged(/outcome=error/);
    });

    test('is a 502 for what has no id, too', async (t) => {
        const sidecar = await Sidecar.start(readPolicy, { t, upstream: await deadUrl() });
        assert.equal((await post(sidecar.url, { jsonrpc: '2.0', method: 'notifications/initialized' })).status, 502);
        assert.equal((await fetch(new URL('/somewhere', sidecar.url))).status, 502);
        assert.equal((await fetch(sidecar.url, { headers: { accept: 'text/event-stream' } })).status, 502);
    });

    test('is forgotten when it comes back', async (t) => {
        const upstream = await startLegacy({ t, sessions: false });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        const caller = await connectV1(sidecar.url, { t, token: 'ann' });
        await caller.call('echo', { text: 'before' });
        const { port } = upstream;
        await upstream.close();
        await assertOwnError(await post(sidecar.url, echo(1)), 502, 1);
        const substitute = http.createServer((request, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"jsonrpc":"2.0","id":2,"result":{}}'));
        substitute.listen(port, '127.0.0.1');
        await once(substitute, 'listening');
        t.after(() => substitute.close());
        assert.equal((await post(sidecar.url, { jsonrpc: '2.0', id: 2, method: 'ping' })).status, 200);
    });
});

describe('an upstream that accepts and never answers', () => {
    test('is a 504 with a JSON-RPC error that carries the id, and its connection is given up', async (t) => {
        const silent = await startSilent(t);
        const sidecar = await Sidecar.start(readPolicy, { t, upstream: silent, flags: ['--first-byte-timeout', '500ms'] });
        await assertOwnError(await post(sidecar.url, echo('slow')), 504, 'slow');
        await until(() => silent.connections > 0 && silent.ended === silent.connections, { what: 'the connection to be closed' });
    });

    test('is left when the client leaves', async (t) => {
        const silent = await startSilent(t);
        const sidecar = await Sidecar.start(readPolicy, { t, upstream: silent, flags: ['--first-byte-timeout', '60s'] });
        const abort = new AbortController();
        const modern = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientInfo': { name: 'raw', version: '1' }, 'io.modelcontextprotocol/clientCapabilities': {} };
        const request = fetch(sidecar.url, {
            method: 'POST',
            signal: abort.signal,
            headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'echo' },
            body: JSON.stringify({ ...echo(1), params: { ...echo(1).params, _meta: modern } }),
        }).catch((error) => error);
        await until(() => silent.connections === 1, { what: 'the request to arrive' });
        abort.abort();
        await request;
        await until(() => silent.ended === 1, { what: 'the upstream connection to be closed' });
    });
});

describe('an upstream that breaks off', () => {
    test('before its first byte: a call is not tried again, the client gets 502 and his id', async (t) => {
        let calls = 0;
        const server = http.createServer((request) => {
            calls += 1;
            request.socket.destroy();
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        const sidecar = await Sidecar.start(readPolicy, { t, upstream: `http://127.0.0.1:${server.address().port}/mcp` });
        await assertOwnError(await post(sidecar.url, { jsonrpc: '2.0', id: 'w', method: 'tools/call', params: { name: 'tick', arguments: {} } }), 502, 'w');
        assert.equal(calls, 1);
    });

    /** Breaks off in the middle of its answer to whatever it is asked. */
    async function breaking(t) {
        const upstream = { calls: 0 };
        const server = http.createServer((request, response) => {
            upstream.calls += 1;
            response.writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'of=the broken one', etag: '"1"' });
            response.write('{"jsonrpc":"2.0","id":1,"result":{"content":[');
            setTimeout(() => request.socket.destroy(), 50);
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        upstream.url = `http://127.0.0.1:${server.address().port}/mcp`;
        return upstream;
    }

    test('in the middle of an answer of which nothing went out yet: the client gets 502 and his id, and nothing is kept', async (t) => {
        const upstream = await breaking(t);
        const sidecar = await Sidecar.start(`${readPolicy}identity: { anonymous: shared }\n`, { t, upstream });
        for (const expected of [1, 2]) {
            const response = await post(sidecar.url, { ...echo(1), id: `n${expected}` }, { 'mcp-protocol-version': '2025-11-25' });
            assert.equal(response.headers.get('cache-status'), 'mcpcached; fwd=miss; detail=truncated');
            assert.equal(response.headers.get('content-type'), 'application/json', 'once');
            for (const name of ['set-cookie', 'etag']) assert.equal(response.headers.get(name), null, `${name}: nothing of the answer that broke off`);
            await assertOwnError(response, 502, `n${expected}`);
            assert.equal(upstream.calls, expected);
        }
    });

    test('in the middle of an answer that is passed on as it comes: the client does not take it for complete', async (t) => {
        const upstream = await breaking(t);
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        for (const expected of [1, 2]) {
            await assert.rejects(async () => (await post(sidecar.url, { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'tick', arguments: {} } }, { 'mcp-protocol-version': '2025-11-25' })).text());
            assert.equal(upstream.calls, expected);
        }
    });
});

describe('what is not MCP', () => {
    test('other paths go to the upstream as they are, and come back as they are', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        for (const [method, target] of [['GET', '/.well-known/oauth-protected-resource?x=1'], ['POST', '/register'], ['OPTIONS', '/authorize']]) {
            const response = await fetch(new URL(target, sidecar.url), { method, body: method === 'POST' ? '{"a":1}' : undefined });
            assert.equal(response.status, 404);
            assert.equal(response.headers.get('x-upstream'), 'yes');
            assert.equal(response.headers.get('cache-status'), null, 'the cache did not look at it');
            assert.equal(await response.text(), `nothing at ${new URL(target, sidecar.url).pathname}`);
        }
        assert.deepEqual(upstream.world.other, ['GET /.well-known/oauth-protected-resource', 'POST /register', 'OPTIONS /authorize']);
    });

    test('a body that is no JSON is for the upstream to refuse', async (t) => {
        const upstream = await startModern({ t });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        const response = await post(sidecar.url, '{"jsonrpc": ');
        assert.equal(response.status, 400);
        assert.equal((await response.json()).error.code, -32700);
    });
});

describe('an https upstream', () => {
    let dir;
    let tls;
    before(async () => {
        dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-tls-'));
        const openssl = (...args) => promisify(execFile)('openssl', args, { cwd: dir });
        await openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=e2e authority');
        for (const [name, subject] of [['good', 'IP:127.0.0.1'], ['other', 'DNS:other.example']]) {
            await openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', '/CN=e2e server', '-addext', `subjectAltName=${subject}`);
            await openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy', '-out', `${name}.pem`);
        }
        tls = async (name) => ({ key: await readFile(path.join(dir, `${name}.key`)), cert: await readFile(path.join(dir, `${name}.pem`)) });
    });
    after(() => rm(dir, { recursive: true, force: true }));

    for (const [era, start, connect] of [['legacy', startLegacy, connectV1], ['modern', startModern, connectV2]]) {
        test(`whose authority is trusted works: miss, then hit (${era})`, async (t) => {
            const upstream = await start({ t, tls: await tls('good') });
            const sidecar = await Sidecar.start(readPolicy, { t, upstream, flags: ['--upstream-ca', path.join(dir, 'ca.pem')] });
            const caller = await connect(sidecar.url, { t, token: 'ann' });
            const { hit, misses } = await missThenHit(() => caller.call('echo', { text: 'secret' }));
            assert.equal(textOf(hit.result), 'secret');
            assert.equal(upstream.world.timesRun('echo'), misses);
        });
    }

    test('whose authority is unknown is a 502, and hears no request', async (t) => {
        const upstream = await startModern({ t, tls: await tls('good') });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream });
        await assertOwnError(await post(sidecar.url, echo(5)), 502, 5);
        assert.equal(upstream.world.wire.length, 0);
    });

    test('with a certificate for another name is a 502, and hears no request', async (t) => {
        const upstream = await startModern({ t, tls: await tls('other') });
        const sidecar = await Sidecar.start(readPolicy, { t, upstream, flags: ['--upstream-ca', path.join(dir, 'ca.pem')] });
        await assertOwnError(await post(sidecar.url, echo(6)), 502, 6);
        assert.equal(upstream.world.wire.length, 0);
    });
});
