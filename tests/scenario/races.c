/* SPDX-License-Identifier: Apache-2.0 */
/* Races: several loops on threads of their own, clients on each that read and write a few things at random, a purger beside them, and an upstream that answers in
 * any order, late, wrongly or not at all. races [OPERATIONS [SEED]]; ends with "N passed, N failed".
 *
 * Each thing has a number at the upstream that only goes up. Always: whoever asks after a purge was acknowledged, after a write of his own ended, after somebody's
 * write with `invalidates` ended, or after a notification was heard is never shown a number from before it; and nobody gets an answer to another question. What is shown
 * past its lifetime is bound by that, too: time passes here, and grace is long.
 * Not here: order of events, which is random; stories (replay.c) tell it. Threads: a loop's clients and its upstream calls belong to its thread. */
#include "cachepolicy/cachepolicy.h"

#include "client.h"
#include "fake_clock.h"
#include "fake_log.h"
#include "fake_upstream.h"
#include "house.h"

#include <ftw.h>
#include <h2o.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOPS   3
#define CLIENTS 12 /* of each loop */
#define THINGS  6
#define CALLS   256 /* of one loop at once */

static const char *const principals[] = {"alpha", "beta", "gamma"};
#define PRINCIPALS (sizeof(principals) / sizeof(principals[0]))

static const char policy[] =
    "version: 1\n"
    "identity: { lease: 24h }\n"
    "tools:\n"
    "  - { name: mine, ttl: 20ms, grace: 1h, stale_if_error: 1h, tags: [\"thing:{/k}\"] }\n"
    "  - { name: ours, ttl: 200ms, grace: 1h, stale_if_error: 1h, scope: public, tags: [\"thing:{/k}\"] }\n"
    "  - { name: long, ttl: 1h, scope: public, tags: [\"thing:{/k}\"] }\n"
    "  - { name: save, class: write }\n"
    "  - { name: move, class: write, invalidates: [\"thing:{/k}\"] }\n"
    "resources:\n"
    "  - { uri: \"thing://**\", ttl: 1h, grace: 1h, despite_hints: true }\n";

/* What a question is about; the same thing has a number of its own for each. */
enum kind {
    MINE,
    OURS,
    LONG,
    READ,
    SAVE,
    MOVE,
    KINDS,
};
static const char *const tools[] = {"mine", "ours", "long", NULL, "save", "move"};

static atomic_long numbers[THINGS];                /* at the upstream */
static atomic_long floors[THINGS];                 /* nobody who asks from now on may see less */
static atomic_long own_floors[PRINCIPALS][THINGS]; /* this caller may not */
static atomic_long resource_numbers[THINGS], resource_floors[THINGS];
static atomic_size_t operations, wanted_operations, failures;
static atomic_size_t outcomes[CP_OUTCOME_COUNT], purges, notices;
static atomic_bool is_over;
static struct house *house;

struct asker {
    struct client client;
    struct side *side;
    size_t principal, thing, number_of_question;
    enum kind kind;
    long floor;           /* when the question was asked */
    _Atomic(long) change; /* a write: the number that it made; 0: it made none */
    bool is_listener;
    size_t heard; /* of its stream's body */
    char id[32];
};

/* One loop, with its clients and the calls that it makes. */
struct side {
    size_t index;
    pthread_t thread;
    uint64_t random;
    struct asker askers[CLIENTS];
    struct upstream_call *calls[CALLS];
    size_t call_count;
    struct upstream_call *dead[CALLS]; /* freed at the end of a turn: one may end while it is being answered */
    size_t dead_count;
};
static struct side sides[LOOPS];
static _Thread_local struct side *here;

/* What the upstream knows of a call. */
struct plan {
    size_t thing;
    enum kind kind;
    long number; /* looked up when it arrived, or 0: when it is answered */
    bool is_stream;
    struct asker *writer;
};

static uint64_t draw(struct side *s, uint64_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (s->random >> 11) % below;
}

static void raise_to(atomic_long *floor, long number)
{
    long seen = atomic_load(floor);

    while (seen < number && !atomic_compare_exchange_weak(floor, &seen, number))
        ;
}

static long greater(long a, long b)
{
    return a > b ? a : b;
}

/* ---- the upstream ---------------------------------------------------------------------------------------------------------------- */

static long number_in(struct span text, const char *before)
{
    const char *p = memmem(text.p, text.n, before, strlen(before));

    return p != NULL ? strtol(p + strlen(before), NULL, 10) : -1;
}

