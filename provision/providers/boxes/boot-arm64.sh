# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by build-disk.sh: UEFI and GRUB on arm64. The EFI system partition has GRUB as the default boot
# loader of removable disks (UEFI specification, 3.5.1.1), because firmware variables are not in a box.
boot_modules=nvme
boot_console=ttyAMA0
esp_start=2048 esp_sectors=131072 # 64 MiB; FAT32 needs 65525 clusters

# write_disk: partition $disk, and fill it from $root.
write_disk() {
    printf 'start=%s, size=%s, type=U\ntype=L\n' $esp_start $esp_sectors |
        sfdisk --quiet --label gpt "$disk"
    esp=$new/boot.esp
    truncate -s $((esp_sectors * 512)) "$esp"
    mkfs.vfat -F 32 -s 1 -n EFI "$esp" >/dev/null
    mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
    # Debian's own GRUB, which reads its configuration from /EFI/debian.
    mcopy -i "$esp" "$root/usr/lib/grub/arm64-efi/monolithic/grubaa64.efi" ::/EFI/BOOT/BOOTAA64.EFI
    printf 'search --label lab-root --set root\nconfigfile ($root)/boot/grub/grub.cfg\n' >"$new/boot.cfg"
    mcopy -i "$esp" "$new/boot.cfg" ::/EFI/debian/grub.cfg
    dd if="$esp" of="$disk" bs=1M seek=1 conv=notrunc status=none
    start=$((esp_start + esp_sectors))
    # The last MiB has the second partition table.
    mke2fs -q -F -t ext4 -L lab-root -m 1 -d "$root" -E offset=$((start * 512)) \
        -O '^metadata_csum_seed' "$disk" $(((size - 1) * 1024 - start / 2))k
}
