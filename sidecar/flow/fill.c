/* SPDX-License-Identifier: Apache-2.0 */
/* Fills. Not here: how the reply came and where it goes (exchange.c), what may be kept (cachepolicy/decide.c).
 * Always: a reply is judged once, whole, under the policy and the keys with which its request was asked; an answer to the request that is not shown to
 * be for everybody takes the public one away that may lie there. Thread: the flow's loop. */
#include "sidecar/flow/fill.h"

#include "cachepolicy/definition.h"
#include "sidecar/flow/lookup.h"
#include "sidecar/flow/purge.h"
#include "sidecar/flow/watch.h"

#include <errno.h>
#include <stdlib.h>

static void refused(struct fill *fill);

/* A 4xx that may mean that the caller may not have this. Not: lack of time, the form of the request or of the answer that he wanted, nor that his session is over. 401
 * and 403 are his end anyway (admission.c). */
static bool is_status_of_refusal(const struct fill *fill, int status)
{
    switch (status) {
    case 404:
        return !fill->id_of_caller->has_session;
    case 405:
    case 406:
    case 408:
    case 411:
    case 413:
    case 414:
    case 415:
    case 417:
    case 429:
    case 431:
        return false;
    default:
        return status >= 400 && status < 500;
    }
}

void fill_head(struct fill *fill, const struct wire_reply_facts *facts)
{
    int status = facts->reply.status;

    fill->reply = facts->reply;
    if ((fill->kind == FILL_STORE || fill->kind == FILL_WATCH) && is_status_of_refusal(fill, status))
        refused(fill);
    if (fill->kind == FILL_SESSION && facts->session.n != 0 && fill->session_id == NULL) {
        fill->session_id = h2o_strdup(NULL, facts->session.p, facts->session.n).base;
        fill->session_id_bytes = facts->session.n;
    }
}

/* The session that an initialize opened, learned before its client can use it. */
static void learn_session(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message)
{
    struct session session = {.version = ""};

    if (fill->session_id == NULL || !answer->has_result || answer->version.n == 0 || answer->version.n >= sizeof(session.version))
        return;
    memcpy(session.version, answer->version.p, answer->version.n);
    session.offers = fill->offers;
    cp_digest_of(fill->flow->trust.keyer, "client", message->client_info.p != NULL ? message->client_info : SPAN(""),
                 session.client);
    caller_learn_session(&fill->flow->trust, fill->id_of_caller, (struct span){fill->session_id, fill->session_id_bytes}, &session,
                         fill->began_ms, store_now_ms(fill->flow->shared->trust.store));
    admission_learn(&fill->flow->trust, fill->id_of_caller,
                    &(struct admission_facts){.status = 200, .proves = true, .began_ms = fill->began_ms},
                    store_now_ms(fill->flow->shared->trust.store));
}

static int64_t now_of(const struct fill *fill)
{
    return store_now_ms(fill->flow->shared->trust.store);
}

/* When the fetch of what lies there began; what cannot be read counts as old. */
#define NOTHING_THERE INT64_MIN
static int64_t began_of(struct fill *fill, const struct cp_key *key)
{
    struct store_entry entry;
    h2o_mem_pool_t pool;
    int64_t began_ms = NOTHING_THERE;

    h2o_mem_init_pool(&pool);
    switch (trust_get(&fill->flow->trust, key, &pool, &entry)) {
    case STORE_HIT:
        began_ms = entry.began_ms;
        break;
    case STORE_BAD:
        began_ms = 0;
        break;
    case STORE_MISS:
        break;
    }
    h2o_mem_clear_pool(&pool);
    return began_ms;
}

static void add_subject(struct fill *fill, uint64_t subject)
{
    keys_add_subject(fill->keys.subjects, &fill->keys.subject_count, subject, purge_subject_of_many(fill->flow->trust.keyer));
}

static void add_tag(void *ctx, struct span tag)
{
    struct fill *fill = ctx;

    add_subject(fill, cp_subject_of(fill->flow->trust.keyer, CP_SUBJECT_TAG, tag));
}

static void add_uri(void *ctx, struct span uri)
{
    struct fill *fill = ctx;

    add_subject(fill, cp_subject_of(fill->flow->trust.keyer, CP_SUBJECT_URI, uri));
}

