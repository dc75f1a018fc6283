/* SPDX-License-Identifier: Apache-2.0 */
/* sidecar/upstream/upstream.c without a network: what it asks of libh2o (connect, read, write, close, keep) is answered here, by the test, on a loop whose time is
 * the test's too. The functions below take the place of libh2o's because the linker looks here first. */
#include "unit.h"

#include "fake_loop.h"
#include "sidecar/upstream/budget.h"
#include "sidecar/upstream/upstream.h"

enum { T0 = 1000000, CONNECT_MS = 5000, FIRST_BYTE_MS = 60000 };

/* ---- a network of one connection at a time --------------------------------------------------------------------------------------- */

static struct {
    unsigned connects, cancels, writes, closes, returns;
    bool is_kept; /* the next connection comes from the pool, at once */
    h2o_http1client_t *client;
    h2o_http1client_connect_cb on_connect;
    h2o_socket_t *sock;
    bool is_reading;
    char sent[4096];
    size_t sent_bytes;
    uint64_t connected_ms[8];
} net;

static h2o_loop_t *loop;

static void complete_connect(const char *err)
{
    h2o_http1client_t *client = net.client;

    assert_non_null(client);
    net.client = NULL;
    if (err == NULL) {
        client->sock = h2o_mem_alloc(sizeof(*client->sock));
        *client->sock = (h2o_socket_t){.data = NULL};
        h2o_buffer_init(&client->sock->input, &h2o_socket_buffer_prototype);
    }
    assert_null(net.on_connect(client, err, NULL, NULL, NULL));
    free(client);
}

void h2o_http1client_connect_with_pool(h2o_http1client_t **client, void *data, h2o_http1client_ctx_t *ctx, h2o_socketpool_t *pool,
                                       h2o_http1client_connect_cb cb)
{
    assert_null(net.client);
    net.connected_ms[net.connects % 8] = h2o_now(loop);
    ++net.connects;
    net.client = h2o_mem_alloc(sizeof(*net.client));
    *net.client = (h2o_http1client_t){.ctx = ctx, .sockpool = {.pool = pool}, .data = data};
    net.on_connect = cb;
    *client = net.client;
    if (net.is_kept) {
        net.is_kept = false;
        complete_connect(NULL);
    }
}

void h2o_http1client_cancel(h2o_http1client_t *client)
{
    assert_ptr_equal(client, net.client);
    net.client = NULL;
    ++net.cancels;
    free(client);
}

h2o_socket_t *h2o_http1client_steal_socket(h2o_http1client_t *client)
{
    assert_null(net.sock);
    net.sock = client->sock;
    return net.sock;
}

void h2o_socket_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    sock->_cb.read = cb;
    net.is_reading = true;
}

void h2o_socket_read_stop(h2o_socket_t *sock)
{
    sock->_cb.read = NULL;
    net.is_reading = false;
}

void h2o_socket_write(h2o_socket_t *sock, h2o_iovec_t *bufs, size_t count, h2o_socket_cb cb)
{
    ++net.writes;
    for (size_t i = 0; i != count; ++i) {
        assert_true(net.sent_bytes + bufs[i].len <= sizeof(net.sent));
        memcpy(net.sent + net.sent_bytes, bufs[i].base, bufs[i].len);
        net.sent_bytes += bufs[i].len;
    }
    cb(sock, NULL);
}

static void drop(h2o_socket_t *sock)
{
    assert_ptr_equal(sock, net.sock);
    net.sock = NULL;
    h2o_buffer_dispose(&sock->input);
    free(sock);
}

void h2o_socket_close(h2o_socket_t *sock)
{
    ++net.closes;
    drop(sock);
}

int h2o_socketpool_return(h2o_socketpool_t *pool, h2o_socket_t *sock)
{
    (void)pool;
    ++net.returns;
    drop(sock);
    return 0;
}

/* The pool looks after its connections every now and then; that is not what is to be seen here. */
void h2o_socketpool_set_timeout(h2o_socketpool_t *pool, h2o_loop_t *of_pool, uint64_t ms)
{
    (void)pool;
    (void)of_pool;
    (void)ms;
}

static void feed(const char *text)
{
    size_t n = strlen(text);

    assert_true(net.is_reading);
    assert_true(h2o_buffer_reserve(&net.sock->input, n).len >= n);
    memcpy(net.sock->input->bytes + net.sock->input->size, text, n);
    net.sock->input->size += n;
    net.sock->_cb.read(net.sock, NULL);
}

