/* SPDX-License-Identifier: Apache-2.0 */
/* The state file: lock, boot id, clean flag. One line of text with its own sum, replaced by one small write.
 * Not here: what is done about a distrusted store (store.c).
 * Thread: as in the header. */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

static ssize_t read_all(int fd, char *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, p + got, n - got, (off_t)got);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static void line_parse(char line[STATE_LINE_MAX + 1], size_t n, struct state *state)
{
    unsigned schema = 0, clean = 0, distrusted = 0;
    uint64_t sum = 0;
    char *tail;
    int end = 0;

    line[n] = '\0';
    tail = strstr(line, " sum=");
    if (tail == NULL || sscanf(tail, " sum=%16" SCNx64 "%n", &sum, &end) != 1 || strcmp(tail + end, "\n") != 0 ||
        sum != XXH3_64bits(line, (size_t)(tail - line)))
        return;
    *tail = '\0';
    end = 0;
    if (sscanf(line,
               "mcpcached store schema=%u clean=%u distrusted=%u bytes=%" SCNu64 " head=%" SCNx64 " generations=%" SCNx64
               " boot=%n",
               &schema, &clean, &distrusted, &state->file_bytes, &state->head_sum, &state->generations_sum, &end) != 6 ||
        end == 0 || schema != STATE_SCHEMA || strlen(line + end) >= sizeof(state->boot))
        return;
    memcpy(state->boot, line + end, strlen(line + end) + 1);
    state->is_clean = clean == 1;
    state->is_distrusted = distrusted != 0;
    state->is_read = true;
}

int state_open(const char *path, struct state *ret)
{
    char line[STATE_LINE_MAX + 1];
    struct state state = {.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    ssize_t n;
    int r;

    if (state.fd < 0)
        return -errno;
    if (flock(state.fd, LOCK_EX | LOCK_NB) != 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        close(state.fd);
        return r;
    }
    n = read_all(state.fd, line, STATE_LINE_MAX);
    if (n < 0) {
        close(state.fd);
        return (int)n;
    }
    line_parse(line, (size_t)n, &state);
    *ret = state;
    return 0;
}

size_t state_format(const struct state *state, char ret[STATE_LINE_MAX])
{
    int n = snprintf(ret, STATE_LINE_MAX,
                     "mcpcached store schema=%d clean=%d distrusted=%d bytes=%" PRIu64 " head=%016" PRIx64
                     " generations=%016" PRIx64 " boot=%s",
                     STATE_SCHEMA, state->is_clean, state->is_distrusted, state->file_bytes, state->head_sum,
                     state->generations_sum, state->boot);
    n += snprintf(ret + n, STATE_LINE_MAX - (size_t)n, " sum=%016" PRIx64 "\n", (uint64_t)XXH3_64bits(ret, (size_t)n));
    return (size_t)n; /* some 230: every field is bounded */
}

int state_write(const struct state *state)
{
    char line[STATE_LINE_MAX];
    size_t n = state_format(state, line);
    ssize_t written = pwrite(state->fd, line, n, 0);

    if (written < 0)
        return -errno;
    if ((size_t)written != n)
        return -ENOSPC;
    if (ftruncate(state->fd, (off_t)n) != 0 || fdatasync(state->fd) != 0)
        return -errno;
    return 0;
}

void state_close(struct state *state)
{
    if (state->fd >= 0)
        close(state->fd);
    state->fd = -1;
}

bool state_is_trusted(const struct state *state, const char *boot)
{
    if (!state->is_read || state->is_distrusted)
        return false;
    return state->is_clean || (boot[0] != '\0' && strcmp(state->boot, boot) == 0);
}

void state_boot_id(char ret[40])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;

    if (fd >= 0) {
        n = read_all(fd, ret, 39);
        close(fd);
    }
    ret[n > 0 ? n : 0] = '\0';
    ret[strspn(ret, "0123456789abcdefABCDEF-")] = '\0';
}
