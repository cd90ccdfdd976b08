// How this host has its cgroups.
#ifndef WISP_CGROUPS_HOST_H_
#define WISP_CGROUPS_HOST_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// A hybrid host (v1 with a cgroup2 at /sys/fs/cgroup/unified) is v1.
enum class CgroupMode { kV1, kV2 };

// Where to look; decided once. Tests give a tree of their own.
struct CgroupHost {
  CgroupMode mode = CgroupMode::kV2;
  std::string root = "/sys/fs/cgroup";  // v1: of all hierarchies
  std::string proc = "/proc";
  std::string huge_pages = "/sys/kernel/mm/hugepages";
  bool in_user_namespace = false;
};

// The host this process runs on. Error: /proc cannot be read.
absl::StatusOr<CgroupHost> DetectCgroupHost();

// The controllers of v1 that count here, in a fixed order.
std::vector<std::string> CgroupV1Controllers(const CgroupHost& host);

// Of each v1 controller (`name=systemd` is "systemd") the directory of its
// hierarchy that is mounted: not `/` where we run in a container ourselves. And
// under "" the directory that the first of the mounts lies in.
absl::StatusOr<std::map<std::string, std::string>> ParseCgroupMounts(
    std::string_view mountinfo);

}  // namespace wisp

#endif  // WISP_CGROUPS_HOST_H_
