#!/bin/busybox sh
# The initramfs: loads the drivers of the disk and executes @PROGRAM@ on it.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /root
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in @MODULES@; do
    $b insmod "/lib/$module" || echo "insmod $module failed"
done
tries=0
until [ -b /dev/vda ]; do
    tries=$((tries + 1))
    [ $tries -le 200 ] || { echo "no /dev/vda"; $b poweroff -f; }
    $b sleep 0.05
done
$b mount -t ext4 -o rw,noatime /dev/vda /root || { echo "cannot mount /dev/vda"; $b poweroff -f; }
$b umount /proc
$b mount --move /dev /root/dev
exec $b switch_root /root @PROGRAM@
