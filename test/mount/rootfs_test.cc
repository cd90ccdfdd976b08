#include "mount/rootfs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "fmt/format.h"
#include "test/mount/private_mounts.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RootfsTest : public PrivateMountsTest {
 protected:
  void SetUp() override {
    PrivateMountsTest::SetUp();
    if (!IsSkipped()) rootfs_ = Directory("rootfs");
  }
  // A mount whose file system brings a directory `sub`.
  Mount BindWithSub() {
    const std::string source = Directory("source");
    Directory("source/sub");
    return Mount{"bind", source, "", {"rbind", "rw"}};
  }
  std::string rootfs_;
};

TEST_F(RootfsTest, ResolvesSymlinksInsideTheRoot) {
  Directory("rootfs/etc");
  Directory("rootfs/etc/deep");
  ASSERT_EQ(symlink("/etc", (rootfs_ + "/absolute").c_str()), 0);
  ASSERT_EQ(symlink("../../../../etc", (rootfs_ + "/upwards").c_str()), 0);
  for (const char* target : {"/etc/deep", "etc/deep", "absolute/deep",
                             "upwards/deep", "../../../etc/deep"}) {
    const auto path = ResolveInRoot(rootfs_, target);
    ASSERT_TRUE(path.ok()) << path.status();
    EXPECT_EQ(*path, rootfs_ + "/etc/deep") << target;
  }
  for (const char* target : {"", "/", "..", "etc/../.."}) {
    const auto path = ResolveInRoot(rootfs_, target);
    ASSERT_TRUE(path.ok()) << path.status();
    EXPECT_EQ(*path, rootfs_) << target;
  }
}

TEST_F(RootfsTest, CreatesNoTarget) {
  EXPECT_EQ(Message(ResolveInRoot(rootfs_, "missing").status()),
            fmt::format("failed to join path \"missing\" with root \"{}\": "
                        "missing: no such file or directory",
                        rootfs_));
  const MountedRootfs result =
      MountAll(rootfs_, {{"tmpfs", "x", "missing", {}}}, context_);
  EXPECT_FALSE(result.status.ok());
  EXPECT_NE(access((rootfs_ + "/missing").c_str(), F_OK), 0);
}

TEST_F(RootfsTest, MountsIntoWhatAnEarlierMountBrought) {
  const std::string before = AllMounts();
  const MountedRootfs result =
      MountAll(rootfs_, {BindWithSub(), {"tmpfs", "x", "/sub", {}}}, context_);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.mount_points, ElementsAre(rootfs_, rootfs_ + "/sub"));
  EXPECT_EQ(MountsAt(rootfs_), 1);
  EXPECT_EQ(MountsAt(rootfs_ + "/sub"), 1);
  EXPECT_TRUE(UnmountInReverse(result.mount_points, context_).ok());
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(RootfsTest, UndoesAllWhenOneFails) {
  const std::string before = AllMounts();
  const MountedRootfs result = MountAll(
      rootfs_,
      {BindWithSub(), {"tmpfs", "x", "sub", {}}, {"nosuchfs", "x", "sub", {}}},
      context_);
  EXPECT_THAT(std::string(Message(result.status)),
              HasSubstr("err: no such device"));
  EXPECT_TRUE(result.undo_status.ok()) << result.undo_status;
  EXPECT_THAT(result.mount_points, IsEmpty());
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(RootfsTest, UndoesABindThatCannotBeMapped) {
  const std::string before = AllMounts();
  // /proc takes no id maps.
  const MountedRootfs result =
      MountAll(rootfs_,
               {{"bind",
                 "/proc",
                 "",
                 {"rbind", "uidmap=0:100000:10", "gidmap=0:100000:10"}}},
               context_);
  EXPECT_THAT(std::string(Message(result.status)),
              HasSubstr("failed to create idmapped mount: "));
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(RootfsTest, ReportsWhatItCouldNotUndo) {
  Mount bind = BindWithSub();
  UniqueFd held;
  HelperRunner hold = [&](const std::vector<std::string>&) {
    held = *OpenFd(rootfs_ + "/sub", O_RDONLY);
    return absl::StatusOr<HelperResult>(HelperResult{1, ""});
  };
  context_.run_helper = &hold;
  const MountedRootfs result =
      MountAll(rootfs_, {bind, {"fuse.x", "s", "", {}}}, context_);
  EXPECT_THAT(std::string(Message(result.status)),
              HasSubstr("mount helper [mount.fuse s"));
  EXPECT_THAT(std::string(Message(result.undo_status)),
              HasSubstr("device or resource busy"));
}

TEST_F(RootfsTest, StopsAndUndoesWhenCancelled) {
  const std::string before = AllMounts();
  std::atomic<bool> cancelled = false;
  HelperRunner cancel = [&cancelled](const std::vector<std::string>&) {
    cancelled = true;
    return absl::StatusOr<HelperResult>(HelperResult{0, ""});
  };
  context_.run_helper = &cancel;
  context_.cancelled = &cancelled;
  const MountedRootfs result = MountAll(
      rootfs_,
      {BindWithSub(), {"fuse.x", "s", "sub", {}}, {"tmpfs", "x", "sub", {}}},
      context_);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(result.undo_status.ok()) << result.undo_status;
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(RootfsTest, UnmountsForDelete) {
  const std::string before = AllMounts();
  const MountedRootfs result =
      MountAll(rootfs_, {BindWithSub(), {"tmpfs", "x", "sub", {}}}, context_);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(UnmountRootfs(rootfs_, context_).ok());
  EXPECT_EQ(AllMounts(), before);
  EXPECT_EQ(access((root_ + "/source/sub").c_str(), F_OK), 0);
}

TEST_F(RootfsTest, NamesTheRootfsThatStaysBusy) {
  ASSERT_EQ(mount("x", rootfs_.c_str(), "tmpfs", 0, ""), 0);
  absl::StatusOr<UniqueFd> held = OpenFd(rootfs_, O_RDONLY);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(Message(UnmountRootfs(rootfs_, context_)),
            fmt::format("failed rootfs umount: failed to unmount target {}: "
                        "device or resource busy",
                        rootfs_));
}

}  // namespace
}  // namespace wisp
