#include "cgroups/oom_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/cgroups/fake_tree.h"
#include "test/cgroups/real_cgroup.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;

class OomWatchTest : public testing::Test {
 protected:
  OomWatchTest() : loop_(*EventLoop::Create()) {}

  std::unique_ptr<OomWatch> Watch(const Cgroup& cgroup, int& reports) {
    absl::StatusOr<std::unique_ptr<OomWatch>> watch =
        OomWatch::Create(*loop_, cgroup, [&reports] { ++reports; });
    EXPECT_TRUE(watch.ok()) << watch.status();
    return watch.ok() ? *std::move(watch) : nullptr;
  }
  template <typename Condition>
  bool RunUntil(Condition condition) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (!condition()) {
      if (absl::Now() > limit) return false;
      loop_->RunOnce(absl::Milliseconds(100));
    }
    return true;
  }
  // Lets everything that is ready happen.
  void Drain() {
    for (int turn = 0; turn < 10; ++turn) loop_->RunOnce(absl::ZeroDuration());
  }

  std::unique_ptr<EventLoop> loop_;
};

class OomWatchV2Test : public OomWatchTest {
 protected:
  OomWatchV2Test() : tree_(CgroupMode::kV2) {
    tree_.Write("proc/7/cgroup", "0::/pod/c\n");
    SetKills(0);
    tree_.Write("cgroup/pod/memory.events", "oom_kill 0\n");
  }
  // Same length, so that the file is never seen short.
  void SetKills(int kills, int oom = 0) {
    tree_.Write("cgroup/pod/c/memory.events",
                fmt::format("low 0\nhigh 0\nmax 0\noom {:4}\noom_kill {:4}\n",
                            oom, kills));
  }
  Cgroup Load() { return *Cgroup::Load(tree_.host(), 7); }
  FakeTree tree_;
};

TEST_F(OomWatchV2Test, ReportsAnIncreaseOfOomKillOnly) {
  SetKills(3);
  int reports = 0;
  const auto watch = Watch(Load(), reports);
  Drain();
  EXPECT_EQ(reports, 0);  // those of before are not ours
  SetKills(3, /*oom=*/8);
  Drain();
  EXPECT_EQ(reports, 0);
  SetKills(5, 9);
  EXPECT_TRUE(RunUntil([&] { return reports == 1; }));
  EXPECT_EQ(watch->kills(), 2u);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kNone);
}

TEST_F(OomWatchV2Test, ReportsOnceASecondAtMost) {
  int reports = 0;
  const auto watch = Watch(Load(), reports);
  const absl::Time begin = absl::Now();
  for (int kills = 1; kills <= 100; ++kills) {
    SetKills(kills);
    Drain();
  }
  EXPECT_TRUE(RunUntil([&] { return reports == 2; }));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(990));
  EXPECT_EQ(watch->kills(), 100u);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kNone);
}

TEST_F(OomWatchV2Test, NeverCoalescesTheLastOneAway) {
  int reports = 0;
  const auto watch = Watch(Load(), reports);
  SetKills(1);
  EXPECT_TRUE(RunUntil([&] { return reports == 1; }));
  SetKills(2);
  Drain();  // seen, but it has to wait for its second
  EXPECT_EQ(reports, 1);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kOom);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kNone);
  SetKills(3);  // not seen by the loop at all
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kOom);
  // And nothing comes twice.
  loop_->RunOnce(absl::Milliseconds(1100));
  Drain();
  EXPECT_EQ(reports, 1);
}

TEST_F(OomWatchV2Test, HasNoTimerWhenIdle) {
  int reports = 0;
  const auto watch = Watch(Load(), reports);
  SetKills(1);
  EXPECT_TRUE(RunUntil([&] { return reports == 1; }));
  Drain();
  const absl::Time begin = absl::Now();
  loop_->RunOnce(absl::Milliseconds(1500));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(1490));
}

