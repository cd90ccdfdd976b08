#include "cgroups/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/cgroups/fake_tree.h"
#include "test/cgroups/real_cgroup.h"

namespace wisp {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kMountinfo[] =
    "31 30 0:26 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:27 /pod /cg/memory rw - cgroup cgroup rw,memory\n"
    "33 30 0:28 / /cg/devices rw - cgroup cgroup rw,devices\n"
    "34 30 0:29 / /cg/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";

TEST(CgroupTest, LoadsV2FromTheLineWithoutControllers) {
  FakeTree tree(CgroupMode::kV2);
  tree.Write("proc/7/cgroup", "3:cpu:/x\n0::/pod/a:b\n");
  const auto cgroup = Cgroup::Load(tree.host(), 7);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(cgroup->directory(), tree.host().root + "/pod/a:b");
  EXPECT_EQ(cgroup->directory("memory"), cgroup->directory());
  EXPECT_FALSE(cgroup->Exists());
  tree.MakeDirectory("cgroup/pod/a:b");
  EXPECT_TRUE(cgroup->Exists());
}

TEST(CgroupTest, RefusesV2PathsThatLeadElsewhere) {
  FakeTree tree(CgroupMode::kV2);
  for (const char* path :
       {"/../x", "x", "/a//b", "/a/", "/a/./b", "", "/sys/fs/cgroup/x"}) {
    tree.Write("proc/7/cgroup", fmt::format("0::{}\n", path));
    const absl::Status status = Cgroup::Load(tree.host(), 7).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(std::string(Message(status)), HasSubstr("invalid group path"));
  }
  EXPECT_TRUE(absl::IsNotFound(Cgroup::Load(tree.host(), 8).status()));
}

TEST(CgroupTest, LoadsV1RelativeToWhatIsMounted) {
  FakeTree tree(CgroupMode::kV1);
  tree.Write("proc/self/mountinfo", kMountinfo);
  tree.Write("proc/7/cgroup",
             "5:name=systemd:/pod/c\n4:devices:/pod/c:1\n"
             "3:memory:/pod/c\n2:cpu,cpuacct:/pod/c\n1:pids:/pod/c\n0::/x\n");
  for (const char* at : {"systemd/pod/c", "devices/pod/c:1", "memory/c",
                         "cpu/pod/c", "pids/pod/c"}) {
    tree.MakeDirectory(std::string("cgroup/") + at);
  }
  const auto cgroup = Cgroup::Load(tree.host(), 7);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  const std::string& root = tree.host().root;
  EXPECT_EQ(cgroup->directory("systemd"), root + "/systemd/pod/c");
  EXPECT_EQ(cgroup->directory("devices"), root + "/devices/pod/c:1");
  EXPECT_EQ(cgroup->directory("memory"), root + "/memory/c");
  EXPECT_EQ(cgroup->directory("cpu"), root + "/cpu/pod/c");
  EXPECT_EQ(cgroup->directory("cpuacct"), "");  // no such directory
  EXPECT_EQ(cgroup->directory("pids"), "");     // not mounted
}

TEST(CgroupTest, WantsDevicesInV1OutsideAUserNamespace) {
  FakeTree tree(CgroupMode::kV1);
  tree.Write("proc/self/mountinfo", kMountinfo);
  tree.Write("proc/7/cgroup", "3:memory:/pod/c\n");
  tree.MakeDirectory("cgroup/memory/c");
  EXPECT_EQ(Cgroup::Load(tree.host(), 7).status().code(),
            absl::StatusCode::kFailedPrecondition);
  tree.host().in_user_namespace = true;
  const auto cgroup = Cgroup::Load(tree.host(), 7);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_EQ(cgroup->directory("memory"), tree.host().root + "/memory/c");
}

TEST(CgroupTest, TellsThatAllOfV1IsGone) {
  FakeTree tree(CgroupMode::kV1);
  tree.Write("proc/self/mountinfo", kMountinfo);
  tree.Write("proc/7/cgroup", "4:devices:/gone\n3:memory:/elsewhere\n");
  const absl::Status status = Cgroup::Load(tree.host(), 7).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "cgroup deleted");
}

