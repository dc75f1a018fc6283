/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream without sockets. Always: what sidecar/upstream/upstream.h promises of a call; nothing is called after its end or cancel.
 * Not here: what is answered (replay.c, races.c). Thread: a call's loop. */
#include "fake_upstream.h"

#include "sidecar/upstream/budget.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define HEADERS_MAX 64
/* Between two tries at connecting; the real one spreads them around this. */
#define RETRY_MS 100

struct upstream {
    const struct upstream_options *options;
    h2o_context_t *ctx;
    h2o_timeout_t connect_timeout, reply_timeout;
    struct alarms alarms;
    size_t calls;
};

static const struct fake_listener *listener;
static _Atomic(enum fake_door) door;
static atomic_size_t open_calls;

void fake_upstream_listen(const struct fake_listener *l)
{
    listener = l;
}

void fake_upstream_door(enum fake_door d)
{
    atomic_store(&door, d);
}

size_t fake_upstream_open_calls(void)
{
    return atomic_load(&open_calls);
}

/* Enough for the URLs of stories. */
int upstream_url_parse(const char *text, struct upstream_url *ret, struct cp_error *reterr)
{
    char *copy = strdup(text), *host, *path;

    if (copy == NULL)
        return -ENOMEM;
    if (strncmp(copy, "http://", 7) != 0) {
        cp_error_set(reterr, "", 0, 0, "a story's upstream begins with http://");
        free(copy);
        return -EINVAL;
    }
    host = copy + 7;
    path = strchr(host, '/');
    *ret = (struct upstream_url){.text = copy, .path = path != NULL ? span_of(path) : SPAN("/"), .port = 80};
    ret->host = ret->authority = (struct span){host, path != NULL ? (size_t)(path - host) : strlen(host)};
    return 0;
}

void upstream_url_done(struct upstream_url *url)
{
    free(url->text);
    *url = (struct upstream_url){0};
}

int upstream_tls_new(const struct upstream_url *url, const char *ca_file, SSL_CTX **ret, struct cp_error *reterr)
{
    (void)url;
    (void)ca_file;
    (void)ret;
    cp_error_set(reterr, "", 0, 0, "stories have no TLS");
    return -EINVAL;
}

struct upstream *upstream_new(const struct upstream_options *options, h2o_context_t *ctx)
{
    struct upstream *u = h2o_mem_alloc(sizeof(*u));

    *u = (struct upstream){.options = options, .ctx = ctx};
    alarms_init(&u->alarms, ctx->loop);
    h2o_timeout_init(ctx->loop, &u->connect_timeout, (uint64_t)options->connect_timeout_ms);
    h2o_timeout_init(ctx->loop, &u->reply_timeout, (uint64_t)options->first_byte_timeout_ms);
    return u;
}

void upstream_free(struct upstream *u)
{
    if (u == NULL)
        return;
    if (u->calls != 0)
        h2o_fatal("upstream_free before the end of its last call");
    h2o_timeout_dispose(u->ctx->loop, &u->connect_timeout);
    h2o_timeout_dispose(u->ctx->loop, &u->reply_timeout);
    alarms_done(&u->alarms);
    free(u);
}

static void add(struct buf *b, struct span s)
{
    if (buf_add_span(b, s) != 0)
        h2o_fatal("no memory");
}

/* Nothing is called any more. */
static void over(struct upstream_call *call)
{
    h2o_timeout_unlink(&call->timeout);
    h2o_timeout_unlink(&call->later);
    alarm_clear(&call->u->alarms, &call->deadline);
    alarm_clear(&call->u->alarms, &call->retry);
    buf_done(&call->waiting);
    call->stage = FAKE_OVER;
    --call->u->calls;
    atomic_fetch_sub(&open_calls, 1);
    listener->on_over(call);
}

static void set_timeout(struct upstream_call *call, h2o_timeout_t *timeout)
{
    h2o_timeout_unlink(&call->timeout);
    if (timeout != NULL)
        h2o_timeout_link(call->u->ctx->loop, timeout, &call->timeout);
}

static void end(struct upstream_call *call, enum upstream_end how)
{
    h2o_timeout_unlink(&call->timeout);
    h2o_timeout_unlink(&call->later);
    alarm_clear(&call->u->alarms, &call->deadline);
    alarm_clear(&call->u->alarms, &call->retry);
    call->how = how;
    call->stage = FAKE_OVER;
    call->callbacks->on_end(call->data, how);
    over(call);
}

