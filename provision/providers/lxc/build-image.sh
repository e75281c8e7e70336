#!/bin/sh
# build-image.sh TARGET SUITE MIRROR PACKAGES USER [APT-SETTING…]
# Builds a base image in a folder beside TARGET and renames it when it is complete. Runs as root
# in a mount and process namespace of its own, under a lock (see image.py): whatever happens to
# it, no mount and no process stays, and the next build removes the unfinished folder.
set -eu
umask 022
target=$1 suite=$2 mirror=$3 packages=$4 user=$5
shift 5
[ ! -e "$target/root" ] || exit 0
exec >"$(dirname "$target")/.log.$(basename "$target")" 2>&1

here=$(dirname "$0")
new="$(dirname "$target")/.new.$(basename "$target")"
# Ours and others that were cut off: each is guarded by a lock that its builder holds.
rm -rf --one-file-system "$new"
for old in "$(dirname "$target")"/.new.*; do
    [ -d "$old" ] || continue
    flock -n "$(dirname "$target")/.lock.${old##*/.new.}" rm -rf --one-file-system "$old" || true
done
mkdir -p "$new"
chmod 755 "$new"

for setting in "$@"; do printf '%s\n' "$setting"; done >"$new/apt.conf"
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