void fill_groups(struct fill *fill, struct span value)
{
    if (fill->kind == FILL_STORE)
        cp_groups_parse(value, add_tag, fill);
}

/* This caller's pages of this list. */
static uint64_t own_list_subject(struct fill *fill, const struct cp_message *message)
{
    return fill->keys.own_subject ^ cp_subject_of(fill->flow->trust.keyer, CP_SUBJECT_LIST, message->method_text);
}

/* What else purges the answer, as the answer itself tells. */
static int add_told_subjects(struct fill *fill, const struct cp_answer *answer)
{
    if (cp_answer_tags(answer, &fill->flow->reply_doc, add_tag, fill) != 0)
        return -ENOMEM;
    return cp_answer_uris(answer, &fill->flow->text, add_uri, fill);
}

static int add_subjects(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message, bool is_public)
{
    if (!is_public) {
        add_subject(fill, fill->keys.own_subject);
        add_subject(fill, own_list_subject(fill, message));
    }
    return add_told_subjects(fill, answer);
}

/* NONE when the answer is queued for the store. */
static enum cp_reason put(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message,
                          const struct cp_storing *storing)
{
    const struct flow_shared *shared = fill->flow->shared;
    struct buf *text = &fill->flow->text;
    int64_t now_ms = store_now_ms(shared->trust.store);
    bool is_public = storing->scope == CP_SCOPE_PUBLIC;
    /* public by the operator's word alone: the server did not know that everybody would read this */
    bool strip_vendor = is_public && answer->scope != CP_HINT_PUBLIC;
    struct store_entry entry = {
        .generation = fill->generation,
        .is_negative = storing->is_negative,
        .stored_at_ms = now_ms,
        .has_hint = storing->has_hint,
        .hint_ttl_ms = storing->hint_ttl_ms,
        .scope = (uint8_t)storing->scope,
        .method = (uint8_t)message->method,
        .cost_ms = (uint32_t)(now_ms - fill->began_ms),
        .began_ms = fill->began_ms,
        .owner = fill->owner,
        .name = message->name.p != NULL ? message->name : SPAN(""),
    };
    struct cp_key key = fill->keys.public_key, own;

    if (is_public ? !fill->keys.has_public : !fill->keys.has_private)
        return CP_REASON_ANONYMOUS;
    if (add_subjects(fill, answer, message, is_public) != 0)
        return CP_REASON_LARGE;
    if (!lookup_is_valid(fill->flow, fill->generation, fill->keys.subjects, fill->keys.subject_count, fill->keys.own_subject) &&
        !MUTANT("fill-survives-purge"))
        return CP_REASON_PURGED;
    entry.subjects = fill->keys.subjects;
    entry.subject_count = fill->keys.subject_count;
    if (!admission_holds(&fill->flow->trust, fill->id_of_caller, fill->began_ms) ||
        (!is_public && !keys_bind(&fill->keys, fill->id_of_caller, fill->decision.private_scope, &key)))
        return CP_REASON_UNPROVEN;
    if (began_of(fill, &key) > fill->began_ms ||
        (keys_bind(&fill->keys, fill->id_of_caller, fill->decision.private_scope, &own) && began_of(fill, &own) > fill->began_ms))
        return CP_REASON_OVERTAKEN;
    if (!rate_take(shared->trust.rate, entry.owner, now_ms) && !MUTANT("rate-off"))
        return CP_REASON_RATE;
    entry.expires_at_ms = now_ms + cp_retention_of(&fill->decision, storing);
    text->n = 0;
    if (cp_answer_strip(answer, strip_vendor, &fill->flow->reply_doc, text, &entry.ttl_start, &entry.ttl_end) != 0)
        return CP_REASON_LARGE;
    if (text->n > shared->max_entry_bytes)
        return CP_REASON_LARGE;
    entry.body = buf_span(text);
    return store_put(shared->trust.store, &key, &entry) ? CP_REASON_NONE : CP_REASON_QUEUE;
}

/* Most answers that are not kept have nothing to take away, and a look is cheaper than a transaction. What was fetched later stays. */
static void drop(struct fill *fill, const struct cp_key *key)
{
    int64_t began_ms = began_of(fill, key);

    if (began_ms != NOTHING_THERE && began_ms <= fill->began_ms)
        store_delete(fill->flow->shared->trust.store, key);
}

