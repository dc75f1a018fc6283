/* SPDX-License-Identifier: Apache-2.0 */
/* The load of the benchmark: asks an MCP endpoint over many connections on few threads, and counts an answer only when it is right: HTTP 200, the own id, no error, and the
 * text that the question has (content.h), to the byte. All else is a failure, and said to be one.
 *
 * Closed loop (rate=0): each connection asks again when it has its answer. Open loop: requests are due at fixed distances (or, poisson=1, at random ones), whatever became of
 * those before; a time counts from when its request was due, so that whoever stalls is charged for all that waited.
 *
 * Arguments are NAME=VALUE, see `options`; what is asked:
 *   question n of `questions`, n drawn by Zipf's law (zipf=0: all alike) or, order=each, each once: tool get_(n % tools), arguments {"key":"n","size":S}, S by n, spread evenly
 *   over the magnitudes from size_min to size_max. write=SHARE of the requests are put_*, list=SHARE are tools/list. tokens=N callers, one for each request in turn; private=1:
 *   tools my_*, whose answers are the caller's own. burst=N: N at once ask for the same new thing, then comes the next. trace=FILE: a CSV file says what, when and who.
 * The first `warmup` seconds are asked and verified, and not counted. One line of JSON on stdout. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "content.h"
#include "histogram.h"
#include "json.h"

#define REQUEST_MAX  16384
#define ANSWER_FIRST 4096
#define EVENTS       128
#define THREADS_MAX  8
#define SLOTS_MAX    1200
#define TOLD_MAX     3
#define SIZE_LEAST   128 /* a mark always fits */
#define SECOND       1000000000ull
#define ID_DIGITS    12
#define FIRST_ID     100000000000ull /* of the first thread; the next begins at twice that */

#define must(condition)                                                                                                            \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));                                   \
            exit(1);                                                                                                               \
        }                                                                                                                          \
    } while (0)

static struct {
    double port, connections, threads, rate, poisson, seconds, warmup, questions, first, tools, zipf, size_min, size_max, tokens,
        private, write, list, burst, seed, series_ms, timeout_ms, speed;
    const char *path, *era, *ids, *order, *trace, *prefix;
} options = {.connections = 64,
             .threads = 1,
             .seconds = 2,
             .questions = 1,
             .tools = 1,
             .size_min = 1024,
             .size_max = 1024,
             .tokens = 1,
             .seed = 1,
             .timeout_ms = 10000,
             .speed = 1,
             .path = "/mcp",
             .era = "modern",
             .ids = "own",
             .order = "random",
             .prefix = "",
             .trace = ""};

static const struct {
    const char *name;
    double *number;
    const char **text;
} option_table[] = {
    {"port", &options.port, NULL},
    {"path", NULL, &options.path},
    {"prefix", NULL, &options.prefix}, /* what a gateway wants before the names of tools */
    {"era", NULL, &options.era},       /* modern, or legacy: each connection has a session */
    {"connections", &options.connections, NULL},
    {"threads", &options.threads, NULL},
    {"rate", &options.rate, NULL}, /* per second, of all threads together */
    {"poisson", &options.poisson, NULL},
    {"seconds", &options.seconds, NULL}, /* with order=each or a trace: at most */
    {"warmup", &options.warmup, NULL},
    {"questions", &options.questions, NULL},
    {"first", &options.first, NULL}, /* number of the first question */
    {"tools", &options.tools, NULL},
    {"zipf", &options.zipf, NULL},
    {"size_min", &options.size_min, NULL},
    {"size_max", &options.size_max, NULL},
    {"tokens", &options.tokens, NULL},
    {"private", &options.private, NULL},
    {"write", &options.write, NULL},
    {"list", &options.list, NULL},
    {"burst", &options.burst, NULL},
    {"ids", NULL, &options.ids},     /* own, or fixed: all say 1, for those who cannot tell an id from the rest */
    {"order", NULL, &options.order}, /* random, or each */
    {"trace", NULL, &options.trace},
    {"speed", &options.speed, NULL}, /* of a trace */
    {"seed", &options.seed, NULL},
    {"series_ms", &options.series_ms, NULL}, /* also tell how it went over time, in pieces of this length */
    {"timeout_ms", &options.timeout_ms, NULL},
};

enum failure {
    FAIL_NONE,
    FAIL_CONNECT,
    FAIL_CLOSED,
    FAIL_TIMEOUT,
    FAIL_HTTP,
    FAIL_STATUS,
    FAIL_ERROR,
    FAIL_ID,
    FAIL_CONTENT,
    FAILURES
};
static const char *const failure_names[FAILURES] = {"", "connect", "closed", "timeout", "http", "status", "error", "id", "content"};

enum kind { KIND_CALL, KIND_LIST, KIND_INITIALIZE, KIND_INITIALIZED };
enum phase { PHASE_NONE, PHASE_OPENING, PHASE_READY };

struct event {
    uint64_t due_ns;
    char *tool, *arguments, *token;
    size_t size;
};

