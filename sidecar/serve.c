/* SPDX-License-Identifier: Apache-2.0 */
/* The composition root: opens settings, policy, upstream, store, listener, admin in this order, and closes in the reverse. Thread: main. */
#include "sidecar/serve.h"

#include "sidecar/admin/admin.h"
#include "sidecar/base/log.h"
#include "sidecar/counts.h"
#include "sidecar/base/slots.h"
#include "sidecar/flow/announce.h"
#include "sidecar/flow/flight.h"
#include "sidecar/flow/offer.h"
#include "sidecar/flow/probe.h"
#include "sidecar/front/listener.h"
#include "sidecar/policy_file.h"
#include "sidecar/settings.h"
#include "sidecar/trust/definitions.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/budget.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_USAGE 2

/* Calls whose breakers are known at once, and tools whose definitions are: both bounded because clients choose names. */
#define BREAKER_NAMES 4096
#define DEFINITIONS   65536
/* Event ids of streams that may be resumed, remembered at once. */
#define EVENT_IDS 16384

struct house {
    struct settings settings;
    struct upstream_url url;
    SSL_CTX *tls;
    struct cp_policy *policy;
    struct store *store;
    struct flow_shared shared;
    struct flow *flows[FLOWS_MAX];
    _Atomic int64_t challenged_ms;
    struct budget_places refreshes, polls;
    atomic_size_t open_streams;
    struct budget_retries retries;
    struct listener *listener;
    struct admin *admin; /* NULL: none is wanted */
};

static int refuse(const char *sentence)
{
    fprintf(stderr, "mcpcached: %s\n", sentence);
    return EXIT_USAGE;
}

/* CPUs that this process may use: affinity, and the cgroup's quota where one is set. */
static size_t cpu_count(void)
{
    cpu_set_t set;
    size_t n = 1;
    FILE *f;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = (size_t)CPU_COUNT(&set);
    if ((f = fopen("/sys/fs/cgroup/cpu.max", "re")) != NULL) {
        long quota, period;

        if (fscanf(f, "%ld %ld", &quota, &period) == 2 && period > 0 && (size_t)((quota + period - 1) / period) < n)
            n = (size_t)((quota + period - 1) / period);
        fclose(f);
    }
    return n != 0 ? n : 1;
}

static int open_log(struct house *h)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    enum log_format format;
    char sentence[160];

    if (strcmp(h->settings.log_format, "text") == 0)
        format = LOG_TEXT;
    else if (strcmp(h->settings.log_format, "json") == 0)
        format = LOG_JSON;
    else {
        snprintf(sentence, sizeof(sentence), "--log: '%.60s' is no log format; choose text or json", h->settings.log_format);
        return refuse(sentence);
    }
    for (size_t i = 0; i != sizeof(levels) / sizeof(levels[0]); ++i)
        if (strcmp(h->settings.log_level, levels[i]) == 0) {
            log_setup(format, (enum log_level)i);
            return 0;
        }
    snprintf(sentence, sizeof(sentence), "--log-level: '%.60s' is no level; choose error, warn, info or debug",
             h->settings.log_level);
    return refuse(sentence);
}

static int open_policy(struct house *h)
{
    struct cp_errors errors = {.count = 0};
    int r;

    if (*h->settings.policy == '\0')
        r = cp_policy_parse(NULL, 0, &h->policy, &errors);
    else
        r = policy_load(h->settings.policy, &h->policy, &errors);
    if (r == 0)
        return 0;
    if (errors.count == 0)
        return refuse("out of memory");
    policy_print_errors(stderr, &errors);
    return EXIT_USAGE;
}

static int open_upstream(struct house *h)
{
    struct cp_error error = {.text = ""};

    if (upstream_url_parse(h->settings.upstream, &h->url, &error) != 0)
        return refuse(error.text);
    if (!h->url.is_tls && *h->settings.upstream_ca != '\0')
        return refuse("--upstream-ca names certificates, but --upstream begins with http://; use https:// or leave the flag out");
    if (h->url.is_tls && upstream_tls_new(&h->url, h->settings.upstream_ca, &h->tls, &error) != 0)
        return refuse(error.text);
    if (strcmp(h->settings.upstream_host, "keep") != 0 && strcmp(h->settings.upstream_host, "upstream") != 0)
        return refuse("--upstream-host: choose keep or upstream");
    return 0;
}

static int open_store(struct house *h)
{
    struct cp_error error = {.text = ""};
    struct store_options options = {
        .path = h->settings.store,
        .size_bytes = h->settings.store_size_bytes,
        .readers = 1100,
        .share_percent = (unsigned)h->settings.principal_share_percent,
    };

    if (options.share_percent < 1 || options.share_percent > 100) {
        char sentence[80];

        snprintf(sentence, sizeof(sentence), "--principal-share: '%u' is no percentage from 1 to 100", options.share_percent);
        return refuse(sentence);
    }
    if (store_open(&options, &h->store, &error) != 0)
        return refuse(error.text);
    return 0;
}

