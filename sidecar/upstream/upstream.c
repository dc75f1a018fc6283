/* SPDX-License-Identifier: Apache-2.0 */
/* The server behind us. Connections come from libh2o (pool, resolver, TLS); replies are read by wire/http_reply.c.
 * Not here: what is sent and what becomes of the reply (flow/exchange.c).
 * Always: a connection goes back to the pool only when its reply was whole and nothing followed it, so no reply can reach another caller; a call whose
 * bytes may have reached the upstream is sent again only when it is a read, the connection was a kept one and no byte came back. Connecting is tried once more
 * only for who allows it, and within the same time.
 * Thread: the loop. */
#include "sidecar/upstream/upstream.h"

#include "cachepolicy/mutant.h"
#include "sidecar/upstream/alarm.h"
#include "sidecar/upstream/budget.h"
#include "sidecar/wire/http_reply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define ATTEMPTS_MAX 3

/* Before connecting is tried again: long enough for a server that restarts its listener, spread so that those who failed together do not come back together. */
#define RETRY_MIN_MS    75
#define RETRY_SPREAD_MS 50

enum phase {
    PHASE_CONNECT,
    PHASE_REPLY,
    PHASE_FOREVER, /* no timeout: streams may be silent for as long as client and upstream like */
};

struct upstream {
    const struct upstream_url *url;
    h2o_context_t *ctx;
    h2o_timeout_t timeouts[PHASE_FOREVER];
    h2o_http1client_ctx_t connecting;
    h2o_socketpool_t pools[2]; /* two for "localhost" (IPv4, IPv6), else one */
    size_t pool_count;
    size_t preferred_pool; /* the one that last connected */
    struct alarms alarms;
    struct budget_retries *retries;
};

struct upstream_call {
    struct upstream *u;
    const struct upstream_callbacks *callbacks;
    void *data;
    h2o_http1client_t *client; /* while connecting */
    h2o_socket_t *sock;        /* afterwards */
    struct upstream_request request;
    h2o_iovec_t bufs[2];
    h2o_timeout_entry_t timeout;
    struct alarm deadline;
    struct alarm retry; /* rings first to connect again, then when that took too long */
    uint64_t connecting_since_ms;
    struct http_body body;
    size_t pool; /* index of the pool tried */
    size_t pools_tried;
    unsigned attempts; /* of sending */
    bool is_starting, is_reused, is_sent, saw_bytes, keeps_alive, is_paused, is_hurried, has_retried;
    bool in_callback; /* cancel only marks then */
    bool is_cancelled;
    bool *freed; /* set when the call goes while its starter still looks at it */
};

static bool has_control_byte(const char *text)
{
    for (; *text != '\0'; ++text)
        if ((unsigned char)*text <= ' ' || *text == 0x7f)
            return true;
    return false;
}

