#!/bin/sh
# enter-linux.sh ROOT FOLDER EMULATOR [NAME=VALUE...] PROGRAM...: run a program of another Linux in FOLDER of this machine.
# To be run in user and mount namespaces of its own (unshare -Ur -m): the kernel's list of emulators is that
# namespace's, so nothing changes outside, and programs there start others as on a machine of that kind.
# EMULATOR runs programs for ARM 64; '-': none, for a Linux on this machine's own processor.
root=$1 folder=$2 emulator=$3
shift 3
if [ "$emulator" != - ]; then
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 125
  echo ":arm64:M::$magic:$mask:$emulator:F" >/proc/sys/fs/binfmt_misc/register || exit 125
fi
mkdir -p "$root/host"
for shared in dev proc sys; do mount --rbind /$shared "$root/$shared" || exit 125; done
mount --rbind / "$root/host" || exit 125
# qemu's best processor spends its time on pointer authentication and on vectors of any length; a common server's
# has neither.
exec chroot "$root" env -i HOME=/root PATH=/usr/bin:/bin LANG=C.UTF-8 QEMU_CPU=neoverse-n1 \
  sh -c 'cd "/host$0" && exec env "$@"' "$folder" "$@"
