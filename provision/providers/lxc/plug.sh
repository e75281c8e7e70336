#!/bin/sh
# Put the host's end of a container's veth pair on the bridge that a file names.
# LXC runs it for each start and reboot (lxc.net.0.script.up): FILE, then words of its own, of which the
# last is the interface.
file=$1
for interface; do :; done
exec ip link set dev "$interface" master "$(cat "$file")" up
