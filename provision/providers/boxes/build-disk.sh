#!/bin/sh
# build-disk.sh TARGET SUITE MIRROR PACKAGES USER PUBLIC-KEY SIZE-MIB SCRIPTS [APT-SETTING…] <KEY
# Creates TARGET/disk.qcow2, a bootable Debian with one partition and GRUB for BIOS. Nothing is
# mounted and no loop device is needed: mke2fs fills the file system from a folder, and dd installs
# GRUB. SCRIPTS is the folder of the scripts that container images are built with. Runs as root in
# its own namespaces, under a lock (see build.py).
target=$1 suite=$2 mirror=$3 packages=$4 user=$5 key=$6 size=$7 scripts=$8
shift 8
. "$scripts/setup-build.sh"
cat >"$new/key" # the private key: everyone with the box can log in to its machines
root=$new/root

. "$scripts/apt-settings.sh"
apt_settings "$@" >"$new/apt.conf"

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
ata_piix
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

mmdebstrap --mode=root --variant=minbase --include="$packages" \
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
linux /vmlinuz root=LABEL=lab-root ro net.ifnames=0 console=tty0 console=ttyS0,115200 quiet
initrd /initrd.img
boot
END
[ -e "$root/vmlinuz" ] && [ -e "$root/initrd.img" ]
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$new/packages"

disk=$new/disk.raw
truncate -s "${size}M" "$disk"
echo '2048,,L,*' | sfdisk --quiet --label dos "$disk"
# GRUB 2.06 cannot read a file system with metadata_csum_seed.
mke2fs -q -F -t ext4 -L lab-root -m 1 -d "$root" -E offset=1048576 -O '^metadata_csum_seed' \
    "$disk" $(((size - 1) * 256))
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$new/core.img" \
    biosdisk part_msdos ext2 normal linux
dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$new/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -c -O qcow2 "$disk" "$new/disk.qcow2"
rm -rf --one-file-system "$root" "$disk" "$new/apt.conf" "$new/hook" "$new/modules" "$new/core.img"
sync -f "$new"
mv -T "$new" "$target"
