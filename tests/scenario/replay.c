/* SPDX-License-Identifier: Apache-2.0 */
/* Replays stories: replay [-v] [-k WORD] PATH... ; PATH is a story (*.scn) or a directory of them. Each is told in a process of its own, with a store of its own; README.md
 * says what they can say. -v also prints each line and the log; -k takes only those whose name contains WORD.
 * Always: a story that expects nothing, or says what nobody understands, fails. Thread: one, besides the store's writer. */
#include "telling.h"

#include "fake_clock.h"
#include "fake_log.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_ONCE 2

/* ---- one story ------------------------------------------------------------------------------------------------------------------- */

/* fake_listener has no argument; there is one story in a process. */
static struct telling *told;

static void on_call(struct upstream_call *call)
{
    struct asked *a = call->note;

    told->something_happened = true;
    if (a != NULL) {
        a->is_new = true;
        return;
    }
    a = h2o_mem_alloc(sizeof(*a));
    if (told->call_count == CALLS_MAX)
        fail(told, "too many upstream calls");
    *a = (struct asked){.number = (unsigned)told->call_count + 1, .call = call, .is_new = true};
    cp_message_parse(&a->message, &a->doc, buf_span(&call->body));
    call->note = a;
    told->calls[told->call_count++] = a;
    if (told->is_loud)
        printf("    upstream call %u: %.*s %.*s\n", a->number, (int)a->message.method_text.n,
               a->message.method_text.p != NULL ? a->message.method_text.p : "", (int)a->message.name.n,
               a->message.name.p != NULL ? a->message.name.p : "");
}

static void on_over(struct upstream_call *call)
{
    (void)call;
    told->something_happened = true;
}

static void read_settings(struct telling *t)
{
    if (t->house != NULL)
        fail(t, "settings come before all that happens");
    while (has_word(t)) {
        if (t->flag_count == sizeof(t->flags) / sizeof(t->flags[0]))
            fail(t, "too many settings");
        struct span s = need_text(t, "a flag");
        t->flags[t->flag_count++] = h2o_strdup(&t->pool, s.p, s.n).base;
    }
}

static void stop(struct telling *t)
{
    if (t->house == NULL)
        return;
    house_drain(t->house);
    settle(t);
    t->past_requests += house_requests(t->house);
    house_close(t->house);
    t->house = NULL;
    for (size_t i = 0; i != t->people_count; ++i)
        client_poll(&t->people[i]->client);
}

static void tell_sidecar(struct telling *t)
{
    if (take_word(t, "stops")) {
        stop(t);
    } else if (take_word(t, "restarts")) {
        stop(t);
        begin(t);
    } else if (take_word(t, "starts")) {
        begin(t);
    } else {
        fail(t, "the sidecar starts, stops or restarts");
    }
}

/* One name of what is purged. False: there is none. */
static bool take_purged(struct telling *t, struct house_name *ret)
{
    static const struct {
        const char *word;
        enum house_subject subject;
    } subjects[] = {{"all", HOUSE_ALL}, {"tool", HOUSE_TOOL},   {"list", HOUSE_LIST},          {"uri", HOUSE_URI},
                    {"tag", HOUSE_TAG}, {"reads", HOUSE_READS}, {"principal", HOUSE_PRINCIPAL}};
    size_t i = 0;

    while (i != sizeof(subjects) / sizeof(subjects[0]) && !take_word(t, subjects[i].word))
        ++i;
    if (i == sizeof(subjects) / sizeof(subjects[0]))
        return false;
    *ret = (struct house_name){subjects[i].subject, SPAN_ABSENT};
    if (ret->subject != HOUSE_ALL && ret->subject != HOUSE_READS)
        ret->text = need_text(t, "of what name");
    if (ret->subject == HOUSE_PRINCIPAL) {
        char *bearer = h2o_mem_alloc_pool(&t->pool, ret->text.n + 8);

        ret->text = (struct span){bearer, (size_t)sprintf(bearer, "Bearer %.*s", (int)ret->text.n, ret->text.p)};
    }
    return true;
}

