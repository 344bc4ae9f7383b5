#!/bin/sh
# Builds the RPM package from the sdist. Only the build was tested, on Debian.
#
#   packaging/make-rpm.sh DIRECTORY      where the package is put; prints its path
set -eu

mkdir -p "$1"
output=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
version=$(packaging/version.sh)
SOURCE_DATE_EPOCH=$(packaging/source-date.sh)
export SOURCE_DATE_EPOCH

work=$PWD/build/rpm
rm -rf "$work"
mkdir -p "$work/SOURCES" "$work/pyruntime-$version"
packaging/list-files.sh | tar -c --null -T - -f - | tar -x --no-same-owner -C "$work/pyruntime-$version" -f -
tar -C "$work" --sort=name --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" -czf "$work/SOURCES/pyruntime-$version.tar.gz" \
    "pyruntime-$version"
# On Debian rpm's database does not know what is installed.
nodeps=
! command -v dpkg-query >/dev/null || nodeps=--nodeps
rpmbuild -bb $nodeps --define "_topdir $work" --define "pyruntime_version $version" --define "_unitdir /usr/lib/systemd/system" \
    --define "clamp_mtime_to_source_date_epoch 1" --define "use_source_date_epoch_as_buildtime 1" --define "_buildhost localhost" \
    packaging/pyruntime.spec >"$work/log" 2>&1 </dev/null || {
    cat "$work/log" >&2
    echo "$0: rpmbuild failed" >&2
    exit 1
}
for rpm in "$work"/RPMS/*/*.rpm; do
    cp "$rpm" "$output/"
    echo "$output/${rpm##*/}"
done
