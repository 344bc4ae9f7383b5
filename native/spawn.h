/* The last process of a start: cloned into the pid namespace with nothing of the runtime in it, it executes the program.
 *
 * The declarations below are read by the C compiler and by cffi, so they stay plain.
 */
#ifndef PYRUNTIME_SPAWN_H
#define PYRUNTIME_SPAWN_H

/*
 * What the new process does, in this order; descriptors that are not used are -1.
 *
 * setsid(2)
 * terminal        TIOCSCTTY on standard input
 * wait            one packet is read from the channel; its end means that the parent has died
 * has_limit       RLIMIT_NPROC
 * filter          seccomp(2); with a listener, `listener` is written to the channel and an answer is read from it
 * has_capabilities capset(2)
 * fifo            `waiting` is written to the channel, which is then closed; '0' is read from the exec fifo
 * program         execve(2)
 *
 * Errors: `report` is written to the channel, or `last_report` to `failure` once the channel is closed. In both, and in
 * `listener`, three digits are filled in at the offset given with them: an error number, a descriptor. In `report` a
 * character is filled in at report_call: 't' terminal, 'l' limit, 'f' filter, 'c' capset, 'e' execve.
 */
struct spawn {
    const char *program;
    const char *const *arguments;
    const char *const *environment;
    int channel, fifo, failure;
    int terminal, wait, has_limit, has_capabilities;
    unsigned long long limit[2];
    unsigned int capabilities[6]; /* effective, permitted, inheritable of the lower 32, then of the upper */
    const void *filter;
    unsigned int filter_flags;
    unsigned short filter_length;
    char *report, *last_report, *listener, *waiting;
    int report_length, report_call, report_errno;
    int last_report_length, last_report_errno;
    int listener_length, listener_number, waiting_length;
    int *pid;
};

/* Does not return when the process was cloned: the caller ends. */
int shim_spawn(const struct spawn *wanted);

/* fsopen(2) with FSOPEN_CLOEXEC, by a child that has nothing of this process but its table of descriptors. */
int shim_fsopen_in_child(const char *name);

/* An int that a process shares with its clones; NULL when out of memory. */
int *shim_shared_int(void);
void shim_free_shared_int(int *shared);

#endif
