#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <variant>

#include "cgroups/stats.h"
#include "test/cgroups/fake_tree.h"
#include "test/cgroups/real_cgroup.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class StatsV2Test : public testing::Test {
 protected:
  StatsV2Test() : tree_(CgroupMode::kV2) {
    tree_.Write("proc/7/cgroup", "0::/c\n");
    Write("cgroup.controllers", "cpu memory\n");
  }
  void Write(const std::string& name, std::string_view text) {
    tree_.Write("cgroup/c/" + name, text);
  }
  absl::StatusOr<cgroup2::Metrics> Read() {
    const auto stats =
        ReadCgroupStats(tree_.host(), *Cgroup::Load(tree_.host(), 7));
    if (!stats.ok()) return stats.status();
    return std::get<cgroup2::Metrics>(*stats);
  }
  FakeTree tree_;
};

TEST_F(StatsV2Test, ReadsEveryFile) {
  tree_.MakeDirectory("hugepages/hugepages-2048kB");
  tree_.MakeDirectory("hugepages/hugepages-1048576kB");
  Write("pids.current", "3\n");
  Write("pids.max", "max\n");
  Write("cpu.stat",
        "usage_usec 1\nuser_usec 2\nsystem_usec 3\nnr_periods 4\n"
        "nr_throttled 5\nthrottled_usec 6\nnr_bursts 7\nburst_usec 8\n"
        "core_sched.force_idle_usec 9\n");
  Write("cpu.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n");
  Write("memory.stat", "anon 10\nfile 11\nthp_collapse_alloc 12\nnew_key 1\n");
  Write("memory.current", "13\n");
  Write("memory.max", "max\n");
  Write("memory.peak", "14\n");
  Write("memory.swap.current", "15\n");
  Write("memory.swap.max", "16\n");
  Write("memory.swap.peak", "17\n");
  Write("memory.events",
        "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n"
        "oom_group_kill 6\nsock_throttled 7\n");
  Write("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n");
  Write("rdma.current", "mlx hca_handle=1 hca_object=2\n");
  Write("rdma.max", "mlx hca_handle=max hca_object=max\n");
  Write("hugetlb.2MB.current", "18\n");
  Write("hugetlb.2MB.max", "max\n");
  Write("hugetlb.2MB.events", "max 19\n");

  const auto stats = Read();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->pids.current, 3u);
  EXPECT_EQ(stats->pids.limit, UINT64_MAX);
  EXPECT_EQ(stats->cpu.usage_usec, 1u);
  EXPECT_EQ(stats->cpu.user_usec, 2u);
  EXPECT_EQ(stats->cpu.system_usec, 3u);
  EXPECT_EQ(stats->cpu.nr_periods, 4u);
  EXPECT_EQ(stats->cpu.nr_throttled, 5u);
  EXPECT_EQ(stats->cpu.throttled_usec, 6u);
  EXPECT_EQ(stats->cpu.nr_bursts, 7u);
  EXPECT_EQ(stats->cpu.burst_usec, 8u);
  ASSERT_TRUE(stats->cpu.psi);
  EXPECT_EQ(stats->cpu.psi->some, (PsiData{1, 2, 3, 4}));
  EXPECT_EQ(stats->memory.anon, 10u);
  EXPECT_EQ(stats->memory.file, 11u);
  EXPECT_EQ(stats->memory.thp_collapse_alloc, 12u);
  EXPECT_EQ(stats->memory.usage, 13u);
  EXPECT_EQ(stats->memory.usage_limit, UINT64_MAX);
  EXPECT_EQ(stats->memory.max_usage, 14u);
  EXPECT_EQ(stats->memory.swap_usage, 15u);
  EXPECT_EQ(stats->memory.swap_limit, 16u);
  EXPECT_EQ(stats->memory.swap_max_usage, 17u);
  EXPECT_FALSE(stats->memory.psi);
  ASSERT_TRUE(stats->memory_events);
  EXPECT_EQ(stats->memory_events->max, 3u);
  EXPECT_EQ(stats->memory_events->oom, 4u);
  EXPECT_EQ(stats->memory_events->oom_kill, 5u);
  EXPECT_EQ(stats->memory_events->oom_group_kill, 6u);
  EXPECT_THAT(stats->io.usage, ElementsAre(IoEntry{8, 0, 1, 2, 3, 4}));
  EXPECT_THAT(stats->rdma.current, ElementsAre(RdmaEntry{"mlx", 1, 2}));
  EXPECT_THAT(stats->rdma.limit,
              ElementsAre(RdmaEntry{"mlx", UINT32_MAX, UINT32_MAX}));
  // One per size of the host, whether the cgroup has its files or not.
  ASSERT_EQ(stats->hugetlb.size(), 2u);
  EXPECT_EQ(stats->hugetlb[0].pagesize, "1GB");
  EXPECT_EQ(stats->hugetlb[0].max, 0u);
  EXPECT_EQ(stats->hugetlb[1].pagesize, "2MB");
  EXPECT_EQ(stats->hugetlb[1].current, 18u);
  EXPECT_EQ(stats->hugetlb[1].max, UINT64_MAX);
  EXPECT_EQ(stats->hugetlb[1].failcnt, 19u);
}

