/* SPDX-License-Identifier: Apache-2.0 */
/* Asking an admin listener. Not here: what is asked. Always: what answers may be anything; the answer is read strictly and bounded. */
#include "sidecar/admin/client.h"

#include "sidecar/admin/place.h"
#include "sidecar/wire/http_reply.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define TIMEOUT_S      60
#define ANSWER_MAX     (1024 * 1024)
#define PIECE_BYTES    4096
#define HEAD_BYTES_MAX 1600

static int send_all(int fd, struct span bytes)
{
    while (bytes.n != 0) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        bytes = (struct span){bytes.p + n, bytes.n - (size_t)n};
    }
    return 0;
}

static int send_call(int fd, const struct client_call *call, const struct place *place)
{
    char head[HEAD_BYTES_MAX];
    bool has_token = call->token != NULL;
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s%s%sConnection: "
                     "close\r\n\r\n",
                     call->method, call->path, place->is_loopback ? "localhost" : call->address, call->body.n,
                     has_token ? "Authorization: Bearer " : "", has_token ? call->token : "", has_token ? "\r\n" : ""),
        r;

    if (n >= (int)sizeof(head))
        return -EMSGSIZE;
    return (r = send_all(fd, (struct span){head, (size_t)n})) != 0 ? r : send_all(fd, call->body);
}

/* More of the answer. 1, or 0 at its end. */
static int receive(int fd, struct buf *in)
{
    ssize_t n;
    int r;

    if (in->n > ANSWER_MAX)
        return -EMSGSIZE;
    if ((r = buf_reserve(in, PIECE_BYTES)) != 0)
        return r;
    do {
        n = recv(fd, in->p + in->n, PIECE_BYTES, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    in->n += (size_t)n;
    return n != 0;
}

struct taking {
    struct buf *out;
    int r;
};

static void on_body(void *ctx, struct span bytes)
{
    struct taking *taking = ctx;

    if (taking->r == 0)
        taking->r = buf_add_span(taking->out, bytes);
}

/* The answer is read to the end of the connection, which the request asked for, and then taken apart. */
static int receive_answer(int fd, int *ret_status, struct buf *ret_body)
{
    struct buf in = {0};
    struct taking taking = {.out = ret_body};
    struct http_head head;
    struct http_body body;
    long n;
    int r;

    while ((r = receive(fd, &in)) == 1)
        ;
    if (r == 0 && in.n == 0)
        r = -ECONNRESET;
    if (r == 0 && (n = http_head_parse(&head, buf_span(&in), false)) <= 0)
        r = -EBADMSG;
    if (r == 0) {
        http_body_init(&body, &head);
        n = http_body_feed(&body, (struct span){in.p + n, in.n - (size_t)n}, on_body, &taking);
        if (n < 0 || (!body.is_complete && head.framing != HTTP_UNTIL_CLOSE))
            r = -EBADMSG;
        else if ((r = taking.r) == 0)
            *ret_status = head.status;
    }
    buf_done(&in);
    return r;
}

int client_ask(const struct client_call *call, int *ret_status, struct buf *ret_body, struct cp_error *reterr)
{
    struct place place;
    int fd, r;

    if ((r = place_parse(call->address, "--admin", &place, reterr)) != 0)
        return r;
    if ((fd = place_connect(&place, TIMEOUT_S)) < 0) {
        cp_error_set(reterr, "", 0, 0,
                     "cannot reach '%.100s': %s; is mcpcached serve running with this --admin, and is it yours to use?",
                     call->address, strerror(-fd));
        return fd == -EINVAL ? -EIO : fd;
    }
    if ((r = send_call(fd, call, &place)) == 0)
        r = receive_answer(fd, ret_status, ret_body);
    close(fd);
    if (r == -EBADMSG)
        cp_error_set(reterr, "", 0, 0,
                     "what answers at '%.100s' is no admin listener of mcpcached; see serve's log for its address", call->address);
    else if (r != 0)
        cp_error_set(reterr, "", 0, 0, "'%.100s' did not answer: %s; see serve's log", call->address, strerror(-r));
    return r == -EINVAL ? -EIO : r;
}
