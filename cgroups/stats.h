// What a cgroup has used.
#ifndef WISP_CGROUPS_STATS_H_
#define WISP_CGROUPS_STATS_H_

#include <string>
#include <variant>
#include <vector>

#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "cgroups/stats_v1.h"
#include "cgroups/stats_v2.h"
#include "process/status_macros.h"

namespace wisp {

using CgroupStats = std::variant<cgroup1::Metrics, cgroup2::Metrics>;

// Reads them all; each controller is optional. Some twenty short reads, fit for
// the loop. Errors: kNotFound, with a text that ends in `no such file or
// directory`, if the cgroup is gone or went meanwhile: never the zeros that
// containerd >= 2.2 reports for one. kUnknown `error while parsing FILE: ...`
// for a file that no kernel wrote.
absl::StatusOr<CgroupStats> ReadCgroupStats(const CgroupHost& host,
                                            const Cgroup& cgroup);

// The host's huge page sizes, e.g. "2MB", sorted; empty if there are none.
std::vector<std::string> HugePageSizes(const std::string& directory);

}  // namespace wisp

#endif  // WISP_CGROUPS_STATS_H_
