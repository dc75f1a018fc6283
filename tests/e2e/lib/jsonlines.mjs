/* SPDX-License-Identifier: Apache-2.0 */
// What a program that runs tests reads of them: a line of JSON per test, {outcome, name, why}. Outcomes: "passed"; "failed", in the test's own code
// or by its time limit; "broken", when something around it did (a hook, the file itself), which says nothing about what was tested.
// Suites, and tests that were skipped, are no tests.
export default async function* report(events) {
    for await (const { type, data } of events) {
        if (type !== 'test:pass' && type !== 'test:fail') continue;
        if (data.skip !== undefined && data.skip !== false) continue;
        const failure = data.details?.error?.failureType;
        const isContainer = data.details?.type === 'suite' || (data.nesting === 0 && data.name.endsWith('.test.mjs'));
        if (isContainer && (type === 'test:pass' || failure === 'subtestsFailed')) continue;
        const isOwn = !isContainer && (failure === 'testCodeFailure' || failure === 'testTimeoutFailure');
        const outcome = type === 'test:pass' ? 'passed' : isOwn ? 'failed' : 'broken';
        yield `${JSON.stringify({ outcome, name: data.name, why: data.details?.error?.message })}\n`;
    }
}
