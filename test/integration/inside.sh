# Sourced in a machine (see machine.sh): one private containerd, its client, and
# what a container leaves behind.
# shellcheck shell=bash

NAMESPACE="test"
IMAGE=docker.io/library/busybox:wisp
ADDRESS=/run/containerd/containerd.sock
STATE=/run/containerd
ROOT=/tmp/containerd
SHIM=/run/bin/containerd-shim-${RUNTIME#io.containerd.}
SHIM=${SHIM%.*}-${RUNTIME##*.}

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# ctr ARGUMENT...: against our daemon, and never for ever.
ctr() { timeout -k 5 $((${CTR_TIMEOUT:-60} * ${WISP_TIME_SCALE:-1})) ctr --address "$ADDRESS" --namespace "$NAMESPACE" "$@"; }

# A shell's last command in an exec whose output counts. When an exec is over ctr gives
# up an output that it has not come to open, whatever the shim: on a busy machine some.
LINGER="sleep 0.3"

# wait_until SECONDS COMMAND...: until COMMAND succeeds. On a slow machine a second is
# WISP_TIME_SCALE of them.
wait_until() {
  local deadline=$((SECONDS + $1 * ${WISP_TIME_SCALE:-1}))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# expect WANTED GOT WHAT
expect() { [ "$1" = "$2" ] || fail "$3: expected '$1', got '$2'"; }

# expect_match PATTERN TEXT WHAT: an extended regular expression somewhere in TEXT.
expect_match() { grep -Eq -- "$1" <<<"$2" || fail "$3: expected /$1/ in '$2'"; }

# expect_exit STATUS COMMAND...: its output is in $output, its messages in $errors.
expect_exit() {
  local wanted=$1 rc=0
  shift
  output=$("$@" 2>/tmp/errors) || rc=$?
  # ctr of 2.2 and later first complains of cgroup v1.
  errors=$(grep -v 'msg="DEPRECATION: ' /tmp/errors || true)
  [ "$rc" = "$wanted" ] || fail "'$*' ended with $rc, not $wanted: $output $errors"
}

# delete_stopped ID STATUS: waits for the end of ID's task and deletes it; its exit
# status is STATUS. ctr says one that is not 0 in a warning, and some in its own.
delete_stopped() {
  local rc=0 said
  wait_until 20 task_is "$1" STOPPED || fail "$1 does not end: $(task_status "$1")"
  said=$(ctr task rm "$1" 2>&1) || rc=$?
  [[ $said != *"exit code "* ]] || { rc=${said##*exit code } && rc=${rc%%[^0-9]*}; }
  expect "$2" "$rc" "exit status of $1 ($said)"
  ctr container rm "$1"
}

# forget_fifos: removes the fifos that only ctr can have left: it makes those of a
# detached exec and those of a task that goes without its `ctr task rm`.
forget_fifos() { rm -rf "$STATE/fifo"; }

daemon_config() {
  mkdir -p "$STATE"
  cat >/run/containerd.toml <<TOML
version = 2
root = "$ROOT"
state = "$STATE"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime",
  "io.containerd.cri.v1.images", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$ADDRESS"
[plugins."io.containerd.internal.v1.opt"]
  path = "/tmp/opt"
TOML
}

# daemon_start: returns once it answers.
daemon_start() {
  [ -e /run/containerd.toml ] || daemon_config
  containerd --config /run/containerd.toml >>/run/containerd.log 2>&1 &
  daemon_pid=$!
  wait_until "${DAEMON_SECONDS:-30}" daemon_answers || { cat /run/containerd.log >&2; fail "containerd does not answer"; }
}

daemon_answers() { CTR_TIMEOUT=${DAEMON_SECONDS:-5} ctr version >/dev/null 2>&1; }

# daemon_kill [SIGNAL]: returns once it is gone.
daemon_kill() {
  kill "-${1:-KILL}" "$daemon_pid"
  wait "$daemon_pid" 2>/dev/null || true
}

# image_import: one that somebody has left beside the tests, or else makes it.
image_import() {
  local file=/mnt/image.tar
  [ -e "$file" ] || { file=/tmp/image.tar && bash /mnt/integration/make_image "$file" "$IMAGE"; }
  ctr images import "$file" >/dev/null
  rm -f /tmp/image.tar
}

# run_container ARGUMENT...: ctr run with our runtime. Its own choice of CPU shares
# cannot be had where cgroup v2 has no controllers.
run_container() { ctr run ${WISP_TEST_CGROUP:+--cpu-shares 0} --runtime "$RUNTIME" "$@"; }

# start_container ID [COMMAND...]: in the background, by default until killed.
start_container() {
  local id=$1
  shift
  [ $# -gt 0 ] || set -- sleep 1000
  run_container -d "$IMAGE" "$id" "$@"
}

# replace_runc FILE: until restore_runc, FILE is what runs as runc. (ctr has an option
# for another runc, but takes it for io.containerd.runc.v2 only.)
replace_runc() { mount --bind "$1" "$(command -v runc)"; }
restore_runc() { umount "$(find /usr/sbin/runc /usr/bin/runc 2>/dev/null | head -n 1)"; }

# broken_runc: a runc that fails without a word in its log.
broken_runc() {
  printf '#!/bin/sh\necho "runc is unwell" >&2\nexit 3\n' >/run/broken-runc
  chmod 755 /run/broken-runc
  replace_runc /run/broken-runc
}

task_status() { ctr task ls | awk -v id="$1" '$1 == id { print $3 }'; }
task_pid() { ctr task ls | awk -v id="$1" '$1 == id { print $2 }'; }
task_is() { [ "$(task_status "$1")" = "$2" ]; }

# remove_container ID: whatever its state.
remove_container() {
  ctr task kill -s KILL "$1" >/dev/null 2>&1 || true
  wait_until 10 task_is_over "$1" || fail "$1 does not end: $(task_status "$1")"
  ctr task rm "$1" >/dev/null 2>&1 || true
  ctr container rm "$1"
}

task_is_over() { case $(task_status "$1") in RUNNING | CREATED | PAUSED) return 1 ;; esac }

# shim_pids: the servers of the runtime under test, by the program they run. A `start` or
# a `delete` is none; nobody can make up for the death of the latter.
shim_pids() {
  local exe pid name
  name=containerd-shim-${SHIM##*/containerd-shim-}
  for exe in /proc/[0-9]*/exe; do
    case $(readlink "$exe" 2>/dev/null) in */"$name" | */"$name (deleted)") ;; *) continue ;; esac
    pid=${exe#/proc/} pid=${pid%/exe}
    case $(tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | tail -n 1) in start | delete) ;; *) echo "$pid" ;; esac
  done
}

# is_reference: it is Go's shim that is tested, as a check of the tests themselves.
# Where it has faults that wisp must not have, a case lets it pass, and says so.
is_reference() { [ "$RUNTIME" = io.containerd.runc.v2 ]; }

# events_start: collects events in /tmp/events from now on.
events_start() {
  local marker=ready-$RANDOM
  ctr_events_pid=
  # The program itself, so that its pid is the one to kill.
  command ctr --address "$ADDRESS" --namespace "$NAMESPACE" events >/tmp/events 2>/dev/null &
  ctr_events_pid=$!
  # It is listening once it shows an event that we cause.
  wait_until 20 events_echo "$marker" || fail "ctr events shows nothing"
}

events_echo() {
  ctr namespaces create "$1" >/dev/null 2>&1 || true
  ctr namespaces remove "$1" >/dev/null 2>&1 || true
  grep -q "$1" /tmp/events
}

events_stop() {
  kill "$ctr_events_pid" 2>/dev/null || true
  wait "$ctr_events_pid" 2>/dev/null || true
}

# expect_topics ID TOPIC...: the events of container ID, in their order. The last is
# the delete, which Go's shim loses when it is shut down before it has sent it.
expect_topics() {
  local id=$1
  shift
  if ! wait_until 5 grep -q "/tasks/delete.*\"$id\"" /tmp/events && is_reference; then set -- "${@:1:$#-1}"; fi
  expect "$(printf '/tasks/%s ' "$@")" "$(event_topics "$id" | xargs -r printf '%s ')" "events of $id in their order"
}

# event_topics ID: the topics of the events of container ID, in their order.
event_topics() { grep -F "\"$1\"" /tmp/events | grep -o '/tasks/[a-z-]*'; }

# Sent to a process that should go on, once it has read its input: ctr before 2.x
# loses an end of its stdin that it meets before its task exists.
# feed_until COMMAND...: passes its input on, and ends it when COMMAND succeeds.
feed_until() { cat && wait_until 20 "$@"; }

# leftovers: what containers and shims leave behind, one thing a line; nothing if
# all is well. Give them a moment: a shim ends a little after its last answer.
leftovers() {
  wait_until "${LEFTOVER_SECONDS:-5}" nothing_left || list_leftovers
}

nothing_left() { [ -z "$(list_leftovers)" ]; }

list_leftovers() {
  local pid
  for pid in /proc/[0-9]*; do
    pid=${pid#/proc/}
    is_ours "$pid" || [ ! -e "/proc/$pid/exe" ] || is_service "$pid" ||
      echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
  done
  awk -v state="$STATE" '{ if (index($5, state "/") == 1 || $5 ~ "^/tmp/") print "mount " $5 }' /proc/self/mountinfo
  find "$STATE"/s "$STATE"/fifo -mindepth 1 -printf 'file %p\n' 2>/dev/null || true
  find "$STATE"/io.containerd.runtime.v2.task "$ROOT"/io.containerd.runtime.v2.task -mindepth 2 -printf 'file %p\n' 2>/dev/null || true
  find /run/containerd/runc /run/runc -mindepth 2 -maxdepth 2 -printf 'runc state %p\n' 2>/dev/null || true
  find /sys/fs/cgroup -mindepth 1 -type d -path "*/$NAMESPACE/*" -printf 'cgroup %p\n' 2>/dev/null || true
  find /dev/shm /tmp -mindepth 1 -maxdepth 1 ! -path "$ROOT" ! -path /tmp/opt ! -path /tmp/errors ! -path /tmp/events -printf 'file %p\n'
}

# is_ours PID: init, this shell and what it was started by, the daemon, or started by
# this shell and not by the daemon. Shims and what they run are orphans, so init's.
is_ours() {
  local pid=$1 stat
  case " 1 $daemon_pid ${ancestors:=$(ancestors)} " in *" $pid "*) return 0 ;; esac
  while [ "$pid" != "$$" ]; do
    [ "$pid" -gt 1 ] && [ "$pid" != "$daemon_pid" ] || return 1
    # Gone is as good as ours.
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 0
    stat=${stat##*) ? }
    pid=${stat%% *}
  done
}

# ancestors: the processes that this shell descends from.
ancestors() {
  local pid=$$ stat
  until [ "$pid" -le 1 ]; do
    read -r stat <"/proc/$pid/stat"
    stat=${stat##*) ? }
    pid=${stat%% *}
    echo "$pid"
  done | xargs
}

# is_service PID: where systemd is init, one of its other services, or its own.
is_service() {
  local cgroup
  { read -r cgroup <"/proc/$1/cgroup"; } 2>/dev/null || return 0
  case $cgroup in 0::*/wisp-tests.service*) return 1 ;; 0::/init.scope | 0::*.service | 0::*.service/*) ;; *) return 1 ;; esac
}

# wait_for_jobs: true if every background job of this shell but the daemon and the
# listener for events ended well.
wait_for_jobs() {
  local pid rc=0
  for pid in $(jobs -p); do
    [ "$pid" != "$daemon_pid" ] && [ "$pid" != "${ctr_events_pid:-}" ] || continue
    wait "$pid" || rc=1
  done
  return "$rc"
}
