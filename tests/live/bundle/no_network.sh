#!/bin/sh
# no_network.sh FOLDER: a host of its own that has no network, in new network and mount namespaces.
# Run it with unshare --net --mount --propagation private. It has the host's programs, but no lab, no
# image, no package pool, and no route. It prints "ready" and waits until stdin is closed.
set -eu
folder=$1
ip link set lo up
# The interfaces of this network namespace, with the host's control groups.
mkdir -p "$folder/sys" "$folder/state" "$folder/tmp"
mount -t sysfs sysfs "$folder/sys"
mount --rbind /sys/fs/cgroup "$folder/sys/fs/cgroup"
mount --rbind "$folder/sys" /sys
mkdir -p /var/lib/foobar-lab
mount --bind "$folder/state" /var/lib/foobar-lab
# Packets that are not for this host or its machines, whose interfaces here are lab-* and v*: on the
# latter, the kernel discovers IPv6 neighbors.
nft -f - <<'END'
table inet proof {
    chain leaving {
        type filter hook output priority 300; policy accept;
        oifname != "lo" oifname != "lab-*" oifname != "v*" counter
    }
    chain forwarded {
        type filter hook forward priority 300; policy accept;
        iifname "lab-*" oifname != "lab-*" counter
    }
}
END
echo ready
cat >/dev/null
