#!/bin/sh
# Freeze the running machines of a lab, copy all machines to a folder, and thaw them again.
# Thaws also when a copy fails or this script is interrupted.
#
# Usage: copy-frozen.sh LXCPATH HOST_KEYS TARGET LARGE "RUNNING..." MACHINE...
# Prints how many milliseconds the machines stood still. TARGET/MACHINE/listing is what was to be
# copied: the caller compares it with the copy.
#
# Files larger than LARGE (a size for find) are copied before, and while the machines are frozen again
# only if they have changed. With LARGE=0, everything is copied while they are frozen.
set -u
lxcpath=$1 host_keys=$2 target=$3 large=$4 running=$5
shift 5

now() { date +%s%3N; }

all() { # COMMAND WORD...: run a command for each word in parallel; fail when one fails
    command=$1 pids= result=0
    shift
    for word in "$@"; do
        "$command" "$word" &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || result=1; done
    return "$result"
}

freeze() { lxc-freeze -P "$lxcpath" -n "$1"; }
thaw() { lxc-unfreeze -P "$lxcpath" -n "$1"; }

copy_large() {
    mkdir "$target/$1/delta" && cd "$lxcpath/$1/delta" || return 1
    [ "$large" = 0 ] && return
    # A file that vanishes meanwhile is an error here: then everything is copied later.
    if ! find . -type f -size "+$large" -print0 |
        xargs -0 -r cp -a --parents -t "$target/$1/delta" -- 2>/dev/null; then
        rm -rf "$target/$1/delta" && mkdir "$target/$1/delta"
        touch "$target/$1/all"
    fi
}

copy() {
    cp -a -- "$lxcpath/$1/config" "$target/$1/config" &&
        cp -a -- "$host_keys/$1.pub" "$target/$1/host-key.pub" &&
        cd "$lxcpath/$1/delta" || return 1
    if [ "$large" = 0 ] || [ -e "$target/$1/all" ]; then
        # -a preserves what overlayfs stores in an upper layer: whiteout devices and attributes.
        cp -a --reflink=auto -T -- . "$target/$1/delta"
    else
        (cd "$target/$1/delta" && find . -type f) | while IFS= read -r file; do
            [ -f "./$file" ] || rm -f -- "$target/$1/delta/$file" # removed or renamed since
        done
        find . '(' -type f -size "+$large" ! -cnewer "$target/stamp" ')' -o ! -type s -print0 |
            tar -c --format=posix --acls --xattrs --xattrs-include='*' --numeric-owner \
                --no-recursion --null -T - |
            tar -x -p --acls --xattrs --xattrs-include='*' --numeric-owner -C "$target/$1/delta"
    fi
}

listing() {
    cd "$lxcpath/$1/delta" &&
        find . -mindepth 1 \
            '(' -type d -printf '%y %m %U %G %T@ %P\0' ')' -o \
            '(' ! -type s -printf '%y %m %U %G %s %T@ %P %l\0' ')' >"$target/$1/listing"
}

# A script whose controller was killed may still be copying, and would thaw the machines.
exec 9>"$lxcpath/.copy-lock"
flock 9
touch "$target/stamp"
sleep 0.02 # longer than the granularity of a file's times
all copy_large "$@" || exit 1
trap 'all thaw $running' EXIT
trap 'exit 130' HUP INT TERM
# Ctrl-Z stops the controller, and a killed one reads no message: no reason for machines to stand still.
trap '' TSTP PIPE
started=$(now)
all freeze $running || exit 1
all copy "$@" || exit 1
all listing "$@" || exit 1
trap - EXIT
all thaw $running
echo $(($(now) - started))
