# Make a filesystem on the first device only, and leave the second blank. To be sourced.
umount "$MNT"
wipefs -qa "$DEV1" "$DEV2"
dd if=/dev/zero of="$DEV2" bs=1M count=4 status=none
for _ in 1 2 3; do # bcachefs format 1.13 sometimes crashes
  dd if=/dev/zero of="$DEV1" bs=1M count=4 status=none
  bcachefs format --force "$DEV1" >/dev/null && break
done
mount -i -t bcachefs "$DEV1" "$MNT"
