/* SPDX-License-Identifier: Apache-2.0 */
#include "question.h"
#include <math.h>
#include "options.h"

struct event {
    uint64_t due_ns;
    char *tool, *arguments, *token;
    size_t size;
};

static struct event *trace;
static size_t trace_n;
static char tools_text[LIST_TOOLS * 600];
static size_t tools_bytes;
static int is_legacy, is_each;
static struct {
    double h_x1, h_n, s;
} zipf;

static uint64_t scramble(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

double drawer_chance(struct drawer *d)
{
    d->random = scramble(d->random);
    return (double)(d->random >> 11) / 9007199254740992.0;
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

static uint64_t zipf_draw(struct drawer *d)
{
    for (;;) {
        double u = zipf.h_n + drawer_chance(d) * (zipf.h_x1 - zipf.h_n), x = zipf_h_inverse(u), k = floor(x + 0.5);
        if (k < 1)
            k = 1;
        if (k > options.questions)
            k = options.questions;
        if (k - x <= zipf.s || u >= zipf_h(k + 0.5) - exp(-options.zipf * log(k)))
            return (uint64_t)k - 1;
    }
}

/* ---- questions ---------------------------------------------------------------------------------------------------------------------------- */

static uint64_t question_draw(struct drawer *d)
{
    uint64_t first = (uint64_t)options.first, count = (uint64_t)options.questions;

    if (is_each)
        return first + d->drawn++ * (uint64_t)options.threads + (uint64_t)d->number;
    if (options.burst > 0)
        return first + d->drawn++ / (uint64_t)options.burst;
    if (count == 1)
        return first;
    return first + (options.zipf > 0 ? zipf_draw(d) : (uint64_t)(drawer_chance(d) * (double)count));
}

static size_t size_of(uint64_t number)
{
    double low = options.size_min, high = options.size_max;
    return low >= high ? (size_t)low
                       : (size_t)(low * pow(high / low, (double)(scramble(number ^ 0x5eed) >> 11) / 9007199254740992.0));
}

static void expect_text(struct question *q)
{
    content_of(&q->expected, q->tool, q->tool_bytes, q->arguments, q->argument_bytes, q->token, strlen(q->token), q->size);
}

void question_make(struct drawer *d, struct question *q, uint64_t n)
{
    double what = options.write + options.list > 0 ? drawer_chance(d) : 1;

    if (trace_n > 0) {
        const struct event *e = &trace[n];
        q->kind = KIND_CALL;
        q->size = e->size;
        q->tool_bytes = (size_t)snprintf(q->tool, sizeof(q->tool), "%s", e->tool);
        q->argument_bytes = (size_t)snprintf(q->arguments, sizeof(q->arguments), "%s", e->arguments);
        snprintf(q->token, sizeof(q->token), "%s", e->token);
        expect_text(q);
        return;
    }
    snprintf(q->token, sizeof(q->token), "t%llu", (unsigned long long)(d->asked % (uint64_t)options.tokens));
    if (what < options.list) {
        q->kind = KIND_LIST;
        q->expected = (struct content){.rest = tools_text, .rest_bytes = tools_bytes};
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
    expect_text(q);
}

size_t question_body(const struct question *q, uint64_t id, char *body, size_t size)
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
            (unsigned long long)id, options.prefix, q->tool, q->arguments, comma, more);
        break;
    case KIND_LIST:
        n = snprintf(body, size, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"tools/list\",\"params\":{%s}}",
                     (unsigned long long)id, more);
        break;
    case KIND_INITIALIZE:
        n = snprintf(body, size,
                     "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\","
                     "\"capabilities\":{},\"clientInfo\":{\"name\":"
                     "\"load\",\"version\":\"1\"}}}",
                     (unsigned long long)id);
        break;
    case KIND_INITIALIZED:
        n = snprintf(body, size, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
        break;
    }
    must(n > 0 && (size_t)n < size);
    return (size_t)n;
}

int drawer_next(struct drawer *d, uint64_t *ret)
{
    if (trace_n > 0) {
        *ret = d->drawn * (uint64_t)options.threads + (uint64_t)d->number;
        if (*ret >= trace_n)
            return 0;
        d->drawn++;
        return 1;
    }
    *ret = question_draw(d);
    return !is_each || *ret < (uint64_t)(options.first + options.questions);
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

int trace_is_on(void)
{
    return trace_n > 0;
}

uint64_t trace_due_ns(const struct drawer *d)
{
    uint64_t n = d->drawn * (uint64_t)options.threads + (uint64_t)d->number;
    return n < trace_n ? trace[n].due_ns : UINT64_MAX;
}

void drawer_seed(struct drawer *d, int number)
{
    *d = (struct drawer){.number = number, .random = scramble((uint64_t)options.seed * 1000 + (uint64_t)number)};
}

void questions_init(void)
{
    content_init();
    tools_bytes = content_tools(tools_text, sizeof(tools_text));
    is_legacy = options_is_legacy();
    is_each = options_is_each();
    zipf_init();
    if (*options.trace != '\0')
        trace_load(options.trace);
}
