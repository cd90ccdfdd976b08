// The options of a runc-like runtime for one container, free of protobuf.
#ifndef WISP_PROCESS_RUNC_OPTIONS_H_
#define WISP_PROCESS_RUNC_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace wisp {

inline constexpr std::string_view kDefaultRuntime = "runc";
inline constexpr std::string_view kDefaultRuntimeRoot = "/run/containerd/runc";

// As containerd.runc.v1.Options names them; an empty string is the default.
struct RuncOptions {
  bool no_pivot_root = false;
  bool no_new_keyring = false;
  std::string shim_cgroup;  // where `start` moves the shim
  uint32_t io_uid = 0;      // owner of the container's ends of its pipes
  uint32_t io_gid = 0;
  std::string binary_name;  // kDefaultRuntime; looked for in $PATH
  std::string root;         // kDefaultRuntimeRoot
  bool systemd_cgroup = false;
  std::string criu_image_path;
  std::string criu_work_path;  // BUNDLE/work

  friend bool operator==(const RuncOptions&, const RuncOptions&) = default;

  std::string Binary() const {
    return binary_name.empty() ? std::string(kDefaultRuntime) : binary_name;
  }
  // What the runtime gets as --root.
  std::string RootOf(std::string_view namespace_name) const {
    std::string path = root.empty() ? std::string(kDefaultRuntimeRoot) : root;
    path += '/';
    path += namespace_name;
    return path;
  }
};

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_OPTIONS_H_
