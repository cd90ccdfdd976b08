#include "cgroups/stats_v2.h"

#include <unistd.h>

#include <utility>

#include "cgroups/files.h"
#include "cgroups/stats.h"
#include "fmt/format.h"

namespace wisp::cgroup2 {
namespace {

constexpr std::pair<std::string_view, uint64_t Cpu::*> kCpuKeys[] = {
    {"usage_usec", &Cpu::usage_usec},
    {"user_usec", &Cpu::user_usec},
    {"system_usec", &Cpu::system_usec},
    {"nr_periods", &Cpu::nr_periods},
    {"nr_throttled", &Cpu::nr_throttled},
    {"throttled_usec", &Cpu::throttled_usec},
    {"nr_bursts", &Cpu::nr_bursts},
    {"burst_usec", &Cpu::burst_usec},
};

constexpr std::pair<std::string_view, uint64_t Memory::*> kMemoryKeys[] = {
    {"anon", &Memory::anon},
    {"file", &Memory::file},
    {"kernel_stack", &Memory::kernel_stack},
    {"slab", &Memory::slab},
    {"sock", &Memory::sock},
    {"shmem", &Memory::shmem},
    {"file_mapped", &Memory::file_mapped},
    {"file_dirty", &Memory::file_dirty},
    {"file_writeback", &Memory::file_writeback},
    {"anon_thp", &Memory::anon_thp},
    {"inactive_anon", &Memory::inactive_anon},
    {"active_anon", &Memory::active_anon},
    {"inactive_file", &Memory::inactive_file},
    {"active_file", &Memory::active_file},
    {"unevictable", &Memory::unevictable},
    {"slab_reclaimable", &Memory::slab_reclaimable},
    {"slab_unreclaimable", &Memory::slab_unreclaimable},
    {"pgfault", &Memory::pgfault},
    {"pgmajfault", &Memory::pgmajfault},
    {"workingset_refault", &Memory::workingset_refault},
    {"workingset_activate", &Memory::workingset_activate},
    {"workingset_nodereclaim", &Memory::workingset_nodereclaim},
    {"pgrefill", &Memory::pgrefill},
    {"pgscan", &Memory::pgscan},
    {"pgsteal", &Memory::pgsteal},
    {"pgactivate", &Memory::pgactivate},
    {"pgdeactivate", &Memory::pgdeactivate},
    {"pglazyfree", &Memory::pglazyfree},
    {"pglazyfreed", &Memory::pglazyfreed},
    {"thp_fault_alloc", &Memory::thp_fault_alloc},
    {"thp_collapse_alloc", &Memory::thp_collapse_alloc},
};

constexpr std::pair<std::string_view, uint64_t MemoryEvents::*> kEventKeys[] = {
    {"low", &MemoryEvents::low},
    {"high", &MemoryEvents::high},
    {"max", &MemoryEvents::max},
    {"oom", &MemoryEvents::oom},
    {"oom_kill", &MemoryEvents::oom_kill},
    {"oom_group_kill", &MemoryEvents::oom_group_kill},
};

// The files of one cgroup.
class Files {
 public:
  explicit Files(std::string directory) : directory_(std::move(directory)) {}

  std::string Path(std::string_view name) const {
    return fmt::format("{}/{}", directory_, name);
  }

  uint64_t Number(std::string_view name) const {
    const absl::StatusOr<std::string> text = ReadCgroupFile(Path(name));
    return text.ok() ? ParseSingleValue(*text) : 0;
  }

  std::optional<PsiStats> Pressure(std::string_view name) const {
    const absl::StatusOr<std::string> text = ReadCgroupFile(Path(name));
    return text.ok() ? ParsePressure(*text) : std::nullopt;
  }

  std::vector<RdmaEntry> RdmaEntries(std::string_view name) const {
    return ParseRdma(ReadCgroupFile(Path(name)).value_or(""));
  }

  // How many keys the file has; none if it is missing.
  template <typename T, size_t kSize>
  absl::StatusOr<std::optional<size_t>> Keys(
      std::string_view name,
      const std::pair<std::string_view, uint64_t T::*> (&table)[kSize],
      T& target) const {
    const absl::StatusOr<std::string> text = ReadCgroupFile(Path(name));
    if (absl::IsNotFound(text.status())) return std::nullopt;
    if (!text.ok()) return text.status();
    const absl::StatusOr<KeyValues> values = ParseKeyValues(*text);
    if (!values.ok()) return ParseError(name, values.status());
    Assign(*values, table, target);
    return values->size();
  }

