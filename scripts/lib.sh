# Shared by scripts/up and scripts/test: messages, privileges, Debian packages, the .venv.
# shellcheck shell=bash
# Sourced by a script that has set -euo pipefail and runs in the top directory of the checkout.

# shellcheck disable=SC2034 # lists for the scripts to choose from

LOG=.lab/setup.log
RUN_PACKAGES=(
    python3-venv           # .venv with the distribution's Python
    ca-certificates        # package sources over HTTPS
    openssh-client         # lab.ssh, ssh -F .lab/ssh_config
    lxc                    # the machines
    mmdebstrap             # their base image
    debian-archive-keyring # keys that verify the base image
    gpgv                   # verifies it
    uidmap                 # required by LXC
    iproute2               # the bridge
    nftables               # NAT on the bridge
    dnsmasq-base           # DNS forwarder on the bridge
    procps                 # sysctl
    psmisc                 # fuser, for troubleshooting
)
TEST_PACKAGES=(
    chromium         # renders the guest book's page
    libnss3-tools    # imports the lab's CA as tls.trust describes
    fonts-liberation # fonts for Chromium
)

VM_PACKAGES=(
    vagrant                # creates virtual machines
    vagrant-libvirt        # libvirt provider for Vagrant
    libvirt-daemon-system  # manages QEMU
    libvirt-clients        # virsh
    qemu-system-x86        # the machines
    qemu-utils             # disk images
    fdisk                  # the box's partition table
    e2fsprogs              # the box's file system
    grub-common            # the box's boot loader
    grub-pc-bin            # its BIOS modules
)

say() { printf '== %s\n' "$*"; }

# fail MESSAGE [HINT]: print one error and exit.
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'next: %s\n' "$2" >&2
    exit 1
}

# quietly COMMAND…: output goes to the log; the last lines are shown when the command fails.
quietly() {
    local status=0 start
    printf '\n$ %s\n' "$*" >>"$LOG"
    start=$(($(wc -c <"$LOG") + 1))
    "$@" >>"$LOG" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        tail -c "+$start" "$LOG" | tail -n 20 | sed 's/^/  | /' >&2
    fi
    return "$status"
}

# privileged COMMAND…: run as root, with sudo if necessary.
privileged() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# provider_of ARGUMENTS…: the provider that lab.up selects for these arguments: --provider,
# LAB_PROVIDER, otherwise by what this host supports (provision/providers/choice.py).
provider_of() {
    local previous='' argument
    for argument in "$@"; do
        case $argument in --provider=*) echo "${argument#*=}" && return ;; esac
        [ "$previous" != --provider ] || { echo "$argument" && return; }
        previous=$argument
    done
    if [ -n "${LAB_PROVIDER:-}" ]; then
        echo "$LAB_PROVIDER"
    elif [ "$(uname -s)" != Linux ] || can_vagrant; then
        echo vagrant
    else
        echo lxc
    fi
}

# can_vagrant: VirtualBox with its kernel driver, or libvirt with working KVM.
can_vagrant() {
    command -v vagrant >/dev/null || return 1
    if command -v VBoxManage >/dev/null && [ -e /dev/vboxdrv ]; then return 0; fi
    [ -S /run/libvirt/libvirt-sock ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo
}

need_privileges() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null ||
        fail "creating machines requires root on this host: you are $(id -un), and sudo is not installed" \
            "run this as root, or: su -c 'apt-get install sudo && adduser $(id -un) sudo', then log in again"
    sudo -n true 2>/dev/null && return 0
    if [ -t 0 ]; then
        say "sudo is required for packages, machines and their network"
        sudo -v && return 0
    fi
    fail "creating machines requires root on this host: you are $(id -un), and sudo refuses access" \
        "run this as root, or: su -c 'adduser $(id -un) sudo', then log in again"
}

# begin: lock the setup of this checkout, start a new log.
begin() {
    mkdir -p .lab
    if command -v flock >/dev/null; then
        exec 9>.lab/setup.lock
        if ! flock --nonblock 9; then
            say "waiting for another setup that is running in this checkout"
            flock 9
        fi
    fi
    : >"$LOG"
    trap 'echo "interrupted: run the same command again to continue" >&2; exit 130' INT TERM
}

