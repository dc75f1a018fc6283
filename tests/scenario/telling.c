/* SPDX-License-Identifier: Apache-2.0 */
/* What every verb needs: reading the words of a line, failing in plain words, letting things happen. Not here: the verbs. Thread: the story's. */
#include "telling.h"

#include "fake_clock.h"
#include "fake_log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- failing --------------------------------------------------------------------------------------------------------------------- */

static void print_place(const struct telling *t)
{
    if (t->line != NULL)
        printf("%s:%u: %.*s\n", t->file, t->line->number, (int)t->line->whole.n, t->line->whole.p);
    else
        printf("%s:\n", t->file);
}

static void print_calls(const struct telling *t)
{
    static const char *const stages[] = {"connecting", "asked", "answering", "over"};

    for (size_t i = t->call_count > 12 ? t->call_count - 12 : 0; i != t->call_count; ++i) {
        const struct asked *a = t->calls[i];

        printf("    upstream call %u: %s%s %.*s %.*s\n", a->number, a->call->is_cancelled ? "cancelled while " : "",
               stages[a->call->stage], (int)a->message.method_text.n, a->message.method_text.p, (int)a->message.name.n,
               a->message.name.p != NULL ? a->message.name.p : "");
    }
}

_Noreturn void fail(const struct telling *t, const char *format, ...)
{
    va_list args;

    print_place(t);
    printf("  ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    print_calls(t);
    fflush(stdout);
    /* what is open need not be closed, nor what leaks be told */
    _exit(1);
}

void claim(struct telling *t, bool holds, const char *seen_format, ...)
{
    va_list args;

    ++t->expectations;
    if (holds)
        return;
    print_place(t);
    printf("  seen: ");
    va_start(args, seen_format);
    vprintf(seen_format, args);
    va_end(args);
    printf("\n");
    print_calls(t);
    fflush(stdout);
    _exit(1);
}

/* ---- words ----------------------------------------------------------------------------------------------------------------------- */

bool has_word(const struct telling *t)
{
    return t->at != t->line->count;
}

bool take_word(struct telling *t, const char *word)
{
    if (!has_word(t) || t->line->words[t->at].kind != WORD_PLAIN || !span_eq(t->line->words[t->at].text, span_of(word)))
        return false;
    ++t->at;
    return true;
}

bool take_words(struct telling *t, const char *first, const char *second)
{
    size_t at = t->at;

    if (take_word(t, first) && take_word(t, second))
        return true;
    t->at = at;
    return false;
}

struct word need_any(struct telling *t, const char *what)
{
    if (!has_word(t))
        fail(t, "something is missing: %s", what);
    return t->line->words[t->at++];
}

struct span need_plain(struct telling *t, const char *what)
{
    struct word w = need_any(t, what);

    if (w.kind != WORD_PLAIN)
        fail(t, "'%.*s' stands where a plain word is needed: %s", (int)w.text.n, w.text.p, what);
    return w.text;
}

struct span need_json(struct telling *t, const char *what)
{
    struct word w = need_any(t, what);

    if (w.kind != WORD_JSON)
        fail(t, "'%.*s' stands where JSON is needed: %s", (int)w.text.n, w.text.p, what);
    return w.text;
}

struct span need_text(struct telling *t, const char *what)
{
    return need_any(t, what).text;
}

bool is_json_next(const struct telling *t)
{
    return has_word(t) && t->line->words[t->at].kind == WORD_JSON;
}

int64_t need_number(struct telling *t, const char *what)
{
    struct span s = need_plain(t, what);
    char text[24] = "", *end;
    long long n;

    if (s.n < sizeof(text))
        memcpy(text, s.p, s.n);
    n = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0')
        fail(t, "'%.*s' is no number: %s", (int)s.n, s.p, what);
    return n;
}

int64_t need_duration(struct telling *t)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    struct span s = need_plain(t, "how long");
    int64_t n = 0;
    size_t i = 0;

    for (; i != s.n && isdigit((unsigned char)s.p[i]); ++i)
        n = n * 10 + (s.p[i] - '0');
    for (size_t u = 0; i != 0 && u != sizeof(units) / sizeof(units[0]); ++u)
        if (span_eq((struct span){s.p + i, s.n - i}, span_of(units[u].unit)))
            return n * units[u].ms;
    fail(t, "'%.*s' is no duration; write it like 250ms, 5s, 2m, 1h", (int)s.n, s.p);
}