static void on_call(struct upstream_call *call)
{
    struct plan *plan = h2o_mem_alloc(sizeof(*plan));
    struct span body = buf_span(&call->body);
    struct side *s = here;
    long writer;

    *plan = (struct plan){.kind = KINDS};
    call->note = plan;
    if (s->call_count == CALLS)
        h2o_fatal("too many upstream calls");
    s->calls[s->call_count++] = call;
    plan->is_stream = call->head.n > 4 && memcmp(call->head.p, "GET ", 4) == 0;
    for (size_t k = 0; k != KINDS; ++k) {
        char text[32];

        if (tools[k] == NULL)
            continue;
        snprintf(text, sizeof(text), "\"name\":\"%s\"", tools[k]);
        if (body.n != 0 && memmem(body.p, body.n, text, strlen(text)) != NULL)
            plan->kind = (enum kind)k;
    }
    if (body.n != 0 && memmem(body.p, body.n, "thing://", 8) != NULL) {
        plan->kind = READ;
        plan->thing = (size_t)number_in(body, "thing://");
        plan->number = draw(s, 2) ? atomic_load(&resource_numbers[plan->thing]) : 0;
    } else if (plan->kind != KINDS) {
        plan->thing = (size_t)number_in(body, "\"k\":");
        plan->number = draw(s, 2) ? atomic_load(&numbers[plan->thing]) : 0;
    }
    if (plan->kind == SAVE || plan->kind == MOVE) {
        writer = number_in(body, "\"w\":");
        plan->writer = &s->askers[writer];
        plan->number = 0;
        /* before it is answered, or as it is */
        if (draw(s, 2))
            atomic_store(&plan->writer->change, plan->number = atomic_fetch_add(&numbers[plan->thing], 1) + 1);
    }
}

static void bury(struct upstream_call *call)
{
    free(call->note);
    fake_call_free(call);
}

static void on_over(struct upstream_call *call)
{
    struct side *s = here;

    for (size_t i = 0; i != s->call_count; ++i)
        if (s->calls[i] == call) {
            s->calls[i] = s->calls[--s->call_count];
            break;
        }
    if (s->dead_count == CALLS)
        h2o_fatal("too many upstream calls ended at once");
    s->dead[s->dead_count++] = call;
}

static const struct fake_listener listener = {on_call, on_over};

static struct span id_of(const struct upstream_call *call)
{
    const char *p = memmem(call->body.p, call->body.n, "\"id\":", 5), *end;

    if (p == NULL)
        return SPAN("null");
    p += 5;
    end = *p == '"' ? (const char *)memchr(p + 1, '"', call->body.n - (size_t)(p + 1 - call->body.p)) + 1
                    : p + strspn(p, "0123456789");
    return (struct span){p, (size_t)(end - p)};
}

static void answer(struct side *s, struct upstream_call *call)
{
    const struct plan *plan = call->note;
    struct fake_header headers[2] = {{SPAN("Content-Type"), SPAN("application/json")}, {SPAN("Set-Cookie"), SPAN("x=1")}};
    bool is_write = plan->kind == SAVE || plan->kind == MOVE;
    char text[512];
    struct span id = id_of(call);
    long number = plan->number;
    size_t header_count = !is_write && draw(s, 40) == 0 ? 2 : 1;
    int n;

    if (number == 0 && is_write)
        atomic_store(&plan->writer->change, number = atomic_fetch_add(&numbers[plan->thing], 1) + 1);
    else if (number == 0)
        number = atomic_load(plan->kind == READ ? &resource_numbers[plan->thing] : &numbers[plan->thing]);
    if (plan->kind == READ)
        n = snprintf(
            text, sizeof(text),
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"resultType\":\"complete\",\"ttlMs\":5,\"cacheScope\":\"private\","
            "\"contents\":[],\"of\":%zu,\"v\":%ld}}",
            (int)id.n, id.p, plan->thing, number);
    else
        n = snprintf(
            text, sizeof(text),
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"resultType\":\"complete\",\"content\":[],\"of\":%zu,\"v\":%ld}}",
            (int)id.n, id.p, plan->thing, number);
    if (draw(s, 5) == 0) {
        char event[600];
        int bytes = snprintf(event, sizeof(event), "data: %s\n\n", text);

        headers[0].value = SPAN("text/event-stream");
        fake_call_head(call, 200, headers, header_count, true, SIZE_MAX);
        fake_call_body(call, (struct span){event, (size_t)bytes});
        fake_call_end(call, UPSTREAM_COMPLETE);
        return;
    }
    fake_call_head(call, 200, headers, header_count, true, (size_t)n);
    if (draw(s, 50) == 0) {
        fake_call_body(call, (struct span){text, (size_t)n / 2});
        fake_call_end(call, UPSTREAM_TRUNCATED);
        return;
    }
    fake_call_body(call, (struct span){text, (size_t)n});
    fake_call_end(call, UPSTREAM_COMPLETE);
}

