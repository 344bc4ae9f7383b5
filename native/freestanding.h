/*
 * The start of a program without the C library, and system calls that return -errno.
 *
 * A program that links glibc, even statically, asks the processor for its features and caches before main, with
 * `cpuid`, and each of those is an exit to the hypervisor in a virtual machine. Measured in one: 0.8 ms for a
 * program that does nothing, 0.1 ms without the C library; 9 us for one cpuid. That cpuid is what the difference
 * goes to is inferred from these, not counted. Compile with -ffreestanding -nostdlib -static; without
 * -ffreestanding, or on an architecture that is not here, the same program links the C library.
 */
#ifndef PYRUNTIME_FREESTANDING_H
#define PYRUNTIME_FREESTANDING_H

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#define NORETURN __attribute__((noreturn))

NORETURN static void start(int argc, char **argv, char **environment);

#if defined(__x86_64__) && !__STDC_HOSTED__

static inline long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

/* mmap(2); NULL when it fails. */
static inline void *map(void *address, size_t size, int protection, int flags, long fd, long offset)
{
    unsigned long result;
    register long r10 __asm__("r10") = flags;
    register long r8 __asm__("r8") = fd;
    register long r9 __asm__("r9") = offset;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_mmap), "D"(address), "S"(size), "d"((long)protection), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result > -4096ul ? NULL : (void *)result;
}

static inline void unmap(void *address, size_t size)
{
    call(SYS_munmap, (long)address, (long)size, 0, 0, 0);
}

/* System V ABI, "Process Initialization": argc, argv, NULL, environment, NULL from the stack pointer
 * upwards. */
__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call start_from_stack\n");

NORETURN __attribute__((used)) static void start_from_stack(long *stack)
{
    char **argv = (char **)(stack + 1);
    start((int)stack[0], argv, argv + stack[0] + 1);
}

#else

#include <unistd.h>

static inline long call(long number, long a, long b, long c, long d, long e)
{
    long result = syscall(number, a, b, c, d, e);
    return result < 0 ? -errno : result;
}

int main(int argc, char **argv, char **environment)
{
    start(argc, argv, environment);
}

#endif

NORETURN static inline void leave(int status)
{
    for (;;)
        call(SYS_exit_group, status, 0, 0, 0, 0);
}

static inline size_t length(const char *text)
{
    size_t n = 0;
    while (text[n] != '\0')
        n++;
    return n;
}

static inline int starts_with(const char *text, const char *prefix)
{
    while (*prefix != '\0')
        if (*text++ != *prefix++)
            return 0;
    return 1;
}

#endif
