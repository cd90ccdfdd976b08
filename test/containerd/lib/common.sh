# What setup, images, run and run_cri share. Sourced by bash after $ITEST_LIB is set.
# shellcheck shell=bash
. "$ITEST_LIB/../../integration/common.sh"
. "$ITEST_LIB/../../integration/versions.sh"
WORK=$WISP_CACHE/containerd-suite

# gopkg_of VERSION: containerd's import path.
gopkg_of() {
  case $1 in
    2.*) echo github.com/containerd/containerd/v2 ;;
    *) echo github.com/containerd/containerd ;;
  esac
}

# has_cri VERSION: its CRI tests compile. Bookworm has no package of k8s.io/cri-api.
has_cri() { [ "$1" != 1.6.20 ]; }

# in_root ROOT COMMAND...
#
# Runs COMMAND with ROOT as its root, with this machine's network and /dev;
# $ITEST_GO, if set, is /itest/go there.  The mounts go with the mount namespace.
in_root() {
  cp /etc/resolv.conf "$1/etc/resolv.conf"
  unshare --mount --propagation private /bin/bash -eu -c '
    root=$1; shift
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    if [ -n "${ITEST_GO:-}" ]; then
      mkdir -p "$ITEST_GO" "$root/itest/go"
      mount --bind "$ITEST_GO" "$root/itest/go"
    fi
    export HOME=/root LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
    exec chroot "$root" "$@"
    ' in_root "$@" 7>&- 9>&-
}

# ns_run ROOT RUNDIR COMMAND...
#
# Runs COMMAND with ROOT as its root, in mount, pid, net, uts, ipc and cgroup
# namespaces of its own, under cgroups of its own.  When it ends (or this
# script does) the kernel kills everything in the pid namespace, and the
# mounts go with the mount namespace; the cgroups are then removed.
# The network has only lo, so nothing outside can be reached.
#   RUNDIR/lib    -> /var/lib/containerd-test and /var/lib/containerd
#   RUNDIR/tmp    -> /tmp
#   RUNDIR/shim   -> /itest/shim (first in PATH), RUNDIR/shimlib -> /itest/shimlib
#   RUNDIR/out    -> /itest/out
ns_run() {
  local root=$1 rundir=$2 id rc=0
  shift 2
  id=itest-$$-$RANDOM
  cg_stale
  mkdir -p "$rundir"/{lib,lib2,tmp,shim,shimlib,out}
  (
    cg_join "$id"
    # shellcheck disable=SC2016
    exec setpriv --pdeathsig KILL unshare --cgroup /bin/bash -c '
        [ ! -d "$1" ] || echo 0 >"$1/cgroup.procs"
        shift
        exec unshare "$@"' ns_run "/sys/fs/cgroup/$id/outer" \
      --mount --pid --net --uts --ipc --fork --kill-child=KILL --propagation private \
      /bin/bash "$ITEST_LIB/inside" "$root" "$rundir" "$@"
  ) &
  ns_pid=$!
  trap 'ns_stop; cg_remove "$id"; exit 130' INT TERM HUP
  wait "$ns_pid" || rc=$?
  trap - INT TERM HUP
  ns_pid=
  cg_remove "$id"
  return $rc
}

ns_stop() {
  [ -z "${ns_pid:-}" ] || kill -KILL "$ns_pid" 2>/dev/null || true
  wait 2>/dev/null || true
}

# the mount points of this machine's cgroup hierarchies: TYPE DIR OPTIONS
cg_mounts() {
  awk '{ for (i = 7; $i != "-"; i++); if ($(i+1) ~ /^cgroup2?$/) print $(i+1), $5, $(i+3) }' /proc/self/mountinfo
}

# cgroups of runs that were killed outright: those whose owner is gone and that
# are empty (rmdir removes no others)
cg_stale() {
  local t d o c p
  while read -r t d o; do
    for c in "$d"/itest-[0-9]*-[0-9]*; do
      [ -d "$c" ] || continue
      p=${c##*/itest-}; p=${p%%-*}
      [ -e "/proc/$p" ] || find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
  done < <(cg_mounts)
}

# cg_join ID: with all the weight that a cgroup can have, for many tests count seconds
# and the machine may have other things to do.
cg_join() {
  local t d o f
  while read -r t d o; do
    mkdir -p "$d/$1"
    if [ "$d" = /sys/fs/cgroup ]; then
      # Cgroup v2 alone: what waits for the tests is in a leaf, or they get no controllers.
      mkdir "$d/$1/outer"
      for f in $(cat "$d/cgroup.controllers"); do echo "+$f" >"$d/cgroup.subtree_control" || true; done
    fi
    [ ! -e "$d/$1/cpu.shares" ] || echo 262144 >"$d/$1/cpu.shares"
    [ ! -e "$d/$1/cpu.weight" ] || echo 10000 >"$d/$1/cpu.weight"
    if [ "$t" = cgroup ]; then
      for f in cpuset.cpus cpuset.mems; do
        [ ! -e "$d/$1/$f" ] || cat "$d/$f" >"$d/$1/$f"
      done
    fi
    echo "$BASHPID" >"$d/$1/cgroup.procs"
  done < <(cg_mounts)
}

cg_remove() {
  local t d o i
  for i in 1 2 3 4 5 6 7 8 9 10; do
    while read -r t d o; do
      [ ! -d "$d/$1" ] || find "$d/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done < <(cg_mounts)
    [ -n "$(cg_mounts | while read -r t d o; do [ ! -d "$d/$1" ] || echo y; done)" ] || return 0
    sleep 0.3
  done
  say "could not remove all cgroups named $1"
}
