/* The interpreter for `make test-sanitized`: with the sanitizers' run-time library, before any module is loaded. */
#include <Python.h>

/* The interpreter does not free all its memory at exit, and a test may ask for too much. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1:halt_on_error=1:abort_on_error=1";
}

/* With malloc for its objects, too: cffi's structures are then checked for their bounds. */
int main(int argc, char **argv)
{
    PyPreConfig config;
    PyPreConfig_InitPythonConfig(&config);
    config.allocator = PYMEM_ALLOCATOR_MALLOC;
    Py_PreInitializeFromBytesArgs(&config, argc, argv);
    return Py_BytesMain(argc, argv);
}
