/* SPDX-License-Identifier: Apache-2.0 */
/* The load of the benchmark: asks an MCP endpoint over many connections on few threads, and counts an answer only when it is right: HTTP 200, the own id, no error, and the
 * text that the question has (content.h), to the byte. All else is a failure, and said to be one.
 *
 * Closed loop (rate=0): each connection asks again when it has its answer. Open loop: requests are due at fixed distances (or, poisson=1, at random ones), whatever became of
 * those before; a time counts from when its request was due, so that whoever stalls is charged for all that waited.
 *
 * Arguments are NAME=VALUE, all in options.c; what is asked:
 *   question n of `questions`, n drawn by Zipf's law (zipf=0: all alike) or, order=each, each once: tool get_(n % tools), arguments {"key":"n","size":S}, S by n, spread evenly
 *   over the magnitudes from size_min to size_max. write=SHARE of the requests are put_*, list=SHARE are tools/list. tokens=N callers, one for each request in turn; private=1:
 *   tools my_*, whose answers are the caller's own. burst=N: N at once ask for the same new thing, then comes the next. trace=FILE: a CSV file says what, when and who.
 * The first `warmup` seconds are asked and verified, and not counted. One line of JSON on stdout. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "answer.h"
#include "histogram.h"
#include "options.h"
#include "question.h"

#define REQUEST_MAX 16384
#define EVENTS      128
#define THREADS_MAX 8
#define SLOTS_MAX   1200
#define TOLD_MAX    3
#define ID_DIGITS   12
#define FIRST_ID    100000000000ull /* of the first thread; the next begins at twice that */

enum phase { PHASE_NONE, PHASE_OPENING, PHASE_READY };

struct conn {
    int fd, is_busy, is_writing;
    enum phase phase;
    uint64_t id, due_ns, sent_ns;
    struct question asked;
    /* Ids are equally long, so a request that is asked again, which is what a hot key is, takes a new id and is otherwise as it was. */
    size_t request_bytes, sent;
    char *id_at; /* NULL: to be made anew */
    char request[REQUEST_MAX];
    struct answer answer;
    struct conn *next_idle;
};

struct slot {
    uint32_t ok, failed;
    struct histogram *times;
};

struct worker {
    pthread_t thread;
    int epoll_fd, count, told, is_over, slot_count;
    struct conn *conns, *idle;
    struct drawer drawer; /* also counts what was asked, while warming up, too */
    uint64_t next_id, begin_ns, count_from_ns, stop_ns, next_due_ns;
    uint64_t ok, bytes, hits, late;
    uint64_t failures[FAILURES];
    uint64_t last_ns;
    double cpu_s;
    struct histogram times;
    struct slot *slots;
};

static struct worker workers[THREADS_MAX];
static int is_legacy, is_fixed_id, is_one_question;
static pthread_barrier_t barrier;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* ---- requests ---- */

static void request_make(struct conn *c)
{
    const struct question *q = &c->asked;
    char body[REQUEST_MAX / 2], era[256];
    size_t body_bytes = question_body(q, c->id, body, sizeof(body));
    int n;

    if (!is_legacy)
        snprintf(era, sizeof(era), "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: %s\r\n%s%s%s%s",
                 q->kind == KIND_LIST ? "tools/list" : "tools/call", q->kind == KIND_CALL ? "Mcp-Name: " : "",
                 q->kind == KIND_CALL ? options.prefix : "", q->kind == KIND_CALL ? q->tool : "",
                 q->kind == KIND_CALL ? "\r\n" : "");
    else
        snprintf(era, sizeof(era), "%s%s%s%s", q->kind == KIND_INITIALIZE ? "" : "MCP-Protocol-Version: 2025-11-25\r\n",
                 *c->answer.session ? "Mcp-Session-Id: " : "", c->answer.session, *c->answer.session ? "\r\n" : "");
    n = snprintf(c->request, REQUEST_MAX,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: application/json, "
                 "text/event-stream\r\nAuthorization: Bearer "
                 "%s\r\n%sContent-Length: %zu\r\n\r\n",
                 options.path, (int)options.port, q->token, era, body_bytes);
    must(n > 0 && (size_t)n + body_bytes < REQUEST_MAX);
    memcpy(c->request + n, body, body_bytes);
    c->request_bytes = (size_t)n + body_bytes;
    c->id_at = is_fixed_id || q->kind != KIND_CALL ? NULL : memmem(c->request + n, body_bytes, "\"id\":", 5);
}

