# One virtual machine and what it brings back. Sourced by bash after image.sh.
# shellcheck shell=bash

# boot KERNEL INIT JOB SHIM OUT SECONDS [DISK]: boots a machine (INIT: plain, systemd, or
# selinux, which is plain with SELinux in the place of AppArmor) whose /work has the
# tests, SHIM, $VM_PROGRAMS, the shell variables of the file JOB, and /work/out, which
# comes back as OUT even if the machine is ended early, by SECONDS or by a signal to us.
# DISK is a third one for it.
boot() {
  local kernel=$VM/kernel/$1 init=$2 job=$3 shim=$4 out=$5 limit=$6 work=$VM/work file security='' rc=0 third=()
  [ $# -lt 7 ] || third=(-drive "file=$7,if=virtio,format=raw,snapshot=on")
  case $init in
    plain) init=/work/test/vm/guest_init ;;
    selinux) init=/work/test/vm/guest_init security=security=selinux ;;
    systemd) init=/usr/lib/systemd/systemd ;;
  esac
  mkdir -p "$out"
  rm -rf --one-file-system "$work" "$work.img"
  mkdir -p "$work/out"
  cp -a "$WISP_SOURCE/test" "$work/test"
  cp "$job" "$work/job"
  # Here it takes a second, there half a minute.
  "$WISP_SOURCE/test/integration/make_image" "$work/test/image.tar" "$VM_IMAGE"
  [ "$shim" = - ] || cp "$shim" "$work/shim"
  [ -z "$security" ] || secilc -M true -c 33 -o "$work/policy" -f /dev/null "$WISP_SOURCE/test/vm/selinux.cil"
  mkdir "$work/unit"
  for file in $VM_PROGRAMS; do
    strip -o "$work/unit/$file" "$(program_of "$file")" || die "$file has not been built in $VM_BUILD (-t BUILD)"
  done
  make_disk "$work.img" "$work" 1500
  pack_initrd "$1" "$VM/initrd"
  rm -rf --one-file-system "$work"
  : >"$out/console"
  # The root disk is the same for all; what a machine writes there goes with it. Five
  # levels of page tables only cost emulation, as do the kernel's mitigations. One
  # processor, which is as quick as two: emulated side by side, they trip over the
  # breakpoints by which the kernel patches itself, and it dies of that ("Oops: int3").
  TMPDIR=$VM setpriv --pdeathsig KILL qemu-system-x86_64 -machine q35 -accel tcg,tb-size=1024 \
    -cpu max,la57=off -smp 1 -m "$VM_MEMORY" \
    -display none -monitor none -net none -no-reboot -serial "file:$out/console" \
    -kernel "$kernel/vmlinuz" -initrd "$VM/initrd" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 no_timer_check mitigations=off psi=1 $security init=$init systemd.unit=wisp-tests.service systemd.mask=timers.target systemd.firstboot=no systemd.show_status=0 ${WISP_VM_APPEND:-}" \
    -drive "file=$VM/root.img,if=virtio,format=raw,snapshot=on" \
    -drive "file=$work.img,if=virtio,format=raw,cache=unsafe" \
    ${third[@]+"${third[@]}"} </dev/null >"$out/qemu.log" 2>&1 &
  qemu_pid=$!
  weigh "$qemu_pid"
  tail -n +1 -f --pid=$qemu_pid "$out/console" | sed -un 's/\r//g; /^wisp-vm: /p; /Kernel panic/p' | record &
  wait_for_qemu "$limit" || rc=$?
  wait
  remove_cgroups wisp-test-vm
  collect "$work.img" "$out"
  rm -f "$work.img"
  return "$rc"
}

# record: shows what the machine says, and keeps the result of each case that has passed
# as it comes.
record() {
  local line words
  while IFS= read -r line; do
    echo "$line"
    read -ra words <<<"${line#wisp-vm: }"
    case ${words[1]:-} in
      ok | skipped) mkdir -p "$results/$group" && echo "${words[*]:1}" >"$results/$group/${words[0]%:}.status" ;;
    esac
  done
}

# weigh PID: all the weight that a cgroup can have, for many tests count seconds and the
# host may have other things to do.
weigh() {
  local type dir
  while read -r type dir; do
    [ -e "$dir/cpu.shares" ] || grep -qsw cpu "$dir/cgroup.subtree_control" || continue
    mkdir -p "$dir/wisp-test-vm"
    if [ "$type" = cgroup ]; then echo 262144 >"$dir/wisp-test-vm/cpu.shares"; else echo 10000 >"$dir/wisp-test-vm/cpu.weight"; fi
    echo "$1" >"$dir/wisp-test-vm/cgroup.procs"
  done < <(cgroup_mounts)
}

# wait_for_qemu SECONDS
wait_for_qemu() {
  local end=$((SECONDS + $1)) stat
  while read -r stat 2>/dev/null <"/proc/$qemu_pid/stat"; do
    stat=${stat##*) }
    [ "${stat%% *}" != Z ] || break
    if [ "$SECONDS" -ge "$end" ]; then
      say "the machine does not end within $1 s"
      stop_qemu
      return 1
    fi
    sleep 1
  done
  wait "$qemu_pid" || { say "qemu failed: $(cat "$out/qemu.log")" && return 1; }
}

# stop_qemu: what the machine has written is in its disk's file.
stop_qemu() {
  [ -n "${qemu_pid:-}" ] || return 0
  kill -KILL "$qemu_pid" 2>/dev/null || true
  wait "$qemu_pid" 2>/dev/null || true
  qemu_pid=
}

# collect DISK OUT: copies the directory out/ of an ext4 disk that was perhaps not
# unmounted, with no need to mount it here.
collect() {
  [ -e "$1" ] || return 0
  e2fsck -fy "$1" >/dev/null 2>&1 || true
  debugfs -R "rdump /out $2" "$1" 2>/dev/null >&2 || true
  cp -a "$2/out/." "$2/" 2>/dev/null || true
  rm -rf "$2/out"
}
