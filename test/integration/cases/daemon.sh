# What survives the death of containerd, and what follows the death of a shim.
# shellcheck shell=bash

case_restart() {
  start_container c1 sh -c 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 7'
  start_container c2 sh -c 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 8'
  start_container c3
  local pid init
  pid=$(task_pid c1)
  init=$(task_pid c2)
  daemon_kill
  # c2 ends while nobody is there to be told.
  touch "/proc/$init/root/tmp/end"
  wait_until 10 process_is_gone "$init" || fail "c2 does not end"
  daemon_start
  expect "RUNNING $pid" "$(task_status c1) $(task_pid c1)" "c1 after the restart"
  # Containerd from 1.7 on deletes a task that it finds without processes; Go's shim
  # then has none to name, and its exit status is lost.
  if is_reference && [[ $VERSION != 1.6.* ]]; then
    expect "" "$(task_status c2)" "status of c2 after the restart"
    ctr container rm c2
    forget_fifos
  else
    delete_stopped c2 8
  fi
  expect_exit 0 ctr task exec --exec-id e1 c1 sh -c "echo alive; $LINGER"
  expect alive "$output" "exec after the restart"
  expect_exit 0 ctr task exec --exec-id e2 c1 touch /tmp/end
  delete_stopped c1 7
  remove_container c3
}

process_is_gone() { case $(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) in '' | Z) ;; *) return 1 ;; esac }

# A killed shim's socket could be removed by `delete`, for the bundle has its name.
# Go's delete does not; wisp's has to.

# A shim that is killed takes its container along, and containerd says so.
case_shim_killed() {
  local init
  reference_leaves=$STATE/s/
  events_start
  start_container c1
  init=$(task_pid c1)
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  wait_until 20 grep -q '/tasks/delete.*"c1"' /tmp/events || fail "no event of the delete: $(cat /tmp/events)"
  events_stop
  expect_match '/tasks/exit.*"exit_status":137' "$(grep c1 /tmp/events)" "exit status that containerd reports"
  wait_until 10 process_is_gone "$init" || fail "c1 lives on without its shim"
  expect "" "$(task_status c1)" "status of c1"
  ctr container rm c1
  forget_fifos
}

# An exit that was on disk before the shim died is what its cleanup reports. That is
# 2.4's contract; Go's older shims know only 137.
case_shim_killed_after_exit() {
  reference_leaves=$STATE/s/
  events_start
  start_container c1 sh -c 'exit 42'
  wait_until 10 task_is c1 STOPPED || fail "c1 does not end"
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  wait_until 20 grep -q '/tasks/delete.*"c1"' /tmp/events || fail "no event of the delete: $(cat /tmp/events)"
  events_stop
  ctr container rm c1
  forget_fifos
  if is_reference && [[ $VERSION != 2.4.* ]]; then return 0; fi
  expect_match '/tasks/delete.*"exit_status":42' "$(grep c1 /tmp/events)" "exit status that the cleanup reports"
}

# A shim that dies while containerd is down is found and cleaned up by the next.
case_shim_killed_under_a_dead_daemon() {
  local init
  reference_leaves=$STATE/s/
  start_container c1
  init=$(task_pid c1)
  daemon_kill
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  daemon_start
  wait_until 10 process_is_gone "$init" || fail "c1 lives on without its shim"
  expect "" "$(task_status c1)" "status of c1"
  ctr container rm c1
  forget_fifos
}

# pod_of_three: two that live and one that has ended with 42, in one shim.
pod_of_three() {
  if ! ctr run --help | grep -q -- --annotation; then pod_container() { pod_container_of_config "$@"; }; fi
  pod_container c1 pod sleep 1000
  pod_container c2 pod sleep 1000
  pod_container c3 pod sh -c 'exit 42'
  expect 1 "$(shim_pids | wc -l)" "number of shims"
  wait_until 10 task_is c3 STOPPED || fail "c3 does not end"
}

# expect_no_pod INIT...: what its shim had is gone, all of it.
expect_no_pod() {
  local init
  for init; do wait_until 10 process_is_gone "$init" || fail "process $init of the pod lives on"; done
  wait_until 10 no_rootfs_mounted || fail "mounts are left: $(grep "$STATE/" /proc/self/mountinfo)"
  expect "" "$(ctr task ls -q)" "tasks"
}

no_rootfs_mounted() { ! grep -q " $STATE/io.containerd.runtime.v2.task/" /proc/self/mountinfo; }

# A shim that is killed takes its whole pod along, and each has its own status.
case_pod_shim_killed() {
  local inits id
  reference_leaves=$STATE/s/
  events_start
  pod_of_three
  inits="$(task_pid c1) $(task_pid c2)"
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  for id in c1 c2 c3; do
    wait_until 20 grep -q "/tasks/delete.*\"$id\"" /tmp/events || fail "no event of the delete of $id: $(cat /tmp/events)"
  done
  events_stop
  # shellcheck disable=SC2086
  expect_no_pod $inits
  for id in c1 c2; do
    expect_match '"exit_status":137' "$(grep "/tasks/delete.*\"$id\"" /tmp/events)" "exit status of $id"
  done
  is_reference && [[ $VERSION != 2.4.* ]] ||
    expect_match '"exit_status":42' "$(grep '/tasks/delete.*"c3"' /tmp/events)" "exit status of c3"
  for id in c1 c2 c3; do ctr container rm "$id"; done
  forget_fifos
}

# The same while containerd is down; the next one finds nothing but containers.
case_pod_shim_killed_under_a_dead_daemon() {
  local inits id
  reference_leaves=$STATE/s/
  pod_of_three
  inits="$(task_pid c1) $(task_pid c2)"
  daemon_kill
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  daemon_start
  # shellcheck disable=SC2086
  expect_no_pod $inits
  # The pod starts again, and has each of its containers once.
  for id in c1 c2 c3; do ctr container rm "$id"; done
  pod_container c1 pod sleep 1000
  expect 1 "$(shim_pids | wc -l)" "number of shims of the new pod"
  remove_container c1
  forget_fifos
}
