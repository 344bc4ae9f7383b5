#!/bin/bash
# Tries the Debian package on minimal Debian machines (tools/fresh-debian): it is built on one, together with its successor,
# and on another it is installed, used by hand, by containerd and by docker, upgraded while containers run, and removed.
#
#   packaging/test-deb.sh SUITE      bookworm, trixie, sid; root
set -eu
cd "$(dirname "$0")/.."

outside() {
    local suite=$1
    work=$(mktemp -d)
    # The cgroups of the machine are those of this host: a name that another run does not have.
    group=pyrt-deb-${work##*.}
    trap finish EXIT
    tools/fresh-debian --out "/debs=$work/debs" "$suite" -- packaging/test-deb.sh --build
    tools/fresh-debian --packages "busybox-static iproute2" --share "$work/debs=/debs" "$suite" -- packaging/test-deb.sh --try "$group"
}

finish() {
    rm -rf "$work"
    # Of containers that a test which failed has left; their processes have ended with the machine.
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null || true
}

# Both packages in /debs: ours, and one whose version is higher, with other code.
build() {
    tools/packages.sh deb
    mkdir -p /debs/old /debs/new
    packaging/make-deb.sh /debs/old
    lintian --fail-on error --tag-display-limit 0 /debs/old/*.deb
    sed -i 's/^VERSION = .*/VERSION = "999.0"/' pyruntime/version.py
    packaging/make-deb.sh /debs/new
}

passed=0
check() {
    passed=$((passed + 1))
    echo "ok: $1"
}
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# is WHAT EXPECTED COMMAND...: the command's output
is() {
    local what=$1 expected=$2 found
    shift 2
    found=$("$@" 2>&1) || fail "$what: exit status $? of $*: $found"
    [ "$found" = "$expected" ] || fail "$what: $* printed \"$found\", not \"$expected\""
    check "$what"
}
# within SECONDS COMMAND...: true at last
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 5 /tmp/c/log /tmp/d.log >&2 || true
            fail "timeout: $*"
        fi
        sleep 0.2
    done
}
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" </dev/null >/tmp/apt.log 2>&1 || {
        cat /tmp/apt.log >&2
        fail "apt-get install $*"
    }
}
status_of() {
    pyruntime state "$1" | sed -n 's/.*"status": *"\([a-z]*\)".*/\1/p'
}
pid_of() {
    pyruntime state "$1" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'
}
# Of an interpreter that this machine can be used for: elsewhere there is no snapshot.
has_snapshot() {
    [ "$(dpkg --print-architecture)" = amd64 ]
}
fresh() {
    pyruntime snapshot status | grep -q '^fresh'
}
snapshot_file() {
    stat -c '%i %z' /usr/lib/pyruntime/pyruntime.snapshot
}

# make_bundle DIRECTORY ARGUMENT...: busybox, and the config.json of `pyruntime spec`
make_bundle() {
    local bundle=$1 name
    shift
    mkdir -p "$bundle"/rootfs/{bin,dev,etc,proc,sys,tmp}
    cp /bin/busybox "$bundle/rootfs/bin/busybox"
    for name in cat echo sh sleep; do ln -sf busybox "$bundle/rootfs/bin/$name"; done
    (cd "$bundle" && pyruntime spec)
    python3 - "$group" "$bundle/config.json" "$@" <<'PYTHON'
import json
import sys

group, path, *args = sys.argv[1:]
config = json.load(open(path))
config["process"].update(args=args, terminal=False)
config["linux"]["cgroupsPath"] = f"/{group}/" + path.split("/")[-2]
json.dump(config, open(path, "w"))
PYTHON
}

