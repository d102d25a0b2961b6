# A small mixed workload on $MNT: names, data, attributes, links, reads. To be sourced.
# Every command must succeed. The files stay on $MNT.
mixed() {
  local round
  for round in $(seq "$1"); do
    mkdir "$MNT/d$round"
    touch "$MNT/d$round"/f{1..40}
    head -c 300000 <(yes "$round") >"$MNT/d$round/data"
    cp --reflink=always "$MNT/d$round/data" "$MNT/d$round/clone"
    head -c 100000 /dev/zero | dd of="$MNT/d$round/clone" bs=4k seek=3 conv=notrunc status=none
    truncate -s 123456 "$MNT/d$round/data"
    fallocate -l 1M "$MNT/d$round/space"
    fallocate -p -o 4096 -l 65536 "$MNT/d$round/clone"
    fallocate -i -o 8192 -l 8192 "$MNT/d$round/clone"
    fallocate -c -o 8192 -l 8192 "$MNT/d$round/clone"
    setfattr -n user.round -v "$round" "$MNT/d$round/data"
    mv "$MNT/d$round/f1" "$MNT/d$round/moved"
    rm "$MNT/d$round"/f2*
    sync -f "$MNT"
    echo 1 >/proc/sys/vm/drop_caches
    cmp -n 123456 "$MNT/d$round/data" <(yes "$round")
  done
}
