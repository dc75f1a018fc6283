/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP/1 request read strictly (RFC 9112 2.2, 3, 3.2, 5, 6.1, 6.3): is there one way only to say where this request ends and whom it is for?
 * libh2o 2.2.5 reads leniently (measured: Content-Length beside Transfer-Encoding, the first of two lengths, the last of two codings and of two hosts, bare
 * LF, folded fields, no Host). Whoever stands before us may read the same bytes otherwise, and then what one takes for a body the other takes for the next
 * request. So a request is acted upon only when this scan finds it clear.
 *
 * Bytes as they arrive: nothing is trusted for a size, and a cut head is never called clear. Names may already be in lower case. Pure; thread: any. */
#ifndef MCPCACHED_WIRE_FRAMING_H
#define MCPCACHED_WIRE_FRAMING_H

#include "cachepolicy/bytes.h"

/* X(NAME, "word for the log"). All but the first two: refuse with 400 and close. */
#define FRAMINGS(X)                                                                                                                \
    X(CLEAR, "clear")                                                                                                              \
    X(INCOMPLETE, "incomplete")       /* not ended, and nothing wrong in the lines that have */                                    \
    X(LINE_END, "line-end")           /* a line that does not end with CRLF */                                                     \
    X(CONTROL, "control")             /* a control byte other than HTAB in a value; CR is one */                                   \
    X(REQUEST_LINE, "request-line")   /* not METHOD SP TARGET SP HTTP/1.0|1.1 */                                                   \
    X(FIELD, "field")                 /* no colon, no name, or a name that is no token (a blank before the colon) */               \
    X(FOLD, "fold")                   /* a line that begins with a blank */                                                        \
    X(LENGTH, "length")               /* a Content-Length that is not 1 to 19 digits */                                            \
    X(LENGTHS, "lengths")             /* more than one, equal ones too */                                                          \
    X(CODING, "coding")               /* a Transfer-Encoding that is not "chunked", or any in HTTP/1.0 */                          \
    X(CODINGS, "codings")             /* more than one */                                                                          \
    X(LENGTH_CODING, "length-coding") /* both */                                                                                   \
    X(HOST, "host")                   /* none in HTTP/1.1, or one that is not HOST[:PORT]; an empty one passes */                  \
    X(HOSTS, "hosts")                 /* more than one */

enum framing {
#define X(name, word) FRAMING_##name,
    FRAMINGS(X)
#undef X
};

struct framing_head {
    size_t bytes; /* of the head, with one empty line before it and the one that ends it; the body begins there */
    bool is_chunked;
};

/* Scans a request from the start of bytes, whatever follows its head. *ret is filled when CLEAR, untouched otherwise. What is neither CLEAR nor INCOMPLETE
 * stays so whatever comes behind. */
enum framing framing_scan(struct span bytes, struct framing_head *ret);
/* Static. */
const char *framing_word(enum framing f);

#endif
