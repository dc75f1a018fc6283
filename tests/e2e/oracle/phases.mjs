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
 * slowPaceMs   how long agents that ask seldom wait between two calls
 */
const phase = (name, options = {}) => ({
    name, leaseMs: 60_000, grantMs: 3_600_000, probe: true, claims: false, shared: false, openShare: 0, origins: [], kills: 0, threads: 1, slowPaceMs: [5, 120], ...options,
});

export const PHASES = [
    phase('plain'),
    phase('lease', { leaseMs: 60, slowPaceMs: [40, 160] }),
    phase('no-probe', { leaseMs: 250, probe: false, slowPaceMs: [40, 500] }),
    phase('grant', { leaseMs: 150, grantMs: 600, slowPaceMs: [20, 400] }),
    phase('claims', { claims: true, leaseMs: 200 }),
    phase('anonymous', { shared: true, openShare: 0.5, leaseMs: 400 }),
    phase('nobody', { openShare: 0.7, leaseMs: 400, origins: ['https://app.example'] }),
    phase('restart', { kills: 2, claims: true }),
    phase('threads', { threads: 2, leaseMs: 120, claims: true, origins: ['https://app.example'] }),
];

const seconds = (ms) => `${ms}ms`;

export function policyText(phase) {
    return `version: 1
identity:
  headers: [authorization, x-api-key]
  lease: ${seconds(phase.leaseMs)}
  grant: ${seconds(phase.grantMs)}
  probe: ${phase.probe ? 'on' : 'off'}
  anonymous: ${phase.shared ? 'shared' : 'nobody'}
${phase.claims ? '  claims: [iss, sub]\n' : ''}defaults: { lists: ${seconds(LIFETIMES.cap)}, resources: ${seconds(LIFETIMES.cap)} }
tools:
  - { name: "pub_*", ttl: ${seconds(LIFETIMES.pub)}, scope: public }
  - { name: "prin_*", ttl: ${seconds(LIFETIMES.prin)}, scope: principal }
  - { name: "sess_*", ttl: ${seconds(LIFETIMES.sess)} }
  - { name: "off_*", ttl: off }
  - { name: "write_*", class: write }
resources:
  - { uri: "rule://mine/**", ttl: ${seconds(LIFETIMES.mine)}, scope: principal }
  - { uri: "rule://open/**", ttl: ${seconds(LIFETIMES.open)}, scope: public }
`;
}

/** What the policy says of a kind of question: scope it grants ('session' where it says nothing), whether a rule narrows it, its lifetime. */
export function ruleOf(method, name) {
    if (method === 'tools/call') {
        const kind = name.slice(0, name.indexOf('_'));
        if (kind === 'pub') return { scope: 'public', ttlMs: LIFETIMES.pub };
        if (kind === 'prin') return { scope: 'principal', ttlMs: LIFETIMES.prin };
        if (kind === 'sess') return { scope: 'session', ttlMs: LIFETIMES.sess };
        return null;
    }
    if (method === 'resources/read') {
        if (name.startsWith('rule://mine/')) return { scope: 'principal', isNarrowed: true, ttlMs: LIFETIMES.mine };
        if (name.startsWith('rule://open/')) return { scope: 'public', ttlMs: LIFETIMES.open };
        return { scope: 'session', isHinted: true, ttlMs: LIFETIMES.cap };
    }
    if (['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'server/discover'].includes(method)) return { scope: 'session', isHinted: true, ttlMs: LIFETIMES.cap };
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
