/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the sidecar of the streams benchmark where the machine's limit of descriptors is too low: getrlimit names the limit that STREAMS_LIMIT says, and setrlimit sets what
 * can be had. The sidecar takes its share for clients (40 %) of that; what it really opens must still fit below the kernel's limit. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/resource.h>

typedef int limit_fn(__rlimit_resource_t resource, struct rlimit *limit);

static limit_fn *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    return *(limit_fn **)&found;
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *ret)
{
    int r = real("getrlimit")(resource, ret);

    if (resource == RLIMIT_NOFILE && r == 0)
        ret->rlim_cur = ret->rlim_max = strtoul(getenv("STREAMS_LIMIT"), NULL, 10);
    return r;
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    struct rlimit own = *limit;

    if (resource == RLIMIT_NOFILE && real("getrlimit")(resource, &own) == 0)
        own.rlim_cur = own.rlim_max;
    return real("setrlimit")(resource, &own);
}
