/* SPDX-License-Identifier: Apache-2.0 */
// The policies of a run, one phase each, and what they allow: the oracle's own reading of docs/policy.md, made without a look at the sidecar's.

/** In ms. Tools by the beginning of their name, resources by that of their URI. */
const LIFETIMES = { pub: 1200, prin: 2500, sess: 3000, mine: 2000, open: 1500, cap: 2000, lag: 60, lagpub: 80, frail: 40, frailpub: 60, neg: 1500, note: 2500, notepub: 2000, firm: 2000, seenopen: 400, seenmine: 400, seen: 600, seenpub: 600, seensess: 600 };
const GRACES = { lag: 1500, lagpub: 1200, open: 500 };
const STAND_INS = { frail: 2500, frailpub: 2500, lagpub: 600 };
const NEGATIVE_MS = 400;
const TIMEOUT_MS = 250;

/** Every tool that a client may call, by the beginning of its name. */
export const TOOLS = [
    [18, ['pub_a', 'pub_b']], [22, ['prin_a', 'prin_b']], [24, ['sess_a', 'sess_b']], [2, ['off_a']], [12, ['lag_a', 'lag_b']], [12, ['lagpub_a', 'lagpub_b']], [3, ['neg_a']],
    [4, ['note_a', 'note_b']], [3, ['notepub_a', 'notepub_b']], [2, ['firm_a']],
    [3, ['seen_a']], [4, ['seenpub_a']], [3, ['seensess_a']],
    [12, [...'abc'].flatMap((letter) => [`frail_${letter}`, `frailpub_${letter}`])],
];
/** Those whose definition and annotations change, and all that tools/list tells of: few, or the sidecar forgets what it said to whom. */
export const NOTED = TOOLS.flatMap(([, names]) => names).filter((name) => name.startsWith('note'));
export const LISTED = [...NOTED, 'pub_a', 'pub_b', 'prin_a', 'prin_b', 'sess_a', 'sess_b', 'lag_a', 'lagpub_a'];
export const WRITES = [[40, ['write_a']], [15, ['other_a']], [30, ['write_tag']], [15, ['write_wide']], [8, ['write_seen']]];

/** Tools whose results are resources: the beginning of the URI -> the tool. */
const RESULTS = { 'seenres://': 'seen_a', 'seenpubres://': 'seenpub_a', 'seensessres://': 'seensess_a' };
export const RESULT_URIS = Object.keys(RESULTS).flatMap((start) => [0, 1, 2].map((n) => `${start}s${n}`));
export const toolOf = (uri) => RESULTS[uri.slice(0, uri.indexOf('//') + 2)];
export const uriOf = (tool, key) => `${Object.entries(RESULTS).find(([, name]) => name === tool)[0]}${key}`;
export const hasResultUri = (tool) => Object.values(RESULTS).includes(tool);
/** Resources of which nothing is known but what their own rules and hints say. */
export const SEEN_URIS = ['pub', 'mine', 'hint'].flatMap((kind) => [0, 1, 2].map((n) => `seen://${kind}/${n}`));

/** Who is shown the same: 'public', 'private', or 'flip' (now this, now that). */
export function reachOf(key) {
    if (/^(hint:\/\/priv|hint:\/\/none|rule:\/\/mine|seen:\/\/mine|seenres:|seensessres:)/.test(key)) return 'private';
    return /^(hint:\/\/flip|seen:\/\/hint)/.test(key) ? 'flip' : 'public';
}

/**
 * claims       identity.claims: [iss, sub]
 * shared       identity.anonymous: shared
 * openShare    this part of the phase the upstream challenges nobody
 * origins      --allow-origin
 * kills        how often the sidecar is killed and started again on its store
 * stretch      how many times longer everything lives
 * slowPaceMs   how long agents that ask seldom wait between two calls
 * tells        whether the upstream has subscriptions of its own, for some callers
 * share        of the operations, beside the other phases'
 * opsPerMs     at most
 * subscribers  how many listen at once
 * watches      how many times as often changes what somebody is subscribed to
 * fire         how many times as often something breaks, is written, purged or told of
 */
const phase = (name, options = {}) => ({
    name, leaseMs: 60_000, grantMs: 3_600_000, probe: true, claims: false, shared: false, openShare: 0, origins: [], kills: 0, threads: 1, stretch: 1, slowPaceMs: [5, 120], fire: 1, tells: true, share: 1, opsPerMs: 3.5, subscribers: 12, watches: 1, ...options,
});

