#!/bin/sh
# Compiles native/launcher.c for one place.
#
#   tools/compile-launcher.sh OUTPUT PYTHON LIBRARY [SITE]
#
# PYTHON: the interpreter's real file. LIBRARY: the directory of the package. SITE: the directory of its dependencies.
set -eu

output=$1 python=$2 library=$3 site=${4-}
native=$(dirname "$0")/../native

# The paths become C and Python string literals.
case $python$library$site in
*[\'\"\\]*) echo "$0: quotes and backslashes cannot stand in a path: $python $library $site" >&2; exit 1 ;;
esac
for path in "$python" "$library" ${site:+"$site"}; do
    case $path in
    /*) ;;
    *) echo "$0: not an absolute path: $path" >&2; exit 1 ;;
    esac
done

set -- -DPYTHON="\"$python\"" -DLIBRARY="\"$library\""
[ -z "$site" ] || set -- "$@" -DSITE="\"$site\""
# Without the C library where freestanding.h knows the architecture.
if ${CC:-cc} -dM -E - </dev/null | grep -q '__x86_64__ 1'; then
    set -- "$@" -ffreestanding -nostdlib -fno-stack-protector -fcf-protection=none -Wl,--build-id=none
fi
mkdir -p "$(dirname "$output")"
# A new file, moved into place: the old one may be running.
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror ${CFLAGS_CHECK-} "$@" \
    -static -s -Wl,-z,noexecstack "$native/launcher.c" -o "$output.new"
mv -f "$output.new" "$output"
