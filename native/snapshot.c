#define _GNU_SOURCE
#include "snapshot.h"

#include <signal.h>
#include <stddef.h>

#if defined(__x86_64__)

#include <asm/prctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

extern char **environ;

/* What the picture's maker fills in: where the C library has put the process's secrets. In the picture all of them are
 * zero, so that it holds none (pyruntime/boot/snapshot/secrets.py has the same numbers). */
enum { THREAD_NUMBER = 0x2d0 }; /* where x86_64's struct pthread has `tid`, in all versions of glibc so far */
enum { CANARY, GUARD, MANGLED, KINDS, READ_ONLY = 4, SECRETS = 255, PAGE = 4096 };
HIDDEN struct {
    unsigned long count;
    struct {
        unsigned long *word;
        unsigned long kind;
    } of[SECRETS];
} snapshot_secrets;

HIDDEN unsigned long snapshot_stack, snapshot_thread;
HIDDEN const unsigned long *snapshot_random;
HIDDEN const char *snapshot_files;
HIDDEN const long *snapshot_stop(void);

/*
 * Like setjmp, but that the other return happens in another process: memory is the picture's by then, and what the
 * kernel keeps of a thread, its registers and the address of its thread-local storage, is put back here.
 * System V ABI: rbx, rbp and r12 to r15 belong to the caller. 158 is arch_prctl, 0x1002 ARCH_SET_FS.
 *
 * The picture's maker finds in rax where a new process is to begin, in rdx the table of secrets, in rcx the names of
 * files. The launcher begins there with rsp as execve(2) left it, and in rsi the address of the random bytes that the
 * kernel gives to each program (AT_RANDOM).
 */
__asm__(".text\n"
        ".globl snapshot_stop\n"
        ".hidden snapshot_stop\n"
        "snapshot_stop:\n"
        "    push %rbx\n"
        "    push %rbp\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, snapshot_stack(%rip)\n"
        "    lea 1f(%rip), %rax\n"
        "    lea snapshot_secrets(%rip), %rdx\n"
        "    mov snapshot_files(%rip), %rcx\n"
        "    int3\n"
        "1:  mov %rsp, %rbx\n"
        "    mov %rsi, snapshot_random(%rip)\n"
        "    mov $158, %eax\n"
        "    mov $0x1002, %edi\n"
        "    mov snapshot_thread(%rip), %rsi\n"
        "    syscall\n"
        "    mov %rbx, %rax\n"
        "    mov snapshot_stack(%rip), %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbp\n"
        "    pop %rbx\n"
        "    ret\n");

_Static_assert(SYS_arch_prctl == 158 && ARCH_SET_FS == 0x1002, "numbers in the assembly above");

/*
 * A stack canary and a pointer guard of this process's own, from AT_RANDOM as the C library takes them when a program
 * starts, in every place that holds or was made with one: thread control block, frames of functions that have yet to
 * return, functions registered with atexit(3), the dynamic loader's copy. This function and its caller check none.
 */
__attribute__((noinline, no_stack_protector)) static void renew_secrets(void)
{
    unsigned long guard = snapshot_random[1];
    unsigned long values[KINDS] = {snapshot_random[0] & ~0xfful, guard, guard << 17 | guard >> 47};
    for (unsigned long i = 0; i < snapshot_secrets.count; i++) {
        unsigned long *word = snapshot_secrets.of[i].word, kind = snapshot_secrets.of[i].kind;
        void *page = (void *)((unsigned long)word & -(unsigned long)PAGE);
        if (kind & READ_ONLY)
            syscall(SYS_mprotect, page, PAGE, PROT_READ | PROT_WRITE);
        *word ^= values[kind & ~(unsigned long)READ_ONLY];
        if (kind & READ_ONLY)
            syscall(SYS_mprotect, page, PAGE, PROT_READ);
    }
}

/* The dispositions that the interpreter sets when it starts: they were the other process's. */
static void restore_signals(const struct sigaction *interrupt)
{
    struct sigaction now;
    if (sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(SIGINT, interrupt, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

__attribute__((no_stack_protector)) const long *snapshot_point(const char *files)
{
    struct sigaction interrupt;
    void *cleared = NULL, *robust = NULL;
    size_t robust_size = 0;
    sigaction(SIGINT, NULL, &interrupt);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &snapshot_thread);
    int *number = (int *)(snapshot_thread + THREAD_NUMBER);
    if (*number != (int)syscall(SYS_gettid) || prctl(PR_GET_TID_ADDRESS, &cleared) != 0 ||
        syscall(SYS_get_robust_list, 0, &robust, &robust_size) != 0)
        return NULL;
    snapshot_files = files;
    const long *stack = snapshot_stop();
    renew_secrets();
    /* The thread's number, which mutexes that know their owner compare; the word that the kernel clears when the thread
     * ends, another one since glibc 2.43; and its list of robust mutexes, which the kernel walks. */
    *number = (int)syscall(SYS_set_tid_address, cleared);
    syscall(SYS_set_robust_list, robust, robust_size);
    if (brk(NULL) != 0) /* the C library asks where this heap ends, so that malloc can grow it */
        return NULL;
    restore_signals(&interrupt);
    environ = (char **)(stack + 1 + stack[0] + 1);
    return stack;
}

#else

const long *snapshot_point(const char *files)
{
    (void)files;
    return NULL;
}

#endif
