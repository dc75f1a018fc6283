/* SPDX-License-Identifier: Apache-2.0 */
// Subscriptions: who hears of what, on which stream, when, and how often. Where time is the point it is a second: the shortest time between two polls.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { connectV1, connectV2, textOf } from './lib/clients.mjs';
import { legacy, messageOf, modern, outcomeOf, raw, readResource } from './lib/rpc.mjs';
import { Sidecar } from './lib/sidecar.mjs';
import { listen, listening, Session, shelfStand, Stream, subscriber, SUBSCRIPTION, WATCHED_LISTS } from './lib/subscribers.mjs';
import { startLegacy } from './lib/upstreams/legacy.mjs';
import { startModern } from './lib/upstreams/modern.mjs';
import { readPolicy } from './lib/upstreams/world.mjs';
import { Gate, sleep, until } from './lib/wait.mjs';

const ERAS = ['modern', 'legacy'];
/** Longer than a poll's period with all its jitter, or than what is held. Time itself is the point. */
const period = (times = 1) => sleep(times * 1200);
const others = { concurrency: 4 };

// ---- what counts as a change ------------------------------------------------------------------------------------------------------------

describe('changes', others, () => {
    for (const era of ERAS) {
        for (const scheme of ['mine', 'public']) {
            test(`case 39: what changes only around the contents is no change; a change is told once to each subscriber (${era}, ${scheme})`, async (t) => {
                const stand = await shelfStand(t);
                const { shelf } = stand;
                const uri = `${scheme}://39`;
                let times = 0;
                shelf.texts[uri] = 'one';
                shelf.more = () => ({ _meta: { 'com.example/times': (times += 1) }, ttlMs: 1000 + (times % 2), 'com.example/more': times });
                const subscribers = [await subscriber(stand, t, era, [uri]), await subscriber(stand, t, era, [uri], { token: 'beta', id: '2' }), await subscriber(stand, t, era, [uri], { id: '3' })];
                await shelf.untilKnown(uri);
                if (scheme === 'mine') await shelf.untilKnown(uri, 'beta');
                await shelf.untilLookedAt(stand, uri);
                await shelf.untilLookedAt(stand, uri, scheme === 'mine' ? 'beta' : undefined);
                for (const { stream } of subscribers) assert.deepEqual(stream.heard('resources/updated'), []);
                shelf.texts[uri] = 'two';
                for (const { stream } of subscribers) await stream.untilTold(uri);
                await shelf.untilLookedAt(stand, uri);
                for (const { stream } of subscribers) assert.equal(stream.told(uri), 1);
            });
        }

        test(`case 40: what changes in one caller's view is told to nobody else (${era})`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            const uri = 'mine://40';
            const views = { alpha: 'one', beta: 'one' };
            shelf.texts[uri] = (token) => views[token];
            const alpha = await subscriber(stand, t, era, [uri]);
            const beta = await subscriber(stand, t, era, [uri], { token: 'beta' });
            for (const token of ['alpha', 'beta']) await shelf.untilKnown(uri, token);
            views.alpha = 'two';
            await alpha.stream.untilTold(uri);
            await shelf.untilLookedAt(stand, uri, 'beta');
            assert.equal(beta.stream.told(uri), 0);
            views.beta = 'two';
            await beta.stream.untilTold(uri);
            await shelf.untilLookedAt(stand, uri, 'alpha');
            assert.equal(alpha.stream.told(uri), 1);
            assert.equal(beta.stream.told(uri), 1);
            for (const call of stand.upstream.of(uri)) assert.match(call.header('authorization'), /^Bearer (alpha|beta)$/);
        });

        test(`a resource that is gone has changed once, and again when it is back (${era})`, async (t) => {
            // what is not there has no lifetime
            const stand = await shelfStand(t, { flags: ['--watch-interval', '1s'] });
            const { shelf } = stand;
            const uri = 'mine://gone';
            shelf.texts[uri] = 'one';
            const { stream, read } = await subscriber(stand, t, era, [uri]);
            await shelf.untilKnown(uri);
            delete shelf.texts[uri];
            await stream.untilTold(uri);
            assert.equal(await read(uri), era === 'modern' ? -32602 : -32002, 'what is gone is gone for a reader, too');
            await shelf.untilLookedAt(stand, uri);
            assert.equal(stream.told(uri), 1);
            shelf.texts[uri] = 'two';
            await stream.untilTold(uri, 2);
            assert.equal(await read(uri), 'two');
            await shelf.untilLookedAt(stand, uri);
            assert.equal(stream.told(uri), 2);
        });

        test(`a question that fails says nothing about what was asked for (${era})`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            const uri = 'mine://fails';
            shelf.texts[uri] = 'one';
            const { stream } = await subscriber(stand, t, era, [uri]);
            await shelf.untilKnown(uri);
            let failed = 0;
            shelf.instead = (call) => {
                if (call.name !== uri || failed === 1) return false;
                failed += 1;
                call.reply(503, { 'Content-Type': 'text/plain' }, 'later');
                return true;
            };
            await until(() => failed === 1, { what: 'a question that fails' });
            await shelf.untilLookedAt(stand, uri);
            assert.equal(stream.told(uri), 0);
            shelf.texts[uri] = 'two';
            await stream.untilTold(uri);
        });

        for (const threads of ['1', '3']) {
            test(`whoever reads at once what he was told of gets the new content (${era}, ${threads} loops)`, async (t) => {
                const stand = await shelfStand(t, { flags: ['--threads', threads] });
                const { shelf } = stand;
                const uris = ['mine://order', 'public://order'];
                for (const uri of uris) shelf.texts[uri] = '0';
                const { stream, read } = await subscriber(stand, t, era, uris);
                for (const uri of uris) await shelf.untilKnown(uri);
                for (let turn = 1; turn <= 3; turn++) {
                    for (const uri of uris) shelf.texts[uri] = String(turn);
                    await Promise.all(uris.map(async (uri) => {
                        while (stream.told(uri) < turn) {
                            assert.equal(stream.ending, undefined);
                            await new Promise(setImmediate);
                        }
                        assert.equal(await read(uri), String(turn), `${uri}, turn ${turn}`);
                    }));
                }
            });
        }

        test(`what has no lifetime is asked for at the interval that the operator gave, and never when that is 0 (${era})`, async (t) => {
            const policy = 'version: 1\ndefaults:\n  lists: off\n  resources: hint\ntools:\n  - { name: canary, ttl: 60s, scope: principal }\n';
            const stand = await shelfStand(t, { policy, flags: ['--watch-interval', '1s'] });
            const { shelf } = stand;
            shelf.texts['bare://a'] = 'one';
            shelf.more = () => ({ ttlMs: 0 });
            const { stream } = await subscriber(stand, t, era, ['bare://a']);
            await shelf.untilKnown('bare://a');
            shelf.texts['bare://a'] = 'two';
            await stream.untilTold('bare://a');
            await shelf.untilLookedAt(stand, 'bare://a');
            assert.equal(stream.told('bare://a'), 1);

            const never = await shelfStand(t, { policy, flags: ['--watch-interval', '0'] });
            never.shelf.texts['bare://a'] = 'one';
            never.shelf.more = () => ({ ttlMs: 0 });
            if (era === 'modern') await listen(never, t, { resourceSubscriptions: ['bare://a'] });
            else {
                const session = await Session.open(never);
                await session.ask('resources/subscribe', { uri: 'bare://a' });
                await session.get(t);
            }
            await period(2);
            assert.ok(never.shelf.asked('bare://a') <= 1, 'at most once, to know what is there');
        });

        test(`what a reader's own question brings is compared, too, and counts as a look (${era})`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            const uri = 'lasting://seen';
            shelf.texts[uri] = 'one';
            const { stream, read } = await subscriber(stand, t, era, [uri]);
            await shelf.untilKnown(uri);
            assert.equal(await read(uri), 'one');
            shelf.texts[uri] = 'two';
            const fresh = { 'Cache-Control': 'no-cache' };
            const request = era === 'modern' ? readResource(uri, { headers: fresh }) : legacy('resources/read', { uri }, { session: stream.answer && undefined, headers: fresh });
            if (era === 'legacy') request.headers.push(['Mcp-Session-Id', (await stand.upstream.call('GET /mcp')).header('mcp-session-id')]);
            const { result } = await messageOf(await stand.ask(request));
            assert.equal(result.contents[0].text, 'two');
            await stream.untilTold(uri);
            assert.equal(await read(uri), 'two');
            await stand.turn();
            assert.equal(stream.told(uri), 1);
        });
    }

    test('what is everybody\'s is asked for once for all who wait for news of it', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        const uri = 'public://shared';
        shelf.texts[uri] = 'one';
        const streams = [];
        for (const token of ['alpha', 'beta', 'gamma', 'delta']) streams.push((await subscriber(stand, t, 'modern', [uri], { token })).stream);
        await shelf.untilLookedAt(stand, uri);
        const before = shelf.asked(uri);
        await period(3);
        assert.ok(shelf.asked(uri) - before <= 4, `${shelf.asked(uri) - before} questions in three periods and a half`);
        shelf.texts[uri] = 'two';
        for (const stream of streams) await stream.untilTold(uri);
    });
});

