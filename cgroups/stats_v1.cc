#include "cgroups/stats_v1.h"

#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cgroups/files.h"
#include "cgroups/stats.h"
#include "fmt/format.h"

namespace wisp::cgroup1 {
namespace {

using Key = std::pair<std::string_view, uint64_t Memory::*>;
constexpr Key kMemoryKeys[] = {
    {"cache", &Memory::cache},
    {"rss", &Memory::rss},
    {"rss_huge", &Memory::rss_huge},
    {"mapped_file", &Memory::mapped_file},
    {"dirty", &Memory::dirty},
    {"writeback", &Memory::writeback},
    {"pgpgin", &Memory::pg_pg_in},
    {"pgpgout", &Memory::pg_pg_out},
    {"pgfault", &Memory::pg_fault},
    {"pgmajfault", &Memory::pg_maj_fault},
    {"inactive_anon", &Memory::inactive_anon},
    {"active_anon", &Memory::active_anon},
    {"inactive_file", &Memory::inactive_file},
    {"active_file", &Memory::active_file},
    {"unevictable", &Memory::unevictable},
    {"hierarchical_memory_limit", &Memory::hierarchical_memory_limit},
    {"hierarchical_memsw_limit", &Memory::hierarchical_swap_limit},
    {"total_cache", &Memory::total_cache},
    {"total_rss", &Memory::total_rss},
    {"total_rss_huge", &Memory::total_rss_huge},
    {"total_mapped_file", &Memory::total_mapped_file},
    {"total_dirty", &Memory::total_dirty},
    {"total_writeback", &Memory::total_writeback},
    {"total_pgpgin", &Memory::total_pg_pg_in},
    {"total_pgpgout", &Memory::total_pg_pg_out},
    {"total_pgfault", &Memory::total_pg_fault},
    {"total_pgmajfault", &Memory::total_pg_maj_fault},
    {"total_inactive_anon", &Memory::total_inactive_anon},
    {"total_active_anon", &Memory::total_active_anon},
    {"total_inactive_file", &Memory::total_inactive_file},
    {"total_active_file", &Memory::total_active_file},
    {"total_unevictable", &Memory::total_unevictable},
};

constexpr std::pair<std::string_view, uint64_t MemoryOomControl::*>
    kOomControlKeys[] = {
        {"oom_kill_disable", &MemoryOomControl::oom_kill_disable},
        {"under_oom", &MemoryOomControl::under_oom},
        {"oom_kill", &MemoryOomControl::oom_kill},
};

constexpr std::pair<std::string_view, uint64_t Throttle::*> kThrottleKeys[] = {
    {"nr_periods", &Throttle::periods},
    {"nr_throttled", &Throttle::throttled_periods},
    {"throttled_time", &Throttle::throttled_time},
};

constexpr std::pair<const char*, std::vector<BlkioEntry> Blkio::*>
    kBlkioFiles[] = {
        {"sectors_recursive", &Blkio::sectors_recursive},
        {"io_service_bytes_recursive", &Blkio::io_service_bytes_recursive},
        {"io_serviced_recursive", &Blkio::io_serviced_recursive},
        {"io_queued_recursive", &Blkio::io_queued_recursive},
        {"io_service_time_recursive", &Blkio::io_service_time_recursive},
        {"io_wait_time_recursive", &Blkio::io_wait_time_recursive},
        {"io_merged_recursive", &Blkio::io_merged_recursive},
        {"time_recursive", &Blkio::io_time_recursive},
};
constexpr std::pair<const char*, std::vector<BlkioEntry> Blkio::*>
    kThrottleFiles[] = {
        {"throttle.io_serviced", &Blkio::io_serviced_recursive},
        {"throttle.io_service_bytes", &Blkio::io_service_bytes_recursive},
};

absl::Status ParseError(const std::string& path, const absl::Status& status) {
  return Unclassified(fmt::format("error while parsing {}", path), status);
}

absl::Status ReadNumber(const std::string& path, uint64_t& number) {
  ASSIGN_OR_RETURN(const std::string text, ReadCgroupFile(path));
  const absl::StatusOr<uint64_t> value = ParseCgroupNumber(text, /*max=*/0);
  if (!value.ok()) return ParseError(path, value.status());
  number = *value;
  return absl::OkStatus();
}

template <typename T, size_t kSize>
absl::Status ReadKeys(
    const std::string& path,
    const std::pair<std::string_view, uint64_t T::*> (&table)[kSize],
    T& target) {
  ASSIGN_OR_RETURN(const std::string text, ReadCgroupFile(path));
  const absl::StatusOr<KeyValues> values = ParseKeyValues(text);
  if (!values.ok()) return ParseError(path, values.status());
  Assign(*values, table, target);
  return absl::OkStatus();
}

absl::Status ReadHugetlb(const std::string& at, const CgroupHost& host,
                         Metrics& metrics) {
  for (const std::string& size : HugePageSizes(host.huge_pages)) {
    Hugetlb entry;
    entry.pagesize = size;
    const std::string prefix = fmt::format("{}/hugetlb.{}.", at, size);
    RETURN_IF_ERROR(ReadNumber(prefix + "usage_in_bytes", entry.usage));
    RETURN_IF_ERROR(ReadNumber(prefix + "max_usage_in_bytes", entry.max));
    RETURN_IF_ERROR(ReadNumber(prefix + "failcnt", entry.failcnt));
    metrics.hugetlb.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

absl::Status ReadPids(const std::string& at, const CgroupHost&,
                      Metrics& metrics) {
  Pids pids;
  RETURN_IF_ERROR(
      ReadNumber(at + "/" + cgroup_files::kPidsCurrent, pids.current));
  // The root has no limit and no such file.
  RETURN_IF_ERROR(ReadNumber(at + "/" + cgroup_files::kPidsMax, pids.limit));
  metrics.pids = pids;
  return absl::OkStatus();
}

absl::Status ReadCpu(const std::string& at, const CgroupHost&,
                     Metrics& metrics) {
  return ReadKeys(at + "/" + cgroup_files::kCpuStat, kThrottleKeys,
                  metrics.cpu_throttling);
}

absl::Status ReadCpuacct(const std::string& at, const CgroupHost&,
                         Metrics& metrics) {
  CpuUsage& usage = metrics.cpu_usage;
  RETURN_IF_ERROR(
      ReadNumber(at + "/" + cgroup_files::kCpuacctUsage, usage.total));
  static constexpr std::pair<std::string_view, uint64_t CpuUsage::*> kKeys[] = {
      {"user", &CpuUsage::user}, {"system", &CpuUsage::kernel}};
  RETURN_IF_ERROR(
      ReadKeys(at + "/" + cgroup_files::kCpuacctStat, kKeys, usage));
  // In ticks of USER_HZ, which is 100 on every architecture we run on.
  constexpr uint64_t kNanosecondsPerTick = 1'000'000'000 / 100;
  usage.user *= kNanosecondsPerTick;
  usage.kernel *= kNanosecondsPerTick;

  const std::string file = at + "/" + cgroup_files::kCpuacctUsagePercpu;
  ASSIGN_OR_RETURN(const std::string text, ReadCgroupFile(file));
  for (absl::string_view field :
       absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    const absl::StatusOr<uint64_t> value = ParseCgroupNumber(View(field), 0);
    if (!value.ok()) return ParseError(file, value.status());
    usage.per_cpu.push_back(*value);
  }
  return absl::OkStatus();
}

absl::Status ReadMemory(const std::string& at, const CgroupHost&,
                        Metrics& metrics) {
  Memory memory;
  RETURN_IF_ERROR(
      ReadKeys(at + "/" + cgroup_files::kMemoryStat, kMemoryKeys, memory));
  metrics.memory = memory;
  MemoryOomControl oom_control;
  RETURN_IF_ERROR(ReadKeys(at + "/" + cgroup_files::kMemoryOomControl,
                           kOomControlKeys, oom_control));
  metrics.memory_oom_control = oom_control;
  static constexpr std::pair<const char*, MemoryEntry Memory::*> kGroups[] = {
      {"memory", &Memory::usage},
      {"memory.memsw", &Memory::swap},
      {"memory.kmem", &Memory::kernel},
      {"memory.kmem.tcp", &Memory::kernel_tcp},
  };
  for (const auto& [group, member] : kGroups) {
    MemoryEntry& entry = (*metrics.memory).*member;
    const std::string prefix = fmt::format("{}/{}.", at, group);
    RETURN_IF_ERROR(ReadNumber(prefix + "usage_in_bytes", entry.usage));
    RETURN_IF_ERROR(ReadNumber(prefix + "max_usage_in_bytes", entry.max));
    RETURN_IF_ERROR(ReadNumber(prefix + "failcnt", entry.failcnt));
    RETURN_IF_ERROR(ReadNumber(prefix + "limit_in_bytes", entry.limit));
  }
  return absl::OkStatus();
}

template <size_t kSize>
absl::Status ReadBlkioFiles(
    const std::string& at,
    const std::pair<const char*, std::vector<BlkioEntry> Blkio::*> (
        &files)[kSize],
    const DeviceNames& names, Blkio& blkio, bool& found) {
  for (const auto& [name, member] : files) {
    const std::string path = fmt::format("{}/blkio.{}", at, name);
    ASSIGN_OR_RETURN(const std::string text, ReadCgroupFile(path));
    absl::StatusOr<std::vector<BlkioEntry>> entries = ParseBlkio(text, names);
    if (!entries.ok()) return ParseError(path, entries.status());
    found |= !entries->empty();
    blkio.*member = *std::move(entries);
  }
  return absl::OkStatus();
}

absl::Status ReadBlkio(const std::string& at, const CgroupHost& host,
                       Metrics& metrics) {
  metrics.blkio.emplace();
  const DeviceNames names =
      ParsePartitions(ReadCgroupFile(host.proc + "/partitions").value_or(""));
  bool found = false;
  // CFQ's files, gone since Linux 5.0; what throttling counts is always there.
  if (access((at + "/blkio.io_serviced_recursive").c_str(), F_OK) == 0) {
    RETURN_IF_ERROR(
        ReadBlkioFiles(at, kBlkioFiles, names, *metrics.blkio, found));
  }
  if (found) return absl::OkStatus();
  return ReadBlkioFiles(at, kThrottleFiles, names, *metrics.blkio, found);
}

absl::Status ReadRdma(const std::string& at, const CgroupHost&,
                      Metrics& metrics) {
  Rdma rdma;
  ASSIGN_OR_RETURN(const std::string current,
                   ReadCgroupFile(at + "/" + cgroup_files::kRdmaCurrent));
  rdma.current = ParseRdma(current);
  ASSIGN_OR_RETURN(const std::string limit,
                   ReadCgroupFile(at + "/" + cgroup_files::kRdmaMax));
  rdma.limit = ParseRdma(limit);
  metrics.rdma = std::move(rdma);
  return absl::OkStatus();
}

struct Reader {
  const char* controller;
  absl::Status (*read)(const std::string& at, const CgroupHost& host,
                       Metrics& metrics);
};
constexpr Reader kReaders[] = {
    {"hugetlb", ReadHugetlb}, {"pids", ReadPids},     {"cpu", ReadCpu},
    {"cpuacct", ReadCpuacct}, {"memory", ReadMemory}, {"blkio", ReadBlkio},
    {"rdma", ReadRdma},
};

// The runtime removes one hierarchy after the other: as soon as one is gone,
// the others' numbers tell of a container that is going.
absl::Status CheckPresent(const Cgroup& cgroup) {
  for (const auto& [controller, path] : cgroup.paths()) {
    const std::string at = cgroup.directory(controller);
    struct stat info;
    if (stat(at.c_str(), &info) != 0) {
      return ErrnoStatus(ENOENT, fmt::format("stat {}", at));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Metrics> ReadMetrics(const CgroupHost& host,
                                    const Cgroup& cgroup) {
  Metrics metrics;
  absl::Status failed;
  for (const Reader& reader : kReaders) {
    const std::string at = cgroup.directory(reader.controller);
    if (at.empty()) continue;
    const absl::Status status = reader.read(at, host, metrics);
    if (!status.ok() && !absl::IsNotFound(status)) failed = status;
  }
  RETURN_IF_ERROR(CheckPresent(cgroup));
  if (!failed.ok()) return failed;
  return metrics;
}

}  // namespace wisp::cgroup1
