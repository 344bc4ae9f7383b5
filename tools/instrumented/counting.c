/* The interpreter for `make coverage`: marks each line of pyruntime that runs, in a file that is mapped into memory.
 *
 * The mapping is shared and needs no system call to write to: what init does without descriptors, behind pivot_root and
 * under a seccomp filter is marked, too, up to its execve. LINES is the file, TREE the path that names of source files
 * begin with, and files.h the list of `{name below TREE, where its first line is marked, lines}` in the order of names.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct file {
    const char *name;
    int first, lines;
};
static const struct file files[] = {
#include "files.h"
};
static unsigned char *marks;

static int compare(const void *key, const void *entry)
{
    return strcmp(key, ((const struct file *)entry)->name);
}

static int mark(PyObject *self, PyFrameObject *frame, int event, PyObject *argument)
{
    (void)self, (void)argument;
    if (event != PyTrace_LINE)
        return 0;
    PyCodeObject *code = PyFrame_GetCode(frame);
    const char *path = PyUnicode_AsUTF8(code->co_filename);
    if (path == NULL)
        PyErr_Clear();
    else if (strncmp(path, TREE, sizeof TREE - 1) == 0) {
        const struct file *file =
            bsearch(path + sizeof TREE - 1, files, sizeof files / sizeof *files, sizeof *files, compare);
        int line = PyFrame_GetLineNumber(frame);
        if (file != NULL && line > 0 && line <= file->lines)
            marks[file->first + line - 1] = 1;
    }
    Py_DECREF(code);
    return 0;
}

/* In the place of sys.settrace: a test that traces for a while, and then no longer, hands the place back. */
static PyObject *set_trace(PyObject *original, PyObject *function)
{
    if (function != Py_None)
        return PyObject_CallOneArg(original, function);
    PyEval_SetTrace(mark, Py_True);
    Py_RETURN_NONE;
}

static PyMethodDef settrace = {"settrace", set_trace, METH_O, NULL};

int main(int argc, char **argv)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    int fd = open(LINES, O_RDWR | O_CLOEXEC);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size > 0)
        marks = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (marks == NULL || marks == MAP_FAILED) {
        perror(LINES);
        return 1;
    }
    close(fd);
    PyObject *replaced = PyCFunction_New(&settrace, PySys_GetObject("settrace"));
    if (replaced == NULL || PySys_SetObject("settrace", replaced) < 0) {
        PyErr_Print();
        return 1;
    }
    /* Not None, so that nobody who asks sys.gettrace() takes the place. */
    PyEval_SetTrace(mark, Py_True);
    return Py_RunMain();
}