TEST_F(StatsV2Test, CountsMissingFilesAsZero) {
  Write("memory.current", "5\n");  // not read without memory.stat
  Write("cpu.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n");
  Write("memory.events", "");
  const auto stats = Read();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->memory.usage, 0u);
  EXPECT_FALSE(stats->cpu.psi);
  EXPECT_FALSE(stats->memory_events);
  EXPECT_THAT(stats->io.usage, IsEmpty());
  EXPECT_EQ(stats->pids.current, 0u);
}

TEST_F(StatsV2Test, TellsWhichFileIsMalformed) {
  for (const char* name :
       {"cpu.stat", "memory.stat", "memory.events", "io.stat"}) {
    Write(name, "8:0 x=1 y\nfoo\nbar baz rbytes=x\n8:0 rbytes=x\n");
    const absl::Status status = Read().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnknown) << name;
    EXPECT_THAT(std::string(Message(status)),
                StartsWith("error while parsing "));
    EXPECT_THAT(std::string(Message(status)), HasSubstr(name));
    tree_.Remove(std::string("cgroup/c/") + name);
  }
}

TEST_F(StatsV2Test, AnswersNotFoundOnceTheCgroupIsGone) {
  tree_.Remove("cgroup/c");
  const absl::Status status = Read().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status),
            fmt::format("open {}/c/cgroup.controllers: no such file or "
                        "directory",
                        tree_.host().root));
}

class StatsV1Test : public testing::Test {
 protected:
  StatsV1Test() : tree_(CgroupMode::kV1) {
    tree_.Write("proc/self/mountinfo",
                "1 2 0:3 / /x rw - cgroup cgroup rw,cpu,cpuacct,memory,blkio,"
                "pids,devices,hugetlb,rdma\n");
    tree_.Write("proc/7/cgroup",
                "1:cpu,cpuacct,memory,blkio,pids,devices,hugetlb,rdma:/c\n");
    tree_.MakeDirectory("hugepages/hugepages-2048kB");
    tree_.MakeDirectory("cgroup/devices/c");
  }
  void Write(const std::string& controller, const std::string& name,
             std::string_view text) {
    tree_.Write("cgroup/" + controller + "/c/" + name, text);
  }
  void WriteGroup(const std::string& prefix, int first) {
    for (const char* name : {"usage_in_bytes", "max_usage_in_bytes", "failcnt",
                             "limit_in_bytes"}) {
      Write("memory", prefix + name, fmt::format("{}\n", first++));
    }
  }
  absl::StatusOr<cgroup1::Metrics> Read() {
    const auto stats =
        ReadCgroupStats(tree_.host(), *Cgroup::Load(tree_.host(), 7));
    if (!stats.ok()) return stats.status();
    return std::get<cgroup1::Metrics>(*stats);
  }
  FakeTree tree_;
};

