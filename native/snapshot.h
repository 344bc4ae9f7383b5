/* The point at which tools/make-snapshot.py takes the picture of a started interpreter, and at which every process
 * that is started from the picture goes on: a module of its own, of which only that picture knows.
 */
#ifndef PYRUNTIME_SNAPSHOT_H
#define PYRUNTIME_SNAPSHOT_H

/* Stops for the picture to be taken (SIGTRAP). Returns in each process started from it: the stack as execve(2) left
 * it, that is argc, argv, NULL, environment, NULL. NULL at once on an architecture for which it is not written. */
const long *snapshot_point(void);

#endif
