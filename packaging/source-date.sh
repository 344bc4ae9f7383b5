#!/bin/sh
# Prints the time that stands in what is built, in seconds: SOURCE_DATE_EPOCH, or the time of the commit, or where there is
# no git that of CHANGELOG.md.
set -eu
cd "$(dirname "$0")/.."
if [ -n "${SOURCE_DATE_EPOCH-}" ]; then
    echo "$SOURCE_DATE_EPOCH"
elif [ -e .git ]; then
    git -c safe.directory="$PWD" log -1 --format=%ct
else
    stat -c %Y CHANGELOG.md
fi
