#include "shim/stats.h"

#include <string>
#include <variant>
#include <vector>

#include "cgroups/stats.h"
#include "proto/cgroups_v1.pb.h"
#include "proto/cgroups_v2.pb.h"

// Our structs have the names of the messages' fields.
#define COPY(field) to->set_##field(from.field)

namespace wisp {
namespace {

namespace v1 = io::containerd::cgroups::v1;
namespace v2 = io::containerd::cgroups::v2;

template <typename Message>
void CopyRdma(const std::vector<RdmaEntry>& entries,
              google::protobuf::RepeatedPtrField<Message>* list) {
  for (const RdmaEntry& from : entries) {
    Message* const to = list->Add();
    COPY(device);
    COPY(hca_handles);
    COPY(hca_objects);
  }
}

// ---- v1 ----

void CopyEntry(const cgroup1::MemoryEntry& from, v1::MemoryEntry* to) {
  COPY(limit);
  COPY(usage);
  COPY(max);
  COPY(failcnt);
}

void CopyMemory(const cgroup1::Memory& from, v1::MemoryStat* to) {
  COPY(cache);
  COPY(rss);
  COPY(rss_huge);
  COPY(mapped_file);
  COPY(dirty);
  COPY(writeback);
  COPY(pg_pg_in);
  COPY(pg_pg_out);
  COPY(pg_fault);
  COPY(pg_maj_fault);
  COPY(inactive_anon);
  COPY(active_anon);
  COPY(inactive_file);
  COPY(active_file);
  COPY(unevictable);
  COPY(hierarchical_memory_limit);
  COPY(hierarchical_swap_limit);
  COPY(total_cache);
  COPY(total_rss);
  COPY(total_rss_huge);
  COPY(total_mapped_file);
  COPY(total_dirty);
  COPY(total_writeback);
  COPY(total_pg_pg_in);
  COPY(total_pg_pg_out);
  COPY(total_pg_fault);
  COPY(total_pg_maj_fault);
  COPY(total_inactive_anon);
  COPY(total_active_anon);
  COPY(total_inactive_file);
  COPY(total_active_file);
  COPY(total_unevictable);
  CopyEntry(from.usage, to->mutable_usage());
  CopyEntry(from.swap, to->mutable_swap());
  CopyEntry(from.kernel, to->mutable_kernel());
  CopyEntry(from.kernel_tcp, to->mutable_kernel_tcp());
}

void CopyBlkio(const std::vector<BlkioEntry>& entries,
               google::protobuf::RepeatedPtrField<v1::BlkIOEntry>* list) {
  for (const BlkioEntry& from : entries) {
    v1::BlkIOEntry* const to = list->Add();
    COPY(op);
    COPY(device);
    COPY(major);
    COPY(minor);
    COPY(value);
  }
}

v1::Metrics ToMessage(const cgroup1::Metrics& stats) {
  v1::Metrics metrics;
  for (const cgroup1::Hugetlb& from : stats.hugetlb) {
    v1::HugetlbStat* const to = metrics.add_hugetlb();
    COPY(usage);
    COPY(max);
    COPY(failcnt);
    COPY(pagesize);
  }
  if (stats.pids.has_value()) {
    const cgroup1::Pids& from = *stats.pids;
    v1::PidsStat* const to = metrics.mutable_pids();
    COPY(current);
    COPY(limit);
  }
  {
    const cgroup1::CpuUsage& from = stats.cpu_usage;
    v1::CPUUsage* const to = metrics.mutable_cpu()->mutable_usage();
    COPY(total);
    COPY(kernel);
    COPY(user);
    to->mutable_per_cpu()->Add(from.per_cpu.begin(), from.per_cpu.end());
  }
  {
    const cgroup1::Throttle& from = stats.cpu_throttling;
    v1::Throttle* const to = metrics.mutable_cpu()->mutable_throttling();
    COPY(periods);
    COPY(throttled_periods);
    COPY(throttled_time);
  }
  if (stats.memory.has_value()) {
    CopyMemory(*stats.memory, metrics.mutable_memory());
  }
  if (stats.memory_oom_control.has_value()) {
    const cgroup1::MemoryOomControl& from = *stats.memory_oom_control;
    v1::MemoryOomControl* const to = metrics.mutable_memory_oom_control();
    COPY(oom_kill_disable);
    COPY(under_oom);
    COPY(oom_kill);
  }
  if (stats.blkio.has_value()) {
#define COPY_LIST(field) \
  CopyBlkio(stats.blkio->field, metrics.mutable_blkio()->mutable_##field())
    metrics.mutable_blkio();
    COPY_LIST(io_service_bytes_recursive);
    COPY_LIST(io_serviced_recursive);
    COPY_LIST(io_queued_recursive);
    COPY_LIST(io_service_time_recursive);
    COPY_LIST(io_wait_time_recursive);
    COPY_LIST(io_merged_recursive);
    COPY_LIST(io_time_recursive);
    COPY_LIST(sectors_recursive);
#undef COPY_LIST
  }
  if (stats.rdma.has_value()) {
    CopyRdma(stats.rdma->current, metrics.mutable_rdma()->mutable_current());
    CopyRdma(stats.rdma->limit, metrics.mutable_rdma()->mutable_limit());
  }
  return metrics;
}

// ---- v2 ----

void CopyPsiData(const PsiData& from, v2::PSIData* to) {
  COPY(avg10);
  COPY(avg60);
  COPY(avg300);
  COPY(total);
}

void CopyPsi(const PsiStats& from, v2::PSIStats* to) {
  if (from.some.has_value()) CopyPsiData(*from.some, to->mutable_some());
  if (from.full.has_value()) CopyPsiData(*from.full, to->mutable_full());
}

void CopyMemory(const cgroup2::Memory& from, v2::MemoryStat* to) {
  COPY(anon);
  COPY(file);
  COPY(kernel_stack);
  COPY(slab);
  COPY(sock);
  COPY(shmem);
  COPY(file_mapped);
  COPY(file_dirty);
  COPY(file_writeback);
  COPY(anon_thp);
  COPY(inactive_anon);
  COPY(active_anon);
  COPY(inactive_file);
  COPY(active_file);
  COPY(unevictable);
  COPY(slab_reclaimable);
  COPY(slab_unreclaimable);
  COPY(pgfault);
  COPY(pgmajfault);
  COPY(workingset_refault);
  COPY(workingset_activate);
  COPY(workingset_nodereclaim);
  COPY(pgrefill);
  COPY(pgscan);
  COPY(pgsteal);
  COPY(pgactivate);
  COPY(pgdeactivate);
  COPY(pglazyfree);
  COPY(pglazyfreed);
  COPY(thp_fault_alloc);
  COPY(thp_collapse_alloc);
  COPY(usage);
  COPY(usage_limit);
  COPY(swap_usage);
  COPY(swap_limit);
  COPY(max_usage);
  COPY(swap_max_usage);
  if (from.psi.has_value()) CopyPsi(*from.psi, to->mutable_psi());
}

void CopyCpu(const cgroup2::Cpu& from, v2::CPUStat* to) {
  COPY(usage_usec);
  COPY(user_usec);
  COPY(system_usec);
  COPY(nr_periods);
  COPY(nr_throttled);
  COPY(throttled_usec);
  COPY(nr_bursts);
  COPY(burst_usec);
  if (from.psi.has_value()) CopyPsi(*from.psi, to->mutable_psi());
}

v2::Metrics ToMessage(const cgroup2::Metrics& stats) {
  v2::Metrics metrics;
  metrics.mutable_pids()->set_current(stats.pids.current);
  metrics.mutable_pids()->set_limit(stats.pids.limit);
  CopyCpu(stats.cpu, metrics.mutable_cpu());
  CopyMemory(stats.memory, metrics.mutable_memory());
  metrics.mutable_rdma();
  CopyRdma(stats.rdma.current, metrics.mutable_rdma()->mutable_current());
  CopyRdma(stats.rdma.limit, metrics.mutable_rdma()->mutable_limit());
  metrics.mutable_io();
  for (const IoEntry& from : stats.io.usage) {
    v2::IOEntry* const to = metrics.mutable_io()->add_usage();
    COPY(major);
    COPY(minor);
    COPY(rbytes);
    COPY(wbytes);
    COPY(rios);
    COPY(wios);
  }
  if (stats.io.psi.has_value()) {
    CopyPsi(*stats.io.psi, metrics.mutable_io()->mutable_psi());
  }
  for (const cgroup2::Hugetlb& from : stats.hugetlb) {
    v2::HugeTlbStat* const to = metrics.add_hugetlb();
    COPY(current);
    COPY(max);
    COPY(pagesize);
    COPY(failcnt);
  }
  if (stats.memory_events.has_value()) {
    const cgroup2::MemoryEvents& from = *stats.memory_events;
    v2::MemoryEvents* const to = metrics.mutable_memory_events();
    COPY(low);
    COPY(high);
    COPY(max);
    COPY(oom);
    COPY(oom_kill);
    COPY(oom_group_kill);
  }
  return metrics;
}

}  // namespace

absl::StatusOr<google::protobuf::Any> ReadStats(const CgroupHost& host,
                                                const Cgroup& cgroup) {
  ASSIGN_OR_RETURN(const CgroupStats stats, ReadCgroupStats(host, cgroup));
  google::protobuf::Any any;
  std::visit(
      [&any](const auto& metrics) {
        const auto message = ToMessage(metrics);
        any.set_type_url(message.GetTypeName());
        any.set_value(message.SerializeAsString());
      },
      stats);
  return any;
}

}  // namespace wisp
