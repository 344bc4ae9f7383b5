#!/bin/sh
# Makes a bundle with a busybox root filesystem and the config.json of `pyruntime spec`.
#
#   tools/make-bundle.sh DIRECTORY [ARGUMENT ...]
#
# The arguments are the container's process (default: sh, at the caller's terminal).
set -eu

bundle=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
rootfs=$bundle/rootfs
busybox=$(command -v busybox) || { echo "$0: busybox is missing: apt-get install busybox-static" >&2; exit 1; }
if readelf -l "$busybox" 2>/dev/null | grep -q INTERP; then
    echo "$0: $busybox needs shared libraries: apt-get install busybox-static" >&2
    exit 1
fi

mkdir -p "$bundle"
for directory in bin dev etc home/ham proc root run sys tmp var; do
    mkdir -p "$rootfs/$directory"
done
chmod 1777 "$rootfs/tmp"
cp "$busybox" "$rootfs/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -sf busybox "$rootfs/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nham:x:1000:1000:ham:/home/ham:/bin/sh\n' >"$rootfs/etc/passwd"
printf 'root:x:0:\nham:x:1000:\n' >"$rootfs/etc/group"

rm -f "$bundle/config.json"
"$top/build/bin/pyruntime" spec --bundle "$bundle"
[ $# -gt 0 ] || exit 0
"$top/.venv/bin/python" - "$bundle/config.json" "$@" <<'PYTHON'
import json
import sys

path, *args = sys.argv[1:]
with open(path) as file:
    config = json.load(file)
config["process"].update(args=args, terminal=False)
with open(path, "w") as file:
    json.dump(config, file, indent=4)
PYTHON
