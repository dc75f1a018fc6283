/* SPDX-License-Identifier: Apache-2.0 */
// What `./dev test e2e` prints: a line per test, the reasons of each failure, and at the end "N passed, N failed".
// A skipped test counts as failed: whoever skips says so, and the sum shows it.
import { inspect } from 'node:util';

const reason = (error) => {
    const cause = error?.cause ?? error;
    return (typeof cause === 'string' ? cause : (cause?.stack ?? inspect(cause, { depth: 4 }))).trimEnd();
};

export default async function* report(events) {
    let passed = 0;
    const failures = [];
    const names = []; // of the suites and the test that the next events belong to, outermost first
    for await (const { type, data } of events) {
        if (type === 'test:start') names.splice(data.nesting, Infinity, data.name);
        if (type === 'test:stderr' || type === 'test:stdout') yield data.message;
        if (type !== 'test:pass' && type !== 'test:fail') continue;
        const failed = type === 'test:fail';
        if (data.todo !== undefined && data.todo !== false) {
            yield `todo  ${data.name}\n`;
            continue;
        }
        if (data.details?.type === 'suite' && !(failed && data.details.error?.failureType !== 'subtestsFailed')) continue;
        // A file is a "test" of its own: it only matters when it broke outside of its tests.
        if (data.details?.error?.failureType === 'subtestsFailed') continue;
        if (!failed && data.nesting === 0 && data.name.endsWith('.test.mjs')) continue;
        const skipped = data.skip !== undefined && data.skip !== false;
        const isFile = data.nesting === 0 && data.name.endsWith('.test.mjs');
        const title = isFile ? `${data.name}, the file itself` : [...names.slice(0, data.nesting), data.name].join(': ');
        if (!failed && !skipped) {
            passed += 1;
            yield `ok    ${title} (${Math.round(data.details.duration_ms)} ms)\n`;
            continue;
        }
        const why = skipped ? `skipped ${data.skip === true ? '' : data.skip}` : reason(data.details.error);
        failures.push(`${title}\n${why.replace(/^/gm, '      ')}`);
        yield `FAIL  ${title}\n${why.replace(/^/gm, '      ')}\n`;
    }
    if (failures.length) yield `\nfailed:\n${failures.map((text) => `  ${text.split('\n', 1)[0]}\n`).join('')}`;
    yield `${passed} passed, ${failures.length} failed\n`;
}
