#!/bin/sh
# build-virtualbox-host.sh TARGET MIRROR APT-SETTINGS SCRIPTS
# Creates TARGET/disk.qcow2, vmlinuz, initrd and key: a Debian sid with VirtualBox (contrib), Debian 13's kernel, and
# Vagrant. Debian's Vagrant ends before VirtualBox 7.1 and its package conflicts with it: a local package with two
# more lines in Vagrant's table of drivers takes its place. SCRIPTS is the folder of the scripts that container images are built
# with. Runs as root in its own namespaces, under a lock.
target=$1 mirror=$2 settings=$3 scripts=$4
. "$scripts/setup-build.sh"
root=$new/root

# The kernel for which VirtualBox's drivers are built; sid's may be too new for them.
cat >"$new/pin" <<END
Package: src:linux src:linux-signed-amd64
Pin: release n=trixie
Pin-Priority: 990
END
cat >"$new/vagrant" <<'END'
#!/bin/sh
set -eu
cd "$1/tmp"
chroot "$1" sh -c 'cd /tmp && apt-get -q download vagrant'
dpkg-deb -R vagrant_*.deb vagrant
sed -i '/^Breaks:/d; s/^Version: .*/&+lab1/' vagrant/DEBIAN/control
table=$(find vagrant -path '*/virtualbox/driver/meta.rb')
sed -i 's/^\( *\)"7.0" => \(Version_7_0\),/&\n\1"7.1" => \2,\n\1"7.2" => \2,/' "$table"
grep -q '"7.2" => Version_7_0' "$table"
rm vagrant_*.deb
dpkg-deb -b vagrant vagrant.deb
chroot "$1" apt-get -q -y install --no-install-recommends /tmp/vagrant.deb
rm -r vagrant vagrant.deb
END
chmod 755 "$new/vagrant"
packages=linux-image-amd64,linux-headers-amd64,virtualbox,virtualbox-dkms,systemd-sysv,dbus,udev,openssh-server
packages=$packages,iproute2,procps,python3,python3-venv
mmdebstrap --mode=root --variant=minbase --include="$packages" --aptopt="$settings" \
    --aptopt='APT::Install-Recommends "false"' \
    --setup-hook="install -D -m 644 '$new/pin' \"\$1/etc/apt/preferences.d/kernel\"" \
    --customize-hook="$new/vagrant" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    sid "$root" "deb $mirror sid main contrib" "deb $mirror trixie main"
[ -e "$root"/lib/modules/*/updates/dkms/vboxdrv.ko.xz ]

chroot "$root" useradd --create-home --shell /bin/bash --groups vboxusers student
ssh-keygen -q -t ed25519 -N '' -C virtualbox-host -f "$new/key"
for home in root home/student; do
    install -d -m 700 "$root/$home/.ssh"
    install -m 600 "$new/key.pub" "$root/$home/.ssh/authorized_keys"
done
chroot "$root" chown -R student: /home/student
echo virtualbox-host >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tvirtualbox-host\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' \
    >"$root/etc/systemd/network/10-eth0.network"
chroot "$root" systemctl enable systemd-networkd ssh
# VirtualBox cannot use a processor that KVM has taken; the tests load its drivers.
printf 'install %s /bin/false\n' kvm kvm_amd kvm_intel >"$root/etc/modprobe.d/no-kvm.conf"
for unit in vboxweb.service apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/src/linux-headers-*

cp "$root"/boot/vmlinuz-* "$new/vmlinuz"
cp "$root"/boot/initrd.img-* "$new/initrd"
truncate -s 16G "$new/disk.raw"
mke2fs -q -F -t ext4 -d "$root" "$new/disk.raw"
qemu-img convert -O qcow2 "$new/disk.raw" "$new/disk.qcow2"
rm -rf --one-file-system "$root" "$new/disk.raw" "$new/pin" "$new/vagrant"
mv -T "$new" "$target"
