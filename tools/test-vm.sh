#!/bin/sh
# Runs tests in the emulated machine of tools/vmtest: what only pure cgroup v2, systemd, AppArmor or an ordinary user
# with delegated cgroups can show. Once as root, once as the user `tester`.
#
#   tools/test-vm.sh [PYTEST ARGUMENT...]     arguments replace root's list of tests
set -eu
cd "$(dirname "$0")/.."

if ! tools/packages.sh vm; then
    echo "test-vm: nothing was tested: qemu and what makes its image (see above) cannot be installed here"
    exit 0
fi
[ $# -gt 0 ] || set -- $(sed 's/#.*//' tests/linux/vm-tests)

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
echo "test-vm: as root, cgroup v2 and systemd"
run --timeout 3000 -- $pytest "$@" || status=$?
[ "$status" -lt 128 ] || exit "$status" # interrupted
echo "test-vm: as an ordinary user"
run --timeout 1200 --user tester -- $pytest tests/linux/test_rootless.py || status=$?
exit "$status"
