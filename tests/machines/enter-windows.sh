#!/bin/sh
# enter-windows.sh ROOT FOLDER [NAME=VALUE...] PROGRAM...: run a Windows program in FOLDER of this machine.
# To be run in a mount namespace of its own (unshare -m), so that nothing stays mounted under ROOT.
root=$1 folder=$2
shift 2
mkdir -p "$root/host"
mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" || exit 125
mount --rbind / "$root/host" || exit 125
# /sys, or Wine cannot say how many processors there are; amx.so asks Linux for AMX, which Wine does not.
preload=
[ -e "$root/usr/local/lib/amx.so" ] && preload=/usr/local/lib/amx.so
exec chroot "$root" env -i HOME=/root WINEPREFIX=/root/prefix WINEDEBUG=-all PATH=/usr/bin:/bin LANG=C.UTF-8 \
  XDG_RUNTIME_DIR=/tmp LD_PRELOAD=$preload sh -c 'cd "/host$0" && exec env "$@"' "$folder" "$@"