# finish: release the lock before what follows, such as lab.up.
finish() {
    trap - INT TERM
    exec 9>&-
}

missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            echo "$package"
    done
}

apt_get() {
    privileged env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1 \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"
}

# install_packages NAME…: install what is missing; the package lists are updated only if the
# installation fails with the current ones.
install_packages() {
    local missing
    if ! command -v apt-get >/dev/null; then
        say "apt-get not found: install the required packages yourself"
        return 0
    fi
    read -ra missing <<<"$(missing_packages "$@" | tr '\n' ' ')"
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ]; then
        say "completing an interrupted package installation"
        quietly privileged dpkg --configure -a || true
    fi
    say "installing ${missing[*]}"
    if apt_get --simulate install --no-install-recommends "${missing[@]}" >>"$LOG" 2>&1 &&
        apt_get install --no-install-recommends "${missing[@]}" >>"$LOG" 2>&1; then
        return 0
    fi
    say "updating the package lists"
    quietly apt_get update ||
        fail "the package sources of this host cannot be reached (see the lines above)" \
            "sudo apt-get update    # then run this again"
    quietly apt_get install --no-install-recommends "${missing[@]}" ||
        fail "packages could not be installed; see $LOG" \
            "sudo apt-get install --no-install-recommends ${missing[*]}"
}

# install_vm_packages: Vagrant with libvirt, and a QEMU that runs Debian 13. QEMU 7.2 (Debian 12)
# emulates cmpxchg16b incorrectly, which Debian 13's kernel uses; bookworm-backports has a newer QEMU.
# Requires the .venv: the lab's code reads the archive's address from apt's configuration.
install_vm_packages() {
    local list=/etc/apt/sources.list.d/lab-backports.list mirror version
    version=$(dpkg-query --show --showformat='${Version}' qemu-system-x86 2>/dev/null || echo 0)
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release &&
        dpkg --compare-versions "$version" lt 1:10; then
        mirror=$(.venv/bin/python -c 'from provision.providers.image_recipe import mirror; print(mirror())')
        say "installing QEMU from bookworm-backports"
        printf 'deb [signed-by=%s] %s bookworm-backports main\n' \
            /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" | privileged tee "$list" >/dev/null
        quietly apt_get update ||
            fail "the package sources of this host cannot be reached (see the lines above)"
        quietly apt_get install --no-install-recommends -t bookworm-backports \
            qemu-system-x86 qemu-utils ||
            fail "QEMU could not be installed from bookworm-backports; see $LOG"
    fi
    install_packages "${VM_PACKAGES[@]}"
}

# python_ok PYTHON: true if it is Python 3.11 or newer.
python_ok() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# find_python: the Python for the .venv: $PYTHON, the distribution's, or any other >= 3.11.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        python_ok "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer"
        command -v "$PYTHON"
        return
    fi
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if python_ok "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer was found" "install one, or set its path: PYTHON=/path/to/python3 $0"
}

digest() { "$1" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$2"; }

# make_venv LOCK…: create .venv with the packages of the first lock file. The stamp lists the
# installed lock files and is written last, so an interrupted .venv is created again.
make_venv() {
    local python stamp=.venv/.locks lock wanted=''
    python=$(find_python)
    wanted=$(digest "$python" "$1")
    if [ -f $stamp ] && .venv/bin/python -c '' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || grep -qxF "python $python" $stamp; }; then
        if grep -qxF "$wanted" $stamp; then return 0; fi
        say "updating .venv to $1"
    else
        say "creating .venv with $python"
        rm -rf .venv
        quietly "$python" -m venv .venv ||
            fail "$python cannot create a virtual environment" "sudo apt-get install python3-venv"
    fi
    rm -f $stamp
    # --no-deps: the lock is complete, so pip does not need to resolve anything.
    quietly .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --require-hashes --requirement "$1" ||
        fail "the Python packages of $1 could not be installed; see $LOG" \
            "check the network and pip's configuration (pip config list), then run this again"
    {
        echo "python $python"
        for lock in "$@"; do digest "$python" "$lock"; done
    } >$stamp.new
    mv $stamp.new $stamp
}