TEST_F(StatsV1Test, ReadsEveryController) {
  Write("pids", "pids.current", "3\n");
  Write("pids", "pids.max", "max\n");
  Write("cpu", "cpu.stat",
        "nr_periods 4\nnr_throttled 5\nthrottled_time 6\nnr_bursts 0\n");
  Write("cpuacct", "cpuacct.usage", "123\n");
  Write("cpuacct", "cpuacct.stat", "user 7\nsystem 8\n");
  Write("cpuacct", "cpuacct.usage_percpu", "100 23 \n");
  Write("memory", "memory.stat",
        "cache 1\npgpgin 2\nhierarchical_memsw_limit 3\n"
        "total_unevictable 4\nswap 5\n");
  Write("memory", "memory.oom_control",
        "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n");
  WriteGroup("memory.", 10);
  WriteGroup("memory.memsw.", 20);
  WriteGroup("memory.kmem.", 30);
  WriteGroup("memory.kmem.tcp.", 40);
  Write("hugetlb", "hugetlb.2MB.usage_in_bytes", "1\n");
  Write("hugetlb", "hugetlb.2MB.max_usage_in_bytes", "2\n");
  Write("hugetlb", "hugetlb.2MB.failcnt", "3\n");
  Write("rdma", "rdma.current", "mlx hca_handle=1 hca_object=2\n");
  Write("rdma", "rdma.max", "mlx hca_handle=max hca_object=max\n");
  Write("blkio", "blkio.throttle.io_serviced", "254:0 Read 9\nTotal 9\n");
  Write("blkio", "blkio.throttle.io_service_bytes", "254:0 Total 10\n");
  tree_.Write("proc/partitions", "x\n\n 254 0 1 vda\n");

  const auto stats = Read();
  ASSERT_TRUE(stats.ok()) << stats.status();
  ASSERT_TRUE(stats->pids);
  EXPECT_EQ(stats->pids->current, 3u);
  EXPECT_EQ(stats->pids->limit, 0u);
  EXPECT_EQ(stats->cpu_throttling.periods, 4u);
  EXPECT_EQ(stats->cpu_throttling.throttled_periods, 5u);
  EXPECT_EQ(stats->cpu_throttling.throttled_time, 6u);
  EXPECT_EQ(stats->cpu_usage.total, 123u);
  EXPECT_EQ(stats->cpu_usage.user, 70'000'000u);
  EXPECT_EQ(stats->cpu_usage.kernel, 80'000'000u);
  EXPECT_THAT(stats->cpu_usage.per_cpu, ElementsAre(100, 23));
  ASSERT_TRUE(stats->memory);
  EXPECT_EQ(stats->memory->cache, 1u);
  EXPECT_EQ(stats->memory->pg_pg_in, 2u);
  EXPECT_EQ(stats->memory->hierarchical_swap_limit, 3u);
  EXPECT_EQ(stats->memory->total_unevictable, 4u);
  EXPECT_EQ(stats->memory->usage.usage, 10u);
  EXPECT_EQ(stats->memory->usage.max, 11u);
  EXPECT_EQ(stats->memory->usage.failcnt, 12u);
  EXPECT_EQ(stats->memory->usage.limit, 13u);
  EXPECT_EQ(stats->memory->swap.usage, 20u);
  EXPECT_EQ(stats->memory->kernel.max, 31u);
  EXPECT_EQ(stats->memory->kernel_tcp.limit, 43u);
  ASSERT_TRUE(stats->memory_oom_control);
  EXPECT_EQ(stats->memory_oom_control->under_oom, 1u);
  EXPECT_EQ(stats->memory_oom_control->oom_kill, 2u);
  ASSERT_EQ(stats->hugetlb.size(), 1u);
  EXPECT_EQ(stats->hugetlb[0].usage, 1u);
  EXPECT_EQ(stats->hugetlb[0].max, 2u);
  EXPECT_EQ(stats->hugetlb[0].failcnt, 3u);
  EXPECT_EQ(stats->hugetlb[0].pagesize, "2MB");
  ASSERT_TRUE(stats->rdma);
  EXPECT_EQ(stats->rdma->limit.size(), 1u);
  ASSERT_TRUE(stats->blkio);
  EXPECT_THAT(stats->blkio->io_serviced_recursive,
              ElementsAre(BlkioEntry{"Read", "/dev/vda", 254, 0, 9}));
  EXPECT_THAT(stats->blkio->io_service_bytes_recursive,
              ElementsAre(BlkioEntry{"Total", "/dev/vda", 254, 0, 10}));
}

TEST_F(StatsV1Test, KeepsUsageOfAKernelWithoutSwapAccounting) {
  Write("memory", "memory.stat", "cache 1\n");
  Write("memory", "memory.oom_control", "oom_kill 0\n");
  WriteGroup("memory.", 10);
  WriteGroup("memory.kmem.", 30);
  const auto stats = Read();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->memory->usage.limit, 13u);
  EXPECT_EQ(stats->memory->swap.limit, 0u);
  EXPECT_EQ(stats->memory->kernel.usage, 0u);  // the order is containerd's
}

TEST_F(StatsV1Test, PrefersTheRecursiveBlkioFilesIfTheyHaveEntries) {
  for (const char* name :
       {"sectors_recursive", "io_service_bytes_recursive",
        "io_serviced_recursive", "io_queued_recursive",
        "io_service_time_recursive", "io_wait_time_recursive",
        "io_merged_recursive", "time_recursive"}) {
    Write("blkio", std::string("blkio.") + name, "");
  }
  Write("blkio", "blkio.throttle.io_serviced", "8:0 Read 1\n");
  Write("blkio", "blkio.throttle.io_service_bytes", "8:0 Read 2\n");
  EXPECT_THAT(Read()->blkio->io_serviced_recursive,
              ElementsAre(BlkioEntry{"Read", "", 8, 0, 1}));
  Write("blkio", "blkio.time_recursive", "8:0 3\n");
  const auto stats = Read();
  EXPECT_THAT(stats->blkio->io_serviced_recursive, IsEmpty());
  EXPECT_THAT(stats->blkio->io_time_recursive,
              ElementsAre(BlkioEntry{"", "", 8, 0, 3}));
}

