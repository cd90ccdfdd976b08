#include "mount/mount_info.h"

#include <gtest/gtest.h>

namespace wisp {
namespace {

TEST(MountInfoTest, ReadsALineWithTags) {
  const auto mounts = ParseMountInfo(
      "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 master:2 - ext3 /dev/root "
      "rw,errors=continue\n");
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  ASSERT_EQ(mounts->size(), 1u);
  const MountInfo& mount = mounts->front();
  EXPECT_EQ(mount.id, 36);
  EXPECT_EQ(mount.parent, 35);
  EXPECT_EQ(mount.root, "/mnt1");
  EXPECT_EQ(mount.mount_point, "/mnt2");
  EXPECT_EQ(mount.options, "rw,noatime");
  EXPECT_EQ(mount.type, "ext3");
  EXPECT_EQ(mount.source, "/dev/root");
  EXPECT_EQ(mount.super_options, "rw,errors=continue");
}

TEST(MountInfoTest, UndoesOctalEscapes) {
  const auto mounts = ParseMountInfo(
      "1 2 0:3 / /a\\040b\\011c\\012d\\134e\\0 rw - tmpfs a\\040b rw");
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  EXPECT_EQ(mounts->front().mount_point, "/a b\tc\nd\\e\\0");
  EXPECT_EQ(mounts->front().source, "a b");
}

TEST(MountInfoTest, TakesAnEmptySource) {
  const auto mounts = ParseMountInfo("1 2 0:3 / /x rw - tmpfs  rw\n");
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  EXPECT_EQ(mounts->front().source, "");
  EXPECT_EQ(mounts->front().super_options, "rw");
}

TEST(MountInfoTest, RefusesWhatIsNoLine) {
  for (const char* text :
       {"x", "1 2 0:3 / /x rw tmpfs t rw", "a 2 0:3 / /x rw - tmpfs t rw",
        "1 2 0:3 / /x rw - tmpfs t", "- - - - - - - - -"}) {
    EXPECT_EQ(ParseMountInfo(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(MountInfoTest, SeesTheRootOfThisProcess) {
  const auto mounts = ReadMountInfo();
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  bool found = false;
  for (const MountInfo& mount : *mounts) found |= mount.mount_point == "/";
  EXPECT_TRUE(found);
}

TEST(MountInfoTest, ComparesPathsByComponents) {
  EXPECT_TRUE(IsAtOrBelow("/a/b", "/a/b"));
  EXPECT_TRUE(IsAtOrBelow("/a/b/c", "/a/b"));
  EXPECT_FALSE(IsAtOrBelow("/a/bc", "/a/b"));
  EXPECT_FALSE(IsAtOrBelow("/a", "/a/b"));
  EXPECT_TRUE(IsAtOrBelow("/a", "/"));
}

}  // namespace
}  // namespace wisp
