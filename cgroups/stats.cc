#include "cgroups/stats.h"

#include <algorithm>
#include <utility>

#include "cgroups/parse.h"
#include "process/fd.h"

namespace wisp {

absl::StatusOr<CgroupStats> ReadCgroupStats(const CgroupHost& host,
                                            const Cgroup& cgroup) {
  if (cgroup.mode() == CgroupMode::kV2) {
    ASSIGN_OR_RETURN(cgroup2::Metrics metrics,
                     cgroup2::ReadMetrics(host, cgroup));
    return CgroupStats(std::move(metrics));
  }
  ASSIGN_OR_RETURN(cgroup1::Metrics metrics,
                   cgroup1::ReadMetrics(host, cgroup));
  return CgroupStats(std::move(metrics));
}

std::vector<std::string> HugePageSizes(const std::string& directory) {
  std::vector<std::string> sizes;
  for (const std::string& name : ListDirectory(directory)) {
    std::string size = HugePageSize(name);
    if (!size.empty()) sizes.push_back(std::move(size));
  }
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

}  // namespace wisp
