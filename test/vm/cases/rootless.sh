# Without root: a user with a cgroup that systemd has delegated, and ids that newuidmap
# gives him, runs containerd and all that follows in a user namespace.
# shellcheck shell=bash

case_rootless() {
  local rc=0
  useradd --create-home rootless 2>/dev/null || true
  echo rootless:100000:65536 >/etc/subuid
  echo rootless:100000:65536 >/etc/subgid
  install -d -o rootless /srv/rootless
  # shellcheck disable=SC2016
  systemd-run --quiet --pipe --wait --uid=rootless --property=Delegate=yes --property=LimitNOFILE=65536 \
    --setenv=HOME=/home/rootless --setenv=XDG_RUNTIME_DIR=/home/rootless \
    --setenv=OUT="$(findmnt -no FSROOT /srv)" \
    rootlesskit --net=host --pidns --cgroupns --evacuate-cgroup2=init --ipcns --utsns --propagation=rslave \
    --copy-up=/etc --copy-up=/run --state-dir=/home/rootless/state \
    bash -euc '
      mount -t tmpfs -o mode=1777 tmpfs /tmp
      mount -t tmpfs tmpfs /dev/shm
      mount --bind /work/test /mnt
      mount --bind "/work$OUT/rootless" /srv
      rm -rf /run/containerd /run/containerd.toml /run/containerd.log /run/runc
      exec env "$@"' rootless \
    PATH="$PATH" HOME=/root VERSION="$VERSION" RUNTIME="$RUNTIME" WISP_TIME_SCALE="${WISP_TIME_SCALE:-1}" \
    bash /mnt/integration/run_case -d /mnt/vm/cases rootless_inside || rc=$?
  userdel --remove rootless 2>/dev/null || true
  [ "$rc" = 0 ] || fail "the rootless run ended with $rc"
}

case_rootless_inside() {
  local cgroup
  expect_match '^ *0 +1000 ' "$(head -n 1 /proc/self/uid_map)" "who root is"
  run_container -d --memory-limit 67108864 "$IMAGE" c1 sh -c 'trap "exit 3" TERM; while :; do sleep 0.1; done'
  cgroup=$(cgroup_of c1)
  expect 67108864 "$(cat "$cgroup/memory.max")" "memory.max in the delegated cgroup"
  expect_match '^memory.usage_limit 67108864' "$(metrics_of c1)" "metrics"
  expect_exit 7 ctr task exec --exec-id e1 c1 sh -c 'exit 7'
  ctr task pause c1
  expect PAUSED "$(task_status c1)" "status of c1"
  ctr task resume c1
  ctr task kill c1
  delete_stopped c1 3
  oom_of_init
}
