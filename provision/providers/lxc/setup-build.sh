# shellcheck shell=sh disable=SC2154
# Sourced by the build scripts, with the variable target set: exits when the image exists, sends
# all output to the build's log, and creates the empty folder $new beside the target. The script
# renames $new to the target when it is complete.
set -eu
umask 022
[ ! -e "$target/root" ] && [ ! -e "$target/disk.qcow2" ] || exit 0
store=$(dirname "$target")
exec >"$store/.log.$(basename "$target")" 2>&1
new=$store/.new.$(basename "$target")
# Remove the remains of interrupted builds; a running build holds the lock of its folder.
rm -rf --one-file-system "$new"
for old in "$store"/.new.*; do
    [ -d "$old" ] || continue
    flock -n "$store/.lock.${old##*/.new.}" rm -rf --one-file-system "$old" || true
done
mkdir -p "$new"
chmod 755 "$new"