/* A resource changes, and the upstream says so on a stream. */
static void notify(struct side *s, struct upstream_call *call)
{
    size_t thing = draw(s, THINGS);
    char event[256];
    long number;

    number = atomic_fetch_add(&resource_numbers[thing], 1) + 1;
    fake_call_body(
        call, (struct span){event, (size_t)snprintf(event, sizeof(event),
                                                    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\","
                                                    "\"params\":{\"uri\":\"thing://%zu\",\"_meta\":{\"v\":%ld}}}\n\n",
                                                    thing, number)});
}

/* Something happens to one of the calls. */
static void work(struct side *s)
{
    struct upstream_call *call;
    const struct plan *plan;

    if (s->call_count == 0)
        return;
    call = s->calls[draw(s, s->call_count)];
    plan = call->note;
    if (plan->is_stream) {
        struct fake_header header = {SPAN("Content-Type"), SPAN("text/event-stream")};

        if (call->stage == FAKE_ASKED)
            fake_call_head(call, 200, &header, 1, true, SIZE_MAX);
        else if (draw(s, 200) == 0)
            fake_call_end(call, draw(s, 2) ? UPSTREAM_TRUNCATED : UPSTREAM_COMPLETE);
        else if (draw(s, 4) == 0)
            notify(s, call);
        return;
    }
    if (call->stage != FAKE_ASKED)
        return;
    if (plan->kind == KINDS) {
        fake_call_end(call, UPSTREAM_RESET);
        return;
    }
    switch (draw(s, 40)) {
    case 0:
        fake_call_end(call, UPSTREAM_RESET);
        return;
    case 1: {
        struct fake_header header = {SPAN("Content-Type"), SPAN("text/plain")};

        fake_call_head(call, 503, &header, 1, true, 3);
        fake_call_body(call, SPAN("no\n"));
        fake_call_end(call, UPSTREAM_COMPLETE);
        return;
    }
    default:
        answer(s, call);
    }
}

/* ---- clients --------------------------------------------------------------------------------------------------------------------- */

static void complain(const struct asker *a, const char *what, long number)
{
    atomic_fetch_add(&failures, 1);
    printf("%s: %s of thing %zu as %s on loop %zu got %ld; not below %ld\n  asked: %.*s\n  got: %.*s%.*s\n", what,
           a->kind == READ ? "read" : tools[a->kind], a->thing, principals[a->principal], a->side->index, number, a->floor,
           (int)a->client.asked.n, a->client.asked.p, (int)a->client.head_bytes.n, a->client.head_bytes.p,
           (int)(a->client.body.n < 400 ? a->client.body.n : 400), a->client.body.p != NULL ? a->client.body.p : "");
}

/* What came back to a question, or that nothing will. */
static void judge(struct asker *a)
{
    struct buf scratch = {0};
    struct span reply;
    long number;

    atomic_fetch_add(&operations, 1);
    if (a->kind == SAVE || a->kind == MOVE) {
        number = atomic_load(&a->change);
        if (number != 0) {
            raise_to(&own_floors[a->principal][a->thing], number);
            if (a->kind == MOVE)
                raise_to(&floors[a->thing], number);
        }
        return;
    }
    if (!a->client.is_whole || a->client.head.status != 200)
        return;
    reply = client_reply(&a->client, span_of(a->id), &scratch);
    if (reply.p == NULL) {
        complain(a, "an answer to nothing that was asked", -1);
    } else if (memmem(reply.p, reply.n, "\"error\":", 8) == NULL) {
        struct span status = client_header(&a->client, SPAN("cache-status"));

        number = number_in(reply, "\"v\":");
        if (number_in(reply, "\"of\":") != (long)a->thing)
            complain(a, "an answer to another question", number);
        else if (number < a->floor)
            complain(a, "older than it may be", number);
        if (status.p != NULL && memmem(status.p, status.n, "stale", 5) != NULL)
            atomic_fetch_add(&outcomes[CP_OUTCOME_STALE], 1);
        else if (status.p != NULL && memmem(status.p, status.n, "; hit", 5) != NULL)
            atomic_fetch_add(&outcomes[CP_OUTCOME_HIT], 1);
        else if (status.p != NULL && memmem(status.p, status.n, "collapsed", 9) != NULL)
            atomic_fetch_add(&outcomes[CP_OUTCOME_COLLAPSED], 1);
        else
            atomic_fetch_add(&outcomes[CP_OUTCOME_MISS], 1);
    }
    buf_done(&scratch);
}

