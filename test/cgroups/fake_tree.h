// A cgroup hierarchy of plain files.
#ifndef WISP_TEST_CGROUPS_FAKE_TREE_H_
#define WISP_TEST_CGROUPS_FAKE_TREE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "cgroups/files.h"
#include "cgroups/host.h"
#include "process/fd.h"

namespace wisp {

// Ends with its owner. `host()` looks into it.
class FakeTree {
 public:
  explicit FakeTree(CgroupMode mode) {
    root_ = testing::TempDir() + "wisp-cgroup-XXXXXX";
    EXPECT_NE(mkdtemp(root_.data()), nullptr);
    host_.mode = mode;
    host_.root = root_ + "/cgroup";
    host_.proc = root_ + "/proc";
    host_.huge_pages = root_ + "/hugepages";
  }
  ~FakeTree() {
    std::error_code error;
    std::filesystem::remove_all(root_, error);
  }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;

  CgroupHost& host() { return host_; }

  // Writes root/`path`, in place if it is there.
  void Write(const std::string& path, std::string_view text) const {
    const std::filesystem::path full = root_ + "/" + path;
    std::error_code error;
    std::filesystem::create_directories(full.parent_path(), error);
    absl::StatusOr<UniqueFd> fd = OpenFd(full, O_WRONLY | O_CREAT, 0644);
    ASSERT_TRUE(fd.ok()) << fd.status();
    ASSERT_EQ(pwrite(fd->get(), text.data(), text.size(), 0),
              static_cast<ssize_t>(text.size()));
    ASSERT_EQ(ftruncate(fd->get(), static_cast<off_t>(text.size())), 0);
  }
  void MakeDirectory(const std::string& path) const {
    std::error_code error;
    std::filesystem::create_directories(root_ + "/" + path, error);
  }
  void Remove(const std::string& path) const {
    std::error_code error;
    std::filesystem::remove_all(root_ + "/" + path, error);
  }
  std::string Read(const std::string& path) const {
    return ReadFile(root_ + "/" + path).value_or("(unreadable)");
  }

 private:
  std::string root_;
  CgroupHost host_;
};

}  // namespace wisp

#endif  // WISP_TEST_CGROUPS_FAKE_TREE_H_
