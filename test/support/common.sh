# What the scripts under test/ share: messages, packages, the cache. Sourced by bash.
#
# The cache, $WISP_CACHE (default /var/cache/wisp), is the one place outside of
# apt's that keeps anything: builds, ccache, Debian roots, Go modules.
# shellcheck shell=bash

WISP_CACHE=${WISP_CACHE:-/var/cache/wisp}
WISP_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# The versions of containerd that wisp is tested with.
CONTAINERD_VERSIONS="1.6.20 1.7.24 2.1.9 2.4.2"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 2; }

# usage: prints the comment at the head of the script and leaves.
usage() {
  sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
  exit "${1:-0}"
}

need_root() { [ "$(id -u)" = 0 ] || die "must be root"; }

# with_progress WHAT LOG COMMAND...: runs a long step with its output in LOG and
# a line every 10 s that says it is still alive; the end of LOG if it fails.
with_progress() {
  local what=$1 log=$2 start=$SECONDS rc=0 pid
  shift 2
  say "$what ..."
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  while ! wait_for_pid "$pid" 10; do
    say "$what: $((SECONDS - start)) s: $(tail -c 300 "$log" | tr '\r' '\n' | grep . | tail -n 1 | cut -c1-100)"
  done
  wait "$pid" || rc=$?
  if [ "$rc" != 0 ]; then
    tail -n 30 "$log" >&2
    say "$what: failed with status $rc, see $log"
    return "$rc"
  fi
  say "$what: done in $((SECONDS - start)) s"
}

# wait_for_pid PID SECONDS: true once PID, a child, has ended.
wait_for_pid() { timeout "$2" tail --pid="$1" -s 0.1 -f /dev/null; }

# apt_install PACKAGE...: installs what is not there yet.
apt_install() {
  local package missing=()
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing with apt: ${missing[*]}"
  mkdir -p "$WISP_CACHE/log"
  export DEBIAN_FRONTEND=noninteractive
  with_progress "apt-get update" "$WISP_CACHE/log/apt-update.log" apt-get -q update
  with_progress "apt-get install" "$WISP_CACHE/log/apt-install.log" \
    apt-get -q -y --no-install-recommends install "${missing[@]}"
}

# What a build needs.
BUILD_PACKAGES="g++ cmake ninja-build ccache pkg-config protobuf-compiler
  libprotobuf-dev libabsl-dev nlohmann-json3-dev libspdlog-dev libfmt-dev
  libtoml++-dev libmd-dev zlib1g-dev"

# build_preset PRESET DIRECTORY [CMAKE-ARGUMENT...]: configures and builds in the
# cache, outside of the source tree.
build_preset() {
  local preset=$1 directory=$2
  shift 2
  export CCACHE_DIR=$WISP_CACHE/ccache
  with_progress "cmake ($preset)" "$WISP_CACHE/log/cmake-${directory##*/}.log" \
    cmake -S "$WISP_SOURCE" --preset "$preset" -B "$directory" \
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  with_progress "build ($preset)" "$WISP_CACHE/log/build-${directory##*/}.log" \
    cmake --build "$directory"
}
