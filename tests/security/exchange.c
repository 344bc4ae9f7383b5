/*
 * The racer: swaps the names of pairs of files, over and over, until it is killed.
 *
 *   exchange A B [A B ...]
 *
 * renameat2(2) with RENAME_EXCHANGE: there is no moment at which one of the names is missing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <signal.h>

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (argc < 3 || argc % 2 == 0)
        return 2;
    for (;;)
        for (int i = 1; i < argc; i += 2)
            if (renameat2(AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], RENAME_EXCHANGE) && errno != EBUSY) {
                perror(argv[i]);
                return 1;
            }
}
