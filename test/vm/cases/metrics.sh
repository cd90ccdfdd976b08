# The numbers of a container, field by field, beside the kernel's own files.
# shellcheck shell=bash

# cgroup_of ID: the directory of the cgroup that the init of ID is in.
cgroup_of() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(task_pid "$1")/cgroup")"; }

# metrics_of ID: a line NAME VALUE for each number in ctr's JSON; those of a list have
# its position in their name.
metrics_of() {
  ctr task metrics --format json "$1" | awk '
    /[{[]$/ {
      name = $1
      if (name !~ /^"/) name = (depth > 0 && list[depth]) ? index_of[depth]++ : ""
      gsub(/[":]/, "", name)
      depth++
      path[depth] = (depth > 1 && path[depth - 1] != "" ? path[depth - 1] "." : "") name
      list[depth] = /\[$/; index_of[depth] = 0
      next
    }
    /^ *[]}]/ { depth--; next }
    /[{][}],?$/ { next }
    { name = $1; gsub(/[":]/, "", name); gsub(/[",]/, "", $2); print (path[depth] != "" ? path[depth] "." : "") name, $2 }'
}

# expected_metrics CGROUP: the same from the kernel's files. JSON leaves out what is 0.
# The averages of pressure move with time, so of these only the names are compared.
expected_metrics() {
  local dir=$1 file name number size what
  # whole FILE NAME: a file with one number, or with the word for none.
  whole() { [ ! -e "$dir/$1" ] || echo "$2 $(sed 's/^max$/18446744073709551615/' "$dir/$1")"; }
  # keys FILE PREFIX NAME...: lines of a name and a number.
  keys() {
    file=$1 what=$2
    shift 2
    [ ! -e "$dir/$file" ] || awk -v prefix="$what" -v names="$*" '
      BEGIN { n = split(names, list); for (i = 1; i <= n; i++) wanted[list[i]] = 1 }
      $1 in wanted { print prefix "." $1, $2 }' "$dir/$file"
  }
  whole pids.current pids.current
  whole pids.max pids.limit
  keys cpu.stat cpu usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec
  keys memory.stat memory anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback \
    anon_thp inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable \
    slab_unreclaimable pgfault pgmajfault workingset_refault workingset_activate workingset_nodereclaim \
    pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc
  whole memory.current memory.usage
  whole memory.max memory.usage_limit
  whole memory.swap.current memory.swap_usage
  whole memory.swap.max memory.swap_limit
  whole memory.peak memory.max_usage
  whole memory.swap.peak memory.swap_max_usage
  keys memory.events memory_events low high max oom oom_kill
  number=0
  while read -r name what; do
    echo "io.usage.$number.major ${name%:*}"
    echo "io.usage.$number.minor ${name#*:}"
    tr ' ' '\n' <<<"$what" | sed -n "s/^\([rw]bytes\|[rw]ios\)=/io.usage.$number.\1 /p"
    number=$((number + 1))
  done < <(grep '=' "$dir/io.stat")
  number=0
  for size in 1GB 2MB; do
    [ -e "$dir/hugetlb.$size.max" ] || continue
    whole "hugetlb.$size.current" "hugetlb.$number.current"
    whole "hugetlb.$size.max" "hugetlb.$number.max"
    echo "hugetlb.$number.failcnt $(awk '$1 == "max" { print $2 }' "$dir/hugetlb.$size.events")"
    echo "hugetlb.$number.pagesize $size"
    number=$((number + 1))
  done
  for what in cpu memory io; do
    awk -v what="$what" '{ sub(/total=/, "", $5); print what ".psi." $1 ".total", $5 }' "$dir/$what.pressure"
  done
}

without_averages() { grep -v '\.avg[0-9]* ' | grep -v ' 0$' | sort; }

# metrics_agree ID: twice the kernel's files with the shim's answer in between; what
# the kernel changes meanwhile proves nothing.
metrics_agree() {
  local cgroup
  cgroup=$(cgroup_of "$1")
  expected_metrics "$cgroup" | without_averages >/tmp/before
  metrics_of "$1" >/tmp/metrics
  expected_metrics "$cgroup" | without_averages >/tmp/after
  cmp -s /tmp/before /tmp/after || return 1
  without_averages </tmp/metrics >/tmp/answer
  cmp -s /tmp/answer /tmp/before
}

# A container with all kinds of numbers: throttled, reclaimed from, swapping, writing
# to a disk; then frozen, so that they stay.
case_metrics() {
  local what
  dd if=/dev/zero of=/srv/swap bs=1M count=64 2>/dev/null
  chmod 600 /srv/swap
  mkswap /srv/swap >/dev/null
  swapon /srv/swap
  run_container -d --cpu-quota 50000 --cpu-period 100000 --memory-limit 33554432 \
    --mount type=bind,src=/srv,dst=/srv,options=rbind:rw "$IMAGE" c1 \
    sh -c '{ head -c 40000000 /dev/zero; sleep 1000; } | tail -c 40000000 &
      dd if=/dev/zero of=/srv/data bs=1M count=48 conv=fsync 2>/dev/null
      cat /srv/data >/dev/null
      touch /srv/written
      wait'
  wait_until 60 test -e /srv/written || fail "c1 does not get to write"
  wait_until 60 swaps "$(cgroup_of c1)" || fail "c1 does not get to swap"
  ctr task pause c1
  expect PAUSED "$(task_status c1)" "status"
  wait_until 20 metrics_agree c1 || fail "shim (<) and kernel (>) differ: $(diff /tmp/answer /tmp/before)"
  # What there must have been to compare.
  for what in pids.current cpu.nr_throttled cpu.throttled_usec cpu.psi.some.total memory.psi.full.total io.psi.some.total \
    memory.anon memory.pgscan memory.pgsteal memory.swap_usage $(peaks "$(cgroup_of c1)") memory_events.max \
    io.usage.0.wbytes io.usage.0.wios hugetlb.0.max; do
    expect_match "^$what [1-9]" "$(cat /tmp/answer)" "a number of its own"
  done
  # Averages only fall by now: what is not 0 yet was not when the shim read it.
  for what in cpu memory io; do
    grep -q '^some .*avg300=0.00' "$(cgroup_of c1)/$what.pressure" ||
      expect_match "^$what\.psi\.some\.avg300 " "$(cat /tmp/metrics)" "averages of pressure"
  done
  expect_match '^cpu\.psi\.some\.avg300 ' "$(cat /tmp/metrics)" "averages of pressure"
  ctr task resume c1
  remove_container c1
  swapoff /srv/swap
  rm /srv/swap /srv/data /srv/written /tmp/before /tmp/after /tmp/metrics /tmp/answer
}

swaps() { [ "$(cat "$1/memory.swap.current")" != 0 ]; }

# peaks CGROUP: the highest use, as far as this kernel knows it (5.19, 6.5).
peaks() {
  [ ! -e "$1/memory.peak" ] || echo memory.max_usage
  [ ! -e "$1/memory.swap.peak" ] || echo memory.swap_max_usage
}

# Go's shim tells nothing that wisp does not: the names of one kind of container. A first
# one, not compared, reads from the disk what the others find in memory.
case_metrics_like_go() {
  local id late='^none of these$'
  for id in c0 r1 c1; do
    if [ $id = r1 ]; then local RUNTIME=io.containerd.runc.v2; else RUNTIME=$OWN_RUNTIME; fi
    run_container -d --cpu-quota 50000 --cpu-period 100000 --memory-limit 33554432 "$IMAGE" $id \
      sh -c 'until [ -e /tmp/rest ]; do :; done; exec sleep 1000'
    wait_until 30 throttled "$(cgroup_of $id)" || fail "$id is not throttled"
    touch "/proc/$(task_pid $id)/root/tmp/rest"
    wait_until 30 task_sleeps $id || fail "$id does not come to rest"
    metrics_of $id | without_averages | cut -d' ' -f1 >/tmp/$id
  done
  # Before Linux 5.15 the kernel adds up what it counts in batches, slabs for one, when
  # they are full: a container may have none yet.
  case $(uname -r) in 5.10.*) late='^memory.slab' ;; esac
  expect "" "$(comm -23 /tmp/r1 /tmp/c1 | grep -v -e '^memory.psi' -e '^io.psi' -e thp -e "$late" | xargs)" "what Go's shim alone tells"
  for id in c0 r1 c1; do
    remove_container $id
    rm /tmp/$id
  done
}

OWN_RUNTIME=$RUNTIME
throttled() { grep -q '^nr_throttled [1-9]' "$1/cpu.stat"; }
task_sleeps() { [ "$(cat "/proc/$(task_pid "$1")/comm")" = sleep ]; }
