#!/bin/sh
# minimal_root.sh ROOT FOLDER COMMAND…: run a command in a root file system, without a network.
# FOLDER appears as /media. Run it with unshare --net --mount --pid --fork --kill-child.
set -eu
root=$1 folder=$2
shift 2
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$folder" "$root/media"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
