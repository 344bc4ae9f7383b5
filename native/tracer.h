/* What the maker of a snapshot needs of the kernel and of the processor (pyruntime/boot/snapshot/interpreter.py). */
#ifndef PYRUNTIME_TRACER_H
#define PYRUNTIME_TRACER_H

/* ptrace(2), as the kernel has it: -errno when it fails. */
long tracer_ptrace(long request, long pid, unsigned long address, void *data);

/* personality(2): -errno when it fails. */
long tracer_personality(unsigned long persona);

/* The eight words of processor.h; -1 on an architecture for which it is not written. */
int tracer_processor(unsigned int words[8]);

#endif
