# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by build-disk.sh: BIOS and GRUB on amd64. dd installs GRUB.
boot_modules=ata_piix
boot_console=ttyS0

# write_disk: partition $disk, and fill it from $root.
write_disk() {
    echo '2048,,L,*' | sfdisk --quiet --label dos "$disk"
    # GRUB 2.06 cannot read a file system with metadata_csum_seed.
    mke2fs -q -F -t ext4 -L lab-root -m 1 -d "$root" -E offset=1048576 -O '^metadata_csum_seed' \
        "$disk" $(((size - 1) * 1024))k
    grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$new/boot.core" \
        biosdisk part_msdos ext2 normal linux
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$new/boot.core" of="$disk" bs=512 seek=1 conv=notrunc status=none
}
