#!/bin/sh
# Makes the virtual environment .venv, with the project's dependencies.
#
#   tools/venv.sh PYTHON [asked]
#
# One that is there is kept, unless it does not work any more (Python was replaced, the checkout was moved), or PYTHON was
# asked for and is another one: then it is made again.
set -eu
cd "$(dirname "$0")/.."
python=$1 asked=${2-}

fail() {
    echo "make: $*" >&2
    exit 1
}
# describe PYTHON: its file and version, an empty line if it does not run.
describe() {
    "$1" -I -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

keep() {
    [ -x .venv/bin/python ] && .venv/bin/python -I -c 'import pip' 2>/dev/null || return 1
    [ -z "$asked" ] || [ "$(describe .venv/bin/python)" = "$(describe "$python")" ]
}
if keep; then
    [ .venv/.ready -nt pyproject.toml ] && exit 0
else
    version=$(describe "$python")
    [ -n "$version" ] || fail "cannot run $python: set PYTHON to a Python of version 3.11 or later: make PYTHON=/path/to/python3"
    minor=${version##*.} version=${version##* }
    [ "${version%%.*}" = 3 ] && [ "$minor" -ge 11 ] ||
        fail "$python is Python $version; version 3.11 or later is required: make PYTHON=/path/to/python3"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)"
    [ ! -e .venv ] || echo "making .venv again, with Python $version"
    rm -rf .venv
    "$python" -m venv .venv
fi
pip() {
    .venv/bin/python -m pip -q --disable-pip-version-check "$@"
}
# python-prctl is built from source: without these, pip builds it in a way that it calls deprecated.
pip install setuptools wheel
.venv/bin/python tools/dependencies.py dev >.venv/requirements.txt
pip install -r .venv/requirements.txt
touch .venv/.ready
