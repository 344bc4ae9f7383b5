/* What a process is like inside, for test_snapshot_state.py: loaded into it with ctypes. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

unsigned long canary(void)
{
    unsigned long value;
    __asm__("mov %%fs:0x28, %0" : "=r"(value));
    return value;
}

unsigned long guard(void)
{
    unsigned long value;
    __asm__("mov %%fs:0x30, %0" : "=r"(value));
    return value;
}

/* Ends the process by SIGABRT, if the canary is checked. */
void overrun(int size)
{
    volatile char buffer[16];
    for (int i = 0; i < size; i++)
        buffer[i] = 'x';
}

static jmp_buf place;

__attribute__((noinline)) static void jump(int value)
{
    longjmp(place, value);
}

int jump_back(int value)
{
    int got = setjmp(place);
    if (got == 0)
        jump(value);
    return got;
}

/* 0 if a mutex that knows its owner says that this thread is, and that another thread is not. */
static void *try_unlock(void *mutex)
{
    return (void *)(long)pthread_mutex_unlock(mutex);
}

int mutex_knows_its_owner(void)
{
    pthread_mutexattr_t kind;
    pthread_mutex_t mutex;
    pthread_t other;
    void *others;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&mutex, &kind);
    pthread_mutex_lock(&mutex);
    if (mutex.__data.__owner != (int)syscall(SYS_gettid))
        return 1;
    if (pthread_mutex_lock(&mutex) != EDEADLK)
        return 2;
    if (pthread_create(&other, NULL, try_unlock, &mutex) != 0 || pthread_join(other, &others) != 0)
        return 3;
    if (others != (void *)(long)EPERM)
        return 4;
    return pthread_mutex_unlock(&mutex) == 0 ? 0 : 5;
}

static pthread_mutex_t *shared;

/* A mutex in shared memory that the kernel is to release when its owner dies: the owner is this very process. */
int hold_robust(int descriptor)
{
    pthread_mutexattr_t kind;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(shared, &kind);
    return pthread_mutex_lock(shared);
}

int take_robust(int descriptor)
{
    struct timespec until;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    return pthread_mutex_timedlock(shared, &until);
}

static char *alternate;
static volatile int on_alternate;

static void note_stack(int number)
{
    char here;
    (void)number;
    on_alternate = &here >= alternate && &here < alternate + 65536;
}

/* 0 if there is no alternate stack at first, and a signal is handled on one that is set. */
int alternate_stack(void)
{
    stack_t now, own = {.ss_size = 65536};
    struct sigaction action = {.sa_handler = note_stack, .sa_flags = SA_ONSTACK};
    if (sigaltstack(NULL, &now) != 0 || now.ss_flags != SS_DISABLE)
        return 1;
    own.ss_sp = alternate = malloc(own.ss_size);
    sigaltstack(&own, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    return on_alternate ? 0 : 2;
}

static void *grow(void *unused)
{
    (void)unused;
    for (int i = 1; i < 2000; i++) {
        char *block = malloc((size_t)i * 37);
        memset(block, i, (size_t)i * 37);
        free(block);
    }
    return malloc(100);
}

/* Eight threads that allocate, in arenas of their own; 0 if it goes well. */
int allocate_in_threads(void)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        if (pthread_create(&threads[i], NULL, grow, NULL) != 0)
            return 1;
    for (int i = 0; i < 8; i++) {
        void *block;
        if (pthread_join(threads[i], &block) != 0 || block == NULL)
            return 2;
        free(block);
    }
    return 0;
}

static int leaving;

static void say_bye(void)
{
    static const char text[] = "atexit";
    if (leaving && write(1, text, sizeof text - 1) < 0)
        _exit(9);
}

/* Through exit(3): what was registered now, what the C library registered before the picture, destructors. */
void leave(int status)
{
    leaving = 1;
    atexit(say_bye);
    exit(status);
}

__attribute__((destructor)) static void say_destructed(void)
{
    static const char text[] = " destructor";
    if (leaving && write(1, text, sizeof text - 1) < 0)
        _exit(9);
}
