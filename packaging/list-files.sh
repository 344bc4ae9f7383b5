#!/bin/sh
# Prints the files of the project, each followed by a NUL byte: those that git tracks; in an unpacked sdist all except what
# a build makes.
set -eu
cd "$(dirname "$0")/.."
if [ -e .git ]; then
    git -c safe.directory="$PWD" ls-files -z |
        xargs -0 sh -c 'for file; do [ ! -e "$file" ] || printf "%s\0" "$file"; done' sh
else
    find . -mindepth 1 \( -path ./build -o -path ./dist -o -path ./.venv -o -name __pycache__ -o -name '*.egg-info' \) -prune -o \
        -type f ! -name '*.so' ! -name '*.pyc' ! -name PKG-INFO -printf '%P\0'
fi | LC_ALL=C sort -z