/* What lay there for this caller alone is not the newest answer any more. */
static void drop_private(struct fill *fill)
{
    struct cp_key key;

    if (keys_bind(&fill->keys, fill->id_of_caller, fill->decision.private_scope, &key))
        drop(fill, &key);
}

/* The answer is not everybody's, or not any more: nobody may find an older one that was. Pages of one list share one scope, and the first is the one
 * that everybody asks: it goes when a later one shows that the list is not everybody's, but not for an error, which says nothing of the list. */
static void drop_public(struct fill *fill, bool first_page_too)
{
    if (fill->keys.has_public)
        drop(fill, &fill->keys.public_key);
    if (fill->keys.has_first_page && first_page_too)
        drop(fill, &fill->keys.first_page);
}

/* The caller was refused: in the answer, or by the status. It takes back what an earlier result had shown (servers refuse single tools that way, too) and what he
 * has. What everybody has goes only if he was let in before: else it may be his refusal alone. */
static void refused(struct fill *fill)
{
    if (admission_is_granted(&fill->flow->trust, fill->id_of_caller, fill->keys.grant, now_of(fill)))
        drop_public(fill, false);
    drop_private(fill);
    /* strangers have nothing to take back, and shall leave no marks among others' proofs */
    if (admission_is_known(&fill->flow->trust, fill->id_of_caller))
        admission_withdraw(&fill->flow->trust, fill->keys.grant, now_of(fill));
}

/* Servers that could not read a request, or would not, have no id to answer. */
static bool is_anybodys_error(const struct cp_answer *answer)
{
    return answer->has_error && !answer->has_method && (answer->id.p == NULL || span_eq(answer->id, SPAN("null")));
}

static bool is_refusal(const struct fill *fill, const struct cp_answer *answer)
{
    if (!answer->is_readable || answer->has_method)
        return false;
    return is_anybodys_error(answer) || (answer->has_error && fill->reply.id_matches) ||
           (answer->has_result && answer->is_error && fill->reply.id_matches);
}

/* A cursor that the upstream does not know: its pages are of an older list (2025-11-25 server/utilities/pagination). */
static void drop_pages(struct fill *fill, const struct cp_message *message)
{
    store_raise(fill->flow->shared->trust.store, own_list_subject(fill, message), STORE_RAISE_HARD);
    if (fill->keys.has_first_page && admission_is_granted(&fill->flow->trust, fill->id_of_caller, fill->keys.grant, now_of(fill)))
        drop(fill, &fill->keys.first_page);
}

/* Whose answer it is, and what those who joined could not know of what purges it. */
static void sign(const struct fill *fill, struct flight_outcome *outcome)
{
    size_t from = fill->asked_count < STORE_SUBJECTS_MAX ? fill->asked_count : STORE_SUBJECTS_MAX - 1;

    outcome->began_ms = fill->began_ms;
    memcpy(outcome->credential, fill->id_of_caller->credential.bytes, sizeof(outcome->credential));
    memcpy(outcome->session, fill->id_of_caller->session, sizeof(outcome->session));
    outcome->generation = fill->generation;
    for (size_t i = from; i < fill->keys.subject_count; ++i)
        if (fill->keys.subjects[i] != fill->keys.own_subject)
            outcome->subjects[outcome->subject_count++] = fill->keys.subjects[i];
}

