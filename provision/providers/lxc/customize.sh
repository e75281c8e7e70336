#!/bin/sh
# customize.sh ROOT USER SUITE MIRROR
# Makes a fresh Debian tree into the lab's base image: an account, sshd, a journal that lasts,
# package sources; nothing by which two machines could be told to be one.
set -eu
umask 022
root=$1 user=$2 suite=$3 mirror=$4

cat >"$root/etc/apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
rm -f "$root/etc/apt/sources.list"
mv "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/apt/apt.conf.d/80lab"

# The account: any command as root without a password, and no password that could be guessed.
chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash --groups adm,systemd-journal "$user"
chroot "$root" passwd --quiet --lock "$user"
printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"$root/etc/sudoers.d/lab"
chmod 440 "$root/etc/sudoers.d/lab"
install -d -m 700 -o 1000 -g 1000 "$root/home/$user/.ssh"

cat >"$root/etc/ssh/sshd_config.d/10-lab.conf" <<END
# Keys only. One host key, which the controller made and knows.
PasswordAuthentication no
PermitRootLogin no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
# A controller opens several sessions at once.
MaxSessions 30
MaxStartups 50
END
install -d -m 2755 -o root -g systemd-journal "$root/var/log/journal" 2>/dev/null ||
    chroot "$root" install -d -m 2755 -o root -g systemd-journal /var/log/journal
ln -sf /usr/bin/vim.tiny "$root/usr/local/bin/vim"

# Work that makes no sense in a lab machine, or fights with the controller over a lock.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    systemd-networkd-wait-online.service systemd-firstboot.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Identity.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/apt \
    "$root/var/log/dpkg.log" "$root/var/log/alternatives.log" "$root/var/log/bootstrap.log"
