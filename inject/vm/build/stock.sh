#!/bin/sh
# Makes of a Debian kernel what a guest boots; runs inside the tree where inject/vm/build/stock.py has
# extracted the kernel's image and headers, this directory's initramfs.c at /kit, and a compiler.
# Lines "== ..." tell the host how far it is. Usage: stock.sh RELEASE
set -eu
release=$1
out=/out
modules=/usr/lib/modules/$release
tree=/headers/$release
mkdir -p "$out" "$tree"

# Maintainer scripts did not run, so there are no alternatives. Kbuild calls awk.
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk

echo "== unpacking the modules"
# What a disk or a filesystem can need; not the drivers of other hardware.
cd "$modules/kernel"
for part in arch block crypto fs lib mm net/9p net/ceph net/dns_resolver net/sunrpc \
	drivers/block drivers/char drivers/crypto drivers/dax drivers/md drivers/mtd drivers/nvdimm \
	drivers/nvme drivers/scsi drivers/target drivers/virtio; do
	[ ! -d "$part" ] || find "$part" -name '*.ko*'
done | grep -v '^drivers/scsi/.*/' >/kept
mkdir -p "$tree/kernel"
tar -cf - -T /kept | tar -C "$tree/kernel" -xf -
cd "$tree"
# Decompressed here, once, not by each guest.
find kernel -name '*.ko.xz' -print0 | xargs -0 -r -n 16 -P "$(nproc)" xz -d
cp "$modules"/modules.order "$modules"/modules.builtin "$modules"/modules.builtin.modinfo .
sed -i 's/\.ko\.xz$/.ko/' modules.order
rm -rf "$modules/kernel"
mkdir -p /depmod/lib/modules
ln -s "$tree" "/depmod/lib/modules/$release"
depmod -b /depmod "$release"

echo "== making the initramfs"
first=/initramfs
mkdir -p "$first/dev" "$first/root" "$first/lib"
gcc -Os -Wall -static -o "$first/init" /kit/initramfs.c
for module in virtio_pci virtio_blk virtio_console virtio-rng crc32c_generic crc32c-intel ext4; do
	modprobe -d /depmod -S "$release" --show-depends "$module" 2>/dev/null || true
done | sed -n 's/^insmod \([^ ]*\) *$/\1/p' | mawk '!seen[$0]++' >/loaded
: >"$first/modules"
while read -r module; do
	cp "$module" "$first/lib"
	echo "/lib/${module##*/}" >>"$first/modules"
done </loaded
(cd "$first" && find . | cpio -o -H newc --quiet -R 0:0) >"$out/initramfs"

echo "== packing the headers"
# From 7.x on they lie with the modules.
if [ -e "/boot/vmlinuz-$release" ]; then
	cp "/boot/vmlinuz-$release" "$out/bzImage"
	cp "/boot/config-$release" "$out/config"
else
	cp "$modules/vmlinuz" "$out/bzImage"
	cp "$modules/config" "$out/config"
fi
# build, source and kbuild are what Debian has in /usr/src and /usr/lib, below one directory.
headers=/usr/src/linux-headers-$release
common=$(readlink -f "$modules/source")
kbuild=$(readlink -f "$headers/scripts")
kbuild=${kbuild%/scripts}
mkdir "$tree/build" "$tree/source"
cp -a "$kbuild" "$tree/kbuild"
tar -C "$headers" -cf - --exclude=./scripts --exclude=./tools . | tar -C "$tree/build" -xf -
tar -C "$common" -cf - ./Makefile ./include ./arch/x86 | tar -C "$tree/source" -xf -
for place in build source; do
	ln -s ../kbuild/scripts ../kbuild/tools "$tree/$place"
done
sed -i "s#$common#/lib/modules/$release/source#" "$tree/build/Makefile"
[ -e "$tree/build/.config" ] || cp "$out/config" "$tree/build/.config"
size=$(du -sm --apparent-size /headers | cut -f 1)
mke2fs -q -t ext4 -b 1024 -i 4096 -O ^has_journal -m 0 -L inject-headers -d /headers \
	"$out/headers.ext4" "$((size * 5 / 4 + 32))M"

echo "== packing the compiler"
{
	echo "release=$release"
	echo "gcc=$(gcc --version | head -n 1)"
	echo "pahole=$(pahole --version)"
} >"$out/versions"
tar -C / -cf "$out/toolchain.tar" \
	--exclude='./usr/share/*' --exclude='*/lto1' --exclude='*lto-dump*' --exclude='*gcov*' --exclude='*.a' \
	--exclude='./usr/lib/*/lib?san.so*' --exclude='./usr/lib/*/libhwasan.so*' --exclude='./usr/lib/*/gconv/*' \
	--exclude='./usr/src/*/arch/[a-wy-z]*' \
	./bin ./lib ./lib64 ./usr
