# Kernels that wisp does not run on.
# shellcheck shell=bash

# A kernel without one of the calls that wisp needs, which systemd imitates: the start
# is refused, in words, and nothing is left.
case_too_old_kernel() {
  local name
  ! is_reference || return 77
  for name in pidfd_open openat2 close_range; do
    mkdir -p /run/old-kernel
    echo '{"ociVersion":"1.0.2"}' >/run/old-kernel/config.json
    expect_exit 1 systemd-run --quiet --pipe --wait --working-directory=/run/old-kernel \
      --property="SystemCallFilter=~$name" --property=SystemCallErrorNumber=ENOSYS \
      "$SHIM" -namespace test -id c1 -address "$ADDRESS" start </dev/null
    expect_match "wisp needs Linux 5.10 or newer: .* has no $name" "$output$errors" "the refusal"
    expect config.json "$(ls /run/old-kernel)" "files in the bundle"
    rm -r /run/old-kernel
  done
}
