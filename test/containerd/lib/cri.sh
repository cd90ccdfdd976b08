# Sourced inside the namespaces by testloop: containerd with its CRI plugin,
# kept running as an init system would, for tests that restart it.
prog_args=(-runtime-handler itest)

# Newer tests run some programs by their path: of containerd, and of the shim
# under its usual name, so that one stands for it.
if $prog -h 2>&1 | grep -q -- '-build-dir'; then
  mkdir -p /run/build
  ln -s "$(command -v containerd)" /run/build/containerd
  ln -s "$(command -v $shim)" /run/build/containerd-shim-runc-v2
  prog_args+=(-build-dir /run/build)
fi

# Where this machine does not let root lower oom_score_adj (no
# CAP_SYS_RESOURCE), the CRI plugin must not ask for it.
restrict=false
(echo $(($(cat /proc/self/oom_score_adj) - 1)) >/proc/self/oom_score_adj) 2>/dev/null || restrict=true

mkdir -p /run/cni.d
# a containerd that a test starts with a configuration of its own looks here
mkdir -p /etc/cni/net.d /opt/cni/bin
mount --bind /run/cni.d /etc/cni/net.d
mount --bind /usr/lib/cni /opt/cni/bin
cat >/run/cni.d/10-itest.conflist <<'END'
{
  "cniVersion": "0.4.0",
  "name": "itest",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "promiscMode": true,
      "ipam": { "type": "host-local",
        "ranges": [ [ { "subnet": "10.88.0.0/16" } ], [ { "subnet": "2001:4860:4860::/64" } ] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
END
case $v in
2.*) pause=$(sed -n 's/^[[:space:]]*Pause: *"\(.*\)",$/\1/p' images/*.go)
  cat >/run/cri.toml <<END
version = 3
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  socket_path = "/var/run/nri-test.sock"
  plugin_path = "/run/nri/plugins"
  plugin_config_path = "/run/nri/conf.d"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$pause"
[plugins.'io.containerd.cri.v1.runtime']
  drain_exec_sync_io_timeout = "10s"
  restrict_oom_score_adj = $restrict
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/run/cni.d"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "itest"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.itest]
  runtime_type = "$rt"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc-fp]
  runtime_type = "io.containerd.runc-fp.v1"
  pod_annotations = ["io.containerd.runtime.v2.shim.failpoint.*"]
END
  ;;
*) cat >/run/cri.toml <<END
version = 2
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "/var/run/nri-test.sock"
  plugin_path = "/run/nri/plugins"
  plugin_config_path = "/run/nri/conf.d"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.8"
  drain_exec_sync_io_timeout = "10s"
  restrict_oom_score_adj = $restrict
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/run/cni.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "itest"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.itest]
  runtime_type = "$rt"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc-fp]
  runtime_type = "io.containerd.runc-fp.v1"
  pod_annotations = ["io.containerd.runtime.v2.shim.failpoint.*"]
END
  ;;
esac

# cri_start NAME
cri_start() {
  local i
  touch /run/cri-loop
  (
    while [ -e /run/cri-loop ]; do
      containerd --config /run/cri.toml --log-level debug >>"$out/$1.containerd" 2>&1 </dev/null || true
      # tests that restart it look once a second that it is gone
      for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do [ ! -e /run/cri-loop ] || sleep 0.2; done
    done
  ) &
  cri_loop=$!
  for i in $(seq 100); do
    ctr version >/dev/null 2>&1 && return 0
    sleep 0.2
  done
  echo "containerd does not start:"
  tail -5 "$out/$1.containerd"
  return 1
}

cri_stop() {
  local p i
  rm -f /run/cri-loop
  # this is a pid namespace of our own
  for p in $(pidof containerd || true); do kill -TERM "$p" 2>/dev/null || true; done
  for i in $(seq 50); do
    kill -0 "$cri_loop" 2>/dev/null || break
    sleep 0.2
  done
}
