#define _GNU_SOURCE
#include "tracer.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

long tracer_ptrace(long request, long pid, unsigned long address, void *data)
{
    long result = syscall(SYS_ptrace, request, pid, address, data);
    return result < 0 ? -errno : result;
}

long tracer_personality(unsigned long persona)
{
    long result = syscall(SYS_personality, persona);
    return result < 0 ? -errno : result;
}

#if defined(__x86_64__)

#include "processor.h"

int tracer_processor(unsigned int words[8])
{
    processor_read(words);
    return 0;
}

#else

int tracer_processor(unsigned int words[8])
{
    (void)words;
    return -1;
}

#endif
