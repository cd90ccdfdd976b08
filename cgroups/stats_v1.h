// The numbers of cgroup v1: io.containerd.cgroups.v1.Metrics, field by field.
// `network` and `cgroup_stats`, which no shim fills, are left out.
#ifndef WISP_CGROUPS_STATS_V1_H_
#define WISP_CGROUPS_STATS_V1_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "cgroups/parse.h"
#include "process/status_macros.h"

namespace wisp::cgroup1 {

struct Hugetlb {
  uint64_t usage = 0;
  uint64_t max = 0;
  uint64_t failcnt = 0;
  std::string pagesize;
};

struct Pids {
  uint64_t current = 0;
  uint64_t limit = 0;  // 0: none
};

struct CpuUsage {  // ns
  uint64_t total = 0;
  uint64_t kernel = 0;
  uint64_t user = 0;
  std::vector<uint64_t> per_cpu;
};

struct Throttle {
  uint64_t periods = 0;
  uint64_t throttled_periods = 0;
  uint64_t throttled_time = 0;  // ns
};

struct MemoryEntry {
  uint64_t limit = 0;
  uint64_t usage = 0;
  uint64_t max = 0;
  uint64_t failcnt = 0;
};

struct Memory {
  uint64_t cache = 0;
  uint64_t rss = 0;
  uint64_t rss_huge = 0;
  uint64_t mapped_file = 0;
  uint64_t dirty = 0;
  uint64_t writeback = 0;
  uint64_t pg_pg_in = 0;
  uint64_t pg_pg_out = 0;
  uint64_t pg_fault = 0;
  uint64_t pg_maj_fault = 0;
  uint64_t inactive_anon = 0;
  uint64_t active_anon = 0;
  uint64_t inactive_file = 0;
  uint64_t active_file = 0;
  uint64_t unevictable = 0;
  uint64_t hierarchical_memory_limit = 0;
  uint64_t hierarchical_swap_limit = 0;
  uint64_t total_cache = 0;
  uint64_t total_rss = 0;
  uint64_t total_rss_huge = 0;
  uint64_t total_mapped_file = 0;
  uint64_t total_dirty = 0;
  uint64_t total_writeback = 0;
  uint64_t total_pg_pg_in = 0;
  uint64_t total_pg_pg_out = 0;
  uint64_t total_pg_fault = 0;
  uint64_t total_pg_maj_fault = 0;
  uint64_t total_inactive_anon = 0;
  uint64_t total_active_anon = 0;
  uint64_t total_inactive_file = 0;
  uint64_t total_active_file = 0;
  uint64_t total_unevictable = 0;
  MemoryEntry usage;
  MemoryEntry swap;
  MemoryEntry kernel;
  MemoryEntry kernel_tcp;
};

struct MemoryOomControl {
  uint64_t oom_kill_disable = 0;
  uint64_t under_oom = 0;
  uint64_t oom_kill = 0;
};

struct Blkio {
  std::vector<BlkioEntry> io_service_bytes_recursive;
  std::vector<BlkioEntry> io_serviced_recursive;
  std::vector<BlkioEntry> io_queued_recursive;
  std::vector<BlkioEntry> io_service_time_recursive;
  std::vector<BlkioEntry> io_wait_time_recursive;
  std::vector<BlkioEntry> io_merged_recursive;
  std::vector<BlkioEntry> io_time_recursive;
  std::vector<BlkioEntry> sectors_recursive;
};

struct Rdma {
  std::vector<RdmaEntry> current;
  std::vector<RdmaEntry> limit;
};

// Absent is what has no controller, or none of its files.
struct Metrics {
  std::vector<Hugetlb> hugetlb;  // one per page size of the host
  std::optional<Pids> pids;
  CpuUsage cpu_usage;
  Throttle cpu_throttling;
  std::optional<Memory> memory;
  std::optional<MemoryOomControl> memory_oom_control;
  std::optional<Blkio> blkio;
  std::optional<Rdma> rdma;
};

// See ReadCgroupStats(). A file that is missing ends its controller: what was
// read before it stays (a kernel without memsw has usage, and neither swap nor
// kernel memory).
absl::StatusOr<Metrics> ReadMetrics(const CgroupHost& host,
                                    const Cgroup& cgroup);

}  // namespace wisp::cgroup1

#endif  // WISP_CGROUPS_STATS_V1_H_
