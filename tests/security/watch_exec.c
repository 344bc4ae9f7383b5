/*
 * Runs in a container: tries to get hold of every new process before it is a program of the container's.
 *
 *   watch_exec PROGRAM-PREFIX
 *
 * Writes a line for each success: what /proc/PID/exe is, when that is no file below the prefix, each of its
 * descriptors, and whether it could be attached to (ptrace(2)) while it was that.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static int foreign(const char *pid, const char *prefix, char *target, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
    ssize_t length = readlink(path, target, size - 1);
    if (length < 0)
        return 0;
    target[length] = 0;
    return strncmp(target, prefix, strlen(prefix)) != 0;
}

static void look(const char *pid, const char *prefix)
{
    char target[4096], link[4096], path[320];
    int attached = ptrace(PTRACE_SEIZE, atoi(pid), 0, 0) == 0;
    if (foreign(pid, prefix, target, sizeof target)) {
        printf("exe of %s: %s%s\n", pid, target, attached ? ", attached" : "");
        snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
        DIR *fds = opendir(path);
        for (struct dirent *entry; fds && (entry = readdir(fds));) {
            snprintf(path, sizeof path, "/proc/%.20s/fd/%.200s", pid, entry->d_name);
            ssize_t length = readlink(path, link, sizeof link - 1);
            if (length < 0)
                continue;
            link[length] = 0;
            int opened = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
            printf("fd %s of %s: %s%s\n", entry->d_name, pid, link, opened >= 0 ? ", opened" : "");
            if (opened >= 0)
                close(opened);
        }
        if (fds)
            closedir(fds);
        fflush(stdout);
    }
    if (attached) {
        /* Only a stopped process can be let go. */
        ptrace(PTRACE_INTERRUPT, atoi(pid), 0, 0);
        waitpid(atoi(pid), NULL, __WALL);
        ptrace(PTRACE_DETACH, atoi(pid), 0, 0);
    }
}

int main(int argc, char **argv)
{
    char self[24];
    snprintf(self, sizeof self, "%d", getpid());
    printf("watching\n");
    fflush(stdout);
    for (;;) {
        DIR *proc = opendir("/proc");
        if (!proc || argc < 2)
            return 1;
        for (struct dirent *entry; (entry = readdir(proc));)
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && strcmp(entry->d_name, self))
                look(entry->d_name, argv[1]);
        closedir(proc);
    }
}
