/* SPDX-License-Identifier: Apache-2.0 */
/* The gate. Not here: what is said to those who are sent away (admin.c). Always: the token itself is not kept. */
#include "sidecar/admin/gate.h"

#include "cachepolicy/mutant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_token(struct span text)
{
    if (text.n < GATE_TOKEN_MIN || text.n > GATE_TOKEN_MAX)
        return false;
    for (size_t i = 0; i != text.n; ++i)
        if (text.p[i] <= ' ' || text.p[i] > '~')
            return false;
    return true;
}

int gate_read_token(const char *path, const char *setting, char *ret, struct cp_error *reterr)
{
    char text[GATE_TOKEN_MAX + 64];
    struct span line;
    const char *end;
    ssize_t n = -1;
    int r = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || (n = read(fd, text, sizeof(text))) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    if (r != 0) {
        cp_error_set(reterr, "", 0, 0, "%s '%.120s': %s; name a file whose first line is the token", setting, path, strerror(-r));
        return r;
    }
    end = memchr(text, '\n', (size_t)n);
    line = span_trim((struct span){text, end != NULL ? (size_t)(end - text) : (size_t)n});
    if (!is_token(line)) {
        cp_error_set(reterr, "", 0, 0,
                     "%s '%.120s': its first line must be a token of %d to %d printable characters without blanks; "
                     "openssl rand -hex 32 makes one",
                     setting, path, GATE_TOKEN_MIN, GATE_TOKEN_MAX);
        r = -EINVAL;
    } else {
        memcpy(ret, line.p, line.n);
        ret[line.n] = '\0';
    }
    OPENSSL_cleanse(text, sizeof(text));
    return r;
}

/* Of equal length whatever the token's is. */
static bool digest_of(struct span token, uint8_t ret[32])
{
    return EVP_Digest(token.p, token.n, ret, NULL, EVP_sha256(), NULL) == 1;
}

void gate_set_token(struct gate *gate, const char *token)
{
    gate->has_token = true;
    /* a digest that cannot be made is nobody's */
    if (!digest_of(span_of(token), gate->token_digest))
        memset(gate->token_digest, 0, sizeof(gate->token_digest));
}

static bool is_bearer(const struct gate *gate, struct span authorization)
{
    static const struct span scheme = SPAN_OF("bearer ");
    uint8_t digest[32];
    struct span token;

    if (authorization.n < scheme.n || !span_ieq((struct span){authorization.p, scheme.n}, scheme))
        return false;
    token = span_trim((struct span){authorization.p + scheme.n, authorization.n - scheme.n});
    return digest_of(token, digest) && CRYPTO_memcmp(digest, gate->token_digest, sizeof(digest)) == 0;
}

bool gate_is_loopback_host(struct span host)
{
    char text[64];
    struct in_addr v4;
    struct in6_addr v6;
    const char *colon;
    size_t n = host.n;

    if (n >= sizeof(text))
        return false;
    if (n > 0 && host.p[0] == '[') {
        const char *bracket = memchr(host.p, ']', n);

        if (bracket == NULL || (bracket + 1 != host.p + n && bracket[1] != ':'))
            return false;
        memcpy(text, host.p + 1, (size_t)(bracket - host.p) - 1);
        text[bracket - host.p - 1] = '\0';
        return inet_pton(AF_INET6, text, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    if (n > 0 && (colon = memchr(host.p, ':', n)) != NULL)
        n = (size_t)(colon - host.p);
    if (span_ieq((struct span){host.p, n}, SPAN("localhost")))
        return true;
    if (n > 0)
        memcpy(text, host.p, n);
    text[n] = '\0';
    return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

enum gate_pass gate_check(const struct gate *gate, const struct gate_headers *headers)
{
    if (gate->is_local && !gate_is_loopback_host(headers->host) && !MUTANT("admin-host-ignored"))
        return GATE_HOST;
    if (headers->has_origin && !MUTANT("admin-origin-ignored"))
        return GATE_ORIGIN;
    if (gate->has_token && !is_bearer(gate, headers->authorization) && !MUTANT("admin-token-ignored"))
        return GATE_TOKEN;
    return GATE_OPEN;
}