// ---- subscriptions/listen ---------------------------------------------------------------------------------------------------------------

/** What the upstream says of a listen for one URI, and whether it then tells of it itself. */
const OUTCOMES = {
    'knows no listen': (shelf, call) => call.error(-32601, 'Method not found', { status: 404 }),
    'grants nothing': (shelf, call) => shelf.acknowledge(call, {}),
    'grants it': (shelf, call) => shelf.acknowledge(call),
};
const subscriptionIdOf = (event) => new RegExp(`"${SUBSCRIPTION.replaceAll('.', '\\.')}"\\s*:\\s*("(?:[^"\\\\]|\\\\.)*"|[^,}\\s]+)`).exec(event.data)?.[1];

describe('listen', others, () => {
    for (const [what, answer] of Object.entries(OUTCOMES)) {
        test(`case 41: the acknowledgement is the first event, though a change was seen before it; the change follows (the upstream ${what})`, async (t) => {
            const gate = new Gate();
            const stand = await shelfStand(t, { listen: async (call) => (await gate.pass(), answer(stand.shelf, call)) });
            const { shelf } = stand;
            const uri = 'public://41';
            shelf.texts[uri] = 'one';
            const read = async (token) => (await messageOf(await stand.ask(readResource(uri, { token })))).result.contents[0].text;
            for (const token of ['alpha', 'beta']) assert.equal(await read(token), 'one');
            const connection = await stand.connect(t);
            await connection.send(modern('subscriptions/listen', { notifications: { resourceSubscriptions: [uri] } }));
            let head;
            connection.answer({ withinMs: 20_000 }).then((began) => (head = began));
            await stand.upstream.call('subscriptions/listen');
            shelf.texts[uri] = 'two';
            await until(async () => (await read('beta')) === 'two', { everyMs: 50, what: 'the change to be seen by somebody' });
            await stand.turn();
            assert.equal(head, undefined, 'not even a head before the upstream has spoken');
            gate.open();
            await until(() => head, { everyMs: 2, what: 'the head of the answer' });
            const stream = new Stream(stand, connection, head);
            await stream.untilTold(uri);
            assert.equal(stream.messages[0].method, 'notifications/subscriptions/acknowledged');
            assert.deepEqual(stream.messages[0].params.notifications, { resourceSubscriptions: [uri] });
            assert.equal(stream.heard('subscriptions/acknowledged').length, 1);
        });
    }

    for (const id of ['"1"', '7', '"\\u0061b"', '9007199254740993']) {
        test(`case 42: everything on a listen carries its client's id as he wrote it, and never another one (${id})`, async (t) => {
            const stand = await shelfStand(t, { own: true, listen: (call) => stand.shelf.acknowledge(call, { toolsListChanged: true, resourceSubscriptions: ['mine://theirs'] }) });
            const { shelf } = stand;
            for (const uri of ['mine://theirs', 'mine://ours']) shelf.texts[uri] = 'one';
            const stream = await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: ['mine://theirs', 'mine://ours'] }, { id });
            assert.deepEqual({ ...stream.honoured, resourceSubscriptions: stream.honoured.resourceSubscriptions.toSorted() }, { toolsListChanged: true, resourceSubscriptions: ['mine://ours', 'mine://theirs'] });
            const call = await stand.upstream.call('subscriptions/listen');
            await shelf.tell(call, 'tools/list_changed');
            await shelf.updated(call, 'mine://theirs');
            await stream.untilTold('mine://theirs');
            await shelf.untilKnown('mine://ours');
            shelf.texts['mine://ours'] = 'two';
            await stream.untilTold('mine://ours');
            await stand.sidecar.stop();
            assert.equal(await stream.over(), 'clean');
            assert.equal(stream.heard('tools/list_changed').length, 1);
            assert.equal(stream.results.length, 1);
            for (const event of stream.events) assert.equal(subscriptionIdOf(event), id, event.raw);
            const last = stream.events.at(-1);
            assert.equal(/"id"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\s]+)/.exec(last.data)?.[1], id);
            assert.equal(last.message.result.resultType, 'complete');
            if (call.id !== id) assert.ok(!stream.answer.text.includes(call.id), 'the upstream\'s id is the sidecar\'s own business');
        });
    }

    test('case 43: whoever asked for one kind hears of that kind alone, whatever the sidecar asks for itself', async (t) => {
        const stand = await shelfStand(t, { own: true });
        const { shelf } = stand;
        const stream = await listening(stand, t, { toolsListChanged: true });
        assert.deepEqual(stream.honoured, { toolsListChanged: true });
        const call = await stand.upstream.call('subscriptions/listen');
        const asked = call.json.params.notifications;
        if (asked.promptsListChanged) await shelf.tell(call, 'prompts/list_changed');
        if (asked.resourcesListChanged) await shelf.tell(call, 'resources/list_changed');
        for (const uri of asked.resourceSubscriptions ?? []) await shelf.updated(call, uri);
        await shelf.tell(call, 'tools/list_changed');
        await stream.untilHeard('tools/list_changed');
        assert.deepEqual(stream.messages.map(({ method }) => method), ['notifications/subscriptions/acknowledged', 'notifications/tools/list_changed']);
    });

    for (const [what, refuse] of Object.entries({
        '404 and -32601': (call) => call.error(-32601, 'Method not found', { status: 404 }),
        '200 and -32601': (call) => call.error(-32601, 'Method not found'),
        '-32601 as an event': (call) => call.message(`{"jsonrpc":"2.0","id":${call.id},"error":{"code":-32601,"message":"Method not found"}}`, { via: 'sse' }),
    })) {
        test(`case 44: where the upstream knows no listen the sidecar acknowledges alone what it can watch (${what})`, async (t) => {
            const stand = await shelfStand(t, { listen: refuse });
            const { shelf } = stand;
            const uri = 'mine://44';
            shelf.texts[uri] = 'one';
            const stream = await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: [uri] });
            assert.deepEqual(stream.honoured, { resourceSubscriptions: [uri] }, 'lists are off here');
            await shelf.untilKnown(uri);
            shelf.texts[uri] = 'two';
            await stream.untilTold(uri);
            assert.equal(stream.results.length, 0);
            assert.equal(stream.ending, undefined);
        });
    }

    test('case 44: nobody can tell of what was asked for: the upstream\'s refusal is the answer', async (t) => {
        const stand = await shelfStand(t);
        const stream = await listen(stand, t, { promptsListChanged: true }, { id: '"x"' });
        assert.equal(stream.answer.status, 404);
        assert.deepEqual(JSON.parse(await stream.answer.body()), { jsonrpc: '2.0', id: 'x', error: { code: -32601, message: 'Method not found' } });
    });

    for (const via of ['json', 'sse']) {
        test(`case 44: server/discover says so, and nothing else of it changes (${via})`, async (t) => {
            const text = '{"tools":{"com.example/x":[1, 2.0,1e3]}, "resources":{ "listChanged" : true,"com.example/y":9007199254740993},"completions":{},"com.example/z":"\\u00e9 é"}';
            const stand = await shelfStand(t, { via, capabilities: raw(text) });
            const answer = await stand.ask(modern('server/discover'));
            const body = (await answer.body()).toString();
            const { result } = await messageOf(answer);
            assert.equal(result.capabilities.resources.subscribe, true);
            assert.ok(withoutSubscribe(body).includes(`"capabilities":${text}`), body);
            assert.deepEqual(result.supportedVersions, ['2026-07-28']);
        });
    }

    const REFUSALS = {
        '401': [401, [['WWW-Authenticate', 'Bearer realm="mcp",  error="invalid_token"'], ['Content-Type', 'application/json']], '{ "error" : "invalid_token" }\n'],
        '403': [403, [['WWW-Authenticate', 'Bearer error="insufficient_scope", scope="x  y"']], 'no'],
        '400 and -32021': [400, [['Content-Type', 'application/json']], '{"jsonrpc":"2.0","id":1,"error":{"code":-32021,"message":"Missing capability"}}'],
        '200 and -32602': [200, [['Content-Type', 'application/json']], '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Invalid params"}}'],
        '200 and -32603': [200, [['Content-Type', 'application/json']], '{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Subscription limit reached"}}'],
        '503': [503, [['Content-Type', 'text/plain'], ['Retry-After', '7']], 'busy'],
    };
    for (const [what, [status, headers, body]] of Object.entries(REFUSALS)) {
        test(`case 45: a listen that the upstream refuses is refused with its own words (${what})`, async (t) => {
            const stand = await shelfStand(t, { listen: (call) => call.reply(status, headers, body) });
            const stream = await listen(stand, t, { resourceSubscriptions: ['mine://45'] });
            assert.equal((await stream.answer.body()).toString(), body);
            assert.equal(stream.answer.status, status);
            for (const [name, value] of headers) assert.equal(stream.answer.header(name), value);
        });
    }

    test('case 46: members of the filter that nobody here knows reach the upstream, and its acknowledgement of them the client', async (t) => {
        const stand = await shelfStand(t, { own: true, listen: (call) => stand.shelf.acknowledge(call, { taskIds: raw('[ "t-1" ]'), 'com.example/kind': raw('{"n":9007199254740993}') }) });
        const { shelf } = stand;
        shelf.texts['mine://46'] = 'one';
        const stream = await listening(stand, t, { resourceSubscriptions: ['mine://46'], taskIds: ['t-1', 't-2'], 'com.example/kind': raw('{"n":9007199254740993}') });
        const call = await stand.upstream.call('subscriptions/listen');
        assert.deepEqual(call.json.params.notifications.taskIds, ['t-1', 't-2']);
        assert.match(call.text, /"com\.example\/kind":\{"n":9007199254740993\}/);
        assert.deepEqual(stream.honoured, { taskIds: ['t-1'], 'com.example/kind': { n: Number('9007199254740993') }, resourceSubscriptions: ['mine://46'] });
        assert.match(stream.events[0].data, /"taskIds":\[ "t-1" \]/);
        assert.match(stream.events[0].data, /\{"n":9007199254740993\}/);
        await shelf.tell(call, 'tasks', { taskId: 't-1', status: 'working' });
        await stream.untilHeard('tasks');
        assert.equal(subscriptionIdOf(stream.events.at(-1)), '1');
    });

    test('case 47: a sidecar that stops ends each listen with its result, and then its connection', async (t) => {
        const stand = await shelfStand(t, { listen: (call) => (call.json.params.notifications.toolsListChanged ? stand.shelf.acknowledge(call) : call.error(-32601, 'Method not found', { status: 404 })) });
        stand.shelf.texts['mine://47'] = 'one';
        const streams = [
            await listening(stand, t, { toolsListChanged: true }, { id: '"theirs"' }),
            await listening(stand, t, { resourceSubscriptions: ['mine://47'] }, { id: '2' }),
            await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: ['mine://47'] }, { id: '"both"', token: 'beta' }),
        ];
        const { code } = await stand.sidecar.stop();
        assert.equal(code, 0);
        for (const [n, id] of ['theirs', 2, 'both'].entries()) {
            assert.equal(await streams[n].over(), 'clean');
            const { result, ...last } = streams[n].messages.at(-1);
            assert.deepEqual(last, { jsonrpc: '2.0', id });
            assert.equal(result.resultType, 'complete');
            assert.equal(result._meta[SUBSCRIPTION], id);
            assert.equal(streams[n].results.length, 1);
        }
    });

    const LOSSES = { 'a reset': (call) => call.reset(), 'a FIN in the middle': (call) => call.close(), 'an end without a result': (call) => call.endStream() };
    for (const [what, lose] of Object.entries(LOSSES)) {
        test(`case 47: an upstream that is lost (${what}) is no graceful end: it is sought again, and what may have been missed is told`, async (t) => {
            const stand = await shelfStand(t, { own: true });
            const { shelf } = stand;
            const uris = ['mine://47', 'lasting://47'];
            for (const uri of uris) shelf.texts[uri] = 'one';
            const stream = await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: uris });
            await lose(await stand.upstream.call('subscriptions/listen'));
            const again = await stand.upstream.call('subscriptions/listen', 2);
            assert.deepEqual(again.json.params.notifications, (await stand.upstream.call('subscriptions/listen')).json.params.notifications);
            for (const uri of uris) await stream.untilTold(uri);
            await stream.untilHeard('tools/list_changed');
            assert.equal(stream.results.length, 0);
            assert.equal(stream.heard('subscriptions/acknowledged').length, 1, 'acknowledged once, whatever happens behind it');
            await shelf.updated(again, uris[0]);
            await stream.untilTold(uris[0], 2);
            for (const event of stream.events) assert.equal(subscriptionIdOf(event), '1');
        });
    }

    test('what was read before the upstream\'s stream was lost is not served after it', async (t) => {
        const stand = await shelfStand(t, { own: true });
        const { shelf } = stand;
        const uri = 'lasting://lost';
        shelf.texts[uri] = 'one';
        const stream = await listening(stand, t, { resourceSubscriptions: [uri] });
        await stand.fill(readResource(uri));
        shelf.texts[uri] = 'two';
        (await stand.upstream.call('subscriptions/listen')).reset();
        await stream.untilTold(uri);
        assert.equal((await messageOf(await stand.ask(readResource(uri)))).result.contents[0].text, 'two');
    });

    test('case 47: whoever is not let in any more when the upstream is sought again loses his stream, without a result', async (t) => {
        const stand = await shelfStand(t, { listen: (call) => (stand.upstream.of('subscriptions/listen').length === 1 ? stand.shelf.acknowledge(call) : call.reply(401, { 'WWW-Authenticate': 'Bearer' }, 'no')) });
        const stream = await listening(stand, t, { toolsListChanged: true });
        (await stand.upstream.call('subscriptions/listen')).reset();
        await stream.over();
        assert.equal(stream.results.length, 0);
    });

    test('an upstream that ends a listen with a result: the client sees one result at most until the end, under his own id', async (t) => {
        const stand = await shelfStand(t, { listen: (call) => stand.shelf.acknowledge(call, { toolsListChanged: true }) });
        const { shelf } = stand;
        shelf.texts['mine://ours'] = 'one';
        const streams = [await listening(stand, t, { toolsListChanged: true }, { id: '"a"' }), await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: ['mine://ours'] }, { id: '"b"' })];
        for (const call of stand.upstream.of('subscriptions/listen')) {
            await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":{"resultType":"complete","_meta":{"${SUBSCRIPTION}":${call.id}}}}`);
            await call.endStream();
        }
        await stand.turn();
        await stand.sidecar.stop();
        for (const [n, id] of ['a', 'b'].entries()) {
            assert.equal(await streams[n].over(), 'clean');
            assert.deepEqual(streams[n].results.map((message) => [message.id, message.result._meta[SUBSCRIPTION]]), [[id, id]]);
            assert.ok('result' in streams[n].messages.at(-1));
        }
    });

    test('an upstream that grants nothing, and ends the listen for that, as official servers do: the sidecar goes on alone', async (t) => {
        const stand = await shelfStand(t, {
            async listen(call) {
                await stand.shelf.acknowledge(call, {});
                await call.event(`{"jsonrpc":"2.0","id":${call.id},"result":{"resultType":"complete","_meta":{"${SUBSCRIPTION}":${call.id}}}}`);
                await call.endStream();
            },
        });
        const { shelf } = stand;
        shelf.texts['mine://ours'] = 'one';
        const stream = await listening(stand, t, { toolsListChanged: true, resourceSubscriptions: ['mine://ours'] });
        assert.deepEqual(stream.honoured, { resourceSubscriptions: ['mine://ours'] });
        await shelf.untilKnown('mine://ours');
        for (const [times, text] of ['two', 'three'].entries()) {
            shelf.texts['mine://ours'] = text;
            await stream.untilTold('mine://ours', times + 1);
        }
        assert.equal(stream.results.length, 0);
        assert.ok(stand.upstream.of('subscriptions/listen').length <= 4, 'it is not asked again and again');
        const nothing = await listen(stand, t, { toolsListChanged: true });
        assert.equal(await nothing.over(), 'clean');
        assert.equal(nothing.results.length, 1, 'where nobody tells of anything, its end is the end');
    });

    test('several listens of one client are each told, each under its own id', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        const uri = 'mine://each';
        shelf.texts[uri] = 'one';
        const streams = [await listening(stand, t, { resourceSubscriptions: [uri] }, { id: '"a"' }), await listening(stand, t, { resourceSubscriptions: [uri, uri] }, { id: '"b"' })];
        await shelf.untilKnown(uri);
        shelf.texts[uri] = 'two';
        for (const [n, id] of ['"a"', '"b"'].entries()) {
            await streams[n].untilTold(uri);
            for (const event of streams[n].events) assert.equal(subscriptionIdOf(event), id);
        }
        await shelf.untilLookedAt(stand, uri);
        for (const stream of streams) assert.equal(stream.told(uri), 1, 'once, however often it was asked for');
    });

    test('a client that leaves is asked for no longer, and its upstream stream ends', async (t) => {
        const stand = await shelfStand(t, { listen: (call) => stand.shelf.acknowledge(call, {}) });
        const { shelf } = stand;
        shelf.texts['mine://left'] = 'one';
        const stream = await listening(stand, t, { resourceSubscriptions: ['mine://left'] });
        await shelf.untilAsked('mine://left', 1);
        stream.close();
        await (await stand.upstream.call('subscriptions/listen')).gone(5000);
        await stand.turn();
        const asked = shelf.asked('mine://left');
        await period(2);
        assert.equal(shelf.asked('mine://left'), asked);
    });

    test('a listen whose credential is refused when the sidecar asks with it is over', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        shelf.texts['mine://over'] = 'one';
        const stream = await listening(stand, t, { resourceSubscriptions: ['mine://over'] });
        const other = await listening(stand, t, { resourceSubscriptions: ['mine://over'] }, { token: 'beta' });
        await shelf.untilKnown('mine://over', 'alpha');
        shelf.instead = async (call, token) => token === 'alpha' && (await call.reply(401, { 'WWW-Authenticate': 'Bearer' }, 'no'), true);
        await stream.over();
        shelf.texts['mine://over'] = 'two';
        await other.untilTold('mine://over');
        assert.equal(other.ending, undefined);
    });

    test('a listen asks for more than there is room for: what is honoured is said', async (t) => {
        const stand = await shelfStand(t, { flags: ['--max-subscriptions', '2'] });
        const { shelf } = stand;
        for (const n of [1, 2, 3]) shelf.texts[`mine://room-${n}`] = 'one';
        const stream = await listening(stand, t, { resourceSubscriptions: [1, 2, 3].map((n) => `mine://room-${n}`) });
        assert.deepEqual(stream.honoured, { resourceSubscriptions: ['mine://room-1', 'mine://room-2'] });
    });
});