static void send_question(struct asker *a, const char *verb, const char *headers, struct span body)
{
    char request[2048];
    int fd = -1, n = snprintf(request, sizeof(request),
                              "%s /mcp HTTP/1.1\r\nHost: h\r\nAccept: application/json, text/event-stream\r\nAuthorization: Bearer "
                              "%s\r\nMCP-Protocol-Version: 2026-07-28\r\n%s",
                              verb, principals[a->principal], headers);

    if (body.n != 0)
        n +=
            snprintf(request + n, sizeof(request) - (size_t)n, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.n);
    n += snprintf(request + n, sizeof(request) - (size_t)n, "\r\n%.*s", (int)body.n, body.n != 0 ? body.p : "");
    if (!client_is_reusable(&a->client))
        fd = house_connect(house, a->side->index);
    client_ask(&a->client, fd, (struct span){request, (size_t)n}, body);
}

static void ask(struct asker *a)
{
    static const char meta[] = "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","
                               "\"io.modelcontextprotocol/clientCapabilities\":{}}";
    struct side *s = a->side;
    char body[512], headers[256], who[32] = "";
    uint64_t roll = draw(s, 100);
    int n;

    if (a->is_listener) {
        a->heard = 0;
        send_question(a, "GET", "", SPAN_ABSENT);
        return;
    }
    a->thing = draw(s, THINGS);
    a->principal = draw(s, PRINCIPALS);
    a->kind = roll < 30 ? MINE : roll < 55 ? OURS : roll < 80 ? LONG : roll < 94 ? READ : roll < 97 ? SAVE : MOVE;
    atomic_store(&a->change, 0);
    a->floor = a->kind == READ ? atomic_load(&resource_floors[a->thing])
                               : greater(atomic_load(&floors[a->thing]), atomic_load(&own_floors[a->principal][a->thing]));
    snprintf(a->id, sizeof(a->id), "\"%zu-%zu-%zu\"", s->index, (size_t)(a - s->askers), ++a->number_of_question);
    if (a->kind >= SAVE)
        snprintf(who, sizeof(who), ",\"w\":%zu", (size_t)(a - s->askers));
    if (a->kind == READ)
        n = snprintf(body, sizeof(body),
                     "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"resources/read\",\"params\":{\"uri\":\"thing://%zu\",%s}}", a->id,
                     a->thing, meta);
    else
        n = snprintf(
            body, sizeof(body),
            "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"tools/call\",\"params\":{\"name\":\"%s\",\"arguments\":{\"k\":%zu%s},%s}}",
            a->id, tools[a->kind], a->thing, who, meta);
    if (a->kind == READ)
        snprintf(headers, sizeof(headers), "Mcp-Method: resources/read\r\nMcp-Name: thing://%zu\r\n", a->thing);
    else
        snprintf(headers, sizeof(headers), "Mcp-Method: tools/call\r\nMcp-Name: %s\r\n%s", tools[a->kind],
                 draw(s, 50) == 0 ? "Cache-Control: no-cache\r\n" : "");
    send_question(a, "POST", headers, (struct span){body, (size_t)n});
}

/* Whole events on a stream, each of which says which thing has which number now. */
static void listen_on(struct asker *a)
{
    struct span body = buf_span(&a->client.body);
    const char *end;

    while (a->heard != body.n && (end = memmem(body.p + a->heard, body.n - a->heard, "\n\n", 2)) != NULL) {
        struct span event = {body.p + a->heard, (size_t)(end + 2 - body.p) - a->heard};
        long thing = number_in(event, "thing://"), number = number_in(event, "\"v\":");

        if (thing >= 0 && thing < THINGS)
            raise_to(&resource_floors[thing], number);
        a->heard += event.n;
        atomic_fetch_add(&notices, 1);
    }
}

static void turn(struct side *s)
{
    for (size_t i = 0; i != CLIENTS; ++i) {
        struct asker *a = &s->askers[i];
        bool was_waiting = a->client.is_waiting;

        if (was_waiting) {
            client_poll(&a->client);
            if (a->is_listener)
                listen_on(a);
            else if (!a->client.is_waiting)
                judge(a);
            else if (draw(s, 2000) == 0 && a->kind < SAVE)
                client_leave(&a->client);
        } else if (draw(s, 4) == 0 && !atomic_load(&is_over)) {
            ask(a);
        }
    }
    for (uint64_t n = draw(s, 4); n != 0; --n)
        work(s);
    house_turn(house, s->index, 0);
    while (s->dead_count != 0)
        bury(s->dead[--s->dead_count]);
}

