/*
 * containerd-shim-pyruntime-v1: the launcher, with the word `shim` before the caller's arguments.
 *
 * containerd looks for a program of this name. It is static, as the launcher is, because the environment is the
 * caller's; RUNTIME, the launcher's path, is fixed when it is compiled.
 */
#include "freestanding.h"

NORETURN static void start(int argc, char **argv, char **environment)
{
    char *arguments[argc + 2];
    arguments[0] = "pyruntime";
    arguments[1] = "shim";
    for (int i = 1; i < argc; i++)
        arguments[i + 1] = argv[i];
    arguments[argc < 1 ? 2 : argc + 1] = NULL;
    call(SYS_execve, (long)RUNTIME, (long)arguments, (long)environment, 0, 0);
    static const char text[] = "containerd-shim-pyruntime-v1: cannot run " RUNTIME "\n";
    call(SYS_write, 2, (long)text, sizeof text - 1, 0, 0);
    leave(127);
}