static int check_numbers(const struct house *h)
{
    if (h->settings.max_depth < 1 || h->settings.max_depth > 512)
        return refuse("--max-depth: choose a number from 1 to 512");
    if (strcmp(h->settings.subscriptions, "on") != 0 && strcmp(h->settings.subscriptions, "off") != 0)
        return refuse("--subscriptions: choose on or off");
    return 0;
}

/* What was completed by an earlier process is not what this one keeps. */
static int forget_offers(struct house *h)
{
    struct cp_keyer *keyer;
    int r = cp_keyer_new(store_secret(h->store), &keyer);

    if (r != 0)
        return r;
    offers_forget(h->store, keyer);
    cp_keyer_free(keyer);
    return 0;
}

static int open_listener(struct house *h)
{
    struct cp_error error = {.text = ""};
    struct listener_options options = {
        .address = h->settings.listen,
        .threads = h->settings.threads != 0 ? h->settings.threads : cpu_count(),
        .idle_timeout_ms = h->settings.idle_timeout_ms,
        .max_body_bytes = h->settings.max_body_bytes,
        .limits =
            {
                .max_header_bytes = h->settings.max_header_bytes,
                .header_timeout_ms = h->settings.header_timeout_ms,
                .body_timeout_ms = h->settings.body_timeout_ms,
                .write_timeout_ms = h->settings.write_timeout_ms,
            },
        .shared = &h->shared,
    };
    int r;

    budget_places_init(&h->refreshes, h->settings.max_refreshes);
    budget_places_init(&h->polls, h->settings.max_refreshes);
    budget_retries_init(&h->retries);
    h->shared = (struct flow_shared){
        .trust =
            {
                .store = h->store,
                .policy = h->policy,
                .upstream = span_of(h->url.text),
                .standings = standings_new(h->settings.max_sessions * 2),
                .ended_sessions = standings_new(h->settings.max_sessions),
                .proofs = proofs_new(h->settings.max_proofs),
                .definitions = definitions_new(DEFINITIONS),
                .rate = rate_new(h->settings.insert_rate),
                .challenged_ms = &h->challenged_ms,
                .allowed_origins = h->settings.allow_origin.items,
                .allowed_origin_count = h->settings.allow_origin.count,
            },
        .probe_registry = probe_registry_new(),
        .flight_registry = flight_registry_new(h->settings.max_flights, h->settings.max_waiters),
        .breaker = breaker_new(BREAKER_NAMES),
        .refreshes = &h->refreshes,
        .flows = h->flows,
        .open_streams = &h->open_streams,
        .board = board_new(),
        .subscribers = strcmp(h->settings.subscriptions, "on") == 0
                           ? announce_subscribers_new(h->settings.max_subscriptions, h->settings.watch_interval_ms)
                           : NULL,
        .event_ids = slots_new(EVENT_IDS, 1),
        .polls = &h->polls,
        .poll_rate = rate_new(h->settings.poll_rate),
        .stream_keepalive_ms = h->settings.stream_keepalive_ms,
        .upstream =
            {
                .url = &h->url,
                .tls = h->tls,
                .connect_timeout_ms = h->settings.connect_timeout_ms,
                .first_byte_timeout_ms = h->settings.first_byte_timeout_ms,
                .keepalive_ms = h->settings.upstream_keepalive_ms,
                .retries = &h->retries,
            },
        .host = strcmp(h->settings.upstream_host, "upstream") == 0 ? h->url.authority : SPAN_ABSENT,
        .max_entry_bytes = h->settings.max_entry_bytes,
        .max_key_bytes = h->settings.max_key_bytes,
        .max_streams = h->settings.max_streams,
        .max_depth = (uint32_t)h->settings.max_depth,
    };
    if (h->shared.trust.standings == NULL || h->shared.trust.ended_sessions == NULL || h->shared.trust.proofs == NULL ||
        h->shared.trust.rate == NULL || h->shared.probe_registry == NULL || h->shared.board == NULL ||
        h->shared.event_ids == NULL || h->shared.poll_rate == NULL ||
        (h->shared.subscribers == NULL && strcmp(h->settings.subscriptions, "on") == 0))
        return refuse("out of memory");
    if (h->shared.subscribers == NULL && (r = forget_offers(h)) != 0)
        return refuse(strerror(-r));
    if ((r = listener_new(&options, &h->listener, &error)) != 0)
        return refuse(*error.text != '\0' ? error.text : strerror(-r));
    return 0;
}

static int open_admin(struct house *h)
{
    struct cp_error error = {.text = ""};
    struct admin_options options = {
        .address = h->settings.admin,
        .token_file = h->settings.admin_token_file,
        .trust = &h->shared.trust,
    };
    int r;

    if (*h->settings.admin == '\0')
        return *h->settings.admin_token_file == '\0'
                   ? 0
                   : refuse("--admin-token-file names a token, but there is no --admin to ask for it");
    if ((r = admin_new(&options, &h->admin, &error)) != 0)
        return refuse(*error.text != '\0' ? error.text : strerror(-r));
    return 0;
}

