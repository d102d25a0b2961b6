# The first device alone is the filesystem, the second one is blank: to be added. Sourced.
umount "$MNT"
wipefs -qa "$DEV1" "$DEV2"
dd if=/dev/zero of="$DEV2" bs=1M count=4 status=none
for _ in 1 2 3; do # the program itself crashes now and then (bcachefs-tools 1.13)
  dd if=/dev/zero of="$DEV1" bs=1M count=4 status=none
  bcachefs format --force "$DEV1" >/dev/null && break
done
mount -i -t bcachefs "$DEV1" "$MNT"
