#!/bin/sh
# pack-image.sh LOWER NAME >IMAGE.tar
# Packs root file systems (overlayfs, lowerdir) as a unified image of Incus. Runs as root in a mount
# namespace of its own, so that nothing is ever mounted on the host.
set -eu
lower=$1 name=$2
mount -t tmpfs -o mode=700 tmpfs /mnt
mkdir -p /mnt/rootfs
case $lower in
*:*) mount -t overlay -o "ro,lowerdir=$lower" overlay /mnt/rootfs ;;
*) mount --bind -o ro "$lower" /mnt/rootfs ;;
esac
cat >/mnt/metadata.yaml <<END
architecture: $(uname -m)
creation_date: $(stat -c %Y "${lower%%:*}")
properties:
  os: debian
  description: Foobar lab, $name
END
tar --create --directory=/mnt --numeric-owner --xattrs '--xattrs-include=security.capability' metadata.yaml rootfs
