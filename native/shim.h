/* The system calls that Python cannot make, one small function each.
 *
 * Every function returns the call's result, or minus the error number. No policy, no parsing.
 * The declarations below are read by the C compiler and by cffi, so they stay plain.
 */
#ifndef PYRUNTIME_SHIM_H
#define PYRUNTIME_SHIM_H

int shim_clone3(unsigned long long flags, int exit_signal, int cgroup_fd, int *pidfd);
int shim_unshare(int flags);
int shim_setns(int fd, int flags);
int shim_pivot_root(const char *new_root, const char *put_old);

int shim_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int shim_umount2(const char *target, int flags);
int shim_open_tree(int dirfd, const char *path, unsigned int flags);
int shim_move_mount(int from_fd, const char *from_path, int to_fd, const char *to_path, unsigned int flags);
int shim_fsopen(const char *type, unsigned int flags);
int shim_fsconfig(int fd, unsigned int command, const char *key, const char *value, int aux);
int shim_fsmount(int fd, unsigned int flags, unsigned int attributes);
int shim_mount_setattr(int dirfd, const char *path, unsigned int flags, unsigned long long set,
                       unsigned long long clear, unsigned long long propagation, int userns_fd);
int shim_read_log(int fd, char *buffer, int size);

int shim_openat2(int dirfd, const char *path, unsigned long long flags, unsigned long long mode,
                 unsigned long long resolve);
long shim_fstatfs_type(int fd);
int shim_mount_id(int fd, unsigned long long *id);

int shim_sethostname(const char *name, int length);
int shim_setdomainname(const char *name, int length);
int shim_personality(unsigned long persona);
int shim_prlimit(int pid, int resource, unsigned long long soft, unsigned long long hard);
int shim_capget(unsigned int *effective, unsigned int *permitted, unsigned int *inheritable);
int shim_ambient(unsigned long long capabilities);
int shim_capset(unsigned long long effective, unsigned long long permitted, unsigned long long inheritable);
int shim_join_session_keyring(const char *name);

int shim_keyring_setperm(int keyring, unsigned int permissions);
int shim_ioprio_set(int which, int who, int priority);
int shim_ioprio_get(int which, int who);
int shim_sched_setattr(int pid, unsigned int policy, unsigned long long flags, int nice, unsigned int priority,
                       unsigned long long runtime, unsigned long long deadline, unsigned long long period);
int shim_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max_node);
int shim_pidfd_getfd(int pidfd, int fd);
int shim_exchange(const char *one, const char *other);
int shim_close_range(unsigned int first, unsigned int last, unsigned int flags);
int shim_reset_signals(void);
int shim_wait_and_execute(int fifo, int failure, const char *words, const char *program, const char *const *arguments,
                          const char *const *environment);
int shim_signalfd(unsigned long long mask);
int shim_bpf(int command, const void *attributes, unsigned int size);
int shim_landlock_create_ruleset(const void *attributes, unsigned long size, unsigned int flags);
int shim_landlock_add_rule(int ruleset, int type, const void *attributes);
int shim_landlock_restrict_self(int ruleset);
int shim_seccomp(unsigned int operation, unsigned int flags, const void *program, unsigned short length);

#endif
