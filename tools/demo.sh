#!/bin/sh
# `make run`: a container that tells where it is.
set -eu
cd "$(dirname "$0")/.."
bundle=build/bundle

if [ "$(id -u)" != 0 ]; then
    echo "make run: needs root, for a container without a user namespace" >&2
    exit 1
fi
tools/make-bundle.sh "$bundle" /bin/sh /etc/welcome
cat >"$bundle/rootfs/etc/welcome" <<'SHELL'
echo
echo "Hello from inside the container."
echo "  I am              $(whoami), $(id)"
echo "  my process is     pid $$: $(tr '\0' ' ' </proc/$$/cmdline)"
echo "  my hostname       $(hostname)"
echo "  my directory      $(pwd)"
echo "  my root           $(ls / | tr '\n' ' ')"
echo "  my network        $(ls /sys/class/net 2>/dev/null | tr '\n' ' ')"
echo "  my capabilities   $(grep CapEff /proc/self/status | cut -f 2)"
echo "  all processes"
ps -o pid,user,args | sed 's/^/    /'
echo "  my mounts         (where, what, how)"
while read -r source target type options rest; do
    printf '    %-24s %-8s %s\n' "$target" "$type" "$(echo "$options" | cut -c 1-60)"
done </proc/self/mounts
echo
SHELL

echo "the bundle       $bundle: config.json and rootfs/"
echo "the host         $(hostname), where I am $(id -un), pid $$"
echo "the command      build/bin/pyruntime run --bundle $bundle demo"
# A demo that was killed leaves a record of that name.
build/bin/pyruntime delete --force demo >/dev/null 2>&1 || true
status=0
build/bin/pyruntime run --bundle "$bundle" demo || status=$?
echo "it ended with    status $status; left in the list: $(build/bin/pyruntime list -q | grep -cx demo || true)"
exit "$status"
