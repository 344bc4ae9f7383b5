#!/bin/sh
# The first process of the emulated arm64 machine (tools/test-arm64): runs /share/job, and writes its exit status to the
# third disk.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue /share
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
ln -sf /proc/self/fd /dev/fd
for pair in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${pair%%:*}" "/dev/${pair#*:}"; done
mount -t ext4 -o ro,noatime /dev/vdb /share
sh /share/job </dev/null
echo "EXIT $?" >/dev/vdc
sync
echo u >/proc/sysrq-trigger # all filesystems read-only
sleep 1
echo o >/proc/sysrq-trigger
sleep 60