/* What somebody is waiting for. */
struct question {
    enum kind kind;
    size_t tool_bytes, argument_bytes, size;
    char tool[64], token[64], arguments[4096];
};

struct conn {
    int fd, is_busy, is_writing;
    enum phase phase;
    uint64_t id, due_ns, sent_ns;
    struct question asked;
    char session[128];
    /* Ids are equally long, so a request that is asked again, which is what a hot key is, takes a new id and is otherwise as it was. */
    size_t request_bytes, sent;
    char *id_at; /* NULL: to be made anew */
    struct content expected;
    char request[REQUEST_MAX];
    /* The answer: its head is from 0 to head, its body behind it; chunks are joined as they come. */
    size_t have, size, head, chunk_at, body_end;
    long length; /* -1: chunks */
    int status, is_event_stream, is_hit, must_close;
    char *answer;
    struct conn *next_idle;
};

struct slot {
    uint32_t ok, failed;
    struct histogram *times;
};

struct worker {
    pthread_t thread;
    int number, epoll_fd, count, told, is_over, slot_count;
    struct conn *conns, *idle;
    uint64_t random, next_id, drawn, begin_ns, count_from_ns, stop_ns, next_due_ns;
    uint64_t ok, bytes, hits, asked, late; /* those asked while warming up count in `asked` alone */
    uint64_t failures[FAILURES];
    uint64_t last_ns;
    double cpu_s;
    struct histogram times;
    struct slot *slots;
};

