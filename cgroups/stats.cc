#include "cgroups/stats.h"

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "cgroups/parse.h"

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
  struct Close {
    void operator()(DIR* stream) const { closedir(stream); }
  };
  std::vector<std::string> sizes;
  const std::unique_ptr<DIR, Close> stream(opendir(directory.c_str()));
  if (stream == nullptr) return sizes;
  while (const dirent* entry = readdir(stream.get())) {
    std::string size = HugePageSize(entry->d_name);
    if (!size.empty()) sizes.push_back(std::move(size));
  }
  std::sort(sizes.begin(), sizes.end());
  return sizes;
}

}  // namespace wisp
