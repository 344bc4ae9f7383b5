#!/bin/sh
# Builds a release twice and compares the bytes: in this checkout, and from the sdist of that in another directory, with
# another umask, time zone, locale and seed of hashes.
#
#   packaging/test-dist.sh
set -eu
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(packaging/source-date.sh)
export SOURCE_DATE_EPOCH

packaging/make-dist.sh "$work/first"
mkdir "$work/elsewhere"
tar -x --no-same-owner -C "$work/elsewhere" -f "$work"/first/*.tar.gz
elsewhere=$(echo "$work"/elsewhere/pyruntime-*)
(
    umask 077
    # Its source files are of another time, too.
    find "$elsewhere" -type f -exec touch -d '2001-02-03 04:05:06' {} +
    TZ=Asia/Tokyo LC_ALL=C PYTHONHASHSEED=77 PYTHON=$python "$elsewhere/packaging/make-dist.sh" "$work/second"
)
(cd "$work/first" && sha256sum --check --strict --quiet SHA256SUMS)
(cd "$work/second" && sha256sum --check --strict --quiet SHA256SUMS)
cmp "$work/first/SHA256SUMS" "$work/second/SHA256SUMS" || {
    diff "$work/first/SHA256SUMS" "$work/second/SHA256SUMS" >&2 || true
    echo "$0: these differ when they are built again" >&2
    exit 1
}
cat "$work/first/SHA256SUMS"
echo "$(wc -l <"$work/first/SHA256SUMS") files, the same bytes twice"