installation() {
    # Nothing that starts a daemon: it would do so in this host's network.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    apt-get update -q >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; fail "apt-get update"; }
    ! command -v cc >/dev/null || fail "this machine has a compiler: the package's dependencies would not be shown"
    install /debs/old/*.deb
    check "apt-get install"
    for package in libcap2 libseccomp2 python3-cffi-backend python3-jeepney python3-jsonschema python3-prctl; do
        is "$package is installed" "installed" dpkg-query -W -f '${db:Status-Status}' "$package"
    done
    if find /usr/lib/pyruntime \( -name 'cffi*' -o -name '_cffi*' -o -name '*prctl*' -o -name 'jeepney*' \) | grep .; then
        fail "copies of dependencies"
    fi
    version=$(dpkg-query -W -f '${Version}' pyruntime)
    pyruntime --version | grep -qxF "pyruntime version ${version%%+*}" || fail "pyruntime --version: $(pyruntime --version)"
    check "pyruntime --version, $version"
    pyruntime doctor >/tmp/doctor || { cat /tmp/doctor; fail "pyruntime doctor"; }
    check "pyruntime doctor: $(tail -n 1 /tmp/doctor)"
    if has_snapshot; then
        fresh || fail "no fresh snapshot: $(pyruntime snapshot status)"
        check "the snapshot is made on installation"
    fi
    is "import pyruntime" "${version%%+*} /run/pyruntime" \
        python3 -c 'import pyruntime; print(pyruntime.__version__, pyruntime.Container("x").root)'
    is "an ordinary user" "$(pyruntime --version)" setpriv --reuid 65534 --regid 65534 --clear-groups pyruntime --version
    for file in bash-completion/completions/pyruntime zsh/vendor-completions/_pyruntime \
        fish/vendor_completions.d/pyruntime.fish doc/pyruntime/examples/daemon.json doc/pyruntime/copyright; do
        # The package list of a minimal machine may leave out documentation; completion is none.
        case $file in doc/*) dpkg -L pyruntime | grep -q "/usr/share/$file" ;; *) [ -e "/usr/share/$file" ] ;; esac ||
            fail "/usr/share/$file is missing"
    done
    dpkg -L pyruntime | grep -q /usr/share/man/man8/pyruntime.8.gz || fail "no manual page"
    check "completion, examples, manual page"
    [ -z "$(dpkg --verify pyruntime)" ] || fail "dpkg --verify: $(dpkg --verify pyruntime)"
    check "dpkg --verify"
}

by_hand() {
    make_bundle /tmp/b/once echo hello
    is "pyruntime run" hello pyruntime run --bundle /tmp/b/once once
    make_bundle /tmp/b/box sleep 1000
    pyruntime create --bundle /tmp/b/box box </dev/null >/dev/null 2>&1 || fail "pyruntime create"
    is "pyruntime create" created status_of box
    pyruntime start box
    is "pyruntime start" running status_of box
    is "pyruntime exec" inside pyruntime exec box echo inside
    pyruntime delete --force box
    is "pyruntime delete" "" pyruntime list -q
}

network=
# in_network COMMAND...: engines are given a network namespace of their own
in_network() {
    nsenter --net="/proc/$network/ns/net" -- "$@"
}
D="docker --host unix:///tmp/d.sock"

engines() {
    install containerd docker.io
    # Since Debian 13 a package of its own.
    command -v docker >/dev/null || install docker-cli
    unshare --net sleep infinity &
    network=$!
    within 10 sh -c "[ \"\$(readlink /proc/$network/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
    in_network ip link set lo up

    mkdir -p /tmp/image/bin /etc/docker
    cp /bin/busybox /tmp/image/bin/busybox
    for name in cat echo sh sleep; do ln -s busybox "/tmp/image/bin/$name"; done
    tar -C /tmp/image -cf /tmp/image.tar .
    cat /usr/share/doc/pyruntime/examples/daemon.json >/etc/docker/daemon.json 2>/dev/null ||
        dpkg --fsys-tarfile /debs/old/*.deb |
        tar -xO ./usr/share/doc/pyruntime/examples/daemon.json >/etc/docker/daemon.json
    mkdir -p /tmp/c
    cat >/tmp/c/config.toml <<'TOML'
version = 2
root = "/tmp/c/root"
state = "/tmp/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/tmp/c/containerd.sock"
[ttrpc]
  address = "/tmp/c/containerd.sock.ttrpc"
TOML
    in_network containerd --config /tmp/c/config.toml >/tmp/c/log 2>&1 &
    in_network dockerd --host unix:///tmp/d.sock --data-root /tmp/d --exec-root /tmp/de --pidfile /tmp/d.pid \
        --iptables=false --ip6tables=false --bridge=none --cgroup-parent "/$group" >/tmp/d.log 2>&1 &
    within 60 $C version
    within 60 $D version

    # An image for both, made by docker of a tar archive.
    $D import /tmp/image.tar busybox:latest >/dev/null
    $D save -o /tmp/busybox.tar busybox:latest
    local local=
    ! $C image import --help | grep -q -- '--local' || local=--local
    $C image import $local /tmp/busybox.tar >/dev/null
    image=docker.io/library/busybox:latest
    is "ctr run with our shim" hello $C run --rm --runtime io.containerd.pyruntime.v1 "$image" c1 echo hello
    is "ctr run --runc-binary" hello $C run --rm --runc-binary /usr/bin/pyruntime "$image" c2 echo hello
    is "docker run" hello $D run --rm --network none --runtime pyruntime busybox echo hello
    $C run --detach --runtime io.containerd.pyruntime.v1 "$image" kept sleep 1000
    $D run --detach --network none --runtime pyruntime --name kept --stop-timeout 1 busybox sleep 1000 >/dev/null
}

upgrade() {
    make_bundle /tmp/b/running sleep 1000
    make_bundle /tmp/b/waiting sleep 1000
    pyruntime run --detach --bundle /tmp/b/running running </dev/null >/dev/null 2>&1 || fail "pyruntime run --detach"
    pyruntime create --bundle /tmp/b/waiting waiting </dev/null >/dev/null 2>&1 || fail "pyruntime create"
    local pid before=
    pid=$(pid_of running)
    ! has_snapshot || before=$(snapshot_file)
    install /debs/new/*.deb
    pyruntime --version | grep -q '999\.0' || fail "after the upgrade: $(pyruntime --version)"
    check "upgrade while containers run"
    if has_snapshot; then
        fresh && [ "$(snapshot_file)" != "$before" ] || fail "the upgrade left the snapshot: $(pyruntime snapshot status)"
        check "the upgrade made the snapshot again"
    fi
    is "the running container is known" running status_of running
    is "its process is the same" "$pid" pid_of running
    is "exec in it" inside pyruntime exec running echo inside
    is "the created container is known" created status_of waiting
    pyruntime start waiting
    is "start of the one that was created before" running status_of waiting
    pyruntime kill waiting KILL
    pyruntime delete --force waiting
    if [ -n "$network" ]; then
        is "exec in the shim's container" inside $C task exec --exec-id e1 kept echo inside
        is "exec in docker's container" inside $D exec kept echo inside
        is "a new container beside the shim's" hello $C run --rm --runtime io.containerd.pyruntime.v1 "$image" c3 echo hello
        $C task kill --signal KILL kept
        within 20 sh -c "$C task ls | grep -q STOPPED"
        $C task rm kept >/dev/null 2>&1 || true
        $C container rm kept
        is "the shim's container is gone" "" $C container ls -q
        $D rm --force kept >/dev/null
        is "docker's container is gone" "" $D ps -aq
    fi
}

# Whether the snapshot is made of a file of a package.
is_of() {
    dpkg -L "$1" | sed 's,^/lib,/usr/lib,' | sort -u >/tmp/package
    pyruntime snapshot status --format json | sed -n 's/^ *"\(\/.*\)": {.*/\1/p' | sed 's,^/lib,/usr/lib,' | sort -u >/tmp/snapshot
    [ -s /tmp/snapshot ] || fail "snapshot status names no files"
    [ -n "$(comm -12 /tmp/package /tmp/snapshot)" ]
}