static void request_again(struct conn *c)
{
    char *to = c->id_at + 5 + ID_DIGITS;

    for (uint64_t id = c->id; to > c->id_at + 5; id /= 10)
        *--to = (char)('0' + id % 10);
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
            w->bytes += c->answer.body_end - c->answer.head;
            w->hits += (uint64_t)c->answer.is_hit;
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
        fprintf(stderr, "load: got %.*s\n", (int)(c->answer.have < 1200 ? c->answer.have : 1200), c->answer.bytes);
    }
    if ((failure != FAIL_NONE && failure < FAIL_STATUS) || c->answer.must_close)
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
    answer_begin(&c->answer);
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

static void conn_ask(struct worker *w, struct conn *c, uint64_t due_ns)
{
    uint64_t number;
    int is_same;

    if (w->is_over || !drawer_next(&w->drawer, &number)) {
        w->is_over = 1;
        return;
    }
    is_same = is_one_question && c->request_bytes > 0 && c->asked.kind == KIND_CALL;
    if (!is_same)
        question_make(&w->drawer, &c->asked, number);
    w->drawer.asked++;
    c->due_ns = due_ns;
    conn_send(w, c, is_same);
}

/* The next that this connection does, having nothing to wait for any more. */
static void conn_next(struct worker *w, struct conn *c, uint64_t now)
{
    if (c->phase == PHASE_OPENING || (options.rate > 0 || trace_is_on() || options.burst > 0) || now >= w->stop_ns || w->is_over) {
        conn_idle(w, c);
        return;
    }
    conn_ask(w, c, 0);
}

static void conn_fail(struct worker *w, struct conn *c, enum failure failure)
{
    if (c->phase == PHASE_OPENING) {
        fprintf(stderr, "load: cannot open a session: %s\n%.*s\n", failure_names[failure], (int)c->answer.have, c->answer.bytes);
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

    if (c->answer.have == c->answer.size)
        answer_grow(&c->answer);
    got = read(c->fd, c->answer.bytes + c->answer.have, c->answer.size - c->answer.have);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        if (c->is_busy)
            conn_fail(w, c, FAIL_CLOSED);
        else
            conn_close(c); /* it was idle, and will be opened anew */
        return;
    }
    c->answer.have += (size_t)got;
    c->answer.bytes[c->answer.have] = '\0';
    step = c->is_busy ? answer_step(&c->answer) : -1;
    if (step == 0)
        return;
    if (step < 0) {
        conn_fail(w, c, FAIL_HTTP);
        return;
    }
    failure = answer_check(&c->answer, &c->asked, c->id);
    if (c->phase == PHASE_OPENING) {
        c->is_busy = 0;
        if (failure != FAIL_NONE)
            conn_fail(w, c, failure);
        if (c->answer.must_close)
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
        answer_new(&c->answer);
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

    if (trace_is_on()) {
        uint64_t after_ns = trace_due_ns(&w->drawer);
        return after_ns == UINT64_MAX ? after_ns : w->begin_ns + after_ns;
    }
    if (options.burst > 0) /* rate: of bursts */
        return w->drawer.drawn % (uint64_t)options.burst != 0 ? due_ns : due_ns + (uint64_t)distance;
    if (options.poisson > 0)
        distance *= -log1p(-drawer_chance(&w->drawer));
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
    w->next_due_ns = trace_is_on() ? due_after(w, 0) : w->begin_ns + (uint64_t)((double)SECOND * w->drawer.number / options.rate);
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
    if (options.rate > 0 || trace_is_on())
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
        asked += w->drawer.asked;
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

int main(int argc, char **argv)
{
    int threads;

    options_take(argc, argv);
    is_legacy = options_is_legacy();
    is_fixed_id = options_is_fixed_id();
    threads = (int)options.threads;
    is_one_question = options_is_one_question();
    signal(SIGPIPE, SIG_IGN);
    questions_init();
    raise_descriptors();
    must(pthread_barrier_init(&barrier, NULL, (unsigned)threads) == 0);
    for (int t = 0; t < threads; t++) {
        struct worker *w = &workers[t];
        drawer_seed(&w->drawer, t);
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