TEST(CgroupTest, EnablesControllersInTheAncestorsOnly) {
  FakeTree tree(CgroupMode::kV2);
  tree.Write("proc/7/cgroup", "0::/a/b/c\n");
  tree.Write("cgroup/cgroup.controllers", "cpu memory pids\n");
  for (const char* at : {"", "a/", "a/b/", "a/b/c/"}) {
    tree.Write(fmt::format("cgroup/{}cgroup.subtree_control", at), "");
  }
  const absl::Status status = Cgroup::Load(tree.host(), 7)->EnableControllers();
  EXPECT_TRUE(status.ok()) << status;
  for (const char* at : {"", "a/", "a/b/"}) {
    EXPECT_EQ(tree.Read(fmt::format("cgroup/{}cgroup.subtree_control", at)),
              "+cpu +memory +pids")
        << at;
  }
  EXPECT_EQ(tree.Read("cgroup/a/b/c/cgroup.subtree_control"), "");
  // Every ancestor is tried; the last one's error counts.
  tree.Remove("cgroup/a/cgroup.subtree_control");
  EXPECT_TRUE(Cgroup::Load(tree.host(), 7)->EnableControllers().ok());
  tree.Remove("cgroup/a/b/cgroup.subtree_control");
  EXPECT_THAT(
      std::string(Message(Cgroup::Load(tree.host(), 7)->EnableControllers())),
      HasSubstr("failed to enable controllers ([cpu memory pids]): "));
}

TEST(CgroupTest, RefusesToFindUncleanPaths) {
  FakeTree tree(CgroupMode::kV2);
  tree.MakeDirectory("cgroup/a");
  EXPECT_TRUE(Cgroup::Find(tree.host(), "/a").ok());
  EXPECT_TRUE(Cgroup::Find(tree.host(), "/").ok());
  for (const char* path : {"a", "/a/../a", "/a/", ""}) {
    EXPECT_EQ(Cgroup::Find(tree.host(), path).status().code(),
              absl::StatusCode::kInvalidArgument)
        << path;
  }
  EXPECT_EQ(Cgroup::Find(tree.host(), "/b").status().code(),
            absl::StatusCode::kNotFound);
}

// The real kernel from here on, v1 and v2.
class RealCgroupTest : public testing::TestWithParam<CgroupMode> {
 protected:
  void SetUp() override {
    if (GetParam() == CgroupMode::kV1 ? !RealV1Host(host_)
                                      : !RealV2Host(host_)) {
      GTEST_SKIP() << "no writable cgroups of this kind here";
    }
  }
  static bool Killed(ChildIn& child) {
    const int status = child.Wait();
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  CgroupHost host_;
};

std::string ModeName(const testing::TestParamInfo<CgroupMode>& mode) {
  return mode.param == CgroupMode::kV1 ? "V1" : "V2";
}

INSTANTIATE_TEST_SUITE_P(Modes, RealCgroupTest,
                         testing::Values(CgroupMode::kV1, CgroupMode::kV2),
                         ModeName);

TEST_P(RealCgroupTest, LoadsThatOfAProcess) {
  RealCgroup real(host_);
  ChildIn child(real.cgroup(), Sleep);
  const auto cgroup = Cgroup::Load(host_, child.pid());
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  const char* controller = GetParam() == CgroupMode::kV1 ? "devices" : "";
  EXPECT_EQ(cgroup->directory(controller), real.cgroup().directory(controller));
  EXPECT_THAT(cgroup->directory("memory"),
              ::testing::EndsWith("/" + real.path().substr(1)));
  EXPECT_TRUE(cgroup->Exists());
}

TEST_P(RealCgroupTest, ListsProcessesBelowTooUntilItIsGone) {
  RealCgroup real(host_);
  real.Make(real.path() + "/sub");
  const Cgroup cgroup = real.cgroup();
  EXPECT_THAT(*cgroup.Procs(), IsEmpty());
  {
    ChildIn above(cgroup, Sleep);
    ChildIn below(real.Find(real.path() + "/sub"), Sleep);
    std::vector<pid_t> expected = {above.pid(), below.pid()};
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(*cgroup.Procs(), expected);
  }
  real.Remove();
  EXPECT_FALSE(cgroup.Exists());
  const absl::Status status = cgroup.Procs().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(status)),
              ::testing::EndsWith("no such file or directory"));
  EXPECT_TRUE(cgroup.KillAll().ok());
}

TEST_P(RealCgroupTest, KillsAllBelowAndNobodyElse) {
  RealCgroup real(host_);
  RealCgroup other(host_);
  real.Make(real.path() + "/sub");
  ChildIn bystander(other.cgroup(), Sleep);
  ChildIn above(real.cgroup(), Sleep);
  ChildIn below(real.Find(real.path() + "/sub"), Sleep);
  const absl::Status status = real.cgroup().KillAll();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Killed(above));
  EXPECT_TRUE(Killed(below));
  EXPECT_EQ(waitpid(bystander.pid(), nullptr, WNOHANG), 0);
}