export const PHASES = [
    phase('plain'),
    phase('lease', { leaseMs: 60, slowPaceMs: [40, 160] }),
    phase('no-probe', { leaseMs: 60, probe: false, slowPaceMs: [30, 200] }),
    phase('grant', { leaseMs: 150, grantMs: 110, stretch: 2, slowPaceMs: [60, 300] }),
    phase('claims', { claims: true, leaseMs: 200 }),
    phase('anonymous', { shared: true, openShare: 0.5, leaseMs: 400 }),
    phase('nobody', { openShare: 0.7, leaseMs: 400, origins: ['https://app.example'] }),
    phase('restart', { kills: 3, claims: true, stretch: 6 }),
    phase('threads', { threads: 2, leaseMs: 120, claims: true, origins: ['https://app.example'] }),
    phase('fire', { threads: 2, fire: 4, subscribers: 20 }),
    phase('watch', { tells: false, share: 0.6, opsPerMs: 1.2, subscribers: 32, watches: 3, grantMs: 60_000 }),
];

export function policyText(phase) {
    const lives = (kind) => `${LIFETIMES[kind] * phase.stretch}ms`;
    const after = (kind) => [['grace', GRACES[kind]], ['stale_if_error', STAND_INS[kind]]].filter(([, ms]) => ms !== undefined).map(([key, ms]) => `, ${key}: ${ms * phase.stretch}ms`).join('');
    return `version: 1
identity:
  headers: [authorization, x-api-key]
  lease: ${phase.leaseMs}ms
  grant: ${phase.grantMs}ms
  probe: ${phase.probe ? 'on' : 'off'}
  anonymous: ${phase.shared ? 'shared' : 'nobody'}
${phase.claims ? '  claims: [iss, sub]\n' : ''}defaults: { lists: ${lives('cap')}, resources: ${lives('cap')} }
tools:
  - { name: "pub_*", ttl: ${lives('pub')}, scope: public, tags: ["k:{/key}"] }
  - { name: "prin_*", ttl: ${lives('prin')}, scope: principal, tags: ["k:{/key}", prin], resource: "res://{/key}" }
  - { name: "sess_*", ttl: ${lives('sess')} }
  - { name: "off_*", ttl: off }
  - { name: "lag_*", ttl: ${lives('lag')}${after('lag')}, scope: principal, tags: ["k:{/key}"] }
  - { name: "lagpub_*", ttl: ${lives('lagpub')}${after('lagpub')}, scope: public, tags: ["k:{/key}"] }
  - { name: "frail_*", ttl: ${lives('frail')}${after('frail')}, scope: principal, timeout: ${TIMEOUT_MS}ms }
  - { name: "frailpub_*", ttl: ${lives('frailpub')}${after('frailpub')}, scope: public, timeout: ${TIMEOUT_MS}ms, tags: ["k:{/key}"] }
  - { name: "neg_*", ttl: ${lives('neg')}, scope: principal, negative_ttl: ${NEGATIVE_MS}ms }
  - { name: "note_*", ttl: ${lives('note')}, scope: principal }
  - { name: "notepub_*", ttl: ${lives('notepub')}, scope: public }
  - { name: "seen_*", ttl: ${lives('seen')}, scope: principal, tags: [seen], resource: "seenres://{/key}" }
  - { name: "seenpub_*", ttl: ${lives('seenpub')}, scope: public, tags: [seen], resource: "seenpubres://{/key}" }
  - { name: "seensess_*", ttl: ${lives('seensess')}, tags: [seen], resource: "seensessres://{/key}" }
  - { name: "firm_*", ttl: ${lives('firm')}, scope: principal, client_control: false }
  - { name: "write_tag", class: write, invalidates: ["k:{/key}"] }
  - { name: "write_wide", class: write, invalidates: [prin, open, "dyn:{/key}"] }
  - { name: "write_seen", class: write, invalidates: [seen] }
  - { name: "write_*", class: write }
resources:
  - { uri: "seen://pub/**", ttl: ${lives('seenopen')}, scope: public, tags: [seen] }
  - { uri: "seen://mine/**", ttl: ${lives('seenmine')}, scope: principal }
  - { uri: "rule://mine/**", ttl: ${lives('mine')}, scope: principal }
  - { uri: "rule://open/**", ttl: ${lives('open')}${after('open')}, scope: public, tags: [open] }
`;
}

