#!/bin/sh
# enter-limits.sh NAME FILE=VALUE... -- PROGRAM...: run a program in control groups of its own, NAME below FILE's folder.
name=$1
shift
groups=
while [ "$1" != -- ]; do
  file=${1%%=*}
  group=$(dirname "$file")/$name
  mkdir -p "$group" && echo "${1#*=}" >"$group/$(basename "$file")" || exit 125
  groups="$groups $group"
  shift
done
shift
# In a shell of its own, so that the groups are empty when it has ended, and can be removed.
(
  for group in $groups; do sh -c 'echo $PPID' >"$group/cgroup.procs" || exit 125; done
  exec "$@"
)
code=$?
for group in $groups; do rmdir "$group" 2>/dev/null; done
exit $code
