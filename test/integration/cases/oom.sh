# What is told when the kernel kills for want of memory.
# shellcheck shell=bash

# Doubles what it has until it is killed.
HOG="x=x; while :; do x=\$x\$x; done"

# The event has no room for which limit it was, so the log tells: the container's own,
# or that of a cgroup above it.
case_oom() {
  local limit=memory.limit_in_bytes memory=/sys/fs/cgroup/memory
  if [ ! -e "$memory/cgroup.procs" ]; then
    grep -qw memory /sys/fs/cgroup/cgroup.controllers || exit 77
    limit=memory.max memory=/sys/fs/cgroup
  fi
  events_start
  expect_exit 137 run_container --rm --memory-limit 16777216 "$IMAGE" c1 sh -c "$HOG"
  wait_until 10 grep -q '/tasks/oom.*"c1"' /tmp/events || fail "no event of the OOM: $(cat /tmp/events)"
  events_stop
  is_reference && return
  expect_match "[ \"]$limit=16777216" "$(oom_lines c1)" "c1's own limit in the log"
  # Another above it, and none of its own.
  mkdir -p "$memory/$NAMESPACE/small"
  [ "$limit" != memory.max ] || echo +memory >"$memory/$NAMESPACE/cgroup.subtree_control"
  echo 16777216 >"$memory/$NAMESPACE/small/$limit"
  expect_exit 137 run_container --rm --cgroup "/$NAMESPACE/small/c2" "$IMAGE" c2 sh -c "$HOG"
  expect_match "parent $limit=16777216" "$(oom_lines c2)" "the limit above c2 in the log"
  find /sys/fs/cgroup -depth -type d -path "*/$NAMESPACE/small*" -exec rmdir {} +
}

# oom_lines ID: what the shim has logged of its OOM kills.
oom_lines() {
  wait_until 10 grep -q "OOM kill.*id=$1" /run/containerd.log || true
  grep "OOM kill.*id=$1" /run/containerd.log || true
}
