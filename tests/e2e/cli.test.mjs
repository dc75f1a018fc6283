/* SPDX-License-Identifier: Apache-2.0 */
// The command line: what it says when it is asked, and what it says when it cannot start. A mistake costs one sentence on stderr that
// names the thing and the cure, status 2, and nothing that listens.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile, mkdir, chmod } from 'node:fs/promises';
import net from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { runToEnd } from './lib/sidecar.mjs';

async function folder(t) {
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-cli-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    return dir;
}

async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return port;
}

async function isListening(port) {
    const socket = net.connect(port, '127.0.0.1');
    try {
        await once(socket, 'connect');
        return true;
    } catch {
        return false;
    } finally {
        socket.destroy();
    }
}

/** `serve` with good settings but for `wrong`, e.g. {'--policy': '/nowhere'}; a value of undefined leaves the flag out. */
async function serve(t, wrong, { env, more = [] } = {}) {
    const dir = await folder(t);
    const policy = path.join(dir, 'policy.yaml');
    await writeFile(policy, 'version: 1\n');
    const port = await freePort();
    const flags = { '--listen': `127.0.0.1:${port}`, '--upstream': 'http://127.0.0.1:9/mcp', '--policy': policy, '--store': path.join(dir, 'store'), '--store-size': '64MiB', ...wrong };
    const args = Object.entries(flags).filter(([, value]) => value !== undefined).flat();
    const ended = await runToEnd(['serve', ...args, ...more], { env, withinMs: 5000 });
    return { ...ended, port, dir };
}

/** One sentence, on stderr, with every one of these words in it; status 2; nothing listens. */
async function assertRefusal({ code, signal, stdout, stderr, port }, ...words) {
    assert.deepEqual({ code, signal }, { code: 2, signal: null }, stderr);
    assert.equal(stdout, '');
    const lines = stderr.trimEnd().split('\n');
    assert.equal(lines.length, 1, `one sentence, not:\n${stderr}`);
    for (const word of words) assert.ok(word instanceof RegExp ? word.test(lines[0]) : lines[0].includes(word), `${lines[0]}\n does not say ${word}`);
    assert.equal(await isListening(port), false);
}

test('a flag that does not exist', async (t) => {
    await assertRefusal(await serve(t, { '--colour': 'blue' }), '--colour', /--help|serve/);
});

test('a flag without its value', async (t) => {
    await assertRefusal(await serve(t, {}, { more: ['--first-byte-timeout'] }), '--first-byte-timeout');
});

for (const [flag, value] of [['--listen', 'nonsense'], ['--listen', '127.0.0.1:99999'], ['--store-size', 'huge'], ['--store-size', '-1'], ['--first-byte-timeout', 'soon'], ['--connect-timeout', '5'], ['--log', 'xml']]) {
    test(`a value that ${flag} cannot take: ${value}`, async (t) => {
        await assertRefusal(await serve(t, { [flag]: value }), flag, value);
    });
}

test('no upstream', async (t) => {
    await assertRefusal(await serve(t, { '--upstream': undefined }), '--upstream');
});

for (const url of ['ftp://127.0.0.1/mcp', 'not a url', 'http://', 'http://127.0.0.1:0/mcp']) {
    test(`an upstream URL that cannot be used: ${url}`, async (t) => {
        await assertRefusal(await serve(t, { '--upstream': url }), '--upstream', url);
    });
}

test('a policy that is not there', async (t) => {
    await assertRefusal(await serve(t, { '--policy': '/nowhere/policy.yaml' }), '/nowhere/policy.yaml');
});

test('a policy with a mistake: its place, and nothing listens', async (t) => {
    const dir = await folder(t);
    const policy = path.join(dir, 'wrong.yaml');
    await writeFile(policy, 'version: 1\ntools:\n  - name: echo\n    ttl: 10m\n    scop: public\n');
    await assertRefusal(await serve(t, { '--policy': policy }), `${policy}:5:5`, 'scop');
});

test('a store that cannot be written', async (t) => {
    const dir = await folder(t);
    // Root may write anywhere, so what stands in the way is a file where a folder is needed.
    const file = path.join(dir, 'file');
    await writeFile(file, '');
    await assertRefusal(await serve(t, { '--store': path.join(file, 'store') }), path.join(file, 'store'));
});

