/*
 * What the kernel alone takes for the benchmark's plain config: the floor that no runtime gets below.
 *
 *     floor --root DIR run --bundle DIR NAME        with FLOOR_ROOTFS, the absolute path of the rootfs
 *
 * The same namespaces, mounts, masks, capabilities, limit and cgroups as config.json asks for, without reading it,
 * without a state, and without looking for errors beyond giving up.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char cgroups[] = "/sys/fs/cgroup";
enum { HIERARCHIES = 32 };
static char *places[HIERARCHIES];
static int place_count;

#define MUST(call) \
    do { \
        if ((call) < 0) { \
            fprintf(stderr, "floor: %s: %s\n", #call, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

/* FOLDER/NAME; never freed, the program ends soon. */
static char *join(const char *folder, const char *name)
{
    char *path;
    MUST(asprintf(&path, "%s/%s", folder, name));
    return path;
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    MUST(fd);
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

/* A cgroup in each v1 hierarchy; the device rule of the config in that of devices. */
static void make_cgroups(const char *name)
{
    DIR *directory = opendir(cgroups);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL && place_count < HIERARCHIES) {
        const char *hierarchy = join(cgroups, entry->d_name);
        char *place = join(hierarchy, name);
        if (entry->d_name[0] == '.' || entry->d_type != DT_DIR || mkdir(place, 0755) < 0)
            continue;
        if (access(join(place, "tasks"), W_OK) < 0) {
            rmdir(place);
            continue;
        }
        if (strcmp(entry->d_name, "cpuset") == 0)
            for (int i = 0; i < 2; i++) {
                const char *file = i ? "cpuset.mems" : "cpuset.cpus";
                char value[256] = "";
                int fd = open(join(hierarchy, file), O_RDONLY | O_CLOEXEC);
                MUST(read(fd, value, sizeof value - 1));
                close(fd);
                write_text(join(place, file), value);
            }
        if (strcmp(entry->d_name, "devices") == 0) {
            static const char *const allowed[] = {
                "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
                "c 136:* rwm", "c 5:2 rwm",
            };
            write_text(join(place, "devices.deny"), "a");
            for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
                write_text(join(place, "devices.allow"), allowed[i]);
        }
        places[place_count] = place;
        place_count++;
    }
    if (directory != NULL)
        closedir(directory);
}

static void must_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
    if (mount(source, target, type, flags, data) < 0) {
        fprintf(stderr, "floor: mount %s: %s\n", target, strerror(errno));
        exit(1);
    }
}

static void make_devices(void)
{
    static const struct { const char *path; int minor; } devices[] = {
        { "dev/null", 3 }, { "dev/zero", 5 }, { "dev/full", 7 }, { "dev/random", 8 }, { "dev/urandom", 9 },
    };
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(1, (unsigned)devices[i].minor)));
    MUST(mknod("dev/tty", S_IFCHR | 0666, makedev(5, 0)));
    MUST(symlink("pts/ptmx", "dev/ptmx"));
    MUST(symlink("/proc/self/fd", "dev/fd"));
    MUST(symlink("/proc/self/fd/0", "dev/stdin"));
    MUST(symlink("/proc/self/fd/1", "dev/stdout"));
    MUST(symlink("/proc/self/fd/2", "dev/stderr"));
}

static void mount_all(const char *rootfs)
{
    const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    must_mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
    must_mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL);
    MUST(chdir(rootfs));
    must_mount("proc", "proc", "proc", 0, NULL);
    must_mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    MUST(mkdir("dev/pts", 0755));
    must_mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    MUST(mkdir("dev/shm", 0755));
    must_mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k");
    MUST(mkdir("dev/mqueue", 0755));
    must_mount("mqueue", "dev/mqueue", "mqueue", safe, NULL);
    must_mount("sysfs", "sys", "sysfs", safe | MS_RDONLY, NULL);
    must_mount("tmpfs", "sys/fs/cgroup", "tmpfs", safe, "mode=755");
    for (int i = 0; i < place_count; i++) {
        char *hierarchy = strdup(places[i] + sizeof cgroups);
        hierarchy[strcspn(hierarchy, "/")] = '\0';
        const char *target = join("sys/fs/cgroup", hierarchy);
        MUST(mkdir(target, 0755));
        must_mount(places[i], target, NULL, MS_BIND, NULL);
        must_mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL);
    }
    must_mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL);
    make_devices();
}

static void mask(void)
{
    static const char *const readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
    static const char *const masked[] = {
        "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list",
        "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
    };
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
        if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
            must_mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL);
}

static void become_the_user(void)
{
    const unsigned capabilities = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
    const struct rlimit files = { 1024, 1024 };
    MUST(setrlimit(RLIMIT_NOFILE, &files));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    for (unsigned i = 0; i <= CAP_LAST_CAP; i++)
        if (i > 31 || !(capabilities >> i & 1))
            prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = { { capabilities, capabilities, capabilities }, { 0, 0, 0 } };
    MUST(syscall(SYS_capset, &header, sets));
    for (unsigned i = 0; i < 32; i++)
        if (capabilities >> i & 1)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
}

static void init(const char *rootfs)
{
    for (int i = 0; i < place_count; i++)
        write_text(join(places[i], "tasks"), "0");
    setsid();
    umask(0);
    mount_all(rootfs);
    MUST(sethostname("bench", 5));
    mask();
    int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(fchdir(old));
    must_mount(NULL, ".", NULL, MS_REC | MS_SLAVE, NULL);
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    must_mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    umask(022);
    become_the_user();
    static char *const arguments[] = { "/bin/true", NULL }, *const environment[] = { "PATH=/bin", NULL };
    MUST(execve(arguments[0], arguments, environment));
}

int main(int argc, char **argv)
{
    const char *rootfs = getenv("FLOOR_ROOTFS");
    if (argc != 7 || strcmp(argv[3], "run") != 0 || rootfs == NULL) {
        fprintf(stderr, "floor: can only do `run`, with FLOOR_ROOTFS set\n");
        return 1;
    }
    make_cgroups(argv[6]);
    struct clone_args clone = {
        .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &clone, sizeof clone);
    MUST(pid);
    if (pid == 0)
        init(rootfs);
    int status;
    MUST(waitpid(pid, &status, 0));
    for (int i = 0; i < place_count; i++)
        MUST(rmdir(places[i]));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
