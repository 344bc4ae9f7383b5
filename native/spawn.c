/* See spawn.h. */
#define _GNU_SOURCE
#include "spawn.h"

#include "bare.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__has_include) && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#if BARE

#define STACK 16384

/*
 * The new process has the pages of this section, and those that `shim_spawn` fills: no C library, no thread-local
 * storage, no constants. What is here calls nothing that is elsewhere.
 */
#define ALONE UNINSTRUMENTED __attribute__((section("spawn_text"), noinline, optimize("no-stack-protector")))
extern const char __start_spawn_text[] __attribute__((visibility("hidden")));
extern const char __stop_spawn_text[] __attribute__((visibility("hidden")));

ALONE static void leave(void)
{
    for (;;)
        bare(SYS_exit_group, 1, 0, 0, 0);
}

ALONE static void fill_in(char *digits, long number)
{
    digits[0] = (char)('0' + number / 100 % 10);
    digits[1] = (char)('0' + number / 10 % 10);
    digits[2] = (char)('0' + number % 10);
}

ALONE static void fail(const struct spawn *own, char call, long error)
{
    own->report[own->report_call] = call;
    fill_in(own->report + own->report_errno, -error);
    bare(SYS_write, own->channel, (long)own->report, own->report_length, 0);
    leave();
}

ALONE static void wait_for_parent(const struct spawn *own)
{
    char answer[64];
    long error;
    do
        error = bare(SYS_read, own->channel, (long)answer, sizeof answer, 0);
    while (error == -EINTR);
    if (error <= 0)
        leave(); /* the parent is dead, or failed and kills this process */
}

ALONE static void load_filter(const struct spawn *own)
{
    struct sock_fprog program = { .len = own->filter_length, .filter = (struct sock_filter *)own->filter };
    const long result = bare(SYS_seccomp, SECCOMP_SET_MODE_FILTER, own->filter_flags, (long)&program, 0);
    if (result < 0 || (result > 0 && !(own->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)))
        fail(own, 'f', result < 0 ? result : -ESRCH); /* TSYNC returns the thread that could not follow */
    if (own->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) {
        fill_in(own->listener + own->listener_number, result);
        bare(SYS_write, own->channel, (long)own->listener, own->listener_length, 0);
        wait_for_parent(own);
        bare(SYS_close, result, 0, 0, 0);
    }
}

ALONE static void wait_for_start(const struct spawn *own)
{
    char go = 0;
    long error = 0;
    bare(SYS_write, own->channel, (long)own->waiting, own->waiting_length, 0);
    bare(SYS_close, own->channel, 0, 0, 0);
    while (go != '0' && (error >= 0 || error == -EINTR))
        error = bare(SYS_read, own->fifo, (long)&go, 1, 0);
}

/* Of the process: nothing that the program does not have is open or mapped, except these descriptors. */
ALONE static void become(const void *argument)
{
    const struct spawn *own = argument;
    long error;
    bare(SYS_setsid, 0, 0, 0, 0);
    if (own->terminal && (error = bare(SYS_ioctl, 0, TIOCSCTTY, 0, 0)) < 0)
        fail(own, 't', error);
    if (own->wait)
        wait_for_parent(own);
    if (own->has_limit && (error = bare(SYS_prlimit64, 0, RLIMIT_NPROC, (long)own->limit, 0)) < 0)
        fail(own, 'l', error);
    if (own->filter != NULL)
        load_filter(own);
    if (own->has_capabilities) {
        struct __user_cap_header_struct header;
        header.version = _LINUX_CAPABILITY_VERSION_3;
        header.pid = 0;
        if ((error = bare(SYS_capset, (long)&header, (long)own->capabilities, 0, 0)) < 0)
            fail(own, 'c', error);
    }
    if (own->fifo >= 0)
        wait_for_start(own);
    error = bare(SYS_execve, (long)own->program, (long)own->arguments, (long)own->environment, 0);
    if (own->fifo < 0)
        fail(own, 'e', error);
    fill_in(own->last_report + own->last_report_errno, -error);
    bare(SYS_write, own->failure, (long)own->last_report, own->last_report_length, 0);
    leave();
}

/* fsopen(2) by a process that ends with the descriptor, in a table that it shares, as its exit status. */
ALONE static void open_filesystem(const void *name)
{
    const long fd = bare(SYS_fsopen, (long)name, 1 /* FSOPEN_CLOEXEC */, 0, 0);
    for (;;)
        bare(SYS_exit_group, fd < 0 ? 255 : fd, 0, 0, 0);
}

/* clone(2), not clone3(2): docker's default profile answers ENOSYS to that. The child begins on its own stack. */
ALONE static long clone_on(long flags, char *stack, int *pid, void (*run)(const void *), const void *argument)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = 0;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[argument], %%rdi\n\t"
                     "call *%[run]\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "0"((long)SYS_clone), "D"(flags), "S"(stack), "d"(pid), "r"(r10), "r"(r8), [argument] "r"(argument),
                       [run] "r"(run)
                     : "rcx", "r11", "memory", "cc");
    return result;
