/* SPDX-License-Identifier: Apache-2.0 */
// The policies of a run, one phase each, and what they allow: the oracle's own reading of docs/policy.md, made without a look at the sidecar's.

/** Lifetimes in ms. Tools by the beginning of their name, resources by that of their URI. */
const LIFETIMES = { pub: 1200, prin: 2500, sess: 3000, mine: 2000, open: 1500, cap: 2000 };

/**
 * claims       identity.claims: [iss, sub]
 * shared       identity.anonymous: shared
 * openShare    this part of the phase the upstream challenges nobody
 * origins      --allow-origin
 * kills        how often the sidecar is killed and started again on its store
 * stretch      how many times longer everything lives
 * slowPaceMs   how long agents that ask seldom wait between two calls
 */
const phase = (name, options = {}) => ({
    name, leaseMs: 60_000, grantMs: 3_600_000, probe: true, claims: false, shared: false, openShare: 0, origins: [], kills: 0, threads: 1, stretch: 1, slowPaceMs: [5, 120], ...options,
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
];

export function policyText(phase) {
    const lives = (kind) => `${LIFETIMES[kind] * phase.stretch}ms`;
    return `version: 1
identity:
  headers: [authorization, x-api-key]
  lease: ${phase.leaseMs}ms
  grant: ${phase.grantMs}ms
  probe: ${phase.probe ? 'on' : 'off'}
  anonymous: ${phase.shared ? 'shared' : 'nobody'}
${phase.claims ? '  claims: [iss, sub]\n' : ''}defaults: { lists: ${lives('cap')}, resources: ${lives('cap')} }
tools:
  - { name: "pub_*", ttl: ${lives('pub')}, scope: public }
  - { name: "prin_*", ttl: ${lives('prin')}, scope: principal }
  - { name: "sess_*", ttl: ${lives('sess')} }
  - { name: "off_*", ttl: off }
  - { name: "write_*", class: write }
resources:
  - { uri: "rule://mine/**", ttl: ${lives('mine')}, scope: principal }
  - { uri: "rule://open/**", ttl: ${lives('open')}, scope: public }
`;
}

/** What the policy says of a kind of question: scope it grants ('session' where it says nothing), whether a rule narrows it, its lifetime. */
export function ruleOf(phase, method, name) {
    const rule = (kind, more) => ({ ...more, ttlMs: LIFETIMES[kind] * phase.stretch });
    if (method === 'tools/call') {
        const kind = name.slice(0, name.indexOf('_'));
        if (kind === 'pub') return rule('pub', { scope: 'public' });
        if (kind === 'prin') return rule('prin', { scope: 'principal' });
        if (kind === 'sess') return rule('sess', { scope: 'session' });
        return null;
    }
    if (method === 'resources/read') {
        if (name.startsWith('rule://mine/')) return rule('mine', { scope: 'principal', isNarrowed: true });
        if (name.startsWith('rule://open/')) return rule('open', { scope: 'public' });
        return rule('cap', { scope: 'session', isHinted: true });
    }
    if (['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'].includes(method)) return rule('cap', { scope: 'session', isHinted: true });
    return null;
}

/** May everybody read this answer? By the operator's word, or by the server's own on methods that carry it; `private` always narrows. */
export function isPublic(rule, exchange) {
    if (exchange.saysPrivate) return false;
    if (exchange.era === 'legacy') return rule.scope === 'public';
    if (exchange.method === 'tools/call') return rule.scope === 'public' && exchange.cacheScope !== 'private';
    return !rule.isNarrowed && exchange.cacheScope === 'public' && (rule.scope === 'public' || exchange.hintMs > 0);
}

/** Whom a private answer is for: one session, or whoever has these credentials. */
export const privateScope = (rule, era) => (era === 'legacy' && rule.scope !== 'principal' ? 'session' : 'principal');

export function lifetimeOf(rule, exchange) {
    return rule.isHinted && exchange.era === 'modern' ? Math.min(rule.ttlMs, exchange.hintMs ?? 0) : rule.ttlMs;
}
