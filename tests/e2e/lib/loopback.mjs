/* SPDX-License-Identifier: Apache-2.0 */
// Preload (`node --import`) for servers that nobody here wrote: whatever TCP port they listen on, they do it on 127.0.0.1 only, and they
// tell it on stderr as `loopback: listening on PORT` (so that port 0 can be asked for).
import net from 'node:net';

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...given) {
    const callback = typeof given.at(-1) === 'function' ? given.pop() : undefined;
    const [first] = given;
    const wanted = typeof first === 'object' && first !== null ? first : { port: first ?? 0 };
    if (wanted.port === undefined || !/^\d+$/.test(String(wanted.port))) return listen.call(this, ...given, callback);
    this.once('listening', () => process.stderr.write(`loopback: listening on ${this.address().port}\n`));
    return listen.call(this, { ...wanted, port: Number(wanted.port), host: '127.0.0.1' }, callback);
};
