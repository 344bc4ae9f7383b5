#!/bin/sh
# Builds what a release consists of: sdist, wheel, Debian package, SBOM, checksums. Everything is built of the unpacked sdist.
#
#   packaging/make-dist.sh DIRECTORY
#
# PYTHON in the environment is the interpreter with setuptools and wheel (that of .venv).
# The same files and SOURCE_DATE_EPOCH (the time of the commit, if it is not set) give the same bytes.
set -eu

mkdir -p "$1"
output=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/.venv/bin/python}
name=pyruntime-$(packaging/version.sh)
SOURCE_DATE_EPOCH=$(packaging/source-date.sh)
export SOURCE_DATE_EPOCH PYTHONHASHSEED=0 LC_ALL=C.UTF-8 TZ=UTC
umask 022

if [ -e .git ] && [ -n "$(git -c safe.directory="$PWD" status --porcelain)" ]; then
    echo "note: this is not the release of a commit: the checkout has changes (git status); new files are left out" >&2
fi
work=build/dist
rm -rf "$work" "$output"/pyruntime[-_]* "$output/SHA256SUMS"
mkdir -p "$work/files"
packaging/list-files.sh | tar -c --null -T - -f - | tar -x --no-same-owner -C "$work/files" -f -
# quietly COMMAND...: its output is for those who look for a failure
quietly() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
quietly "$python" packaging/make-sdist.py "$work/files" "$output/$name.tar.gz"
echo "$output/$name.tar.gz"

tar -x --no-same-owner -C "$work" -f "$output/$name.tar.gz"
quietly "$python" -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir \
    -w "$output" "$work/$name"
echo "$output"/pyruntime-*.whl
rm -rf "$work/$name/build"

if command -v dpkg-buildpackage >/dev/null; then
    "$work/$name/packaging/make-deb.sh" "$output"
else
    echo "note: no Debian package: this is not a Debian system with dpkg-dev"
fi
"$python" packaging/make-sbom.py "$output" "$output/$name.cdx.json"
echo "$output/$name.cdx.json"
(cd "$output" && LC_ALL=C sha256sum pyruntime[-_]* >SHA256SUMS)
echo "$output/SHA256SUMS"
