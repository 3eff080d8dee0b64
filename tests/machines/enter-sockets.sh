#!/bin/sh
# enter-sockets.sh KERNEL DISK FOLDER [NAME=VALUE...] PROGRAM...: run a program in FOLDER on a computer of two sockets.
kernel=$1 disk=$2 folder=$3
shift 3
rm -f "$folder/code"
{
  printf 'cd "%s" && exec env PATH=/usr/bin:/bin HOME=/tmp' "$folder"
  for word in "$@"; do printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"; done
  echo ' >output 2>&1'
} >"$folder/command"
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 3G -smp 2,sockets=2,cores=1,threads=1 \
  -object memory-backend-ram,size=1536M,id=near -object memory-backend-ram,size=1536M,id=far \
  -numa node,memdev=near,cpus=0 -numa node,memdev=far,cpus=1 \
  -virtfs local,path=/,mount_tag=root,security_model=none,multidevs=remap \
  -kernel "$kernel" -initrd "$disk" -append "console=ttyS0 quiet panic=-1 folder=$folder" \
  -display none -serial file:"$folder/console.log" -no-reboot -nic none >&2
exit "$(cat "$folder/code" 2>/dev/null || echo 125)"
