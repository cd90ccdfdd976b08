// The numbers of cgroup v2: io.containerd.cgroups.v2.Metrics, field by field.
// `network`, which no shim fills, is left out.
#ifndef WISP_CGROUPS_STATS_V2_H_
#define WISP_CGROUPS_STATS_V2_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "cgroups/parse.h"
#include "process/status_macros.h"

namespace wisp::cgroup2 {

// Limits: 2^64 - 1 is none.
struct Pids {
  uint64_t current = 0;
  uint64_t limit = 0;
};

struct Cpu {
  uint64_t usage_usec = 0;
  uint64_t user_usec = 0;
  uint64_t system_usec = 0;
  uint64_t nr_periods = 0;
  uint64_t nr_throttled = 0;
  uint64_t throttled_usec = 0;
  std::optional<PsiStats> psi;
  uint64_t nr_bursts = 0;
  uint64_t burst_usec = 0;
};

struct Memory {
  uint64_t anon = 0;
  uint64_t file = 0;
  uint64_t kernel_stack = 0;
  uint64_t slab = 0;
  uint64_t sock = 0;
  uint64_t shmem = 0;
  uint64_t file_mapped = 0;
  uint64_t file_dirty = 0;
  uint64_t file_writeback = 0;
  uint64_t anon_thp = 0;
  uint64_t inactive_anon = 0;
  uint64_t active_anon = 0;
  uint64_t inactive_file = 0;
  uint64_t active_file = 0;
  uint64_t unevictable = 0;
  uint64_t slab_reclaimable = 0;
  uint64_t slab_unreclaimable = 0;
  uint64_t pgfault = 0;
  uint64_t pgmajfault = 0;
  uint64_t workingset_refault = 0;
  uint64_t workingset_activate = 0;
  uint64_t workingset_nodereclaim = 0;
  uint64_t pgrefill = 0;
  uint64_t pgscan = 0;
  uint64_t pgsteal = 0;
  uint64_t pgactivate = 0;
  uint64_t pgdeactivate = 0;
  uint64_t pglazyfree = 0;
  uint64_t pglazyfreed = 0;
  uint64_t thp_fault_alloc = 0;
  uint64_t thp_collapse_alloc = 0;
  uint64_t usage = 0;
  uint64_t usage_limit = 0;
  uint64_t swap_usage = 0;
  uint64_t swap_limit = 0;
  uint64_t max_usage = 0;
  uint64_t swap_max_usage = 0;
  std::optional<PsiStats> psi;
};

struct MemoryEvents {
  uint64_t low = 0;
  uint64_t high = 0;
  uint64_t max = 0;
  uint64_t oom = 0;
  uint64_t oom_kill = 0;
  uint64_t oom_group_kill = 0;
};

struct Rdma {
  std::vector<RdmaEntry> current;
  std::vector<RdmaEntry> limit;
};

struct Io {
  std::vector<IoEntry> usage;
  std::optional<PsiStats> psi;
};

struct Hugetlb {
  uint64_t current = 0;
  uint64_t max = 0;
  std::string pagesize;
  uint64_t failcnt = 0;
};

// What is no optional is always sent, zeros and all.
struct Metrics {
  Pids pids;
  Cpu cpu;
  Memory memory;
  Rdma rdma;
  Io io;
  std::vector<Hugetlb> hugetlb;  // one per page size of the host
  std::optional<MemoryEvents> memory_events;
};

// See ReadCgroupStats(). Without cpu.stat, or memory.stat, nothing else of that
// controller is read; any other missing file counts as zero.
absl::StatusOr<Metrics> ReadMetrics(const CgroupHost& host,
                                    const Cgroup& cgroup);

}  // namespace wisp::cgroup2

#endif  // WISP_CGROUPS_STATS_V2_H_
