#define _GNU_SOURCE
#include "placement.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* PEP 445, as in Include/cpython/pymem.h, which is not for modules that serve several versions of Python. */
struct allocator {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block);
};
enum { DOMAIN_MEM = 1, DOMAIN_OBJ = 2, DOMAINS = 3 };
void PyMem_GetAllocator(int domain, struct allocator *allocator);
void PyMem_SetAllocator(int domain, struct allocator *allocator);
int PyGILState_Ensure(void);
void PyGILState_Release(int state);

enum { PAGE = 4096, ALIGNMENT = 16, GROUPS = 8 };
static const long MOST = 1 << 21; /* allocations that can be observed */

/* What the file named by PYRUNTIME_PLACEMENT holds: the size of each group's area, whole pages, then for each allocation
 * the number of its group. Group 0 is left where it would be. */
struct plan {
    uint64_t sizes[GROUPS];
    unsigned char groups[];
};

static struct allocator usual[DOMAINS];
static long allocations; /* so far */
static long observed;    /* how many of them have pages of their own */
static long planned;     /* how many have a place in the plan */
static long missed;      /* when the plan ended */
static const struct plan *plan;
static struct observation {
    char *block;
    size_t size;
} *observations;
static char *area, *area_end;              /* of all groups */
static char *next[GROUPS], *end[GROUPS]; /* what is free in each */

static void *take(int group, size_t size)
{
    char *block = next[group];
    if (size > (size_t)(end[group] - block))
        return NULL;
    next[group] += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return block;
}

/* A block for the next allocation; NULL if it is to be made as ever. */
static void *place(size_t size)
{
    long number = allocations++;
    if (number < observed) {
        observations[number].block = take(0, size / PAGE * PAGE + PAGE);
        observations[number].size = size;
        return observations[number].block;
    }
    if (number < planned && plan->groups[number] % GROUPS != 0)
        return take(plan->groups[number] % GROUPS, size);
    return NULL;
}

static int is_placed(const void *block)
{
    return (const char *)block >= area && (const char *)block < area_end;
}

static void *placed_malloc(void *domain, size_t size)
{
    const struct allocator *other = domain;
    void *block = place(size);
    return block != NULL ? block : other->malloc(other->context, size);
}

static void *placed_calloc(void *domain, size_t count, size_t size)
{
    const struct allocator *other = domain;
    size_t whole;
    void *block = __builtin_mul_overflow(count, size, &whole) ? NULL : place(whole); /* no block is used twice: zeros */
    return block != NULL ? block : other->calloc(other->context, count, size);
}

static void placed_free(void *domain, void *block)
{
    const struct allocator *other = domain;
    if (!is_placed(block))
        other->free(other->context, block);
}

static void *placed_realloc(void *domain, void *block, size_t size)
{
    const struct allocator *other = domain;
    char *fresh = place(size);
    if (!is_placed(block)) {
        char *usually = other->realloc(other->context, block, size);
        if (fresh == NULL || usually == NULL)
            return usually;
        memcpy(fresh, usually, size);
        other->free(other->context, usually);
        return fresh;
    }
    if (fresh == NULL)
        fresh = other->malloc(other->context, size);
    if (fresh == NULL)
        return NULL;
    /* Its size is not kept. What follows it in the area is copied for nothing, and does no harm. */
    size_t rest = (size_t)(area_end - (char *)block);
    memcpy(fresh, block, size < rest ? size : rest);
    return fresh;
}

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void begin(const size_t sizes[GROUPS])
{
    size_t size = 0;
    for (int group = 0; group < GROUPS; group++)
        size += sizes[group];
    area = map(size);
    if (area == NULL)
        return;
    area_end = area + size;
    char *place_of_group = area;
    for (int group = 0; group < GROUPS; group++) {
        next[group] = place_of_group;
        end[group] = place_of_group += sizes[group];
    }
    for (int domain = DOMAIN_MEM; domain <= DOMAIN_OBJ; domain++) {
        PyMem_GetAllocator(domain, &usual[domain]);
        struct allocator placed = {&usual[domain], placed_malloc, placed_calloc, placed_realloc, placed_free};
        PyMem_SetAllocator(domain, &placed);
    }
}

static void observe(void)
{
    size_t sizes[GROUPS] = {(size_t)MOST * 2 * PAGE};
    begin(sizes);
    if (area == NULL) /* vm.overcommit_memory=2: so much address space is not to be had */
        return;
    observations = map((size_t)MOST * sizeof *observations);
    if (observations != NULL)
        observed = MOST;
}

static void follow(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    off_t size = lseek(fd, 0, SEEK_END);
    if (size > (off_t)sizeof *plan) {
        void *read_only = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (read_only != MAP_FAILED) {
            plan = read_only;
            planned = size - (off_t)sizeof *plan;
            begin(plan->sizes);
        }
    }
    close(fd);
}

/* Before the interpreter starts: it is linked with these functions, and loads no allocator of its own then. */
__attribute__((constructor)) static void begin_as_set(void)
{
    const char *setting = getenv("PYRUNTIME_PLACEMENT");
    if (setting != NULL && strcmp(setting, "observe") == 0)
        observe();
    else if (setting != NULL)
        follow(setting);
}

long placement_observed(void)
{
    missed = plan == NULL ? 0 : allocations - planned;
    if (observations == NULL)
        return -1;
    if (allocations < observed)
        observed = allocations;
    return observed;
}

unsigned long placement_address(long i)
{
    return (unsigned long)observations[i].block;
}

unsigned long placement_size(long i)
{
    return observations[i].size;
}

long placement_witness(void)
{
    pid_t pid = fork();
    if (pid == 0) /* a reader of one of its pipes may wait for the end */
        syscall(SYS_close_range, 0, ~0u, 0);
    while (pid == 0)
        pause();
    return pid;
}

long placement_missed(void)
{
    return missed;
}

/* Small blocks come from pools of one size each (Objects/obmalloc.c), others from malloc. Each hole is filled, until what
 * is allocated comes from behind all of them. */
void placement_end(void)
{
    enum { POOL = 1 << 14, SMALL = 512, LARGE = 1 << 16, MANY = 1 << 16 };
    struct allocator *objects = &usual[DOMAIN_OBJ];
    if (area == NULL)
        return;
    munmap((void *)plan, sizeof *plan + (size_t)planned);
    planned = 0;
    int state = PyGILState_Ensure(); /* cffi has given it up; since Python 3.12 each interpreter has pools of its own */
    for (size_t size = ALIGNMENT; size <= SMALL; size += ALIGNMENT)
        for (int i = 0; i < MANY; i++)
            if (((uintptr_t)objects->malloc(objects->context, size) & (POOL - 1)) < 4 * ALIGNMENT)
                break; /* the first of a new pool */
    PyGILState_Release(state);
    const char *last = malloc(LARGE);
    for (size_t size = LARGE; size >= ALIGNMENT; size -= size > 4 * SMALL ? 4 * SMALL : ALIGNMENT)
        for (int i = 0; i < MANY && (char *)malloc(size) < last; i++)
            ;
}
