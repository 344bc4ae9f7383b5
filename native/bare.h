/* System calls for code that has no C library: its data is unmapped, or left out of the clone.
 *
 * BARE says whether they exist for this architecture; BARE_TOP is where a process's addresses end. With PORTABLE defined
 * they exist for none: `make check` compiles what other architectures get.
 */
#ifndef PYRUNTIME_BARE_H
#define PYRUNTIME_BARE_H

/* No instrumentation: what a sanitizer inserts reads memory that is gone. */
#define UNINSTRUMENTED __attribute__((no_stack_protector, no_sanitize_address, no_sanitize_undefined))

#if defined(__x86_64__) && !defined(PORTABLE)

#define BARE 1
#define BARE_TOP 0x7ffffffff000UL

UNINSTRUMENTED static inline __attribute__((always_inline)) long bare(long number, long a, long b, long c, long d)
{
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__) && !defined(PORTABLE)

#define BARE 1
#define BARE_TOP 0xfffffffff000UL

UNINSTRUMENTED static inline __attribute__((always_inline)) long bare(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory", "cc");
    return x0;
}

#else

#define BARE 0

#endif

#endif
