#!/bin/sh
# build-disk.sh TARGET SUITE MIRROR ARCHITECTURE PACKAGES ROLE-PACKAGES USER PUBLIC-KEYS SIZE-MIB SCRIPTS
#     USERLAND [APT-SETTING…] <INPUT.tar
# Creates TARGET/disk.qcow2, a bootable Debian: BIOS and GRUB on amd64, UEFI and GRUB on arm64. Nothing is
# mounted but in the namespaces of this script and no loop device is needed: mke2fs fills the file system from a
# folder. ROLE-PACKAGES, which may be empty, are installed as a lab's roles install them. INPUT.tar contains the
# private key, if the box has one, and the package sources of the roles. SCRIPTS is the folder of the scripts that
# container images are built with. USERLAND is systemd or busybox. Runs as root in its own namespaces, under a lock
# (see build.py).
target=$1 suite=$2 mirror=$3 arch=$4 packages=$5 role_packages=$6 user=$7 key=$8 size=$9
shift 9
scripts=$1 userland=$2
shift 2
here=$(dirname "$0")
. "$scripts/setup-build.sh"
mkdir "$new/input"
tar --extract --file=- --directory="$new/input" --no-same-owner
[ ! -e "$new/input/key" ] || mv "$new/input/key" "$new/key" # everyone with the box can log in to its machines
root=$new/root

. "$scripts/apt-settings.sh"
apt_settings "$@" >"$new/apt.conf"
. "$here/foreign.sh"
. "$here/boot-$arch.sh"
run_foreign_programs "$arch"

# The drivers of the disks and network adapters of libvirt and VirtualBox.
drivers="virtio_pci virtio_blk virtio_scsi virtio_net e1000 ahci $boot_modules sd_mod ext4 crc32c"
. "$here/userland-$userland.sh"
prepare_initramfs
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
configure_userland
printf '%s\n' "$key" >"$root/home/$user/.ssh/authorized_keys"
chown 1000:1000 "$root/home/$user/.ssh/authorized_keys"
chmod 600 "$root/home/$user/.ssh/authorized_keys"
printf 'LABEL=lab-root / ext4 errors=remount-ro 0 1\n' >"$root/etc/fstab"
echo debian >"$root/etc/hostname"
# Without its own name, sudo asks a name server at each command.
printf '127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n::1\tlocalhost\n' >"$root/etc/hosts"
cat >"$root/etc/network/interfaces" <<END
source-directory /etc/network/interfaces.d

auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
END

mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<END
linux /vmlinuz root=LABEL=lab-root ro net.ifnames=0 $kernel_options quiet
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