static void hang_up(void)
{
    net.sock->_cb.read(net.sock, h2o_socket_error_closed);
}

/* ---- one call -------------------------------------------------------------------------------------------------------------------- */

static h2o_context_t context;
static struct upstream_url url;
static struct budget_retries retries;
static struct upstream *u;

static struct seen {
    struct upstream_call *call;
    int heads, status, ends;
    enum upstream_end how;
    uint64_t ended_ms;
    size_t body_bytes;
} seen;

static void on_head(void *data, const struct upstream_head *head)
{
    struct seen *s = data;

    ++s->heads;
    s->status = head->status;
}

static void on_body(void *data, struct span bytes)
{
    ((struct seen *)data)->body_bytes += bytes.n;
}

static void on_end(void *data, enum upstream_end how)
{
    struct seen *s = data;

    s->call = NULL;
    ++s->ends;
    s->how = how;
    s->ended_ms = h2o_now(loop);
}

static const struct upstream_callbacks callbacks = {on_head, on_body, on_end};

static void open_with(const char *text, struct budget_retries *budget)
{
    struct cp_error error = {.text = ""};
    struct upstream_options options = {
        .url = &url,
        .connect_timeout_ms = CONNECT_MS,
        .first_byte_timeout_ms = FIRST_BYTE_MS,
        .keepalive_ms = 4000,
        .retries = budget,
    };

    assert_int_equal(upstream_url_parse(text, &url, &error), 0);
    u = upstream_new(&options, &context);
}

static int open_upstream(void **state)
{
    (void)state;
    memset(&net, 0, sizeof(net));
    memset(&seen, 0, sizeof(seen));
    loop = fake_loop_new(T0);
    context = (h2o_context_t){.loop = loop};
    budget_retries_init(&retries);
    open_with("http://127.0.0.1:1/mcp", &retries);
    return 0;
}

static void close_room(void)
{
    upstream_free(u);
    upstream_url_done(&url);
}

static int close_upstream(void **state)
{
    (void)state;
    assert_null(net.client);
    assert_null(net.sock);
    close_room();
    h2o_evloop_destroy(loop);
    return 0;
}

static void begin(struct upstream_request request)
{
    struct upstream_call *call;

    request.head = strdup("POST /mcp HTTP/1.1\r\n\r\n");
    request.head_bytes = strlen(request.head);
    seen = (struct seen){.ends = 0};
    if ((call = upstream_call_start(u, &request, &callbacks, &seen)) != NULL)
        seen.call = call;
    assert_null(request.head);
}

static void assert_ended(enum upstream_end how)
{
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.how, how);
}

static void run(uint64_t ms)
{
    fake_loop_run(loop, h2o_now(loop) + ms);
}

static const struct upstream_request plain = {.is_head = false}, retried = {.may_retry_connect = true};

#define WHOLE "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void a_call_ends_with_its_reply(void **state)
{
    (void)state;
    begin(plain);
    complete_connect(NULL);
    assert_int_equal(net.writes, 1);
    feed(WHOLE);
    assert_ended(UPSTREAM_COMPLETE);
    assert_int_equal(seen.body_bytes, 2);
    assert_int_equal(net.returns, 1);
}

/* ---- trying again to connect ----------------------------------------------------------------------------------------------------- */

static void without_leave_a_failed_connect_is_the_end(void **state)
{
    (void)state;
    begin(plain);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    run(1000);
    assert_int_equal(net.connects, 1);
}

static void leave_to_send_again_is_no_leave_to_connect_again(void **state)
{
    (void)state;
    begin((struct upstream_request){.may_repeat = true});
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
}

static void with_leave_it_is_tried_once_more(void **state)
{
    (void)state;
    begin(retried);
    complete_connect("connection failed");
    assert_int_equal(seen.ends, 0);
    run(74);
    assert_int_equal(net.connects, 1);
    run(51);
    assert_int_equal(net.connects, 2);
    complete_connect(NULL);
    assert_int_equal(net.writes, 1);
    feed(WHOLE);
    assert_ended(UPSTREAM_COMPLETE);
    assert_true(fake_loop_is_idle(loop));
}

