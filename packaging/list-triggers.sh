#!/bin/sh
# Prints the triggers of the Debian package: the files that a snapshot is made of. The launcher does not use it once one of
# them has changed, and dpkg then runs the package's postinst, which makes it again.
#
#   packaging/list-triggers.sh PYTHON SITE MULTIARCH
set -eu

python=$1 site=$2 multiarch=$3
interpreter=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
echo "interest-noawait $interpreter"
echo "interest-noawait /usr/lib/${interpreter##*/}"
for module in _cffi_backend _prctl; do
    file=$("$python" -c "import $module; print($module.__file__)")
    case $file in
    "$site"/*) echo "interest-noawait $file" ;;
    *) echo "$0: $module is not in $site: $file" >&2; exit 1 ;;
    esac
done
# Packages have them below /lib or below /usr/lib; dpkg compares the names.
for directory in /lib /usr/lib; do
    for library in libc.so.6 libcap.so.2 libexpat.so.1 libm.so.6 libpthread.so.0 libseccomp.so.2 libz.so.1; do
        echo "interest-noawait $directory/$multiarch/$library"
    done
done
echo "interest-noawait /usr/lib/locale/C.utf8"
