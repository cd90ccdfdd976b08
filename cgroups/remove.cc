#include <errno.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "cgroups/cgroup.h"
#include "cgroups/walk.h"
#include "fmt/format.h"

namespace wisp {
namespace {

void RemoveTree(const std::string& top, absl::Status* status) {
  std::vector<std::string> directories;
  ForEachCgroup(top, [&directories](const std::string& directory) {
    directories.push_back(directory);
  });
  // Children come after their parents.
  for (auto it = directories.rbegin(); it != directories.rend(); ++it) {
    if (rmdir(it->c_str()) == 0 || errno == ENOENT) continue;
    *status =
        errno == EBUSY || errno == ENOTEMPTY
            ? absl::FailedPreconditionError(fmt::format("{} is in use", *it))
            : ErrnoStatus(errno, fmt::format("rmdir {}", *it));
  }
}

}  // namespace

absl::Status Cgroup::Remove() const {
  absl::Status status;
  const std::string path = PathOf(ProcsController());
  // runc makes one there too on a host that has both.
  if (mode_ == CgroupMode::kV1 && !path.empty() && path != "/") {
    RemoveTree(fmt::format("{}/unified{}", root_, path), &status);
  }
  for (const auto& [controller, of_controller] : paths_) {
    if (of_controller != "/") RemoveTree(directory(controller), &status);
  }
  return status;
}

}  // namespace wisp
