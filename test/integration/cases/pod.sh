# Several containers: in one shim, and at once.
# shellcheck shell=bash

case_fifty_at_once() {
  local i pids=() statuses=()
  for i in {1..50}; do
    run_container --rm "$IMAGE" "c$i" sh -c "echo out $i; exit $i" >"/tmp/out.$i" 2>"/tmp/err.$i" &
    pids[i]=$!
  done
  for i in {1..50}; do
    statuses[i]=0
    wait "${pids[i]}" || statuses[i]=$?
  done
  for i in {1..50}; do
    expect "$i" "${statuses[i]}" "exit code of c$i ($(cat "/tmp/err.$i"))"
    expect "out $i" "$(cat "/tmp/out.$i")" "output of c$i"
  done
  rm /tmp/out.* /tmp/err.*
}

# pod_container ID GROUP COMMAND...: in the background and in the shim of GROUP.
pod_container() {
  local id=$1 group=$2
  shift 2
  run_container -d --annotation "io.containerd.runc.v2.group=$group" "$IMAGE" "$id" "$@"
}

case_two_in_one_pod() {
  if ! ctr run --help | grep -q -- --annotation; then pod_container() { pod_container_of_config "$@"; }; fi
  pod_container sandbox sandbox sleep 1000
  pod_container worker sandbox sh -c 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 9'
  expect 1 "$(shim_pids | wc -l)" "number of shims"
  start_container alone
  expect 2 "$(shim_pids | wc -l)" "number of shims with one apart"
  expect_exit 0 ctr task exec --exec-id e1 worker touch /tmp/end
  delete_stopped worker 9
  # The shim stays for the other.
  expect_exit 0 ctr task exec --exec-id e1 sandbox sh -c "echo alive; $LINGER"
  expect alive "$output" "exec in the sandbox"
  expect 2 "$(shim_pids | wc -l)" "number of shims after the worker"
  remove_container sandbox
  remove_container alone
}

# pod_container_of_config ID GROUP COMMAND...: for a ctr that knows no annotation: a
# container of that image exists for its snapshot, and its spec is the base of ours.
pod_container_of_config() {
  local id=$1 group=$2 arguments
  shift 2
  printf -v arguments '"%s",' "$@"
  mkdir -p "/run/pod/$id"
  tar -xf <(ctr images export /dev/stdout "$IMAGE") -C "/run/pod/$id"
  mkdir "/run/pod/$id/rootfs"
  find "/run/pod/$id/blobs" -type f -size +100k -exec tar -C "/run/pod/$id/rootfs" -xf {} \;
  cat >"/run/pod/$id/config.json" <<JSON
{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":[${arguments%,}],"env":["PATH=/bin"],"cwd":"/"},
 "root":{"path":"/run/pod/$id/rootfs"},
 "annotations":{"io.containerd.runc.v2.group":"$group"},
 "mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
 "linux":{"cgroupsPath":"/$NAMESPACE/$id","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"}]}}
JSON
  run_container -d --config "/run/pod/$id/config.json" "$id"
}