static void on_timeout(h2o_timeout_entry_t *entry)
{
    end(H2O_STRUCT_FROM_MEMBER(struct upstream_call, timeout, entry), UPSTREAM_TIMEOUT);
}

/* What the owner is told while the call is in his hands. False: he cancelled it within. */
static bool tell(struct upstream_call *call, const struct upstream_head *head, struct span bytes)
{
    call->in_callback = true;
    if (head != NULL)
        call->callbacks->on_head(call->data, head);
    else
        call->callbacks->on_body(call->data, bytes);
    call->in_callback = false;
    if (!call->is_cancelled)
        return true;
    over(call);
    return false;
}

static void on_deadline(struct alarm *alarm)
{
    end(H2O_STRUCT_FROM_MEMBER(struct upstream_call, deadline, alarm), UPSTREAM_TIMEOUT);
}

/* Connecting failed. False: that was it. */
static bool retry_later(struct upstream_call *call)
{
    const struct upstream_options *options = call->u->options;
    uint64_t again_ms = h2o_now(call->u->ctx->loop) + RETRY_MS;

    if (!call->request.may_retry_connect || call->has_retried || options->retries == NULL ||
        RETRY_MS >= options->connect_timeout_ms || (alarm_is_set(&call->deadline) && again_ms >= call->deadline.due_ms) ||
        !budget_retries_take(options->retries))
        return false;
    call->has_retried = true;
    alarm_set(&call->u->alarms, &call->retry, RETRY_MS);
    return true;
}

/* Refused, or what had to wait while the call was paused. */
static void on_later(h2o_timeout_entry_t *entry)
{
    struct upstream_call *call = H2O_STRUCT_FROM_MEMBER(struct upstream_call, later, entry);
    struct buf bytes = call->waiting;
    bool goes_on = true;

    if (call->stage == FAKE_CONNECTING) {
        if (!retry_later(call))
            end(call, UPSTREAM_CONNECT);
        return;
    }
    if (call->is_paused)
        return;
    call->waiting = (struct buf){0};
    if (bytes.n != 0)
        goes_on = tell(call, NULL, buf_span(&bytes));
    buf_done(&bytes);
    if (goes_on && call->has_end && !call->is_paused)
        end(call, call->end);
}

static void do_later(struct upstream_call *call)
{
    if (!h2o_timeout_is_linked(&call->later))
        h2o_timeout_link(call->u->ctx->loop, &call->u->ctx->zero_timeout, &call->later);
}

/* Finds the door as it is now. False: connecting fails at once. */
static bool knock(struct upstream_call *call)
{
    struct upstream *u = call->u;

    switch (atomic_load(&door)) {
    case FAKE_OPEN:
        call->stage = FAKE_ASKED;
        set_timeout(call, call->request.is_patient ? NULL : &u->reply_timeout);
        break;
    case FAKE_REFUSING:
        do_later(call);
        break;
    case FAKE_REFUSING_AT_ONCE:
        return false;
    case FAKE_SILENT:
        set_timeout(call, &u->connect_timeout);
        break;
    }
    return true;
}

static void on_retry(struct alarm *alarm)
{
    struct upstream_call *call = H2O_STRUCT_FROM_MEMBER(struct upstream_call, retry, alarm);

    if (!knock(call))
        end(call, UPSTREAM_CONNECT);
    else if (call->stage == FAKE_ASKED)
        listener->on_call(call);
}

struct upstream_call *upstream_call_start(struct upstream *u, struct upstream_request *request,
                                          const struct upstream_callbacks *callbacks, void *data)
{
    struct upstream_call *call = h2o_mem_alloc(sizeof(*call));
    bool goes_on;

    *call = (struct upstream_call){
        .u = u,
        .callbacks = callbacks,
        .data = data,
        .request = *request,
        .timeout = {.cb = on_timeout},
        .later = {.cb = on_later},
        .deadline = {.on_due = on_deadline},
        .retry = {.on_due = on_retry},
    };
    add(&call->head, (struct span){request->head, request->head_bytes});
    add(&call->body, request->body);
    free(request->head);
    request->head = call->request.head = NULL;
    ++u->calls;
    atomic_fetch_add(&open_calls, 1);
    if (u->options->retries != NULL)
        budget_retries_earn(u->options->retries);
    upstream_call_set_deadline(call, request->deadline_ms);
    goes_on = knock(call);
    listener->on_call(call);
    if (goes_on)
        return call;
    end(call, UPSTREAM_CONNECT);
    return NULL;
}

void upstream_call_set_deadline(struct upstream_call *call, int64_t deadline_ms)
{
    if (deadline_ms > 0)
        alarm_set(&call->u->alarms, &call->deadline, (uint64_t)deadline_ms);
    else
        alarm_clear(&call->u->alarms, &call->deadline);
}

