#define _GNU_SOURCE
#include "snapshot.h"

#include <signal.h>
#include <stddef.h>

#if defined(__x86_64__)

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

__attribute__((visibility("hidden"))) unsigned long snapshot_stack, snapshot_thread;
__attribute__((visibility("hidden"))) const long *snapshot_stop(void);

/*
 * Like setjmp, but that the other return happens in another process: memory is the picture's by then, and what the
 * kernel keeps of a thread, its registers and the address of its thread-local storage, is put back here.
 * System V ABI: rbx, rbp and r12 to r15 belong to the caller. 158 is arch_prctl, 0x1002 ARCH_SET_FS. The picture's
 * maker finds in rax where a new process is to begin.
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
        "    int3\n"
        "1:  mov %rsp, %rbx\n"
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

/* The dispositions that the interpreter sets when it starts: they were the other process's. */
static void restore_signals(const struct sigaction *interrupt)
{
    struct sigaction now;
    if (sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(SIGINT, interrupt, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

const long *snapshot_point(void)
{
    struct sigaction interrupt;
    sigaction(SIGINT, NULL, &interrupt);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &snapshot_thread);
    const long *stack = snapshot_stop();
    if (brk(NULL) != 0) /* the C library asks where this heap ends, so that malloc can grow it */
        return NULL;
    restore_signals(&interrupt);
    environ = (char **)(stack + 1 + stack[0] + 1);
    return stack;
}

#else

const long *snapshot_point(void)
{
    return NULL;
}

#endif