// ---- sessions ---------------------------------------------------------------------------------------------------------------------------

/** The text without one member "subscribe":true that somebody added. */
const withoutSubscribe = (text) => text.replace(/"subscribe"\s*:\s*true\s*,|,?\s*"subscribe"\s*:\s*true/, '');

describe('sessions', others, () => {
    test('case 48: of two streams of one session one is told; when that is closed, the other', async (t) => {
        const stand = await shelfStand(t, { get: 'stream' });
        const { shelf } = stand;
        const uri = 'mine://48';
        shelf.texts[uri] = 'one';
        const session = await Session.open(stand);
        await session.subscribe(uri);
        const streams = [await session.get(t), await session.get(t)];
        await shelf.untilKnown(uri);
        shelf.texts[uri] = 'two';
        await until(() => streams.some((stream) => stream.told(uri) > 0), { everyMs: 2, what: 'one of the streams to be told' });
        await shelf.untilLookedAt(stand, uri);
        const told = streams.filter((stream) => stream.told(uri) === 1);
        const silent = streams.filter((stream) => stream.told(uri) === 0);
        assert.deepEqual([told.length, silent.length], [1, 1], 'one of them, once');
        told[0].close();
        await stand.turn();
        shelf.texts[uri] = 'three';
        await silent[0].untilTold(uri);
        await shelf.untilLookedAt(stand, uri);
        assert.equal(silent[0].told(uri), 1);
    });

    test('case 49: what is put into a stream has no id and stands between whole events; the client resumes with the upstream\'s last id', async (t) => {
        const stand = await shelfStand(t, { get: 'stream' });
        const { shelf } = stand;
        const uri = 'mine://49';
        shelf.texts[uri] = 'one';
        const session = await Session.open(stand);
        await session.subscribe(uri);
        const stream = await session.get(t);
        const call = await stand.upstream.call('GET /mcp');
        const log = (n) => `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":${n}}}`;
        const first = await call.event(log(1), { id: 'e-1' });
        await shelf.untilKnown(uri);
        // the upstream is in the middle of an event while the change is seen
        const second = `event: message\nid: e-2\ndata: ${log(2)}\n\n`;
        await call.sse(second.slice(0, 30));
        shelf.texts[uri] = 'two';
        await stream.untilTold(uri);
        await call.sse(second.slice(30));
        await stream.untilHeard('message', 2);
        const own = stream.events.find((event) => event.message.method === 'notifications/resources/updated');
        assert.equal(own.id, undefined);
        assert.doesNotMatch(own.raw, /^id/m);
        assert.deepEqual(own.message, { jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } });
        assert.ok(stream.answer.text.includes(first) && stream.answer.text.includes(second), 'the upstream\'s events are whole');
        stream.close();
        const resumed = await session.get(t, { lastEventId: 'e-2' });
        assert.equal(resumed.answer.status, 200);
        const again = await stand.upstream.call('GET /mcp', 2);
        assert.equal(again.header('last-event-id'), 'e-2');
        assert.equal(again.header('mcp-session-id'), session.id);
        await again.event(log(3), { id: 'e-3' });
        await resumed.untilHeard('message');
        shelf.texts[uri] = 'three';
        await resumed.untilTold(uri);
    });

    test('case 49: nothing is put into a stream that resumes the answer to a POST, or one that nobody here has seen', async (t) => {
        const stand = await shelfStand(t, { get: 'stream' });
        const { shelf } = stand;
        const uri = 'mine://49-post';
        shelf.texts[uri] = 'one';
        shelf.instead = async (call) => {
            if (call.name !== 'slow') return false;
            await call.stream();
            await call.sse('id: p-1\nretry: 100\ndata: \n\n');
            await call.endStream();
            return true;
        };
        const session = await Session.open(stand);
        await session.subscribe(uri);
        await (await stand.ask(session.request('tools/call', { name: 'slow', arguments: {} }, { id: '"slow"' }))).body();
        const resumed = await session.get(t, { lastEventId: 'p-1' });
        const strange = await session.get(t, { lastEventId: 'never-seen' });
        const stream = await session.get(t);
        await shelf.untilKnown(uri);
        for (const text of ['two', 'three']) {
            shelf.texts[uri] = text;
            await stream.untilTold(uri, text === 'two' ? 1 : 2);
        }
        const call = await stand.upstream.call('GET /mcp');
        await call.event('{"jsonrpc":"2.0","id":"slow","result":{"content":[]}}', { id: 'p-2' });
        await resumed.until(() => resumed.results.length === 1, 'the answer that was waited for');
        assert.equal(resumed.told(uri) + strange.told(uri), 0);
    });

    for (const via of ['json', 'sse']) {
        test(`case 50: what changes while there is no stream is told once on the next, and never on the answer to a POST (${via})`, async (t) => {
            const stand = await shelfStand(t, { get: 'stream', via });
            const { shelf } = stand;
            const uris = ['mine://50-a', 'mine://50-b', 'mine://50-c'];
            for (const uri of uris) shelf.texts[uri] = 'one';
            const session = await Session.open(stand);
            for (const uri of uris) {
                await session.subscribe(uri);
                assert.equal(await session.read(uri), 'one');
            }
            for (const text of ['two', 'three']) {
                for (const uri of uris.slice(0, 2)) shelf.texts[uri] = text;
                for (const uri of uris) await until(async () => (await session.read(uri)) === shelf.texts[uri], { everyMs: 100, what: 'the change to be read' });
            }
            const stream = await session.get(t);
            for (const uri of uris.slice(0, 2)) await stream.untilTold(uri);
            for (const uri of uris) await shelf.untilLookedAt(stand, uri);
            assert.deepEqual(uris.map((uri) => stream.told(uri)), [1, 1, 0]);
        });
    }

    test('case 50: without a stream nobody asks; what changed meanwhile is seen when there is one again', async (t) => {
        const stand = await shelfStand(t, { get: 'stream' });
        const { shelf } = stand;
        const uri = 'mine://50-away';
        shelf.texts[uri] = 'one';
        const session = await Session.open(stand);
        await session.subscribe(uri);
        assert.equal(await session.read(uri), 'one');
        const asked = shelf.asked(uri);
        await period(2);
        assert.equal(shelf.asked(uri), asked, 'before the first stream');
        const first = await session.get(t);
        await shelf.untilAsked(uri, 1);
        first.close();
        await (await stand.upstream.call('GET /mcp')).gone(5000);
        shelf.texts[uri] = 'two';
        await period();
        const between = shelf.asked(uri);
        await period(2);
        assert.equal(shelf.asked(uri), between, 'and after it');
        const second = await session.get(t);
        await second.untilTold(uri);
    });

    test('case 51: what is unsubscribed is told of no longer, and asked for no longer', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        const [a, b] = ['mine://51-a', 'mine://51-b'];
        for (const uri of [a, b]) shelf.texts[uri] = 'one';
        const { session, stream } = await subscriber(stand, t, 'legacy', [a, b]);
        await session.subscribe(a);
        for (const uri of [a, b]) await shelf.untilKnown(uri);
        await session.unsubscribe(a);
        for (const uri of [a, b]) shelf.texts[uri] = 'two';
        await stream.untilTold(b);
        const asked = shelf.asked(a);
        await shelf.untilLookedAt(stand, b);
        assert.equal(shelf.asked(a), asked);
        assert.equal(await session.read(a), 'two', 'nor by what he reads himself');
        shelf.texts[b] = 'three';
        await stream.untilTold(b, 2);
        assert.equal(stream.told(a), 0);
        await session.unsubscribe('mine://never-subscribed');
    });

    test('case 51: a session that its server does not end goes on, with its subscriptions', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        const uri = 'mine://51';
        shelf.texts[uri] = 'one';
        shelf.deleteStatus = 405;
        const { session, stream } = await subscriber(stand, t, 'legacy', [uri]);
        await shelf.untilKnown(uri);
        assert.equal((await session.end()).status, 405);
        shelf.texts[uri] = 'two';
        await stream.untilTold(uri);
    });

    /** Everything that ends a session: what happens, and whether the upstream still knows the session then. */
    const ENDS = {
        'DELETE 200': (stand, session) => session.end(),
        'DELETE 204': (stand, session) => ((stand.shelf.deleteStatus = 204), session.end()),
        'DELETE 404': (stand, session) => ((stand.shelf.deleteStatus = 404), session.end()),
        'a 404 of the upstream': async (stand, session) => {
            stand.shelf.instead = async (call) => call.json?.method === 'tools/call' && (await call.reply(404, { 'Content-Type': 'application/json' }, '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}'), true);
            const answer = await stand.ask(session.request('tools/call', { name: 'transfer', arguments: {} }));
            await answer.body();
            assert.equal(answer.status, 404);
        },
    };
    for (const [what, end] of Object.entries(ENDS)) {
        test(`case 51: ${what} ends a session: its stream, its subscriptions, its questions`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            const uri = 'mine://51-end';
            shelf.texts[uri] = 'one';
            const { session, stream } = await subscriber(stand, t, 'legacy', [uri]);
            const other = await subscriber(stand, t, 'legacy', [uri], { token: 'beta' });
            await shelf.untilKnown(uri, 'alpha');
            await end(stand, session);
            await stream.over();
            await stand.turn();
            const asked = shelf.asked(uri, 'alpha');
            shelf.texts[uri] = 'two';
            await other.stream.untilTold(uri);
            await shelf.untilLookedAt(stand, uri, 'beta');
            assert.equal(stream.told(uri), 0);
            assert.equal(shelf.asked(uri, 'alpha'), asked);
        });
    }

    test('case 51: a new session begins without the subscriptions of the one before', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        const [old, uri] = ['mine://51-old', 'mine://51-new'];
        for (const each of [old, uri]) shelf.texts[each] = 'one';
        const before = await subscriber(stand, t, 'legacy', [old]);
        await shelf.untilKnown(old);
        before.stream.close();
        const { stream } = await subscriber(stand, t, 'legacy', [uri]);
        await shelf.untilKnown(uri);
        for (const each of [old, uri]) shelf.texts[each] = 'two';
        await stream.untilTold(uri);
        await shelf.untilLookedAt(stand, uri);
        assert.equal(stream.told(old), 0);
    });

    test('case 55: somebody else\'s token on a session hears nothing of it and changes nothing in it', async (t) => {
        const stand = await shelfStand(t, { get: 'stream' });
        const { shelf } = stand;
        const uri = 'mine://55';
        shelf.texts[uri] = 'one';
        const { session, stream } = await subscriber(stand, t, 'legacy', [uri]);
        const thief = await session.get(t, { token: 'mallory' });
        await shelf.untilKnown(uri);
        const request = session.request('resources/unsubscribe', { uri }, { token: 'mallory' });
        await (await stand.ask(request)).body();
        shelf.texts[uri] = 'two';
        await stream.untilTold(uri);
        await shelf.untilLookedAt(stand, uri);
        assert.equal(thief.told(uri), 0);
        assert.equal(shelf.asked(uri, 'mallory'), 0);
    });

    test('case 52: where the upstream has no stream and the sidecar offered subscriptions, it serves one', async (t) => {
        const stand = await shelfStand(t);
        const session = await Session.open(stand);
        assert.equal(session.result.capabilities.resources.subscribe, true);
        const stream = await session.get(t);
        assert.equal(stream.answer.status, 200);
        assert.equal(outcomeOf(stream.answer) === 'hit', false);
        assert.equal(stand.upstream.of('GET /mcp').length, 1, 'the upstream was asked first');
        await stand.turn();
        assert.equal(stream.ending, undefined);
        assert.equal(stream.messages.length, 0);
    });

    const NO_OFFER = {
        'no resources': { capabilities: { tools: {} } },
        'subscriptions off': { flags: ['--subscriptions', 'off'] },
    };
    for (const [what, options] of Object.entries(NO_OFFER)) {
        test(`case 52: where none were offered, the upstream's 405 is the answer (${what})`, async (t) => {
            const stand = await shelfStand(t, options);
            const session = await Session.open(stand);
            const { answer } = await session.get(t);
            assert.equal(answer.status, 405);
            assert.equal((await answer.body()).toString(), 'no stream here');
            assert.equal(answer.header('allow'), 'POST, DELETE');
        });
    }

    test('case 52: other refusals of a stream are relayed', async (t) => {
        for (const status of [400, 404, 409, 500]) {
            const stand = await shelfStand(t, { get: status });
            const session = await Session.open(stand);
            const { answer } = await session.get(t);
            assert.equal(answer.status, status);
            assert.equal((await answer.body()).toString(), 'no stream here');
        }
    });

    /** What the upstream says that it can do, and what the client hears; the same: undefined. */
    const CAPABILITIES = {
        'no resources': ['{"tools":{"listChanged":true},"com.example/x":[1.0, 1e2]}'],
        'resources that are none': ['{"resources":null}'],
        'subscriptions of its own': ['{"resources":{ "subscribe" : true }}'],
        'no capabilities': ['{}'],
        'bare resources': ['{"resources":{}}', true],
        'blanks': ['{ "resources" : { } }', true],
        'members that nobody knows': ['{"tools":{"com.example/x":[1, 2.0,1e3]}, "resources":{ "listChanged" : true,"com.example/y":{"resources":{},"n":9007199254740993}},"completions":{},"com.example/z":"\\u00e9 é"}', true],
    };
    for (const [what, [text, isOffered]] of Object.entries(CAPABILITIES)) {
        for (const via of ['json', 'sse']) {
            test(`case 53: an initialize result with ${what} ${isOffered ? 'gains the offer, and every other byte stays' : 'stays as it is'} (${via})`, async (t) => {
                const stand = await shelfStand(t, { via, capabilities: raw(text), session: 'visible' });
                const session = await Session.open(stand);
                const body = session.opened.text;
                assert.equal(session.id, 'visible-1');
                assert.match(session.opened.header('content-type'), via === 'sse' ? /^text\/event-stream/ : /^application\/json/);
                const message = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":${text},"serverInfo":{"name":"shelf","version":"1"}}}`;
                const sent = via === 'sse' ? `event: message\ndata: ${message}\n\n` : message;
                if (isOffered) {
                    assert.equal(session.result.capabilities.resources.subscribe, true);
                    assert.equal(withoutSubscribe(body).replace(/^(:[^\n]*\n+)+/, ''), sent);
                } else {
                    assert.equal(body.replace(/^(:[^\n]*\n+)+/, ''), sent);
                }
            });
        }
    }

    test('case 53: "subscribe": false becomes true', async (t) => {
        const stand = await shelfStand(t, { capabilities: raw('{"resources":{"subscribe": false,"listChanged":false}}') });
        const session = await Session.open(stand);
        assert.deepEqual(session.result.capabilities, { resources: { subscribe: true, listChanged: false } });
    });

    test('case 53: the result among other events, with ids: each stays as it is but for the offer', async (t) => {
        const stand = await shelfStand(t);
        const result = (id, resources) => `{"jsonrpc":"2.0","id":${id},"result":{"protocolVersion":"2025-11-25","capabilities":{"resources":${resources}},"serverInfo":{"name":"s","version":"1"}}}`;
        const events = (resources) => `: hello\n\nid: p-0\nretry: 500\ndata: \n\nevent: message\r\nid: p-1\r\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"capabilities"}}\r\n\r\nid: p-2\nevent: message\ndata: ${result(1, resources)}\n\n`;
        stand.shelf.instead = async (call) => {
            if (call.json?.method !== 'initialize') return false;
            await call.stream({ 'Mcp-Session-Id': 's-53' });
            for (const byte of Buffer.from(events('{}'))) await call.chunk([byte]);
            await call.endStream();
            return true;
        };
        const opened = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1' } }));
        await opened.body();
        assert.equal(opened.header('mcp-session-id'), 's-53');
        assert.equal(opened.text, events('{"subscribe":true}'));
    });

    test('case 53: without a session there is nobody to tell: nothing is offered', async (t) => {
        const stand = await shelfStand(t, { session: null });
        const answer = await stand.ask(legacy('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'raw', version: '1' } }));
        const { result } = await messageOf(answer);
        // unless the sidecar opens one itself
        assert.equal(result.capabilities.resources.subscribe ?? false, answer.header('mcp-session-id') !== undefined);
    });

    test('case 53: a refused initialize is the upstream\'s own words', async (t) => {
        const stand = await shelfStand(t);
        stand.shelf.instead = async (call) => call.json?.method === 'initialize' && (await call.error(-32602, 'Unsupported protocol version'), true);
        const answer = await stand.ask(legacy('initialize', { protocolVersion: '1999-01-01', capabilities: {}, clientInfo: { name: 'raw', version: '1' } }, { id: '"i"' }));
        assert.deepEqual(await messageOf(answer), { jsonrpc: '2.0', id: 'i', error: { code: -32602, message: 'Unsupported protocol version' } });
    });

    test('one subscription more than there is room for is refused; those before it are kept', async (t) => {
        const stand = await shelfStand(t, { flags: ['--max-subscriptions', '1'] });
        const { shelf } = stand;
        for (const n of [1, 2]) shelf.texts[`mine://room-${n}`] = 'one';
        const { session, stream } = await subscriber(stand, t, 'legacy', ['mine://room-1']);
        await session.subscribe('mine://room-1');
        const refused = await session.ask('resources/subscribe', { uri: 'mine://room-2' }, { id: '"more"' });
        assert.equal(refused.id, 'more');
        assert.equal(typeof refused.error?.code, 'number', JSON.stringify(refused));
        await shelf.untilKnown('mine://room-1');
        shelf.texts['mine://room-1'] = 'two';
        await stream.untilTold('mine://room-1');
        await session.unsubscribe('mine://room-1');
        await session.subscribe('mine://room-2');
    });

    test('what is asked in the sidecar\'s own name has ids of its own, the session\'s headers, and a POST\'s shape', async (t) => {
        const stand = await shelfStand(t);
        const { shelf } = stand;
        shelf.texts['mine://zoë'] = 'one';
        await subscriber(stand, t, 'legacy', ['mine://zoë']);
        await subscriber(stand, t, 'modern', ['mine://zoë'], { token: 'beta' });
        await shelf.untilKnown('mine://zoë', 'alpha');
        await shelf.untilKnown('mine://zoë', 'beta');
        for (const call of stand.upstream.of('mine://zoë').filter(({ json }) => json.method === 'resources/read')) {
            assert.match(call.id, /^"mcpcached-/);
            assert.equal(call.method, 'POST');
            assert.equal(call.header('content-type'), 'application/json');
            assert.match(call.header('accept'), /application\/json.*text\/event-stream/);
            assert.equal(call.header('last-event-id'), undefined);
            const isModern = call.header('authorization') === 'Bearer beta';
            assert.equal(call.header('mcp-protocol-version'), isModern ? '2026-07-28' : '2025-11-25');
            assert.equal(call.header('mcp-session-id'), isModern ? undefined : 's-1');
            assert.equal(call.header('mcp-method'), isModern ? 'resources/read' : undefined);
            assert.equal(call.header('mcp-name'), isModern ? `=?base64?${Buffer.from('mine://zoë').toString('base64')}?=` : undefined);
            assert.equal(call.json.params._meta?.progressToken, undefined);
        }
    });
});

// ---- the upstream's own notices ---------------------------------------------------------------------------------------------------------

/** Somebody who hears of this from the upstream: {…, call}: the upstream's end of his stream. */
async function covered(stand, t, era, uris) {
    const one = await subscriber(stand, t, era, uris);
    return { ...one, call: await stand.upstream.call(era === 'legacy' ? 'GET /mcp' : 'subscriptions/listen') };
}

describe('both tell', others, () => {
    for (const era of ERAS) {
        test(`what the upstream tells of and the sidecar sees too is told once, whoever was first (${era})`, async (t) => {
            const stand = await shelfStand(t, { own: true });
            const { shelf } = stand;
            const uri = 'mine://both';
            shelf.texts[uri] = '0';
            const { stream, read, call } = await covered(stand, t, era, [uri]);
            if (era === 'legacy') assert.deepEqual(stand.upstream.of('resources/subscribe').map(({ json }) => json.params.uri), [uri], 'the upstream knows');
            assert.equal(await read(uri), '0');
            const see = (text) => until(async () => (await read(uri)) === text, { everyMs: 50, what: 'the change to be seen' });
            // the sidecar is first
            shelf.texts[uri] = '1';
            await see('1');
            await shelf.updated(call, uri);
            await stream.untilTold(uri);
            await period(1.5);
            assert.equal(stream.told(uri), 1, 'first seen, then told by the upstream');
            // the upstream is
            shelf.texts[uri] = '2';
            await shelf.updated(call, uri);
            await stream.untilTold(uri, 2);
            assert.equal(await read(uri), '2');
            await period(1.5);
            assert.equal(await read(uri), '2');
            assert.equal(stream.told(uri), 2, 'first told by the upstream, then seen');
            // the upstream says nothing
            shelf.texts[uri] = '3';
            await see('3');
            await stream.untilTold(uri, 3);
            await period(1.5);
            assert.equal(stream.told(uri), 3, 'seen, and not told by the upstream');
        });

        test(`what the upstream tells of itself is not asked for (${era})`, async (t) => {
            const stand = await shelfStand(t, { own: true });
            const { shelf } = stand;
            shelf.texts['mine://told'] = 'one';
            const { stream, call } = await covered(stand, t, era, ['mine://told']);
            await period(3);
            assert.equal(shelf.asked('mine://told'), 0);
            await shelf.updated(call, 'mine://told');
            await stream.untilTold('mine://told');
        });

        test(`the upstream's own notice is relayed as it came, and what it is about is gone before (${era})`, async (t) => {
            const stand = await shelfStand(t, { own: true });
            const { shelf } = stand;
            const uri = 'lasting://relayed';
            shelf.texts[uri] = 'one';
            const { stream, read, call } = await covered(stand, t, era, [uri]);
            for (let turn = 1; turn <= 5; turn++) {
                assert.equal(await read(uri), shelf.texts[uri]);
                shelf.texts[uri] = `${turn}`;
                await shelf.updated(call, uri);
                while (stream.told(uri) < turn) await new Promise(setImmediate);
                assert.equal(await read(uri), `${turn}`);
            }
            assert.equal(stream.told(uri), 5);
        });
    }

    test('a subscription that the upstream refuses is none', async (t) => {
        const stand = await shelfStand(t, { own: true });
        const { shelf } = stand;
        const [refused, uri] = ['mine://refused', 'mine://taken'];
        for (const each of [refused, uri]) shelf.texts[each] = 'one';
        shelf.instead = async (call) => call.json?.method === 'resources/subscribe' && call.name === refused && (await call.error(-32602, 'Not that one'), true);
        const { session, stream, read } = await subscriber(stand, t, 'legacy', [uri]);
        assert.deepEqual(await session.ask('resources/subscribe', { uri: refused }, { id: '"r"' }), { jsonrpc: '2.0', id: 'r', error: { code: -32602, message: 'Not that one' } });
        for (const each of [refused, uri]) assert.equal(await read(each), 'one');
        for (const each of [refused, uri]) shelf.texts[each] = 'two';
        for (const each of [refused, uri]) await until(async () => (await read(each)) === 'two', { everyMs: 50, what: 'the change to be read' });
        await stream.untilTold(uri);
        await period();
        assert.equal(stream.told(refused), 0);
    });

    test('subscriptions off: nothing is offered, kept or answered here', async (t) => {
        const stand = await shelfStand(t, { flags: ['--subscriptions', 'off'] });
        stand.shelf.texts['mine://off'] = 'one';
        const session = await Session.open(stand);
        assert.deepEqual(session.result.capabilities, { tools: {}, resources: {} });
        assert.deepEqual((await messageOf(await stand.ask(modern('server/discover')))).result.capabilities, { tools: {}, resources: {} });
        assert.equal((await session.ask('resources/subscribe', { uri: 'mine://off' })).error.code, -32601);
        const stream = await listen(stand, t, { resourceSubscriptions: ['mine://off'] });
        assert.equal(stream.answer.status, 404);
        assert.equal((await messageOf(stream.answer)).error.code, -32601);
        assert.equal(stand.upstream.of('resources/subscribe').length, 1);
    });
});

// ---- results of tools -------------------------------------------------------------------------------------------------------------------

describe('results', others, () => {
    for (const era of ERAS) {
        for (const own of [false, true]) {
            const where = `${era}, the upstream ${own ? 'has' : 'has no'} subscriptions`;
            test(`whoever subscribed to a tool's result hears when a later answer differs, and when a write purges it (${where})`, async (t) => {
                const stand = await shelfStand(t, { own });
                const { shelf } = stand;
                shelf.texts['mine://beside'] = 'one';
                shelf.balances = { a: 1, b: 1 };
                const { session, stream, call } = await subscriber(stand, t, era, ['balance://a', 'mine://beside']);
                if (era === 'legacy') assert.deepEqual(stand.upstream.of('resources/subscribe').map(({ json }) => json.params.uri), own ? ['mine://beside'] : []);
                else if (own) assert.deepEqual((await stand.upstream.call('subscriptions/listen')).json.params.notifications.resourceSubscriptions, ['mine://beside']);
                const see = (address, text) => until(async () => (await call('get_balance', { address })) === text, { everyMs: 50, what: `${address} to be ${text}` });
                await see('a', '1');
                await see('b', '1');
                shelf.balances.b = 2;
                await see('b', '2');
                shelf.balances.a = 2;
                await see('a', '2');
                await stream.untilTold('balance://a');
                await stand.turn();
                assert.equal(stream.told('balance://a'), 1, 'once, and not of what is another\'s');
                assert.equal(await call('get_balance', { address: 'a' }), '2');
                // a write, and what it touches
                shelf.balances = { a: 3, b: 3, c: 3 };
                assert.equal(await call('transfer', { from: 'b', to: 'c' }), 'done');
                assert.equal(await call('transfer', { from: 'b', to: 'a' }), 'done');
                await stream.untilTold('balance://a', 2);
                assert.equal(await call('get_balance', { address: 'a' }), '3', 'asked at once: the new one');
                await stand.turn();
                assert.equal(stream.told('balance://a'), 2);
                assert.equal(stream.told('balance://b'), 0);
                assert.equal(shelf.asked('balance://a'), 0, 'it is nothing that the upstream could be asked for');
                if (session) {
                    await session.unsubscribe('balance://a');
                    assert.equal(stand.upstream.of('resources/unsubscribe').length, 0);
                }
            });
        }

        test(`a write that purges a result which lives on tells of it (${era})`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            shelf.balances = { a: 1 };
            const { stream, call } = await subscriber(stand, t, era, ['fixed://a', 'fixed://b']);
            assert.equal(await call('get_fixed', { address: 'a' }), '1');
            for (let turn = 2; turn <= 4; turn++) {
                shelf.balances.a = turn;
                await call('transfer', { from: 'x', to: 'a' });
                while (stream.told('fixed://a') < turn - 1) {
                    assert.equal(stream.ending, undefined);
                    await sleep(1);
                }
                assert.equal(await call('get_fixed', { address: 'a' }), String(turn), 'purged before it was told');
            }
            await stand.turn();
            assert.equal(stream.told('fixed://a'), 3);
        });

        test(`what is one caller's result is no news for another (${era})`, async (t) => {
            const stand = await shelfStand(t);
            const { shelf } = stand;
            const [alpha, beta] = [await subscriber(stand, t, era, ['balance://a']), await subscriber(stand, t, era, ['balance://a'], { token: 'beta' })];
            shelf.balances.a = 1;
            for (const { call } of [alpha, beta]) assert.equal(await call('get_balance', { address: 'a' }), '1');
            shelf.balances.a = 2;
            await until(async () => (await alpha.call('get_balance', { address: 'a' })) === '2', { everyMs: 50, what: 'the change to be seen' });
            await alpha.stream.untilTold('balance://a');
            await stand.turn();
            assert.equal(beta.stream.told('balance://a'), 0);
        });

        test(`a read of a result's URI is the upstream's to answer (${era})`, async (t) => {
            const stand = await shelfStand(t, { own: true });
            const { shelf } = stand;
            const { read } = await subscriber(stand, t, era, ['balance://a']);
            assert.equal(await read('balance://a'), era === 'modern' ? -32602 : -32002);
            shelf.texts['balance://a'] = 'something else';
            assert.equal(await read('balance://a'), 'something else');
            assert.equal(shelf.asked('balance://a'), 2);
        });
    }
});

