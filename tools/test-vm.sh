#!/bin/sh
# Runs tests in the emulated machine of tools/vmtest: what only pure cgroup v2, systemd, AppArmor, criu or an ordinary
# user with delegated cgroups can show. Once as root, once as the user `tester`, and once as root with all controllers
# of cgroup v1.
#
#   tools/test-vm.sh [PYTEST ARGUMENT...]     arguments are instead of all that: one run as root, cgroup v2
set -eu
cd "$(dirname "$0")/.."

if ! tools/packages.sh vm; then
    echo "test-vm: nothing was tested: qemu and what makes its image (see above) cannot be installed here"
    exit 0
fi
# The list has a section for each layout.
section() {
    sed "1,/^\[$1\]/d;/^\[/,\$d" tests/linux/vm-tests
}
ONLY_ROOT=${1:+yes}
[ $# -gt 0 ] || set -- $(section v2)
user=$(section user)
v1=$(section v1)

# A copy of what the tests need: the checkout may change meanwhile, and its build/ holds the machine's own disk.
stage=$(mktemp -d "$PWD/build/stage-XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$stage"
mkdir -p "$stage/build"
cp -a pyproject.toml .venv pyruntime native oci-spec tests tools "$stage/"
cp -a build/bin "$stage/build/"
# An archive as of an installation: that of the checkout compares times of sources, which lose their nanoseconds on the
# way, and would compile each of them again for every command.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["platlib"])')
.venv/bin/python -X no_debug_ranges tools/make-archive.py "$stage/build/pyruntime.archive" "$stage" "$site" "$PWD"

# Emulated programs run 10 to 20 times slower.
run() {
    tools/vmtest --share "$stage=$PWD" --directory "$PWD" --env PYRUNTIME_TEST_SLOW=15 "$@"
}
pytest="$PWD/.venv/bin/python -m pytest -p no:cacheprovider"

status=0
stage() {
    echo "test-vm: $1"
    shift
    run "$@" || {
        last=$?
        [ "$last" -lt 128 ] || exit "$last" # interrupted
        status=$last
    }
}
stage "as root, cgroup v2 and systemd" --timeout 3600 -- $pytest "$@"
[ -z "$ONLY_ROOT" ] || exit "$status"
stage "as an ordinary user" --timeout 1200 --user tester -- $pytest $user
stage "as root, cgroup v1" --timeout 1800 --cgroup v1 -- $pytest $v1
exit "$status"
