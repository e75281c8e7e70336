#!/bin/sh
# build-image.sh TARGET SUITE MIRROR PACKAGES USER [APT-SETTING…]
# Builds a base image. Runs as root in its own mount and PID namespaces, under a lock (see
# images.py): when it is killed, no mount and no process remains.
target=$1 suite=$2 mirror=$3 packages=$4 user=$5
shift 5
here=$(dirname "$0")
. "$here/setup-build.sh"

. "$here/apt-settings.sh"
apt_settings "$@" >"$new/apt.conf"
mmdebstrap --mode=root --variant=minbase --include="$packages" \
    --aptopt="$new/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$new/root" "deb $mirror $suite main"
sh "$here/customize.sh" "$new/root" "$user" "$suite" "$mirror"
rm "$new/apt.conf"
sync -f "$new"
mv -T "$new" "$target"
