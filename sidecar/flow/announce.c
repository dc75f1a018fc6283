/* SPDX-License-Identifier: Apache-2.0 */
/* Announcing. Not here: what is to be done (notify/), how a stream does it (stream.c). Always: a loop that the board names has a receiver, so what is posted under the board's
 * mutex arrives. Thread: the flow's loop; the board has a mutex, held for a post. */
#include "sidecar/flow/announce.h"

#include "sidecar/flow/listening.h"
#include "sidecar/flow/stream.h"
#include "sidecar/flow/subscribe.h"

#include <pthread.h>
#include <stdlib.h>

#define TICK_MS 50
/* What one tick does at most; the next one goes on. */
#define DUE_AT_ONCE 256
/* What one turn of the loop carries out: a change may be thousands of streams', and requests are not to wait for all of them. */
#define CARRIED_AT_ONCE 128
/* Until the next one. Not 0: libh2o runs what is due at once within the same turn. */
#define CARRY_ON_MS 1

/* What the subscribers of one credential may have of all links. */
#define LINKS_SHARE_PERCENT 25
/* Tools' results that are remembered because their rule calls them resources. */
#define RESULTS_MAX 16384
/* No watch is asked for more often, whatever its lifetime. */
#define MIN_POLL_MS 1000
/* How long the upstream is waited for where it said that it tells of something itself. */
#define HOLD_MS 1000

struct board {
    pthread_mutex_t mutex;
    struct flow *flows[FLOWS_MAX];
};

struct posted {
    h2o_multithread_message_t super;
    size_t count, done;
    struct action actions[];
};

static uint64_t draw(void *ctx)
{
    (void)ctx;
    return ((uint64_t)h2o_rand() << 32) ^ (uint64_t)h2o_rand();
}

struct subscribers *announce_subscribers_new(size_t max_links, int64_t unfresh_ms)
{
    return subscribers_new(&(struct subscribers_options){
        .max_links = max_links,
        .max_links_of_one = LISTENING_URIS_MAX + 8,
        .share_percent = LINKS_SHARE_PERCENT,
        .max_results = RESULTS_MAX,
        .min_poll_ms = MIN_POLL_MS,
        .unfresh_poll_ms = unfresh_ms,
        .hold_ms = HOLD_MS,
        .idle_ms = SUBSCRIBE_IDLE_MS,
        .random = draw,
    });
}

struct board *board_new(void)
{
    struct board *board = calloc(1, sizeof(*board));

    if (board != NULL)
        pthread_mutex_init(&board->mutex, NULL);
    return board;
}

void board_free(struct board *board)
{
    if (board == NULL)
        return;
    pthread_mutex_destroy(&board->mutex);
    free(board);
}

static void forget(const struct action *action)
{
    topic_text_unref(action->uri);
    topic_text_unref(action->tool);
}

/* Those of one loop, in their order. */
static void post(struct board *board, unsigned loop, const struct actions *actions, size_t count)
{
    struct posted *m = h2o_mem_alloc(sizeof(*m) + count * sizeof(m->actions[0]));

    *m = (struct posted){.count = 0};
    for (size_t i = 0; i != actions->count; ++i)
        if (actions->items[i].stream.loop == loop)
            m->actions[m->count++] = actions->items[i];
    if (board->flows[loop] != NULL) {
        h2o_multithread_send_message(&board->flows[loop]->action_receiver, &m->super);
        return;
    }
    /* its streams are gone, and so is who had them */
    for (size_t i = 0; i != m->count; ++i)
        forget(&m->actions[i]);
    free(m);
}

void announce(struct flow *flow, struct actions *actions)
{
    struct board *board = flow->shared->board;
    size_t counts[FLOWS_MAX] = {0};

    if (actions->count != 0) {
        for (size_t i = 0; i != actions->count; ++i)
            ++counts[actions->items[i].stream.loop];
        pthread_mutex_lock(&board->mutex);
        for (unsigned loop = 0; loop != FLOWS_MAX; ++loop)
            if (counts[loop] != 0)
                post(board, loop, actions, counts[loop]);
        pthread_mutex_unlock(&board->mutex);
    }
    /* their references went with the messages */
    free(actions->items);
    *actions = (struct actions){0};
}

void announce_ends(struct flow *flow, const struct identity *id, int status, bool is_delete)
{
    struct subscribers *subscribers = flow->shared->subscribers;
    struct actions actions = {0};
    uint8_t name[16];

    if (subscribers == NULL || !subscribers_is_any(subscribers))
        return;
    /* all who come without credentials look alike: what one of them is refused ends no other's stream */
    if ((status == 401 || status == 403) && id->epochs[0] == 0 && !id->credential.is_anonymous &&
        !MUTANT("polls-with-dead-credential"))
        subscribers_end_credential(subscribers, id->credential.bytes, &actions);
    if (id->has_session && id->epochs[1] == 0 && (status == 404 || (is_delete && status >= 200 && status < 300))) {
        identity_session_name(id, name);
        subscribers_end_session(subscribers, name, &actions);
    }
    announce(flow, &actions);
}

