/* SPDX-License-Identifier: Apache-2.0 */
/* What the upstream is asked and what it answers. Not here: how a call travels (fake_upstream.c). Thread: the story's. */
#include "telling.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- which calls ----------------------------------------------------------------------------------------------------------------- */

static struct asked *call_of(struct telling *t, int64_t number)
{
    if (number < 1 || (size_t)number > t->call_count)
        fail(t, "there is no upstream call %lld; there are %zu", (long long)number, t->call_count);
    return t->calls[number - 1];
}

/* N, N..M, last */
static void need_calls(struct telling *t, struct asked **ret_first, struct asked **ret_last)
{
    struct span s = need_plain(t, "which call");
    char text[32] = "", *end;

    if (span_eq(s, SPAN("last"))) {
        *ret_first = *ret_last = call_of(t, (int64_t)t->call_count);
        return;
    }
    if (s.n < sizeof(text))
        memcpy(text, s.p, s.n);
    *ret_first = *ret_last = call_of(t, strtoll(text, &end, 10));
    if (end[0] == '.' && end[1] == '.' && end[2] != '\0')
        *ret_last = call_of(t, strtoll(end + 2, &end, 10));
    if (*end != '\0' || (*ret_last)->number < (*ret_first)->number)
        fail(t, "'%.*s' names no calls: write N, N..M or last", (int)s.n, s.p);
}

static void need_asked(struct telling *t, const struct asked *a)
{
    if (a->call->stage != FAKE_ASKED)
        fail(t, "upstream call %u cannot be answered: %s", a->number,
             a->call->is_cancelled               ? "it was cancelled"
             : a->call->stage == FAKE_OVER       ? "it is over"
             : a->call->stage == FAKE_CONNECTING ? "it never arrived"
                                                 : "it is being answered");
}

static void need_answering(struct telling *t, const struct asked *a)
{
    if (a->call->stage != FAKE_ANSWERING)
        fail(t, "upstream call %u has no stream to send on%s", a->number, a->call->is_cancelled ? ": it was cancelled" : "");
}

struct asked *newest_call(struct telling *t, struct span method)
{
    for (size_t i = t->call_count; i-- != 0;)
        if (span_eq(t->calls[i]->message.method_text, method))
            return t->calls[i];
    return NULL;
}

/* ---- what is answered ------------------------------------------------------------------------------------------------------------ */

struct answer {
    int status;
    struct span type; /* absent: no body */
    struct buf body;
    unsigned pieces;
    bool says_no_length;
    struct fake_header headers[HEADERS_MAX];
    size_t header_count;
};

static void put(struct buf *b, struct span s)
{
    if (buf_add_span(b, s) != 0)
        h2o_fatal("no memory");
}

static void put_text(struct buf *b, const char *text)
{
    put(b, span_of(text));
}

static struct span number_text(struct telling *t, unsigned number)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%u", number);

    return (struct span){h2o_strdup(&t->pool, text, (size_t)n).base, (size_t)n};
}

