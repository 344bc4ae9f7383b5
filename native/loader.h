/*
 * The launcher's other way: the snapshot of a started interpreter, whether it may be used, and how it is loaded
 * (docs/architecture.md, "The snapshot"). Part of launcher.c, whose functions it calls.
 */
#ifndef PYRUNTIME_LOADER_H
#define PYRUNTIME_LOADER_H

#if defined(__x86_64__) && !__STDC_HOSTED__ && defined(SNAPSHOT)

#include <sys/mman.h>
#include <sys/utsname.h>

#include "processor.h"

static const char magic[24] = "pyruntime snapshot 2";
enum { HEAD = 1 << 16, ID_SIZE = 32, AT_SECURE = 23, AT_RANDOM = 25, AT_EXECFN = 31 };

/* The snapshot's file, as pyruntime/boot/snapshot/file.py writes it: this, segments, compared files; then, from HEAD on,
 * memory. */
struct head {
    char magic[sizeof magic];
    uint64_t size; /* of the whole file */
    uint64_t entry;
    uint64_t segments;
    uint64_t files;
    uint32_t processor[PROCESSOR_WORDS];
    char kernel[72];
};

struct segment {
    uint64_t address;
    uint64_t size;
    uint64_t offset; /* in the file */
    uint64_t stored; /* so much of it is in the file, the rest is zero */
    uint64_t protection;
};

/* Its file's name follows, `length` bytes with the zeros that fill them up. */
struct compared {
    int64_t modified[2]; /* seconds, nanoseconds */
    int64_t changed[2];
    uint64_t size;
    uint64_t inode;
    uint64_t id_offset; /* where in the file is what no other has: a build-id, a digest; of id_size bytes, or 0 */
    uint64_t id_size;
    char id[ID_SIZE];
    uint64_t length;
    char name[];
};

/* What the kernel passes to a program that starts. */
struct auxiliary {
    const void *random;
    const char *program; /* as given to execve(2) */
    int secure;
};

static struct auxiliary read_auxiliary(const long *vector)
{
    struct auxiliary found = {NULL, "", 1};
    for (; vector[0] != 0; vector += 2) {
        if (vector[0] == AT_RANDOM)
            found.random = (const void *)vector[1];
        else if (vector[0] == AT_EXECFN)
            found.program = (const char *)vector[1];
        else if (vector[0] == AT_SECURE)
            found.secure = vector[1] != 0;
    }
    return found;
}

static int differ(const char *one, const char *other, size_t size)
{
    int difference = 0;
    for (size_t i = 0; i < size; i++)
        difference |= one[i] ^ other[i];
    return difference;
}

/* PYRUNTIME_SNAPSHOT: "0" starts the interpreter; "require" fails where the snapshot cannot be used. */
static const char *wanted_snapshot(char **environment)
{
    static const char name[] = "PYRUNTIME_SNAPSHOT=";
    for (; *environment != NULL; environment++)
        if (starts_with(*environment, name))
            return *environment + sizeof name - 1;
    return "";
}

/* A snapshot's head in memory, of an open file; NULL if the file is none, not whole, or could be another user's. */
static const struct head *read_head(long fd)
{
    struct statx file;
    if (call(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_BASIC_STATS, (long)&file) < 0 || file.stx_size < HEAD ||
        (file.stx_mode & 022) != 0 ||
        (file.stx_uid != 0 && file.stx_uid != (unsigned)call(SYS_geteuid, 0, 0, 0, 0, 0)))
        return NULL;
    const struct head *head = map(NULL, HEAD, PROT_READ, MAP_PRIVATE, fd, 0);
    if (head == NULL || differ(head->magic, magic, sizeof magic) || head->size != file.stx_size ||
        head->segments > HEAD / sizeof(struct segment))
        return NULL;
    return head;
}

