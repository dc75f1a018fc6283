/* SPDX-License-Identifier: Apache-2.0 */
// Connecting again, leaving alone, and deadlines: what an upstream sees of a sidecar that cannot reach it, or waits for it in vain.
// "Cannot reach" is a TLS upstream that hangs up before the handshake, so that every try is counted and none of them carries a request.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before, after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Sidecar } from './lib/sidecar.mjs';
import { until } from './lib/wait.mjs';

const policy = `version: 1
identity: { anonymous: shared }
tools:
  - { name: read, ttl: 10m }
  - { name: brief, ttl: 10m, timeout: 400ms }
  - { name: write, class: write }
`;
const post = (url, name, text = 'x', id = 1) => fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-11-25' },
    body: JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: { text } } }),
});

let dir;
let tls;
before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-retry-'));
    await promisify(execFile)('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-days', '2',
        '-subj', '/CN=e2e', '-addext', 'subjectAltName=IP:127.0.0.1'], { cwd: dir });
    tls = { key: await readFile(path.join(dir, 'key.pem')), cert: await readFile(path.join(dir, 'cert.pem')) };
});
after(() => rm(dir, { recursive: true, force: true }));

/** Hangs up on the first `refuse` connections; behind the others answers every request. */
async function startCurt(t, refuse) {
    const curt = { connections: 0, requests: 0, refuse };
    const server = https.createServer(tls, (request, response) => {
        let body = '';
        curt.requests += 1;
        request.on('data', (piece) => (body += piece));
        request.on('end', () => {
            response.writeHead(200, { 'content-type': 'application/json', connection: 'close' });
            response.end(JSON.stringify({ jsonrpc: '2.0', id: JSON.parse(body).id, result: { content: [{ type: 'text', text: 'ok' }] } }));
        });
    });
    server.prependListener('connection', (socket) => {
        curt.connections += 1;
        if (curt.connections <= curt.refuse) socket.destroy();
    });
    server.on('tlsClientError', () => {});
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
        server.closeAllConnections();
        server.close();
    });
    return Object.assign(curt, { url: `https://127.0.0.1:${server.address().port}/mcp` });
}

const startSidecar = (t, upstream, flags = []) => Sidecar.start(policy, { t, upstream, flags: ['--upstream-ca', path.join(dir, 'cert.pem'), ...flags] });

describe('an upstream that cannot be reached for a moment', () => {
    test('is tried once more for a read', async (t) => {
        const upstream = await startCurt(t, 1);
        const sidecar = await startSidecar(t, upstream);
        const response = await post(sidecar.url, 'read');
        assert.equal(response.status, 200);
        assert.equal((await response.json()).result.content[0].text, 'ok');
        assert.equal(upstream.connections, 2);
        assert.equal(upstream.requests, 1);
    });

    test('and not more than once', async (t) => {
        const upstream = await startCurt(t, 2);
        const sidecar = await startSidecar(t, upstream);
        assert.equal((await post(sidecar.url, 'read')).status, 502);
        assert.equal(upstream.connections, 2);
        assert.equal((await post(sidecar.url, 'read')).status, 200);
        assert.equal(upstream.connections, 3);
    });

    test('is not tried again for a write, nor for what no policy names', async (t) => {
        const upstream = await startCurt(t, 2);
        const sidecar = await startSidecar(t, upstream);
        assert.equal((await post(sidecar.url, 'write')).status, 502);
        assert.equal(upstream.connections, 1);
        assert.equal((await post(sidecar.url, 'unheard-of')).status, 502);
        assert.equal(upstream.connections, 2);
        assert.equal(upstream.requests, 0);
    });
});

describe('an upstream that cannot be reached for long', () => {
    test('is tried again as often as the budget says, and after five failures left alone', async (t) => {
        const upstream = await startCurt(t, Infinity);
        const sidecar = await startSidecar(t, upstream);
        for (let i = 0; i !== 5; i += 1) assert.equal((await post(sidecar.url, 'read', `${i}`)).status, 502);
        assert.equal(upstream.connections, 5 + 3, 'three retries are there from the start');
        const response = await post(sidecar.url, 'read', 'another', 'mine');
        assert.equal(response.status, 503);
        assert.match(response.headers.get('retry-after'), /^[1-5]$/);
        const { id, error } = await response.json();
        assert.equal(id, 'mine');
        assert.equal(typeof error.message, 'string');
        assert.equal(upstream.connections, 8, 'it was not asked');
    });

    test('is asked by one request when the time is over, and by all when that one was answered', async (t) => {
        const upstream = await startCurt(t, Infinity);
        const sidecar = await startSidecar(t, upstream);
        for (let i = 0; i !== 5; i += 1) assert.equal((await post(sidecar.url, 'read', `${i}`)).status, 502);
        upstream.refuse = 0;
        await until(async () => (await post(sidecar.url, 'read', 'back')).status === 200, { what: 'the breaker to let one through', withinMs: 20_000 });
        const before = upstream.requests;
        assert.equal(before, 1);
        for (let i = 0; i !== 5; i += 1) assert.equal((await post(sidecar.url, 'read', `more ${i}`)).status, 200);
        assert.equal(upstream.requests, before + 5);
    });
});

describe('a rule with a timeout', () => {
    test('ends a call that brings no head: 504 with its id, the connection is given up', async (t) => {
        const seen = { begun: 0, ended: 0 };
        const server = http.createServer((request) => {
            seen.begun += 1;
            request.socket.once('close', () => (seen.ended += 1));
            request.resume();
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        const sidecar = await Sidecar.start(policy, { t, upstream: `http://127.0.0.1:${server.address().port}/mcp` });
        const response = await post(sidecar.url, 'brief', 'x', 'b');
        assert.equal(response.status, 504);
        assert.equal((await response.json()).id, 'b');
        await until(() => seen.begun === 1 && seen.ended === 1, { what: 'the connection to be closed' });
    });

    test('ends a body that never ends, however alive; nothing of it is kept', async (t) => {
        const seen = { begun: 0, ended: 0 };
        const server = http.createServer((request, response) => {
            seen.begun += 1;
            request.resume();
            response.writeHead(200, { 'content-type': 'application/json' });
            response.write('{"jsonrpc":"2.0","id":1,"result":{"content":[');
            const drip = setInterval(() => response.write(' '), 50);
            response.once('close', () => {
                clearInterval(drip);
                seen.ended += 1;
            });
        });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        const sidecar = await Sidecar.start(policy, { t, upstream: `http://127.0.0.1:${server.address().port}/mcp` });
        for (const expected of [1, 2]) {
            const answer = await post(sidecar.url, 'brief').then(async (response) => ({ status: response.status, body: await response.json() })).catch((error) => error);
            assert.ok(answer instanceof Error || answer.status === 504 || answer.status === 502, `it was not taken for whole: ${JSON.stringify(answer)}`);
            await until(() => seen.begun === expected && seen.ended === expected, { what: 'the connection to be closed' });
        }
    });
});
