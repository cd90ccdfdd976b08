# A container whose AppArmor profile takes signals from the runtime alone, as newer
# ones do: the shim's own are refused, and the runtime has to send them.
# shellcheck shell=bash

case_apparmor_signals() {
  local pid
  [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || fail "this kernel has no AppArmor"
  cat >/tmp/profiles <<END
abi <abi/4.0>,
profile runc $(command -v runc) flags=(unconfined) { userns, }
profile wisp-test flags=(attach_disconnected,mediate_deleted) {
  file,
  mount,
  umount,
  pivot_root,
  capability,
  network,
  ptrace,
  unix,
  signal (send, receive) peer=wisp-test,
  signal receive peer=runc,
}
END
  apparmor_parser --replace --skip-cache /tmp/profiles
  rm /tmp/profiles
  run_container -d --apparmor-profile wisp-test "$IMAGE" c1 sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
  wait_until 10 traps_sigterm c1 || fail "c1 sets no trap"
  pid=$(task_pid c1)
  expect "wisp-test (enforce)" "$(cat "/proc/$pid/attr/current")" "profile of c1"
  # What the case is about: we are not the peer.
  ! kill -TERM "$pid" 2>/dev/null || fail "the profile takes a signal from anybody"
  ctr task exec -d --exec-id e1 c1 sleep 1001
  # For an exec nobody has a fallback: Go's shim neither, runc's kill is for the init.
  expect_exit 1 ctr task kill --exec-id e1 -s KILL c1
  expect_match '[Pp]ermission denied|operation not permitted' "$errors" "the signal for the exec"
  ctr task kill -s TERM c1
  delete_stopped c1 3
  # All at once, and a shim that has to clean up without a word from anybody.
  run_container -d --apparmor-profile wisp-test "$IMAGE" c2 sh -c 'sleep 1001 & sleep 1002 & wait'
  ctr task kill -s KILL -a c2
  delete_stopped c2 137
  run_container -d --apparmor-profile wisp-test "$IMAGE" c3 sleep 1003
  pid=$(task_pid c3)
  # shellcheck disable=SC2046
  kill -KILL $(shim_pids)
  wait_until 20 process_is_gone "$pid" || fail "c3 lives on without its shim"
  wait_until 20 task_is c3 '' || fail "containerd still has c3: $(task_status c3)"
  ctr container rm c3
  forget_fifos
  # Gone with the profiles, or the next case would have them.
  printf 'wisp-test' >/sys/kernel/security/apparmor/.remove
  printf 'runc' >/sys/kernel/security/apparmor/.remove
}
