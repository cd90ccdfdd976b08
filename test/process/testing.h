// What the tests of process/ share: turning the loop until something happens,
// counting fds, a directory of one's own.
#ifndef WISP_TEST_PROCESS_TESTING_H_
#define WISP_TEST_PROCESS_TESTING_H_

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "process/event_loop.h"

#define WISP_ASSERT_OK(expr)                                           \
  do {                                                                 \
    const absl::Status wisp_test_status = (expr);                      \
    ASSERT_TRUE(wisp_test_status.ok()) << wisp_test_status.ToString(); \
  } while (false)

namespace wisp {

// Turns the loop until `done` holds. False after `limit`, which only a failing
// test reaches.
inline bool RunUntil(EventLoop& loop, absl::FunctionRef<bool()> done,
                     absl::Duration limit = absl::Seconds(30)) {
  const absl::Time end = absl::Now() + limit;
  while (!done()) {
    if (absl::Now() > end) return false;
    loop.RunOnce(absl::Milliseconds(50));
  }
  return true;
}

inline std::unique_ptr<EventLoop> MakeLoop() {
  absl::StatusOr<std::unique_ptr<EventLoop>> loop = EventLoop::Create();
  WISP_CHECK(loop.ok());
  return *std::move(loop);
}

// Open fds and what they are.
inline std::map<int, std::string> OpenFds() {
  std::map<int, std::string> fds;
  DIR* directory = opendir("/proc/self/fd");
  WISP_CHECK(directory != nullptr);
  while (const dirent* entry = readdir(directory)) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(directory)) continue;
    char target[256] = {};
    const std::string link = std::string("/proc/self/fd/") + entry->d_name;
    (void)!readlink(link.c_str(), target, sizeof(target) - 1);
    fds[fd] = target;
  }
  closedir(directory);
  return fds;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    path_ = testing::TempDir() + "wisp-XXXXXX";
    WISP_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace wisp

#endif  // WISP_TEST_PROCESS_TESTING_H_
