# What a virtual machine boots: kernels, an initial RAM disk, disks. Sourced by bash
# after integration/{common,versions,debian}.sh. All of it is kept in $WISP_CACHE/vm,
# and made again when what it is made of has changed.
# shellcheck shell=bash

VM=$WISP_CACHE/vm
VM_IMAGE=docker.io/library/busybox:wisp

# What the machine has beside a minimal Debian testing.
VM_PACKAGES="systemd systemd-sysv dbus libpam-systemd kmod iproute2 procps util-linux
  containerd runc crun criu libcriu2 busybox-static apparmor uidmap rootlesskit e2fsprogs"

# kernel_suite KERNEL: `current` is Debian testing's, 5.10 that of Debian 11, the
# oldest that wisp supports.
kernel_suite() {
  case $1 in
    current) echo forky ;;
    5.10) echo bullseye ;;
    *) die "unknown kernel '$1' (known: current, 5.10)" ;;
  esac
}

# make_kernel KERNEL: Debian's cloud kernel, unpacked, in $VM/kernel/KERNEL: vmlinuz,
# modules/VERSION, and initrd/, the tree of its initial RAM disk but for its `init`.
make_kernel() {
  local dir=$VM/kernel/$1 suite mirror
  [ ! -e "$dir/done" ] || return 0
  suite=$(kernel_suite "$1")
  mirror=$(debian_mirror)
  [ -n "$mirror" ] || die "apt does not say where this Debian comes from"
  rm -rf --one-file-system "$dir"
  mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,packages,modules}
  : >"$dir/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] $mirror $suite main" >"$dir/sources"
  with_progress "kernel $1 of $suite" "$WISP_CACHE/log/vm-kernel-$1.log" fetch_kernel "$dir"
  rm -rf "$dir"/{state,cache,packages,status,sources}
  touch "$dir/done"
}

# fetch_kernel DIRECTORY: with an apt that knows of nothing but this suite.
fetch_kernel() {
  local dir=$1 packages package version options=()
  options=(-o "Dir::State=$dir/state" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache"
    -o "Dir::Etc::sourcelist=$dir/sources" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
  apt-get -q "${options[@]}" update || return
  packages=$(apt-get "${options[@]}" -s install --no-install-recommends linux-image-cloud-amd64 |
    sed -n 's/^Inst \(linux-\(image\|binary\|modules\|base\)-[0-9][^ ]*-cloud-amd64\) .*/\1/p') || return
  # shellcheck disable=SC2086
  (cd "$dir/packages" && apt-get -q "${options[@]}" download $packages) || return
  for package in "$dir"/packages/*.deb; do dpkg-deb -x "$package" "$dir/packages/all" || return; done
  # Old releases have /lib and the kernel in /boot, new ones all of it in one place.
  mv "$(find "$dir/packages/all" -type d -path '*/lib/modules/*' -prune | head -n 1)" "$dir/modules/" || return
  version=$(ls "$dir/modules") || return
  mv "$(find "$dir" -name 'vmlinuz*' | head -n 1)" "$dir/vmlinuz" || return
  make_initrd "$dir" "$version"
}

# make_initrd DIRECTORY VERSION: busybox, and the modules that the disks need.
make_initrd() {
  local dir=$1 version=$2 root=$1/initrd module tree=$1/packages/tree file
  mkdir -p "$tree/lib" "$root"/{bin,dev,proc,sys,root,modules} || return
  ln -sfn "$dir/modules" "$tree/lib/modules"
  depmod -b "$tree" "$version" || return
  cp /bin/busybox "$root/bin/" || return
  for module in virtio_pci virtio_blk ext4; do
    modprobe -d "$tree" -S "$version" --show-depends "$module" || return
  done >"$tree/order" || return
  # What is built in is named by another word.
  for module in $(awk '$1 == "insmod" && !seen[$2]++ { print $2 }' "$tree/order"); do
    file=${module##*/}
    file=${file%.xz}
    # busybox cannot unpack them, nor can an old kernel.
    if [ "${module%.xz}" = "$module" ]; then cp "$module" "$root/modules/$file"; else xz -dc "$module" >"$root/modules/$file"; fi || return
    echo "$file"
  done >"$root/modules/list" || return
}

