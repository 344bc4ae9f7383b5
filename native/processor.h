/* What the processor and its operating system offer to programs. Shared by the launcher and tracer.c.
 *
 * Each cpuid is an exit to the hypervisor in a virtual machine (4 us in a nested one), so these are few: what decides
 * which routine a library chooses is in leaves 1, 7 and 0x80000001, and in XCR0.
 */
#ifndef PYRUNTIME_PROCESSOR_H
#define PYRUNTIME_PROCESSOR_H

enum { PROCESSOR_WORDS = 8 };

static inline void processor_cpuid(unsigned leaf, unsigned registers[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                     : "a"(leaf), "c"(0));
}

/* A processor without leaf 7 answers with another leaf, and always with the same. */
static inline void processor_read(unsigned words[PROCESSOR_WORDS])
{
    const unsigned OSXSAVE = 1u << 27;
    unsigned basic[4], extended[4], amd[4], enabled = 0, high = 0;
    processor_cpuid(1, basic);
    processor_cpuid(7, extended);
    processor_cpuid(0x80000001, amd);
    if (basic[2] & OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
    words[0] = basic[2];
    words[1] = basic[3];
    words[2] = extended[1];
    words[3] = extended[2];
    words[4] = extended[3];
    words[5] = amd[2];
    words[6] = enabled;
    words[7] = high;
}

#endif
