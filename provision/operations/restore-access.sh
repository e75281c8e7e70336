#!/bin/sh
# restore-access.sh PART USER HOW ADDRESS/PREFIX GATEWAY KEYS
# Runs as root inside a machine and restores the controller's login. Prints "repaired: WHAT" for each
# fault and "copies: FOLDER" when it replaced files. PART is access or firewall; with HOW = exact,
# authorized_keys holds these keys only (one per line), otherwise at least those.
set -u
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C DEBIAN_FRONTEND=noninteractive
part=$1 user=$2 how=$3 address=$4 gateway=$5 wanted=$6
copies=/var/backups/foobar-lab/rescue-$(date -u +%Y%m%dT%H%M%SZ)

repaired() { printf 'repaired: %s\n' "$*"; }
give_up() {
    echo "$*" >&2
    exit 3
}

# Keep a copy of a file; move_aside also removes it.
keep() {
    { [ -e "$1" ] || [ -L "$1" ]; } || return 0
    mkdir -p "$copies/$(dirname "$1")" && cp -a "$1" "$copies/$(dirname "$1")/"
}
move_aside() { keep "$1" && rm -rf "$1"; }

# --- network -------------------------------------------------------------------------------------

fix_network() {
    for path in /sys/class/net/eth* /sys/class/net/en*; do
        device=${path##*/}
        [ -e "$path" ] || continue
        if ! ip link show dev "$device" up | grep -q . || ip link show dev "$device" | grep -q NOARP; then
            ip link set dev "$device" up arp on && repaired "interface $device"
        fi
    done
    for kind in blackhole unreachable prohibit; do
        ip route show type "$kind" | grep -q . && ip route flush type "$kind" && repaired "$kind routes"
    done
    if ! ip -4 -o address show | grep -q " inet ${address%/*}/"; then
        device=$(find /sys/class/net -mindepth 1 -maxdepth 1 -type l ! -name lo -printf '%f\n' | sort | tail -n 1)
        ip address add "$address" dev "$device" && repaired "address $address of $device"
    fi
    if [ "$how" = exact ] && ! ip route show default | grep -q .; then
        ip route add default via "$gateway" && repaired "default route"
    fi
}

# --- account and keys ----------------------------------------------------------------------------

fix_account() {
    if ! id "$user" >/dev/null 2>&1; then
        useradd --create-home --shell /bin/bash "$user" || give_up "the user $user cannot be created"
        passwd --quiet --lock "$user"
        repaired "user $user"
    fi
    home=$(getent passwd "$user" | cut -d: -f6)
    shell=$(getent passwd "$user" | cut -d: -f7)
    if ! { [ -x "$shell" ] && grep -qxF "$shell" /etc/shells; } 2>/dev/null; then
        usermod --shell /bin/bash "$user" && repaired "login shell of $user"
    fi
    expires=$(getent shadow "$user" | cut -d: -f8)
    if [ -n "$expires" ]; then
        chage --expiredate -1 "$user" && repaired "expired account $user"
    fi
    for file in /etc/nologin /run/nologin; do
        [ -e "$file" ] && move_aside "$file" && repaired "$file"
    done
    [ -d "$home/.ssh" ] || { rm -f "$home/.ssh" && mkdir -p "$home/.ssh" && repaired "$home/.ssh"; }
    keys=$home/.ssh/authorized_keys
    if [ -d "$keys" ] || [ -L "$keys" ]; then
        move_aside "$keys"
    fi
    chattr -i -a "$keys" 2>/dev/null
    if { [ "$how" = exact ] && [ "$(cat "$keys" 2>/dev/null)" != "$wanted" ]; } ||
        ! has_all "$keys"; then
        keep "$keys"
        if [ "$how" = exact ]; then
            printf '%s\n' "$wanted" >"$keys"
        else
            printf '\n%s\n' "$wanted" >>"$keys"
        fi && repaired "$keys"
    fi
    if [ "$how" = exact ] && [ -s /root/.ssh/authorized_keys ]; then
        move_aside /root/.ssh/authorized_keys && repaired /root/.ssh/authorized_keys
    fi
    group=$(id -gn "$user")
    if [ "$how" = exact ] || [ -n "$(find "$home" -maxdepth 0 -perm /022)" ]; then
        modes "$home" "$user:$group" 700
    fi
    modes "$home/.ssh" "$user:$group" 700
    modes "$keys" "$user:$group" 600
    for folder in / /etc /etc/ssh "$(dirname "$home")"; do modes "$folder" root:root 755; done
}
has_all() { # FILE: whether each of the keys is a line of it
    printf '%s\n' "$wanted" | while IFS= read -r line; do
        grep -qxF "$line" "$1" 2>/dev/null || return 1
    done
}
modes() {
    [ "$(stat -c '%U:%G %a' "$1")" = "$2 $3" ] && return 0
    chown "$2" "$1" && chmod "$3" "$1" && repaired "owner and mode of $1"
}

# --- sshd ----------------------------------------------------------------------------------------

# Whether sshd's files let the user log in with a key on port 22.
config_ok() {
    sshd -t 2>/dev/null || return 1
    settings=$(sshd -T -C "user=$user,host=controller,addr=$gateway" 2>/dev/null) || return 1
    value() { printf '%s\n' "$settings" | sed -n "s/^$1 //p"; }
    [ "$(value port)" = 22 ] || return 1
    value listenaddress | grep -Eq "^(0\.0\.0\.0|\[::\]|${address%/*}):22$" || return 1
    [ "$(value pubkeyauthentication)" = yes ] || return 1
    [ "$(value refuseconnection)" != yes ] || return 1
    [ "$(value maxsessions)" -gt 1 ] || return 1
    [ "$(value forcecommand)" = none ] && [ "$(value chrootdirectory)" = none ] || return 1
    case $(value authenticationmethods) in any | publickey) ;; *) return 1 ;; esac
    value pubkeyacceptedalgorithms | grep -q ssh-ed25519 || return 1
    value authorizedkeysfile | grep -q '\.ssh/authorized_keys' || return 1
    value denyusers | grep -qw -e "$user" -e '\*' && return 1
    [ -z "$(value denygroups)" ] || return 1
    [ -z "$(value allowgroups)" ] || return 1
    [ -z "$(value allowusers)" ] || value allowusers | grep -qw "$user"
}