TEST_P(RealCgroupTest, KillsWhatIsFrozenAndLeavesItThawed) {
  RealCgroup real(host_);
  const Cgroup cgroup = real.cgroup();
  ChildIn child(cgroup, Sleep);
  EXPECT_FALSE(*cgroup.IsFrozen());
  ASSERT_TRUE(cgroup.Freeze().ok());
  EXPECT_TRUE(*cgroup.IsFrozen());
  const absl::Status status = cgroup.KillAll();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Killed(child));
  ASSERT_TRUE(cgroup.Thaw().ok());
  EXPECT_FALSE(*cgroup.IsFrozen());
}

TEST_P(RealCgroupTest, ThawsWhatItFroze) {
  RealCgroup real(host_);
  const Cgroup cgroup = real.cgroup();
  Pipe pipe = *MakePipe();
  ChildIn child(cgroup, [&pipe] {
    char byte;
    (void)!read(pipe.read_end.get(), &byte, 1);
    _exit(byte);
  });
  ASSERT_TRUE(cgroup.Freeze().ok());
  ASSERT_TRUE(WriteAll(pipe.write_end.get(), "A").ok());
  EXPECT_EQ(waitpid(child.pid(), nullptr, WNOHANG), 0);
  ASSERT_TRUE(cgroup.Thaw().ok());
  EXPECT_EQ(WEXITSTATUS(child.Wait()), 'A');
}

TEST_P(RealCgroupTest, OutrunsProcessesThatFork) {
  RealCgroup real(host_);
  const Cgroup cgroup = real.cgroup();
  // One is always forking; the others sleep, and end by themselves if need be.
  ChildIn child(cgroup, [] {
    for (int i = 0; i < 300; ++i) {
      alarm(60);
      if (fork() != 0) Sleep();
      usleep(500);
    }
    Sleep();
  });
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (cgroup.Procs()->size() < 20 && absl::Now() < limit) {
    std::this_thread::yield();
  }
  EXPECT_GE(cgroup.Procs()->size(), 20u);
  const absl::Status status = cgroup.KillAll();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Killed(child));
  while (!cgroup.Procs()->empty() && absl::Now() < limit) {
    std::this_thread::yield();
  }
  EXPECT_THAT(*cgroup.Procs(), IsEmpty());
}

TEST_P(RealCgroupTest, RemovesItselfAndWhatIsBelow) {
  RealCgroup real(host_);
  real.Make(real.path() + "/child");
  real.Make(real.path() + "/child/grandchild");
  const Cgroup cgroup = real.cgroup();
  EXPECT_TRUE(cgroup.Remove().ok());
  EXPECT_FALSE(cgroup.Exists());
  EXPECT_TRUE(cgroup.Remove().ok());
}

TEST_P(RealCgroupTest, StaysWhileSomebodyIsInIt) {
  RealCgroup real(host_);
  real.Make(real.path() + "/empty");
  const Cgroup cgroup = real.cgroup();
  {
    const ChildIn child(cgroup, Sleep);
    EXPECT_EQ(cgroup.Remove().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(cgroup.Exists());
    EXPECT_FALSE(Cgroup::Find(host_, real.path() + "/empty").ok());
    EXPECT_TRUE(kill(child.pid(), 0) == 0);
  }
}

TEST_P(RealCgroupTest, RefusesToKillItself) {
  RealCgroup real(host_);
  // A child stands for the shim that shares the container's cgroup.
  ChildIn child(real.cgroup(), [&real] {
    const absl::Status status = real.cgroup().KillAll();
    _exit(absl::IsFailedPrecondition(status) ? 0 : 1);
  });
  const int status = child.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(RealCgroupTest, RefusesToKillARoot) {
  const Cgroup root = *Cgroup::Find(host_, "/");
  EXPECT_EQ(root.KillAll().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(root.Freeze().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(*root.IsFrozen());
}

TEST(CgroupHostTest, DetectsThisOne) {
  const auto host = DetectCgroupHost();
  ASSERT_TRUE(host.ok()) << host.status();
  struct statfs info;
  ASSERT_EQ(statfs("/sys/fs/cgroup", &info), 0);
  EXPECT_EQ(host->mode == CgroupMode::kV2, info.f_type == CGROUP2_SUPER_MAGIC);
  EXPECT_EQ(host->root, "/sys/fs/cgroup");
  const auto own = Cgroup::Load(*host, getpid());
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_TRUE(own->Exists());
}

}  // namespace
}  // namespace wisp