static void *run(void *arg)
{
    here = arg;
    fake_clock_follow(true);
    if (!house_loop_open(house, here->index))
        h2o_fatal("a loop could not be set up");
    while (!atomic_load(&is_over))
        turn(here);
    for (size_t i = 0; i != CLIENTS; ++i)
        client_done(&here->askers[i].client);
    house_loop_close(house, here->index);
    while (here->dead_count != 0)
        bury(here->dead[--here->dead_count]);
    return NULL;
}

/* ---- the purger ------------------------------------------------------------------------------------------------------------------ */

/* As an operator does it, or as the sidecar does by itself. */
static void purge_one(struct side *s, enum house_subject subject, struct span text, bool is_soft)
{
    struct house_name name = {subject, text};

    if (draw(s, 4) == 0)
        house_purge(house, &name, 1, is_soft, false);
    else
        house_raise(house, &name, is_soft);
}

static void purge(struct side *s)
{
    long seen[THINGS];
    size_t thing = draw(s, THINGS);
    uint64_t kind = draw(s, 12);
    char text[32];

    atomic_fetch_add(&numbers[thing], 1);
    for (size_t i = 0; i != THINGS; ++i)
        seen[i] = kind < 10 || kind == 11 ? atomic_load(&numbers[i]) : 0;
    if (kind < 10) {
        struct span tag = {text, (size_t)snprintf(text, sizeof(text), "thing:%zu", thing)};

        purge_one(s, HOUSE_TAG, tag, false);
        raise_to(&floors[thing], seen[thing]);
    } else if (kind == 10) {
        purge_one(s, draw(s, 2) ? HOUSE_ALL : HOUSE_READS, SPAN_ABSENT, true);
    } else {
        purge_one(s, HOUSE_ALL, SPAN_ABSENT, false);
        for (size_t i = 0; i != THINGS; ++i)
            raise_to(&floors[i], seen[i]);
    }
    atomic_fetch_add(&purges, 1);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *ftw)
{
    (void)stat;
    (void)kind;
    (void)ftw;
    return remove(path);
}

/* libh2o keeps memory for each thread and leaves it behind when the thread ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_mem_alloc_recycle\n";
}

int main(int argc, char **argv)
{
    struct side purger = {.random = 88172645463325252u};
    char directory[] = "/tmp/races-XXXXXX", why[512];
    size_t next = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    wanted_operations = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(directory) == NULL) {
        perror("races");
        return 2;
    }
    for (size_t i = 0; i != THINGS; ++i) {
        atomic_store(&numbers[i], 1);
        atomic_store(&resource_numbers[i], 1);
    }
    fake_log_mute();
    fake_clock_follow(true);
    fake_upstream_listen(&listener);
    house =
        house_open(&(struct house_options){.store = directory, .policy = SPAN(policy), .loops = LOOPS, .has_threads = true}, why);
    if (house == NULL) {
        printf("%s\n", why);
        return 2;
    }
    for (size_t i = 0; i != LOOPS; ++i) {
        struct side *s = &sides[i];

        s->index = i;
        s->random = (seed + i) * 0x9e3779b97f4a7c15u | 1;
        for (size_t j = 0; j != CLIENTS; ++j) {
            client_init(&s->askers[j].client);
            s->askers[j].side = s;
            s->askers[j].is_listener = j == CLIENTS - 1;
        }
        pthread_create(&s->thread, NULL, run, s);
    }
    while (atomic_load(&operations) < wanted_operations && atomic_load(&failures) < 10) {
        /* time passes, and purges come, with what happens */
        if (atomic_load(&operations) < next) {
            usleep(50);
            continue;
        }
        next += 10;
        fake_clock_advance(1);
        if (draw(&purger, 3) == 0)
            purge(&purger);
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i != LOOPS; ++i)
        pthread_join(sides[i].thread, NULL);
    house_close(house);
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    printf("%zu operations on %d loops, %zu purges, %zu notices: %zu hits, %zu stale, %zu collapsed, %zu misses\n", operations,
           LOOPS, purges, notices, outcomes[CP_OUTCOME_HIT], outcomes[CP_OUTCOME_STALE], outcomes[CP_OUTCOME_COLLAPSED],
           outcomes[CP_OUTCOME_MISS]);
    /* a race that never met what it is about shows nothing */
    if (purges == 0 || notices == 0 || outcomes[CP_OUTCOME_HIT] == 0 || outcomes[CP_OUTCOME_STALE] == 0 ||
        outcomes[CP_OUTCOME_COLLAPSED] == 0)
        atomic_fetch_add(&failures, 1);
    printf("%d passed, %d failed\n", failures == 0, failures != 0);
    return failures != 0;
}