const KINDS_OF_TOOLS = {
    pub: { scope: 'public' }, prin: { scope: 'principal' }, sess: { scope: 'session' }, lag: { scope: 'principal' }, lagpub: { scope: 'public' }, frail: { scope: 'principal', timeoutMs: TIMEOUT_MS },
    frailpub: { scope: 'public', timeoutMs: TIMEOUT_MS }, neg: { scope: 'principal', negativeMs: NEGATIVE_MS }, note: { scope: 'principal' }, notepub: { scope: 'public' }, firm: { scope: 'principal', isFirm: true },
    seen: { scope: 'principal' }, seenpub: { scope: 'public' }, seensess: { scope: 'session' },
};
const LISTS = ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'];
const kindOfTool = (name) => name.slice(0, name.indexOf('_'));

/** What the policy says of a kind of question: scope it grants ('session' where it says nothing), whether a rule narrows it, its lifetime and what may come after it. */
export function ruleOf(phase, method, name) {
    const rule = (kind, more) => ({ ...more, kind, ttlMs: LIFETIMES[kind] * phase.stretch, graceMs: (GRACES[kind] ?? 0) * phase.stretch, standInMs: (STAND_INS[kind] ?? 0) * phase.stretch });
    if (method === 'tools/call') {
        const kind = kindOfTool(name);
        return KINDS_OF_TOOLS[kind] === undefined ? null : rule(kind, KINDS_OF_TOOLS[kind]);
    }
    if (method === 'resources/read') {
        if (name.startsWith('seen://mine/')) return rule('seenmine', { scope: 'principal', isNarrowed: true });
        if (name.startsWith('seen://pub/')) return rule('seenopen', { scope: 'public' });
        if (name.startsWith('rule://mine/')) return rule('mine', { scope: 'principal', isNarrowed: true });
        if (name.startsWith('rule://open/')) return rule('open', { scope: 'public' });
        return rule('cap', { scope: 'session', isHinted: true });
    }
    if (LISTS.includes(method)) return rule('cap', { scope: 'session', isHinted: true });
    return null;
}

/** May everybody read this answer? By the operator's word, or by the server's own on methods that carry it; `private` always narrows. Errors are nobody else's. */
export function isPublic(rule, exchange) {
    if (exchange.saysPrivate || exchange.content !== 'result') return false;
    if (exchange.era === 'legacy') return rule.scope === 'public';
    if (exchange.method === 'tools/call') return rule.scope === 'public' && exchange.cacheScope !== 'private';
    return !rule.isNarrowed && exchange.cacheScope === 'public' && (rule.scope === 'public' || exchange.hintMs > 0);
}

/** Whom a private answer is for: one session, or whoever has these credentials. */
export const privateScope = (rule, era) => (era === 'legacy' && rule.scope !== 'principal' ? 'session' : 'principal');

export function lifetimeOf(rule, exchange) {
    if (exchange.content === 'isError') return rule.negativeMs ?? 0;
    const hintsCount = exchange.era === 'modern' && exchange.method !== 'tools/call';
    return hintsCount ? Math.min(rule.ttlMs, exchange.hintMs ?? 0) : rule.ttlMs;
}

/** What purges an answer, as far as the question tells: a word for each. */
export function subjectsOf({ method, name, dataKey, rule }) {
    const subjects = ['all'];
    if (method === 'tools/call') subjects.push(`tool ${name}`);
    else if (method === 'resources/read') subjects.push(`uri ${name}`, 'reads');
    else subjects.push(`list ${method}`);
    if (['pub', 'prin', 'lag', 'lagpub', 'frailpub'].includes(rule?.kind)) subjects.push(`tag k:${dataKey}`);
    if (rule?.kind === 'prin') subjects.push('tag prin', `uri res://${dataKey}`);
    if (rule?.kind === 'open') subjects.push('tag open');
    if (['seen', 'seenpub', 'seensess', 'seenopen'].includes(rule?.kind)) subjects.push('tag seen');
    if (['seen', 'seenpub', 'seensess'].includes(rule?.kind)) subjects.push(`uri ${dataKey}`);
    return subjects;
}

/** The tags that a write invalidates. */
export function invalidatedBy({ name, dataKey }) {
    if (name === 'write_tag') return [`tag k:${dataKey}`];
    if (name === 'write_seen') return ['tag seen'];
    if (name === 'write_wide') return ['tag prin', 'tag open', `tag dyn:${dataKey}`];
    return [];
}
