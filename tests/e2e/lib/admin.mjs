/* SPDX-License-Identifier: Apache-2.0 */
// The admin listener of a sidecar, as a test speaks to it: over a Unix socket or over TCP, with whatever headers it wants to get wrong.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A path for a Unix socket, in a directory of its own. */
export async function socketPath(t) {
    const dir = await mkdtemp(path.join(tmpdir(), 'mcpcached-admin-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    return path.join(dir, 'admin.sock');
}

/** Where a sidecar's admin listener is, as its log says: "unix:/path" or "127.0.0.1:PORT". */
export async function adminOf(sidecar) {
    const line = () => sidecar.log.findLast((each) => /\badmin at=/.test(each));
    await sidecar.untilLogged(() => line() !== undefined, 'the place of the admin listener');
    return /\badmin at=(\S+)/.exec(line())[1];
}

/** One request: `{status, headers, text, json}`. `body`: text, or an object that goes as JSON. */
export async function askAdmin(at, { method = 'POST', path: target = '/purge', headers = {}, body, token } = {}) {
    const place = at.startsWith('unix:') ? { socketPath: at.slice(5) } : { host: at.slice(0, at.lastIndexOf(':')), port: at.slice(at.lastIndexOf(':') + 1) };
    const text = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const request = http.request({ ...place, method, path: target, agent: false, headers: { ...(place.socketPath ? { Host: 'localhost' } : {}), ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers } });
    request.end(text);
    const [response] = await once(request, 'response');
    let answer = '';
    for await (const piece of response.setEncoding('utf8')) answer += piece;
    let json;
    try {
        json = JSON.parse(answer);
    } catch {
        // not JSON: the test will say what it thinks of that
    }
    return { status: response.statusCode, headers: response.headers, text: answer, json };
}