/* What the reply means for others who wait for it. */
static void share(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message,
                  const struct cp_storing *storing)
{
    enum cp_sharing sharing =
        fill->is_doubtful ? CP_SHARE_ALONE : cp_sharing_of(fill->reason, &fill->decision, message->era, &fill->reply, answer);
    struct buf *text = &fill->flow->text;
    struct flight_outcome *outcome;
    const struct cp_json_node *error;

    if (!fill->has_flight)
        return;
    outcome = flight_outcome_new(FLIGHT_APART);
    switch (sharing) {
    case CP_SHARE_RESULT:
        outcome->how = FLIGHT_RESULT;
        /* also of what is not kept */
        if (add_told_subjects(fill, answer) != 0)
            h2o_fatal("no memory");
        text->n = 0;
        if (cp_answer_strip(answer, false, &fill->flow->reply_doc, text, &outcome->ttl_start, &outcome->ttl_end) != 0 ||
            buf_add_span(&outcome->bytes, buf_span(text)) != 0)
            h2o_fatal("no memory");
        outcome->has_hint = storing->has_hint;
        outcome->hint_ttl_ms = storing->hint_ttl_ms;
        break;
    case CP_SHARE_ERROR:
        outcome->how = FLIGHT_ERROR;
        error = cp_json_member(&fill->flow->reply_doc, cp_json_root(&fill->flow->reply_doc), SPAN("error"));
        if (error == NULL || buf_add_span(&outcome->bytes, cp_json_raw(&fill->flow->reply_doc, error)) != 0)
            h2o_fatal("no memory");
        outcome->status = fill->reply.status;
        break;
    case CP_SHARE_FAILURE:
    case CP_SHARE_ALONE:
        break;
    }
    outcome->reason = fill->reason;
    outcome->stored_at_ms = now_of(fill);
    sign(fill, outcome);
    flight_outcome_unref_null(fill->outcome);
    fill->outcome = outcome;
}

struct flight_outcome *fill_outcome_of(struct fill *fill, enum cp_reason reason, int status, const char *text, int retry_after_s)
{
    static const struct cp_answer none = {.is_readable = false};
    struct flight_outcome *outcome = fill->outcome;

    fill->outcome = NULL;
    if (outcome != NULL)
        return outcome;
    outcome = flight_outcome_new(cp_sharing_of(reason, &fill->decision, CP_ERA_MODERN, &fill->reply, &none) == CP_SHARE_FAILURE
                                     ? FLIGHT_FAILURE
                                     : FLIGHT_APART);
    outcome->reason = reason;
    outcome->status = status;
    outcome->text = text;
    outcome->retry_after_s = retry_after_s;
    sign(fill, outcome);
    return outcome;
}

/* FILL_WATCH: nothing is kept, but what lies there may be in doubt now. */
static void watch(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message, bool is_result,
                  bool was_refused)
{
    struct cp_storing storing = {.store = false};

    fill->decision.action = CP_ACTION_LOOKUP;
    if (!fill->is_doubtful)
        cp_decide_store(&fill->decision, message, &fill->reply, answer, &storing);
    drop_private(fill);
    if (!was_refused && (!storing.store || storing.scope != CP_SCOPE_PUBLIC))
        drop_public(fill, is_result);
}

static bool has_own_entry(struct fill *fill)
{
    struct cp_key key;

    return keys_bind(&fill->keys, fill->id_of_caller, fill->decision.private_scope, &key) && began_of(fill, &key) != NOTHING_THERE;
}

/* A refresh that brought neither a whole answer nor the upstream's word that there is none: what is there is better. */
static bool is_failed_refresh(const struct fill *fill, const struct cp_answer *answer, enum cp_era era)
{
    bool is_whole = !fill->is_doubtful && fill->reply.id_matches && answer->has_result && !answer->is_error &&
                    !answer->is_exchange_private && !fill->reply.server_asked && answer->is_object &&
                    (answer->type == CP_RESULT_COMPLETE || (answer->type == CP_RESULT_ABSENT && era == CP_ERA_LEGACY));

    return fill->is_refresh && !is_whole && !answer->has_error;
}

/* The upstream knows no such resource any more, or never did. */
static bool is_gone(const struct fill *fill, const struct cp_answer *answer, const struct cp_message *message)
{
    return message->method == CP_METHOD_RESOURCES_READ && fill->reply.status == 200 && fill->reply.id_matches &&
           answer->has_error && !answer->has_result && (answer->error_code == -32002 || answer->error_code == -32602);
}