/* As the real one has it. */
void upstream_results(enum upstream_end how, int status, enum breaker_result *ret_upstream, enum breaker_result *ret_call)
{
    *ret_upstream = status != 0 ? BREAKER_GOOD : how == UPSTREAM_CONNECT ? BREAKER_FAILED : BREAKER_UNKNOWN;
    *ret_call = how == UPSTREAM_COMPLETE || how == UPSTREAM_SURPLUS ? breaker_of_status(status) : BREAKER_FAILED;
}

void upstream_call_cancel(struct upstream_call *call)
{
    call->is_cancelled = true;
    if (!call->in_callback)
        over(call);
}

void upstream_call_hurry(struct upstream_call *call)
{
    call->is_hurried = true;
    if (call->stage == FAKE_ANSWERING && !call->is_paused)
        set_timeout(call, &call->u->reply_timeout);
}

void upstream_call_pause(struct upstream_call *call)
{
    if (call->stage != FAKE_ANSWERING || call->is_paused)
        return;
    call->is_paused = true;
    set_timeout(call, NULL);
}

void upstream_call_resume(struct upstream_call *call)
{
    if (!call->is_paused)
        return;
    call->is_paused = false;
    if (call->is_hurried)
        set_timeout(call, &call->u->reply_timeout);
    do_later(call);
}

/* ---- the answer ------------------------------------------------------------------------------------------------------------------ */

void fake_call_head(struct upstream_call *call, int status, const struct fake_header *headers, size_t count, bool has_body,
                    size_t content_bytes)
{
    h2o_header_t list[HEADERS_MAX];
    h2o_iovec_t names[HEADERS_MAX];
    struct upstream_head head = {
        .status = status,
        .reason = SPAN("Whatever"),
        .headers = list,
        .header_count = count,
        .has_body = has_body,
        .content_bytes = content_bytes,
    };
    bool goes_on;

    if (call->stage != FAKE_ASKED)
        return;
    if (count > HEADERS_MAX)
        h2o_fatal("too many headers");
    for (size_t i = 0; i != count; ++i) {
        const h2o_token_t *token;

        names[i] = h2o_strdup(NULL, headers[i].name.p, headers[i].name.n);
        h2o_strtolower(names[i].base, names[i].len);
        token = h2o_lookup_token(names[i].base, names[i].len);
        list[i] = (h2o_header_t){
            .name = token != NULL ? (h2o_iovec_t *)&token->buf : &names[i],
            .orig_name = headers[i].name.p,
            .value = h2o_iovec_init(headers[i].value.p, headers[i].value.n),
        };
    }
    call->stage = FAKE_ANSWERING;
    set_timeout(call, NULL);
    goes_on = tell(call, &head, SPAN_ABSENT);
    for (size_t i = 0; i != count; ++i)
        free(names[i].base);
    if (goes_on && !has_body)
        end(call, UPSTREAM_COMPLETE);
}

void fake_call_body(struct upstream_call *call, struct span bytes)
{
    if (call->stage != FAKE_ANSWERING || bytes.n == 0)
        return;
    if (call->is_paused || call->waiting.n != 0) {
        add(&call->waiting, bytes);
        return;
    }
    if (tell(call, NULL, bytes) && call->is_hurried && !call->is_paused)
        set_timeout(call, &call->u->reply_timeout);
}

void fake_call_end(struct upstream_call *call, enum upstream_end how)
{
    if (call->stage == FAKE_OVER)
        return;
    if (call->is_paused || call->waiting.n != 0) {
        call->has_end = true;
        call->end = how;
        return;
    }
    end(call, how);
}

void fake_call_free(struct upstream_call *call)
{
    buf_done(&call->head);
    buf_done(&call->body);
    free(call);
}

struct span fake_call_header(const struct upstream_call *call, struct span name)
{
    struct span rest = buf_span(&call->head);

    while (rest.n != 0) {
        const char *nl = memchr(rest.p, '\n', rest.n);
        struct span line = {rest.p, nl != NULL ? (size_t)(nl - rest.p) : rest.n};
        const char *colon = memchr(line.p, ':', line.n);

        rest = nl != NULL ? (struct span){nl + 1, rest.n - line.n - 1} : SPAN_ABSENT;
        if (colon != NULL && span_ieq((struct span){line.p, (size_t)(colon - line.p)}, name))
            return span_trim((struct span){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
    }
    return SPAN_ABSENT;
}