static struct worker workers[THREADS_MAX];
static struct event *trace;
static size_t trace_n;
static char tools_text[LIST_TOOLS * 600];
static size_t tools_bytes;
static int is_legacy, is_fixed_id, is_each, is_one_question;
static pthread_barrier_t barrier;
static struct {
    double h_x1, h_n, s;
} zipf;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t scramble(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static double chance(struct worker *w)
{
    w->random = scramble(w->random);
    return (double)(w->random >> 11) / 9007199254740992.0;
}

/* ---- Zipf's law, by rejection-inversion (Hoermann and Derflinger 1996): no table, whatever the number of questions --------------------- */

static double zipf_h(double x)
{
    double log_x = log(x), t = (1 - options.zipf) * log_x;
    return fabs(t) > 1e-8 ? expm1(t) / t * log_x : log_x * (1 + t / 2);
}

static double zipf_h_inverse(double x)
{
    double t = x * (1 - options.zipf);

    if (t < -1)
        t = -1;
    return exp(fabs(t) > 1e-8 ? log1p(t) / t * x : x * (1 - t / 2));
}

static void zipf_init(void)
{
    zipf.h_x1 = zipf_h(1.5) - 1;
    zipf.h_n = zipf_h(options.questions + 0.5);
    zipf.s = 2 - zipf_h_inverse(zipf_h(2.5) - exp(-options.zipf * log(2)));
}

static uint64_t zipf_draw(struct worker *w)
{
    for (;;) {
        double u = zipf.h_n + chance(w) * (zipf.h_x1 - zipf.h_n), x = zipf_h_inverse(u), k = floor(x + 0.5);
        if (k < 1)
            k = 1;
        if (k > options.questions)
            k = options.questions;
        if (k - x <= zipf.s || u >= zipf_h(k + 0.5) - exp(-options.zipf * log(k)))
            return (uint64_t)k - 1;
    }
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------------------- */

static uint64_t question_draw(struct worker *w)
{
    uint64_t first = (uint64_t)options.first, count = (uint64_t)options.questions;

    if (is_each)
        return first + w->drawn++ * (uint64_t)options.threads + (uint64_t)w->number;
    if (options.burst > 0)
        return first + w->drawn++ / (uint64_t)options.burst;
    if (count == 1)
        return first;
    return first + (options.zipf > 0 ? zipf_draw(w) : (uint64_t)(chance(w) * (double)count));
}

static size_t size_of(uint64_t number)
{
    double low = options.size_min, high = options.size_max;
    return low >= high ? (size_t)low
                       : (size_t)(low * pow(high / low, (double)(scramble(number ^ 0x5eed) >> 11) / 9007199254740992.0));
}

/* What question n asks for; trace: line n of it. */
static void question_make(struct worker *w, struct question *q, uint64_t n)
{
    double what = options.write + options.list > 0 ? chance(w) : 1;

    if (trace_n > 0) {
        const struct event *e = &trace[n];
        q->kind = KIND_CALL;
        q->size = e->size;
        q->tool_bytes = (size_t)snprintf(q->tool, sizeof(q->tool), "%s", e->tool);
        q->argument_bytes = (size_t)snprintf(q->arguments, sizeof(q->arguments), "%s", e->arguments);
        snprintf(q->token, sizeof(q->token), "%s", e->token);
        return;
    }
    snprintf(q->token, sizeof(q->token), "t%llu", (unsigned long long)(w->asked % (uint64_t)options.tokens));
    if (what < options.list) {
        q->kind = KIND_LIST;
        return;
    }
    q->kind = KIND_CALL;
    q->size = size_of(n);
    q->tool_bytes = (size_t)snprintf(q->tool, sizeof(q->tool), "%s_%llu",
                                     what < options.list + options.write ? "put"
                                     : options.private > 0               ? "my"
                                                                         : "get",
                                     (unsigned long long)(n % (uint64_t)options.tools));
    q->argument_bytes =
        (size_t)snprintf(q->arguments, sizeof(q->arguments), "{\"key\":\"%llu\",\"size\":%zu}", (unsigned long long)n, q->size);
}

static size_t body_make(const struct conn *c, const struct question *q, char *body, size_t size)
{
    static const char meta[] = "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/"
                               "clientInfo\":{\"name\":\"load\",\"version\":\"1\"},"
                               "\"io.modelcontextprotocol/clientCapabilities\":{}}";
    const char *comma = is_legacy ? "" : ",", *more = is_legacy ? "" : meta;
    int n = 0;

    switch (q->kind) {
    case KIND_CALL:
        n = snprintf(
            body, size,
            "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"tools/call\",\"params\":{\"name\":\"%s%s\",\"arguments\":%s%s%s}}",
            (unsigned long long)c->id, options.prefix, q->tool, q->arguments, comma, more);
        break;
    case KIND_LIST:
        n = snprintf(body, size, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"tools/list\",\"params\":{%s}}",
                     (unsigned long long)c->id, more);
        break;
    case KIND_INITIALIZE:
        n = snprintf(body, size,
                     "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\","
                     "\"capabilities\":{},\"clientInfo\":{\"name\":"
                     "\"load\",\"version\":\"1\"}}}",
                     (unsigned long long)c->id);
        break;
    case KIND_INITIALIZED:
        n = snprintf(body, size, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
        break;
    }
    must(n > 0 && (size_t)n < size);
    return (size_t)n;
}

static void request_make(struct conn *c)
{
    const struct question *q = &c->asked;
    char body[REQUEST_MAX / 2], era[256];
    size_t body_bytes = body_make(c, q, body, sizeof(body));
    int n;

    if (!is_legacy)
        snprintf(era, sizeof(era), "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: %s\r\n%s%s%s%s",
                 q->kind == KIND_LIST ? "tools/list" : "tools/call", q->kind == KIND_CALL ? "Mcp-Name: " : "",
                 q->kind == KIND_CALL ? options.prefix : "", q->kind == KIND_CALL ? q->tool : "",
                 q->kind == KIND_CALL ? "\r\n" : "");
    else
        snprintf(era, sizeof(era), "%s%s%s%s", q->kind == KIND_INITIALIZE ? "" : "MCP-Protocol-Version: 2025-11-25\r\n",
                 *c->session ? "Mcp-Session-Id: " : "", c->session, *c->session ? "\r\n" : "");
    n = snprintf(c->request, REQUEST_MAX,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: application/json, "
                 "text/event-stream\r\nAuthorization: Bearer "
                 "%s\r\n%sContent-Length: %zu\r\n\r\n",
                 options.path, (int)options.port, q->token, era, body_bytes);
    must(n > 0 && (size_t)n + body_bytes < REQUEST_MAX);
    memcpy(c->request + n, body, body_bytes);
    c->request_bytes = (size_t)n + body_bytes;
    c->id_at = is_fixed_id || q->kind != KIND_CALL ? NULL : memmem(c->request + n, body_bytes, "\"id\":", 5);
    content_of(&c->expected, q->tool, q->tool_bytes, q->arguments, q->argument_bytes, q->token, strlen(q->token), q->size);
}

static void request_again(struct conn *c)
{
    char *to = c->id_at + 5 + ID_DIGITS;

    for (uint64_t id = c->id; to > c->id_at + 5; id /= 10)
        *--to = (char)('0' + id % 10);
}

/* ---- is it right? --------------------------------------------------------------------------------------------------------------------------- */

static int text_is_right(const struct content *c, struct json text)
{
    return text.at != NULL && (size_t)(text.end - text.at) == c->mark_bytes + c->rest_bytes &&
           memcmp(text.at, c->mark, c->mark_bytes) == 0 && memcmp(text.at + c->mark_bytes, c->rest, c->rest_bytes) == 0;
}

/* The JSON of an answer that is an event stream: what the last event that has an id of a message says. */
static struct json event_data(const char *body, const char *end)
{
    struct json last = {NULL, NULL};

    while (body < end) {
        const char *eol = memchr(body, '\n', (size_t)(end - body));
        if (eol == NULL)
            eol = end;
        if (eol - body > 6 && memcmp(body, "data: ", 6) == 0 && body[6] == '{') {
            struct json data = {body + 6, eol};
            if (json_member(data, "result").at != NULL || json_member(data, "error").at != NULL)
                last = data;
        }
        body = eol + 1;
    }
    return last;
}

static enum failure answer_check(struct conn *c)
{
    struct json message = {c->answer + c->head, c->answer + c->body_end}, name, value, id = {NULL, NULL}, result = {NULL, NULL},
                first;
    const struct question *q = &c->asked;
    const char *at;
    char own[32];

    if (q->kind == KIND_INITIALIZED)
        return c->status == 202 || c->status == 200 || c->status == 204 ? FAIL_NONE : FAIL_STATUS;
    if (c->status != 200)
        return FAIL_STATUS;
    if (c->is_event_stream)
        message = event_data(message.at, message.end);
    at = message.at;
    while (at != NULL && json_next(&at, message.end, &name, &value)) {
        if (json_is(name, "id"))
            id = value;
        else if (json_is(name, "result"))
            result = value;
        else if (json_is(name, "error"))
            return FAIL_ERROR;
    }
    snprintf(own, sizeof(own), "%llu", (unsigned long long)c->id);
    if (!json_is(id, own))
        return FAIL_ID;
    if (q->kind == KIND_INITIALIZE)
        return json_member(result, "protocolVersion").at != NULL ? FAIL_NONE : FAIL_CONTENT;
    if (q->kind == KIND_LIST) {
        value = json_member(result, "tools");
        return value.at != NULL && (size_t)(value.end - value.at) == tools_bytes && memcmp(value.at, tools_text, tools_bytes) == 0
                   ? FAIL_NONE
                   : FAIL_CONTENT;
    }
    if (json_is(json_member(result, "isError"), "true"))
        return FAIL_ERROR;
    first = json_first(json_member(result, "content"));
    return text_is_right(&c->expected, json_text(json_member(first, "text"))) ? FAIL_NONE : FAIL_CONTENT;
}

/* ---- HTTP ------------------------------------------------------------------------------------------------------------------------------------ */

static int is_named(const char *line, size_t n, const char *name)
{
    size_t bytes = strlen(name);
    return n > bytes && strncasecmp(line, name, bytes) == 0;
}

static int head_parse(struct conn *c)
{
    const char *line = c->answer, *end = memmem(c->answer, c->have, "\r\n\r\n", 4);

    if (end == NULL)
        return 0;
    c->head = (size_t)(end - c->answer) + 4;
    c->length = -2;
    c->is_event_stream = c->is_hit = c->must_close = 0;
    c->status = c->head > 12 && memcmp(line, "HTTP/1.", 7) == 0 ? atoi(line + 9) : 0;
    while (line < end) {
        const char *eol = memchr(line, '\r', (size_t)(end + 1 - line));
        size_t n = (size_t)(eol - line);
        switch (*line | 32) {
        case 'c':
            if (is_named(line, n, "content-length:"))
                c->length = atol(line + 15);
            else if (is_named(line, n, "content-type:"))
                c->is_event_stream = memmem(line, n, "event-stream", 12) != NULL;
            else if (is_named(line, n, "cache-status:"))
                c->is_hit = memmem(line, n, "; hit", 5) != NULL;
            else if (is_named(line, n, "connection:"))
                c->must_close = memmem(line, n, "close", 5) != NULL;
            break;
        case 't':
            if (is_named(line, n, "transfer-encoding:"))
                c->length = -1;
            break;
        case 'x':
            if (is_named(line, n, "x-cache:"))
                c->is_hit = memmem(line, n, "HIT", 3) != NULL;
            break;
        case 'm':
            if (is_named(line, n, "mcp-session-id:") && n - 16 < sizeof(c->session)) {
                memcpy(c->session, line + 16, n - 16);
                c->session[n - 16] = '\0';
            }
            break;
        }
        line = eol + 2;
    }
    if (c->length == -2 && (c->status == 202 || c->status == 204))
        c->length = 0;
    c->chunk_at = c->body_end = c->head;
    return 1;
}

/* 1: the answer is whole; 0: more is to come; -1: it is no HTTP. */
static int answer_step(struct conn *c)
{
    if (c->head == 0 && !head_parse(c))
        return c->have < 65536 ? 0 : -1;
    if (c->length >= 0) {
        c->body_end = c->head + (size_t)c->length;
        return c->have < c->body_end ? 0 : c->have == c->body_end ? 1 : -1;
    }
    if (c->length == -2)
        return -1;
    for (;;) {
        const char *line = c->answer + c->chunk_at, *eol = memchr(line, '\n', c->have - c->chunk_at);
        size_t bytes;
        if (eol == NULL)
            return 0;
        bytes = strtoul(line, NULL, 16);
        if (c->have < (size_t)(eol + 1 - c->answer) + bytes + 2)
            return 0;
        memmove(c->answer + c->body_end, eol + 1, bytes);
        c->body_end += bytes;
        c->chunk_at = (size_t)(eol + 1 - c->answer) + bytes + 2;
        if (bytes == 0)
            return c->chunk_at == c->have ? 1 : -1;
    }
}

static int conn_open(struct worker *w, struct conn *c)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(c->fd >= 0);
    /* Loopback: the connection is there, or refused, at once. */
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(c->fd);
        c->fd = -1;
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    must(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0);
    must(epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c}) == 0);
    c->is_writing = 0;
    return 0;
}

