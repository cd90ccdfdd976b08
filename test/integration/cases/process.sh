# One container and its processes: output, exit codes, signals, stdin.
# shellcheck shell=bash

case_run() {
  expect_exit 0 run_container --rm "$IMAGE" c1 echo hello
  expect hello "$output" "the container's output"
  expect_exit 42 run_container --rm "$IMAGE" c2 sh -c 'echo out; echo err >&2; exit 42'
  expect out "$output" "standard output"
  expect err "$errors" "standard error"
}

case_stdin() {
  local bytes=$((10 * 1024 * 1024))
  # Without -d ctr hands its stdin to the container and ends when that ends,
  # which `wc` does at the end of the input.
  expect "6" "$(printf hello. | feed_until task_is c1 RUNNING | run_container --rm "$IMAGE" c1 wc -c)" "count of stdin"
  head -c "$bytes" /dev/urandom >/tmp/in
  feed_until task_is c2 RUNNING </tmp/in | run_container --rm "$IMAGE" c2 cat >/tmp/out || fail "cat ended with $?"
  cmp /tmp/in /tmp/out || fail "10 MiB came back changed"
  rm /tmp/in /tmp/out
}

# The last bytes of a container that ends at once are not lost.
case_output() {
  local lines
  lines=$(run_container --rm "$IMAGE" c1 sh -c 'seq 200000')
  expect "$(seq 200000 | sha256sum)" "$(sha256sum <<<"$lines")" "200000 lines"
}

# A container goes on while nobody reads what it says, and its next reader gets that.
case_reader_goes_away() {
  # SIGKILL to the shell that ctr has become, not to the function's.
  (exec ctr --address "$ADDRESS" --namespace "$NAMESPACE" run ${WISP_TEST_CGROUP:+--cpu-shares 0} --runtime "$RUNTIME" \
    "$IMAGE" c1 sh -c 'echo first; until [ -e /go ]; do sleep 0.1; done; seq 100000; : >/through; until [ -e /end ]; do sleep 0.1; done') >/tmp/first 2>&1 &
  wait_until 20 grep -q first /tmp/first || fail "c1 says nothing"
  kill -KILL $!
  wait $! 2>/dev/null || true
  ctr task exec --exec-id e1 c1 touch /go
  if ! wait_until 20 ctr task exec --exec-id e2 c1 test -e /through; then
    is_reference || fail "c1 is blocked"
  fi
  ctr task attach c1 >/tmp/second </dev/null &
  wait_until 20 grep -qx 100000 /tmp/second || fail "c1's output has no end: $(tail -n 1 /tmp/second)"
  ctr task exec --exec-id e3 c1 touch /end
  wait $! || true
  expect "$(seq 100000 | sha256sum)" "$(sha256sum </tmp/second)" "what was said meanwhile"
  rm /tmp/first /tmp/second
  remove_container c1
  forget_fifos
}

case_exec() {
  start_container c1
  expect_exit 0 ctr task exec --exec-id e1 c1 sh -c "echo again; $LINGER"
  expect again "$output" "output of exec"
  expect_exit 42 ctr task exec --exec-id e2 c1 sh -c 'exit 42'
  expect_exit 143 ctr task exec --exec-id e3 c1 sh -c 'kill -TERM $$'
  expect_exit 137 ctr task exec --exec-id e4 c1 sh -c 'kill -KILL $$'
  # An id is free again once its process is deleted.
  expect_exit 7 ctr task exec --exec-id e1 c1 sh -c 'exit 7'
  expect 3 "$(printf abc | feed_until has_exec c1 e5 | ctr task exec --exec-id e5 c1 wc -c)" "stdin of exec"
  expect_exit 1 ctr task exec --exec-id e6 c1 /no/such/program
  expect_match 'no such file or directory|executable file not found' "$errors" "runc's own words"
  task_is c1 RUNNING || fail "c1 suffered from a failed exec"
  remove_container c1
}

has_exec() { ctr task ps "$1" | grep -q "$2"; }

case_missing_command() {
  expect_exit 1 run_container --rm "$IMAGE" c1 /no/such/program
  expect_match 'runc.*(/no/such/program).*no such file or directory' "$errors" "runc's own words"
  expect "" "$(ctr task ls -q)" "tasks"
  ctr container rm c1 2>/dev/null || true
}

case_kill() {
  start_container c1 sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
  start_container c2
  wait_until 10 traps_sigterm c1 || fail "c1 sets no trap"
  ctr task kill c1
  delete_stopped c1 3
  ctr task kill -s SIGKILL c2
  wait_until 10 task_is c2 STOPPED || fail "c2 does not end"
  expect_exit 1 ctr task kill -s SIGTERM c2
  expect_match 'process already finished|not found' "$errors" "kill of the dead"
  delete_stopped c2 137
}

# traps_sigterm ID: signal 15 is bit 14 of the mask of caught signals.
traps_sigterm() {
  local mask
  mask=$(awk '/^SigCgt:/ { print $2 }' "/proc/$(task_pid "$1")/status")
  [ $((0x$mask >> 14 & 1)) = 1 ]
}

case_kill_all() {
  start_container c1 sh -c 'sleep 1001 & sleep 1002 & wait'
  ctr task kill -a -s KILL c1
  delete_stopped c1 137
  expect "" "$(list_leftovers | grep 'sleep 100[12]' || true)" "its processes"
}

case_ls_and_ps() {
  local pid
  expect 1 "$(ctr task ls | wc -l)" "lines of an empty list"
  start_container c1
  pid=$(task_pid c1)
  expect "sleep 1000 " "$(tr '\0' ' ' <"/proc/$pid/cmdline")" "the init of c1"
  expect "$pid" "$(ctr task ps c1 | awk 'NR == 2 { print $1 }')" "ctr task ps"
  ctr task exec -d --exec-id e1 c1 sleep 1003
  expect 3 "$(ctr task ps c1 | wc -l)" "lines of ctr task ps"
  expect_match 'e1' "$(ctr task ps c1)" "exec id in ctr task ps"
  expect "1 RUNNING" "$(ctr task ls | awk '$1 == "c1" { n++; s = $3 } END { print n, s }')" "ctr task ls"
  remove_container c1
  forget_fifos
}

case_pause() {
  start_container c1
  ctr task pause c1 || {
    grep -q freezer /proc/mounts && fail "cannot pause"
    remove_container c1
    return 77
  }
  expect PAUSED "$(task_status c1)" "status of c1"
  ctr task resume c1
  expect RUNNING "$(task_status c1)" "status of c1"
  remove_container c1
}

case_tty() {
  # script(1) gives ctr a terminal.
  script -qec "ctr --address $ADDRESS --namespace $NAMESPACE run --runtime $RUNTIME --tty --rm $IMAGE c1 sh -c 'tty; exit 5'" /dev/null \
    </dev/null >/tmp/tty.out || rc=$?
  expect 5 "${rc:-0}" "exit code"
  expect_match '/dev/pts/0' "$(cat /tmp/tty.out)" "output"
  rm /tmp/tty.out
}

case_events() {
  events_start
  start_container c1
  ctr task exec --exec-id e1 c1 true
  remove_container c1
  expect_topics c1 create start exec-added exec-started exit exit delete
  events_stop
}

# Every start has its create before and its exit after, whatever runs beside it.
case_events_of_short_lives() {
  local i
  events_start
  for i in {1..20}; do run_container --rm "$IMAGE" "s$i" true & done
  wait_for_jobs || fail "a container failed"
  for i in {1..20}; do expect_topics "s$i" create start exit delete; done
  events_stop
}
