#!/bin/sh
# Compiles native/launcher.c for one place.
#
#   tools/compile-launcher.sh OUTPUT PYTHON ARCHIVE LIBRARY [SITE]
#
# PYTHON: the interpreter's real file. ARCHIVE: what tools/make-archive.py writes; beside it are the snapshot, ARCHIVE with
# the ending .snapshot, and the copy of the launcher that loads it, with the ending .start. LIBRARY: the directory of the
# package. SITE: the directory of its dependencies, if that is another one, or several
# separated by colons.
#
# With SNAPSHOT=no in the environment the launcher never uses a snapshot.
set -eu

output=$1 python=$2 archive=$3 library=$4 site=${5-}
native=$(dirname "$0")/../native

# The paths become C and Python string literals.
case $python$archive$library$site in
*[\'\"\\]*) echo "$0: quotes and backslashes cannot stand in a path: $python $archive $library $site" >&2; exit 1 ;;
esac
for path in "$python" "$archive" "$library" ${site:+"$site"}; do
    case $path in
    /*) ;;
    *) echo "$0: not an absolute path: $path" >&2; exit 1 ;;
    esac
done

set -- -DPYTHON="\"$python\"" -DARCHIVE="\"$archive\"" -DLIBRARY="\"$library\""
[ -z "$site" ] || set -- "$@" -DSITE="\"$site\""
if [ "${SNAPSHOT-}" != no ]; then
    stem=${archive%.archive}
    name=${stem##*/}
    set -- "$@" -DSNAPSHOT="\"$stem.snapshot\"" -DDIRECTORY="\"${stem%/*}\"" -DSNAPSHOT_NAME="\"$name.snapshot\"" \
        -DSECOND="\"$name.start\"" -DTURNED_OFF="\"${TURNED_OFF-/etc/pyruntime/no-snapshot}\""
fi
# Without the C library where freestanding.h knows the architecture.
if ${CC:-cc} -dM -E - </dev/null | grep -q '__x86_64__ 1'; then
    # At an address that neither an interpreter nor the kernel's choice comes near: a snapshot is loaded beside it.
    set -- "$@" -ffreestanding -nostdlib -fno-stack-protector -fcf-protection=none -Wl,--build-id=none \
        -fpie -no-pie -Wl,-Ttext-segment=0x2000000000
fi
mkdir -p "$(dirname "$output")"
# A new file, moved into place: the old one may be running.
${CC:-cc} -std=gnu11 -O2 -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror ${CFLAGS_CHECK-} "$@" \
    -static -s -Wl,-z,noexecstack "$native/launcher.c" -o "$output.new"
mv -f "$output.new" "$output"
