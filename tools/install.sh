#!/bin/sh
# Installs pyruntime for all users, or removes it.
#
#   tools/install.sh install PREFIX [DESTDIR]
#   tools/install.sh uninstall PREFIX [DESTDIR]
#
# PREFIX/bin/pyruntime      the launcher
# PREFIX/bin/containerd-shim-pyruntime-v1   the same, as containerd calls it
# PREFIX/lib/pyruntime/     the package, oci-spec/, and in dependencies/ copies of what it imports: everything that runs,
#                           and nothing else on sys.path except the interpreter's standard library
# PREFIX/lib/systemd/system/pyruntime-snapshot.service   makes the snapshot at each boot, once it is enabled
# PREFIX/share/             completion for bash, zsh and fish, and the manual page
#
# For packages of a distribution (packaging/), in the environment:
# SITE     the directory of the system's Python modules: the dependencies are imported from there, and none are copied
# PYTHON   the interpreter that does the work and that the launcher starts (that of .venv)
set -eu

action=$1 prefix=$2 destdir=${3-}
case $prefix in
/*) ;;
*) echo "$0: PREFIX must be absolute: $prefix" >&2; exit 1 ;;
esac
program=$prefix/bin/pyruntime
shim=$prefix/bin/containerd-shim-pyruntime-v1
library=$prefix/lib/pyruntime
unit=$prefix/lib/systemd/system/pyruntime-snapshot.service
source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$source/.venv/bin/python}
site=${SITE:-$library/dependencies}

if [ "$action" = uninstall ]; then
    rm -rf "$destdir$program" "$destdir$shim" "$destdir$library" "$destdir$unit"
    (cd "$destdir$prefix/lib" 2>/dev/null && rmdir -p --ignore-fail-on-non-empty systemd/system 2>/dev/null) || true
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

[ -n "${SITE-}" ] || "$python" "$source/tools/copy-dependencies.py" "$stage/dependencies"

(cd "$source" && find pyruntime oci-spec -name __pycache__ -prune -o -type f -print | tar -c -T - -f -) |
    tar -x --no-same-owner -C "$stage" -f -

# unchecked-hash: a start compares no times and reads no sources. A file that a dependency keeps for another version
# of Python does not compile, and is not imported either.
"$python" -m compileall -q -f --invalidation-mode unchecked-hash -s "$stage" -p "$library" "$stage" >/dev/null || true
for required in pyruntime/cli/main.py pyruntime/cli/__pycache__; do
    [ -e "$stage/$required" ] || { echo "$0: $required was not installed" >&2; exit 1; }
done
"$python" -X no_debug_ranges "$source/tools/make-archive.py" "$stage/pyruntime.archive" "$stage" \
    "${SITE:-$stage/dependencies}" "$library"
chmod -R u+rwX,go+rX,go-w "$stage"
[ "$(id -u)" != 0 ] || chown -R 0:0 "$stage"

interpreter=$("$python" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
"$source/tools/compile-launcher.sh" "$stage.program" "$interpreter" "$library/pyruntime.archive" "$library" "$site"
"$source/tools/compile-shim.sh" "$stage.shim" "$program"
chmod 755 "$stage.program" "$stage.shim"
[ "${SNAPSHOT-}" = no ] || cp "$stage.program" "$stage/pyruntime.start"

rm -rf "$destdir$library.old"
[ ! -e "$destdir$library" ] || mv "$destdir$library" "$destdir$library.old"
mv "$stage" "$destdir$library"
mv -f "$stage.program" "$destdir$program"
mv -f "$stage.shim" "$destdir$shim"
rm -rf "$destdir$library.old"
if [ "${SNAPSHOT-}" != no ]; then
    mkdir -p "$destdir${unit%/*}"
    cat >"$destdir$unit" <<EOF
[Unit]
Description=Make the snapshot of pyruntime's interpreter, with other addresses than before
Documentation=man:pyruntime(8)
ConditionPathExists=!/etc/pyruntime/no-snapshot
Before=containerd.service docker.service podman.service

[Service]
Type=oneshot
ExecStart=$program snapshot make --again

[Install]
WantedBy=multi-user.target
EOF
    chmod 644 "$destdir$unit"
fi
# It is of these very files, where they are: a package makes it on the machine that it is installed on.
if [ "${SNAPSHOT-}" != no ] && { [ -n "$destdir" ] || ! "$program" snapshot make; }; then
    echo "note: without a snapshot every command takes some milliseconds longer (docs/snapshot.md)"
fi
"$python" "$source/tools/make-share.py" "$destdir$prefix/share"
echo "installed $destdir$program, $destdir$shim and $destdir$library"
