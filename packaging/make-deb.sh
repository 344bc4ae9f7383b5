#!/bin/sh
# Builds the Debian package for the Debian that this runs on, from the files of the checkout.
#
#   packaging/make-deb.sh DIRECTORY      where the package is put; prints its path
#
# The same files and SOURCE_DATE_EPOCH (the time of the commit, if it is not set) give the same bytes.
set -eu

mkdir -p "$1"
output=$(cd "$1" && pwd)
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# After an upgrade of Debian apt must find a newer package: 0.2.0+deb12, then 0.2.0+deb13.
release=$(. /etc/os-release && echo "deb${VERSION_ID:-}")
[ "$release" != deb ] || release=sid
version=$(packaging/version.sh)+$release
SOURCE_DATE_EPOCH=$(packaging/source-date.sh)
export SOURCE_DATE_EPOCH

work=build/deb/pyruntime-$version
rm -rf build/deb
mkdir -p "$work"
packaging/list-files.sh | tar -c --null -T - -f - | tar -x --no-same-owner -C "$work" -f -
# Times of source files are those of a checkout.
find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
cp -r packaging/debian "$work/debian"
cat >"$work/debian/changelog" <<EOF
pyruntime ($version) unstable; urgency=medium

  * The changes of each release are in /usr/share/doc/pyruntime/changelog.gz.

 -- pyruntime maintainers <maintainers@pyruntime.invalid>  $(LC_ALL=C date -R -u -d "@$SOURCE_DATE_EPOCH")
EOF
log=build/deb/log
(cd "$work" && LC_ALL=C.UTF-8 TZ=UTC dpkg-buildpackage -b -us -uc) >"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    echo "$0: dpkg-buildpackage failed" >&2
    exit 1
}
for deb in build/deb/pyruntime_*.deb; do
    cp "$deb" "$output/"
    echo "$output/${deb##*/}"
done
