/* SPDX-License-Identifier: Apache-2.0 */
/* What the tools were said to be, to whom (sidecar/trust/definitions.c): what a full table forgets. */
#include "store_room.h"

#include "sidecar/trust/definitions.h"

struct fixture {
    struct room room;
    struct trust_shared shared;
    struct trust trust;
};

static int begin(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->room.path, "/tmp/mcpcached-definitions-XXXXXX");
    assert_non_null(mkdtemp(f->room.path));
    room_open(&f->room);
    /* one bucket: five records are one too many */
    f->shared = (struct trust_shared){.store = f->room.store, .definitions = definitions_new(4)};
    assert_int_equal(trust_init(&f->trust, &f->shared), 0);
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;

    trust_done(&f->trust);
    definitions_free(f->shared.definitions);
    room_close(&f->room);
    directory_remove(f->room.path);
    free(f);
    return 0;
}

static struct identity caller(uint8_t number)
{
    struct identity id = {.exp_s = -1};

    memset(id.credential.bytes, number, sizeof(id.credential.bytes));
    return id;
}

static void learn(struct fixture *f, uint8_t who, const char *tool, enum cp_annotation annotation, int64_t when_ms)
{
    struct identity id = caller(who);

    definition_learn(&f->trust, &id, span_of(tool), annotation, span_of(annotation == CP_ANNOTATION_VETO ? "writes" : "reads"),
                     store_generation(f->room.store), when_ms, when_ms);
}

static enum cp_annotation annotation_of(struct fixture *f, uint8_t who, const char *tool)
{
    struct identity id = caller(who);
    struct definition definition;

    definition_of(&f->trust, &id, span_of(tool), &definition);
    return definition.annotation;
}

/* Of all that is forgotten a veto costs more than a miss: the tool's writes would be taken for reads. */
static void a_full_table_forgets_a_veto_last(void **state)
{
    struct fixture *f = *state;
    int64_t now_ms = store_now_ms(f->room.store);

    learn(f, 1, "note", CP_ANNOTATION_VETO, now_ms);
    /* somebody else is told later that it only reads */
    learn(f, 2, "note", CP_ANNOTATION_READ_ONLY, now_ms + 1);
    assert_int_equal(annotation_of(f, 1, "note"), CP_ANNOTATION_VETO);
    for (char tool[] = "a"; *tool != 'z'; ++*tool)
        learn(f, 2, tool, CP_ANNOTATION_READ_ONLY, now_ms + 2);
    assert_int_equal(annotation_of(f, 1, "note"), CP_ANNOTATION_VETO);
    /* until he himself is told otherwise */
    learn(f, 1, "note", CP_ANNOTATION_NONE, now_ms + 3);
    assert_int_equal(annotation_of(f, 1, "note"), CP_ANNOTATION_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_table_forgets_a_veto_last, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