int upstream_url_parse(const char *text, struct upstream_url *ret, struct cp_error *reterr)
{
    const char *p, *path, *port, *end;
    unsigned long number;
    char *copy;

    *ret = (struct upstream_url){0};
    if (*text == '\0') {
        cp_error_set(reterr, "", 0, 0, "--upstream is missing: name the MCP server, like --upstream http://127.0.0.1:3000/mcp");
        return -EINVAL;
    }
    if ((copy = strdup(text)) == NULL)
        return -ENOMEM;
    if (strncmp(copy, "http://", 7) == 0) {
        p = copy + 7;
        ret->port = 80;
    } else if (strncmp(copy, "https://", 8) == 0) {
        p = copy + 8;
        ret->port = 443;
        ret->is_tls = true;
    } else {
        cp_error_set(reterr, "", 0, 0, "--upstream '%.160s' does not begin with http:// or https://", text);
        goto bad;
    }
    if (strpbrk(p, "?#@") != NULL || has_control_byte(p)) {
        cp_error_set(
            reterr, "", 0, 0,
            "--upstream '%.160s' may have no user, query, fragment, blank or control byte: give it as http://host:port/path", text);
        goto bad;
    }
    path = strchr(p, '/');
    end = path != NULL ? path : p + strlen(p);
    ret->path = path != NULL ? span_of(path) : SPAN("/");
    ret->authority = (struct span){p, (size_t)(end - p)};
    if (*p == '[') {
        const char *bracket = memchr(p, ']', (size_t)(end - p));

        if (bracket == NULL) {
            cp_error_set(reterr, "", 0, 0, "--upstream '%.160s' has an IPv6 address without its ']'", text);
            goto bad;
        }
        ret->host = (struct span){p + 1, (size_t)(bracket - p - 1)};
        port = bracket + 1 < end ? bracket + 1 : NULL;
    } else {
        port = memchr(p, ':', (size_t)(end - p));
        ret->host = (struct span){p, (size_t)((port != NULL ? port : end) - p)};
    }
    if (ret->host.n == 0 || ret->host.n > 253) {
        cp_error_set(reterr, "", 0, 0, "--upstream '%.160s' names no host: give it as http://host:port/path", text);
        goto bad;
    }
    if (port != NULL) {
        char *rest;

        errno = 0;
        number = *port == ':' ? strtoul(port + 1, &rest, 10) : 0;
        if (*port != ':' || errno != 0 || rest != end || number < 1 || number > 65535 || port[1] < '0' || port[1] > '9') {
            cp_error_set(reterr, "", 0, 0, "--upstream '%.160s' has no usable port (1 to 65535)", text);
            goto bad;
        }
        ret->port = (uint16_t)number;
    }
    ret->text = copy;
    return 0;
bad:
    free(copy);
    *ret = (struct upstream_url){0};
    return -EINVAL;
}

void upstream_url_done(struct upstream_url *url)
{
    free(url->text);
    *url = (struct upstream_url){0};
}

/* libh2o compares the host name only when its last handshake call left nothing to send, which in TLS 1.3 is never: OpenSSL must do it. */
static bool expect_host(SSL_CTX *tls, struct span host)
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(tls);
    char text[256];

    if (host.n >= sizeof(text))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (X509_VERIFY_PARAM_set1_ip_asc(param, text) == 1)
        return true;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, text, host.n) == 1;
}

int upstream_tls_new(const struct upstream_url *url, const char *ca_file, SSL_CTX **ret, struct cp_error *reterr)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());

    if (tls == NULL || !expect_host(tls, url->host)) {
        cp_error_set(reterr, "", 0, 0, "OpenSSL gives no TLS client; is its configuration readable?");
        SSL_CTX_free(tls);
        return -EINVAL;
    }
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    if (*ca_file != '\0' ? SSL_CTX_load_verify_locations(tls, ca_file, NULL) != 1 : SSL_CTX_set_default_verify_paths(tls) != 1) {
        cp_error_set(reterr, "", 0, 0, "--upstream-ca '%s' cannot be read as PEM certificates; name a file that holds at least one",
                     ca_file);
        SSL_CTX_free(tls);
        return -EINVAL;
    }
    *ret = tls;
    return 0;
}