// ---- lists ------------------------------------------------------------------------------------------------------------------------------

describe('lists', others, () => {
    const KINDS = { tools: 'tools/list', prompts: 'prompts/list', resources: 'resources/list' };
    const item = (kind, n) => ({ name: `${kind}-${n}`, ...(kind === 'tools' ? { inputSchema: { type: 'object' } } : {}), ...(kind === 'resources' ? { uri: `mine://${n}` } : {}) });
    const capabilities = { tools: {}, prompts: {}, resources: {} };

    test('a listen is told when a list that the upstream does not tell of differs, once for each kind', async (t) => {
        const stand = await shelfStand(t, { policy: WATCHED_LISTS, capabilities });
        const { shelf } = stand;
        const discovered = await messageOf(await stand.ask(modern('server/discover')));
        assert.deepEqual(discovered.result.capabilities, { tools: { listChanged: true }, prompts: { listChanged: true }, resources: { listChanged: true, subscribe: true } });
        const filter = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };
        const stream = await listening(stand, t, filter);
        assert.deepEqual(stream.honoured, filter);
        for (const method of Object.values(KINDS)) await shelf.untilKnown(method);
        for (const [n, [kind, method]] of Object.entries(KINDS).entries()) {
            shelf.lists[kind] = [item(kind, 1)];
            await stream.untilHeard(`${kind}/list_changed`);
            const listed = await messageOf(await stand.ask(modern(method)));
            assert.deepEqual(listed.result[kind], shelf.lists[kind], 'and who asks at once gets the new one');
            await shelf.untilLookedAt(stand, method);
            assert.deepEqual(Object.keys(KINDS).map((each) => stream.heard(`${each}/list_changed`).length), [1, n > 0 ? 1 : 0, n > 1 ? 1 : 0]);
        }
        shelf.lists.resourceTemplates = [{ name: 'x', uriTemplate: 'x://{y}' }];
        await stream.untilHeard('resources/list_changed', 2);
        for (const event of stream.events) assert.equal(subscriptionIdOf(event), '1');
    });

    test('whoever listens for one list hears of no other', async (t) => {
        const stand = await shelfStand(t, { policy: WATCHED_LISTS, capabilities });
        const { shelf } = stand;
        const stream = await listening(stand, t, { toolsListChanged: true, promptsListChanged: false });
        assert.deepEqual(stream.honoured, { toolsListChanged: true });
        await shelf.untilKnown('tools/list');
        shelf.lists.prompts = [item('prompts', 1)];
        await messageOf(await stand.ask(modern('prompts/list')));
        shelf.lists.tools = [item('tools', 1)];
        await stream.untilHeard('tools/list_changed');
        assert.deepEqual(stream.messages.map(({ method }) => method), ['notifications/subscriptions/acknowledged', 'notifications/tools/list_changed']);
    });

    test('a session to which the sidecar promised it is told when a list differs', async (t) => {
        const stand = await shelfStand(t, { policy: WATCHED_LISTS, capabilities });
        const { shelf } = stand;
        const session = await Session.open(stand);
        assert.deepEqual(session.result.capabilities, { tools: { listChanged: true }, prompts: { listChanged: true }, resources: { listChanged: true, subscribe: true } });
        assert.deepEqual((await session.ask('tools/list', {})).result.tools, []);
        const stream = await session.get(t);
        await shelf.untilAsked('tools/list', 1);
        shelf.lists.tools = [item('tools', 1)];
        await stream.untilHeard('tools/list_changed');
        assert.deepEqual((await session.ask('tools/list', {})).result.tools, shelf.lists.tools);
        await shelf.untilLookedAt(stand, 'tools/list');
        assert.deepEqual(stream.messages, [{ jsonrpc: '2.0', method: 'notifications/tools/list_changed' }]);
        assert.equal(stream.events[0].id, undefined);
    });

    test('a session whose server promised it itself hears it from that server', async (t) => {
        const stand = await shelfStand(t, { policy: WATCHED_LISTS, own: true, capabilities: { tools: { listChanged: true }, resources: { subscribe: true, listChanged: true } } });
        const { shelf } = stand;
        const session = await Session.open(stand);
        assert.deepEqual(session.result.capabilities, { tools: { listChanged: true }, resources: { subscribe: true, listChanged: true } });
        assert.deepEqual((await session.ask('tools/list', {})).result.tools, []);
        const stream = await session.get(t);
        const call = await stand.upstream.call('GET /mcp');
        const asked = shelf.asked('tools/list');
        await period(2);
        assert.equal(shelf.asked('tools/list'), asked, 'and nobody asks for it');
        await shelf.tell(call, 'tools/list_changed');
        await stream.untilHeard('tools/list_changed');
        await stand.turn();
        assert.equal(stream.messages.length, 1);
    });
});

