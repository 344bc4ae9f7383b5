#!/bin/bash
# Runs tests with native/ compiled for ASan and UBSan (the launcher and the shim, which have no C library: UBSan that
# traps), in a copy of the checkout. An interpreter that is linked with the sanitizers' library loads the modules, in the
# tests and in the runtime's commands.
#
#   tools/instrumented/test-sanitized.sh [PYTEST ARGUMENT...]
#
# Not instrumented: libseccomp, the interpreter, and what runs without memory or on a stack of its own (UNINSTRUMENTED in
# native/bare.h).
set -eu
. "$(dirname "$0")/copy.sh"
sanitize="-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
copy_checkout sanitized
# shellcheck disable=SC2086  # a list of options
compile_interpreter tools/instrumented/sanitized.c $sanitize
export NATIVE_CFLAGS=$sanitize CFLAGS_CHECK="-fsanitize=undefined -fsanitize-undefined-trap-on-error"
build_copy

# A structure that is too short must be found, and UBSan must be in each module, or all that follows shows nothing.
export PYTHONPATH=$site
"$python" -c 'from pyruntime.kernel._shim import ffi, lib
lib.shim_capget(*(ffi.new("unsigned int[1]") for _ in range(3)))' 2>build/overflow || true
grep -q heap-buffer-overflow build/overflow || { cat build/overflow; echo "the sanitizers find nothing"; exit 1; }
rm build/overflow
for module in pyruntime/kernel/*.so; do
    grep -q __ubsan_handle "$module" || { echo "$module is without UBSan"; exit 1; }
done

[ $# -gt 0 ] || set -- tests/unit tests/linux/test_spawn.py tests/linux/test_waiting.py \
    tests/linux/test_terminal_exec.py tests/linux/test_seccomp.py
export PYRUNTIME_TEST_SLOW=${PYRUNTIME_TEST_SLOW:-3}
"$python" -m pytest -p no:cacheprovider "$@"
