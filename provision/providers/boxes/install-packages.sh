#!/bin/sh
# install-packages.sh ROOT FOLDER PACKAGES
# Installs the packages of roles in a new root file system, without starting their services. FOLDER contains
# apt.conf, and in input/ the package sources and pins that the packages need; PACKAGES are separated by commas.
# Called by build-disk.sh in its namespaces: nothing is ever mounted on the host.
set -eu
root=$1 new=$2 packages=$3
mkdir -p "$new/input/lists" "$new/input/archives" "$root/run/lab" "$root/var/lib/apt/lists" "$root/var/cache/apt"
cp -a "$new/input/etc" "$root/" 2>/dev/null || true
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --bind "$new/input/lists" "$root/var/lib/apt/lists"
mount --bind "$new/input/archives" "$root/var/cache/apt"
mkdir -p "$root/run/lab"
cp "$new/apt.conf" "$root/run/lab/apt.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts
chmod 755 "$root/usr/sbin/policy-rc.d"
find "$root/etc/systemd/system" -path '*.wants/*.service' -type l -printf '%P\n' | sort >"$new/input/enabled"

in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 APT_CONFIG=/run/lab/apt.conf "$@"; }
in_root apt-get -q update -o APT::Update::Error-Mode=any || exit 71
# shellcheck disable=SC2046 # words
in_root apt-get -q -y -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends $(echo "$packages" | tr , ' ')
audit=$(in_root dpkg --audit)
[ -z "$audit" ] || { echo "$audit" && exit 1; }

# Services are enabled when they are configured: those of the roles, not those of the box itself.
find "$root/etc/systemd/system" -path '*.wants/*.service' -type l -printf '%P\n' | sort |
    comm -13 "$new/input/enabled" - | while read -r link; do rm "$root/etc/systemd/system/$link"; done

rm -f "$root/usr/sbin/policy-rc.d"
if [ -e "$root/usr/sbin/mysqld" ]; then
    # The postinst script can fail without an error status.
    [ -e "$root/var/lib/mysql/mysql.ibd" ] || { echo "mysql's data directory is empty" && exit 1; }
    # server_uuid and self-signed TLS keys: each server creates its own at its first start.
    rm -f "$root/var/lib/mysql/auto.cnf" "$root"/var/lib/mysql/*.pem
fi
umount "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/run" "$root/sys" "$root/proc"