static void conn_close(struct conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void conn_idle(struct worker *w, struct conn *c)
{
    c->next_idle = w->idle;
    w->idle = c;
}

/* ---- the run ---------------------------------------------------------------------------------------------------------------------------------- */

static struct slot *slot_at(struct worker *w, uint64_t now)
{
    uint64_t n = (now - w->begin_ns) / (uint64_t)(options.series_ms * 1e6);
    return n < (uint64_t)w->slot_count ? &w->slots[n] : NULL;
}

/* A request has come to its end, one way or another. Times over time stand where the request was due, so that an outage shows where it was. */
static void conn_done(struct worker *w, struct conn *c, enum failure failure)
{
    uint64_t now = now_ns();
    struct slot *slot = options.series_ms > 0 ? slot_at(w, c->due_ns) : NULL;

    c->is_busy = 0;
    w->last_ns = now;
    if (c->due_ns >= w->count_from_ns || failure != FAIL_NONE) {
        if (failure != FAIL_NONE) {
            w->failures[failure]++;
        } else {
            w->ok++;
            w->bytes += c->body_end - c->head;
            w->hits += (uint64_t)c->is_hit;
            histogram_add(&w->times, now - c->due_ns);
        }
        if (slot != NULL && failure != FAIL_NONE) {
            slot->failed++;
        } else if (slot != NULL) {
            slot->ok++;
            histogram_add(slot->times, now - c->due_ns);
        }
    }
    if (failure >= FAIL_STATUS && w->told < TOLD_MAX) {
        w->told++;
        fprintf(stderr, "load: %s: asked %.*s\n", failure_names[failure], (int)c->request_bytes, c->request);
        fprintf(stderr, "load: got %.*s\n", (int)(c->have < 1200 ? c->have : 1200), c->answer);
    }
    if ((failure != FAIL_NONE && failure < FAIL_STATUS) || c->must_close)
        conn_close(c);
}

static void conn_fail(struct worker *w, struct conn *c, enum failure failure);

static void conn_write(struct worker *w, struct conn *c)
{
    while (c->sent < c->request_bytes) {
        ssize_t n = write(c->fd, c->request + c->sent, c->request_bytes - c->sent);
        if (n < 0 && errno == EAGAIN) {
            c->is_writing = 1;
            must(epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){.events = EPOLLIN | EPOLLOUT, .data.ptr = c}) ==
                 0);
            return;
        }
        if (n <= 0) {
            conn_fail(w, c, FAIL_CLOSED);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->is_writing)
        must(epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c}) == 0);
    c->is_writing = 0;
}

