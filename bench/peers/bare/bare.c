/* SPDX-License-Identifier: Apache-2.0 */
/* The ceiling: a handler of libh2o that reads nothing and answers each POST with the same bytes. What is slower than it is slower for its own work, what is not, is as fast as
 * this library on this machine can be. `POST /SIZE` gets the right answer (load/content.h) to get_0 with {"key":"0","size":SIZE} under the id 1.
 * Usage: bare PORT SIZE... */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <h2o.h>
#include <h2o/http1.h>
#include "bench/load/content.h"

#define SIZES_MAX 16

static h2o_globalconf_t config;
static h2o_context_t context;
static h2o_accept_ctx_t accept_ctx;
static struct {
    size_t size;
    h2o_iovec_t answer;
} answers[SIZES_MAX];
static int answer_count;

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator = {NULL, NULL};
    size_t size = strtoul(req->path.base + 1, NULL, 10); /* a path ends with the space of the request line */

    (void)self;
    for (int i = 0; i < answer_count; i++) {
        if (answers[i].size != size)
            continue;
        req->res.status = 200;
        req->res.reason = "OK";
        req->res.content_length = answers[i].answer.len;
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("application/json"));
        h2o_start_response(req, &generator);
        h2o_send(req, &answers[i].answer, 1, H2O_SEND_STATE_FINAL);
        return 0;
    }
    return -1;
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    h2o_socket_t *sock;

    if (err != NULL)
        return;
    while ((sock = h2o_evloop_socket_accept(listener)) != NULL)
        h2o_accept(&accept_ctx, sock);
}

static void answer_add(size_t size)
{
    char arguments[64];
    struct content c;
    char *text = malloc(size + 512);
    int n = snprintf(arguments, sizeof(arguments), "{\"key\":\"0\",\"size\":%zu}", size);

    if (text == NULL)
        exit(1);
    content_of(&c, "get_0", 5, arguments, (size_t)n, "", 0, size);
    n = snprintf(text, size + 512,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":"
                 "\"%.*s%.*s\"}]}}",
                 (int)c.mark_bytes, c.mark, (int)c.rest_bytes, c.rest);
    answers[answer_count].size = size;
    answers[answer_count++].answer = h2o_iovec_init(text, (size_t)n);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    h2o_hostconf_t *host;
    h2o_socket_t *listener;

    if (argc < 3 || argc - 2 > SIZES_MAX) {
        fprintf(stderr, "usage: bare PORT SIZE...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    content_init();
    for (int i = 2; i < argc; i++)
        answer_add(strtoul(argv[i], NULL, 10));
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1024) != 0) {
        perror("bare");
        return 1;
    }
    h2o_config_init(&config);
    config.server_name = h2o_iovec_init("", 0);
    config.http1.upgrade_to_http2 = 0;
    host = h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(h2o_handler_t))->on_req = on_request;
    h2o_context_init(&context, h2o_evloop_create(), &config);
    accept_ctx.ctx = &context;
    accept_ctx.hosts = config.hosts;
    listener = h2o_evloop_socket_create(context.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    h2o_socket_read_start(listener, on_accept);
    printf("listening\n");
    fflush(stdout);
    for (;;)
        h2o_evloop_run(context.loop, INT32_MAX);
}
