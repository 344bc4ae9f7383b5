/*
 * Runs in a container: tries to write to every file that is not the container's, over and over, for two seconds: its
 * own descriptors, and of every process the executable, the descriptors and the mapped files.
 *
 * Writes "WRITTEN" and the target for a success, and at its end what it tried and the last error for each.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256 };
static struct { char target[512]; int error; } tried[MOST];
static int count;

static const char *const own[] = {"/writer", "/bin/", "/lib64/", "/dev/", "/entry", "/interpreted", "pipe:", "socket:", "anon_inode:",
                                  "/proc"};

static void note(const char *target, int error)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(tried[i].target, target)) {
            tried[i].error = error;
            return;
        }
    if (count < MOST) {
        snprintf(tried[count].target, sizeof tried[count].target, "%s", target);
        tried[count++].error = error;
    }
}

static void attack(const char *path, const char *how)
{
    char target[4096], name[4600];
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) {
        if (errno != ENOENT && errno != ESRCH)
            note(how, errno);
        return;
    }
    target[length] = 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strncmp(target, own[i], strlen(own[i])))
            return;
    /* By its link, and by a descriptor that is kept while the process goes away. */
    int kept = open(path, O_PATH);
    struct statvfs mount;
    int sealed = kept >= 0 && fstatvfs(kept, &mount) == 0 && mount.f_flag & ST_RDONLY;
    snprintf(name, sizeof name, "%s %s%s", how, target, sealed ? " (read-only)" : "");
    int fd = open(path, O_WRONLY);
    if (fd < 0 && kept >= 0) {
        char again[64];
        snprintf(again, sizeof again, "/proc/self/fd/%d", kept);
        for (int i = 0; i < 300 && fd < 0; i++) {
            fd = open(again, O_WRONLY);
            if (fd < 0 && errno == ETXTBSY)
                usleep(1000);
            else if (fd < 0)
                break;
        }
    }
    note(name, fd < 0 ? errno : 0);
    if (fd >= 0 && write(fd, "overwritten", 11) == 11)
        printf("WRITTEN %s\n", name);
    if (fd >= 0)
        close(fd);
    if (kept >= 0)
        close(kept);
    fflush(stdout);
}

static void each(const char *folder, const char *how, int above)
{
    char path[4096];
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (entry->d_name[0] != '.' && (above < 0 || atoi(entry->d_name) > above)) {
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            attack(path, how);
        }
    if (entries)
        closedir(entries);
}

static void each_process(void)
{
    char path[320];
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/exe", entry->d_name);
        attack(path, "exe");
        snprintf(path, sizeof path, "/proc/%s/fd", entry->d_name);
        each(path, "fd", 2);
        snprintf(path, sizeof path, "/proc/%s/map_files", entry->d_name);
        each(path, "map", -1);
    }
    if (proc)
        closedir(proc);
}

int main(int argc, char **argv)
{
    time_t end = time(NULL) + 2;
    printf("writing\n");
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "stay"))
        end += 1000;
    do {
        each("/proc/self/fd", "own fd", 2);
        each_process();
        if (argc > 1 && !strcmp(argv[1], "stay") && access("/stop", F_OK) == 0)
            break;
        usleep(200);
    } while (time(NULL) < end);
    for (int i = 0; i < count; i++)
        printf("%s: %s\n", tried[i].target, strerror(tried[i].error));
    printf("done\n");
    fflush(stdout);
}