/* Whoever is subscribed to what this answers is compared with it. What is to be stored, or to go, is by now. */
static void show(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message,
                 const struct cp_storing *storing, bool was_granted)
{
    int64_t now_ms = now_of(fill), lifetime_ms;
    struct seen seen = {
        .message = message,
        .decision = &fill->decision,
        .keys = &fill->keys,
        .id = fill->id_of_caller,
        .own = fill->is_poll ? &fill->polled : NULL,
        .is_gone_for_all = was_granted,
        .began_ms = fill->began_ms,
    };
    bool is_whole = fill->reply.status == 200 && fill->reply.id_matches && answer->has_result && !answer->has_error &&
                    !answer->is_exchange_private && !fill->reply.server_asked && answer->is_object &&
                    (answer->type == CP_RESULT_COMPLETE || (answer->type == CP_RESULT_ABSENT && message->era == CP_ERA_LEGACY));

    if (fill->is_doubtful || !watch_may_want(fill->flow, message, &fill->decision, &fill->keys, seen.own))
        return;
    /* a tool that failed has not changed what it would say */
    if (is_whole && !answer->is_error) {
        seen.result = answer->result;
        seen.is_everybodys = cp_is_everybodys(&fill->decision, message->era, &fill->reply, answer);
        /* also of what is not kept: nobody is asked more often than that */
        lifetime_ms = cp_lifetime_of(&fill->decision, storing->has_hint, storing->hint_ttl_ms);
        seen.fresh_until_ms = lifetime_ms > 0 ? now_ms + lifetime_ms : 0;
    } else if (!is_gone(fill, answer, message)) {
        return;
    }
    /* what ended since it was asked for says nothing of what its caller may hear now */
    if (!admission_holds(&fill->flow->trust, fill->id_of_caller, fill->began_ms))
        return;
    if (watch_saw(fill->flow, &seen, now_ms) && fill->is_poll)
        fill->is_accepted = true;
}

/* What lies there and is not what came now. */
static void drop_replaced(struct fill *fill, const struct cp_answer *answer, const struct cp_storing *storing, bool was_refused)
{
    if (!fill->is_stored || storing->scope == CP_SCOPE_PUBLIC)
        drop_private(fill);
    if (was_refused)
        return;
    if (!storing->store || storing->scope != CP_SCOPE_PUBLIC)
        drop_public(fill, fill->reply.id_matches && answer->has_result && !answer->has_error);
    else if (!fill->is_stored)
        drop_public(fill, false);
}

static void keep(struct fill *fill, const struct cp_answer *answer, const struct cp_message *message)
{
    struct cp_storing storing = {.store = false, .reason = CP_REASON_UNREADABLE};
    bool was_granted = admission_is_granted(&fill->flow->trust, fill->id_of_caller, fill->keys.grant, now_of(fill));
    bool is_result = fill->reply.id_matches && answer->has_result && !answer->has_error && !answer->is_error;
    bool was_refused = is_refusal(fill, answer), spares = is_failed_refresh(fill, answer, message->era);

    if (was_refused && answer->has_error && answer->error_code == -32602 && keys_is_later_page(message))
        drop_pages(fill, message);
    if (spares) {
        /* the tool failed, as it may; or it refuses him, and then he has seen the last of what is everybody's */
        if (answer->is_error && !has_own_entry(fill))
            admission_withdraw(&fill->flow->trust, fill->keys.grant, now_of(fill));
    } else if (was_refused) {
        refused(fill);
    } else if (is_result && fill->reply.status == 200) {
        admission_grant(&fill->flow->trust, fill->id_of_caller, fill->keys.grant, fill->began_ms);
    }
    if (fill->kind == FILL_WATCH) {
        watch(fill, answer, message, is_result, was_refused);
        show(fill, answer, message, &storing, was_granted);
        return;
    }
    if (!fill->is_doubtful)
        cp_decide_store(&fill->decision, message, &fill->reply, answer, &storing);
    if (spares && storing.store)
        storing = (struct cp_storing){.store = false, .reason = CP_REASON_IS_ERROR};
    fill->reason = storing.reason;
    if (storing.store)
        fill->reason = put(fill, answer, message, &storing);
    fill->is_stored = storing.store && fill->reason == CP_REASON_NONE;
    share(fill, answer, message, &storing);
    if (!spares)
        drop_replaced(fill, answer, &storing, was_refused);
    show(fill, answer, message, &storing, was_granted);
}

static void on_definition(void *ctx, const struct cp_definition *definition)
{
    struct fill *fill = ctx;

    definition_learn(&fill->flow->trust, fill->id_of_caller, definition->name, definition->annotation, definition->canonical,
                     fill->generation, fill->began_ms, now_of(fill));
}

