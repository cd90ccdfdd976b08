# Kills for want of memory: told once, as TaskOOM, before the exit that they cause.
# shellcheck shell=bash disable=SC2119,SC2120

# hungry_container ID OPTION... -- COMMAND: waits for its sign, then COMMAND eats.
hungry_container() {
  local id=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1") && shift; done
  run_container -d --memory-limit 33554432 ${options[@]+"${options[@]}"} "$IMAGE" "$id" \
    sh -c "while [ ! -e /tmp/eat ]; do sleep 0.1; done; $2"
}

let_eat() { touch "/proc/$(task_pid "$1")/root/tmp/eat"; }

# What follows takes more of ctr's options, for the cgroup.

# The init itself is the victim.
oom_of_init() {
  events_start
  hungry_container c1 "$@" -- 'exec tail /dev/zero'
  let_eat c1
  delete_stopped c1 137
  expect_topics c1 create start oom exit delete
  events_stop
}

# A child of init is; init lives on and says with what status it died.
oom_of_child() {
  events_start
  hungry_container c1 "$@" -- 'tail /dev/zero; exit $((1 + $?))'
  let_eat c1
  delete_stopped c1 138
  expect_topics c1 create start oom exit delete
  events_stop
}

# memory.oom.group: one eats, all die. The kernel counts them one by one, so whoever reads
# meanwhile may see it grow twice.
oom_of_group() {
  local cgroup
  events_start
  hungry_container c1 "$@" -- 'tail /dev/zero; exit 5'
  cgroup=$(cgroup_of c1)
  echo 1 >"$cgroup/memory.oom.group"
  let_eat c1
  delete_stopped c1 137
  wait_until 5 grep -q '/tasks/delete.*"c1"' /tmp/events || true
  expect "/tasks/create /tasks/start /tasks/oom /tasks/exit /tasks/delete" "$(event_topics c1 | uniq | xargs)" "events of c1"
  events_stop
}

case_oom() { oom_of_init; }
case_oom_child() { oom_of_child; }
case_oom_group() { oom_of_group; }

case_oom_exec() {
  events_start
  run_container -d --memory-limit 33554432 "$IMAGE" c1 sleep 1000
  expect_exit 137 ctr task exec --exec-id e1 c1 tail /dev/zero
  task_is c1 RUNNING || fail "c1 suffered from its exec"
  remove_container c1
  expect_topics c1 create start exec-added exec-started oom exit exit delete
  events_stop
}
