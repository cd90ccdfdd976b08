# Freezing, killing and namespaces where cgroup v2 has all controllers.
# shellcheck shell=bash

# A frozen container can be killed, and is not left frozen.
case_frozen_kill() {
  start_container c1 sh -c 'sleep 1001 & wait'
  ctr task pause c1
  expect 1 "$(cat "$(cgroup_of c1)/cgroup.freeze")" "cgroup.freeze"
  expect_match '^frozen 1' "$(cat "$(cgroup_of c1)/cgroup.events")" "cgroup.events"
  ctr task kill -s KILL c1
  delete_stopped c1 137
}

# In the host's pid namespace nobody but the shim ends what init leaves behind.
case_host_pids() {
  run_container -d --with-ns pid:/proc/1/ns/pid "$IMAGE" c1 sh -c 'sleep 1001 & sleep 1002 & exec sleep 1003'
  wait_until 10 three_processes "$(cgroup_of c1)" || fail "c1 has not started its processes"
  ctr task kill -s KILL c1
  delete_stopped c1 137
  expect "" "$(list_leftovers | grep 'sleep 100[123]' || true)" "its processes"
}

# three_processes CGROUP: the shell has become the last of them.
three_processes() { [ "$(sed 's,.*,/proc/&/comm,' "$1/cgroup.procs" | xargs cat 2>/dev/null | grep -c '^sleep')" = 3 ]; }

# A user namespace, with a root file system made for it by chown or, where overlayfs can
# have one (5.19), by an id-mapped mount.
case_user_namespace() {
  local pid options kinds=("")
  case $(uname -r) in [1-4].* | 5.?.* | 5.1[0-8].*) ;; *) kinds+=(--remap-labels) ;; esac
  for options in "${kinds[@]}"; do
    # shellcheck disable=SC2086
    run_container -d --uidmap 0:100000:65536 --gidmap 0:100000:65536 $options "$IMAGE" c1 \
      sh -c 'touch /made-inside && exec sleep 1000'
    wait_until 20 task_sleeps c1 || fail "c1 does not get to sleep"
    pid=$(task_pid c1)
    expect 100000 "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")" "uid of init"
    expect_exit 0 ctr task exec --exec-id e1 c1 stat -c '%u %n' /made-inside /bin/busybox
    expect "0 /made-inside 0 /bin/busybox" "$(xargs <<<"$output")" "owners as the container sees them"
    if [ -n "$options" ]; then
      expect_match 'idmapped' "$(grep -E ' - overlay ' "/proc/$pid/mountinfo")" "mount of the root"
    fi
    remove_container c1
  done
}