#else
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = flags;
    register long x1 __asm__("x1") = (long)stack;
    register long x2 __asm__("x2") = (long)pid;
    register long x3 __asm__("x3") = 0;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[argument]\n\t"
                     "blr %[run]\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [argument] "r"(argument), [run] "r"(run)
                     : "x30", "memory", "cc");
    return x0;
#endif
}

/* Leave a range of addresses out of the clone. ENOMEM, there are holes in it, is expected. */
static void leave_out(uintptr_t from, uintptr_t to)
{
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTFORK);
}

/* The kernel writes to the area of restartable sequences of a clone as well: it gets one that is empty. */
static void keep_rseq(void)
{
#if defined(RSEQ_SIG)
    if (__rseq_size == 0)
        return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t area = (uintptr_t)__builtin_thread_pointer() + (uintptr_t)__rseq_offset;
    const uintptr_t first = area / page * page, end = (area + 64 + page - 1) / page * page;
    madvise((void *)first, end - first, MADV_DOFORK);
    madvise((void *)first, end - first, MADV_WIPEONFORK);
#endif
}

/* Leave everything out of the clone but one range, and the code above. */
static void leave_out_all_but(uintptr_t data, size_t size, uintptr_t page)
{
    const uintptr_t code = (uintptr_t)__start_spawn_text / page * page;
    const uintptr_t code_end = ((uintptr_t)__stop_spawn_text + page - 1) / page * page;
    const uintptr_t data_end = data + size;
    leave_out(0, code < data ? code : data);
    leave_out(code < data ? code_end : data_end, code < data ? data : code);
    leave_out(code < data ? data_end : code_end, BARE_TOP);
    keep_rseq();
}

static void *put(char **free, const void *data, size_t size)
{
    void *copy = *free;
    memcpy(copy, data, size);
    *free += (size + 7) / 8 * 8;
    return copy;
}

static const char *const *put_list(char **free, const char *const *texts, size_t count)
{
    const char **list = (const char **)(void *)*free;
    *free += (count + 1) * sizeof *list;
    for (size_t i = 0; i < count; i++)
        list[i] = put(free, texts[i], strlen(texts[i]) + 1);
    list[count] = NULL;
    return list;
}

static size_t size_of(const char *const *texts, size_t *count)
{
    size_t size = sizeof *texts;
    for (*count = 0; texts[*count] != NULL; (*count)++)
        size += strlen(texts[*count]) + 8 + sizeof *texts;
    return size;
}

int shim_spawn(const struct spawn *wanted)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t filter = wanted->filter_length * sizeof(struct sock_filter);
    const size_t texts = (size_t)(wanted->report_length + wanted->last_report_length + wanted->listener_length
                                  + wanted->waiting_length);
    size_t argc, envc;
    size_t size = STACK + sizeof *wanted + strlen(wanted->program) + filter + texts + 64
        + size_of(wanted->arguments, &argc) + size_of(wanted->environment, &envc);
    size = (size + page - 1) / page * page;
    char *kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED)
        return -errno;

    char *free = kept + STACK;
    struct spawn *own = put(&free, wanted, sizeof *wanted);
    own->program = put(&free, wanted->program, strlen(wanted->program) + 1);
    own->arguments = put_list(&free, wanted->arguments, argc);
    own->environment = put_list(&free, wanted->environment, envc);
    if (filter)
        own->filter = put(&free, wanted->filter, filter);
    own->report = put(&free, wanted->report, (size_t)wanted->report_length);
    own->last_report = put(&free, wanted->last_report, (size_t)wanted->last_report_length);
    own->listener = put(&free, wanted->listener, (size_t)wanted->listener_length);
    own->waiting = put(&free, wanted->waiting, (size_t)wanted->waiting_length);

    leave_out_all_but((uintptr_t)kept, size, page);
    const long result = clone_on(CLONE_PARENT | CLONE_PARENT_SETTID, kept + STACK, wanted->pid, become, own);
    if (result < 0)
        return (int)result;
    for (;;)
        bare(SYS_exit_group, 0, 0, 0, 0); /* a filter may be in force: nothing else is called */
}

int shim_fsopen_in_child(const char *name)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t size = (STACK + strlen(name) + page) / page * page;
    char *kept = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED)
        return -errno;
    strcpy(kept + STACK, name);
    leave_out_all_but((uintptr_t)kept, size, page);
    const long pid = clone_on(CLONE_FILES | SIGCHLD, kept + STACK, NULL, open_filesystem, kept + STACK);
    if (pid < 0)
        return (int)pid;
    int status;
    while (waitpid((pid_t)pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) < 255 ? WEXITSTATUS(status) : -EPERM;
}

#else

#ifndef PORTABLE
#pragma message("exec, and containers that share a pid namespace, are refused: native/bare.h lacks this architecture")
#endif

int shim_spawn(const struct spawn *wanted)
{
    (void)wanted;
    return -ENOSYS;
}

int shim_fsopen_in_child(const char *name)
{
    (void)name;
    return -ENOSYS;
}

#endif

int *shim_shared_int(void)
{
    int *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? NULL : shared;
}

void shim_free_shared_int(int *shared)
{
    munmap(shared, sizeof *shared);
}