static void conn_send(struct worker *w, struct conn *c, int is_same)
{
    c->id = is_fixed_id ? 1 : ++w->next_id;
    if (is_same && c->id_at != NULL)
        request_again(c);
    else if (!is_same || c->request_bytes == 0 || !is_fixed_id)
        request_make(c);
    c->sent = 0;
    c->have = c->head = 0;
    c->must_close = 0;
    c->is_busy = 1;
    c->sent_ns = now_ns();
    if (c->due_ns == 0)
        c->due_ns = c->sent_ns;
    if (c->fd < 0 && conn_open(w, c) != 0) {
        conn_fail(w, c, FAIL_CONNECT);
        return;
    }
    conn_write(w, c);
}

/* Is there anything left to ask for? Then `*ret` is its number. */
static int worker_next(struct worker *w, uint64_t *ret)
{
    if (trace_n > 0) {
        *ret = w->drawn * (uint64_t)options.threads + (uint64_t)w->number;
        if (*ret >= trace_n)
            return 0;
        w->drawn++;
        return 1;
    }
    *ret = question_draw(w);
    return !is_each || *ret < (uint64_t)(options.first + options.questions);
}

static void conn_ask(struct worker *w, struct conn *c, uint64_t due_ns)
{
    uint64_t number;
    int is_same;

    if (w->is_over || !worker_next(w, &number)) {
        w->is_over = 1;
        return;
    }
    is_same = is_one_question && c->request_bytes > 0 && c->asked.kind == KIND_CALL;
    if (!is_same)
        question_make(w, &c->asked, number);
    w->asked++;
    c->due_ns = due_ns;
    conn_send(w, c, is_same);
}

/* The next that this connection does, having nothing to wait for any more. */
static void conn_next(struct worker *w, struct conn *c, uint64_t now)
{
    if (c->phase == PHASE_OPENING || (options.rate > 0 || trace_n > 0 || options.burst > 0) || now >= w->stop_ns || w->is_over) {
        conn_idle(w, c);
        return;
    }
    conn_ask(w, c, 0);
}

static void conn_fail(struct worker *w, struct conn *c, enum failure failure)
{
    if (c->phase == PHASE_OPENING) {
        fprintf(stderr, "load: cannot open a session: %s\n%.*s\n", failure_names[failure], (int)c->have, c->answer);
        exit(1);
    }
    conn_done(w, c, failure);
    conn_close(c);
    /* Whoever is refused does not ask again at once: a server that is away is not asked a million times. */
    conn_idle(w, c);
}

