/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "content.h"

#define THREADS_MAX 8
#define SIZE_LEAST  128 /* a mark always fits */

struct options options = {.connections = 64,
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

void options_take(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        take_option(argv[i]);
    if (options.port <= 0 || options.threads < 1 || options.threads > THREADS_MAX || options.connections < options.threads ||
        options.tools < 1 || options.tokens < 1 || options.questions < 1 || options.size_max > CONTENT_MAX ||
        options.size_min < SIZE_LEAST || (options.burst > 0 && options.rate <= 0)) {
        fprintf(stderr, "load: port, connections, threads, tools, tokens, questions, size or rate is out of range\n");
        exit(2);
    }
}

int options_is_legacy(void)
{
    return strcmp(options.era, "legacy") == 0;
}

int options_is_fixed_id(void)
{
    return strcmp(options.ids, "fixed") == 0;
}

int options_is_each(void)
{
    return strcmp(options.order, "each") == 0;
}

int options_is_one_question(void)
{
    return options.questions <= 1 && options.tokens <= 1 && options.write + options.list <= 0 && options.burst <= 0 &&
           *options.trace == '\0' && !options_is_each();
}