TEST_F(OomWatchV2Test, SaysNothingWithoutAMemoryController) {
  tree_.Remove("cgroup/pod/c");
  tree_.MakeDirectory("cgroup/pod/c");
  EXPECT_EQ(OomWatch::Create(*loop_, Load(), [] {}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(OomWatchV2Test, DescribesTheLimits) {
  int reports = 0;
  tree_.Write("cgroup/pod/c/memory.max", "16777216\n");
  tree_.Write("cgroup/pod/memory.max", "max\n");
  const auto watch = Watch(Load(), reports);
  const std::string text = watch->Describe();
  EXPECT_THAT(text, HasSubstr("memory.max=16777216"));
  EXPECT_THAT(text, HasSubstr("parent memory.max=max"));
}

// The real killer, v1.
class OomWatchV1Test : public OomWatchTest {
 protected:
  void SetUp() override {
    if (!RealV1Host(host_)) GTEST_SKIP() << "no writable cgroup v1 here";
  }
  static void Limit(const Cgroup& cgroup, int megabytes) {
    const std::string at = cgroup.directory("memory") + "/";
    const std::string limit = fmt::format("{}M", megabytes);
    const absl::Status status =
        WriteCgroupFile(at + cgroup_files::kMemoryLimit, limit);
    EXPECT_TRUE(status.ok()) << status;
    // Without swap accounting there is no such file.
    (void)WriteCgroupFile(at + "memory.memsw.limit_in_bytes", limit);
  }
  static bool OomKilled(ChildIn& child) {
    const int status = child.Wait();
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  CgroupHost host_;
};

TEST_F(OomWatchV1Test, ReportsARealKill) {
  RealCgroup real(host_);
  Limit(real.cgroup(), 16);
  int reports = 0;
  const auto watch = Watch(real.cgroup(), reports);
  ChildIn child(real.cgroup(), EatMemory);
  EXPECT_TRUE(OomKilled(child));
  EXPECT_TRUE(RunUntil([&] { return reports == 1; }));
  EXPECT_EQ(watch->kills(), 1u);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kNone);
  EXPECT_THAT(watch->Describe(), HasSubstr("memory.limit_in_bytes=16777216"));
}

TEST_F(OomWatchV1Test, KnowsOfAKillAtTheMomentItIsReaped) {
  for (int round = 0; round < 20; ++round) {
    RealCgroup real(host_);
    Limit(real.cgroup(), 4);
    int reports = 0;
    const auto watch = Watch(real.cgroup(), reports);
    ChildIn child(real.cgroup(), EatMemory);
    EXPECT_TRUE(OomKilled(child));
    EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kOom);
    Drain();
    EXPECT_EQ(reports, 0);
  }
}

TEST_F(OomWatchV1Test, TakesRemovalForNoKill) {
  int reports = 0;
  std::unique_ptr<OomWatch> watch;
  {
    RealCgroup real(host_);
    watch = Watch(real.cgroup(), reports);
    ChildIn child(real.cgroup(), [] {});
    child.Wait();
  }
  Drain();
  EXPECT_EQ(reports, 0);
  EXPECT_EQ(watch->FinalCheck(), OomWatch::Final::kNone);
}

TEST_F(OomWatchV1Test, BlamesOnlyTheContainerThatLostAProcess) {
  RealCgroup pod(host_);
  Limit(pod.cgroup(), 16);
  pod.Make(pod.path() + "/victim");
  pod.Make(pod.path() + "/other");
  int victim_reports = 0, other_reports = 0;
  const auto victim = Watch(pod.Find(pod.path() + "/victim"), victim_reports);
  const auto other = Watch(pod.Find(pod.path() + "/other"), other_reports);
  ChildIn bystander(pod.Find(pod.path() + "/other"), Sleep);
  ChildIn child(pod.Find(pod.path() + "/victim"), EatMemory);
  EXPECT_TRUE(OomKilled(child));
  EXPECT_TRUE(RunUntil([&] { return victim_reports == 1; }));
  EXPECT_EQ(other->FinalCheck(), OomWatch::Final::kNone);
  EXPECT_EQ(other_reports, 0);
}

TEST_F(OomWatchV1Test, CountsKillsInCgroupsBelow) {
  RealCgroup real(host_);
  Limit(real.cgroup(), 16);
  real.Make(real.path() + "/sub");
  int reports = 0;
  const auto watch = Watch(real.cgroup(), reports);
  ChildIn child(real.Find(real.path() + "/sub"), EatMemory);
  EXPECT_TRUE(OomKilled(child));
  EXPECT_TRUE(RunUntil([&] { return reports == 1; }));
  EXPECT_EQ(watch->kills(), 1u);
}

TEST_F(OomWatchV1Test, SurvivesAFloodOfKills) {
  RealCgroup real(host_);
  Limit(real.cgroup(), 4);
  int reports = 0;
  const auto watch = Watch(real.cgroup(), reports);
  const absl::Time begin = absl::Now();
  for (int kills = 0; kills < 60; ++kills) {
    ChildIn child(real.cgroup(), EatMemory);
    EXPECT_TRUE(OomKilled(child));
    Drain();
  }
  const bool last = watch->FinalCheck() == OomWatch::Final::kOom;
  EXPECT_EQ(watch->kills(), 60u);
  EXPECT_GE(reports + (last ? 1 : 0), 1);
  EXPECT_LE(reports, 2 + absl::ToInt64Seconds(absl::Now() - begin));
}

}  // namespace
}  // namespace wisp
