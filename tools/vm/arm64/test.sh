# Builds, runs a container and the tests in the arm64 machine. /share/tests: arguments of pytest, one run for each line.
. /share/system.sh
cp -r /share/checkout /srv/pyruntime
mv /srv/venv /srv/pyruntime/.venv
cd /srv/pyruntime
touch .venv/.ready # it was made for this pyproject.toml
export PYRUNTIME_TEST_SLOW=15
failed=0
# stage NAME COMMAND...
stage() {
    name=$1 begin=$(date +%s) status=0
    shift
    echo "test-arm64: $name"
    "$@" || { status=$? failed=1; }
    echo "test-arm64: $name: $(($(date +%s) - begin)) s, exit status $status"
}
mount -t securityfs securityfs /sys/kernel/security # as systemd does
uname -srm
stage "make build" make build
stage "make run" make run
while read -r arguments <&3; do
    # shellcheck disable=SC2086  # a list of words
    stage "pytest $arguments" .venv/bin/python -m pytest -p no:cacheprovider --timeout=1200 $arguments
done 3</share/tests
exit "$failed"
