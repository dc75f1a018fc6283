/* SPDX-License-Identifier: Apache-2.0 */
/* upstream_url_parse of sidecar/upstream/upstream.c: what --upstream may say. */
#include "unit.h"

#include <errno.h>

#include "sidecar/upstream/upstream.h"

static void urls_are_taken_apart(void **state)
{
    static const struct {
        const char *text, *host, *authority, *path;
        uint16_t port;
        bool is_tls;
    } cases[] = {
        {"http://127.0.0.1:3000/mcp", "127.0.0.1", "127.0.0.1:3000", "/mcp", 3000, false},
        {"https://mcp.example.com/a/b/", "mcp.example.com", "mcp.example.com", "/a/b/", 443, true},
        {"http://localhost", "localhost", "localhost", "/", 80, false},
        {"http://localhost/", "localhost", "localhost", "/", 80, false},
        {"https://h:1", "h", "h:1", "/", 1, true},
        {"https://h:65535/x", "h", "h:65535", "/x", 65535, true},
        {"http://h:0080/", "h", "h:0080", "/", 80, false},
        {"http://[::1]:3000/mcp", "::1", "[::1]:3000", "/mcp", 3000, false},
        {"https://[2001:db8::1]/mcp", "2001:db8::1", "[2001:db8::1]", "/mcp", 443, true},
        {"http://[::1]", "::1", "[::1]", "/", 80, false},
        {"http://h//mcp", "h", "h", "//mcp", 80, false},
        {"http://h/a:1/%20b", "h", "h", "/a:1/%20b", 80, false},
        {"http://my_service.ns.svc.cluster.local:8000/mcp", "my_service.ns.svc.cluster.local",
         "my_service.ns.svc.cluster.local:8000", "/mcp", 8000, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cp_error error = {.text = ""};
        struct upstream_url url;

        if (upstream_url_parse(cases[i].text, &url, &error) != 0)
            fail_msg("%s: %s", cases[i].text, error.text);
        assert_span(url.host, cases[i].host);
        assert_span(url.authority, cases[i].authority);
        assert_span(url.path, cases[i].path);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.is_tls, cases[i].is_tls);
        assert_string_equal(url.text, cases[i].text);
        assert_ptr_not_equal(url.text, cases[i].text);
        upstream_url_done(&url);
        assert_null(url.text);
        assert_null(url.path.p);
    }
}

static void others_are_refused_with_a_sentence(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "--upstream is missing"},
        {"127.0.0.1:3000/mcp", "http:// or https://"},
        {"localhost", "http:// or https://"},
        {"ftp://h/", "http:// or https://"},
        {"unix:///run/mcp.sock", "http:// or https://"},
        {"http:/h/", "http:// or https://"},
        {" http://h/", "http:// or https://"},
        {"http://", "names no host"},
        {"http:///mcp", "names no host"},
        {"http://:3000/mcp", "names no host"},
        {"http://[]/mcp", "names no host"},
        {"http://::1/mcp", "names no host"},
        {"http://h:/mcp", "port"},
        {"http://h:0/mcp", "port"},
        {"http://h:65536/mcp", "port"},
        {"http://h:99999999999999999999/mcp", "port"},
        {"http://h:-1/mcp", "port"},
        {"http://h:+80/mcp", "port"},
        {"http://h:0x50/mcp", "port"},
        {"http://h:80a/mcp", "port"},
        {"http://h:http/mcp", "port"},
        {"http://h:80:80/mcp", "port"},
        {"http://2001:db8::1/mcp", "port"},
        {"http://[::1]3000/mcp", "port"},
        {"http://[::1]:/mcp", "port"},
        {"http://[::1/mcp", "']'"},
        {"http://[/]", "']'"},
        {"http://u:p@h/mcp", "user"},
        {"http://h/mcp?x=y", "query"},
        {"http://h/mcp#top", "fragment"},
        {"http://h /mcp", "http://host:port/path"},
        {"http://h/mcp ", "http://host:port/path"},
        {"http://h/mcp\n", "control byte"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cp_error error = {.text = ""};
        struct upstream_url url;

        if (upstream_url_parse(cases[i].text, &url, &error) != -EINVAL)
            fail_msg("accepted: %s", cases[i].text);
        if (strstr(error.text, "--upstream") == NULL || strstr(error.text, cases[i].says) == NULL ||
            (cases[i].text[0] != '\0' && strstr(error.text, cases[i].text) == NULL))
            fail_msg("%s: %s", cases[i].text, error.text);
        assert_null(url.text);
        upstream_url_done(&url);
    }
}

static void a_host_has_a_name_that_dns_can_carry(void **state)
{
    char text[512] = "http://";
    struct cp_error error = {.text = ""};
    struct upstream_url url;

    (void)state;
    memset(text + 7, 'h', 253);
    assert_int_equal(upstream_url_parse(text, &url, &error), 0);
    assert_int_equal(url.host.n, 253);
    upstream_url_done(&url);
    text[7 + 253] = 'h';
    assert_int_equal(upstream_url_parse(text, &url, &error), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_taken_apart),
        cmocka_unit_test(others_are_refused_with_a_sentence),
        cmocka_unit_test(a_host_has_a_name_that_dns_can_carry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
