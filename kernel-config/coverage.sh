#!/bin/sh
# Packs what reads the counters of the kernel that build.sh has just built in this build root:
# the compiler's notes and the sources of the directories that have counters, and gcov of that compiler
# with its libraries, because a gcov of another version refuses the counters.
set -eu
place=/coverage
mkdir -p "$place/gcov"

echo "== packing gcov, its notes and the sources"
for program in gcov gcov-tool; do
	binary=$(readlink -f "$(command -v "$program")")
	cp "$binary" "$place/gcov/$program"
	ldd "$binary" | sed -n -e 's/.*=> \(\/[^ ]*\) .*/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
done | sort -u | while read -r library; do cp -L "$library" "$place/gcov"; done

cd /build
find fs -name '*.gcno' | sort >/notes
[ "$(wc -l </notes)" -gt 50 ] || { echo "the compiler wrote notes of $(wc -l </notes) files only"; exit 1; }
sed 's#/[^/]*$##' /notes | sort -u | while read -r directory; do
	find "$directory" -maxdepth 1 -name '*.[ch]' | sort
done >/sources
tar -cf - -T /notes -T /sources | tar -C "$place" -xf -
# As it is started outside of this build root.
version=$("$place/gcov/ld-linux-x86-64.so.2" --library-path "$place/gcov" "$place/gcov/gcov" --version)
echo "gcov=$(echo "$version" | head -n 1)" >>/out/versions
tar -C "$place" --sort=name --owner=0 --group=0 -cf /out/coverage.tar .
