# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by build-disk.sh: Debian with systemd, which a lab's roles configure.
kernel_options="console=tty0 console=$boot_console,115200"

# prepare_initramfs: prepare what is read when the kernel is installed: an initramfs with only these drivers is
# small and boots fast. It includes the network adapters of libvirt and VirtualBox, because nothing waits for
# them later (see ifupdown-pre below).
prepare_initramfs() {
    printf '%s\n' $drivers >"$new/modules"
    cat >"$new/hook" <<END
#!/bin/sh
install -D -m 644 '$new/modules' "\$1/etc/initramfs-tools/modules"
install -d -m 755 "\$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"\$1/etc/initramfs-tools/conf.d/lab"
END
}

# configure_userland: what the kernel starts in $root.
configure_userland() {
    sh "$scripts/customize.sh" "$root" "$user" "$suite" "$mirror"

    # Each machine creates its own host key before sshd starts for the first time.
    cat >"$root/etc/systemd/system/lab-host-key.service" <<END
[Unit]
Description=SSH host key of this machine
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
RequiredBy=ssh.service
END
    mkdir -p "$root/etc/systemd/system/ssh.service.requires"
    ln -s /etc/systemd/system/lab-host-key.service \
        "$root/etc/systemd/system/ssh.service.requires/lab-host-key.service"
    # These wait for hardware that a virtual machine does not have, up to a minute without KVM.
    for unit in ifupdown-pre.service systemd-udev-settle.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # Clones must not share an identity, including that of the DHCP client.
    rm -rf "$root"/var/lib/dhcpcd/*.lease "$root/var/lib/dhcpcd/duid" "$root/etc/dhcpcd.duid" \
        "$root/var/lib/systemd/random-seed"
}
