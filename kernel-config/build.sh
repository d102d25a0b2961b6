#!/bin/sh
# Builds the kernel; runs inside the build root, where inject/vm/build/kernel.py put
# this directory's patches, fragments and itself into /kit.
# Lines "== ..." tell the host how far it is. Usage: build.sh JOBS
set -eu
jobs=$1
out=/out
mkdir -p /build "$out"

version=$(dpkg-query -W -f '${Version}' linux-source-6.12)
{
	echo "source=linux-source-6.12 $version"
	echo "gcc=$(gcc --version | head -n 1)"
	echo "pahole=$(pahole --version)"
} >"$out/versions"

echo "== unpacking the source"
tar -C /build --strip-components=1 -xf /usr/src/linux-source-6.12.tar.xz
rm /usr/src/linux-source-6.12.tar.xz
cd /build

echo "== applying patches"
for patch in /kit/patches/*.patch; do
	# A patch that is in the source already counts as one that does not apply.
	if ! patch -p1 --forward --no-backup-if-mismatch <"$patch"; then
		echo "kernel-config/patches/${patch##*/} does not apply to linux-source-6.12 $version"
		exit 1
	fi
done

echo "== configuring"
# Nothing in the kernel may depend on when, where and by whom it was built.
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970'
export KBUILD_BUILD_USER=inject KBUILD_BUILD_HOST=inject KBUILD_BUILD_VERSION=1
# merge_config.sh takes the name of an option in a comment for its value.
for fragment in /kit/fragments/*.fragment; do
	sed -n -e '/^CONFIG_/p' -e '/^# CONFIG_[A-Za-z0-9_]* is not set$/p' "$fragment" >"${fragment%.fragment}.config"
done
scripts/kconfig/merge_config.sh -s -n /kit/fragments/*.config
make -s olddefconfig
python3 /kit/kconfig.py .config /kit/fragments/*.fragment

echo "== compiling"
make -j"$jobs" bzImage modules
make -s M=/kit/module modules

echo "== listing inlined functions"
# "callee<TAB>caller caller ...", one line for each function with a copy inside others.
gcc -O2 -Wall -o /inlined /kit/inlined.c -ldw
/inlined vmlinux | LC_ALL=C sort -u | awk '
	$1 != last { if (NR > 1) print ""; printf "%s\t%s", $1, $2; last = $1; next }
	{ printf " %s", $2 }
	END { print "" }
' >/inlined.txt
[ "$(wc -l </inlined.txt)" -gt 100 ] || { echo "no inlined functions found in vmlinux"; exit 1; }

echo "== packing"
release=$(cat include/config/kernel.release)
echo "release=$release" >>"$out/versions"
cp arch/x86/boot/bzImage vmlinux System.map "$out"
cp .config "$out/config"
# What bcc and modules compile against, as the guest mounts it at /lib/modules.
tree=/headers/$release/build
mkdir -p "$tree"
find include arch/x86/include ! -type d ! -name '*.cmd' | tar -cf - -T - | tar -C "$tree" -xf -
# And what `make M=` needs for a module: scripts, objtool, symbols, and a vmlinux with BTF alone.
make -s run-command KBUILD_RUN_COMMAND="scripts/package/install-extmod-build $tree"
mkdir -p "$tree/tools/bpf/resolve_btfids"
cp tools/bpf/resolve_btfids/resolve_btfids "$tree/tools/bpf/resolve_btfids"
objcopy --only-section=.BTF vmlinux "$tree/vmlinux"
cp .config Makefile Module.symvers "$tree"
mv /inlined.txt "/headers/$release/inlined"
find . /kit/module -name '*.ko' | while read -r module; do cp "$module" "/headers/$release"; done
mke2fs -q -t ext4 -O ^has_journal -m 0 -L inject-headers -d /headers "$out/headers.ext4" 288M