static void learn_definitions(struct fill *fill, const struct cp_answer *answer)
{
    if (fill->reply.status == 200 && fill->reply.id_matches && answer->has_result && !answer->has_error && !fill->is_doubtful &&
        cp_definitions_read(answer, &fill->flow->trust.doc, &fill->flow->text, on_definition, fill) != 0)
        h2o_fatal("no memory");
}

void fill_unread(struct fill *fill)
{
    /* a bypass may ask for an encoding that nobody here reads */
    if (fill->kind == FILL_WATCH && !fill->is_judged && fill->reply.status == 200)
        drop_private(fill);
    if (fill->kind == FILL_STORE && !fill->is_judged && fill->reply.status == 200 &&
        (fill->reply.is_json || fill->reply.is_events)) {
        drop_public(fill, true);
        drop_private(fill);
    }
}

static void judge(struct fill *fill, const struct cp_answer *answer)
{
    struct cp_message message;

    fill->is_judged = true;
    cp_message_parse(&message, &fill->flow->request_doc, fill->body);
    fill->reply.id_matches = cp_answer_is_to(answer, fill->id) || MUTANT("wrong-id-stored");
    switch (fill->kind) {
    case FILL_NOTHING:
        break;
    case FILL_SESSION:
        if (fill->reply.id_matches)
            learn_session(fill, answer, &message);
        break;
    case FILL_STORE:
    case FILL_WATCH:
        keep(fill, answer, &message);
        if (message.method == CP_METHOD_TOOLS_LIST)
            learn_definitions(fill, answer);
        if (!fill->is_poll)
            fill->is_accepted = fill->is_stored;
        break;
    case FILL_SUBSCRIBE:
        fill->is_accepted = fill->reply.status == 200 && fill->reply.id_matches && answer->has_result && !answer->has_error;
        break;
    case FILL_LEARN:
        learn_definitions(fill, answer);
        break;
    case FILL_PROBE:
        fill->is_accepted = fill->reply.status == 200 && fill->reply.id_matches && answer->has_result && !answer->has_error;
        if (!fill->is_accepted)
            break;
        admission_learn(&fill->flow->trust, fill->id_of_caller,
                        &(struct admission_facts){.status = 200, .proves = true, .is_probe = true, .began_ms = fill->began_ms},
                        now_of(fill));
        /* not if something ended since it was asked */
        fill->is_accepted =
            fill->id_of_caller->epochs[0] != 0 && (!fill->id_of_caller->has_session || fill->id_of_caller->epochs[1] != 0);
        break;
    }
}

void fill_reply(struct fill *fill, struct span text)
{
    struct cp_answer answer;

    cp_answer_parse(&answer, &fill->flow->reply_doc, text);
    judge(fill, &answer);
}

void fill_event(struct fill *fill, struct span data, bool lost)
{
    struct cp_answer answer;

    /* priming events have no data */
    if (data.n == 0 || fill->kind == FILL_NOTHING)
        return;
    cp_answer_parse(&answer, &fill->flow->reply_doc, data);
    if (fill->is_judged) {
        /* a second reply, or what may be one: which of the two a client believes is not certain */
        if (!answer.is_readable || !answer.has_method)
            fill_withdraw(fill);
        return;
    }
    fill->is_doubtful |= lost;
    if (answer.is_readable && answer.has_method) {
        /* a request of the server's own: the result is this caller's alone */
        if (answer.id.p != NULL)
            fill->reply.server_asked = true;
    } else if (answer.is_readable && (cp_answer_is_to(&answer, fill->id) || is_anybodys_error(&answer))) {
        judge(fill, &answer);
    } else {
        /* an array may hold a request of the server's, and so may what cannot be read */
        fill->is_doubtful = true;
    }
}

void fill_withdraw(struct fill *fill)
{
    struct store *store = fill->flow->shared->trust.store;
    struct cp_key key;

    if (!fill->is_stored)
        return;
    fill->is_stored = false;
    fill->reason = CP_REASON_UNREADABLE;
    if (keys_bind(&fill->keys, fill->id_of_caller, fill->decision.private_scope, &key))
        store_delete(store, &key);
    if (fill->keys.has_public)
        store_delete(store, &fill->keys.public_key);
}

void fill_done(struct fill *fill)
{
    flight_outcome_unref_null(fill->outcome);
    free(fill->session_id);
}
