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
# The step is a process group of its own; stop_steps ends it.
with_progress() {
  local what=$1 log=$2 start=$SECONDS rc=0
  shift 2
  say "$what ..."
  mkdir -p "$(dirname "$log")"
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  step_pid=$!
  tick "$what" "$log" &
  tick_pid=$!
  set +m
  wait "$step_pid" || rc=$?
  stop_ticking
  step_pid=
  if [ "$rc" != 0 ]; then
    tail -n 30 "$log" >&2
    say "$what: failed with status $rc, see $log"
    return "$rc"
  fi
  say "$what: done in $((SECONDS - start)) s"
}

tick() {
  local start=$SECONDS
  while sleep 10; do
    say "$1: $((SECONDS - start)) s: $(tail -c 300 "$2" | tr '\r' '\n' | grep . | tail -n 1 | cut -c1-100)"
  done
}

stop_ticking() {
  [ -z "${tick_pid:-}" ] || kill -KILL -- "-$tick_pid" 2>/dev/null || true
  wait "${tick_pid:-}" 2>/dev/null || true
  tick_pid=
}

# stop_steps: for a handler of signals: ends the step under way. SIGINT lets make
# tidy up, and apt finish the package it is at.
stop_steps() {
  stop_ticking
  [ -n "${step_pid:-}" ] || return 0
  kill -INT -- "-$step_pid" 2>/dev/null || true
  wait "$step_pid" 2>/dev/null || true
  kill -KILL -- "-$step_pid" 2>/dev/null || true
  step_pid=
}

# on_exit COMMAND: runs COMMAND when the script ends, also by SIGINT, SIGTERM or
# SIGHUP, of which it then dies, as whoever sent it expects.
on_exit() {
  local signal
  exit_command=$1
  trap 'stop_steps; $exit_command' EXIT
  for signal in INT TERM HUP; do
    # shellcheck disable=SC2064
    trap "trap '' INT TERM HUP; trap - EXIT; say 'interrupted, cleaning up'
      stop_steps; \$exit_command; trap - $signal; kill -$signal \$\$" "$signal"
  done
}

# apt_install PACKAGE...: installs what is not there yet.
apt_install() {
  local package missing=()
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing with apt, this takes a minute or two: ${missing[*]}"
  mkdir -p "$WISP_CACHE/log"
  export DEBIAN_FRONTEND=noninteractive
  with_progress "apt-get update" "$WISP_CACHE/log/apt-update.log" apt-get -q update
  with_progress "apt-get install" "$WISP_CACHE/log/apt-install.log" \
    apt-get -q -y --no-install-recommends install "${missing[@]}"
}

# What a build needs.
BUILD_PACKAGES="g++ cmake ninja-build ccache pkg-config protobuf-compiler
  libprotobuf-dev libabsl-dev nlohmann-json3-dev libspdlog-dev libfmt-dev
  libtomlplusplus-dev libmd-dev zlib1g-dev"

# build_preset PRESET NAME [CMAKE-ARGUMENT...]: configures and builds as NAME in the
# cache, outside of the source tree; the directory is in $build_directory. All of it,
# or $build_targets.
build_preset() {
  local preset=$1 name=$2
  shift 2
  build_directory=$WISP_CACHE/build/$name
  export CCACHE_DIR=$WISP_CACHE/ccache CCACHE_BASEDIR=$WISP_SOURCE CCACHE_NOHASHDIR=1
  # Another copy of the source was built here before: ccache still knows its objects.
  if ! grep -qsFx "CMAKE_HOME_DIRECTORY:INTERNAL=$WISP_SOURCE" "$build_directory/CMakeCache.txt"; then
    rm -rf "$build_directory"
  fi
  mkdir -p "$build_directory"
  with_progress "configuring $name" "$WISP_CACHE/log/configure-$name.log" \
    cmake -S "$WISP_SOURCE" --preset "$preset" -B "$build_directory" \
    -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  with_progress "building $name" "$WISP_CACHE/log/build-$name.log" \
    cmake --build "$build_directory" ${build_targets:+--target $build_targets}
}
