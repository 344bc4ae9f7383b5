/*
 * Runs in a container: looks at every new process in its pid namespace, as CAP_SYS_PTRACE allows it to.
 *
 *   watch_inside SECRET-FILE CAPABILITIES PREFIX
 *
 * Writes a line for each thing of the host's that it got hold of: "root" when SECRET-FILE, which is not in the
 * container, can be read through /proc/PID/root; "capabilities" when a process has more than the bit mask
 * CAPABILITIES; "descriptor" for a directory or regular file that is open and not below PREFIX, a directory of the
 * container; "cmdline" when SECRET-FILE stands in its command line; "memory" when it does in its memory.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[600], text[1 << 20];

static void look_at_root(const char *pid, const char *secret)
{
    snprintf(path, sizeof path, "/proc/%.20s/root%.400s", pid, secret);
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        printf("root of %s\n", pid);
        close(fd);
    }
}

static void look_at_capabilities(const char *pid, unsigned long long allowed)
{
    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, 8192);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    const char *line = strstr(text, "CapPrm:");
    if (line && strtoull(line + 7, NULL, 16) & ~allowed)
        printf("capabilities of %s: %llx\n", pid, strtoull(line + 7, NULL, 16));
}

static void look_at_descriptors(const char *pid, dev_t own)
{
    struct stat status;
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *fds = opendir(path);
    for (struct dirent *entry; fds && (entry = readdir(fds));) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) < 3)
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, entry->d_name);
        if (stat(path, &status) == 0 && (S_ISDIR(status.st_mode) || S_ISREG(status.st_mode)) && status.st_dev != own) {
            ssize_t length = readlink(path, text, 400);
            printf("descriptor %s of %s: %.*s\n", entry->d_name, pid, (int)length, text);
        }
    }
    if (fds)
        closedir(fds);
}

static void look_at_command_line(const char *pid, const char *secret)
{
    snprintf(path, sizeof path, "/proc/%.20s/cmdline", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, 65536);
    close(fd);
    if (length > 0 && memmem(text, (size_t)length, secret, strlen(secret)))
        printf("cmdline of %s\n", pid);
}

static void look_at_memory(const char *pid, const char *secret)
{
    char maps[65536];
    snprintf(path, sizeof path, "/proc/%.20s/maps", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    ssize_t length = 0, more;
    while ((more = read(fd, maps + length, sizeof maps - 1 - (size_t)length)) > 0)
        length += more;
    close(fd);
    maps[length] = 0;
    snprintf(path, sizeof path, "/proc/%.20s/mem", pid);
    fd = open(path, O_RDONLY);
    for (char *line = maps; fd >= 0 && line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx rw", &from, &to) != 2)
            continue;
        for (; from < to; from += sizeof text) {
            size_t size = to - from < sizeof text ? to - from : sizeof text;
            if ((more = pread(fd, text, size, (off_t)from)) > 0 && memmem(text, (size_t)more, secret, strlen(secret))) {
                printf("memory of %s\n", pid);
                close(fd);
                return;
            }
        }
    }
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct stat own;
    if (argc < 4 || stat(argv[3], &own) < 0)
        return 2;
    char self[24];
    snprintf(self, sizeof self, "%d", getpid());
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("watching\n");
    for (;;) {
        DIR *proc = opendir("/proc");
        if (!proc)
            return 1;
        for (struct dirent *entry; (entry = readdir(proc));) {
            const char *pid = entry->d_name;
            if (pid[0] < '1' || pid[0] > '9' || !strcmp(pid, self) || !strcmp(pid, "1"))
                continue;
            look_at_root(pid, argv[1]);
            look_at_capabilities(pid, strtoull(argv[2], NULL, 16));
            look_at_descriptors(pid, own.st_dev);
            look_at_command_line(pid, argv[1]);
            look_at_memory(pid, argv[1]);
        }
        closedir(proc);
    }
}
