// A mount namespace of the test's own.
#ifndef WISP_TEST_MOUNT_PRIVATE_MOUNTS_H_
#define WISP_TEST_MOUNT_PRIVATE_MOUNTS_H_

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "mount/context.h"
#include "mount/mount_info.h"
#include "process/fd.h"

namespace wisp {

// Each test gets `root_`, a tmpfs in a namespace that ends with the program.
class PrivateMountsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounts: needs root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("", "/", "", MS_REC | MS_PRIVATE, nullptr), 0);
    std::string name = testing::TempDir() + "wisp-mount-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    ASSERT_EQ(mount("wisp-test", root_.c_str(), "tmpfs", 0, ""), 0);
    context_.temporary_directory = root_;
  }

  void TearDown() override {
    if (root_.empty()) return;
    umount2(root_.c_str(), MNT_DETACH);
    rmdir(root_.c_str());
  }

  std::string Directory(const std::string& name) {
    const std::string path = root_ + "/" + name;
    EXPECT_EQ(mkdir(path.c_str(), 0755), 0) << path;
    return path;
  }

  static void WriteFile(const std::string& path, const std::string& text) {
    const absl::Status status = WriteFileAtomically(path, text, 0644, false);
    EXPECT_TRUE(status.ok()) << status;
  }

  static std::string Content(const std::string& path) {
    return ReadFile(path).value_or("(unreadable)");
  }

  static std::string AllMounts() {
    return ReadFile("/proc/thread-self/mountinfo").value_or("(unreadable)");
  }

  static int MountsAt(const std::string& path) {
    int count = 0;
    const auto mounts = ReadMountInfo();
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    for (const MountInfo& mount : *mounts) {
      if (mount.mount_point == path) ++count;
    }
    return count;
  }

  std::string root_;
  MountContext context_;
};

}  // namespace wisp

#endif  // WISP_TEST_MOUNT_PRIVATE_MOUNTS_H_
