// One mount of a rootfs as the daemon sends it, and what its options mean.
#ifndef WISP_MOUNT_OPTIONS_H_
#define WISP_MOUNT_OPTIONS_H_

#include <string>
#include <string_view>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// containerd.types.Mount, field by field.
struct Mount {
  std::string type;
  std::string source;
  std::string target;  // inside the rootfs; empty: the rootfs itself
  std::vector<std::string> options;

  friend bool operator==(const Mount&, const Mount&) = default;
};

// Options sorted by who takes them.
struct MountOptions {
  unsigned long flags = 0;        // MS_*, none of the propagation
  unsigned long propagation = 0;  // MS_SHARED and the like, with their MS_REC
  std::vector<std::string> data;  // the file system's, in order
  std::string uid_map;            // CID:HID:SIZE[,...]
  std::string gid_map;
  bool loop = false;       // the source is a file that wants a loop device
  bool direct_io = false;  // of the loop device

  friend bool operator==(const MountOptions&, const MountOptions&) = default;
};

// Exact words; a later one overrides an earlier one. What is no known word is
// data for the file system, not unescaped, in order.
//
// The words are containerd's (core/mount/mount_linux.go), with two differences:
// `defaults` is dropped and the propagation words (`rslave` ...) are
// propagation. There both are data, which every kernel refuses.
//
// Error: kInvalidArgument for `X-containerd.*`, which was meant for the daemon
// and must never reach a kernel.
absl::StatusOr<MountOptions> ParseMountOptions(
    const std::vector<std::string>& options);

// The data as mount(2) takes it.
std::string JoinMountData(const std::vector<std::string>& data);

// `text` in double quotes, quotes and backslashes escaped, as Go's %q.
std::string Quoted(std::string_view text);

}  // namespace wisp

#endif  // WISP_MOUNT_OPTIONS_H_