static void close_house(struct house *h)
{
    admin_free(h->admin);
    listener_free(h->listener);
    subscribers_free(h->shared.subscribers);
    board_free(h->shared.board);
    rate_free(h->shared.poll_rate);
    slots_free(h->shared.event_ids);
    flight_registry_free(h->shared.flight_registry);
    breaker_free(h->shared.breaker);
    definitions_free(h->shared.trust.definitions);
    probe_registry_free(h->shared.probe_registry);
    rate_free(h->shared.trust.rate);
    proofs_free(h->shared.trust.proofs);
    standings_free(h->shared.trust.ended_sessions);
    standings_free(h->shared.trust.standings);
    if (h->store != NULL)
        store_close(h->store);
    cp_policy_unref(h->policy);
    SSL_CTX_free(h->tls);
    upstream_url_done(&h->url);
    settings_done(&h->settings);
}

static void log_store(struct store *store)
{
    struct store_counters c;

    store_counters_get(store, &c);
    LOG(LOG_INFO, "store", LOG_INT_FIELD("entries", (int64_t)c.entries), LOG_INT_FIELD("body-bytes", (int64_t)c.body_bytes),
        LOG_INT_FIELD("pages-used", (int64_t)c.pages_used), LOG_INT_FIELD("pages-cap", (int64_t)c.pages_cap),
        LOG_INT_FIELD("reclaimed", (int64_t)c.reclaimed), LOG_INT_FIELD("swept", (int64_t)c.swept),
        LOG_INT_FIELD("evicted", (int64_t)(c.evicted_live + c.evicted_dead)), LOG_INT_FIELD("put-drops", (int64_t)c.put_drops));
}

/* Serves until a signal says that it is enough. */
static int run(struct house *h, const sigset_t *signals)
{
    int r, signal_number;

    if ((r = listener_start(h->listener)) != 0) {
        LOG(LOG_ERROR, "listen-failed", LOG_TEXT_FIELD("why", strerror(-r), strlen(strerror(-r))));
        return EXIT_FAILURE;
    }
    if (h->admin != NULL && (r = admin_start(h->admin)) != 0) {
        LOG(LOG_ERROR, "admin-failed", LOG_TEXT_FIELD("why", strerror(-r), strlen(strerror(-r))));
        listener_stop(h->listener, 0);
        return EXIT_FAILURE;
    }
    if (h->admin != NULL)
        LOG(LOG_INFO, "admin", LOG_TEXT_FIELD("at", admin_address(h->admin), strlen(admin_address(h->admin))));
    LOG(LOG_INFO, "listening", LOG_TEXT_FIELD("addr", listener_address(h->listener), strlen(listener_address(h->listener))),
        LOG_TEXT_FIELD("path", h->url.path.p, h->url.path.n), LOG_TEXT_FIELD("upstream", h->url.text, strlen(h->url.text)),
        LOG_TEXT_FIELD("store", h->settings.store, strlen(h->settings.store)));
    do {
        sigwait(signals, &signal_number);
        if (signal_number == SIGUSR1) {
            counts_log();
            log_store(h->store);
        }
    } while (signal_number == SIGHUP || signal_number == SIGUSR1);
    LOG(LOG_INFO, "stopping", LOG_INT_FIELD("signal", signal_number));
    admin_stop(h->admin);
    listener_stop(h->listener, h->settings.drain_ms);
    counts_log();
    return EXIT_SUCCESS;
}

int serve_main(int argc, char **argv)
{
    struct house h = {.listener = NULL};
    struct cp_error error = {.text = ""};
    sigset_t signals;
    int r;

    /* blocked before the first thread, so that every thread inherits it and only run() hears them */
    signal(SIGPIPE, SIG_IGN);
    /* a core would hold tokens and answers */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    r = settings_parse(&h.settings, argc, argv, &error);
    if (r == 1) {
        printf("mcpcached serve: answers repeated MCP reads from a cache, passes everything else through.\n\n"
               "  mcpcached serve --upstream http://127.0.0.1:3000/mcp --policy policy.yaml\n\nSettings:\n");
        settings_help(stdout);
        settings_done(&h.settings);
        return EXIT_SUCCESS;
    }
    if (r != 0)
        r = refuse(r == -ENOMEM ? "out of memory" : error.text);
    else if ((r = check_numbers(&h)) == 0 && (r = open_log(&h)) == 0 && (r = open_upstream(&h)) == 0 &&
             (r = open_policy(&h)) == 0 && (r = open_store(&h)) == 0 && (r = open_listener(&h)) == 0 && (r = open_admin(&h)) == 0)
        r = run(&h, &signals);
    close_house(&h);
    return r;
}