static void conn_read(struct worker *w, struct conn *c)
{
    enum failure failure;
    ssize_t got;
    int step;

    if (c->have == c->size) {
        c->size *= 2;
        c->answer = realloc(c->answer, c->size + 1);
        must(c->answer != NULL);
    }
    got = read(c->fd, c->answer + c->have, c->size - c->have);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        if (c->is_busy)
            conn_fail(w, c, FAIL_CLOSED);
        else
            conn_close(c); /* it was idle, and will be opened anew */
        return;
    }
    c->have += (size_t)got;
    c->answer[c->have] = '\0';
    step = c->is_busy ? answer_step(c) : -1;
    if (step == 0)
        return;
    if (step < 0) {
        conn_fail(w, c, FAIL_HTTP);
        return;
    }
    failure = answer_check(c);
    if (c->phase == PHASE_OPENING) {
        c->is_busy = 0;
        if (failure != FAIL_NONE)
            conn_fail(w, c, failure);
        if (c->must_close)
            conn_close(c);
        return;
    }
    conn_done(w, c, failure);
    conn_next(w, c, w->last_ns);
}

static void worker_poll(struct worker *w, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_ns(), left = until_ns > now ? until_ns - now : 0;
    struct timespec wait = {.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND)};
    int n = epoll_pwait2(w->epoll_fd, events, EVENTS, &wait, NULL);

    must(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (c->fd < 0)
            continue;
        if (c->is_writing && events[i].events & EPOLLOUT)
            conn_write(w, c);
        else
            conn_read(w, c);
    }
}

static void worker_wait_all(struct worker *w)
{
    uint64_t end_ns = now_ns() + 30 * SECOND;

    for (int i = 0; i < w->count; i++)
        while (w->conns[i].is_busy) {
            must(now_ns() < end_ns);
            worker_poll(w, end_ns);
        }
}

/* Opens all connections and, in the legacy era, their sessions. */
static void worker_open(struct worker *w)
{
    for (int i = 0; i < w->count; i++) {
        struct conn *c = &w->conns[i];
        c->size = ANSWER_FIRST;
        c->answer = malloc(c->size + 1);
        must(c->answer != NULL);
        c->phase = PHASE_OPENING;
        if (conn_open(w, c) != 0) {
            fprintf(stderr, "load: nobody listens on port %d\n", (int)options.port);
            exit(1);
        }
        if (is_legacy) {
            snprintf(c->asked.token, sizeof(c->asked.token), "t%d", i % (int)options.tokens);
            c->asked.kind = KIND_INITIALIZE;
            conn_send(w, c, 0);
            worker_wait_all(w);
            c->asked.kind = KIND_INITIALIZED;
            conn_send(w, c, 0);
            worker_wait_all(w);
        }
        c->phase = PHASE_READY;
        c->due_ns = 0;
    }
}

static uint64_t due_after(struct worker *w, uint64_t due_ns)
{
    double distance = (double)SECOND * options.threads / options.rate;

    if (trace_n > 0) {
        uint64_t n = w->drawn * (uint64_t)options.threads + (uint64_t)w->number;
        return n < trace_n ? w->begin_ns + trace[n].due_ns : UINT64_MAX;
    }
    if (options.burst > 0) /* rate: of bursts */
        return w->drawn % (uint64_t)options.burst != 0 ? due_ns : due_ns + (uint64_t)distance;
    if (options.poisson > 0)
        distance *= -log1p(-chance(w));
    return due_ns + (uint64_t)distance;
}

static void check_timeouts(struct worker *w, uint64_t now)
{
    for (int i = 0; i < w->count; i++) {
        struct conn *c = &w->conns[i];
        if (c->is_busy && now > c->sent_ns + (uint64_t)(options.timeout_ms * 1e6))
            conn_fail(w, c, FAIL_TIMEOUT);
    }
}

static void run_closed(struct worker *w)
{
    uint64_t now = w->begin_ns, check_ns = now;

    for (int i = 0; i < w->count; i++)
        conn_ask(w, &w->conns[i], 0);
    while (now < w->stop_ns && !w->is_over) {
        worker_poll(w, now + SECOND / 100);
        now = now_ns();
        if (now > check_ns) {
            struct conn *idle = w->idle;
            w->idle = NULL;
            while (idle != NULL) {
                struct conn *next = idle->next_idle;
                conn_next(w, idle, now);
                idle = next;
            }
            check_timeouts(w, now);
            check_ns = now + SECOND / 20;
        }
    }
}

static void run_open(struct worker *w)
{
    uint64_t now = w->begin_ns, check_ns = now;

    for (int i = w->count - 1; i >= 0; i--)
        conn_idle(w, &w->conns[i]);
    w->next_due_ns = trace_n > 0 ? due_after(w, 0) : w->begin_ns + (uint64_t)((double)SECOND * w->number / options.rate);
    while (now < w->stop_ns && !w->is_over) {
        while (w->next_due_ns <= now && w->idle != NULL && !w->is_over) {
            struct conn *c = w->idle;
            uint64_t due_ns = w->next_due_ns;
            w->idle = c->next_idle;
            w->late += now - due_ns > SECOND / 1000;
            conn_ask(w, c, due_ns);
            w->next_due_ns = due_after(w, due_ns);
        }
        if (w->next_due_ns == UINT64_MAX)
            break; /* the trace is at its end */
        /* Nobody idle: whatever is due waits for the next answer, and its time runs. */
        worker_poll(w, w->idle == NULL ? now + SECOND / 100 : w->next_due_ns < check_ns ? w->next_due_ns : check_ns);
        now = now_ns();
        if (now >= check_ns) {
            check_timeouts(w, now);
            check_ns = now + SECOND / 20;
        }
    }
}

