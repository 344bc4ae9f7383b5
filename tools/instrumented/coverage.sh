#!/bin/bash
# Prints which lines of pyruntime tests run, in the tests themselves and in the runtime's commands, init among them
# (counting.c), in a copy of the checkout. Not counted: threads other than the first, and what starts from a snapshot.
#
#   tools/instrumented/coverage.sh [PYTEST ARGUMENT...]
set -eu
. "$(dirname "$0")/copy.sh"
copy_checkout coverage
lines=$copy/build/lines
.venv/bin/python tools/instrumented/lines.py prepare "$copy" build/files.h "$lines"
compile_interpreter tools/instrumented/counting.c -I"$copy/build" -DLINES="\"$lines\"" -DTREE="\"$copy/\""
build_copy
# Left out by default: tests of installations and of snapshots, of which the copy has none.
[ $# -gt 0 ] || set -- tests/unit tests/linux --ignore-glob "tests/linux/test_snapshot*" \
    --ignore tests/linux/test_install.py --ignore tests/linux/test_pip.py
export PYTHONPATH=$site PYRUNTIME_TEST_SLOW=${PYRUNTIME_TEST_SLOW:-3}
status=0
"$python" -m pytest -p no:cacheprovider "$@" || status=$?
.venv/bin/python tools/instrumented/lines.py report "$copy" "$lines" "$top/build/coverage-pages"
echo "line by line: build/coverage-pages/index.html"
exit "$status"