fix_config() {
    config_ok && return
    for file in /etc/ssh/sshd_config.d/*.conf; do
        [ -e "$file" ] || continue
        mv "$file" "$file.rescue"
        if config_ok; then
            mv "$file.rescue" "$file"
            move_aside "$file" && repaired "$file refused the login"
            return
        fi
        mv "$file.rescue" "$file"
    done
    keep /etc/ssh/sshd_config
    cp /usr/share/openssh/sshd_config /etc/ssh/sshd_config && repaired /etc/ssh/sshd_config
    config_ok && return
    for file in /etc/ssh/sshd_config.d/*.conf; do
        [ -e "$file" ] || continue
        move_aside "$file" && repaired "$file"
    done
    config_ok || give_up "sshd refuses the login even with Debian's configuration: $(sshd -t 2>&1)"
}

fix_sshd() {
    if ! command -v sshd >/dev/null || ! [ -e /usr/lib/systemd/system/ssh.service ]; then
        apt-get -qq install --reinstall -y openssh-server >/dev/null 2>&1 ||
            { apt-get -qq update && apt-get -qq install --reinstall -y openssh-server; } >&2 ||
            give_up "openssh-server cannot be installed"
        repaired "package openssh-server"
    fi
    mkdir -p /run/sshd
    for file in /etc/ssh/ssh_host_*_key; do
        [ -e "$file" ] && modes "$file" root:root 600
    done
    if ! ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/dev/null 2>&1; then
        move_aside /etc/ssh/ssh_host_ed25519_key
        rm -f /etc/ssh/ssh_host_ed25519_key.pub
        ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && repaired "a new host key"
    fi
    fix_config
    if grep -Eqs '^[[:space:]]*(sshd|ALL)' /etc/hosts.deny; then
        move_aside /etc/hosts.deny && repaired "/etc/hosts.deny"
    fi
    # A restart also ends sshd's penalties for the controller's failed logins.
    if systemctl is-enabled ssh.service 2>/dev/null | grep -q masked; then
        systemctl unmask --quiet ssh.service
        systemctl unmask --quiet --runtime ssh.service
        repaired "ssh.service was masked"
    fi
    systemctl is-active --quiet ssh.service || repaired "ssh.service was not running"
    systemctl is-enabled --quiet ssh.service || {
        systemctl enable --quiet ssh.service && repaired "ssh.service was not enabled"
    }
    systemctl daemon-reload
    systemctl reset-failed ssh.service 2>/dev/null
    if ! systemctl restart ssh.service 2>/dev/null; then
        for path in /etc/systemd/system/ssh.service /etc/systemd/system/ssh.service.d \
            /run/systemd/system/ssh.service.d /etc/default/ssh; do
            { [ -e "$path" ] || [ -L "$path" ]; } && move_aside "$path" && repaired "$path"
        done
        systemctl daemon-reload
        systemctl reset-failed ssh.service
        if ! systemctl restart ssh.service && command -v ss >/dev/null; then
            holder=$(ss -Hltnp 'sport = :22' | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)
            [ -n "$holder" ] && kill "$holder" && repaired "process $holder on port 22"
            sleep 1
            systemctl restart ssh.service
        fi
        systemctl is-active --quiet ssh.service ||
            give_up "$(journalctl -u ssh.service -n 5 -o cat --no-pager)"
    fi
}

# --- sudo ----------------------------------------------------------------------------------------

sudo_ok() { runuser -u "$user" -- sudo -n true 2>/dev/null; }

fix_sudo() {
    sudo_ok && return
    if ! command -v sudo >/dev/null; then
        { apt-get -qq update && apt-get -qq install -y sudo; } >&2 || give_up "sudo cannot be installed"
        repaired "package sudo"
    fi
    chown root:root /usr/bin/sudo && chmod 4755 /usr/bin/sudo
    mkdir -p /etc/sudoers.d && chmod 755 /etc/sudoers.d
    keep /etc/sudoers.d/lab
    name=lab
    [ "$how" = exact ] || name=$user
    printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"/etc/sudoers.d/$name"
    chown root:root /etc/sudoers.d/* && chmod 440 /etc/sudoers.d/*
    repaired "sudoers of $user"
    sudo_ok && return
    for file in /etc/sudoers.d/*; do
        case ${file##*/} in "$name" | README) continue ;; esac
        move_aside "$file" && repaired "$file"
    done
    sudo_ok && return
    keep /etc/sudoers
    printf 'Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n' >/etc/sudoers
    chown root:root /etc/sudoers && chmod 440 /etc/sudoers && repaired /etc/sudoers
    sudo_ok || give_up "sudo refuses $user: $(runuser -u "$user" -- sudo -n true 2>&1)"
}

# --- firewall ------------------------------------------------------------------------------------

# All tables, because one that accepts a packet does not overrule one that drops it; lab.up loads the
# lab's own again.
fix_firewall() {
    command -v nft >/dev/null || give_up "sshd runs, but nothing reaches it, and nft is missing"
    mkdir -p "$copies"
    nft list ruleset >"$copies/ruleset.nft"
    nft list tables | while read -r _ family table; do
        nft delete table "$family" "$table" && repaired "firewall table $family $table"
    done
}

if [ "$part" = firewall ]; then
    fix_firewall
else
    fix_network
    fix_account
    fix_sshd
    fix_sudo
fi
[ ! -d "$copies" ] || echo "copies: $copies"