// ---- silence ----------------------------------------------------------------------------------------------------------------------------

describe('silence', others, () => {
    const IDLE = {
        'a listen that the sidecar serves': (stand, t) => listening(stand, t, { resourceSubscriptions: ['lasting://idle'] }),
        'a GET that the sidecar serves': async (stand, t) => (await Session.open(stand)).get(t),
        'a listen of the upstream\'s': (stand, t) => ((stand.shelf.listen = 'grant'), listening(stand, t, { toolsListChanged: true })),
        'a GET of the upstream\'s': async (stand, t) => ((stand.shelf.get = 'stream'), (await Session.open(stand)).get(t)),
    };
    for (const [what, open] of Object.entries(IDLE)) {
        test(`case 75: an idle stream gets comments, and nothing but comments (${what})`, async (t) => {
            const stand = await shelfStand(t, { flags: ['--stream-keepalive', '1s', '--idle-timeout', '1s', '--write-timeout', '1s'] });
            stand.shelf.texts['lasting://idle'] = 'one';
            const stream = await open(stand, t);
            const comments = () => stream.answer.text.split('\n').filter((line) => line.startsWith(':')).length;
            const before = comments();
            const events = stream.events.length;
            await until(() => comments() >= before + 3, { what: 'three comments' });
            assert.equal(stream.ending, undefined);
            assert.equal(stream.events.length, events);
            assert.deepEqual(stream.answer.text.split('\n').filter((line) => /^(id|retry)/.test(line) || line === 'data:' || line === 'data: '), []);
        });
    }
});

