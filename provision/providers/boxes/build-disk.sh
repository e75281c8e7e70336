#!/bin/sh
# build-disk.sh TARGET SUITE MIRROR ARCHITECTURE PACKAGES ROLE-PACKAGES USER PUBLIC-KEY SIZE-MIB SCRIPTS
#     [APT-SETTING…] <INPUT.tar
# Creates TARGET/disk.qcow2, a bootable Debian: BIOS and GRUB on amd64, UEFI and GRUB on arm64. Nothing is
# mounted but in the namespaces of this script and no loop device is needed: mke2fs fills the file system from a
# folder. ROLE-PACKAGES, which may be empty, are installed as a lab's roles install them. INPUT.tar contains the
# private key and the package sources of the roles. SCRIPTS is the folder of the scripts that container images
# are built with. Runs as root in its own namespaces, under a lock (see build.py).
target=$1 suite=$2 mirror=$3 arch=$4 packages=$5 role_packages=$6 user=$7 key=$8 size=$9
shift 9
scripts=$1
shift
here=$(dirname "$0")
. "$scripts/setup-build.sh"
mkdir "$new/input"
tar --extract --file=- --directory="$new/input" --no-same-owner
mv "$new/input/key" "$new/key" # everyone with the box can log in to its machines
root=$new/root

. "$scripts/apt-settings.sh"
apt_settings "$@" >"$new/apt.conf"
. "$here/foreign.sh"
. "$here/boot-$arch.sh"
run_foreign_programs "$arch"

# Read when the kernel is installed: an initramfs with only these drivers is small and boots fast.
# It includes the network adapters of libvirt and VirtualBox, because nothing waits for them later
# (see ifupdown-pre below).
cat >"$new/modules" <<END
virtio_pci
virtio_blk
virtio_scsi
virtio_net
e1000
ahci
$boot_modules
sd_mod
ext4
crc32c
END
cat >"$new/hook" <<END
#!/bin/sh
install -D -m 644 '$new/modules' "\$1/etc/initramfs-tools/modules"
install -d -m 755 "\$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"\$1/etc/initramfs-tools/conf.d/lab"
END
chmod 755 "$new/hook"

mmdebstrap --mode=root --variant=minbase --architectures="$arch" --skip=check/qemu \
    --include="$packages" \
    --essential-hook="$new/hook" \
    --aptopt="$new/apt.conf" \
    --dpkgopt='force-confold' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/lib/modules/*/kernel/sound/*' \
    --dpkgopt='path-exclude=/usr/lib/modules/*/kernel/drivers/gpu/*' \
    --dpkgopt='path-exclude=/usr/lib/modules/*/kernel/drivers/media/*' \
    --dpkgopt='path-exclude=/usr/lib/modules/*/kernel/drivers/net/wireless/*' \
    "$suite" "$root" "deb $mirror $suite main"
[ -z "$role_packages" ] || sh "$here/install-packages.sh" "$root" "$new" "$role_packages"
sh "$scripts/customize.sh" "$root" "$user" "$suite" "$mirror"
printf '%s\n' "$key" >"$root/home/$user/.ssh/authorized_keys"
chown 1000:1000 "$root/home/$user/.ssh/authorized_keys"
chmod 600 "$root/home/$user/.ssh/authorized_keys"
printf 'LABEL=lab-root / ext4 errors=remount-ro 0 1\n' >"$root/etc/fstab"
echo debian >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$root/etc/hosts"
cat >"$root/etc/network/interfaces" <<END
source-directory /etc/network/interfaces.d

auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
END

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

mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<END
linux /vmlinuz root=LABEL=lab-root ro net.ifnames=0 console=tty0 console=$boot_console,115200 quiet
initrd /initrd.img
boot
END
[ -e "$root/vmlinuz" ] && [ -e "$root/initrd.img" ]
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$new/packages"

disk=$new/disk.raw
truncate -s "${size}M" "$disk"
write_disk
qemu-img convert -c -O qcow2 "$disk" "$new/disk.qcow2"
rm -rf --one-file-system "$root" "$disk" "$new/apt.conf" "$new/hook" "$new/modules" "$new/input" "$new"/boot.*
sync -f "$new"
mv -T "$new" "$target"
