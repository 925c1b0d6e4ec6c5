#!/bin/sh
# Completes the tree of the integration machine's image: runs provision.sh, adds a kernel, and
# disables what a short-lived machine without boot loader and network does not need.
#
# usage: image.sh TREE     as a customize hook of mmdebstrap; the recipe is next to this script
set -eu

tree=$1
recipe=$(dirname "$(readlink -f "$0")")

inside() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

provision() {
    mkdir -p "$tree/opt/pycontain"
    cp -r "$recipe" "$tree/opt/pycontain/recipe"
    inside sh /opt/pycontain/recipe/provision.sh /opt/pycontain/recipe/wheels
    rm -rf "$tree/opt/pycontain/recipe"
}

kernel() {
    # The package is unpacked, not installed: installing it would build an initrd that is not used.
    # With tar, since dpkg-deb -x would replace the symlink /lib -> /usr/lib with a directory.
    name=$(inside apt-cache depends linux-image-cloud-amd64 |
        sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
    inside sh -c "cd /tmp && apt-get download -qq $name &&
        dpkg-deb --fsys-tarfile $name*.deb | tar -x --keep-directory-symlink -C / && rm $name*.deb"
    inside depmod "${name#linux-image-}"
}

network() {
    printf '%s\n' '[Match]' 'Type=ether' '[Network]' 'DHCP=ipv4' 'LinkLocalAddressing=no' \
        > "$tree/etc/systemd/network/80-lab.network"
    inside systemctl enable -q systemd-networkd ssh
    echo lab > "$tree/etc/hostname"
    printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 lab' > "$tree/etc/hosts"
    rm -f "$tree/etc/resolv.conf"
}

keys() {
    rm -f "$tree"/etc/ssh/ssh_host_*
    install -m 600 "$recipe/host_key" "$tree/etc/ssh/ssh_host_ed25519_key"
    install -m 644 "$recipe/host_key.pub" "$tree/etc/ssh/ssh_host_ed25519_key.pub"
    # without PAM no login session is opened, so systemd starts no user manager; this saves seconds
    {
        echo 'HostKey /etc/ssh/ssh_host_ed25519_key'
        echo 'PermitRootLogin prohibit-password'
        echo 'UseDNS no'
        echo 'UsePAM no'
        echo "SetEnv $(cat "$tree/etc/environment")"
    } > "$tree/etc/ssh/sshd_config.d/lab.conf"
    for home in root home/vagrant; do
        install -d -m 700 "$tree/$home/.ssh"
        cp "$recipe/key.pub" "$tree/$home/.ssh/authorized_keys"
    done
    inside chown -R vagrant: /home/vagrant/.ssh
}

boot() {
    printf '%s\n' '[Unit]' 'After=ssh.service' '[Service]' 'Type=oneshot' \
        'StandardOutput=tty' 'TTYPath=/dev/ttyS0' 'ExecStart=/bin/echo pycontain-lab: ready' \
        '[Install]' 'WantedBy=multi-user.target' > "$tree/etc/systemd/system/lab-ready.service"
    inside systemctl enable -q lab-ready
    # the initrd mounts the root; an entry here would make systemd wait for the disk
    : > "$tree/etc/fstab"
    # with an empty id, every boot would generate one and apply the unit presets
    echo 5075636f6e7461696e6c616200000001 > "$tree/etc/machine-id"
}

trim() {
    # shellcheck disable=SC2046  # a list of units
    inside systemctl mask -q $(units)
    inside systemctl disable -q containerd docker.service docker.socket
    rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/tmp/*
    rm -f "$tree"/boot/System.map* "$tree/var/log/dpkg.log" "$tree/var/log/bootstrap.log"
}

units() {
    cat <<-END
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer fstrim.timer
	e2scrub_all.timer e2scrub_reap.service logrotate.timer ldconfig.service systemd-pstore.service
	systemd-timesyncd.service systemd-networkd-wait-online.service systemd-udev-settle.service
	systemd-binfmt.service systemd-hwdb-update.service systemd-journal-catalog-update.service
	systemd-update-done.service systemd-firstboot.service systemd-update-utmp.service apparmor.service systemd-machine-id-commit.service
	getty@tty1.service serial-getty@ttyS0.service modprobe@drm.service modprobe@configfs.service modprobe@fuse.service
	sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
	podman.service podman.socket podman-auto-update.service podman-auto-update.timer
	podman-restart.service modprobe@dm_mod.service modprobe@loop.service
	END
}

provision
kernel
network
keys
boot
trim