TEST_F(StatsV1Test, LeavesOutControllersThatAreNotThere) {
  const auto stats = Read();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_FALSE(stats->pids);
  EXPECT_FALSE(stats->memory);
  EXPECT_FALSE(stats->blkio);
  EXPECT_EQ(stats->cpu_usage.total, 0u);
}

TEST_F(StatsV1Test, FailsForAMalformedFile) {
  Write("pids", "pids.current", "x\n");
  EXPECT_THAT(std::string(Message(Read().status())),
              StartsWith("error while parsing "));
}

TEST_F(StatsV1Test, AnswersNotFoundAsSoonAsOneHierarchyIsGone) {
  Write("pids", "pids.current", "1\n");
  Write("memory", "memory.stat", "cache 1\n");
  const Cgroup cgroup = *Cgroup::Load(tree_.host(), 7);
  tree_.Remove("cgroup/memory/c");
  const absl::Status status = ReadCgroupStats(tree_.host(), cgroup).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(status)),
              EndsWith("/memory/c: no such file or directory"));
}

// A child that has used some CPU and 8 MiB by now.
ChildIn BusyChild(const Cgroup& cgroup) {
  Pipe pipe = *MakePipe();
  ChildIn child(cgroup, [&pipe] {
    std::string memory(8 << 20, 'x');
    const absl::Time end = absl::Now() + absl::Milliseconds(20);
    while (absl::Now() < end) {
    }
    (void)!write(pipe.write_end.get(), memory.data(), 1);
    Sleep();
  });
  char byte;
  EXPECT_EQ(read(pipe.read_end.get(), &byte, 1), 1);
  return child;
}

TEST(StatsRealTest, ReadsARealV1Cgroup) {
  CgroupHost host;
  if (!RealV1Host(host)) GTEST_SKIP() << "no writable cgroup v1 here";
  RealCgroup real(host);
  ChildIn child = BusyChild(real.cgroup());
  const auto stats = ReadCgroupStats(host, real.cgroup());
  ASSERT_TRUE(stats.ok()) << stats.status();
  const auto& metrics = std::get<cgroup1::Metrics>(*stats);
  ASSERT_TRUE(metrics.pids);
  EXPECT_EQ(metrics.pids->current, 1u);
  EXPECT_EQ(metrics.pids->limit, 0u);
  ASSERT_TRUE(metrics.memory);
  EXPECT_GT(metrics.memory->usage.usage, 8u << 20);
  EXPECT_GT(metrics.memory->total_rss, 8u << 20);
  EXPECT_GT(metrics.memory->usage.limit, uint64_t{1} << 40);
  EXPECT_TRUE(metrics.memory_oom_control);
  EXPECT_TRUE(metrics.blkio);
  EXPECT_GT(metrics.cpu_usage.total, 0u);
  EXPECT_FALSE(metrics.cpu_usage.per_cpu.empty());
}

TEST(StatsRealTest, AnswersOkOrNotFoundWhileTheCgroupComesAndGoes) {
  CgroupHost host;
  if (!RealV1Host(host)) GTEST_SKIP() << "no writable cgroup v1 here";
  for (int round = 0; round < 50; ++round) {
    RealCgroup real(host);
    const Cgroup cgroup = real.cgroup();
    std::atomic<bool> gone = false;
    std::thread remover([&] {
      real.Remove();
      gone = true;
    });
    for (bool last = false; !last;) {
      last = gone;
      const absl::Status status = ReadCgroupStats(host, cgroup).status();
      EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
      EXPECT_FALSE(last && status.ok());
    }
    remover.join();
  }
}

TEST(StatsRealTest, ReadsARealV2Cgroup) {
  CgroupHost host;
  if (!RealV2Host(host)) GTEST_SKIP() << "no writable cgroup v2 here";
  RealCgroup real(host);
  const Cgroup cgroup = real.cgroup();
  {
    ChildIn child = BusyChild(cgroup);
    const auto stats = ReadCgroupStats(host, cgroup);
    ASSERT_TRUE(stats.ok()) << stats.status();
    // cpu.stat is there without a controller.
    EXPECT_GT(std::get<cgroup2::Metrics>(*stats).cpu.usage_usec, 0u);
  }
  real.Remove();
  const absl::Status status = ReadCgroupStats(host, cgroup).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(status)),
              EndsWith("cgroup.controllers: no such file or directory"));
}

}  // namespace
}  // namespace wisp
