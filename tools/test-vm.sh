#!/bin/bash
# Runs tests in the emulated machine of tools/vmtest: what only pure cgroup v2, systemd, AppArmor, criu or an ordinary
# user with delegated cgroups can show. As root, as the user `tester`, and as root with all controllers of cgroup v1.
#
#   tools/test-vm.sh [PYTEST ARGUMENT...]     arguments are instead of all that: one run as root, cgroup v2
#
# With VM_RETRY=1, as CI has it, what fails is tried once more, and said to be.
set -eu
cd "$(dirname "$0")/.."

# Only a machine that cannot be had is a reason to test nothing; every other failure is one.
skip() {
    echo "skipped: tests in the emulated machine: $1"
    exit 0
}
tools/packages.sh vm || skip "qemu and what makes its image (see above) cannot be installed here"
made=0
timeout 900 tools/vmtest --image || made=$?
case $made in
0) ;;
125) skip "its image (see above) cannot be made here" ;;
124) skip "its image was not made in 15 minutes" ;;
*) exit "$made" ;;
esac

# The list has a section for each layout.
section() {
    sed "1,/^\[$1\]/d;/^\[/,\$d" tests/linux/vm-tests
}
only_root=${1:+yes}
[ $# -gt 0 ] || set -- $(section v2)

# What pytest makes of the tests is compiled here, not three times there.
.venv/bin/python -m pytest -p no:cacheprovider --collect-only -q $(section v2) $(section v2-more) $(section v1) >/dev/null

# A copy of what the tests need: the checkout may change meanwhile, and its build/ holds the machine's own disk.
stage=$(mktemp -d "$PWD/build/stage-XXXXXX")
# What runs in the background has a file here with its pid for a name: to be ended when we are interrupted.
started=$stage/build/started
end() {
    trap '' INT TERM HUP
    (cd "$started" && for pid in *; do kill "$pid"; done) 2>/dev/null || true
    rm -rf "$stage"
}
finish() {
    local status=0
    touch "$started/$1"
    wait "$1" || status=$?
    rm "$started/$1"
    return "$status"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$stage"
mkdir -p "$started"
cp -a pyproject.toml .venv pyruntime native oci-spec tests tools "$stage/"
cp -a build/bin "$stage/build/"
# An archive as of an installation: that of the checkout compares times of sources, which lose their nanoseconds on the
# way, and would compile each of them again for every command.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
.venv/bin/python -X no_debug_ranges tools/make-archive.py "$stage/build/pyruntime.archive" "$stage" "$site" "$PWD"
# The snapshot is made there, of that machine's files: it spares each command the start of an interpreter, half a second.
snapshot="tools/make-snapshot.py build/pyruntime.snapshot '$python' '$PWD/build/pyruntime.archive' '$PWD' '$site'"
prepare="'$PWD/.venv/bin/python' $snapshot || echo 'note: without the snapshot'"

# test SECONDS OPTION... -- PYTEST ARGUMENT...: in a machine of its own. Emulated programs run 10 to 20 times slower.
run() {
    local seconds=$1 options=() pytest
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    pytest="$PWD/.venv/bin/python -m pytest -o cache_dir=/tmp/pytest-cache"
    tools/vmtest --share "$stage=$PWD" --directory "$PWD" --env PYRUNTIME_TEST_SLOW=15 --prepare "$prepare" \
        --env "PYTEST=$pytest" --env "VM_RETRY=${VM_RETRY:-}" --timeout "$seconds" "${options[@]}" -- \
        /bin/sh -c 'status=0
            $PYTEST "$@" || status=$?
            if [ "$status" = 1 ] && [ -n "$VM_RETRY" ]; then
                echo "trying once more what failed"
                status=0
                $PYTEST "$@" --last-failed --last-failed-no-failures none || status=$?
            fi
            exit "$status"' sh "$@" &
    finish $!
}
stage() {
    local begin=$SECONDS status=0 name=$1
    shift
    echo "test-vm: $name"
    run "$@" || status=$?
    echo "test-vm: $name: $((SECONDS - begin)) s, exit status $status"
    return "$status"
}
if [ -n "$only_root" ]; then
    stage "as root, cgroup v2 and systemd" 3600 -- "$@"
    exit
fi
first() {
    stage "as root, cgroup v2 and systemd" 1800 -- $(section v2)
}
second() {
    local status=0
    stage "as an ordinary user" 600 --user tester -- $(section user) || status=$?
    stage "as root, cgroup v1" 1200 --cgroup v1 -- $(section v1) || status=$?
    stage "as root, cgroup v2 and systemd, the rest" 900 -- $(section v2-more) || status=$?
    return "$status"
}
# An emulated machine keeps little more than one processor busy: two at once, where there are two.
status=0
if [ "$(nproc)" -ge 2 ]; then
    second >"$stage/second" 2>&1 &
    other=$!
    touch "$started/$other"
    first || status=$?
    finish "$other" || status=$?
    cat "$stage/second"
else
    first || status=$?
    second || status=$?
fi
exit "$status"
