/* SPDX-License-Identifier: Apache-2.0 */
/* Policy files: which of a directory are read, in which order, and what is said where nothing can be. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/policy_file.h"

static char directory[] = P_tmpdir "/test_policy_file.XXXXXX";

static const char *in_directory(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static int enter(void **state)
{
    (void)state;
    strcpy(directory, P_tmpdir "/test_policy_file.XXXXXX");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    char command[256];

    snprintf(command, sizeof(command), "chmod -R u+rwx '%s' && rm -rf '%s'", directory, directory);
    return system(command);
}

static void a_file_is_read(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    write_file("any.name", "version: 1\ntools: [{ name: a, ttl: 1s }]\n");
    assert_int_equal(policy_load(in_directory("any.name"), &policy, &errors), 0);
    assert_int_equal(policy->tool_count, 1);
    assert_string_equal(policy->tools[0].file, in_directory("any.name"));
    cp_policy_unref(policy);

    write_file("any.name", "version: 1\nmode: x\n");
    policy = NULL;
    assert_int_equal(policy_load(in_directory("any.name"), &policy, &errors), -EINVAL);
    assert_null(policy);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].file, in_directory("any.name"));
    assert_int_equal(errors.items[0].line, 2);
}

/* As a ConfigMap is mounted: names are links into ..data, which is a link to a hidden directory. */
static void a_mounted_directory_is_read_in_the_order_of_its_names(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    assert_int_equal(mkdir(in_directory("..2026"), 0755), 0);
    assert_int_equal(symlink("..2026", in_directory("..data")), 0);
    write_file("..2026/b.yaml", "tools: [{ name: from_b, ttl: 1s }]\n");
    write_file("..2026/B.yml", "version: 1\ntools: [{ name: from_B, ttl: 1s }]\n");
    assert_int_equal(symlink("..data/b.yaml", in_directory("b.yaml")), 0);
    assert_int_equal(symlink("..data/B.yml", in_directory("B.yml")), 0);
    write_file("a.json", "{\"tools\": [{\"name\": \"from_a\", \"ttl\": \"1s\"}]}");
    write_file("b10.yaml", "tools: [{ name: from_b10, ttl: 1s }]\n");
    write_file(".hidden.yaml", "this: is no policy\n");
    write_file("README.md", "this: is no policy\n");
    write_file("b.yaml~", "this: is no policy\n");
    write_file(".yaml", "this: is no policy\n");
    assert_int_equal(mkdir(in_directory("sub.yaml"), 0755), 0);
    write_file("sub.yaml/x.yaml", "this: is no policy\n");

    if (policy_load(directory, &policy, &errors) != 0)
        fail_msg("%s: %s", errors.items[0].file, errors.items[0].text);
    static const char *const names[] = {"from_B", "from_a", "from_b", "from_b10"};
    assert_int_equal(policy->tool_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(policy->tools[i].pattern, names[i]);
    assert_string_equal(policy->tools[2].file, in_directory("b.yaml"));
    cp_policy_unref(policy);

    /* With a slash at the end the names are the same. */
    assert_int_equal(policy_load(in_directory(""), &policy, &errors), 0);
    assert_string_equal(policy->tools[2].file, in_directory("b.yaml"));
    cp_policy_unref(policy);
}

static void what_cannot_be_read_is_said_with_a_cure(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    assert_int_equal(policy_load(in_directory("missing.yaml"), &policy, &errors), -ENOENT);
    assert_non_null(strstr(errors.items[0].text, "No such file or directory; check the path"));
    assert_string_equal(errors.items[0].file, in_directory("missing.yaml"));

    memset(&errors, 0, sizeof(errors));
    assert_int_equal(policy_load(directory, &policy, &errors), -EINVAL);
    assert_non_null(strstr(errors.items[0].text, "holds no policy"));
    write_file("readme.txt", "x");
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(policy_load(directory, &policy, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);

    /* One bad entry: nothing is loaded. Every bad one is named. */
    write_file("a.yaml", "version: 1\n");
    assert_int_equal(symlink("nowhere", in_directory("b.yaml")), 0);
    assert_int_equal(symlink("c.yaml", in_directory("c.yaml")), 0);
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(policy_load(directory, &policy, &errors), -ENOENT);
    assert_int_equal(errors.count, 2);
    assert_string_equal(errors.items[0].file, in_directory("b.yaml"));
    assert_non_null(strstr(errors.items[1].text, "circle"));

    /* A pipe nobody writes to must not hold the start. */
    assert_int_equal(mkfifo(in_directory("d.yaml"), 0600), 0);
    memset(&errors, 0, sizeof(errors));
    assert_int_equal(policy_load(in_directory("d.yaml"), &policy, &errors), -EINVAL);
    assert_non_null(strstr(errors.items[0].text, "neither a file nor a directory"));
    memset(&errors, 0, sizeof(errors));
    assert_true(policy_load(directory, &policy, &errors) < 0);
    assert_int_equal(errors.count, 3);

    /* Permissions mean nothing to root. */
    if (geteuid() != 0) {
        assert_int_equal(chmod(in_directory("a.yaml"), 0), 0);
        memset(&errors, 0, sizeof(errors));
        assert_int_equal(policy_load(in_directory("a.yaml"), &policy, &errors), -EACCES);
        assert_non_null(strstr(errors.items[0].text, "let the user that runs this process read it"));
    }
    assert_null(policy);
}

static void a_file_beyond_the_limit_is_not_cut(void **state)
{
    (void)state;
    struct cp_errors errors = {0};
    struct cp_policy *policy = NULL;

    write_file("a.yaml", "version: 1\n");
    assert_int_equal(truncate(in_directory("a.yaml"), (off_t)CP_POLICY_TEXT_MAX_BYTES + 100), 0);
    assert_int_equal(policy_load(in_directory("a.yaml"), &policy, &errors), -EINVAL);
    assert_string_equal(errors.items[0].text, "the text is larger than 1 MiB");
    assert_null(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_read, enter, leave),
        cmocka_unit_test_setup_teardown(a_mounted_directory_is_read_in_the_order_of_its_names, enter, leave),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_said_with_a_cure, enter, leave),
        cmocka_unit_test_setup_teardown(a_file_beyond_the_limit_is_not_cut, enter, leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