  absl::Status ParseError(std::string_view name,
                          const absl::Status& status) const {
    return Unclassified(fmt::format("error while parsing {}", Path(name)),
                        status);
  }

 private:
  std::string directory_;
};

absl::Status ReadCpu(const Files& files, Cpu& cpu) {
  ASSIGN_OR_RETURN(const std::optional<size_t> keys,
                   files.Keys(cgroup_files::kCpuStat, kCpuKeys, cpu));
  if (keys) cpu.psi = files.Pressure(cgroup_files::kCpuPressure);
  return absl::OkStatus();
}

absl::Status ReadMemory(const Files& files, Memory& memory) {
  ASSIGN_OR_RETURN(const std::optional<size_t> keys,
                   files.Keys(cgroup_files::kMemoryStat, kMemoryKeys, memory));
  if (!keys) return absl::OkStatus();
  memory.usage = files.Number(cgroup_files::kMemoryCurrent);
  memory.usage_limit = files.Number(cgroup_files::kMemoryMax);
  memory.max_usage = files.Number(cgroup_files::kMemoryPeak);
  memory.swap_usage = files.Number(cgroup_files::kMemorySwapCurrent);
  memory.swap_limit = files.Number(cgroup_files::kMemorySwapMax);
  memory.swap_max_usage = files.Number(cgroup_files::kMemorySwapPeak);
  memory.psi = files.Pressure(cgroup_files::kMemoryPressure);
  return absl::OkStatus();
}

absl::Status ReadIo(const Files& files, Io& io) {
  const absl::StatusOr<std::string> text =
      ReadCgroupFile(files.Path(cgroup_files::kIoStat));
  absl::StatusOr<std::vector<IoEntry>> usage = ParseIoStat(text.value_or(""));
  if (!usage.ok()) {
    return files.ParseError(cgroup_files::kIoStat, usage.status());
  }
  io.usage = *std::move(usage);
  io.psi = files.Pressure(cgroup_files::kIoPressure);
  return absl::OkStatus();
}

Hugetlb ReadHugetlb(const Files& files, const std::string& size) {
  const std::string prefix = fmt::format("hugetlb.{}.", size);
  Hugetlb entry;
  entry.pagesize = size;
  entry.current = files.Number(prefix + "current");
  entry.max = files.Number(prefix + "max");
  static constexpr std::pair<std::string_view, uint64_t Hugetlb::*> kKeys[] = {
      {"max", &Hugetlb::failcnt}};
  (void)files.Keys(prefix + "events", kKeys, entry);
  return entry;
}

absl::Status ReadEvents(const Files& files,
                        std::optional<MemoryEvents>& result) {
  MemoryEvents events;
  ASSIGN_OR_RETURN(const std::optional<size_t> keys,
                   files.Keys(cgroup_files::kMemoryEvents, kEventKeys, events));
  if (keys && *keys > 0) result = events;
  return absl::OkStatus();
}

absl::Status ReadAllOf(const CgroupHost& host, const Files& files,
                       Metrics& metrics) {
  metrics.pids.current = files.Number(cgroup_files::kPidsCurrent);
  metrics.pids.limit = files.Number(cgroup_files::kPidsMax);
  RETURN_IF_ERROR(ReadCpu(files, metrics.cpu));
  RETURN_IF_ERROR(ReadMemory(files, metrics.memory));
  metrics.rdma.current = files.RdmaEntries(cgroup_files::kRdmaCurrent);
  metrics.rdma.limit = files.RdmaEntries(cgroup_files::kRdmaMax);
  RETURN_IF_ERROR(ReadIo(files, metrics.io));
  for (const std::string& size : HugePageSizes(host.huge_pages)) {
    metrics.hugetlb.push_back(ReadHugetlb(files, size));
  }
  return ReadEvents(files, metrics.memory_events);
}

}  // namespace

absl::StatusOr<Metrics> ReadMetrics(const CgroupHost& host,
                                    const Cgroup& cgroup) {
  const Files files(cgroup.directory());
  Metrics metrics;
  const absl::Status status = ReadAllOf(host, files, metrics);
  // Asked last: a cgroup that went while it was read has left zeros in any
  // place, or an error that says less.
  const std::string controllers = files.Path(cgroup_files::kControllers);
  if (access(controllers.c_str(), F_OK) != 0) {
    return ErrnoStatus(ENOENT, fmt::format("open {}", controllers));
  }
  if (!status.ok()) return status;
  return metrics;
}

}  // namespace wisp::cgroup2
