// The mounts of this process's mount namespace.
#ifndef WISP_MOUNT_MOUNT_INFO_H_
#define WISP_MOUNT_MOUNT_INFO_H_

#include <string>
#include <string_view>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// A line of /proc/PID/mountinfo, its octal escapes undone (proc(5)).
struct MountInfo {
  int id = 0;
  int parent = 0;
  std::string root;         // the directory of the file system mounted here
  std::string mount_point;  // absolute, free of symlinks
  std::string options;      // of this mount
  std::string type;
  std::string source;
  std::string super_options;
};

// In the file's order: of two mounts on one point the later one hides the
// other. Error: kInvalidArgument for a line that is none.
absl::StatusOr<std::vector<MountInfo>> ParseMountInfo(std::string_view text);

// Those of this process. Error: /proc cannot be read.
absl::StatusOr<std::vector<MountInfo>> ReadMountInfo();

// Whether `path` is `directory` or lies below it, by whole components. Both
// absolute and clean.
bool IsAtOrBelow(std::string_view path, std::string_view directory);

}  // namespace wisp

#endif  // WISP_MOUNT_MOUNT_INFO_H_