size_t take_headers(struct telling *t, struct fake_header *ret)
{
    size_t n = 0;

    while (take_word(t, "with") || take_word(t, "and")) {
        struct span name = need_plain(t, "a header like Name: value");

        if (name.p[name.n - 1] != ':')
            fail(t, "'%.*s' is no header's name: write Name: value", (int)name.n, name.p);
        if (n == HEADERS_MAX)
            fail(t, "too many headers");
        --name.n;
        ret[n++] = (struct fake_header){name, need_text(t, "the header's value")};
    }
    return n;
}

struct span with_replaced(struct telling *t, struct span text, const char *word, struct span by)
{
    size_t word_bytes = strlen(word), times = 0, n = 0;
    char *out;

    for (size_t i = 0; i + word_bytes <= text.n; ++i)
        times += memcmp(text.p + i, word, word_bytes) == 0;
    if (times == 0)
        return text;
    out = h2o_mem_alloc_pool(&t->pool, text.n + times * by.n + 1);
    for (size_t i = 0; i < text.n;) {
        if (i + word_bytes <= text.n && memcmp(text.p + i, word, word_bytes) == 0) {
            memcpy(out + n, by.p, by.n);
            n += by.n;
            i += word_bytes;
        } else {
            out[n++] = text.p[i++];
        }
    }
    return (struct span){out, n};
}

struct span with_type(struct telling *t, struct span result, bool is_legacy)
{
    static const char type[] = "{\"resultType\":\"complete\"";
    struct span inside;
    char *out;

    if (is_legacy || result.n < 2 || *result.p != '{' || memmem(result.p, result.n, "\"resultType\"", 12) != NULL)
        return result;
    inside = span_trim((struct span){result.p + 1, result.n - 2});
    out = h2o_mem_alloc_pool(&t->pool, sizeof(type) + inside.n + 2);
    return (struct span){out, (size_t)sprintf(out, "%s%s%.*s}", type, inside.n != 0 ? "," : "", (int)inside.n, inside.p)};
}

/* ---- the world ------------------------------------------------------------------------------------------------------------------- */

void begin(struct telling *t)
{
    char why[512];

    if (t->house != NULL)
        return;
    t->house = house_open(
        &(struct house_options){
            .store = t->directory,
            .policy = t->policy,
            .loops = t->loops,
            .flags = t->flags,
            .flag_count = t->flag_count,
        },
        why);
    if (t->house == NULL)
        fail(t, "the sidecar does not start: %s", why);
}

/* A message to another loop, a timer without delay, an answer on its way: each shows within a few turns. */
#define QUIET_TURNS 8

void settle(struct telling *t)
{
    unsigned turns = 0;

    if (t->is_meanwhile)
        return;
    for (unsigned quiet = 0; quiet != QUIET_TURNS; ++quiet) {
        t->something_happened = false;
        for (size_t i = 0; i != t->loops; ++i)
            house_turn(t->house, i, 0);
        for (size_t i = 0; i != t->people_count; ++i)
            t->something_happened |= client_poll(&t->people[i]->client);
        for (size_t i = 0; i != t->call_count; ++i)
            if (t->calls[i]->is_new) {
                t->calls[i]->is_new = false;
                t->something_happened |= answer_by_habit(t, t->calls[i]);
            }
        if (t->something_happened)
            quiet = 0;
        if (++turns == 1000000)
            fail(t, "things go on happening without any time passing");
    }
    /* what a story says next finds everything that was stored in its place */
    store_flush(house_store(t->house));
}

void pass_time(struct telling *t, int64_t ms)
{
    int64_t until_ms = clock_real_ms() + ms;
    unsigned stuck = 0;

    settle(t);
    for (;;) {
        int64_t at_ms = house_wake_at(t->house);

        if (at_ms > until_ms)
            break;
        if (at_ms > clock_real_ms()) {
            fake_clock_advance(at_ms - clock_real_ms());
            stuck = 0;
        } else if (++stuck == 1000) {
            fail(t, "a timer is due and does not go off");
        }
        settle(t);
    }
    fake_clock_advance(until_ms - clock_real_ms());
    settle(t);
}
