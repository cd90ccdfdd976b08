# The options that compare, churn and footprint share. Sourced by bash after
# common.sh, versions.sh and machine.sh.
# shellcheck shell=bash

# candidate_option NAME VALUE: true if it was one of ours.
candidate_runtime=io.containerd.wisp.v2 candidate_shim=''
candidate_option() {
  case $1 in
    r) candidate_runtime=$2 ;;
    s) candidate_shim=$2 ;;
    *) return 1 ;;
  esac
}

# check_candidate: the binary is there; Go's shim comes with the root.
check_candidate() {
  [ "$candidate_runtime" != io.containerd.runc.v2 ] || candidate_shim=${candidate_shim:--}
  [ "$candidate_shim" = - ] || [ "$candidate_shim" = go ] || [ -x "$candidate_shim" ] || die "no shim to test: '$candidate_shim' (-s SHIM)"
}

# candidate_shim_for VERSION: `go` is the root's Go shim, to try a script with: the
# same binary under the other name.
candidate_shim_for() {
  local binaries
  if [ "$candidate_shim" != go ]; then echo "$candidate_shim" && return; fi
  binaries=$(binaries_of "$1")
  echo "${binaries:-$(root_of "$1")/usr/bin}/containerd-shim-runc-v2"
}
