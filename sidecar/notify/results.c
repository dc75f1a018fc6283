/* SPDX-License-Identifier: Apache-2.0 */
/* Remembered tool results. Not here: links (subscribers.c).
 * Always: what a result was is known for each entry, not for each link; a link was told of it when that was after its last sighting began; at most max_results. */
#include "inside.h"

#include <stdlib.h>

static bool is_zeros(const uint8_t bytes[16])
{
    static const uint8_t zeros[16];

    return memcmp(bytes, zeros, sizeof(zeros)) == 0;
}

static bool is_served_to(const struct result *result, const struct subscriber *subscriber)
{
    if (result->scope == CP_SCOPE_PUBLIC || MUTANT("results-told-to-all"))
        return true;
    if (memcmp(result->principal, subscriber->principal, sizeof(result->principal)) != 0)
        return false;
    return result->scope == CP_SCOPE_PRINCIPAL || is_zeros(result->session) ||
           (subscriber->is_session && memcmp(result->session, subscriber->name, sizeof(result->session)) == 0);
}

static struct result *result_of(const struct subscribers *s, const struct watch_name *name)
{
    for (struct node *node = table_first(&s->results, bytes_hash(name->bytes)); node != NULL; node = node->next) {
        struct result *result = OF_NODE(struct result, node, node);

        if (memcmp(result->name.bytes, name->bytes, sizeof(name->bytes)) == 0)
            return result;
    }
    return NULL;
}

static void leave_ring(struct subscribers *s, struct result *result)
{
    if (s->oldest == result)
        s->oldest = result->next == result ? NULL : result->next;
    result->prev->next = result->next;
    result->next->prev = result->prev;
}

static void join_ring(struct subscribers *s, struct result *result)
{
    if (s->oldest == NULL) {
        s->oldest = result->next = result->prev = result;
        return;
    }
    result->next = s->oldest;
    result->prev = s->oldest->prev;
    result->prev->next = result->next->prev = result;
}

void result_drop(struct subscribers *s, struct result *result)
{
    leave_ring(s, result);
    table_remove(&s->results, &result->node);
    tags_drop(&s->tags, &result->tagged);
    topic_text_unref(result->tool);
    free(result);
}

/* Those who would be served this one and not another are told. */
static void tell_change(struct subscribers *s, const struct result *result, int64_t now_ms, struct actions *out)
{
    struct subject *subject = subject_of(s, result->subject);
    struct end *first = subject == NULL ? NULL : subject->results, *end = first;

    if (end == NULL)
        return;
    do {
        struct link *link = link_of_end(end);

        if (is_served_to(result, link->subscriber) && !(link->is_told && result->began_ms <= link->told_ms)) {
            link_name_tool(link, result);
            link_tell(s, link, now_ms, out);
        }
    } while ((end = end->next) != first);
}

void results_purged(struct subscribers *s, const struct result *result, int64_t now_ms, struct actions *out)
{
    struct subject *subject = subject_of(s, result->subject);
    struct end *first = subject == NULL ? NULL : subject->results, *end = first;

    if (end == NULL)
        return;
    do {
        struct link *link = link_of_end(end);

        if (is_served_to(result, link->subscriber)) {
            link_name_tool(link, result);
            link_purged(s, link, now_ms, out);
        }
    } while ((end = end->next) != first);
}

static void take(struct subscribers *s, struct result *result, const struct result_sighting *sighting)
{
    result->content = sighting->seen.content;
    result->began_ms = sighting->seen.began_ms;
    result->subject = sighting->subject;
    result->scope = sighting->scope;
    if (result->tool == NULL)
        result->tool = topic_text_new(sighting->tool);
    memcpy(result->principal, sighting->principal, sizeof(result->principal));
    memcpy(result->session, sighting->session, sizeof(result->session));
    tags_set(&s->tags, &result->tagged, result, true, sighting->seen.subjects, sighting->seen.subject_count);
}

void subscribers_saw_result(struct subscribers *s, const struct result_sighting *sighting, int64_t now_ms, struct actions *out)
{
    struct result *result;

    subscribers_lock(s);
    if ((result = result_of(s, &sighting->seen.name)) == NULL) {
        if (s->options.max_results != 0 && s->results.count >= s->options.max_results)
            result_drop(s, s->oldest);
        if (s->options.max_results != 0 && (result = malloc(sizeof(*result))) != NULL) {
            *result = (struct result){.name = sighting->seen.name};
            take(s, result, sighting);
            table_add(&s->results, &result->node);
            join_ring(s, result);
        }
    } else if (sighting->seen.began_ms > result->began_ms) {
        if (memcmp(result->content.bytes, sighting->seen.content.bytes, sizeof(result->content.bytes)) != 0)
            tell_change(s, result, now_ms, out);
        take(s, result, sighting);
        leave_ring(s, result);
        join_ring(s, result);
    }
    subscribers_unlock(s);
}
