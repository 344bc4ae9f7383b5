#!/bin/sh
# Installs the Debian packages that a task needs, if any is missing.
#
#   tools/packages.sh build|run|test|bench|engines|vm ...
set -eu

wanted=
for task in "$@"; do
    case $task in
    build) wanted="$wanted gcc libc6-dev make python3 python3-dev python3-venv libseccomp-dev libcap-dev" ;;
    run) wanted="$wanted busybox-static" ;;
    test) wanted="$wanted busybox-static golang-github-opencontainers-specs-dev zsh fish groff-base" ;;
    engines) wanted="$wanted busybox-static runc containerd docker.io podman buildah iptables iproute2 uidmap
        containernetworking-plugins" ;;
    bench) wanted="$wanted busybox-static runc crun strace" ;;
    vm) wanted="$wanted qemu-system-x86 qemu-utils mmdebstrap e2fsprogs zstd" ;;
    *) echo "$0: no such task: $task" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "note: not a Debian system; these packages, by their names there, are needed:$wanted" >&2
    exit 0
fi

missing=
for package in $wanted; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "missing packages, and only root can install them: apt-get install$missing" >&2
    exit 1
fi
echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
install() {
    # shellcheck disable=SC2086  # a list of names
    apt-get install -q -y --no-install-recommends $missing </dev/null >&2
}
# A new machine has no package lists, or old ones that name files which are gone.
install || { apt-get update -q >&2 && install; }
