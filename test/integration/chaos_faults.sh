# The faults of chaos: what goes wrong, when, and whom it may have hit. Sourced by bash
# after inside.sh.
# shellcheck shell=bash

# How long a run of the runtime may take here, in seconds.
LIMIT=8

# record BEGIN WHOM WHAT: that something was wrong from BEGIN, in us, until now and a
# little later. WHOM: a pod, a container, or `*`.
record() { echo "$1 $((${EPOCHREALTIME/./} + 2000000)) $2 $3" >>/run/chaos/faults; }

# fault_daemon SECONDS: containerd is killed, and comes back after so long.
fault_daemon() {
  local begin=${EPOCHREALTIME/./}
  daemon_kill
  events_stop
  sleep "$1"
  [ "$1" -lt 2 ] || [ $((RANDOM % 2)) = 0 ] || fault_shim shim_without_daemon
  chaos_daemon_start
  if [ "$1" -lt 5 ]; then record "$begin" '*' daemon; else record "$begin" '*' daemon_long; fi
}

chaos_daemon_start() {
  daemon_start
  # What was published while nobody listened is lost to us, but not to containerd.
  command ctr --address "$ADDRESS" --namespace "$NAMESPACE" events >>/run/chaos/events 2>/dev/null &
  ctr_events_pid=$!
}

# fault_shim WHAT: one of the shims is killed, with its pod in the state that is
# recorded: while it is stopped it can reap nobody.
fault_shim() {
  local begin=${EPOCHREALTIME/./} pids pid id pod bundle
  mapfile -t pids < <(shim_pids)
  [ ${#pids[@]} -gt 0 ] || return 0
  pid=${pids[RANDOM % ${#pids[@]}]}
  id=$(cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' '\n' | sed -n '/^-id$/{n;p}')
  [[ $id == *-* ]] && kill -STOP "$pid" 2>/dev/null || return 0
  pod=${id%-*}
  wait_until 5 is_stopped "$pid" || true
  for bundle in "$STATE/io.containerd.runtime.v2.task/$NAMESPACE/$pod"-*; do
    [ ! -d "$bundle" ] || echo "${bundle##*/} $(state_under "$pid" "$bundle")" >>/run/chaos/snapshots
  done
  kill -KILL "$pid" 2>/dev/null || true
  record "$begin" "$pod" "$1"
}

is_stopped() { case $(process_state "$1") in T | '') ;; *) return 1 ;; esac }
process_state() { awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null || true; }

# state_under SHIM BUNDLE: `alive`, a zombie included, `over` or `unborn`.
state_under() {
  local init
  init=$(cat "$2/init.pid" 2>/dev/null) || { echo unborn && return; }
  if grep -qs "^PPid:[[:space:]]$1\$" "/proc/$init/status"; then echo alive; else echo over; fi
}

# fault_runc COMMAND SECONDS: the next run of that command blocks for so long; in the
# background.
fault_runc() {
  local fifo=/run/chaos/hang/$1.$RANDOM
  mkfifo "$fifo" 2>/dev/null || return 0
  hold_runc "$fifo" "$@" &
}

hold_runc() {
  local begin taken what=runc_$2
  # Perhaps nobody comes: then there is no fault.
  if ! wait_until 10 fifo_is_taken "$1" && rm "$1" 2>/dev/null; then return 0; fi
  begin=${EPOCHREALTIME/./}
  taken=$(echo /run/chaos/hung/"${1##*/}".*)
  sleep "$3"
  # Its open for reading returns once there was a writer, and it meets the end of file.
  exec 5<>"$taken" 5>&-
  rm "$taken"
  [ "$3" -lt $LIMIT ] || what=${what}_beyond_limit
  # COMMAND.NUMBER.CONTAINER, where the container has dots of its own.
  taken=${taken##*/}
  taken=${taken#*.}
  record "$begin" "${taken#*.}" "$what"
}

all_released() { [ -z "$(ls /run/chaos/hung)" ]; }
fifo_is_taken() { [ ! -e "$1" ]; }

# fault_reader SECONDS: a client stops reading, in the background.
fault_reader() {
  local readers reader
  readers=(/run/chaos/readers/*)
  reader=${readers[RANDOM % ${#readers[@]}]}
  reader=${reader##*/}
  kill -STOP "$reader" 2>/dev/null || return 0
  record "${EPOCHREALTIME/./}" nobody reader
  { sleep "$1" && kill -CONT "$reader" 2>/dev/null || true; } &
}

# fault: the next of the plan.
fault() {
  local kind=$((RANDOM % 10)) choice=$RANDOM
  local downtimes=(0 0 1 3 8) commands=(create start exec delete) short=(0 1 2 3) force=(0 1)
  case $kind in
    0 | 1) fault_daemon "${downtimes[choice % 5]}" ;;
    2 | 3) fault_shim shim ;;
    4 | 5 | 6) fault_runc "${commands[choice % 4]}" "${short[choice / 4 % 4]}" ;;
    7) fault_runc "${commands[choice % 4]}" $((LIMIT + 4)) ;;
    8) fault_runc delete-force "${force[choice % 2]}" ;;
    9) fault_reader $((1 + choice % 6)) ;;
  esac
}

FAULTS="daemon daemon_long shim shim_without_daemon reader runc_create runc_start runc_exec runc_delete
  runc_create_beyond_limit runc_start_beyond_limit runc_exec_beyond_limit runc_delete_beyond_limit runc_delete-force"
