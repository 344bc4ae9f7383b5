/*
 * pyruntime: a clean and sealed start of the Python interpreter.
 *
 * Engines call a runtime with whatever environment they have (containerd:
 * LD_LIBRARY_PATH=/opt/containerd/lib:, whose empty last part means the working directory, which is the
 * bundle). This program is static, so that no library is looked for before the environment is clean. It
 * decides nothing else; everything it needs to know is fixed when it is compiled:
 *
 *   PYTHON   the interpreter's real file, never a link
 *   LIBRARY  the directory that holds the package `pyruntime`; first in sys.path
 *   SITE     the directory of the dependencies, when it is another one, or several separated by colons; last in sys.path:
 *            none of their modules replaces one of the standard library
 *   ARCHIVE  the file of pyruntime/boot/archive.py
 *   SNAPSHOT the file of pyruntime/boot/snapshot/make.py, SNAPSHOT_NAME in DIRECTORY: when nothing it was made of has changed
 *            since, its memory is loaded instead of the interpreter
 *   SECOND   the name of a copy of this program in DIRECTORY
 *   TURNED_OFF  a file: while it is there no snapshot is used
 *
 * Exit status when the interpreter does not start, as a shell has it: 127 something is missing, 126 it
 * cannot run.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mount.h>
#include <linux/stat.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>

#include "freestanding.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3: without it vm.memfd_noexec makes the copy not executable */
#endif

/*
 * `-c` and not a file: for a file the interpreter first asks whether it is a zip archive or a directory. An
 * archive of another version of Python is passed over, as a .pyc file would be.
 */
static char bootstrap[] =
    "import sys,posix,marshal,gc,_frozen_importlib_external as e\n"
    "gc.disable()\n" /* saves 0.6 ms of searches for garbage while modules load; main leaves it off */
    "sys.argv[0]='pyruntime'\n"
    "sys.path[:0]='" LIBRARY "',\n"
#ifdef SITE
    "sys.path+='" SITE "'.split(':')\n"
#endif
    "p='" ARCHIVE "'\n"
    "f=posix.open(p,posix.O_CLOEXEC)\n"
    "a=posix.read(f,65536)\n"
    "posix.close(f)\n"
    "if a[:4]==e.MAGIC_NUMBER:\n"
    " c,i=marshal.loads(a[4:])\n"
    " m=type(sys)('pyruntime.boot.archive')\n"
    " exec(c,m.__dict__)\n"
    " m.install(p,i)\n"
    "from pyruntime.cli.main import main\n"
    "sys.exit(main())";

/*
 * argv[0] is a path, because the interpreter finds its standard library from there, and would search a bare
 * name in the caller's PATH. -I: no PYTHON* variables, neither the working directory nor the user's site-
 * packages in sys.path. -S: no site, no .pth files. utf8: paths and arguments are bytes, whatever the locale
 * of the caller.
 */
static char *const interpreter[] = {PYTHON, "-I", "-S", "-X", "utf8", "-c", bootstrap};
enum { INTERPRETER_ARGS = sizeof interpreter / sizeof *interpreter };

/* What makes the loader, the C library or the interpreter load or run something of the caller's choice. */
static const char *const unsafe[] = {
    "LD_", "PYTHON", "GLIBC_", "MALLOC_", "GCONV_PATH=", "GETCONF_DIR=", "LOCPATH=", "NLSPATH=",
};

static void say(const char *text)
{
    call(SYS_write, 2, (long)text, (long)length(text), 0, 0);
}

NORETURN static void fail(const char *object, long error, const char *hint)
{
    say("pyruntime: cannot start ");
    say(object);
    say(error == -ENOENT    ? ": no such file"
        : error == -EACCES  ? ": permission denied"
        : error == -ENOEXEC ? ": not an executable of this machine"
        : error == -E2BIG   ? ": arguments and environment are too long"
        : error == -ENOMEM  ? ": out of memory"
        : error == -EPERM   ? ": operation not permitted"
        : error == -EMFILE  ? ": too many open files (RLIMIT_NOFILE)"
                            : ": the kernel refuses");
    say(hint);
    say("\n");
    leave(error == -ENOENT ? 127 : 126);
}

/* A closed standard descriptor would be taken by the next file that is opened, and a message be written
 * into that. */
static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (call(SYS_fcntl, fd, F_GETFD, 0, 0, 0) < 0 &&
            call(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0, 0) < 0)
            leave(126);
}

/*
 * An ignored SIGCHLD survives execve(2), and the kernel then reaps our children in our place: their exit statuses
 * are lost. The other signals are the caller's business.
 */
static void restore_child_signal(void)
{
    static const long default_action[8];
    call(SYS_rt_sigaction, SIGCHLD, (long)default_action, 0, sizeof(uint64_t), 0);
}

/*
 * Below these limits the kernel kills a program with SIGSEGV while it is loaded, or the interpreter cannot report
 * its error. They are not raised: the container inherits them.
 */