static int is_changed(const struct compared *entry)
{
    struct statx file;
    char id[ID_SIZE];
    if (entry->id_size > ID_SIZE)
        return 1;
    long fd = AT_FDCWD;
    const char *name = entry->name;
    if (entry->id_size > 0) {
        fd = call(SYS_openat, AT_FDCWD, (long)name, O_RDONLY | O_CLOEXEC, 0, 0);
        if (fd < 0)
            return 1;
        name = "";
    }
    int changed = call(SYS_statx, fd, (long)name, AT_EMPTY_PATH, STATX_BASIC_STATS, (long)&file) < 0 ||
                  file.stx_size != entry->size || file.stx_ino != entry->inode ||
                  file.stx_mtime.tv_sec != entry->modified[0] || file.stx_mtime.tv_nsec != entry->modified[1] ||
                  file.stx_ctime.tv_sec != entry->changed[0] || file.stx_ctime.tv_nsec != entry->changed[1];
    if (entry->id_size > 0) {
        long size = (long)entry->id_size;
        changed = changed || call(SYS_pread64, fd, (long)id, size, (long)entry->id_offset, 0) != size ||
                  differ(id, entry->id, entry->id_size);
        call(SYS_close, fd, 0, 0, 0, 0);
    }
    return changed;
}

/*
 * Why the snapshot cannot be used: NULL if it is there and whole, of this kernel and this processor, and all files that it
 * was made of are as they were. An update of the interpreter or of a library, or an edited source in a checkout, makes
 * it old.
 */
static const char *reason_against_snapshot(void)
{
    struct utsname kernel;
    unsigned processor[PROCESSOR_WORDS];
    if (call(SYS_faccessat, AT_FDCWD, (long)TURNED_OFF, 0, 0, 0) == 0)
        return "it is turned off by " TURNED_OFF;
    long fd = call(SYS_openat, AT_FDCWD, (long)SNAPSHOT, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0)
        return fd == -ENOENT ? "there is none" : "it cannot be opened";
    const struct head *head = read_head(fd);
    call(SYS_close, fd, 0, 0, 0, 0);
    if (head == NULL)
        return "its file is not a whole snapshot of this version";
    if (call(SYS_uname, (long)&kernel, 0, 0, 0, 0) < 0 ||
        differ(head->kernel, kernel.release, length(kernel.release) + 1))
        return "it was made with another kernel release";
    processor_read(processor);
    if (differ((const char *)head->processor, (const char *)processor, sizeof processor))
        return "it was made on a processor with other features";
    const char *place = (const char *)(head + 1) + head->segments * sizeof(struct segment);
    for (uint64_t left = head->files; left > 0; left--) {
        const struct compared *entry = (const struct compared *)place;
        place = entry->name + entry->length;
        if (place > (const char *)head + HEAD)
            return "its file is damaged";
        if (is_changed(entry))
            return entry->name;
    }
    unmap((void *)head, HEAD);
    return NULL;
}

/* Puts the snapshot's memory where it was and goes on there; returns when that is not possible. */
static void enter_snapshot(long directory, const char *file, const long *stack, const void *random)
{
    long fd = call(SYS_openat, directory, (long)file, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0)
        return;
    const struct head *head = read_head(fd);
    if (head == NULL || random == NULL) {
        call(SYS_close, fd, 0, 0, 0, 0);
        return;
    }
    const struct segment *segment = (const struct segment *)(head + 1);
    for (uint64_t left = head->segments; left > 0; left--, segment++) {
        char *address = (char *)segment->address;
        const int protection = (int)segment->protection, flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
        const uint64_t stored = segment->stored, zero = segment->size - stored;
        if ((stored > 0 && map(address, stored, protection, flags, fd, (long)segment->offset) != address) ||
            (zero > 0 && map(address + stored, zero, protection, flags | MAP_ANONYMOUS, -1, 0) != address + stored)) {
            call(SYS_close, fd, 0, 0, 0, 0);
            return;
        }
    }
    const uint64_t entry = head->entry;
    call(SYS_close, fd, 0, 0, 0, 0);
    unmap((void *)head, HEAD);
    if (directory >= 0)
        call(SYS_close, directory, 0, 0, 0, 0);
    __asm__ volatile("mov %0, %%rsp\n"
                     "jmp *%1"
                     :
                     : "r"(stack), "r"(entry), "S"(random)
                     : "memory");
    __builtin_unreachable();
}

