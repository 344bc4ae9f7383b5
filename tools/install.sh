#!/bin/sh
# Installs pyruntime for all users, or removes it.
#
#   tools/install.sh install PREFIX [DESTDIR]
#   tools/install.sh uninstall PREFIX [DESTDIR]
#
# PREFIX/bin/pyruntime      the launcher
# PREFIX/bin/containerd-shim-pyruntime-v1   the same, as containerd calls it
# PREFIX/lib/pyruntime/     the package, its dependencies, oci-spec/: everything that runs, and nothing else on sys.path
#                           but the interpreter's standard library
# PREFIX/share/             completion for bash, zsh and fish, and the manual page
set -eu

action=$1 prefix=$2 destdir=${3-}
case $prefix in
/*) ;;
*) echo "$0: PREFIX must be absolute: $prefix" >&2; exit 1 ;;
esac
program=$prefix/bin/pyruntime
shim=$prefix/bin/containerd-shim-pyruntime-v1
library=$prefix/lib/pyruntime
source=$(cd "$(dirname "$0")/.." && pwd)
venv=$source/.venv/bin/python

if [ "$action" = uninstall ]; then
    rm -rf "$destdir$program" "$destdir$shim" "$destdir$library"
    share=$destdir$prefix/share
    for name in bash-completion/completions/pyruntime zsh/site-functions/_pyruntime \
        fish/vendor_completions.d/pyruntime.fish man/man8/pyruntime.8; do
        rm -f "$share/$name"
        # directories that were only there for it
        (cd "$share" 2>/dev/null && rmdir -p --ignore-fail-on-non-empty "${name%/*}" 2>/dev/null) || true
    done
    rmdir --ignore-fail-on-non-empty "$share" 2>/dev/null || true
    exit 0
fi
[ "$action" = install ] || { echo "$0: no such action: $action" >&2; exit 2; }

# Everything is made beside the old installation and then takes its place, so that a failure leaves that one.
stage=$destdir$library.new
trap 'rm -rf "$stage" "$stage.program" "$stage.shim"' EXIT
umask 022
rm -rf "$stage"
mkdir -p "$stage" "$destdir$prefix/bin" "$source/build"

"$venv" "$source/tools/copy-dependencies.py" "$stage"

(cd "$source" && find pyruntime oci-spec -name __pycache__ -prune -o -type f -print | tar -c -T - -f -) |
    tar -x --no-same-owner -C "$stage" -f -

cp "$source/tools/make-snapshot.py" "$stage/"

# unchecked-hash: a start compares no times and reads no sources. A file that a dependency keeps for another version
# of Python does not compile, and is not imported either.
"$venv" -m compileall -q -f --invalidation-mode unchecked-hash -s "$stage" -p "$library" "$stage" >/dev/null || true
for required in pyruntime/cli/main.py pyruntime/cli/__pycache__; do
    [ -e "$stage/$required" ] || { echo "$0: $required was not installed" >&2; exit 1; }
done
"$venv" -X no_debug_ranges "$source/tools/make-archive.py" "$stage/pyruntime.archive" "$stage" "$stage" "$library"
chmod -R u+rwX,go+rX,go-w "$stage"
[ "$(id -u)" != 0 ] || chown -R 0:0 "$stage"

python=$("$venv" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
"$source/tools/compile-launcher.sh" "$stage.program" "$python" "$library/pyruntime.archive" "$library"
"$source/tools/compile-shim.sh" "$stage.shim" "$program"
chmod 755 "$stage.program" "$stage.shim"

rm -rf "$destdir$library.old"
[ ! -e "$destdir$library" ] || mv "$destdir$library" "$destdir$library.old"
mv "$stage" "$destdir$library"
mv -f "$stage.program" "$destdir$program"
mv -f "$stage.shim" "$destdir$shim"
rm -rf "$destdir$library.old"
# It holds the addresses of these very files, so it is made where they are.
if [ -n "$destdir" ] || ! "$venv" "$library/make-snapshot.py" "$library/pyruntime.snapshot" "$python" \
    "$library/pyruntime.archive" "$library"; then
    echo "note: no snapshot of the interpreter: every command takes some milliseconds longer (docs/performance.md)"
fi
"$venv" "$source/tools/make-share.py" "$destdir$prefix/share"
echo "installed $destdir$program, $destdir$shim and $destdir$library"
