// The kernel's names for what is in a cgroup, and reading and writing it.
#ifndef WISP_CGROUPS_FILES_H_
#define WISP_CGROUPS_FILES_H_

#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp::cgroup_files {

// v1 and v2.
inline constexpr char kProcs[] = "cgroup.procs";
inline constexpr char kMemoryStat[] = "memory.stat";
inline constexpr char kPidsCurrent[] = "pids.current";
inline constexpr char kPidsMax[] = "pids.max";
inline constexpr char kCpuStat[] = "cpu.stat";
inline constexpr char kRdmaCurrent[] = "rdma.current";
inline constexpr char kRdmaMax[] = "rdma.max";

// v2.
inline constexpr char kControllers[] = "cgroup.controllers";
inline constexpr char kSubtreeControl[] = "cgroup.subtree_control";
inline constexpr char kEvents[] = "cgroup.events";
inline constexpr char kKill[] = "cgroup.kill";      // Linux 5.14
inline constexpr char kFreeze[] = "cgroup.freeze";  // Linux 5.2
inline constexpr char kCpuPressure[] = "cpu.pressure";
inline constexpr char kMemoryCurrent[] = "memory.current";
inline constexpr char kMemoryMax[] = "memory.max";
inline constexpr char kMemoryPeak[] = "memory.peak";  // Linux 5.19
inline constexpr char kMemorySwapCurrent[] = "memory.swap.current";
inline constexpr char kMemorySwapMax[] = "memory.swap.max";
inline constexpr char kMemorySwapPeak[] = "memory.swap.peak";  // Linux 6.5
inline constexpr char kMemoryPressure[] = "memory.pressure";
inline constexpr char kMemoryEvents[] = "memory.events";
inline constexpr char kIoStat[] = "io.stat";
inline constexpr char kIoPressure[] = "io.pressure";

// v1.
inline constexpr char kFreezerState[] = "freezer.state";
inline constexpr char kEventControl[] = "cgroup.event_control";
inline constexpr char kMemoryOomControl[] = "memory.oom_control";
inline constexpr char kMemoryLimit[] = "memory.limit_in_bytes";
inline constexpr char kMemoryFailcnt[] = "memory.failcnt";
inline constexpr char kCpuacctUsage[] = "cpuacct.usage";
inline constexpr char kCpuacctStat[] = "cpuacct.stat";
inline constexpr char kCpuacctUsagePercpu[] = "cpuacct.usage_percpu";

}  // namespace wisp::cgroup_files

namespace wisp {

// A file of a cgroup, from its start. kNotFound if it, or its cgroup, is not
// there (any more): ENOENT, or ENODEV for one that was open when it went. Else
// kUnknown. Texts: `open PATH: <errno text>`, `read PATH: <errno text>`.
absl::StatusOr<std::string> ReadCgroupFile(const std::string& path);
// The same from `fd`, which stays at whatever offset it has.
absl::StatusOr<std::string> ReadCgroupFd(int fd, const std::string& path);

// One write(2), as the kernel wants it. Errors as above.
absl::Status WriteCgroupFile(const std::string& path, std::string_view value);

}  // namespace wisp

#endif  // WISP_CGROUPS_FILES_H_
