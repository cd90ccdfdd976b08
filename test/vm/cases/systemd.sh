# Containers whose cgroups systemd makes.
# shellcheck shell=bash

# systemd_options ID
systemd_options() {
  if is_reference; then
    options=(--runc-systemd-cgroup)
  else
    echo 'SystemdCgroup = true' >/run/options.toml
    options=(--runtime-config-path /run/options.toml)
  fi
  options+=(--cgroup "system.slice:test:$1")
}

scope_is_gone() { [ ! -e "/sys/fs/cgroup/system.slice/test-$1.scope" ]; }

case_systemd_run() {
  local options
  systemd_options c1
  run_container -d "${options[@]}" --memory-limit 67108864 "$IMAGE" c1 sh -c 'sleep 1001 & wait'
  expect /sys/fs/cgroup/system.slice/test-c1.scope "$(cgroup_of c1)" "cgroup of c1"
  expect_match "^test-c1.scope.*running" "$(systemctl list-units --no-legend test-c1.scope | sed 's/^[^a-z]*//')" "systemd's own view"
  expect_match '^memory.usage_limit 67108864' "$(metrics_of c1)" "metrics"
  expect_exit 4 ctr task exec --exec-id e1 c1 sh -c 'exit 4'
  ctr task pause c1
  expect PAUSED "$(task_status c1)" "status of c1"
  ctr task resume c1
  expect RUNNING "$(task_status c1)" "status of c1"
  ctr task kill -s KILL -a c1
  delete_stopped c1 137
  wait_until 10 scope_is_gone c1 || fail "its scope is still there"
}

case_systemd_oom() { systemd_options c1 && oom_of_init "${options[@]}"; }
case_systemd_oom_child() { systemd_options c1 && oom_of_child "${options[@]}"; }
case_systemd_oom_group() { systemd_options c1 && oom_of_group "${options[@]}"; }
