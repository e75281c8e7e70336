# Sourced by scripts/up, scripts/test and scripts/doctor: finds the Python that runs the set-up.
# shellcheck shell=sh

os_release=/etc/os-release

# python_ok PYTHON: true if it is Python 3.11 or newer, with its whole standard library.
python_ok() {
    case $1 in
    */*) ;;
    *) set -- "$(command -v "$1")" && [ -n "$1" ] || return ;;
    esac
    # Apple's own python3 only asks to install the developer tools, until they are installed.
    if [ "$1" = /usr/bin/python3 ] && [ "$(uname -s)" = Darwin ]; then
        xcode-select -p >/dev/null 2>&1 || return
    fi
    "$1" -c 'import sys, json, shutil; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# find_python: set $python to $PYTHON, the distribution's Python, or any other from 3.11 on.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python_ok "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer"
        python=$PYTHON
        return
    fi
    for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if python_ok "$python"; then return; fi
    done
    return 1
}

# need_python: find a Python, or say how to get one.
need_python() {
    find_python || fail "no Python 3.11 or newer was found" "$(python_hint)"
}

# python_hint: how to install Python on this system (the same as provision/setup/install.py says).
python_hint() {
    path='or set its path: PYTHON=/path/to/python3'
    if [ "$(uname -s)" = Darwin ]; then
        echo "brew install python, or install it from python.org, $path"
        return
    fi
    # shellcheck source=/dev/null
    case " $(. "$os_release" 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}") " in
    *" ubuntu "*) echo "sudo apt-get install python3 python3-venv (Ubuntu 22.04: python3.11 python3.11-venv), $path" ;;
    *" debian "*) echo "sudo apt-get install python3 python3-venv, $path" ;;
    *" fedora "*) echo "sudo dnf install python3, $path" ;;
    *) echo "install Python 3.11 or newer, $path" ;;
    esac
}

# install_python: like need_python; on a Debian without Python, install it first.
install_python() {
    if [ -z "${PYTHON:-}" ] && ! find_python && command -v apt-get >/dev/null; then
        if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo=sudo; fi
        echo "== installing python3-venv"
        mkdir -p .lab
        install="env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300
            -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=1"
        # shellcheck disable=SC2086 # words
        $sudo $install install --no-install-recommends python3-venv >.lab/setup.log 2>&1 </dev/null ||
            { $sudo $install update && $sudo $install install --no-install-recommends python3-venv; } \
                >>.lab/setup.log 2>&1 </dev/null || {
            tail -n 20 .lab/setup.log | sed 's/^/  | /' >&2
            fail "Python could not be installed; see .lab/setup.log" "$(python_hint)"
        }
    fi
    need_python
}

# fail MESSAGE [HINT]: print one error and exit.
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'next: %s\n' "$2" >&2
    exit 1
}