/*
 * Which program a container's #!/proc/self/exe executes, and /proc/PID/exe of our processes shows, is this one and never
 * the snapshot. It must not be overwritten either, nor the snapshot through /proc/PID/map_files: so a copy of it that
 * stands in the snapshot's directory is executed through a read-only mount of that, and opens the snapshot there.
 * Returns only if the interpreter itself must be started.
 */
static const char *exec_snapshot(const struct auxiliary *given, char **argv, char **environment)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    const char *reason = given->secure ? "the program has more rights than its caller" : reason_against_snapshot();
    if (reason != NULL)
        return reason;
    long directory = call(SYS_open_tree, AT_FDCWD, (long)DIRECTORY, OPEN_TREE_CLONE, 0, 0);
    if (directory >= 0) {
        if (call(SYS_mount_setattr, directory, (long)"", AT_EMPTY_PATH, (long)&read_only, sizeof read_only) == 0)
            call(SYS_execveat, directory, (long)SECOND, (long)argv, (long)environment, 0);
        call(SYS_close, directory, 0, 0, 0, 0);
    }
    if (may_be_overwritten(SNAPSHOT) || may_be_overwritten("/proc/self/exe"))
        return "it could be overwritten by a container";
    enter_snapshot(AT_FDCWD, SNAPSHOT, (long *)argv - 1, given->random);
    return "it cannot be loaded";
}

/* The descriptor of the directory from which exec_snapshot has executed this program: the kernel calls it
 * /dev/fd/DESCRIPTOR/SECOND then. -1 if it is the first one. */
static long directory_of_second(const char *program)
{
    static const char place[] = "/dev/fd/";
    if (!starts_with(program, place))
        return -1;
    long fd = 0;
    for (program += sizeof place - 1; *program >= '0' && *program <= '9' && fd < 1 << 24; program++)
        fd = 10 * fd + *program - '0';
    return *program == '/' && length(program + 1) == sizeof SECOND - 1 && starts_with(program + 1, SECOND) ? fd : -1;
}

static int is_second(const struct auxiliary *given)
{
    return directory_of_second(given->program) >= 0;
}

/* Returns if the interpreter is to be started. */
static void start_snapshot(const struct auxiliary *given, char **argv, char **environment)
{
    const char *wanted = wanted_snapshot(environment), *reason = "it is turned off by PYRUNTIME_SNAPSHOT";
    long directory = directory_of_second(given->program);
    if (directory >= 0) {
        enter_snapshot(directory, SNAPSHOT_NAME, (long *)argv - 1, given->random);
        call(SYS_close, directory, 0, 0, 0, 0);
        reason = "it cannot be loaded";
    } else if (!(wanted[0] == '0' && wanted[1] == '\0')) {
        reason = exec_snapshot(given, argv, environment);
    }
    if (starts_with(wanted, "require")) {
        say("pyruntime: cannot start " SNAPSHOT ": ");
        say(reason);
        say(reason[0] == '/' ? " has changed\n" : "\n");
        leave(126);
    }
}

#else

struct auxiliary {
    int none;
};

static struct auxiliary read_auxiliary(const long *vector)
{
    (void)vector;
    return (struct auxiliary){0};
}

static int is_second(const struct auxiliary *given)
{
    (void)given;
    return 0;
}

static void start_snapshot(const struct auxiliary *given, char **argv, char **environment)
{
    (void)given;
    (void)argv;
    (void)environment;
}

#endif

#endif