test('a store without permission', async (t) => {
    if (process.getuid() === 0) {
        // Nothing is forbidden to root; a folder that the kernel itself keeps closed serves as well.
        await assertRefusal(await serve(t, { '--store': '/proc/mcpcached' }), '/proc/mcpcached');
        return;
    }
    const dir = await folder(t);
    const closed = path.join(dir, 'closed');
    await mkdir(closed);
    await chmod(closed, 0o500);
    await assertRefusal(await serve(t, { '--store': path.join(closed, 'store') }), path.join(closed, 'store'));
});

test('a port that somebody else has', async (t) => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { port } = server.address();
    const { code, stderr } = await serve(t, { '--listen': `127.0.0.1:${port}` });
    assert.equal(code, 2, stderr);
    assert.ok(stderr.includes(`127.0.0.1:${port}`), stderr);
});

test('a flag from the environment is the same flag', async (t) => {
    const refused = await serve(t, { '--store-size': undefined }, { env: { MCPCACHED_STORE_SIZE: 'huge' } });
    await assertRefusal(refused, 'huge', /store-size|MCPCACHED_STORE_SIZE/);
});

// ---- the other verbs

test('a verb that does not exist', async () => {
    const { code, stderr } = await runToEnd(['dance']);
    assert.equal(code, 2);
    assert.match(stderr, /dance/);
});

test('no verb at all lists the verbs', async () => {
    const { code, stdout, stderr } = await runToEnd([]);
    assert.equal(code, 2);
    for (const verb of ['serve', 'check']) assert.ok((stdout + stderr).includes(verb), `${verb} is listed`);
});

test('--version names the program and its version, on stdout', async () => {
    const { code, stdout, stderr } = await runToEnd(['--version']);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^mcpcached \d+\.\d+\.\d+/);
});

test('--help lists the verbs; each verb has its own, with every flag', async () => {
    const general = await runToEnd(['--help']);
    assert.equal(general.code, 0);
    for (const verb of ['serve', 'check']) {
        assert.ok(general.stdout.includes(verb));
        const own = await runToEnd([verb, '--help']);
        assert.deepEqual([own.code, own.stderr], [0, '']);
        assert.ok(own.stdout.includes(`mcpcached ${verb}`), own.stdout);
    }
    const { stdout } = await runToEnd(['serve', '--help']);
    for (const flag of ['--listen', '--upstream', '--policy', '--store', '--store-size', '--log', '--connect-timeout', '--first-byte-timeout', '--upstream-ca']) assert.ok(stdout.includes(flag), `${flag} is explained`);
});

test('check accepts a good policy, a folder of them, and the example', async (t) => {
    const dir = await folder(t);
    await writeFile(path.join(dir, '10-base.yaml'), 'version: 1\ntools:\n  - { name: echo, ttl: 10m }\n');
    await writeFile(path.join(dir, '20-more.json'), '{"version": 1, "tools": [{"name": "add", "class": "static"}]}');
    const example = path.resolve(import.meta.dirname, '../../examples/policy.yaml');
    for (const policy of [dir, path.join(dir, '10-base.yaml'), example]) {
        const { code, stderr } = await runToEnd(['check', policy]);
        assert.deepEqual([code, stderr], [0, ''], policy);
    }
});

test('check names file, line and column of every mistake', async (t) => {
    const dir = await folder(t);
    const policy = path.join(dir, 'policy.yaml');
    await writeFile(policy, [
        'version: 1',
        'defaults:',
        '  lists: soon',           // 3:10
        'tools:',
        '  - name: echo',
        '    tll: 10m',            // 6:5
        '  - name: add',
        '    class: no-such-class', // 8:12
        'colour: blue',            // 9:1
    ].join('\n'));
    const { code, stdout, stderr } = await runToEnd(['check', policy]);
    assert.equal(code, 2);
    const said = stdout + stderr;
    for (const place of ['3:10', '6:5', '8:12', '9:1']) assert.ok(said.includes(`${policy}:${place}`), `${place} is in:\n${said}`);
    for (const word of ['soon', 'tll', 'no-such-class', 'colour']) assert.ok(said.includes(word), `${word} is in:\n${said}`);
});

test('check of YAML that is none, of a missing file, and of nothing', async (t) => {
    const dir = await folder(t);
    const policy = path.join(dir, 'policy.yaml');
    await writeFile(policy, 'version: 1\ntools: [\n');
    const broken = await runToEnd(['check', policy]);
    assert.equal(broken.code, 2);
    assert.match(broken.stdout + broken.stderr, /policy\.yaml:\d+:\d+/);
    const missing = await runToEnd(['check', path.join(dir, 'missing.yaml')]);
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /missing\.yaml/);
    assert.equal((await runToEnd(['check'])).code, 2);
});
