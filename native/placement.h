/* Where the interpreter's objects lie in memory, while tools/make-snapshot.py makes a snapshot of it: this module is
 * loaded before the interpreter starts then (LD_PRELOAD), and looks for PYRUNTIME_PLACEMENT in its environment. Part
 * of the module of snapshot.h.
 */
#ifndef PYRUNTIME_PLACEMENT_H
#define PYRUNTIME_PLACEMENT_H

/* When PYRUNTIME_PLACEMENT is "observe" each allocation lies in pages of its own. Ends that: how many there were; else
 * -1. */
long placement_observed(void);

/* Of observed allocation number i: the address of its first page, and its size in bytes. */
unsigned long placement_address(long i);
unsigned long placement_size(long i);

/* A child that does nothing but share all pages, so that one that is written to from now on becomes another page for
 * the writer: its pid, or -1. */
long placement_witness(void);

/* How many allocations placement_observed has seen more, or fewer, than when they were observed: when there are any, objects lie in the
 * places of others. */
long placement_missed(void);

/* The objects of the snapshot are made: what is allocated from now on does not lie between them. */
void placement_end(void);

#endif
