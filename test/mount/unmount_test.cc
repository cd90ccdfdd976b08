#include "mount/unmount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fmt/format.h"
#include "test/mount/private_mounts.h"

namespace wisp {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class UnmountTest : public PrivateMountsTest {
 protected:
  void Tmpfs(const std::string& path) {
    ASSERT_EQ(mount("x", path.c_str(), "tmpfs", 0, ""), 0) << path;
  }
  std::string Mounted(const std::string& name) {
    const std::string path = Directory(name);
    Tmpfs(path);
    return path;
  }
};

// An unmount under way in a thread.
class Unmounting {
 public:
  Unmounting(const std::string& target, const MountContext& context)
      : thread_([this, target, context] {
          tid_ = static_cast<int>(syscall(SYS_gettid));
          status_ = UnmountOne(target, context);
          done_ = true;
        }) {}
  // Until it has met EBUSY and pauses.
  bool WaitUntilItPauses() const {
    for (;;) {
      if (done_) return false;
      const auto call =
          ReadFile(fmt::format("/proc/self/task/{}/syscall", tid_.load()));
      if (call.ok() &&
          (call->starts_with(fmt::format("{} ", SYS_nanosleep)) ||
           call->starts_with(fmt::format("{} ", SYS_clock_nanosleep)))) {
        return true;
      }
      std::this_thread::yield();
    }
  }
  absl::Status Join() {
    thread_.join();
    return status_;
  }

 private:
  std::atomic<int> tid_ = 0;
  std::atomic<bool> done_ = false;
  absl::Status status_;
  std::thread thread_;
};

TEST_F(UnmountTest, WaitsForABusyMount) {
  const std::string target = Mounted("target");
  absl::StatusOr<UniqueFd> held = OpenFd(target, O_RDONLY);
  ASSERT_TRUE(held.ok());
  Unmounting unmounting(target, context_);
  EXPECT_TRUE(unmounting.WaitUntilItPauses());
  EXPECT_EQ(MountsAt(target), 1);  // still there: not detached
  held->Reset();
  const absl::Status status = unmounting.Join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(MountsAt(target), 0);
}

TEST_F(UnmountTest, GivesUpOnABusyMountWhileOthersGo) {
  const std::string busy = Mounted("busy");
  absl::StatusOr<UniqueFd> held = OpenFd(busy, O_RDONLY);
  ASSERT_TRUE(held.ok());
  std::vector<std::string> others;
  for (int i = 0; i < 4; ++i) others.push_back(Mounted(fmt::format("o{}", i)));

  const absl::Time begin = absl::Now();
  Unmounting stuck(busy, context_);
  EXPECT_TRUE(stuck.WaitUntilItPauses());
  std::vector<std::unique_ptr<Unmounting>> unmountings;
  for (const std::string& other : others) {
    unmountings.push_back(std::make_unique<Unmounting>(other, context_));
  }
  for (auto& unmounting : unmountings) EXPECT_TRUE(unmounting->Join().ok());
  EXPECT_EQ(Message(stuck.Join()),
            fmt::format("failed to unmount target {}: device or resource busy",
                        busy));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(2400));
  EXPECT_EQ(MountsAt(busy), 1);
}

TEST_F(UnmountTest, StopsWaitingWhenCancelled) {
  const std::string target = Mounted("target");
  absl::StatusOr<UniqueFd> held = OpenFd(target, O_RDONLY);
  ASSERT_TRUE(held.ok());
  std::atomic<bool> cancelled = false;
  context_.cancelled = &cancelled;
  Unmounting unmounting(target, context_);
  EXPECT_TRUE(unmounting.WaitUntilItPauses());
  cancelled = true;
  EXPECT_EQ(unmounting.Join().code(), absl::StatusCode::kCancelled);
}