static void *worker_run(void *argument)
{
    struct worker *w = argument;
    struct timespec cpu[2];

    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    must(w->epoll_fd >= 0);
    prctl(PR_SET_TIMERSLACK, 1);
    worker_open(w);
    pthread_barrier_wait(&barrier);
    w->begin_ns = now_ns();
    w->count_from_ns = w->begin_ns + (uint64_t)(options.warmup * 1e9);
    w->stop_ns = w->count_from_ns + (uint64_t)(options.seconds * 1e9);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu[0]);
    if (options.rate > 0 || trace_n > 0)
        run_open(w);
    else
        run_closed(w);
    /* What was asked in time still counts, and what would not come is found out. */
    w->is_over = 1;
    for (uint64_t end_ns = now_ns() + (uint64_t)(options.timeout_ms * 1e6); now_ns() < end_ns;) {
        int busy = 0;
        for (int i = 0; i < w->count; i++)
            busy += w->conns[i].is_busy;
        if (busy == 0)
            break;
        worker_poll(w, now_ns() + SECOND / 100);
    }
    check_timeouts(w, UINT64_MAX / 2);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu[1]);
    w->cpu_s = (double)(cpu[1].tv_sec - cpu[0].tv_sec) + (double)(cpu[1].tv_nsec - cpu[0].tv_nsec) / 1e9;
    return NULL;
}

/* ---- trace ------------------------------------------------------------------------------------------------------------------------------------- */

/* Takes one CSV field off the line, in place; quotes are doubled inside quotes. */
static char *csv_field(char **line)
{
    char *from = *line, *to = from, *field = from;

    if (*from == '"') {
        for (from++; *from != '\0' && (*from != '"' || from[1] == '"'); from++) {
            from += *from == '"';
            *to++ = *from;
        }
        from += *from == '"';
    } else {
        while (*from != '\0' && *from != ',')
            *to++ = *from++;
    }
    *line = *from == ',' ? from + 1 : from;
    *to = '\0';
    return field;
}

/* ts (seconds), tool, args (a JSON object), size, cost_us, principal. Size and cost go into the arguments, where the upstream finds them. */
static void trace_load(const char *path)
{
    char line[8192], text[8192];
    FILE *f = fopen(path, "r");

    must(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL) {
        char *at = line, *ts, *tool, *args, *size, *cost;
        size_t n;
        line[strcspn(line, "\r\n")] = '\0';
        ts = csv_field(&at);
        if (*ts < '0' || *ts > '9')
            continue; /* the head line */
        tool = csv_field(&at);
        args = csv_field(&at);
        size = csv_field(&at);
        cost = csv_field(&at);
        n = strlen(args);
        if (n < 2 || args[n - 1] != '}') {
            fprintf(stderr, "load: %s: args must be a JSON object: %s\n", path, args);
            exit(2);
        }
        trace = realloc(trace, (trace_n + 1) * sizeof(*trace));
        must(trace != NULL);
        snprintf(text, sizeof(text), "%.*s%s\"size\":%s,\"cost_us\":%s}", (int)n - 1, args, n > 2 ? "," : "", size, cost);
        trace[trace_n++] = (struct event){.due_ns = (uint64_t)(atof(ts) * 1e9 / options.speed),
                                          .tool = strdup(tool),
                                          .arguments = strdup(text),
                                          .token = strdup(csv_field(&at)),
                                          .size = strtoul(size, NULL, 10)};
    }
    fclose(f);
    must(trace_n > 0);
}

/* ---- what it says -------------------------------------------------------------------------------------------------------------------------------- */

static void print_times(const struct histogram *h)
{
    printf("{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"p99.99\":%.1f,\"max\":%.1f}",
           h->total == 0 ? 0 : h->sum / (double)h->total / 1e3, (double)histogram_quantile(h, 0.5) / 1e3,
           (double)histogram_quantile(h, 0.9) / 1e3, (double)histogram_quantile(h, 0.99) / 1e3,
           (double)histogram_quantile(h, 0.999) / 1e3, (double)histogram_quantile(h, 0.9999) / 1e3, (double)h->max / 1e3);
}

