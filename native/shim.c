/* See shim.h. System calls go through syscall(2) where Debian 12's C library (2.36) has no wrapper. */
#define _GNU_SOURCE
#include "shim.h"

#include "bare.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define RESULT(call) \
    do { \
        long result = (long)(call); \
        return result < 0 ? -errno : (int)result; \
    } while (0)

int shim_clone3(unsigned long long flags, int exit_signal, int cgroup_fd, int *pidfd)
{
    struct clone_args args = { .flags = flags, .exit_signal = (unsigned)exit_signal };
    if (flags & CLONE_PIDFD)
        args.pidfd = (uint64_t)(uintptr_t)pidfd;
    if (flags & CLONE_INTO_CGROUP)
        args.cgroup = (uint64_t)cgroup_fd;
    RESULT(syscall(SYS_clone3, &args, sizeof args));
}

int shim_unshare(int flags) { RESULT(unshare(flags)); }
int shim_setns(int fd, int flags) { RESULT(setns(fd, flags)); }

int shim_pivot_root(const char *new_root, const char *put_old)
{
    RESULT(syscall(SYS_pivot_root, new_root, put_old));
}

int shim_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
    RESULT(mount(source, target, type, flags, data));
}

int shim_umount2(const char *target, int flags) { RESULT(umount2(target, flags)); }

int shim_open_tree(int dirfd, const char *path, unsigned int flags)
{
    RESULT(syscall(SYS_open_tree, dirfd, path, flags));
}

int shim_move_mount(int from_fd, const char *from_path, int to_fd, const char *to_path, unsigned int flags)
{
    RESULT(syscall(SYS_move_mount, from_fd, from_path, to_fd, to_path, flags));
}

int shim_fsopen(const char *type, unsigned int flags) { RESULT(syscall(SYS_fsopen, type, flags)); }

int shim_fsconfig(int fd, unsigned int command, const char *key, const char *value, int aux)
{
    RESULT(syscall(SYS_fsconfig, fd, command, key, value, aux));
}

int shim_fsmount(int fd, unsigned int flags, unsigned int attributes)
{
    RESULT(syscall(SYS_fsmount, fd, flags, attributes));
}

int shim_mount_setattr(int dirfd, const char *path, unsigned int flags, unsigned long long set,
                       unsigned long long clear, unsigned long long propagation, int userns_fd)
{
    struct mount_attr attr = {
        .attr_set = set, .attr_clr = clear, .propagation = propagation, .userns_fd = (uint64_t)userns_fd
    };
    RESULT(syscall(SYS_mount_setattr, dirfd, path, flags, &attr, sizeof attr));
}

int shim_read_log(int fd, char *buffer, int size) { RESULT(read(fd, buffer, (size_t)size)); }

int shim_openat2(int dirfd, const char *path, unsigned long long flags, unsigned long long mode,
                 unsigned long long resolve)
{
    struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
    RESULT(syscall(SYS_openat2, dirfd, path, &how, sizeof how));
}

long shim_fstatfs_type(int fd)
{
    struct statfs found;
    if (fstatfs(fd, &found) < 0)
        return -errno;
    return (long)((unsigned long)found.f_type & 0xffffffffUL);
}

int shim_mount_id(int fd, unsigned long long *id)
{
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, 0x1000 /* STATX_MNT_ID, Linux 5.8 */, &found) < 0)
        return -errno;
    *id = found.stx_mnt_id;
    return 0;
}

int shim_sethostname(const char *name, int length) { RESULT(sethostname(name, (size_t)length)); }
int shim_setdomainname(const char *name, int length) { RESULT(setdomainname(name, (size_t)length)); }
int shim_personality(unsigned long persona) { RESULT(personality(persona)); }

int shim_prlimit(int pid, int resource, unsigned long long soft, unsigned long long hard)
{
    struct rlimit64 limit = { .rlim_cur = soft, .rlim_max = hard };
    RESULT(syscall(SYS_prlimit64, pid, resource, &limit, NULL));
}

int shim_capget(unsigned int *effective, unsigned int *permitted, unsigned int *inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    for (int word = 0; word < 2; word++) {
        effective[word] = data[word].effective;
        permitted[word] = data[word].permitted;
        inheritable[word] = data[word].inheritable;
    }
    return 0;
}

int shim_capset(unsigned long long effective, unsigned long long permitted, unsigned long long inheritable)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
        { (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
    };
    RESULT(syscall(SYS_capset, &header, data));
}

int shim_ambient(unsigned long long capabilities)
{
    /* python-prctl knows no PR_CAP_AMBIENT. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    for (unsigned long capability = 0; capability < 64; capability++)
        if (capabilities >> capability & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
            return -errno;
    return 0;
}

int shim_join_session_keyring(const char *name)
{
    RESULT(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, name));
}

int shim_keyring_setperm(int keyring, unsigned int permissions)
{
    RESULT(syscall(SYS_keyctl, 5 /* KEYCTL_SETPERM */, keyring, permissions));
}

int shim_ioprio_get(int which, int who) { RESULT(syscall(SYS_ioprio_get, which, who)); }

int shim_ioprio_set(int which, int who, int priority) { RESULT(syscall(SYS_ioprio_set, which, who, priority)); }

int shim_sched_setattr(int pid, unsigned int policy, unsigned long long flags, int nice, unsigned int priority,
                       unsigned long long runtime, unsigned long long deadline, unsigned long long period)
{
    /* struct sched_attr, version 0 (Linux 3.14); not in the C library's headers. */
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = { 48, policy, flags, nice, priority, runtime, deadline, period };
    RESULT(syscall(SYS_sched_setattr, pid, &attr, 0));
}

