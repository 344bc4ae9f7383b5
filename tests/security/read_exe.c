/* In a container: looks at what /proc/PID/exe of every process leads to. `read_exe SNAPSHOT SECOND`: says "snapshot" or
 * "second" when that is a file with this inode number that can be read. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long long inodes[2];
static int found[2];

static void look(const char *path)
{
    static const char *const names[] = {"snapshot", "second"};
    struct stat file;
    char bytes[16];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (fstat(fd, &file) == 0 && pread(fd, bytes, sizeof bytes, 0) == sizeof bytes)
        for (int i = 0; i < 2; i++)
            if (file.st_ino == inodes[i] && !found[i]++)
                puts(names[i]);
    close(fd);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < 2 && i + 1 < argc; i++)
        inodes[i] = strtoull(argv[i + 1], NULL, 10);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("looking");
    while (access("/stop", F_OK) != 0) {
        DIR *all = opendir("/proc");
        for (struct dirent *one; all != NULL && (one = readdir(all)) != NULL;) {
            char path[300];
            if (one->d_name[0] < '0' || one->d_name[0] > '9')
                continue;
            snprintf(path, sizeof path, "/proc/%s/exe", one->d_name);
            look(path);
        }
        if (all != NULL)
            closedir(all);
    }
    puts("done");
    return 0;
}
