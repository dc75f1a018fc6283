/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs. */
#include "sidecar/admin/purge_verb.h"
#include "sidecar/policy_file.h"
#include "sidecar/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
const char *__lsan_default_suppressions(void);

/* libh2o keeps free lists per thread, event loops and message queues for ever, without a call that frees them. The names are the allocating functions
 * themselves, so nothing of ours is hidden. */
const char *__lsan_default_suppressions(void)
{
    return "leak:h2o_mem_alloc_recycle\nleak:h2o_evloop_create\nleak:h2o_multithread_create_queue\n";
}
#endif

static int check_main(int argc, char **argv);

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} verbs[] = {
    {"serve", serve_main, "stand in front of an MCP server and cache its answers"},
    {"purge", purge_main, "take answers out of the store of one that runs"},
    {"check", check_main, "say what is wrong with a policy file or directory"},
};

#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

static void print_help(FILE *out)
{
    fprintf(out, "mcpcached: a cache in front of any MCP server (Model Context Protocol over Streamable HTTP).\n\nusage: mcpcached "
                 "VERB [...]\n\n");
    for (size_t i = 0; i != VERB_COUNT; ++i)
        fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].text);
    fprintf(out, "\nmcpcached VERB --help tells more. mcpcached --version prints the version.\n"
                 "Exit status: 0 good, 1 failed, 2 wrong usage or invalid policy.\n");
}

static int check_main(int argc, char **argv)
{
    struct cp_errors errors = {.count = 0};
    struct cp_policy *policy;

    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        printf("usage: mcpcached check FILE|DIR\n\nReads a policy as serve would and prints every mistake as file:line:column: "
               "sentence.\n"
               "Exit status: 0 the policy is good, 2 it is not.\n");
        return EXIT_SUCCESS;
    }
    if (argc != 1 || argv[0][0] == '-') {
        fprintf(stderr, "mcpcached: check needs exactly one policy file or directory: mcpcached check FILE|DIR\n");
        return EXIT_USAGE;
    }
    if (policy_load(argv[0], &policy, &errors) == 0) {
        printf("%s: good, %zu tool rules, %zu resource rules\n", argv[0], policy->tool_count, policy->resource_count);
        cp_policy_unref(policy);
        return EXIT_SUCCESS;
    }
    policy_print_errors(stderr, &errors);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("mcpcached %s\n", MCPCACHED_VERSION);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i != VERB_COUNT; ++i)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 2, argv + 2);
    fprintf(stderr, "mcpcached: '%s' is no verb; mcpcached --help lists them\n", argv[1]);
    return EXIT_USAGE;
}
