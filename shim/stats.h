// A cgroup's numbers in containerd's messages.
#ifndef WISP_SHIM_STATS_H_
#define WISP_SHIM_STATS_H_

#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "google/protobuf/any.pb.h"
#include "process/status_macros.h"

namespace wisp {

// io.containerd.cgroups.v1.Metrics or v2.Metrics, by the host's mode. Errors:
// those of ReadCgroupStats().
absl::StatusOr<google::protobuf::Any> ReadStats(const CgroupHost& host,
                                                const Cgroup& cgroup);

}  // namespace wisp

#endif  // WISP_SHIM_STATS_H_