// ---- official clients and servers -------------------------------------------------------------------------------------------------------

/** A counter lives for a second; what changes it goes past the sidecar. */
const COUNTERS = `${readPolicy}  - { uri: "counter://**", ttl: 1s }\n`;
const URI = 'counter:///watched';

async function subscribedV1(url, heard, t, connect = connectV1) {
    const caller = await connect(url, {
        t,
        token: 'ann',
        setup(client) {
            client.setNotificationHandler(connect === connectV1 ? ResourceUpdatedNotificationSchema : 'notifications/resources/updated', ({ params }) => void heard.push(params.uri));
        },
    });
    assert.equal(caller.client.getServerCapabilities().resources.subscribe, true);
    await caller.client.subscribeResource({ uri: URI });
    await until(() => caller.exchanges.some(({ verb, status }) => verb === 'GET' && status === 200), { what: 'the GET stream' });
    return { caller, end: () => caller.client.unsubscribeResource({ uri: URI }) };
}
async function subscribedV2(url, heard, t) {
    const caller = await connectV2(url, { t, token: 'ann', setup: (client) => client.setNotificationHandler('notifications/resources/updated', ({ params }) => void heard.push(params.uri)) });
    assert.equal(caller.client.getServerCapabilities().resources.subscribe, true);
    const subscription = await caller.client.listen({ resourceSubscriptions: [URI] });
    assert.deepEqual(subscription.honoredFilter, { resourceSubscriptions: [URI] });
    return { caller, end: () => subscription.close() };
}
const PAIRS = {
    'v1 client, v1 server': { start: startLegacy, subscribed: subscribedV1 },
    'v1 client, v1 server with event ids': { start: (options) => startLegacy({ ...options, events: true }), subscribed: subscribedV1 },
    'v1 client, v1 server in JSON': { start: (options) => startLegacy({ ...options, json: true }), subscribed: subscribedV1 },
    'v2 client in the legacy era, v1 server': { start: startLegacy, subscribed: (url, heard, t) => subscribedV1(url, heard, t, (at, options) => connectV2(at, { ...options, era: 'legacy' })) },
    'v2 client, v2 server': { start: startModern, subscribed: subscribedV2 },
    'v2 client, v2 server always streaming': { start: (options) => startModern({ ...options, response: 'sse' }), subscribed: subscribedV2 },
};

