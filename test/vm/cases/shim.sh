# Where the shim itself is, and how it stands before the OOM killer.
# shellcheck shell=bash

# ShimCgroup is a cgroup that is there already; one that is not fails the start.
case_shim_cgroup() {
  ! is_reference || return 77
  local cgroup=/sys/fs/cgroup/$NAMESPACE/shims pid
  mkdir -p "$cgroup"
  echo "ShimCgroup = \"/$NAMESPACE/shims\"" >/run/options.toml
  run_container -d --runtime-config-path /run/options.toml "$IMAGE" c1 sleep 1000
  pid=$(shim_pids)
  expect "$pid" "$(cat "$cgroup/cgroup.procs")" "processes in the shim's cgroup"
  # The container and what is executed in it are not.
  expect_exit 0 ctr task exec --exec-id e1 c1 cat /proc/self/cgroup
  expect "" "$(grep shims <<<"$output" || true)" "the cgroup of an exec"
  remove_container c1
  wait_until 10 rmdir "$cgroup" || fail "the shim stays in its cgroup"
  expect_exit 1 run_container -d --runtime-config-path /run/options.toml "$IMAGE" c2 sleep 1000
  expect_match "$NAMESPACE/shims.*[Nn]o such file or directory" "$errors" "the refusal"
  ctr container rm c2 2>/dev/null || true
  rmdir "/sys/fs/cgroup/$NAMESPACE" 2>/dev/null || true
}

# One more than containerd's; the container has what its specification says.
case_shim_oom_score() {
  local pid
  echo -500 >"/proc/$daemon_pid/oom_score_adj"
  start_container c1
  pid=$(shim_pids)
  expect -499 "$(cat "/proc/$pid/oom_score_adj")" "oom_score_adj of the shim"
  expect_exit 0 ctr task exec --exec-id e1 c1 cat /proc/self/oom_score_adj
  expect "$(cat "/proc/$(task_pid c1)/oom_score_adj")" "$output" "oom_score_adj in the container"
  remove_container c1
}