void announce_purged(struct flow *flow, const uint64_t *subjects, size_t count)
{
    struct subscribers *subscribers = flow->shared->subscribers;
    struct actions actions = {0};

    if (subscribers == NULL || count == 0 || !subscribers_is_any(subscribers))
        return;
    subscribers_purged(subscribers, subjects, count, store_now_ms(flow->shared->trust.store), &actions);
    announce(flow, &actions);
}

/* In order; the rest in the next turn. */
static void carry_out(struct flow *flow, size_t most)
{
    while (most != 0 && !h2o_linklist_is_empty(&flow->posted)) {
        struct posted *m = H2O_STRUCT_FROM_MEMBER(struct posted, super.link, flow->posted.next);

        for (; m->done != m->count && most != 0; ++m->done, --most) {
            stream_carry_out(flow, &m->actions[m->done]);
            forget(&m->actions[m->done]);
        }
        if (m->done != m->count)
            break;
        h2o_linklist_unlink(&m->super.link);
        free(m);
    }
    if (!h2o_linklist_is_empty(&flow->posted) && !h2o_timeout_is_linked(&flow->carry_on))
        h2o_timeout_link(flow->ctx->loop, &flow->carry_timeout, &flow->carry_on);
}

void announce_now(struct flow *flow)
{
    carry_out(flow, SIZE_MAX);
}

static void on_carry_on(h2o_timeout_entry_t *entry)
{
    carry_out(H2O_STRUCT_FROM_MEMBER(struct flow, carry_on, entry), CARRIED_AT_ONCE);
}

static void on_posted(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    struct flow *flow = H2O_STRUCT_FROM_MEMBER(struct flow, action_receiver, receiver);
    bool is_idle = h2o_linklist_is_empty(&flow->posted);

    h2o_linklist_insert_list(&flow->posted, messages);
    if (is_idle)
        carry_out(flow, CARRIED_AT_ONCE);
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct flow *flow = H2O_STRUCT_FROM_MEMBER(struct flow, tick, entry);
    struct subscribers *subscribers = flow->shared->subscribers;
    int64_t now_ms = store_now_ms(flow->shared->trust.store);
    struct actions actions = {0};

    if (subscribers != NULL && subscribers_next_due(subscribers) <= now_ms)
        subscribers_due(subscribers, DUE_AT_ONCE, now_ms, &actions);
    announce(flow, &actions);
    streams_look_after(flow, now_ms);
    announce_wake(flow);
}

void announce_wake(struct flow *flow)
{
    if (!h2o_linklist_is_empty(&flow->streams) && !h2o_timeout_is_linked(&flow->tick))
        h2o_timeout_link(flow->ctx->loop, &flow->tick_timeout, &flow->tick);
}

void announce_open(struct flow *flow)
{
    struct board *board = flow->shared->board;

    h2o_linklist_init_anchor(&flow->streams);
    h2o_linklist_init_anchor(&flow->polls);
    h2o_linklist_init_anchor(&flow->posted);
    flow->carry_on.cb = on_carry_on;
    h2o_timeout_init(flow->ctx->loop, &flow->carry_timeout, CARRY_ON_MS);
    h2o_timeout_init(flow->ctx->loop, &flow->tick_timeout, TICK_MS);
    flow->tick.cb = on_tick;
    h2o_multithread_register_receiver(flow->ctx->queue, &flow->action_receiver, on_posted);
    pthread_mutex_lock(&board->mutex);
    if (flow->index != FLOWS_MAX)
        board->flows[flow->index] = flow;
    pthread_mutex_unlock(&board->mutex);
}

void announce_close(struct flow *flow)
{
    struct board *board = flow->shared->board;

    pthread_mutex_lock(&board->mutex);
    if (flow->index != FLOWS_MAX)
        board->flows[flow->index] = NULL;
    pthread_mutex_unlock(&board->mutex);
    /* what was posted before that; libh2o asserts that nothing waits */
    while (!h2o_linklist_is_empty(&flow->action_receiver._messages))
        h2o_evloop_run(flow->ctx->loop, 1);
    h2o_multithread_unregister_receiver(flow->ctx->queue, &flow->action_receiver);
    carry_out(flow, SIZE_MAX);
    h2o_timeout_unlink(&flow->carry_on);
    h2o_timeout_dispose(flow->ctx->loop, &flow->carry_timeout);
    h2o_timeout_unlink(&flow->tick);
    h2o_timeout_dispose(flow->ctx->loop, &flow->tick_timeout);
}
