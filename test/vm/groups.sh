# What runs in which machine. Sourced by bash.
# shellcheck shell=bash

VM_KERNELS="current 5.10"
VM_MODULE_VERSIONS="2.4.2"
QUICK="v2 systemd apparmor selinux runtime old-runtime"

# The cases of test/integration that run on any host, but for the demo and the fifty at once.
EVERYWHERE="run stdin output exec missing_command kill kill_all ls_and_ps pause tty events events_of_short_lives
  restart shim_killed shim_killed_after_exit shim_killed_under_a_dead_daemon two_in_one_pod
  missing_runc broken_runc runc_breaks_later missing_rootfs bad_spec unknown_ids"
CGROUP2="metrics metrics_like_go frozen_kill host_pids oom oom_child oom_group oom_exec user_namespace shim_cgroup shim_oom_score"
SYSTEMD="systemd_run systemd_oom systemd_oom_child systemd_oom_group shim_cgroup shim_oom_score rootless"
UNIT="unit.cgroup_test unit.cgroup_stats_test unit.file_watch_test unit.oom_watch_test unit.pidfd_test unit.reaper_test
  unit.mount_test unit.rootfs_test unit.unmount_test unit.overlay_test unit.id_map_test"

CLIENT="client.checkpoint client.task client.rest client.shim client.container-a-k client.container-l-z"

# groups: NAME KERNEL INIT PLACE CONTAINERD RUNTIME CASE..., one a line. PLACE is where
# guest_case runs them, RUNTIME what runs as runc.
groups() {
  tr '\n' ' ' <<END | sed 's/; */\n/g'
v2         current plain   machine 2.1.9 runc $CGROUP2;
systemd    current systemd direct  2.4.2 runc $SYSTEMD too_old_kernel;
apparmor   current plain   direct  2.4.2 runc apparmor_signals;
selinux    current selinux program 2.4.2 runc labels.runc;
runtime    current plain   program 2.4.2 runc runtime.runc runtime.crun $UNIT;
old-kernel 5.10    plain   machine 2.4.2 runc run exec pause kill_all $CGROUP2;
old-runtime 5.10   plain   program 2.4.2 runc runtime.runc runtime.crun $UNIT;
crun       current plain   machine 2.4.2 crun run exec pause kill_all $CGROUP2;
systemd-2.1.9 current systemd direct 2.1.9 runc $SYSTEMD;
everywhere current plain   machine 2.4.2 runc $EVERYWHERE;
everywhere-2.1.9 current plain machine 2.1.9 runc $EVERYWHERE;
systemd-runtime current systemd program 2.4.2 runc runtime.runc;
ooms       current plain   program 2.4.2 runc ooms.runc;
systemd-ooms current systemd program 2.4.2 runc ooms.runc;
client     current plain   client  2.4.2 runc $CLIENT;
client-2.1.9 current plain client  2.1.9 runc $CLIENT;
END
}

# client_tests VERSION PART: names of containerd's client tests, with | in between. One is
# left out: it shows what a terminal takes, on any kernel, and prints for ten minutes.
client_tests() {
  local names shim='^Test(Shim|Runtime|Daemon|Restart|Issue|Regression)' task='^Test(Task|Process|Wait|Delete|Kill)'
  names=$(awk -F'\t' '$1 ~ /^Test[^\/]*$/ && $1 != "TestContainerExecLargeOutputWithTTY" { print $1 }' "$WISP_SOURCE/test/containerd/baseline/client-$1.tsv")
  case $2 in
    checkpoint) grep '^TestCheckpoint' <<<"$names" ;;
    container-a-k) grep '^TestContainer[A-K]' <<<"$names" ;;
    container-l-z) grep '^TestContainer[L-Z]' <<<"$names" ;;
    shim) grep -E "$shim" <<<"$names" ;;
    task) grep -E "$task" <<<"$names" ;;
    rest) grep -Ev "^Test(Checkpoint|Container)|$shim|$task" <<<"$names" ;;
  esac | paste -sd'|'
}
