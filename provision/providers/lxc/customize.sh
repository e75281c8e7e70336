#!/bin/sh
# customize.sh ROOT USER SUITE MIRROR
# Turns a new Debian root file system into the lab's base image: account, sshd, persistent journal
# and package sources; without host keys, machine id and everything else unique to a machine.
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
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
# With apt's defaults, an unreachable source fails only after many minutes.
cat >"$root/etc/apt/apt.conf.d/80lab" <<END
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::Retries "1";
Acquire::Languages "none";
END

# The account: sudo without a password, and no password login.
chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash --groups adm,systemd-journal "$user"
chroot "$root" passwd --quiet --lock "$user"
printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"$root/etc/sudoers.d/lab"
chmod 440 "$root/etc/sudoers.d/lab"
install -d -m 700 -o 1000 -g 1000 "$root/home/$user/.ssh"

cat >"$root/etc/ssh/sshd_config.d/10-lab.conf" <<END
# Public keys only, and one host key, which the controller has created.
PasswordAuthentication no
PermitRootLogin no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
# The controller opens several sessions at once.
MaxSessions 30
MaxStartups 50
END
install -d -m 2755 -o root -g systemd-journal "$root/var/log/journal" 2>/dev/null ||
    chroot "$root" install -d -m 2755 -o root -g systemd-journal /var/log/journal
ln -sf /usr/bin/vim.tiny "$root/usr/local/bin/vim"

# Units that are useless in a lab machine, or compete with the controller for apt's lock.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    systemd-networkd-wait-online.service systemd-firstboot.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Identity of the machine.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/apt \
    "$root/var/log/dpkg.log" "$root/var/log/alternatives.log" "$root/var/log/bootstrap.log"
