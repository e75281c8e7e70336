#!/bin/sh
# build-layer.sh TARGET BASE COUNT SETTING… PACKAGE… <FILES.tar
# Installs packages over a base image and keeps only the difference, a layer. FILES.tar contains
# the package sources and pins that the packages need; COUNT lines for apt.conf follow it. Runs as root in its own mount and PID
# namespaces, under a lock (see images.py), so nothing is ever mounted on the host.
# Exit status 71: the package sources do not respond.
# With DOWNLOAD_ONLY in the environment nothing is installed: the package pool gets the packages.
target=$1 base=$2 settings=$3
shift 3
here=$(dirname "$0")
. "$here/setup-build.sh"
mkdir -p "$new/root" "$new/work" "$new/lists" "$new/archives" "$new/merged"
. "$here/apt-settings.sh"
: >"$new/apt.conf"
apt_settings >>"$new/apt.conf"
while [ "$settings" -gt 0 ]; do
    printf '%s\n' "$1" >>"$new/apt.conf"
    settings=$((settings - 1))
    shift
done
chmod 755 "$new/root"
merged=$new/merged

mount -t overlay overlay -o "lowerdir=$base/root,upperdir=$new/root,workdir=$new/work,redirect_dir=off" "$merged"
mount -t proc proc "$merged/proc"
mount -t sysfs -o ro sysfs "$merged/sys"
mount -t tmpfs -o mode=1777 tmpfs "$merged/dev/shm" || true
mount -t tmpfs -o mode=755 tmpfs "$merged/run"
mount --bind "$new/lists" "$merged/var/lib/apt/lists"
mkdir -p "$merged/var/cache/apt"
mount --bind "$new/archives" "$merged/var/cache/apt"
mkdir -p "$merged/run/lab"
cp "$new/apt.conf" "$merged/run/lab/apt.conf"

tar --extract --file=- --directory="$merged" --no-same-owner
printf '#!/bin/sh\nexit 101\n' >"$merged/usr/sbin/policy-rc.d" # no service starts
chmod 755 "$merged/usr/sbin/policy-rc.d"

in_layer() { chroot "$merged" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 APT_CONFIG=/run/lab/apt.conf "$@"; }
in_layer apt-get -q update -o APT::Update::Error-Mode=any || exit 71
unmount() {
    umount "$merged/var/cache/apt" "$merged/var/lib/apt/lists" "$merged/run" "$merged/sys" "$merged/proc"
    umount "$merged/dev/shm" 2>/dev/null || true
    umount "$merged"
}
if [ -n "${DOWNLOAD_ONLY:-}" ]; then
    in_layer apt-get -q -y install --download-only --no-install-recommends "$@"
    unmount
    rm -rf --one-file-system "$new"
    exit 0
fi
in_layer apt-get -q -y -o Dpkg::Options::=--force-unsafe-io install --no-install-recommends "$@"
audit=$(in_layer dpkg --audit)
[ -z "$audit" ] || { echo "$audit" && exit 1; }

# Services are enabled when they are configured. With Debian's defaults they would be started at the
# first boot and then stopped again.
find "$new/root/etc/systemd/system" -path '*.wants/*.service' -type l -printf '%P\n' 2>/dev/null |
    while read -r link; do rm -f "$merged/etc/systemd/system/$link"; done

# Remove what must be unique to each machine, and logs and caches.
rm -f "$merged/usr/sbin/policy-rc.d" "$merged"/etc/ssh/ssh_host_*
rm -f "$merged"/var/log/*.log "$merged"/var/log/apt/* "$merged/var/cache/debconf"/*-old "$merged/var/lib/dpkg"/*-old
: >"$merged/etc/machine-id"
if [ -e "$merged/usr/sbin/mysqld" ]; then
    # The postinst script can fail without an error status.
    [ -e "$merged/var/lib/mysql/mysql.ibd" ] || { echo "mysql's data directory is empty" && exit 1; }
    # server_uuid and self-signed TLS keys: each server creates its own at its first start.
    rm -f "$merged/var/lib/mysql/auto.cnf" "$merged"/var/lib/mysql/*.pem
fi
unmount
rmdir "$merged"
rm -rf --one-file-system "$new/work" "$new/lists" "$new/archives" "$new/apt.conf"
sync -f "$new"
mv -T "$new" "$target"
