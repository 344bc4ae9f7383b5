# Sourced by the jobs of the emulated arm64 machine: the clock, cgroups, and the network of qemu's user mode.
set -eu
date -u -s "@$NOW" >/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname arm64
modprobe -a -q $MODULES || true
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
# qemu translates code for the address it is at: code whose address differs between processes is translated again.
echo 0 >/proc/sys/kernel/randomize_va_space
