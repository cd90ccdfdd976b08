# Bad input gets an error that says why, and everything lives on.
# shellcheck shell=bash

# still_works: a container runs as if nothing had happened.
still_works() {
  expect_exit 0 run_container --rm "$IMAGE" works echo works
  expect works "$output" "a container afterwards"
}

# refused PATTERN ID ARGUMENT...: the run of container ID fails in these words.
refused() {
  local pattern=$1 id=$2
  shift 2
  expect_exit 1 run_container "$@"
  expect_match "$pattern" "$errors" "the error's words"
  expect "" "$(ctr task ls -q)" "tasks"
  ctr container rm "$id" >/dev/null 2>&1 || true
}

case_missing_runc() {
  # Nothing that can be executed: as good as nothing in PATH.
  replace_runc /dev/null
  refused 'executable file not found|permission denied|no such file or directory' c1 --rm "$IMAGE" c1 true
  restore_runc
  still_works
}

case_broken_runc() {
  broken_runc
  refused 'exit status 3|exit 3' c1 --rm "$IMAGE" c1 true
  printf 'no program\n' >/run/broken-runc
  refused 'exec format error|Exec format error' c1 --rm "$IMAGE" c1 true
  restore_runc
  still_works
}

# A runc that breaks later: what runs can still be killed and deleted.
case_runc_breaks_later() {
  start_container c1
  broken_runc
  expect_exit 1 ctr task exec --exec-id e1 c1 true
  expect_match 'exit status 3|exit 3' "$errors" "the error's words"
  task_is c1 RUNNING || fail "c1 suffered from a failed exec"
  restore_runc
  expect_exit 0 ctr task exec --exec-id e2 c1 true
  remove_container c1
  still_works
}

case_missing_rootfs() {
  # A rootfs that is not there at all, and one that is empty.
  refused 'no such file or directory' c1 --rootfs --rm /no/such/rootfs c1 true
  mkdir /run/empty
  refused 'no such file or directory|executable file not found' c2 --rootfs --rm /run/empty c2 true
  still_works
}

case_bad_spec() {
  local number=0 spec
  # Each lacks or contradicts something that only runc can know.
  for spec in \
    '{"ociVersion":"1.0.2","root":{"path":"/run/empty"},"process":{"args":[],"cwd":"/"}}' \
    '{"ociVersion":"1.0.2","root":{"path":"/run/empty"},"process":{"args":["/bin/true"],"cwd":"relative"}}' \
    '{"ociVersion":"1.0.2","root":{"path":"/run/empty"},"process":{"args":["/bin/true"],"cwd":"/"},"linux":{"namespaces":[{"type":"none"}]}}' \
    '{}'; do
    number=$((number + 1))
    mkdir -p /run/empty
    echo "$spec" >/run/spec.json
    refused 'runc|shim|config|spec|root' "c$number" --config /run/spec.json "c$number"
  done
  still_works
}

case_unknown_ids() {
  start_container c1
  expect_exit 1 ctr task kill --exec-id none c1
  expect_match 'not found' "$errors" "kill of an unknown exec"
  expect_exit 1 ctr task kill none
  expect_match 'not found' "$errors" "kill of an unknown task"
  expect_exit 1 ctr task kill -s NOSIGNAL c1
  ctr task exec -d --exec-id e1 c1 sleep 1004
  expect_exit 1 ctr task exec --exec-id e1 c1 true
  expect_match 'already exists|exists' "$errors" "exec with an id that is taken"
  expect_exit 1 ctr task rm c1
  expect_match 'failed precondition|must be stopped|running' "$errors" "rm of a running task"
  expect_exit 0 ctr task exec --exec-id e2 c1 true
  remove_container c1
  forget_fifos
  still_works
}
