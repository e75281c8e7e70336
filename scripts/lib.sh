# What scripts/up and scripts/test share: saying, privileges, Debian packages, the .venv.
# shellcheck shell=bash
# Sourced from a script that has set -euo pipefail and stands in the checkout's top folder.

# shellcheck disable=SC2034 # lists that scripts choose from

LOG=.lab/setup.log
RUN_PACKAGES=(
    python3-venv           # .venv, by the distribution's own Python
    ca-certificates        # package sources over HTTPS
    openssh-client         # lab.ssh, ssh -F .lab/ssh_config
    lxc                    # the machines
    mmdebstrap             # their base image
    debian-archive-keyring # … and what it is verified with
    gpgv                   # … by
    uidmap                 # LXC's companions
    iproute2               # the bridge
    nftables               # its NAT
    dnsmasq-base           # its DNS forwarder
    procps                 # sysctl
    psmisc                 # fuser, for searching
)
TEST_PACKAGES=(
    chromium         # the guest book's page is rendered
    libnss3-tools    # … and trusts a lab as tls.trust says
    fonts-liberation # … with letters
)

VM_PACKAGES=(
    vagrant                # what makes virtual machines
    vagrant-libvirt        # … with libvirt
    libvirt-daemon-system  # … which drives QEMU
    libvirt-clients        # virsh
    qemu-system-x86        # the machines
    qemu-utils             # their disks
    fdisk                  # the box: its partition
    e2fsprogs              # … its file system
    grub-common            # … what boots it
    grub-pc-bin            # … and on what
)

say() { printf '== %s\n' "$*"; }

# fail WHAT [NEXT]: one message, then the end.
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'next: %s\n' "$2" >&2
    exit 1
}

# quietly COMMAND…: output goes to the log; its end is shown when the command fails.
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

# privileged COMMAND…: as root, through sudo where that is needed.
privileged() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Which provider these arguments mean, as lab.up understands them: --provider, LAB_PROVIDER, else
# what this host can do (provision/providers/choice.py).
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

# can_vagrant: VirtualBox with its kernel driver, or libvirt with a KVM that works.
can_vagrant() {
    command -v vagrant >/dev/null || return 1
    if command -v VBoxManage >/dev/null && [ -e /dev/vboxdrv ]; then return 0; fi
    [ -S /run/libvirt/libvirt-sock ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo
}

need_privileges() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null ||
        fail "the machines need root on this host: you are $(id -un), and there is no sudo" \
            "run this as root, or: su -c 'apt-get install sudo && adduser $(id -un) sudo', then log in again"
    sudo -n true 2>/dev/null && return 0
    if [ -t 0 ]; then
        say "sudo is needed for packages, machines and their network"
        sudo -v && return 0
    fi
    fail "the machines need root on this host: you are $(id -un), and sudo refuses you" \
        "run this as root, or: su -c 'adduser $(id -un) sudo', then log in again"
}

# begin: one set-up at a time in this checkout; a new log.
begin() {
    mkdir -p .lab
    if command -v flock >/dev/null; then
        exec 9>.lab/setup.lock
        if ! flock --nonblock 9; then
            say "another set-up runs in this checkout: waiting for it"
            flock 9
        fi
    fi
    : >"$LOG"
    trap 'echo "interrupted: run it again to go on" >&2; exit 130' INT TERM
}

# finish: what follows (a whole lab.up) does not hold the set-up's lock.
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

# install_packages NAME…: those that are not installed; package lists are fetched only when
# the lists at hand do not do.
install_packages() {
    local missing
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here: Debian packages are left to you"
        return 0
    fi
    read -ra missing <<<"$(missing_packages "$@" | tr '\n' ' ')"
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ]; then
        say "finishing an interrupted installation of packages"
        quietly privileged dpkg --configure -a || true
    fi
    say "installing ${missing[*]}"
    if apt_get --simulate install --no-install-recommends "${missing[@]}" >>"$LOG" 2>&1 &&
        apt_get install --no-install-recommends "${missing[@]}" >>"$LOG" 2>&1; then
        return 0
    fi
    say "fetching package lists"
    quietly apt_get update ||
        fail "the package sources of this host do not answer (the lines above name them)" \
            "sudo apt-get update    # then run this again"
    quietly apt_get install --no-install-recommends "${missing[@]}" ||
        fail "packages could not be installed; the whole story is in $LOG" \
            "sudo apt-get install --no-install-recommends ${missing[*]}"
}

# install_vm_packages: Vagrant with libvirt, and a QEMU that runs Debian 13. QEMU 7.2 of Debian 12
# emulates an instruction wrongly that Debian 13's kernel uses; Debian's backports have a newer one.
# After make_venv, since the address of the archive is read by the lab's own code.
install_vm_packages() {
    local list=/etc/apt/sources.list.d/lab-backports.list mirror version
    version=$(dpkg-query --show --showformat='${Version}' qemu-system-x86 2>/dev/null || echo 0)
    if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release &&
        dpkg --compare-versions "$version" lt 1:10; then
        mirror=$(.venv/bin/python -c 'from provision.providers.images import mirror; print(mirror())')
        say "taking QEMU from Debian's backports"
        printf 'deb [signed-by=%s] %s bookworm-backports main\n' \
            /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" | privileged tee "$list" >/dev/null
        quietly apt_get update ||
            fail "the package sources of this host do not answer (the lines above name them)"
        quietly apt_get install --no-install-recommends -t bookworm-backports \
            qemu-system-x86 qemu-utils ||
            fail "QEMU could not be installed from bookworm-backports; the whole story is in $LOG"
    fi
    install_packages "${VM_PACKAGES[@]}"
}

# Exit 0 when that Python is new enough.
python_ok() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The Python that .venv is made by: $PYTHON, the distribution's, or any other that is new enough.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        python_ok "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
        command -v "$PYTHON"
        return
    fi
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if python_ok "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer here" "install one, or name it: PYTHON=/path/to/python3 $0"
}

digest() { "$1" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$2"; }

# make_venv LOCK…: .venv holds what the first lock names. Its stamp lists the locks that are
# installed and is written last, so a venv whose making was cut off is made anew.
make_venv() {
    local python stamp=.venv/.locks lock wanted=''
    python=$(find_python)
    wanted=$(digest "$python" "$1")
    if [ -f $stamp ] && .venv/bin/python -c '' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || grep -qxF "python $python" $stamp; }; then
        if grep -qxF "$wanted" $stamp; then return 0; fi
        say "bringing .venv up to date with $1"
    else
        say "making .venv with $python"
        rm -rf .venv
        quietly "$python" -m venv .venv ||
            fail "$python cannot make a virtual environment" "sudo apt-get install python3-venv"
    fi
    rm -f $stamp
    # --no-deps: the lock is complete, and a pip older than the lock's format need not resolve it.
    quietly .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --require-hashes --requirement "$1" ||
        fail "the Python packages of $1 could not be installed; the whole story is in $LOG" \
            "look at the network or at pip's settings (pip config list), then run this again"
    {
        echo "python $python"
        for lock in "$@"; do digest "$python" "$lock"; done
    } >$stamp.new
    mv $stamp.new $stamp
}