describe('official clients', others, () => {
    for (const [what, { start, subscribed }] of Object.entries(PAIRS)) {
        for (const subscribe of [true, false]) {
            test(`whoever subscribes hears of each change once, and reads the new content, until he has heard enough (${what}, ${subscribe ? 'which tells itself' : 'which has no subscriptions'})`, async (t) => {
                const upstream = await start({ t, subscribe });
                const sidecar = await Sidecar.start(COUNTERS, { t, upstream });
                const heard = [];
                const { caller, end } = await subscribed(sidecar.url, heard, t);
                const change = () => (subscribe ? upstream.world.tick('watched') : upstream.world.counters.set('watched', (upstream.world.counters.get('watched') ?? 0) + 1));
                assert.equal(textOf((await caller.read(URI)).result), '0');
                for (let turn = 1; turn <= 3; turn++) {
                    change();
                    await until(() => heard.length >= turn, { everyMs: 2, what: `news number ${turn}` });
                    assert.equal(textOf((await caller.read(URI)).result), String(turn));
                    assert.deepEqual(heard, Array(turn).fill(URI));
                }
                if (subscribe) {
                    const asked = upstream.world.timesRun(URI);
                    await period(2);
                    assert.equal(upstream.world.timesRun(URI), asked, 'where the server tells nobody asks');
                }
                await end();
                change();
                await period(2);
                assert.equal(heard.length, 3);
                if (!subscribe) assert.equal(upstream.world.arrived('resources/subscribe') + upstream.world.arrived('resources/unsubscribe'), 0);
            });
        }
    }

    test('a server without sessions: nothing is promised that could not be kept', async (t) => {
        const upstream = await startLegacy({ t, sessions: false, subscribe: false });
        const sidecar = await Sidecar.start(COUNTERS, { t, upstream });
        const caller = await connectV1(sidecar.url, { t, token: 'ann' });
        if (caller.transport.sessionId === undefined) assert.equal(caller.client.getServerCapabilities().resources.subscribe, undefined);
        assert.equal(textOf((await caller.read(URI)).result), '0');
    });

    test('case 47: the v2 client sees the end of its listen when the sidecar stops', async (t) => {
        const upstream = await startModern({ t, subscribe: false });
        const sidecar = await Sidecar.start(COUNTERS, { t, upstream });
        const { caller } = await subscribedV2(sidecar.url, [], t);
        const errors = [];
        caller.client.onerror = (error) => errors.push(error);
        const { code } = await sidecar.stop();
        assert.equal(code, 0);
        await sleep(100);
        assert.deepEqual(errors, []);
    });
});
