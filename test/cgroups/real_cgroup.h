// Cgroups of the test's own on the host, v1 and v2, and processes in them.
#ifndef WISP_TEST_CGROUPS_REAL_CGROUP_H_
#define WISP_TEST_CGROUPS_REAL_CGROUP_H_

#include <errno.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cgroups/cgroup.h"
#include "cgroups/files.h"
#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {

// The host as v1, and as v2 by its "unified" mount; without a writable one the
// test is skipped by whoever asked.
inline bool RealV1Host(CgroupHost& host) {
  absl::StatusOr<CgroupHost> detected = DetectCgroupHost();
  if (geteuid() != 0 || !detected.ok()) return false;
  host = *detected;
  return host.mode == CgroupMode::kV1 &&
         access((host.root + "/memory").c_str(), W_OK) == 0 &&
         access((host.root + "/devices").c_str(), W_OK) == 0;
}

inline bool RealV2Host(CgroupHost& host) {
  for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    struct statfs info;
    if (geteuid() != 0 || statfs(root, &info) != 0 ||
        info.f_type != CGROUP2_SUPER_MAGIC || access(root, W_OK) != 0) {
      continue;
    }
    host.mode = CgroupMode::kV2;
    host.root = root;
    return true;
  }
  return false;
}

// /wisp-test-PID-N in each hierarchy. Removed, with what is below it, at the
// end.
class RealCgroup {
 public:
  explicit RealCgroup(const CgroupHost& host) : host_(host) {
    static int next = 0;
    path_ = fmt::format("/wisp-test-{}-{}", getpid(), next++);
    Make(path_);
  }
  ~RealCgroup() {
    // Deepest first; made in the order of their depth.
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      EXPECT_TRUE(RemoveDirectory(*path)) << *path << " " << errno;
    }
  }
  RealCgroup(const RealCgroup&) = delete;
  RealCgroup& operator=(const RealCgroup&) = delete;

  const std::string& path() const { return path_; }

  // Also `path` + "/x".
  void Make(const std::string& path) {
    if (host_.mode == CgroupMode::kV2) return MakeDirectory(host_.root + path);
    for (const std::string& controller : CgroupV1Controllers(host_)) {
      // Takes no process before it is given CPUs and memory.
      if (controller == "cpuset") continue;
      const std::string root = host_.root + "/" + controller;
      if (access(root.c_str(), W_OK) == 0) MakeDirectory(root + path);
    }
  }

  Cgroup Find(const std::string& path) const {
    absl::StatusOr<Cgroup> cgroup = Cgroup::Find(host_, path);
    EXPECT_TRUE(cgroup.ok()) << cgroup.status();
    return *std::move(cgroup);
  }
  Cgroup cgroup() const { return Find(path_); }

  void Remove() {
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      EXPECT_TRUE(RemoveDirectory(*path)) << *path << " " << errno;
    }
    made_.clear();
  }

 private:
  void MakeDirectory(const std::string& path) {
    EXPECT_EQ(mkdir(path.c_str(), 0755), 0) << path << " " << errno;
    made_.push_back(path);
  }
  // A task that has just been reaped may still be on its way out.
  static bool RemoveDirectory(const std::string& path) {
    const absl::Time limit = absl::Now() + absl::Seconds(10);
    while (rmdir(path.c_str()) != 0) {
      if (errno == ENOENT) return true;
      if (errno != EBUSY || absl::Now() > limit) return false;
      std::this_thread::yield();
    }
    return true;
  }

  CgroupHost host_;
  std::string path_;
  std::vector<std::string> made_;
};

// A child that is moved into a cgroup before it does anything; killed and
// reaped at the end.
class ChildIn {
 public:
  ChildIn(const Cgroup& cgroup, const std::function<void()>& work) {
    absl::StatusOr<Pipe> gate = MakePipe();
    EXPECT_TRUE(gate.ok());
    pid_ = fork();
    EXPECT_GE(pid_, 0);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      gate->write_end.Reset();
      char go;
      if (read(gate->read_end.get(), &go, 1) != 1) _exit(99);
      work();
      _exit(0);
    }
    const absl::Status status = cgroup.AddProcess(pid_);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(WriteAll(gate->write_end.get(), "x").ok());
  }
  ChildIn(ChildIn&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  ~ChildIn() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }

  pid_t pid() const { return pid_; }
  // Its wait status.
  int Wait() {
    int status = -1;
    EXPECT_EQ(waitpid(std::exchange(pid_, 0), &status, 0) > 0, true);
    return status;
  }

 private:
  pid_t pid_ = 0;
};

inline void Sleep() {
  for (;;) pause();
}

// Touches memory until somebody objects.
inline void EatMemory() {
  constexpr size_t kPiece = size_t{1} << 20;
  for (int i = 0; i < 256; ++i) {
    char* piece = static_cast<char*>(malloc(kPiece));
    if (piece == nullptr) _exit(1);
    for (size_t at = 0; at < kPiece; at += 4096) {
      *const_cast<volatile char*>(piece + at) = 1;
    }
  }
}

}  // namespace wisp

#endif  // WISP_TEST_CGROUPS_REAL_CGROUP_H_