python_again() {
    has_snapshot || return 0
    local before python made=0
    python=python$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for package in "$python-minimal" "lib$python-stdlib" python3-minimal python3-prctl libc6; do
        before=$(snapshot_file)
        install --reinstall "$package"
        fresh || fail "after $package the snapshot is old: $(pyruntime snapshot status)"
        if is_of "$package"; then
            [ "$(snapshot_file)" != "$before" ] || fail "$package: the snapshot was not made again"
            check "reinstalled $package: the trigger made the snapshot again"
            made=$((made + 1))
        else
            [ "$(snapshot_file)" = "$before" ] || fail "$package: the snapshot was made again without need"
            check "reinstalled $package, of which the snapshot has no file: kept"
        fi
    done
    [ "$made" -ge 3 ] || fail "only $made of the packages of Python and libc have files of the snapshot"
    is "exec after that" inside pyruntime exec running echo inside
}

removal() {
    local pid
    pid=$(pid_of running)
    mkdir -p /etc/pyruntime
    touch /etc/pyruntime/no-snapshot
    apt-get remove -q -y pyruntime </dev/null >/tmp/apt.log 2>&1 || { cat /tmp/apt.log >&2; fail "apt-get remove"; }
    grep -q "containers in /run/pyruntime: 1" /tmp/apt.log || { cat /tmp/apt.log >&2; fail "remove says nothing of containers"; }
    kill -0 "$pid" || fail "remove ended the container"
    check "remove: containers go on, and the message says so"
    for file in /usr/bin/pyruntime /usr/lib/pyruntime /usr/lib/python3/dist-packages/pyruntime; do
        [ ! -e "$file" ] || fail "remove leaves $file: $(find "$file" | head)"
    done
    [ -e /etc/pyruntime/no-snapshot ] || fail "remove takes settings away"
    check "remove leaves nothing else"
    install /debs/new/*.deb
    is "installed again: the container is known" running status_of running
    [ ! -e /usr/lib/pyruntime/pyruntime.snapshot ] || fail "a snapshot was made though it is turned off"
    check "no snapshot while it is turned off"
    DEBIAN_FRONTEND=noninteractive apt-get purge -q -y pyruntime </dev/null >/tmp/apt.log 2>&1 || fail "apt-get purge"
    grep -q "/run/pyruntime is kept" /tmp/apt.log || { cat /tmp/apt.log >&2; fail "purge says nothing of containers"; }
    [ ! -e /etc/pyruntime ] || fail "purge leaves /etc/pyruntime"
    check "purge with a container: its record is kept, settings are gone"
    install /debs/new/*.deb
    pyruntime delete --force running
    DEBIAN_FRONTEND=noninteractive apt-get purge -q -y pyruntime </dev/null >/tmp/apt.log 2>&1 || fail "apt-get purge"
    [ ! -e /run/pyruntime ] || fail "purge leaves /run/pyruntime: $(find /run/pyruntime)"
    check "purge without containers leaves nothing"
}

try() {
    installation
    by_hand
    engines
    upgrade
    python_again
    removal
    echo "$passed passed"
}

case ${1-} in
--build) build ;;
--try) group=$2 C="ctr --address /tmp/c/containerd.sock --namespace $2" && try ;;
-* | '') sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
*) outside "$1" ;;
esac