static void print_series(int threads)
{
    static struct histogram sum;

    printf(",\"series\":[");
    for (int i = 0; i < workers[0].slot_count; i++) {
        unsigned ok = 0, failed = 0;
        memset(&sum, 0, sizeof(sum));
        for (int t = 0; t < threads; t++) {
            ok += workers[t].slots[i].ok;
            failed += workers[t].slots[i].failed;
            histogram_merge(&sum, workers[t].slots[i].times);
        }
        printf("%s[%.0f,%u,%u,%.1f,%.1f,%.1f]", i == 0 ? "" : ",", i * options.series_ms, ok, failed,
               (double)histogram_quantile(&sum, 0.5) / 1e3, (double)histogram_quantile(&sum, 0.99) / 1e3, (double)sum.max / 1e3);
    }
    printf("]");
}

static void print_result(int threads)
{
    static struct histogram sum;
    uint64_t ok = 0, failed = 0, hits = 0, asked = 0, late = 0, bytes = 0, failures[FAILURES] = {0}, last_ns = 0;
    double cpu_s = 0, wall_s;

    for (int t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        histogram_merge(&sum, &w->times);
        ok += w->ok;
        hits += w->hits;
        asked += w->asked;
        late += w->late;
        bytes += w->bytes;
        cpu_s += w->cpu_s;
        if (w->last_ns > last_ns)
            last_ns = w->last_ns;
        for (int i = 1; i < FAILURES; i++) {
            failures[i] += w->failures[i];
            failed += w->failures[i];
        }
    }
    wall_s = last_ns > workers[0].count_from_ns ? (double)(last_ns - workers[0].count_from_ns) / 1e9 : 0;
    printf("{\"ok\":%llu,\"failed\":%llu,\"hits\":%llu,\"asked\":%llu,\"late\":%llu,\"bytes\":%llu,\"wallSeconds\":%.4f,"
           "\"cpuSeconds\":%.4f,\"perSecond\":%.1f,\"failures\":{",
           (unsigned long long)ok, (unsigned long long)failed, (unsigned long long)hits, (unsigned long long)asked,
           (unsigned long long)late, (unsigned long long)bytes, wall_s, cpu_s, wall_s > 0 ? (double)ok / wall_s : 0);
    for (int i = 1, n = 0; i < FAILURES; i++)
        if (failures[i] > 0)
            printf("%s\"%s\":%llu", n++ > 0 ? "," : "", failure_names[i], (unsigned long long)failures[i]);
    printf("},\"latencyUs\":");
    print_times(&sum);
    if (options.series_ms > 0)
        print_series(threads);
    printf("}\n");
}

static void take_option(const char *text)
{
    const char *value = strchr(text, '=');

    for (size_t i = 0; value != NULL && i < sizeof(option_table) / sizeof(*option_table); i++) {
        if (strlen(option_table[i].name) != (size_t)(value - text) ||
            strncmp(option_table[i].name, text, (size_t)(value - text)) != 0)
            continue;
        if (option_table[i].text != NULL)
            *option_table[i].text = value + 1;
        else
            *option_table[i].number = atof(value + 1);
        return;
    }
    fprintf(stderr, "load: what is '%s'?\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    int threads;

    for (int i = 1; i < argc; i++)
        take_option(argv[i]);
    is_legacy = strcmp(options.era, "legacy") == 0;
    is_fixed_id = strcmp(options.ids, "fixed") == 0;
    is_each = strcmp(options.order, "each") == 0;
    threads = (int)options.threads;
    is_one_question = options.questions <= 1 && options.tokens <= 1 && options.write + options.list <= 0 && options.burst <= 0 &&
                      *options.trace == '\0' && !is_each;
    if (options.port <= 0 || threads < 1 || threads > THREADS_MAX || options.connections < threads || options.tools < 1 ||
        options.tokens < 1 || options.questions < 1 || options.size_max > CONTENT_MAX || options.size_min < SIZE_LEAST ||
        (options.burst > 0 && options.rate <= 0)) {
        fprintf(stderr, "load: port, connections, threads, tools, tokens, questions, size or rate is out of range\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    content_init();
    tools_bytes = content_tools(tools_text, sizeof(tools_text));
    zipf_init();
    if (*options.trace != '\0')
        trace_load(options.trace);
    must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    must(pthread_barrier_init(&barrier, NULL, (unsigned)threads) == 0);
    for (int t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        w->number = t;
        w->random = scramble((uint64_t)options.seed * 1000 + (uint64_t)t);
        w->next_id = (uint64_t)(t + 1) * FIRST_ID;
        w->count = (int)options.connections / threads;
        w->conns = calloc((size_t)w->count, sizeof(*w->conns));
        must(w->conns != NULL);
        if (options.series_ms > 0) {
            w->slot_count = (int)((options.warmup + options.seconds) * 1000 / options.series_ms) + 1;
            must(w->slot_count <= SLOTS_MAX);
            w->slots = calloc((size_t)w->slot_count, sizeof(*w->slots));
            must(w->slots != NULL);
            for (int i = 0; i < w->slot_count; i++) {
                w->slots[i].times = calloc(1, sizeof(struct histogram));
                must(w->slots[i].times != NULL);
            }
        }
        must(pthread_create(&w->thread, NULL, worker_run, w) == 0);
    }
    for (int t = 0; t < threads; t++)
        pthread_join(workers[t].thread, NULL);
    print_result(threads);
    return 0;
}
