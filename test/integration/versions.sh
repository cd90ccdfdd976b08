# Which containerd lives in which Debian. Sourced by bash after common.sh.
# shellcheck shell=bash

host_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

# debian_mirror: where apt takes this machine's own Debian from.
debian_mirror() {
  local codename
  codename=$(host_codename)
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' |
    sed -n "s#/*|$codename\$##p" | head -n 1
}

# suite_of VERSION: the Debian in which it runs.
suite_of() {
  case $1 in
    1.6.20) echo bookworm ;;
    1.7.24) echo trixie ;;
    2.*.*) echo forky ;;
    *) die "unknown containerd version '$1' (known: 1.6.20, 1.7.24 and 2.x.y)" ;;
  esac
}

# from_debian VERSION: packaged there, not compiled from its module.
from_debian() { case $1 in 1.6.20 | 1.7.24 | 2.1.9) ;; *) return 1 ;; esac }

# host_is_root VERSION: this machine is that Debian and has all that a test needs.
host_is_root() {
  from_debian "$1" && [ "$(host_codename)" = "$(suite_of "$1")" ] &&
    [ -x /usr/bin/containerd ] && [ -x /usr/sbin/runc ] && [ -x /bin/busybox ]
}

# root_of VERSION: the directory that becomes / for it.
root_of() { if host_is_root "$1"; then echo /; else echo "$WISP_CACHE/roots/$(suite_of "$1")/root"; fi; }

# binaries_of VERSION: a directory with containerd, ctr and the shim where they are
# not the root's own; else nothing.
binaries_of() { from_debian "$1" || echo "$WISP_CACHE/containerd/$1/bin"; }

# containerd_version VERSION: what is really there.
containerd_version() {
  if from_debian "$1"; then
    # shellcheck disable=SC2016
    dpkg-query --root="$(root_of "$1")" -W -f '${Version}' containerd
  else
    "$(binaries_of "$1")/containerd" --version | awk '{print $3}'
  fi
}