int shim_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max_node)
{
    RESULT(syscall(SYS_set_mempolicy, mode, nodes, max_node));
}

int shim_landlock_create_ruleset(const void *attributes, unsigned long size, unsigned int flags)
{
    RESULT(syscall(SYS_landlock_create_ruleset, attributes, size, flags));
}

int shim_landlock_add_rule(int ruleset, int type, const void *attributes)
{
    RESULT(syscall(SYS_landlock_add_rule, ruleset, type, attributes, 0));
}

int shim_landlock_restrict_self(int ruleset) { RESULT(syscall(SYS_landlock_restrict_self, ruleset, 0)); }

int shim_pidfd_getfd(int pidfd, int fd) { RESULT(syscall(SYS_pidfd_getfd, pidfd, fd, 0)); }

int shim_exchange(const char *one, const char *other)
{
    RESULT(syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */));
}

int shim_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
    RESULT(syscall(SYS_close_range, first, last, flags));
}

int shim_reset_signals(void)
{
    /* An ignored signal stays ignored across execve(2), and Python ignores SIGPIPE and SIGXFSZ. */
    const char standard[64] = { 0 }; /* the kernel's struct sigaction: all zero is SIG_DFL */
    for (int signal = 1; signal <= 64; signal++)
        (void)syscall(SYS_rt_sigaction, signal, standard, NULL, 8); /* EINVAL: SIGKILL and SIGSTOP */
    sigset_t none;
    sigemptyset(&none);
    RESULT(sigprocmask(SIG_SETMASK, &none, NULL));
}

#if BARE

UNINSTRUMENTED static inline void drop(uintptr_t from, uintptr_t to)
{
    bare(SYS_madvise, (long)from, (long)(to - from), MADV_DONTNEED, 0); /* ENOMEM: there are holes in it, as is expected */
}

static size_t length_of(const char *const *texts, size_t *count)
{
    size_t length = 0;
    for (*count = 0; texts[*count] != NULL; (*count)++)
        length += strlen(texts[*count]) + 1;
    return length;
}

/* The texts behind *free, and a list of them at *list; both go on behind what they were given. */
static const char **copy_list(const char *const *texts, const char ***list, char **free)
{
    const char **copy = *list;
    for (; *texts != NULL; texts++) {
        *(*list)++ = *free;
        *free = stpcpy(*free, *texts) + 1;
    }
    *(*list)++ = NULL;
    return copy;
}

/*
 * Reads '0' from the exec fifo, then executes the program. While it waits the process keeps of its memory only its stack
 * and what it is to execute: every waiting container has an init. Returns only on an error before that. An
 * error of execve(2) is written to `failure`: `words`, three digits, and the end of a JSON string and object.
 *
 * From the first `drop` on there is no library, no thread-local storage and no global variable.
 */
UNINSTRUMENTED int shim_wait_and_execute(int fifo, int failure, const char *words, const char *program,
                                         const char *const *arguments, const char *const *environment)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    size_t argc, envc;
    const size_t strings = strlen(words) + strlen(program) + 2 + length_of(arguments, &argc) + length_of(environment, &envc);
    const size_t size = ((argc + envc + 2) * sizeof(char *) + strings + page - 1) / page * page;
    char *kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED)
        return -errno;
    const char **list = (const char **)kept;
    char *free = (char *)(list + argc + envc + 2);
    const char *const path = free;
    free = stpcpy(free, program) + 1;
    const char *const message = free;
    const long message_length = (long)strlen(words);
    free = stpcpy(free, words) + 1;
    const char **const argv = copy_list(arguments, &list, &free), **const envp = copy_list(environment, &list, &free);

    const uintptr_t stack = (uintptr_t)__builtin_frame_address(0) / page * page;
    const uintptr_t first = stack < (uintptr_t)kept ? stack - page : (uintptr_t)kept;
    const uintptr_t second = stack < (uintptr_t)kept ? (uintptr_t)kept : stack - page;
    const uintptr_t first_end = stack < (uintptr_t)kept ? stack + 2 * page : (uintptr_t)kept + size;
    const uintptr_t second_end = stack < (uintptr_t)kept ? (uintptr_t)kept + size : stack + 2 * page;
    drop(0, first);
    drop(first_end, second);
    drop(second_end, BARE_TOP);

    char go = 0;
    long error = 0;
    while (go != '0' && (error >= 0 || error == -EINTR))
        error = bare(SYS_read, fifo, (long)&go, 1, 0);
    if (go == '0')
        error = bare(SYS_execve, (long)path, (long)argv, (long)envp, 0);
    char digits[] = "000\"}";
    digits[0] = (char)('0' + -error / 100);
    digits[1] = (char)('0' + -error / 10 % 10);
    digits[2] = (char)('0' + -error % 10);
    bare(SYS_write, failure, (long)message, message_length, 0);
    bare(SYS_write, failure, (long)digits, 5, 0);
    for (;;)
        bare(SYS_exit_group, 1, 0, 0, 0);
}

#else

int shim_wait_and_execute(int fifo, int failure, const char *words, const char *program, const char *const *arguments,
                          const char *const *environment)
{
    (void)fifo, (void)failure, (void)words, (void)program, (void)arguments, (void)environment;
    return -ENOSYS;
}

#endif

int shim_signalfd(unsigned long long mask)
{
    RESULT(syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK));
}

int shim_bpf(int command, const void *attributes, unsigned int size)
{
    RESULT(syscall(SYS_bpf, command, attributes, size));
}

int shim_seccomp(unsigned int operation, unsigned int flags, const void *program, unsigned short length)
{
    struct sock_fprog filter = { .len = length, .filter = (struct sock_filter *)program };
    RESULT(syscall(SYS_seccomp, operation, flags, &filter));
}
