/* The point at which the picture of a started interpreter is taken (pyruntime/boot/snapshot/make.py), and at which every
 * process that is started from the picture goes on: a module of its own, of which only that picture knows.
 */
#ifndef PYRUNTIME_SNAPSHOT_H
#define PYRUNTIME_SNAPSHOT_H

/* Stops for the picture to be taken (SIGTRAP); `files` are for its maker, one a line. Returns in each process started from
 * it: the stack as execve(2) left it, that is argc, argv, NULL, environment, NULL. NULL at once on an architecture for
 * which it is not written, and where the kernel does not report what it keeps of a thread. */
const long *snapshot_point(const char *files);

#endif
