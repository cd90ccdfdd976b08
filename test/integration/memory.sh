# What a process costs. Sourced by bash.
# shellcheck shell=bash

# memory_of PID: "RSS PSS PRIVATE THREADS VSZ", sizes in KiB.
memory_of() {
  local threads vsz
  threads=$(awk '/^Threads:/ { print $2 }' "/proc/$1/status")
  vsz=$(awk '/^VmSize:/ { print $2 }' "/proc/$1/status")
  awk -v threads="$threads" -v vsz="$vsz" '
    /^Rss:/ { rss = $2 }
    /^Pss:/ { pss = $2 }
    /^Private_(Clean|Dirty|Hugetlb):/ { private += $2 }
    END { print rss, pss, private, threads, vsz }' "/proc/$1/smaps_rollup"
}