static void tell_purge(struct telling *t)
{
    struct house_name names[8];
    size_t name_count = 0;
    bool is_soft, is_dry;
    uint64_t count;

    begin(t);
    while (name_count != sizeof(names) / sizeof(names[0]) && take_purged(t, &names[name_count]))
        ++name_count;
    if (name_count == 0)
        fail(t, "purge what? all, reads, or a tool, list, uri, tag or principal");
    is_soft = take_word(t, "soft");
    is_dry = take_word(t, "dry");
    settle(t);
    count = house_purge(t->house, names, name_count, is_soft, is_dry);
    if (take_word(t, "expect")) {
        uint64_t wanted = (uint64_t)need_number(t, "how many entries");

        claim(t, count == wanted, "%llu entries", (unsigned long long)count);
    }
    settle(t);
}

/* `log has EVENT [key=value]...` or `log lacks ...` */
static void tell_log(struct telling *t)
{
    bool wanted = take_word(t, "has"), seen = false;
    struct span event;
    size_t at;

    if (!wanted && !take_word(t, "lacks"))
        fail(t, "the log has or lacks an event");
    event = need_plain(t, "an event");
    at = t->at;
    for (size_t i = 0; i != fake_log_count(); ++i) {
        bool matches = span_eq(fake_log_event(i), event);

        for (t->at = at; has_word(t);) {
            struct span field = need_text(t, "key=value");
            const char *equals = memchr(field.p, '=', field.n);
            struct span key, value;

            if (equals == NULL)
                fail(t, "'%.*s' is no key=value", (int)field.n, field.p);
            key = (struct span){field.p, (size_t)(equals - field.p)};
            value = (struct span){equals + 1, field.n - key.n - 1};
            matches = matches && span_eq(fake_log_field(i, key), value) && fake_log_field(i, key).p != NULL;
        }
        seen |= matches;
    }
    t->at = t->line->count;
    claim(t, seen == wanted, seen ? "there is such a line" : "there is no such line");
}

static void tell_line(struct telling *t)
{
    t->at = 0;
    if (t->is_loud)
        printf("%u: %.*s\n", t->line->number, (int)t->line->whole.n, t->line->whole.p);
    t->is_meanwhile = take_word(t, "meanwhile");
    if (take_word(t, "policy")) {
        if (t->house != NULL)
            fail(t, "the policy comes before all that happens");
        t->policy = need_text(t, "the policy's text");
    } else if (take_word(t, "settings")) {
        read_settings(t);
    } else if (take_word(t, "loops")) {
        if (t->house != NULL)
            fail(t, "loops come before all that happens");
        t->loops = (size_t)need_number(t, "how many");
    } else if (take_word(t, "client") || take_word(t, "clients")) {
        tell_client(t);
    } else if (take_word(t, "upstream")) {
        tell_upstream(t);
    } else if (take_words(t, "time", "passes")) {
        begin(t);
        pass_time(t, need_duration(t));
    } else if (take_word(t, "purge")) {
        tell_purge(t);
    } else if (take_word(t, "sidecar")) {
        tell_sidecar(t);
    } else if (take_word(t, "log")) {
        tell_log(t);
    }
    if (has_word(t))
        fail(t, "this is not understood: '%.*s'", (int)t->line->words[t->at].text.n, t->line->words[t->at].text.p);
}

/* What must be true of every story: each request that came has one line in the log (but for those that were never answered), and what clients were told is what the lines say. */
static void check_log(struct telling *t)
{
    size_t lines = 0, outcomes[CP_OUTCOME_COUNT] = {0};

    t->line = NULL;
    for (size_t i = 0; i != fake_log_count(); ++i) {
        if (!span_eq(fake_log_event(i), SPAN("request")))
            continue;
        ++lines;
        for (size_t o = 0; o != CP_OUTCOME_COUNT; ++o)
            outcomes[o] += span_eq(fake_log_field(i, SPAN("outcome")), span_of(cp_outcome_word((enum cp_outcome)o)));
    }
    claim(t, lines <= t->past_requests && lines + t->left >= t->past_requests,
          "%zu requests came, and the log has %zu lines about requests", t->past_requests, lines);
    for (size_t o = 0; o != CP_OUTCOME_COUNT; ++o)
        claim(t, outcomes[o] >= t->outcomes[o], "%zu clients were told '%s', and the log says it %zu times", t->outcomes[o],
              cp_outcome_word((enum cp_outcome)o), outcomes[o]);
}

