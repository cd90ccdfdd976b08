# Debian roots, made with debootstrap and apt. Sourced by bash after common.sh and
# versions.sh.
# shellcheck shell=bash

# in_root ROOT COMMAND...: with this machine's network; mounts end with COMMAND.
in_root() {
  local root=$1
  shift
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  # shellcheck disable=SC2016
  unshare --mount --propagation private /bin/bash -eu -c '
    root=$1 cache=$2
    shift 2
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --bind "$cache" "$root/mnt"
    exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 \
      PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
    ' in_root "$root" "$WISP_CACHE" "$@"
}

# make_root SUITE DIRECTORY PACKAGE...: in DIRECTORY/root, complete once there is
# DIRECTORY/done, which lists the packages; what is missing of them is installed.
make_root() {
  local suite=$1 dir=$2 name=${2##*/}
  shift 2
  if [ ! -e "$dir/done" ]; then debootstrap_root "$suite" "$dir"; fi
  [ "$(cat "$dir/done")" != "$*" ] || return 0
  with_progress "packages of $name" "$WISP_CACHE/log/packages-$name.log" \
    in_root "$dir/root" sh -ec 'apt-get -q update
      apt-get -q -y --no-install-recommends install "$@"
      apt-get clean' sh "$@"
  echo "$*" >"$dir/done"
}

# debootstrap_root SUITE DIRECTORY
debootstrap_root() {
  local suite=$1 dir=$2 name=${2##*/} mirror script scripts=/usr/share/debootstrap/scripts
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "apt does not say where this Debian comes from"
  script=$scripts/$suite
  [ -e "$script" ] || script=$scripts/sid
  rm -rf --one-file-system "$dir"
  mkdir -p "$dir"
  with_progress "debootstrap $suite" "$WISP_CACHE/log/debootstrap-$name.log" \
    debootstrap --variant=minbase "$suite" "$dir/root" "$mirror" "$script"
  # No service may start in it, and documentation only costs time.
  printf '#!/bin/sh\nexit 101\n' >"$dir/root/usr/sbin/policy-rc.d"
  chmod 755 "$dir/root/usr/sbin/policy-rc.d"
  printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$dir/root/etc/dpkg/dpkg.cfg.d/wisp"
  echo force-unsafe-io >>"$dir/root/etc/dpkg/dpkg.cfg.d/wisp"
  # Testing's index says when it expires, and a machine's clock may be past that.
  echo 'Acquire::Check-Valid-Until "false";' >"$dir/root/etc/apt/apt.conf.d/wisp"
  touch "$dir/done"
}

# module_settings: what the go command has been told here, one a line, for `env`; and
# where a root finds what this machine trusts.
module_settings() {
  local name value
  for name in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY GOINSECURE http_proxy https_proxy no_proxy; do
    value=${!name:-}
    [ -n "$value" ] || ! command -v go >/dev/null || value=$(go env "$name" 2>/dev/null) || true
    [ -z "$value" ] || echo "$name=$value"
  done
  if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    mkdir -p "$WISP_CACHE/trust"
    cp -L /etc/ssl/certs/ca-certificates.crt "$WISP_CACHE/trust/certificates.pem"
    echo SSL_CERT_FILE=/mnt/trust/certificates.pem
    echo CARGO_HTTP_CAINFO=/mnt/trust/certificates.pem
  fi
}
