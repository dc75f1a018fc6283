/* SPDX-License-Identifier: Apache-2.0 */
/* Words: the table, and the page that explains it. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "cachepolicy/decide.h"

static char page[256 * 1024];

static int read_page(void **state)
{
    (void)state;
    FILE *file = fopen(OUTCOMES_MD, "rb");

    if (file == NULL)
        return -1;
    size_t n = fread(page, 1, sizeof(page) - 1, file);
    fclose(file);
    page[n] = '\0';
    return n > 0 ? 0 : -1;
}

static void assert_row(const char *word, const char *text)
{
    char row[512];

    snprintf(row, sizeof(row), "\n| `%s` | %s |", word, text);
    if (strstr(page, row) == NULL)
        fail_msg("docs/outcomes.md has no row that begins with%s", row);
}

static bool is_word(const char *word, size_t n)
{
    struct span s = {word, n};

    for (int i = 0; i < CP_OUTCOME_COUNT; i++) {
        if (span_eq(s, span_of(cp_outcome_word((enum cp_outcome)i))))
            return true;
    }
    for (int i = 0; i < CP_REASON_COUNT; i++) {
        if (span_eq(s, span_of(cp_reason_word((enum cp_reason)i))))
            return true;
    }
    return false;
}

static void every_word_has_its_row_in_the_docs(void **state)
{
    (void)state;
    for (int i = 0; i < CP_OUTCOME_COUNT; i++)
        assert_row(cp_outcome_word((enum cp_outcome)i), cp_outcome_text((enum cp_outcome)i));
    for (int i = 0; i < CP_REASON_COUNT; i++)
        assert_row(cp_reason_word((enum cp_reason)i), cp_reason_text((enum cp_reason)i));
}

static void every_row_in_the_docs_is_a_word(void **state)
{
    (void)state;
    unsigned rows = 0;

    for (const char *at = page; (at = strstr(at, "\n| `")) != NULL; rows++) {
        at += 4;
        const char *end = strchr(at, '`');
        assert_non_null(end);
        if (!is_word(at, (size_t)(end - at)))
            fail_msg("docs/outcomes.md explains '%.*s', which is no word", (int)(end - at), at);
    }
    assert_int_equal(rows, CP_OUTCOME_COUNT + CP_REASON_COUNT);
}

/* Words stand in metric labels and in a structured header field: lower case and '-' only, each once. */
static void words_are_tokens_and_differ(void **state)
{
    (void)state;
    for (int i = 0; i < CP_REASON_COUNT; i++) {
        const char *word = cp_reason_word((enum cp_reason)i);
        assert_true(word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyz-") == strlen(word));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(word, cp_reason_word((enum cp_reason)j));
    }
    for (int i = 0; i < CP_OUTCOME_COUNT; i++) {
        const char *word = cp_outcome_word((enum cp_outcome)i);
        assert_true(word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyz-") == strlen(word));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(word, cp_outcome_word((enum cp_outcome)j));
    }
    assert_string_equal(cp_reason_word(CP_REASON_NO_RULE), "no-rule");
    assert_string_equal(cp_outcome_word(CP_OUTCOME_HIT), "hit");
    assert_string_equal(cp_reason_word(CP_REASON_COUNT), "unknown");
    assert_string_equal(cp_outcome_word((enum cp_outcome)4711), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_word_has_its_row_in_the_docs),
        cmocka_unit_test(every_row_in_the_docs_is_a_word),
        cmocka_unit_test(words_are_tokens_and_differ),
    };

    return cmocka_run_group_tests(tests, read_page, NULL);
}