static char *read_file(const char *path, size_t *ret_bytes)
{
    FILE *f = fopen(path, "re");
    struct buf b = {0};
    char bytes[4096];
    size_t n;

    if (f == NULL)
        return NULL;
    while ((n = fread(bytes, 1, sizeof(bytes), f)) != 0)
        if (buf_add(&b, bytes, n) != 0)
            abort();
    fclose(f);
    if (buf_add(&b, "", 1) != 0)
        abort();
    *ret_bytes = b.n - 1;
    return b.p;
}

static int tell_story(const char *path, const char *directory, bool is_loud)
{
    static const struct fake_listener listener = {on_call, on_over};
    struct telling *t = h2o_mem_alloc(sizeof(*t));
    const char *slash = strrchr(path, '/');
    unsigned line = 0;
    char why[256], *text;
    size_t bytes;

    memset(t, 0, sizeof(*t));
    h2o_mem_init_pool(&t->pool);
    t->file = slash != NULL ? slash + 1 : path;
    t->directory = directory;
    t->is_loud = is_loud;
    t->loops = 1;
    t->policy = SPAN("version: 1\n");
    told = t;
    fake_log_print(is_loud);
    fake_clock_follow(true);
    fake_upstream_listen(&listener);
    if ((text = read_file(path, &bytes)) == NULL) {
        printf("%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (!story_read(&t->story, text, bytes, &line, why)) {
        printf("%s:%u: %s\n", path, line, why);
        return 1;
    }
    for (size_t i = 0; i != t->story.count; ++i) {
        t->line = &t->story.lines[i];
        tell_line(t);
    }
    if (t->expectations == 0) {
        printf("%s: it expects nothing, so it cannot fail\n", path);
        return 1;
    }
    for (size_t i = 0; i != t->people_count; ++i) {
        t->left += t->people[i]->client.is_waiting;
        client_leave(&t->people[i]->client);
    }
    if (t->house != NULL)
        settle(t);
    stop(t);
    for (size_t i = 0; i != t->people_count; ++i)
        t->left += t->people[i]->client.is_cut;
    if (fake_upstream_open_calls() != 0) {
        printf("%s: %zu upstream calls outlived the sidecar\n", path, fake_upstream_open_calls());
        return 1;
    }
    check_log(t);
    for (size_t i = 0; i != t->people_count; ++i) {
        client_done(&t->people[i]->client);
        buf_done(&t->people[i]->as);
        buf_done(&t->people[i]->session);
        buf_done(&t->people[i]->id);
        buf_done(&t->people[i]->answer);
        free(t->people[i]);
    }
    for (size_t i = 0; i != t->call_count; ++i) {
        cp_json_done(&t->calls[i]->doc);
        fake_call_free(t->calls[i]->call);
        free(t->calls[i]);
    }
    story_done(&t->story);
    fake_log_done();
    h2o_mem_clear_pool(&t->pool);
    told = NULL;
    free(t);
    return 0;
}

/* ---- all of them ----------------------------------------------------------------------------------------------------------------- */

struct run {
    char *path;
    char directory[128];
    pid_t pid;
    int output; /* -1: not begun, or read to its end */
    struct buf text;
    int status;
};

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *ftw)
{
    (void)stat;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void start(struct run *r, bool is_loud)
{
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    int fds[2];

    snprintf(r->directory, sizeof(r->directory), "%s/story-XXXXXX", root);
    if (mkdtemp(r->directory) == NULL || pipe(fds) != 0) {
        perror("replay");
        exit(2);
    }
    fflush(stdout);
    if ((r->pid = fork()) < 0) {
        perror("replay: fork");
        exit(2);
    }
    if (r->pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        setvbuf(stdout, NULL, _IOLBF, 0);
        /* a story that hangs is a failure, too */
        alarm(60);
        exit(tell_story(r->path, r->directory, is_loud));
    }
    close(fds[1]);
    r->output = fds[0];
}

/* Reads what there is; at the end, how it ended. */
static void follow(struct run *r)
{
    char bytes[4096];
    ssize_t n = read(r->output, bytes, sizeof(bytes));

    if (n > 0) {
        if (buf_add(&r->text, bytes, (size_t)n) != 0)
            abort();
        return;
    }
    close(r->output);
    r->output = -1;
    waitpid(r->pid, &r->status, 0);
    nftw(r->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *name_of(const struct run *r)
{
    const char *slash = strrchr(r->path, '/');

    return slash != NULL ? slash + 1 : r->path;
}

static size_t run_all(struct run *runs, size_t count, bool is_loud)
{
    size_t begun = 0, told_count = 0, failed = 0;

    while (told_count != count) {
        struct pollfd polls[AT_ONCE];
        struct run *polled[AT_ONCE];
        nfds_t n = 0;

        while (begun != count && begun - told_count < AT_ONCE)
            start(&runs[begun++], is_loud);
        for (size_t i = told_count; i != begun; ++i)
            if (runs[i].output >= 0) {
                polls[n] = (struct pollfd){.fd = runs[i].output, .events = POLLIN};
                polled[n++] = &runs[i];
            }
        poll(polls, n, -1);
        for (nfds_t i = 0; i != n; ++i)
            if (polls[i].revents != 0)
                follow(polled[i]);
        for (; told_count != begun && runs[told_count].output < 0; ++told_count) {
            struct run *r = &runs[told_count];
            bool is_good = WIFEXITED(r->status) && WEXITSTATUS(r->status) == 0;

            if (!is_good || is_loud)
                fwrite(r->text.p, 1, r->text.n, stdout);
            if (WIFSIGNALED(r->status))
                printf("%s: ended by signal %d\n", r->path, WTERMSIG(r->status));
            printf("%s %s\n", is_good ? "ok  " : "FAIL", name_of(r));
            failed += !is_good;
        }
    }
    return failed;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct run *)a)->path, ((const struct run *)b)->path);
}