static void and_not_twice(void **state)
{
    (void)state;
    begin(retried);
    complete_connect("connection failed");
    run(125);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    run(1000);
    assert_int_equal(net.connects, 2);
}

static void tries_are_spread(void **state)
{
    uint64_t earliest = UINT64_MAX, latest = 0;

    (void)state;
    for (int i = 0; i != 200; ++i) {
        uint64_t began_ms = h2o_now(loop), wait_ms;

        budget_retries_init(&retries);
        begin(retried);
        complete_connect("connection failed");
        run(200);
        wait_ms = net.connected_ms[(net.connects - 1) % 8] - began_ms;
        assert_in_range(wait_ms, 75, 125);
        earliest = wait_ms < earliest ? wait_ms : earliest;
        latest = wait_ms > latest ? wait_ms : latest;
        complete_connect("connection failed");
    }
    assert_true(latest - earliest > 30);
}

static void what_was_sent_is_not_sent_again(void **state)
{
    (void)state;
    begin(retried);
    complete_connect(NULL);
    hang_up();
    assert_ended(UPSTREAM_RESET);
    run(1000);
    assert_int_equal(net.connects, 1);
    assert_int_equal(net.writes, 1);
}

static void a_write_on_a_kept_connection_that_is_dead_is_not_sent_again(void **state)
{
    (void)state;
    net.is_kept = true;
    begin(plain);
    assert_int_equal(net.writes, 1);
    hang_up();
    assert_ended(UPSTREAM_RESET);
    assert_int_equal(net.connects, 1);
    /* a read is */
    net.is_kept = true;
    begin((struct upstream_request){.may_repeat = true});
    hang_up();
    assert_int_equal(seen.ends, 0);
    assert_int_equal(net.connects, 3);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
}

static void the_budget_says_how_many(void **state)
{
    (void)state;
    for (int i = 0; i != BUDGET_RETRIES_START; ++i) {
        begin(retried);
        complete_connect("connection failed");
        run(125);
        complete_connect("connection failed");
        assert_ended(UPSTREAM_CONNECT);
    }
    begin(retried);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    /* calls of any kind pay for the next; four have done so already */
    for (int i = 0; i != 10 - BUDGET_RETRIES_START - 1; ++i) {
        begin(plain);
        complete_connect("connection failed");
    }
    assert_true(budget_retries_take(&retries));
    assert_false(budget_retries_take(&retries));
}

static void without_a_budget_nothing_is_tried_again(void **state)
{
    (void)state;
    close_room();
    open_with("http://127.0.0.1:1/mcp", NULL);
    begin(retried);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
}

static void both_tries_share_the_connect_timeout(void **state)
{
    (void)state;
    begin(retried);
    run(3000);
    complete_connect("connection failed");
    run(125);
    assert_int_equal(net.connects, 2);
    run(CONNECT_MS - 3126);
    assert_int_equal(seen.ends, 0);
    run(1);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(seen.ended_ms, T0 + CONNECT_MS);
    assert_int_equal(net.cancels, 1);
}

static void when_it_is_used_up_nothing_is_tried_again(void **state)
{
    (void)state;
    begin(retried);
    run(CONNECT_MS - 75);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    begin(retried);
    run(CONNECT_MS);
    complete_connect("connection timeout");
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(net.connects, 2);
}

static void a_connection_once_made_has_no_more_connect_timeout(void **state)
{
    (void)state;
    begin(retried);
    complete_connect("connection failed");
    run(125);
    complete_connect(NULL);
    run(FIRST_BYTE_MS - 1);
    assert_int_equal(seen.ends, 0);
    feed(WHOLE);
    assert_ended(UPSTREAM_COMPLETE);
}

static void nothing_is_tried_again_that_would_begin_after_the_deadline(void **state)
{
    (void)state;
    begin((struct upstream_request){.may_retry_connect = true, .deadline_ms = 75});
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    begin((struct upstream_request){.may_retry_connect = true, .deadline_ms = 126});
    complete_connect("connection failed");
    run(125);
    assert_int_equal(net.connects, 3);
    run(1);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(net.cancels, 1);
}

