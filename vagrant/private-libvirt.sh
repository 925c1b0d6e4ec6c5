#!/bin/sh
# Runs a command with a private libvirtd, for hosts (CI) where none is running. Bridge, dnsmasq,
# packet filter rules, mounts and processes belong to new namespaces and vanish with them; the
# host's cgroups and its libvirt's files are not touched.
#
# usage, as root: unshare -m -n -p -f --kill-child --mount-proc private-libvirt.sh FOLDER COMMAND...
set -eu

folder=$1
shift

for name in etc run var; do mkdir -p "$folder/$name"; done
mkdir -p /run/libvirt /var/lib/libvirt
mount --bind "$folder/etc" /etc/libvirt
mount --bind "$folder/run" /run/libvirt
mount --bind "$folder/var" /var/lib/libvirt
# sysfs shows the network namespace it was mounted in; a fresh one also hides the cgroups
mount -t sysfs sysfs /sys
ip link set lo up

cat > /etc/libvirt/libvirtd.conf <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
END
cat > /etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
END

libvirtd > "$folder/libvirtd.log" 2>&1 &
tries=0
until virsh -q -c qemu:///system version > /dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 60 ]; then
        echo "libvirtd does not answer after 30 s:"
        tail -n 20 "$folder/libvirtd.log"
        exit 1
    fi
    sleep 0.5
done
"$@"
