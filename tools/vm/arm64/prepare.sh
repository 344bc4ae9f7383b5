# Makes the arm64 machine's system: the second stage of debootstrap, then all that the project's own files install.
/debootstrap/debootstrap --second-stage >/debootstrap.log 2>&1 || { tail -n 40 /debootstrap.log; exit 1; }
rm -f /debootstrap.log
# It ends with these unmounted.
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
. /share/system.sh
depmod
apt-get -q update
cp -r /share/checkout /srv/pyruntime
cd /srv/pyruntime
make build run-packages test-packages
cp -a .venv /srv/venv
cd /
rm -rf /srv/pyruntime
apt-get clean
