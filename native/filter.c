#define _GNU_SOURCE
#include "filter.h"

#include <dlfcn.h>
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

void *filter_new(unsigned int default_action) { return seccomp_init(default_action); }

void filter_free(void *filter) { seccomp_release(filter); }

int filter_optimize(void *filter, unsigned int level)
{
    return seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, level);
}

unsigned int filter_native_architecture(void) { return seccomp_arch_native(); }

unsigned int filter_architecture(const char *name) { return seccomp_arch_resolve_name(name); }

int filter_add_architecture(void *filter, unsigned int architecture) { return seccomp_arch_add(filter, architecture); }

int filter_system_call(unsigned int architecture, const char *name)
{
    return seccomp_syscall_resolve_name_arch(architecture, name);
}

int filter_system_call_name(unsigned int architecture, int system_call, char *name, unsigned int size)
{
    char *found = seccomp_syscall_resolve_num_arch(architecture, system_call);
    if (found == NULL)
        return -ENOENT;
    int length = snprintf(name, size, "%s", found);
    free(found);
    return length < (int)size ? length : -ENAMETOOLONG;
}

int filter_add_rule(void *filter, unsigned int action, int system_call, unsigned int count, const unsigned int *indexes,
                    const int *operators, const unsigned long long *values, const unsigned long long *others)
{
    struct scmp_arg_cmp comparisons[6]; /* a system call has six arguments */
    if (count > 6)
        return -EINVAL;
    for (unsigned int i = 0; i < count; i++)
        comparisons[i] = (struct scmp_arg_cmp){
            indexes[i], (enum scmp_compare)operators[i], values[i], others[i]
        };
    return seccomp_rule_add_array(filter, action, system_call, count, comparisons);
}

int filter_export(void *filter, int fd) { return seccomp_export_bpf(filter, fd); }

const char *filter_library(void)
{
    Dl_info found;
    return dladdr((void *)seccomp_init, &found) != 0 ? found.dli_fname : NULL;
}
