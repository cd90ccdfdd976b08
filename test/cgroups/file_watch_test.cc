#include "cgroups/file_watch.h"

#include <gtest/gtest.h>

#include "test/cgroups/fake_tree.h"
#include "test/cgroups/real_cgroup.h"

namespace wisp {
namespace {

class FileWatchTest : public testing::Test {
 protected:
  FileWatchTest() : loop_(*EventLoop::Create()) {}

  // Watches `path`, keeping what it says in `content_`.
  void Watch(const std::string& path) {
    absl::StatusOr<UniqueFd> fd = OpenFd(path, O_RDONLY);
    ASSERT_TRUE(fd.ok()) << fd.status();
    fd_ = *std::move(fd);
    absl::StatusOr<FileWatch> watch =
        FileWatch::Create(*loop_, fd_.get(), path, [this, path] {
          const auto text = ReadCgroupFd(fd_.get(), path);
          content_ = text.value_or("(gone)");
          if (!text.ok()) watch_.Reset();
          ++changes_;
        });
    ASSERT_TRUE(watch.ok()) << watch.status();
    watch_ = *std::move(watch);
    content_ = ReadCgroupFd(fd_.get(), path).value_or("");
  }
  bool RunUntilContent(const std::string& part) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (content_.find(part) == std::string::npos) {
      if (absl::Now() > limit) return false;
      loop_->RunOnce(absl::Milliseconds(100));
    }
    return true;
  }
  // Turns of the loop until it would wait; false if it never would.
  bool Settles() {
    for (int turn = 0; turn < 100; ++turn) {
      const int before = changes_;
      loop_->RunOnce(absl::ZeroDuration());
      if (changes_ == before) return true;
    }
    return false;
  }

  std::unique_ptr<EventLoop> loop_;
  UniqueFd fd_;
  FileWatch watch_;
  std::string content_;
  int changes_ = 0;
};

TEST_F(FileWatchTest, FollowsARealKernelFileAndNoticesItsEnd) {
  CgroupHost host;
  if (!RealV2Host(host)) GTEST_SKIP() << "no writable cgroup v2 here";
  RealCgroup real(host);
  Watch(real.cgroup().directory() + "/" + cgroup_files::kEvents);
  EXPECT_NE(content_.find("populated 0"), std::string::npos);
  EXPECT_TRUE(Settles());
  {
    ChildIn child(real.cgroup(), Sleep);
    EXPECT_TRUE(RunUntilContent("populated 1"));
    EXPECT_TRUE(Settles());
  }
  EXPECT_TRUE(RunUntilContent("populated 0"));
  real.Remove();
  EXPECT_TRUE(Settles());
}

TEST_F(FileWatchTest, FollowsAPlainFile) {
  FakeTree tree(CgroupMode::kV2);
  tree.Write("cgroup/c/memory.events", "oom_kill 0\n");
  Watch(tree.host().root + "/c/memory.events");
  EXPECT_TRUE(Settles());
  EXPECT_EQ(changes_, 0);
  tree.Write("cgroup/c/memory.events", "oom_kill 1\n");
  EXPECT_TRUE(RunUntilContent("oom_kill 1"));
  tree.Remove("cgroup/c");
  EXPECT_TRUE(Settles());
}

TEST_F(FileWatchTest, SaysNothingAfterItsEnd) {
  FakeTree tree(CgroupMode::kV2);
  tree.Write("cgroup/c/memory.events", "oom_kill 0\n");
  Watch(tree.host().root + "/c/memory.events");
  tree.Write("cgroup/c/memory.events", "oom_kill 1\n");
  watch_.Reset();
  EXPECT_FALSE(watch_.active());
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(changes_, 0);
}

}  // namespace
}  // namespace wisp