static void add_run(struct run **runs, size_t *count, const char *directory, const char *name, const char *only)
{
    struct run *r;

    if (only != NULL && strstr(name, only) == NULL)
        return;
    *runs = h2o_mem_realloc(*runs, (*count + 1) * sizeof(**runs));
    r = &(*runs)[(*count)++];
    *r = (struct run){.output = -1};
    if (asprintf(&r->path, "%s%s%s", directory, *directory != '\0' ? "/" : "", name) < 0)
        abort();
}

int main(int argc, char **argv)
{
    struct run *runs = NULL;
    size_t count = 0, failed;
    const char *only = NULL;
    bool is_loud = false;
    struct rlimit limit;
    int option;

    while ((option = getopt(argc, argv, "vk:")) != -1) {
        if (option == 'v')
            is_loud = true;
        else if (option == 'k')
            only = optarg;
        else
            return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (; optind != argc; ++optind) {
        DIR *d = opendir(argv[optind]);
        struct dirent *e;

        if (d == NULL) {
            add_run(&runs, &count, "", argv[optind], only);
            continue;
        }
        while ((e = readdir(d)) != NULL)
            if (strlen(e->d_name) > 4 && strcmp(e->d_name + strlen(e->d_name) - 4, ".scn") == 0)
                add_run(&runs, &count, argv[optind], e->d_name, only);
        closedir(d);
    }
    if (count == 0) {
        fprintf(stderr, "replay: no story; say replay [-v] [-k WORD] PATH...\n");
        return 2;
    }
    qsort(runs, count, sizeof(*runs), compare);
    failed = run_all(runs, count, is_loud);
    printf("%zu passed, %zu failed\n", count - failed, failed);
    for (size_t i = 0; i != count; ++i) {
        buf_done(&runs[i].text);
        free(runs[i].path);
    }
    free(runs);
    return failed != 0;
}
