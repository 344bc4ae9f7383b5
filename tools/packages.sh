#!/bin/sh
# Installs the Debian packages that a task needs, if any is missing.
#
#   tools/packages.sh build|run|test|conformance|bench|engines|vm|arm64|fresh|deb|rpm ...
set -eu

wanted=
for task in "$@"; do
    case $task in
    build) wanted="$wanted gcc libc6-dev make python3 python3-dev python3-venv libseccomp-dev libcap-dev" ;;
    run) wanted="$wanted busybox-static" ;;
    test) wanted="$wanted busybox-static golang-github-opencontainers-specs-dev zsh fish groff-base iproute2
        uidmap"
        # The kernel's headers for arm64: newer releases have them in linux-libc-dev.
        [ -d /usr/lib/linux/uapi/arm64 ] || wanted="$wanted linux-libc-dev-arm64-cross" ;;
    # What the suite's library package depends on, and what its programs import besides.
    conformance) wanted="$wanted xz-utils golang-go golang-github-blang-semver-dev
        golang-github-cpuguy83-go-md2man-v2-dev golang-github-google-uuid-dev golang-github-hashicorp-errwrap-dev
        golang-github-hashicorp-go-multierror-dev golang-github-mrunalp-fileutils-dev
        golang-github-opencontainers-selinux-dev golang-github-opencontainers-specs-dev
        golang-github-russross-blackfriday-v2-dev golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev
        golang-github-xeipuuv-gojsonpointer-dev golang-github-xeipuuv-gojsonreference-dev
        golang-github-xeipuuv-gojsonschema-dev golang-gocapability-dev golang-golang-x-sys-dev" ;;
    fresh) wanted="$wanted mmdebstrap" ;;
    # What packaging/debian/control has as Build-Depends, and lintian.
    deb) wanted="$wanted build-essential debhelper lintian libseccomp-dev python3-dev python3-cffi python3-prctl" ;;
    rpm) wanted="$wanted gcc libc6-dev make rpm libseccomp-dev python3-dev python3-cffi python3-prctl python3-jsonschema" ;;
    engines) wanted="$wanted busybox-static runc containerd docker.io podman buildah iptables iproute2 uidmap
        containernetworking-plugins patchelf" ;;
    bench) wanted="$wanted busybox-static runc crun strace" ;;
    vm) wanted="$wanted qemu-system-x86 qemu-utils mmdebstrap e2fsprogs zstd" ;;
    arm64) wanted="$wanted qemu-system-arm debootstrap kmod e2fsprogs" ;;
    *) echo "$0: no such task: $task" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "note: not a Debian system; these packages, by their names there, are needed:$wanted" >&2
    exit 0
fi

missing=
for package in $wanted; do
    case " $missing " in *" $package "*) continue ;; esac
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
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# quietly COMMAND...: its output only matters if nothing else helps.
quietly() {
    "$@" </dev/null >"$log" 2>&1
}
install() {
    # Settings that were changed on this machine stay: dpkg cannot ask here.
    # shellcheck disable=SC2086  # a list of names
    quietly apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold $missing
}
# A new machine has no package lists, or old ones that name files which are gone.
known=yes
# shellcheck disable=SC2086
[ "$(apt-cache policy $missing 2>/dev/null | grep -c 'Candidate: [^(]')" -eq "$(echo $missing | wc -w)" ] || known=
[ -n "$known" ] && install || { quietly apt-get update -q && install; } || {
    cat "$log" >&2
    echo "cannot install$missing: see the output of apt-get above" >&2
    exit 1
}
