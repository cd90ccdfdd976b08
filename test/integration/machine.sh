# A machine of its own for one containerd: namespaces over a Debian root. Sourced
# by bash after common.sh and versions.sh.
# shellcheck shell=bash

# machine VERSION RUNTIME SHIM OUT COMMAND...
#
# Runs COMMAND as the first process of new mount, pid, net, uts, ipc and cgroup
# namespaces, in cgroups of its own, with the root of containerd VERSION as /. It sees
#   /run, /tmp   empty tmpfs; all that containerd and the shims write goes there,
#                for the root itself is read-only
#   /run/bin     first in PATH: SHIM (unless it is "-") under the name that
#                containerd derives from RUNTIME
#   /mnt         the folder test/ of the source tree
#   /srv         OUT, a directory, the one place where anything can be left
# and RUNTIME and VERSION in the environment. When COMMAND ends, or this shell is
# killed, the kernel kills what it started, and the mounts go with the namespace.
# With WISP_TEST_CGROUP=2 only the cgroup v2 hierarchy is there.
machine() {
  local version=$1 runtime=$2 shim=$3 out=$4 cgroup=wisp-test-$BASHPID work rc=0
  shift 4
  mkdir -p "$out"
  work=$(mktemp -d)
  mkdir "$work/root" "$work/bin"
  [ "$shim" = - ] || install -m 755 "$shim" "$work/bin/$(shim_name "$runtime")"
  remove_stale_cgroups
  (
    join_cgroups "$cgroup"
    # shellcheck disable=SC2016
    exec setpriv --pdeathsig KILL unshare --cgroup /bin/bash -c '
        [ ! -d "$1" ] || echo 0 >"$1/cgroup.procs"
        shift
        exec unshare "$@"' machine "$(outer_cgroup "$cgroup")" \
      --mount --pid --net --uts --ipc --fork --kill-child=KILL --propagation private \
      /bin/bash "$WISP_SOURCE/test/integration/machine_init" \
      "$(root_of "$version")" "$(binaries_of "$version")" "$work" "$WISP_SOURCE/test" "$out" \
      /usr/bin/env VERSION="$version" RUNTIME="$runtime" WISP_TEST_CGROUP="${WISP_TEST_CGROUP:-}" "$@"
  ) &
  machine_pid=$!
  # shellcheck disable=SC2064
  trap "kill -KILL $machine_pid; wait; remove_cgroups $cgroup; rm -rf --one-file-system $work; exit 130" INT TERM HUP
  wait "$machine_pid" || rc=$?
  trap - INT TERM HUP
  remove_cgroups "$cgroup"
  rm -rf --one-file-system "$work"
  return "$rc"
}

# shim_name RUNTIME: io.containerd.wisp.v2 is run by containerd-shim-wisp-v2.
shim_name() {
  local name=${1%.*}
  echo "containerd-shim-${name##*.}-${1##*.}"
}

# cgroup_mounts: a line TYPE DIRECTORY for each hierarchy of this machine.
cgroup_mounts() {
  awk '{ for (i = 7; $i != "-"; i++); if ($(i+1) ~ /^cgroup2?$/) print $(i+1), $5 }' /proc/self/mountinfo
}

# outer_cgroup NAME: where the process goes that waits for the machine to end. In
# cgroup v2 only leaves have processes, and the machine's root is to have children.
outer_cgroup() { echo "$(cgroup_mounts | awk '$1 == "cgroup2" { print $2 }' | head -n 1)/$1/outer"; }

join_cgroups() {
  local type dir file controller
  while read -r type dir; do
    mkdir -p "$dir/$1"
    if [ "$type" = cgroup2 ]; then
      mkdir "$dir/$1/outer"
      # As runc does for a container at this place.
      for controller in $(cat "$dir/cgroup.controllers"); do
        { echo "+$controller" >"$dir/cgroup.subtree_control"; } 2>/dev/null || true
      done
    else
      for file in cpuset.cpus cpuset.mems; do
        [ ! -e "$dir/$1/$file" ] || cat "$dir/$file" >"$dir/$1/$file"
      done
    fi
    echo "$BASHPID" >"$dir/$1/cgroup.procs"
  done < <(cgroup_mounts)
}

# remove_cgroups NAME: with all below; waits a little for dying processes.
remove_cgroups() {
  local type dir left
  for _ in {1..50}; do
    left=
    while read -r type dir; do
      [ -d "$dir/$1" ] || continue
      find "$dir/$1" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done < <(cgroup_mounts)
    [ -n "$left" ] || return 0
    sleep 0.1
  done
  say "could not remove all cgroups named $1"
}

# remove_stale_cgroups: of machines whose owner was killed outright.
remove_stale_cgroups() {
  local type dir cgroup
  while read -r type dir; do
    for cgroup in "$dir"/wisp-test-[0-9]*; do
      [ -d "$cgroup" ] || continue
      [ -e "/proc/${cgroup##*-}" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
  done < <(cgroup_mounts)
}