/* {"jsonrpc":"2.0","id":ID,MEMBER:VALUE} */
static void envelope(struct buf *out, struct span id, const char *member, struct span value)
{
    put_text(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    put(out, id.p != NULL ? id : SPAN("null"));
    put_text(out, ",\"");
    put_text(out, member);
    put_text(out, "\":");
    put(out, value);
    put_text(out, "}");
}

static struct span id_of(struct telling *t, const struct asked *a)
{
    return take_words(t, "to", "id") ? need_text(t, "another id") : a->message.id;
}

/* A result of that many bytes. */
static void large_result(struct telling *t, struct buf *out, int64_t bytes)
{
    put_text(out, "{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"");
    if (bytes < 96)
        fail(t, "a result needs more bytes");
    for (size_t n = out->n + 4; n < (size_t)bytes; ++n)
        put_text(out, "x");
    put_text(out, "\"}]}");
}

/* What follows `with`. */
static void read_answer(struct telling *t, const struct asked *a, struct answer *ret)
{
    struct span number = number_text(t, a->number);

    *ret = (struct answer){.status = 200, .type = SPAN("application/json"), .pieces = 1};
    if (take_words(t, "result", "of")) {
        struct buf result = {0};

        large_result(t, &result, need_number(t, "bytes"));
        if (!take_word(t, "bytes"))
            fail(t, "a result of how many bytes?");
        envelope(&ret->body, id_of(t, a), "result", buf_span(&result));
        buf_done(&result);
    } else if (take_word(t, "result")) {
        struct span result = with_replaced(t, need_json(t, "the result"), "$call", number);

        result = with_type(t, result, a->message.era == CP_ERA_LEGACY);
        envelope(&ret->body, id_of(t, a), "result", result);
    } else if (take_word(t, "error")) {
        struct buf error = {0};
        int64_t code = need_number(t, "the error's code");
        char text[32];

        snprintf(text, sizeof(text), "{\"code\":%lld,\"message\":\"", (long long)code);
        put_text(&error, text);
        put(&error, need_text(t, "the error's message"));
        put_text(&error, "\"}");
        envelope(&ret->body, id_of(t, a), "error", buf_span(&error));
        buf_done(&error);
    } else if (take_word(t, "status")) {
        ret->status = (int)need_number(t, "an HTTP status");
        ret->type = SPAN("text/plain");
        put_text(&ret->body, "so it is\n");
    } else if (take_word(t, "body")) {
        put(&ret->body, with_replaced(t, need_text(t, "the body"), "$id", a->message.id));
    } else if (take_word(t, "nothing")) {
        ret->status = 202;
        ret->type = SPAN_ABSENT;
    } else {
        fail(t, "answer with what? result, error, status, body or nothing");
    }
    for (;;) {
        if (take_word(t, "status")) {
            ret->status = (int)need_number(t, "an HTTP status");
        } else if (take_word(t, "body")) {
            ret->body.n = 0;
            ret->type = SPAN("application/json");
            put(&ret->body, with_replaced(t, need_text(t, "the body"), "$id", a->message.id));
        } else if (take_word(t, "type")) {
            ret->type = need_text(t, "a media type");
        } else if (take_word(t, "in")) {
            ret->pieces = (unsigned)need_number(t, "pieces");
            if (!take_word(t, "pieces") || ret->pieces == 0)
                fail(t, "in how many pieces?");
        } else if (take_words(t, "without", "length")) {
            ret->says_no_length = true;
        } else {
            break;
        }
    }
    ret->header_count = take_headers(t, ret->headers);
}

static void send_head(struct asked *a, const struct answer *answer)
{
    struct fake_header headers[HEADERS_MAX + 1];
    size_t n = 0;

    if (answer->type.p != NULL)
        headers[n++] = (struct fake_header){SPAN("Content-Type"), answer->type};
    for (size_t i = 0; i != answer->header_count; ++i)
        headers[n++] = answer->headers[i];
    fake_call_head(a->call, answer->status, headers, n, answer->status != 204 && answer->status != 304,
                   answer->says_no_length ? SIZE_MAX : answer->body.n);
}

static void send_body(struct telling *t, struct asked *a, const struct answer *answer, size_t bytes, bool may_settle)
{
    size_t sent = 0;

    for (unsigned i = 1; i <= answer->pieces; ++i) {
        size_t until = bytes * i / answer->pieces;

        fake_call_body(a->call, (struct span){answer->body.p + sent, until - sent});
        sent = until;
        if (may_settle && i != answer->pieces)
            settle(t);
    }
}

void answer_json(struct asked *a, struct span body, const struct fake_header *more, size_t more_count)
{
    struct answer answer = {.status = 200, .type = SPAN("application/json"), .pieces = 1, .header_count = more_count};

    put(&answer.body, body);
    memcpy(answer.headers, more, more_count * sizeof(*more));
    send_head(a, &answer);
    fake_call_body(a->call, body);
    fake_call_end(a->call, UPSTREAM_COMPLETE);
    buf_done(&answer.body);
}

static void answer_whole(struct telling *t, struct asked *a, enum upstream_end how, bool may_settle)
{
    struct answer answer;

    read_answer(t, a, &answer);
    need_asked(t, a);
    send_head(a, &answer);
    send_body(t, a, &answer, how == UPSTREAM_TRUNCATED ? answer.body.n / 2 : answer.body.n, may_settle);
    fake_call_end(a->call, how);
    buf_done(&answer.body);
}

bool answer_by_habit(struct telling *t, struct asked *a)
{
    const struct line *line = t->line;
    size_t at = t->at;

    if (a->call->stage != FAKE_ASKED)
        return false;
    for (size_t i = t->habit_count; i-- != 0;) {
        const struct habit *h = &t->habits[i];

        if (!span_eq(h->method, a->message.method_text) || (h->name.p != NULL && !span_eq(h->name, a->message.name)))
            continue;
        t->line = h->line;
        t->at = h->at;
        answer_whole(t, a, UPSTREAM_COMPLETE, false);
        if (has_word(t))
            fail(t, "this is not understood: '%.*s'", (int)t->line->words[t->at].text.n, t->line->words[t->at].text.p);
        t->line = line;
        t->at = at;
        return true;
    }
    return false;
}

/* ---- event streams --------------------------------------------------------------------------------------------------------------- */

static void open_events(struct telling *t, struct asked *a)
{
    struct fake_header headers[HEADERS_MAX + 1] = {{SPAN("Content-Type"), SPAN("text/event-stream")}};
    size_t n = 1;

    need_asked(t, a);
    a->has_event_ids = take_words(t, "numbering", "events");
    n += take_headers(t, headers + 1);
    fake_call_head(a->call, 200, headers, n, true, SIZE_MAX);
}

static void send_event(struct telling *t, struct asked *a, struct span data)
{
    struct buf event = {0};

    need_answering(t, a);
    if (a->has_event_ids) {
        put_text(&event, "id: ");
        put(&event, number_text(t, ++a->event_count));
        put_text(&event, "\n");
    }
    put_text(&event, "event: message\ndata: ");
    put(&event, data);
    put_text(&event, "\n\n");
    fake_call_body(a->call, buf_span(&event));
    buf_done(&event);
}

/* `upstream sends ... on N` */
static void send_on(struct telling *t)
{
    struct asked *first, *last;
    struct word what = need_any(t, "what is sent");
    struct span value = SPAN_ABSENT, id = SPAN_ABSENT;
    bool is_result = what.kind == WORD_PLAIN && span_eq(what.text, SPAN("result"));
    bool is_bytes = what.kind == WORD_PLAIN && span_eq(what.text, SPAN("bytes"));
    bool is_error = what.kind == WORD_PLAIN && span_eq(what.text, SPAN("error"));
    struct buf many = {0};

    if (is_result || is_error)
        value = need_json(t, "the result, or the error");
    else if (is_bytes)
        value = need_text(t, "the bytes");
    if (is_bytes && has_word(t) && t->line->words[t->at].kind == WORD_PLAIN &&
        isdigit((unsigned char)*t->line->words[t->at].text.p)) {
        for (int64_t times = need_number(t, "how often"); times > 0; --times)
            put(&many, value);
        if (!take_word(t, "times"))
            fail(t, "so many what?");
        value = buf_span(&many);
    }
    if (is_result || is_error || is_bytes)
        ;
    else if (what.kind == WORD_PLAIN && is_json_next(t))
        value = need_json(t, "params");
    if (take_words(t, "to", "id"))
        id = need_text(t, "another id");
    if (!take_words(t, "on", "stream") && !take_word(t, "on"))
        fail(t, "sent on which call's stream?");
    need_calls(t, &first, &last);
    for (unsigned n = first->number; n <= last->number; ++n) {
        struct asked *a = call_of(t, n);
        struct buf text = {0};

        if (is_bytes) {
            need_answering(t, a);
            fake_call_body(a->call, with_replaced(t, value, "$id", a->message.id));
            continue;
        }
        if (is_result || is_error) {
            struct span member = with_replaced(t, value, "$call", number_text(t, n));

            if (is_result)
                member = with_type(t, member, a->message.era == CP_ERA_LEGACY);
            envelope(&text, id.p != NULL ? id : a->message.id, is_result ? "result" : "error", member);
        } else if (what.kind != WORD_PLAIN) {
            put(&text, with_replaced(t, what.text, "$id", a->message.id));
        } else {
            put_text(&text, "{\"jsonrpc\":\"2.0\",\"method\":\"");
            put(&text, what.text);
            put_text(&text, "\"");
            if (value.p != NULL) {
                put_text(&text, ",\"params\":");
                put(&text, value);
            }
            put_text(&text, "}");
        }
        send_event(t, a, buf_span(&text));
        buf_done(&text);
    }
    buf_done(&many);
}

/* `upstream asks METHOD JSON on N`: a request of the server's own. */
static void ask_on(struct telling *t)
{
    struct span method = need_plain(t, "a method"), params = is_json_next(t) ? need_json(t, "params") : SPAN("{}");
    struct asked *first, *last;

    if (!take_word(t, "on"))
        fail(t, "asked on which call's stream?");
    need_calls(t, &first, &last);
    for (unsigned n = first->number; n <= last->number; ++n) {
        struct buf text = {0};

        put_text(&text, "{\"jsonrpc\":\"2.0\",\"id\":\"of-the-server\",\"method\":\"");
        put(&text, method);
        put_text(&text, "\",\"params\":");
        put(&text, params);
        put_text(&text, "}");
        send_event(t, call_of(t, n), buf_span(&text));
        buf_done(&text);
    }
}

/* ---- what it was asked ----------------------------------------------------------------------------------------------------------- */

static void expect_calls(struct telling *t)
{
    size_t least = take_word(t, "no") ? 0 : (size_t)need_number(t, "how many calls");
    size_t most = take_word(t, "to") ? (size_t)need_number(t, "how many calls") : least;

    if (!take_word(t, "call") && !take_word(t, "calls"))
        fail(t, "so many what?");
    claim(t, t->call_count >= least && t->call_count <= most, "%zu upstream calls", t->call_count);
}

static void claim_stage(struct telling *t, const struct asked *a, bool holds)
{
    claim(t, holds, "call %u %s", a->number,
          a->call->is_cancelled          ? "is cancelled"
          : a->call->stage == FAKE_OVER  ? "is over"
          : a->call->stage == FAKE_ASKED ? "waits for its answer"
                                         : "is being answered");
}

/* `upstream call N is METHOD [NAME] ...` or a state of it */
static void look_at(struct telling *t)
{
    struct asked *first, *last;
    size_t at;

    need_calls(t, &first, &last);
    at = t->at;
    for (unsigned n = first->number; n <= last->number; ++n) {
        const struct asked *a = call_of(t, n);
        const struct upstream_call *call = a->call;

        t->at = at;
        if (take_words(t, "is", "cancelled")) {
            claim_stage(t, a, call->is_cancelled);
        } else if (take_words(t, "is", "open")) {
            claim_stage(t, a, call->stage != FAKE_OVER);
        } else if (take_words(t, "is", "over")) {
            claim_stage(t, a, call->stage == FAKE_OVER && !call->is_cancelled);
        } else if (take_word(t, "is")) {
            struct span method = need_plain(t, "a method");

            claim(t, span_eq(a->message.method_text, method), "%.*s", (int)a->message.method_text.n, a->message.method_text.p);
        }
        while (has_word(t)) {
            if (take_word(t, "of")) {
                struct span name = need_text(t, "a name");

                claim(t, span_eq(a->message.name, name), "of %.*s", (int)a->message.name.n,
                      a->message.name.p != NULL ? a->message.name.p : "nothing");
            } else if (take_words(t, "as", "nobody")) {
                claim(t, fake_call_header(call, SPAN("authorization")).p == NULL, "as somebody");
            } else if (take_word(t, "as")) {
                struct span who = need_text(t, "who"), seen = fake_call_header(call, SPAN("authorization"));

                claim(t, seen.n == who.n + 7 && span_eq((struct span){seen.p + 7, who.n}, who), "Authorization: %.*s", (int)seen.n,
                      seen.p != NULL ? seen.p : "(none)");
            } else if (take_word(t, "contains")) {
                struct span part = need_text(t, "a text");

                claim(t, memmem(call->body.p, call->body.n, part.p, part.n) != NULL, "%.*s", (int)call->body.n, call->body.p);
            } else if (take_word(t, "lacks")) {
                struct span part = need_text(t, "a text");

                claim(t, memmem(call->body.p, call->body.n, part.p, part.n) == NULL, "%.*s", (int)call->body.n, call->body.p);
            } else if (take_words(t, "without", "header")) {
                claim(t, fake_call_header(call, need_plain(t, "a header's name")).p == NULL, "%.*s", (int)call->head.n,
                      call->head.p);
            } else if (take_word(t, "with")) {
                struct span name = need_plain(t, "Name: value"), value = need_text(t, "the value");
                struct span seen = fake_call_header(call, (struct span){name.p, name.n - 1});

                claim(t, seen.p != NULL && span_eq(seen, value), "%.*s", (int)call->head.n, call->head.p);
            } else {
                break;
            }
        }
    }
}

/* ---- verbs ----------------------------------------------------------------------------------------------------------------------- */

static void read_habit(struct telling *t)
{
    struct habit *h = &t->habits[t->habit_count];

    if (t->habit_count++ == sizeof(t->habits) / sizeof(t->habits[0]))
        fail(t, "too many habits");
    h->method = need_plain(t, "a method");
    h->name = SPAN_ABSENT;
    if (take_word(t, "of"))
        h->name = need_text(t, "a name");
    if (!take_word(t, "with"))
        fail(t, "answers with what?");
    h->line = t->line;
    h->at = t->at;
    t->at = t->line->count; /* read when it is used */
}

static void choose_door(struct telling *t)
{
    if (take_words(t, "refuses", "connections"))
        fake_upstream_door(take_words(t, "at", "once") ? FAKE_REFUSING_AT_ONCE : FAKE_REFUSING);
    else if (take_words(t, "is", "unreachable"))
        fake_upstream_door(FAKE_SILENT);
    else if (take_words(t, "accepts", "connections") || take_words(t, "is", "reachable"))
        fake_upstream_door(FAKE_OPEN);
    else
        fail(t, "an upstream cannot do this: '%.*s'", has_word(t) ? (int)t->line->words[t->at].text.n : 0,
             has_word(t) ? t->line->words[t->at].text.p : "");
}

enum act {
    ACT_ANSWER,
    ACT_OPEN,
    ACT_END,
    ACT_RESET,
    ACT_REFUSE,
    ACT_TRUNCATE,
    ACT_OVERRUN,
};

static void act(struct telling *t, enum act what)
{
    struct asked *first, *last;
    size_t at;

    need_calls(t, &first, &last);
    if ((what == ACT_ANSWER || what == ACT_TRUNCATE || what == ACT_OVERRUN) && !take_word(t, "with"))
        fail(t, "with what?");
    at = t->at;
    for (unsigned n = first->number; n <= last->number; ++n) {
        struct asked *a = call_of(t, n);

        t->at = at;
        switch (what) {
        case ACT_ANSWER:
            answer_whole(t, a, UPSTREAM_COMPLETE, true);
            break;
        case ACT_TRUNCATE:
            answer_whole(t, a, UPSTREAM_TRUNCATED, true);
            break;
        case ACT_OVERRUN:
            answer_whole(t, a, UPSTREAM_SURPLUS, true);
            break;
        case ACT_OPEN:
            open_events(t, a);
            break;
        case ACT_END:
            need_answering(t, a);
            fake_call_end(a->call, UPSTREAM_COMPLETE);
            break;
        case ACT_RESET:
            if (a->call->stage == FAKE_OVER)
                fail(t, "upstream call %u is over", a->number);
            fake_call_end(a->call, a->call->stage == FAKE_ANSWERING ? UPSTREAM_TRUNCATED : UPSTREAM_RESET);
            break;
        case ACT_REFUSE:
            need_asked(t, a);
            fake_call_end(a->call, UPSTREAM_CONNECT);
            break;
        }
    }
}

void tell_upstream(struct telling *t)
{
    static const struct {
        const char *word;
        enum act act;
    } acts[] = {
        {"answers", ACT_ANSWER}, {"opens", ACT_OPEN},         {"ends", ACT_END},         {"resets", ACT_RESET},
        {"refuses", ACT_REFUSE}, {"truncates", ACT_TRUNCATE}, {"overruns", ACT_OVERRUN},
    };

    begin(t);
    if (take_words(t, "by", "itself")) {
        if (!take_word(t, "answers"))
            fail(t, "by itself it answers");
        read_habit(t);
        return;
    }
    if (take_word(t, "expect")) {
        expect_calls(t);
        return;
    }
    if (take_word(t, "call")) {
        look_at(t);
        return;
    }
    if (take_word(t, "sends")) {
        send_on(t);
        settle(t);
        return;
    }
    if (take_word(t, "asks")) {
        ask_on(t);
        settle(t);
        return;
    }
    for (size_t i = 0; i != sizeof(acts) / sizeof(acts[0]); ++i) {
        size_t at = t->at;

        if (take_word(t, acts[i].word) && has_word(t) && !span_eq(t->line->words[t->at].text, SPAN("connections"))) {
            act(t, acts[i].act);
            settle(t);
            return;
        }
        t->at = at;
    }
    choose_door(t);
    settle(t);
}
