#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the ARM boot payload in the directory that is named: vmlinuz and initramfs.cpio.gz.
set -euo pipefail
[ $# = 1 ] || { echo "usage: make.sh OUT" >&2; exit 2; }
source_dir=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

# An apt state of its own: the system's architectures and package lists stay as they are.
state=$out/apt
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$out/packages" "$out/root"
: >"$state/status"
apt=(
    -o APT::Architecture=armhf -o APT::Architectures=armhf -o APT::Sandbox::User=root
    -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o Dir::State::status="$state/status"
)
apt-get "${apt[@]}" -qq update || echo "make.sh: some package lists are missing; going on with the others" >&2
kernel=$(apt-cache "${apt[@]}" depends linux-image-armmp | awk '/Depends:.*linux-image/ { print $2; exit }')
[ -n "$kernel" ] || { echo "make.sh: no armmp kernel among the armhf packages" >&2; exit 1; }
(cd "$out/packages" && apt-get "${apt[@]}" -qq download "$kernel" busybox-static)
for package in "$out"/packages/*.deb; do
    dpkg --extract "$package" "$out/root"
done
cp "$out"/root/boot/vmlinuz-* "$out/vmlinuz"

initrd=$out/initrd
rm -rf "$initrd"
mkdir -p "$initrd"/{bin,dev,proc,sys,tmp}
install -m 755 "$out/root/bin/busybox" "$initrd/bin/busybox"
install -m 755 "$source_dir/init" "$initrd/init"
(cd "$initrd" && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0) | gzip -9n >"$out/initramfs.cpio.gz"