static void init_pools(struct upstream *u)
{
    const struct upstream_url *url = u->url;
    h2o_iovec_t host = h2o_iovec_init(url->host.p, url->host.n);

    if (span_ieq(url->host, SPAN("localhost"))) {
        /* libh2o picks one address of a name at random; for localhost that is wrong half of the time */
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(url->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(url->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};

        h2o_socketpool_init_by_address(&u->pools[0], (void *)&v4, sizeof(v4), url->is_tls, SIZE_MAX);
        h2o_socketpool_init_by_address(&u->pools[1], (void *)&v6, sizeof(v6), url->is_tls, SIZE_MAX);
        u->pool_count = 2;
        /* the name, not the address, is what the certificate must be for */
        for (size_t i = 0; i != 2; ++i) {
            free(u->pools[i].peer.host.base);
            u->pools[i].peer.host = h2o_strdup(NULL, host.base, host.len);
        }
    } else {
        h2o_socketpool_init_by_hostport(&u->pools[0], host, url->port, url->is_tls, SIZE_MAX);
        u->pool_count = 1;
    }
}

struct upstream *upstream_new(const struct upstream_options *options, h2o_context_t *ctx)
{
    struct upstream *u = h2o_mem_alloc(sizeof(*u));

    *u = (struct upstream){.url = options->url, .ctx = ctx, .retries = options->retries};
    alarms_init(&u->alarms, ctx->loop);
    h2o_timeout_init(ctx->loop, &u->timeouts[PHASE_CONNECT], (uint64_t)options->connect_timeout_ms);
    h2o_timeout_init(ctx->loop, &u->timeouts[PHASE_REPLY], (uint64_t)options->first_byte_timeout_ms);
    u->connecting = (h2o_http1client_ctx_t){
        .loop = ctx->loop,
        .getaddr_receiver = &ctx->receivers.hostinfo_getaddr,
        .io_timeout = &u->timeouts[PHASE_CONNECT],
        .ssl_ctx = options->tls,
    };
    init_pools(u);
    for (size_t i = 0; i != u->pool_count; ++i)
        h2o_socketpool_set_timeout(&u->pools[i], ctx->loop, (uint64_t)options->keepalive_ms);
    return u;
}

void upstream_free(struct upstream *u)
{
    if (u == NULL)
        return;
    for (size_t i = 0; i != u->pool_count; ++i)
        h2o_socketpool_dispose(&u->pools[i]);
    for (size_t i = 0; i != PHASE_FOREVER; ++i)
        h2o_timeout_dispose(u->ctx->loop, &u->timeouts[i]);
    alarms_done(&u->alarms);
    free(u);
}

static void free_call(struct upstream_call *call)
{
    if (call->freed != NULL)
        *call->freed = true;
    h2o_timeout_unlink(&call->timeout);
    alarm_clear(&call->u->alarms, &call->deadline);
    alarm_clear(&call->u->alarms, &call->retry);
    free(call->request.head);
    free(call);
}

/* The connection is done with: kept for the next call when the reply left it in a known state, else closed. */
static void give_back(struct upstream_call *call, bool is_reusable)
{
    h2o_socket_t *sock = call->sock;

    if (sock == NULL)
        return;
    call->sock = NULL;
    h2o_socket_read_stop(sock);
    if (is_reusable && call->is_sent && sock->input->size == 0)
        h2o_socketpool_return(&call->u->pools[call->pool], sock);
    else
        h2o_socket_close(sock);
}

static void stop_connecting(struct upstream_call *call)
{
    if (call->client != NULL)
        h2o_http1client_cancel(call->client);
    call->client = NULL;
}

/* The last word; the call is gone afterwards. */
static void end(struct upstream_call *call, enum upstream_end how, bool is_reusable)
{
    stop_connecting(call);
    give_back(call, is_reusable);
    h2o_timeout_unlink(&call->timeout);
    alarm_clear(&call->u->alarms, &call->deadline);
    alarm_clear(&call->u->alarms, &call->retry);
    call->callbacks->on_end(call->data, how);
    free_call(call);
}

static void set_timeout(struct upstream_call *call, enum phase phase)
{
    h2o_timeout_unlink(&call->timeout);
    if (phase != PHASE_FOREVER)
        h2o_timeout_link(call->u->ctx->loop, &call->u->timeouts[phase], &call->timeout);
}

static void on_timeout(h2o_timeout_entry_t *entry)
{
    end(H2O_STRUCT_FROM_MEMBER(struct upstream_call, timeout, entry), UPSTREAM_TIMEOUT, false);
}

static void start(struct upstream_call *call);

static void on_deadline(struct alarm *alarm)
{
    end(H2O_STRUCT_FROM_MEMBER(struct upstream_call, deadline, alarm), UPSTREAM_TIMEOUT, false);
}

static void on_retry(struct alarm *alarm)
{
    struct upstream_call *call = H2O_STRUCT_FROM_MEMBER(struct upstream_call, retry, alarm);
    uint64_t spent_ms = h2o_now(call->u->ctx->loop) - call->connecting_since_ms,
             limit_ms = call->u->timeouts[PHASE_CONNECT].timeout;

    if (call->client != NULL || spent_ms >= limit_ms) {
        end(call, UPSTREAM_TIMEOUT, false);
        return;
    }
    call->pools_tried = 0;
    alarm_set(&call->u->alarms, &call->retry, limit_ms - spent_ms);
    start(call);
}

/* Connecting failed everywhere. False: that was it. */
static bool retry_later(struct upstream_call *call)
{
    struct upstream *u = call->u;
    uint64_t wait_ms = RETRY_MIN_MS + (uint64_t)h2o_rand() % (RETRY_SPREAD_MS + 1), again_ms = h2o_now(u->ctx->loop) + wait_ms;

    if (!(call->request.may_retry_connect || MUTANT("retry-writes")) || call->has_retried || u->retries == NULL)
        return false;
    if (again_ms >= call->connecting_since_ms + u->timeouts[PHASE_CONNECT].timeout ||
        (alarm_is_set(&call->deadline) && again_ms >= call->deadline.due_ms))
        return false;
    if (!budget_retries_take(u->retries))
        return false;
    call->has_retried = true;
    alarm_set(&u->alarms, &call->retry, wait_ms);
    return true;
}

/* The connection broke or closed before a head came. */
static void fail_before_head(struct upstream_call *call)
{
    /* a kept connection that the upstream had closed meanwhile: nobody answered, and a read may be asked again */
    if (call->is_reused && (call->request.may_repeat || MUTANT("retry-writes")) && call->attempts < ATTEMPTS_MAX &&
        !call->saw_bytes) {
        give_back(call, false);
        h2o_timeout_unlink(&call->timeout);
        call->connecting_since_ms = h2o_now(call->u->ctx->loop);
        start(call);
        return;
    }
    end(call, UPSTREAM_RESET, false);
}

static void on_body_bytes(void *ctx, struct span bytes)
{
    struct upstream_call *call = ctx;

    if (bytes.n != 0 && !call->is_cancelled)
        call->callbacks->on_body(call->data, bytes);
}

/* Reads what lies in the socket's input as body. The call may be gone on return. */
static void read_body(struct upstream_call *call)
{
    h2o_socket_t *sock = call->sock;
    long used;

    call->in_callback = true;
    used = http_body_feed(&call->body, (struct span){sock->input->bytes, sock->input->size}, on_body_bytes, call);
    call->in_callback = false;
    if (call->is_cancelled) {
        give_back(call, false);
        free_call(call);
        return;
    }
    if (used < 0) {
        end(call, UPSTREAM_TRUNCATED, false);
        return;
    }
    h2o_buffer_consume(&sock->input, (size_t)used);
    if (call->body.is_complete) {
        end(call, sock->input->size != 0 ? UPSTREAM_SURPLUS : UPSTREAM_COMPLETE, call->keeps_alive);
        return;
    }
    if (call->is_hurried && !call->is_paused)
        set_timeout(call, PHASE_REPLY);
}

static void on_body_read(h2o_socket_t *sock, const char *err)
{
    struct upstream_call *call = sock->data;

    if (err != NULL) {
        /* only a reply without length or chunks may end by the connection's end */
        end(call, call->body.framing == HTTP_UNTIL_CLOSE && err == h2o_socket_error_closed ? UPSTREAM_COMPLETE : UPSTREAM_TRUNCATED,
            false);
        return;
    }
    read_body(call);
}

/* The head as h2o's header list, so that it can be copied into a response. Names are lowered in place of their copies. */
static size_t to_h2o_headers(const struct http_head *head, h2o_header_t *headers, h2o_iovec_t *names, char *lower)
{
    for (size_t i = 0; i != head->field_count; ++i) {
        const struct http_field *f = &head->fields[i];
        const h2o_token_t *token;

        memcpy(lower, f->name.p, f->name.n);
        h2o_strtolower(lower, f->name.n);
        token = h2o_lookup_token(lower, f->name.n);
        names[i] = h2o_iovec_init(lower, f->name.n);
        headers[i] = (h2o_header_t){
            .name = token != NULL ? (h2o_iovec_t *)&token->buf : &names[i],
            .orig_name = f->name.p,
            .value = h2o_iovec_init(f->value.p, f->value.n),
        };
        lower += f->name.n;
    }
    return head->field_count;
}

static void on_head_read(h2o_socket_t *sock, const char *err)
{
    struct upstream_call *call = sock->data;
    struct http_head parsed;
    long used;

    if (err != NULL) {
        fail_before_head(call);
        return;
    }
    call->saw_bytes |= sock->input->size != 0;
    for (;;) {
        used = http_head_parse(&parsed, (struct span){sock->input->bytes, sock->input->size}, call->request.is_head);
        if (used == 0)
            return;
        if (used < 0) {
            end(call, UPSTREAM_RESET, false);
            return;
        }
        if (parsed.status >= 200)
            break;
        /* interim replies are for us; 101 was never asked for */
        if (parsed.status == 101) {
            end(call, UPSTREAM_RESET, false);
            return;
        }
        h2o_buffer_consume(&sock->input, (size_t)used);
    }
    {
        h2o_header_t headers[HTTP_FIELDS_MAX];
        h2o_iovec_t names[HTTP_FIELDS_MAX];
        char *lower = h2o_mem_alloc((size_t)used);
        struct upstream_head head = {
            .status = parsed.status,
            .reason = parsed.reason,
            .headers = headers,
            .header_count = to_h2o_headers(&parsed, headers, names, lower),
            .has_body = parsed.framing != HTTP_NO_BODY,
            .content_bytes = parsed.framing == HTTP_LENGTH || (parsed.framing == HTTP_NO_BODY && parsed.content_bytes != UINT64_MAX)
                                 ? (size_t)parsed.content_bytes
                                 : SIZE_MAX,
        };

        call->keeps_alive = parsed.keeps_alive;
        /* from here the client decides how long to wait, as it would without us */
        set_timeout(call, PHASE_FOREVER);
        http_body_init(&call->body, &parsed);
        call->in_callback = true;
        call->callbacks->on_head(call->data, &head);
        call->in_callback = false;
        free(lower);
    }
    if (call->is_cancelled) {
        give_back(call, false);
        free_call(call);
        return;
    }
    h2o_buffer_consume(&sock->input, (size_t)used);
    if (call->body.is_complete) {
        end(call, UPSTREAM_COMPLETE, call->keeps_alive);
        return;
    }
    h2o_socket_read_start(sock, on_body_read);
    read_body(call);
}

static void on_sent(h2o_socket_t *sock, const char *err)
{
    struct upstream_call *call = sock->data;

    /* a broken write is told by the read side, which may still bring the reason: a refusal that did not wait for the body */
    if (err == NULL)
        call->is_sent = true;
}

/* libh2o's client finds, resolves, connects and shakes hands; from here the connection is ours. */
static h2o_http1client_head_cb on_connect(h2o_http1client_t *client, const char *errstr, h2o_iovec_t **bufs, size_t *buf_count,
                                          int *method_is_head)
{
    struct upstream_call *call = client->data;

    (void)bufs;
    (void)buf_count;
    (void)method_is_head;
    call->client = NULL;
    if (errstr != NULL) {
        /* nothing was sent: another address may be tried whatever the call means */
        if (++call->pools_tried < call->u->pool_count) {
            call->pool = (call->pool + 1) % call->u->pool_count;
            start(call);
            return NULL;
        }
        alarm_clear(&call->u->alarms, &call->retry);
        if (!retry_later(call))
            end(call, strcmp(errstr, "connection timeout") == 0 ? UPSTREAM_TIMEOUT : UPSTREAM_CONNECT, false);
        return NULL;
    }
    alarm_clear(&call->u->alarms, &call->retry);
    call->sock = h2o_http1client_steal_socket(client);
    call->sock->data = call;
    call->u->preferred_pool = call->pool;
    call->is_reused = call->is_starting;
    ++call->attempts;
    call->bufs[0] = h2o_iovec_init(call->request.head, call->request.head_bytes);
    call->bufs[1] = h2o_iovec_init(call->request.body.p, call->request.body.n);
    call->is_sent = false;
    set_timeout(call, call->request.is_patient ? PHASE_FOREVER : PHASE_REPLY);
    h2o_socket_read_start(call->sock, on_head_read);
    h2o_socket_write(call->sock, call->bufs, call->request.body.n != 0 ? 2 : 1, on_sent);
    return NULL;
}

/* The call may have ended on return: it then set *call->freed. */
static void start(struct upstream_call *call)
{
    bool freed = false, *outer = call->freed;

    call->freed = &freed;
    call->is_starting = true;
    h2o_http1client_connect_with_pool(&call->client, call, &call->u->connecting, &call->u->pools[call->pool], on_connect);
    if (freed) {
        if (outer != NULL)
            *outer = true;
        return;
    }
    call->freed = outer;
    call->is_starting = false;
}

struct upstream_call *upstream_call_start(struct upstream *u, struct upstream_request *request,
                                          const struct upstream_callbacks *callbacks, void *data)
{
    struct upstream_call *call = h2o_mem_alloc(sizeof(*call));
    bool freed = false;

    *call = (struct upstream_call){
        .u = u,
        .callbacks = callbacks,
        .data = data,
        .request = *request,
        .pool = u->preferred_pool,
        .timeout = {.cb = on_timeout},
        .deadline = {.on_due = on_deadline},
        .retry = {.on_due = on_retry},
        .connecting_since_ms = h2o_now(u->ctx->loop),
        .freed = &freed,
    };
    request->head = NULL;
    if (u->retries != NULL)
        budget_retries_earn(u->retries);
    upstream_call_set_deadline(call, request->deadline_ms);
    start(call);
    if (freed)
        return NULL;
    call->freed = NULL;
    return call;
}

void upstream_call_cancel(struct upstream_call *call)
{
    call->is_cancelled = true;
    if (call->in_callback)
        return;
    stop_connecting(call);
    give_back(call, false);
    free_call(call);
}

void upstream_call_set_deadline(struct upstream_call *call, int64_t deadline_ms)
{
    if (deadline_ms > 0)
        alarm_set(&call->u->alarms, &call->deadline, (uint64_t)deadline_ms);
    else
        alarm_clear(&call->u->alarms, &call->deadline);
}

void upstream_call_hurry(struct upstream_call *call)
{
    call->is_hurried = true;
    if (call->sock != NULL && !call->is_paused)
        set_timeout(call, PHASE_REPLY);
}

void upstream_call_pause(struct upstream_call *call)
{
    if (call->is_paused || call->sock == NULL)
        return;
    call->is_paused = true;
    h2o_socket_read_stop(call->sock);
    /* the silence is ours now, not the upstream's */
    set_timeout(call, PHASE_FOREVER);
}

void upstream_call_resume(struct upstream_call *call)
{
    if (!call->is_paused || call->sock == NULL)
        return;
    call->is_paused = false;
    if (call->is_hurried)
        set_timeout(call, PHASE_REPLY);
    h2o_socket_read_start(call->sock, on_body_read);
}

void upstream_results(enum upstream_end how, int status, enum breaker_result *ret_upstream, enum breaker_result *ret_call)
{
    *ret_upstream = status != 0 ? BREAKER_GOOD : how == UPSTREAM_CONNECT ? BREAKER_FAILED : BREAKER_UNKNOWN;
    *ret_call = how == UPSTREAM_COMPLETE || how == UPSTREAM_SURPLUS ? breaker_of_status(status) : BREAKER_FAILED;
}