static void whoever_leaves_while_it_waits_hears_nothing_more(void **state)
{
    (void)state;
    begin(retried);
    complete_connect("connection failed");
    run(50);
    upstream_call_cancel(seen.call);
    assert_true(fake_loop_is_idle(loop));
    run(1000);
    assert_int_equal(seen.ends, 0);
    assert_int_equal(net.connects, 1);
    begin(retried);
    complete_connect("connection failed");
    run(125);
    upstream_call_cancel(seen.call);
    assert_int_equal(net.cancels, 1);
    assert_true(fake_loop_is_idle(loop));
    assert_int_equal(seen.ends, 0);
}

static void pause_hurry_and_resume_do_nothing_while_it_waits(void **state)
{
    (void)state;
    begin(retried);
    complete_connect("connection failed");
    upstream_call_pause(seen.call);
    upstream_call_resume(seen.call);
    upstream_call_hurry(seen.call);
    run(125);
    complete_connect(NULL);
    feed(WHOLE);
    assert_ended(UPSTREAM_COMPLETE);
}

static void both_addresses_of_localhost_are_tried_each_time(void **state)
{
    (void)state;
    close_room();
    open_with("http://localhost:1/mcp", &retries);
    begin(retried);
    complete_connect("connection failed");
    assert_int_equal(net.connects, 2);
    complete_connect("connection failed");
    assert_int_equal(seen.ends, 0);
    run(125);
    assert_int_equal(net.connects, 3);
    complete_connect("connection failed");
    assert_int_equal(net.connects, 4);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    /* the limit of both tries holds for the second address, too */
    begin(retried);
    complete_connect("connection failed");
    complete_connect("connection failed");
    run(125);
    complete_connect("connection failed");
    run(CONNECT_MS - 125);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(net.cancels, 1);
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------------------- */

static const struct upstream_request hurried = {.deadline_ms = 1500}, patient = {.deadline_ms = 1500, .is_patient = true};

static void it_ends_a_call_that_connects(void **state)
{
    (void)state;
    begin(hurried);
    run(1499);
    assert_int_equal(seen.ends, 0);
    run(1);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(net.cancels, 1);
}

static void it_ends_a_call_that_waits_for_its_head(void **state)
{
    (void)state;
    begin(hurried);
    run(1000);
    complete_connect(NULL);
    run(499);
    assert_int_equal(seen.ends, 0);
    run(1);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(seen.heads, 0);
    assert_int_equal(net.closes, 1);
    assert_true(fake_loop_is_idle(loop));
}

static void it_ends_a_patient_one_too(void **state)
{
    (void)state;
    begin(patient);
    complete_connect(NULL);
    run(1500);
    assert_ended(UPSTREAM_TIMEOUT);
}

static void it_ends_a_call_in_the_middle_of_its_body(void **state)
{
    (void)state;
    begin(hurried);
    complete_connect(NULL);
    feed("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
    /* however alive it looks */
    for (int i = 0; i != 14; ++i) {
        run(100);
        feed("x");
    }
    assert_int_equal(seen.ends, 0);
    run(100);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(seen.heads, 1);
    assert_int_equal(seen.ended_ms, T0 + 1500);
    assert_int_equal(net.closes, 1);
    assert_int_equal(net.returns, 0);
}

static void it_ends_a_call_that_is_paused(void **state)
{
    (void)state;
    begin(hurried);
    complete_connect(NULL);
    feed("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
    upstream_call_pause(seen.call);
    run(1500);
    assert_ended(UPSTREAM_TIMEOUT);
}

static void it_leaves_what_is_done_alone(void **state)
{
    (void)state;
    begin(hurried);
    complete_connect(NULL);
    run(1499);
    feed(WHOLE);
    assert_ended(UPSTREAM_COMPLETE);
    assert_true(fake_loop_is_idle(loop));
    begin(hurried);
    complete_connect("connection failed");
    assert_ended(UPSTREAM_CONNECT);
    begin(hurried);
    upstream_call_cancel(seen.call);
    assert_true(fake_loop_is_idle(loop));
}

static void it_does_not_make_other_timeouts_longer(void **state)
{
    (void)state;
    begin((struct upstream_request){.deadline_ms = 2 * FIRST_BYTE_MS});
    complete_connect(NULL);
    run(FIRST_BYTE_MS);
    assert_ended(UPSTREAM_TIMEOUT);
    assert_int_equal(seen.ended_ms, T0 + FIRST_BYTE_MS);
}

static void without_one_nothing_ticks(void **state)
{
    (void)state;
    begin((struct upstream_request){.is_patient = true});
    complete_connect(NULL);
    assert_true(fake_loop_is_idle(loop));
    assert_int_equal(fake_loop_run(loop, T0 + 100000000), 0);
    upstream_call_cancel(seen.call);
}

static void it_can_be_moved_and_taken_away(void **state)
{
    (void)state;
    begin(patient);
    complete_connect(NULL);
    run(1000);
    upstream_call_set_deadline(seen.call, 3000);
    run(2999);
    assert_int_equal(seen.ends, 0);
    upstream_call_set_deadline(seen.call, 0);
    assert_true(fake_loop_is_idle(loop));
    run(100000);
    assert_int_equal(seen.ends, 0);
    upstream_call_set_deadline(seen.call, 10);
    run(10);
    assert_ended(UPSTREAM_TIMEOUT);
}

/* ---- blame ----------------------------------------------------------------------------------------------------------------------- */

static void blame_is_divided(void **state)
{
    static const struct {
        enum upstream_end how;
        int status;
        enum breaker_result upstream, call;
    } cases[] = {
        {UPSTREAM_COMPLETE, 200, BREAKER_GOOD, BREAKER_GOOD},    {UPSTREAM_COMPLETE, 404, BREAKER_GOOD, BREAKER_GOOD},
        {UPSTREAM_COMPLETE, 500, BREAKER_GOOD, BREAKER_FAILED},  {UPSTREAM_COMPLETE, 501, BREAKER_GOOD, BREAKER_GOOD},
        {UPSTREAM_SURPLUS, 200, BREAKER_GOOD, BREAKER_GOOD},     {UPSTREAM_SURPLUS, 503, BREAKER_GOOD, BREAKER_FAILED},
        {UPSTREAM_TRUNCATED, 200, BREAKER_GOOD, BREAKER_FAILED}, {UPSTREAM_TIMEOUT, 200, BREAKER_GOOD, BREAKER_FAILED},
        {UPSTREAM_TIMEOUT, 0, BREAKER_UNKNOWN, BREAKER_FAILED},  {UPSTREAM_RESET, 0, BREAKER_UNKNOWN, BREAKER_FAILED},
        {UPSTREAM_CONNECT, 0, BREAKER_FAILED, BREAKER_FAILED},
    };

    (void)state;
    for (size_t i = 0; i != sizeof(cases) / sizeof(cases[0]); ++i) {
        enum breaker_result upstream, call;

        upstream_results(cases[i].how, cases[i].status, &upstream, &call);
        if (upstream != cases[i].upstream || call != cases[i].call)
            fail_msg("case %zu", i);
    }
}

#define FRESH(test_) cmocka_unit_test_setup_teardown(test_, open_upstream, close_upstream)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(a_call_ends_with_its_reply),
        FRESH(without_leave_a_failed_connect_is_the_end),
        FRESH(leave_to_send_again_is_no_leave_to_connect_again),
        FRESH(with_leave_it_is_tried_once_more),
        FRESH(and_not_twice),
        FRESH(tries_are_spread),
        FRESH(what_was_sent_is_not_sent_again),
        FRESH(a_write_on_a_kept_connection_that_is_dead_is_not_sent_again),
        FRESH(the_budget_says_how_many),
        FRESH(without_a_budget_nothing_is_tried_again),
        FRESH(both_tries_share_the_connect_timeout),
        FRESH(when_it_is_used_up_nothing_is_tried_again),
        FRESH(a_connection_once_made_has_no_more_connect_timeout),
        FRESH(nothing_is_tried_again_that_would_begin_after_the_deadline),
        FRESH(whoever_leaves_while_it_waits_hears_nothing_more),
        FRESH(pause_hurry_and_resume_do_nothing_while_it_waits),
        FRESH(both_addresses_of_localhost_are_tried_each_time),
        FRESH(it_ends_a_call_that_connects),
        FRESH(it_ends_a_call_that_waits_for_its_head),
        FRESH(it_ends_a_patient_one_too),
        FRESH(it_ends_a_call_in_the_middle_of_its_body),
        FRESH(it_ends_a_call_that_is_paused),
        FRESH(it_leaves_what_is_done_alone),
        FRESH(it_does_not_make_other_timeouts_longer),
        FRESH(without_one_nothing_ticks),
        FRESH(it_can_be_moved_and_taken_away),
        FRESH(blame_is_divided),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
