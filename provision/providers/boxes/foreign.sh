# shellcheck shell=sh disable=SC2154
# Sourced by build-disk.sh: run programs of another processor architecture with QEMU.

# run_foreign_programs ARCHITECTURE: until this script ends, the kernel runs programs for it with QEMU (Linux'
# documentation, admin-guide/binfmt-misc). Nothing is changed where the host runs them already.
run_foreign_programs() {
    [ "$1" != "$(dpkg --print-architecture)" ] || return 0
    formats=/proc/sys/fs/binfmt_misc
    [ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
    for format in $formats/qemu-aarch64; do
        # F: the interpreter is found also in another root directory.
        if grep -q '^enabled' "$format" 2>/dev/null && grep -q '^flags:.*F' "$format"; then return 0; fi
    done
    interpreter=$(command -v qemu-aarch64-static)
    # One for each target, which is locked; a build that was killed may have left it.
    registered=foobar-lab-$(basename "$target")
    [ ! -e "$formats/$registered" ] || echo -1 >"$formats/$registered"
    # The beginning of an ELF file (elf(5)): 64 bit, little endian, EXEC or DYN, EM_AARCH64; the mask ignores
    # the ABI's version and the low bit of the type.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    trap 'echo -1 >$formats/$registered' EXIT
    trap 'exit 130' HUP INT TERM
    printf '%s' ":$registered:M::$magic:$mask:$interpreter:F" >$formats/register
}
