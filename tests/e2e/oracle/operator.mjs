/* SPDX-License-Identifier: Apache-2.0 */
// An operator, who purges through the admin listener now and then: what he was told is purged, nobody may be given any more, or, softly, only as stale.
import http from 'node:http';
import { sleep } from '../lib/wait.mjs';
import { TOOLS } from './phases.mjs';

const TOOL_NAMES = TOOLS.flatMap(([, names]) => names);
const LISTS = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'];
const PAUSE_MS = [20, 120];
const WITHIN_MS = 10_000;

export class Operator {
    #agent = new http.Agent({ keepAlive: true });

    constructor(run, dice) {
        this.run = run;
        this.dice = dice;
    }

    async go() {
        const { run, dice } = this;
        while (!run.isOver) {
            await run.up;
            await sleep(dice.between(...PAUSE_MS) / run.phase.fire);
            if (run.isUp && !run.isOver) await this.#purge();
        }
        this.#agent.destroy();
    }

    /** [what is ordered, its subjects] */
    #draw() {
        const { run: { world, judge }, dice } = this;
        const key = `k${dice.zipf(5)}`;
        const name = dice.of(TOOL_NAMES);
        const list = dice.of(LISTS);
        const uri = dice.of([`hint://pub/${dice.below(3)}`, `hint://priv/${dice.below(3)}`, `rule://open/${dice.below(3)}`, `rule://mine/${dice.below(3)}`, `sub://${dice.below(3)}`, `res://${key}`]);
        const tag = dice.of([`k:${key}`, `dyn:${key}`, `grp:${key}`, 'prin', 'open']);
        const credential = world.places[dice.zipf(world.places.length)];
        const headers = Object.fromEntries(credential.headers.map(([header, value]) => [header, value]));
        switch (dice.weighted([[2, 'all'], [20, 'tool'], [12, 'list'], [20, 'uri'], [25, 'tag'], [12, 'principal'], [9, 'several']], 100)) {
        case 'all': return [{ all: true }, ['all']];
        case 'tool': return [{ tool: name }, [`tool ${name}`]];
        case 'list': return [{ list }, [`list ${list}`]];
        case 'uri': return [{ uri }, [`uri ${uri}`]];
        case 'tag': return [{ tag }, [`tag ${tag}`]];
        case 'principal': return [{ principal: headers }, Object.keys(headers).length === credential.headers.length ? [judge.fresh.who(credential)] : []];
        default: return [{ tool: name, uri }, [`tool ${name}`, `uri ${uri}`]];
        }
    }

    async #purge() {
        const { run, dice } = this;
        const [order, subjects] = this.#draw();
        const isSoft = dice.chance(0.4);
        const isDry = dice.chance(0.1);
        if (isSoft) order.soft = true;
        if (isDry) order.dry_run = true;
        const { process } = run;
        const sentTick = run.clock();
        const { status, text } = await this.#post(process.adminPath, JSON.stringify(order));
        if (process !== run.process || !run.isUp || run.isOver) return;
        const tick = run.clock();
        run.count(`purge ${isDry ? 'dry run' : isSoft ? 'soft' : 'hard'}`, 1);
        if (status !== 200 || !(JSON.parse(text).purged >= 0)) return run.violation('admin', `the order ${JSON.stringify(order)} was answered ${status} ${text}`);
        if (!isDry) run.judge.fresh.purge(subjects, sentTick, tick, `an operator ordered ${JSON.stringify(order)}, which was acknowledged at ${tick}`, isSoft);
    }

    #post(socketPath, body) {
        return new Promise((done) => {
            const request = http.request({ socketPath, agent: this.#agent, method: 'POST', path: '/purge', headers: { host: 'localhost', 'content-type': 'application/json', 'content-length': body.length }, timeout: WITHIN_MS }, (reply) => {
                let text = '';
                reply.setEncoding('latin1');
                reply.on('data', (piece) => (text += piece));
                reply.on('end', () => done({ status: reply.statusCode, text }));
                reply.on('error', (error) => done({ status: 0, text: error.message }));
            });
            request.on('timeout', () => request.destroy(new Error('no answer')));
            request.on('error', (error) => done({ status: 0, text: error.message }));
            request.end(body);
        });
    }
}
