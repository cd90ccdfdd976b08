# The pods of chaos: containers with a planned end, and what became of them. Sourced by
# bash after inside.sh.
#
# Lines of a worker's records, fields separated by tabs, times in us:
#   plan    ID CODE
#   create  ID BEGIN END STATUS MESSAGE
#   killed  ID
#   exec    ID EXEC-ID CODE BEGIN END STATUS MESSAGE
#   status  ID CODE|none BEGIN END
#   ended   ID WHEN        by its own word, just before it did
#   output  ID complete|wrong
# shellcheck shell=bash

now() { echo "${EPOCHREALTIME/./}"; }

# microseconds SECONDS.FRACTION, of six digits.
microseconds() { echo "${1/./}"; }

# note FIELD...: a line of the records.
note() { (IFS=$'\t' && echo "$*") >>"$records"; }

# one_line TEXT: its end, which has the error, but for what ctr says of cgroup v1.
one_line() { { grep -v DEPRECATION <<<"$1" || true; } | tr '\n\t' '  ' | tail -c 300; }

# worker NUMBER SEED: makes pods until it is told to stop.
worker() {
  local number=$1 pod
  records=/run/chaos/records.$1
  RANDOM=$2
  for ((pod = 1; ; pod++)); do
    [ ! -e /run/chaos/stop ] || return 0
    pod "p$number.$pod"
  done
}

# pod NAME: one to three containers in one shim. All of them are begun before the first
# one may end, as in a real pod.
pod() {
  local name=$1 count=$((1 + RANDOM % 3)) i
  declare -A code lines life going reader kill_it
  for ((i = 1; i <= count; i++)); do
    # 0, 1 and those above 100 have other meanings as well.
    code[$i]=$((2 + RANDOM % 98)) life[$i]=$((RANDOM % 6)) lines[$i]=0 kill_it[$i]=''
    case $((RANDOM % 6)) in
      0 | 1) lines[$i]=$((20000 * (1 + RANDOM % 5))) ;;
      2) kill_it[$i]=yes ;;
    esac
    note plan "$name-$i" "${code[$i]}"
    create_container "$name" "$name-$i" "${code[$i]}" "${life[$i]}" "${lines[$i]}" || kill_it[$i]=yes
  done
  for ((i = 1; i <= count; i++)); do begin_container "$name-$i"; done
  for ((i = 1; i <= count; i++)); do
    [ $((RANDOM % 2)) = 0 ] || exec_in "$name-$i" "x$i" $((2 + RANDOM % 98))
  done
  for ((i = 1; i <= count; i++)); do finish_container "$name-$i" "${kill_it[$i]}" "${lines[$i]}"; done
}

# create_container POD ID CODE SECONDS LINES: it waits for its word to go, writes so many
# lines, sleeps and exits.
create_container() {
  local begin home=/run/chaos/c/$2 rc=0 said options=()
  mkdir -p "$home"
  mkfifo "$home/go"
  cat >"$home/main" <<SH
read -r _ </chaos/go
[ $5 = 0 ] || seq 1 $5
sleep $4
echo >/chaos/ended
exit $3
SH
  [ -z "$pods" ] || options=(--annotation "io.containerd.runc.v2.group=$1")
  begin=$(now)
  said=$(run_container -d "${options[@]}" --mount "type=bind,src=$home,dst=/chaos,options=rbind:rw" \
    "$IMAGE" "$2" sh /chaos/main 2>&1 </dev/null) || rc=$?
  note create "$2" "$begin" "$(now)" "$rc" "$(one_line "$said")"
  return "$rc"
}

# begin_container ID: reads its output from now on, and gives it the word. The fd keeps
# the fifo alive until the container has read it, or for ever.
begin_container() {
  local fifo go
  for fifo in "$STATE"/fifo/*/"$1-stdout"; do
    [ -p "$fifo" ] || continue
    # Nobody stops it before it has the fifo, which may be gone when it goes on.
    (exec <"$fifo" && : >"/run/chaos/readers/$BASHPID" && exec cat >"/run/chaos/out/$1") &
    reader[$1]=$!
  done
  exec {go}<>"/run/chaos/c/$1/go"
  echo go >&"$go"
  going[$1]=$go
}

# exec_in ID EXEC-ID CODE
exec_in() {
  local begin rc=0 said
  begin=$(now)
  said=$(ctr task exec --exec-id "$2" "$1" sh -c "exit $3" 2>&1 </dev/null) || rc=$?
  note exec "$1" "$2" "$3" "$begin" "$(now)" "$rc" "$(one_line "$said")"
}

# finish_container ID KILL LINES: waits for its end, or brings it about, and for what is
# reported about it; removes it.
finish_container() {
  local id=$1 go=${going[$1]} status begin
  [ -n "$2" ] || wait_until 30 is_at_its_end "$id" || true
  if ! is_at_its_end "$id"; then
    note killed "$id"
    try 20 not_running_after ctr task kill -s KILL "$id"
  fi
  begin=$(now)
  status=$(status_of "$id")
  note status "$id" "$status" "$begin" "$(now)"
  try 60 gone_after ctr container rm "$id"
  exec {go}>&-
  [ ! -e "/run/chaos/c/$id/ended" ] || note ended "$id" "$(microseconds "$(stat -c %.6Y "/run/chaos/c/$id/ended")")"
  check_output "$id" "$status" "$3"
  rm -rf --one-file-system "/run/chaos/c/$id"
}

is_at_its_end() { [ -e "/run/chaos/c/$1/ended" ] || grep -qs "^$1 " /run/chaos/snapshots; }

# try TIMES COMMAND...: containerd may be down, or the runtime may hang.
try() {
  local i times=$1
  shift
  for ((i = 0; i < times; i++)); do
    ! "$@" || return 0
    sleep 0.5
  done
  return 0
}

# not_running_after COMMAND...: there is nothing left to kill.
not_running_after() {
  local said
  said=$("$@" 2>&1) || [[ $said == *"not found"* || $said == *"no running task"* || $said == *"already finished"* ]]
}

gone_after() {
  local said
  said=$("$@" 2>&1) || [[ $said == *"not found"* ]]
}

# status_of ID: what containerd says of its end, or `none` if there is no such task.
status_of() {
  local said i
  for ((i = 0; i < 120; i++)); do
    said=$(ctr task rm "$1" 2>&1) || true
    case $said in
      *"exit code "*) said=${said##*exit code } && echo "${said%%[^0-9]*}" && return ;;
      *"not found"*) echo none && return ;;
      '') echo 0 && return ;;
    esac
    sleep 0.5
  done
  echo "unknown: $(one_line "$said")"
}

# check_output ID STATUS LINES: to the last byte, if the container came to its own end.
check_output() {
  local pid=${reader[$1]:-}
  [ -n "$pid" ] || return 0
  # One that was stopped goes on in a moment, and then has much to read.
  if ! wait_until 20 reader_is_gone "$pid"; then kill -KILL "$pid" 2>/dev/null || true; fi
  wait "$pid" 2>/dev/null || true
  rm -f "/run/chaos/readers/$pid"
  if [ "$3" -gt 0 ] && [ -e "/run/chaos/c/$1/ended" ]; then
    if cmp -s "/run/chaos/out/$1" <(seq 1 "$3"); then
      note output "$1" complete
    else
      note output "$1" "wrong" "$(tail -n 1 "/run/chaos/out/$1") of $3"
    fi
  fi
  rm -f "/run/chaos/out/$1"
}

reader_is_gone() { ! kill -0 "$1" 2>/dev/null; }
