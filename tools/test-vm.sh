#!/bin/bash
# Runs tests in the emulated machine of tools/vmtest: what only pure cgroup v2, systemd, AppArmor, criu or an ordinary
# user with delegated cgroups can show. As root, as the user `tester`, and as root with all controllers of cgroup v1.
#
#   tools/test-vm.sh [PYTEST ARGUMENT...]     arguments are instead of all that: one run as root, cgroup v2
#
# ENGINES_RELEASE=forky takes containerd of that Debian release along (tools/engines/fetch), for arguments below
# tests/engines.
set -eu
cd "$(dirname "$0")/.."

. tools/vm/stage.sh
need_machine "tests"

# The list has a section for each layout.
section() {
    sed "1,/^\[$1\]/d;/^\[/,\$d" tests/linux/vm-tests
}
only_root=${1:+yes}
[ $# -gt 0 ] || set -- $(section v2)

# What pytest makes of the tests is compiled here, not three times there.
.venv/bin/python -m pytest -p no:cacheprovider --collect-only -q $(section v2) $(section v2-more) $(section v1) >/dev/null

# What runs in the background has a file in $started with its pid for a name: to be ended when we are interrupted.
started=
end() {
    trap '' INT TERM HUP
    [ -z "$started" ] || (cd "$started" && for pid in *; do kill "$pid"; done) 2>/dev/null || true
    [ -z "$stage" ] || rm -rf "$stage"
}
# finish PID: waits for it; its exit status.
finish() {
    local status=0
    touch "$started/$1"
    wait "$1" || status=$?
    rm "$started/$1"
    return "$status"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
make_stage native oci-spec tests
started=$stage/build/started
mkdir "$started"
engines=()
if [ -n "${ENGINES_RELEASE:-}" ]; then
    from=$(tools/engines/fetch "$ENGINES_RELEASE")
    mkdir -p "$stage/$from/usr/bin"
    for program in containerd ctr containerd-shim-runc-v2; do
        cp "$from/usr/bin/$program" "$stage/$from/usr/bin/"
    done
    engines=(--env "ENGINES_FROM=$PWD/$from")
fi

# run SECONDS OPTION... -- PYTEST ARGUMENT...: in a machine of its own. Emulated programs run 10 to 20 times slower.
run() {
    local seconds=$1 options=() pytest
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    pytest="$PWD/.venv/bin/python -m pytest -o cache_dir=/tmp/pytest-cache --timeout=1200"
    # systemd, which starts it there, takes a word that begins with $ for a variable, and an unknown one for no word at all.
    in_machine --env PYRUNTIME_TEST_SLOW=15 --env "PYRUNTIME_TEST_ORDER=${PYRUNTIME_TEST_ORDER:-}" --env "PYTEST=$pytest" \
        --timeout "$seconds" "${engines[@]}" "${options[@]}" -- /bin/sh -c 'exec $PYTEST "$@"' sh "$@" &
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
    stage "as an ordinary user" 400 --user tester -- $(section user) || status=$?
    stage "as root, cgroup v1" 900 --cgroup v1 -- $(section v1) || status=$?
    stage "as root, cgroup v2 and systemd, the rest" 600 -- $(section v2-more) || status=$?
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
