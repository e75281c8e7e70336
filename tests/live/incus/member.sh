#!/bin/sh
# member.sh LOWER FOLDER CGROUP ADDRESS/PREFIX
# Runs the Incus daemon in the present mount, network, PID, UTS and IPC namespaces, which unshare(1)
# has just created. Its root is an overlay of LOWER (overlayfs, lowerdir), its data is in
# FOLDER/incus, its control groups are below CGROUP. Under chroot(2) LXC cannot create namespaces
# ("Failed to clone a new set of namespaces"), so the root is changed with pivot_root(2).
set -eu
lower=$1 folder=$2 group=$3 address=$4
root=$folder/root
umask 022
mkdir -p "$root" "$folder/upper" "$folder/work" "$folder/incus"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
mkdir -p "$root/var/lib/incus" "$root/old"
mount --bind "$folder/incus" "$root/var/lib/incus"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount --bind "/sys/fs/cgroup/$group" "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for own in /sys/fs/cgroup/*/"$group"; do
        name=$(basename "$(dirname "$own")")
        mkdir "$root/sys/fs/cgroup/$name"
        mount --bind "$own" "$root/sys/fs/cgroup/$name"
    done
fi
for map in subuid subgid; do
    echo 'root:1000000:1000000000' >"$root/etc/$map"
done
echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"
ip link set dev lo up
until ip link set dev uplink up 2>/dev/null; do sleep 0.05; done # the parent moves it here
ip address add "$address" dev uplink
cd "$root"
pivot_root . old
umount -l /old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    INCUS_EXEC_PATH=/usr/libexec/incus/incusd /usr/libexec/incus/incusd --group root