static void require_limits(void)
{
    static const struct {
        int resource;
        uint64_t least;
        const char *words;
    } needs[] = {
        {RLIMIT_AS, 32 << 20, "the limit of address space (RLIMIT_AS) is below 32 MiB; raise it (ulimit -v)\n"},
        {RLIMIT_DATA, 24 << 20, "the limit of data (RLIMIT_DATA) is below 24 MiB; raise it (ulimit -d)\n"},
        {RLIMIT_STACK, 128 << 10, "the limit of the stack (RLIMIT_STACK) is below 128 KiB; raise it (ulimit -s)\n"},
        {RLIMIT_NOFILE, 48, "the limit of open files (RLIMIT_NOFILE) is below 48; raise it (ulimit -n)\n"},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        uint64_t limits[2];
        if (call(SYS_prlimit64, 0, needs[i].resource, 0, (long)limits, 0) == 0 && limits[0] < needs[i].least) {
            say("pyruntime: cannot start: ");
            say(needs[i].words);
            leave(126);
        }
    }
}

static void clean_environment(char **environment)
{
    char **kept = environment;
    for (char **variable = environment; *variable != NULL; variable++) {
        int drop = 0;
        for (size_t i = 0; i < sizeof unsafe / sizeof *unsafe; i++)
            drop |= starts_with(*variable, unsafe[i]);
        if (!drop)
            *kept++ = *variable;
    }
    *kept = NULL;
}

static long exec_descriptor(long fd, char **arguments, char **environment)
{
    return call(SYS_execveat, fd, (long)"", (long)arguments, (long)environment, AT_EMPTY_PATH);
}

/*
 * Executes the program through a detached read-only mount, which no path leads to: /proc/PID/exe of our process
 * cannot be opened for writing then, whatever rights a container has (CVE-2019-5736). Returns only if that
 * is not possible: it needs CAP_SYS_ADMIN and Linux 5.12.
 */
static void exec_sealed_mount(const char *program, char **arguments, char **environment)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    long fd = call(SYS_open_tree, AT_FDCWD, (long)program, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
    if (fd < 0)
        return;
    if (call(SYS_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&read_only, sizeof read_only) == 0)
        exec_descriptor(fd, arguments, environment);
    call(SYS_close, fd, 0, 0, 0, 0);
}

/*
 * Whether we, and with us a container, could change the program's file. Its owner always could: chmod needs no
 * permission to write.
 */
static int may_be_overwritten(const char *program)
{
    static struct statx file;
    return call(SYS_statx, AT_FDCWD, (long)program, 0, STATX_UID, (long)&file) < 0 ||
           file.stx_uid == (unsigned)call(SYS_geteuid, 0, 0, 0, 0, 0) ||
           call(SYS_faccessat, AT_FDCWD, (long)program, 2 /* W_OK */, 0, 0) == 0;
}

/* The interpreter from a sealed copy in memory: slow, for root without CAP_SYS_ADMIN and for a user's own
 * Python. */
static long exec_sealed_copy(char **arguments, char **environment)
{
    const long flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    const long seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    long source = call(SYS_openat, AT_FDCWD, (long)PYTHON, O_RDONLY | O_CLOEXEC, 0, 0);
    if (source < 0)
        return source;
    long copy = call(SYS_memfd_create, (long)"pyruntime", flags | MFD_EXEC, 0, 0, 0);
    if (copy == -EINVAL)
        copy = call(SYS_memfd_create, (long)"pyruntime", flags, 0, 0, 0);
    if (copy < 0)
        return copy;
    long copied;
    do
        copied = call(SYS_sendfile, copy, source, 0, 1 << 30, 0);
    while (copied > 0);
    if (copied < 0)
        return copied;
    long error = call(SYS_fcntl, copy, F_ADD_SEALS, seals, 0, 0);
    return error < 0 ? error : exec_descriptor(copy, arguments, environment);
}

#include "loader.h"

NORETURN static void start(int argc, char **argv, char **environment)
{
    char **end = environment;
    while (*end != NULL)
        end++;
    const struct auxiliary given = read_auxiliary((long *)(end + 1));
    if (!is_second(&given)) {
        open_standard_descriptors();
        restore_child_signal();
        require_limits();
        clean_environment(environment);
    }
    start_snapshot(&given, argv, environment);
    long error = call(SYS_faccessat, AT_FDCWD, (long)ARCHIVE, 4 /* R_OK */, 0, 0);
    if (error < 0)
        fail(ARCHIVE, error, "; install pyruntime again");

    char *arguments[INTERPRETER_ARGS + argc + 1];
    int count = 0;
    for (; count < INTERPRETER_ARGS; count++)
        arguments[count] = interpreter[count];
    for (int i = 1; i < argc; i++)
        arguments[count++] = argv[i];
    arguments[count] = NULL;

    exec_sealed_mount(PYTHON, arguments, environment);
    error = call(SYS_faccessat, AT_FDCWD, (long)PYTHON, 1 /* X_OK */, 0, 0);
    if (error < 0)
        fail(PYTHON, error, error == -ENOENT ? "; install pyruntime again for the Python that is here" : "");
    if (may_be_overwritten(PYTHON))
        error = exec_sealed_copy(arguments, environment);
    else
        error = call(SYS_execve, (long)PYTHON, (long)arguments, (long)environment, 0, 0);
    fail(PYTHON, error, "");
}
