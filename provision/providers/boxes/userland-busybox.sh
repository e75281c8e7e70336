# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by build-disk.sh: the smallest Debian that Vagrant and the lab's SSH can work with. BusyBox is its init
# system; there is no udev and no systemd. Its initramfs loads all drivers, with BusyBox too.
# With mitigations of processor bugs, the kernel writes model-specific registers at each system call.
kernel_options="console=tty0 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on"

# prepare_initramfs: no initramfs is built when the kernel is installed; configure_userland builds one.
prepare_initramfs() {
    cat >"$new/hook" <<END
#!/bin/sh
install -d -m 755 "\$1/etc/initramfs-tools"
printf 'update_initramfs=no\n' >"\$1/etc/initramfs-tools/update-initramfs.conf"
END
}

# configure_userland: what the kernel starts in $root.
configure_userland() {
    add_account
    write_rc
    for applet in init halt poweroff reboot; do
        ln -sf /usr/bin/busybox "$root/usr/sbin/$applet"
    done
    # Vagrant halts a machine with "shutdown -h now".
    printf '#!/bin/sh\ncase $1 in -r) exec reboot ;; *) exec poweroff ;; esac\n' >"$root/usr/sbin/shutdown"
    chmod 755 "$root/usr/sbin/shutdown"
    write_initramfs
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/etc/ssh/ssh_host_*
}

# add_account: sudo without a password, and no password login.
add_account() {
    chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash "$user"
    chroot "$root" usermod --password '*' "$user" # sshd without PAM refuses a locked account
    printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"$root/etc/sudoers.d/lab"
    chmod 440 "$root/etc/sudoers.d/lab"
    install -d -m 700 -o 1000 -g 1000 "$root/home/$user/.ssh"
    cat >"$root/etc/ssh/sshd_config.d/10-lab.conf" <<END
PasswordAuthentication no
PermitRootLogin no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
UsePAM no
LoginGraceTime 0
MaxSessions 30
MaxStartups 50
END
}

# write_rc: what BusyBox's init runs. Each machine creates its own host key before sshd starts.
write_rc() {
    cat >"$root/etc/inittab" <<END
::sysinit:/etc/rc
::respawn:/usr/sbin/sshd -D
::ctrlaltdel:/sbin/reboot
::shutdown:/usr/bin/sync
::shutdown:/usr/bin/umount -a -r
END
    cat >"$root/etc/rc" <<'END'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/network
hostname -F /etc/hostname
[ -e /etc/ssh/ssh_host_ed25519_key ] ||
    ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
ifup -a
END
    chmod 755 "$root/etc/rc"
}

# write_initramfs: BusyBox and the drivers, in the order in which they are loaded. The system itself has none.
write_initramfs() {
    tree=$root/run/initramfs
    version=$(basename "$root"/lib/modules/*)
    mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/modules" "$tree/new"
    cp "$root/usr/bin/busybox" "$tree/bin/busybox"
    for driver in $drivers; do
        chroot "$root" modprobe --show-depends --set-version "$version" "$driver"
    done >"$new/boot.drivers"
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' "$new/boot.drivers" >"$new/boot.order"
    while read -r path; do
        chroot "$root" xz --decompress --stdout "$path" >"$tree/modules/$(basename "$path" .xz)"
        basename "$path" .xz
    done <"$new/boot.order" >"$tree/modules/order"
    cat >"$tree/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module"
done
until disk=$(/bin/busybox findfs LABEL=lab-root 2>/dev/null); do
    /bin/busybox sleep 0.2
done
/bin/busybox mount -t ext4 "$disk" /new
/bin/busybox mount --move /dev /new/dev
/bin/busybox mount --move /proc /new/proc
exec /bin/busybox switch_root /new /sbin/init
END
    chmod 755 "$tree/init"
    image=boot/initrd.img-$version
    # shellcheck disable=SC2016 # expanded in the chroot
    chroot "$root" sh -c 'cd /run/initramfs && find . >../files && cpio --quiet -o -H newc <../files >"$1"' sh "/$image.cpio"
    gzip -9 <"$root/$image.cpio" >"$root/$image"
    ln -sf "$image" "$root/initrd.img"
    rm -rf "$tree" "$root/run/files" "$root/$image.cpio" "$root/lib/modules/$version/kernel"
}
