#!/bin/sh
# Compiles native/containerd-shim.c for one place.
#
#   tools/compile-shim.sh OUTPUT RUNTIME
#
# RUNTIME: the launcher's absolute path.
set -eu

output=$1 runtime=$2
native=$(dirname "$0")/../native

case $runtime in
*[\'\"\\]*) echo "$0: quotes and backslashes cannot stand in a path: $runtime" >&2; exit 1 ;;
/*) ;;
*) echo "$0: not an absolute path: $runtime" >&2; exit 1 ;;
esac
set -- -DRUNTIME="\"$runtime\""
# Without the C library where freestanding.h knows the architecture.
if ${CC:-cc} -dM -E - </dev/null | grep -q '__x86_64__ 1'; then
    set -- "$@" -ffreestanding -nostdlib -fno-stack-protector -fcf-protection=none -Wl,--build-id=none
fi
mkdir -p "$(dirname "$output")"
# A new file, moved into place: the old one may be running.
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror ${CFLAGS_CHECK-} "$@" \
    -static -s -Wl,-z,noexecstack "$native/containerd-shim.c" -o "$output.new"
mv -f "$output.new" "$output"