TEST_F(UnmountTest, TellsThatNothingIsMounted) {
  const std::string target = Directory("target");
  EXPECT_EQ(UnmountOne(target, context_).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(UnmountAll(target, context_).ok());
  EXPECT_TRUE(UnmountAll("", context_).ok());
  EXPECT_TRUE(UnmountAll(root_ + "/missing", context_).ok());
  EXPECT_TRUE(UnmountRecursive(root_ + "/missing", context_).ok());
}

TEST_F(UnmountTest, TakesAWholeStack) {
  const std::string target = Mounted("target");
  Tmpfs(target);
  Tmpfs(target);
  EXPECT_EQ(MountsAt(target), 3);
  EXPECT_TRUE(UnmountAll(target, context_).ok());
  EXPECT_EQ(MountsAt(target), 0);
}

TEST_F(UnmountTest, TakesATreeAndLeavesItsNeighbours) {
  const std::string neighbour = Mounted("tree2");
  const std::string before = AllMounts();
  const std::string tree = Mounted("tree");
  Tmpfs(tree);
  for (const char* name : {"a", "a/b c", "a/b c/d", "e"}) {
    Tmpfs(Directory(std::string("tree/") + name));
  }
  ASSERT_EQ(symlink(tree.c_str(), (root_ + "/link").c_str()), 0);
  const absl::Status status = UnmountRecursive(root_ + "/link/.", context_);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(AllMounts(), before);
  EXPECT_EQ(MountsAt(neighbour), 1);
}

TEST_F(UnmountTest, DoesNotFollowASymlinkAtTheMountPoint) {
  const std::string other = Mounted("other");
  ASSERT_EQ(symlink(other.c_str(), (root_ + "/link").c_str()), 0);
  EXPECT_FALSE(UnmountOne(root_ + "/link", context_).ok());
  EXPECT_EQ(MountsAt(other), 1);
}

class FuseTest : public UnmountTest {
 protected:
  void SetUp() override {
    UnmountTest::SetUp();
    if (IsSkipped()) return;
    if (access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "no FUSE here";
  }
};

TEST_F(FuseTest, UnmountsWhatItsServerHasLeft) {
  const std::string target = Directory("target");
  absl::StatusOr<UniqueFd> server = OpenFd("/dev/fuse", O_RDWR);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string data =
      fmt::format("fd={},rootmode=40000,user_id=0,group_id=0", server->get());
  ASSERT_EQ(mount("x", target.c_str(), "fuse", 0, data.c_str()), 0);
  server->Reset();
  struct stat info;
  EXPECT_EQ(stat(target.c_str(), &info), -1);
  // The second in kernels that take the loss for a refused greeting (7.2).
  EXPECT_THAT(errno, AnyOf(ENOTCONN, ECONNREFUSED));
  const absl::Status status = UnmountRecursive(target, context_);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(MountsAt(target), 0);
}

TEST_F(FuseTest, AsksBothHelpersFirst) {
  // Its root is answered for by the kernel (statfs without permission to ask
  // the server reports FUSE's magic and zeros).
  const std::string target = Directory("target");
  absl::StatusOr<UniqueFd> server = OpenFd("/dev/fuse", O_RDWR);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string data = fmt::format(
      "fd={},rootmode=40000,user_id=12345,group_id=0", server->get());
  ASSERT_EQ(mount("x", target.c_str(), "fuse", 0, data.c_str()), 0);
  std::vector<std::string> asked;
  HelperRunner runner = [&asked](const std::vector<std::string>& argv) {
    asked.push_back(fmt::format("{}", fmt::join(argv, " ")));
    return absl::StatusOr<HelperResult>(HelperResult{1, ""});
  };
  context_.run_helper = &runner;
  EXPECT_TRUE(UnmountOne(target, context_).ok());
  EXPECT_THAT(asked, ElementsAre("fusermount3 -u " + target,
                                 "fusermount -u " + target));
  EXPECT_EQ(MountsAt(target), 0);
}

}  // namespace
}  // namespace wisp