# pack_initrd KERNEL FILE
pack_initrd() {
  install -m 755 "$WISP_SOURCE/test/vm/initrd_init" "$VM/kernel/$1/initrd/init"
  (cd "$VM/kernel/$1/initrd" && find . | cpio -o -H newc --quiet | gzip -1) >"$2"
}

# make_disk FILE DIRECTORY SPARE-MIB: an ext4 file system with what is in DIRECTORY and
# room for so much more.
make_disk() {
  local size
  size=$(du -sm --apparent-size "$2" | cut -f1)
  rm -f "$1"
  mke2fs -q -F -t ext4 -m 0 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 -d "$2" "$1" $((size * 5 / 4 + $3))M >/dev/null
}

# make_root_disk: $VM/root.img, Debian testing with all that tests need, the modules
# of all kernels, and the containerd that Debian does not package.
make_root_disk() {
  local kernel dir=$WISP_CACHE/roots/vm stage=$VM/stage version
  # shellcheck disable=SC2086
  make_root forky "$dir" $VM_PACKAGES
  [ ! "$VM/root.img" -nt "$dir/done" ] || return 0
  with_progress "disk of the machine" "$WISP_CACHE/log/vm-disk.log" fill_root_disk
}

fill_root_disk() {
  local root=$VM/stage kernel version
  rm -rf --one-file-system "$root" && mkdir -p "$VM" && cp -a "$WISP_CACHE/roots/vm/root" "$root" || return
  for kernel in $VM_KERNELS; do
    cp -a "$VM/kernel/$kernel/modules/." "$root/usr/lib/modules/" || return
  done
  for version in $VM_MODULE_VERSIONS; do
    mkdir -p "$root/opt/wisp/containerd/$version" "$root/opt/wisp/roots/forky/root" &&
      cp -a "$(binaries_of "$version")" "$root/opt/wisp/containerd/$version/" || return
  done
  mkdir -p "$root/work"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
  make_disk "$VM/root.img.new" "$root" 256 && mv "$VM/root.img.new" "$VM/root.img" || return
  rm -rf --one-file-system "$root"
}

# make_suite_disk VERSION: $VM/suite-VERSION.img, the root in which containerd's own
# tests have been compiled (see test/containerd), without what only the compiler needs.
make_suite_disk() {
  local dir=$WISP_CACHE/containerd-suite/$1
  [ -e "$dir/stamp.test" ] || "$WISP_SOURCE/test/containerd/setup" "$1"
  [ -e "$dir/stamp.images" ] || "$WISP_SOURCE/test/containerd/images" "$1"
  [ ! "$VM/suite-$1.img" -nt "$dir/stamp.test" ] || [ ! "$VM/suite-$1.img" -nt "$dir/stamp.images" ] || return 0
  with_progress "disk of containerd's tests $1" "$WISP_CACHE/log/vm-suite-$1.log" fill_suite_disk "$1"
}

fill_suite_disk() {
  local stage=$VM/stage image=$VM/suite-$1.img
  rm -rf --one-file-system "$stage" && mkdir -p "$stage" || return
  tar -C "$WISP_CACHE/containerd-suite/$1/root" -cf - --one-file-system --exclude=./itest/gocache --exclude=./itest/src \
    --exclude=./itest/releases --exclude='./usr/lib/go-*' --exclude=./usr/share/gocode --exclude='./usr/lib/gcc*' . |
    tar -C "$stage" -xf - || return
  make_disk "$image.new" "$stage" 256 && mv "$image.new" "$image" || return
  rm -rf --one-file-system "$stage"
}
