// Tells when the kernel has killed something in a cgroup for want of memory.
#ifndef WISP_CGROUPS_OOM_WATCH_H_
#define WISP_CGROUPS_OOM_WATCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "cgroups/cgroup.h"
#include "cgroups/file_watch.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

// Counts by `oom_kill` alone: `oom` and the notifications of v1 also mean
// failed allocations, and v1 notifies every cgroup below the one whose limit
// was hit, whether it lost a process or not. Kills in cgroups below count too,
// and so do those for an ancestor's limit.
//
// What goes unnoticed in v1: a container that hangs because its killer is
// disabled (oom_kill_disable), which containerd reports as an OOM.
class OomWatch {
 public:
  // Runs on the loop, at most once a second, once for however many kills there
  // were. It must not destroy the watch.
  using OnOom = absl::AnyInvocable<void()>;

  // Watches from now on: kills of before are not reported. `loop` must outlive
  // the watch. Create it while the init is still held before its exec, or what
  // its first instruction causes could be missed. Error: no memory controller,
  // or no such file (any more).
  static absl::StatusOr<std::unique_ptr<OomWatch>> Create(EventLoop& loop,
                                                          const Cgroup& cgroup,
                                                          OnOom on_oom);
  OomWatch(const OomWatch&) = delete;
  OomWatch& operator=(const OomWatch&) = delete;

  enum class Final {
    kNone,  // no kill that was not reported
    kOom,   // there was one
    // The cgroup was gone before its counter could be read (systemd is quick to
    // remove a scope), but its parent's, which may count others' kills, has
    // grown. For the caller to weigh: did the init die of a SIGKILL not ours?
    kParentOnly,
  };
  // Reads the counter once more, synchronously: call it before an exit is told,
  // whenever a process died of SIGKILL. What it answers kOom for is not given
  // to `on_oom` any more. May be called again.
  Final FinalCheck();

  // Kills seen since the watch began.
  uint64_t kills() const { return kills_; }

  // For the log, which limit it may have been: own and parent's limit and
  // failures, as far as they can still be read.
  std::string Describe() const;

 private:
  OomWatch(EventLoop& loop, const Cgroup& cgroup, OnOom on_oom);
  absl::Status Open();
  absl::Status WatchV1();
  // Sums up the counters; false once the cgroup is gone.
  bool ReadCounter(uint64_t& total) const;
  void Update();
  void OnChange();
  void Recheck();
  void Report();
  uint64_t ParentCounter() const;

  EventLoop& loop_;
  const CgroupMode mode_;
  const std::string directory_;  // of the memory controller
  OnOom on_oom_;
  UniqueFd counter_;   // memory.events or memory.oom_control
  UniqueFd event_fd_;  // v1
  FileWatch file_watch_;
  EventLoop::WatchHandle event_watch_;
  EventLoop::TimerHandle timer_;  // the next report, or v1: the next look
  uint64_t last_total_ = 0;
  uint64_t last_parent_ = 0;
  uint64_t kills_ = 0;
  bool unreported_ = false;
  bool gone_ = false;
  absl::Time quiet_until_ = absl::InfinitePast();
  absl::Duration recheck_after_;
};

}  // namespace wisp

#endif  // WISP_CGROUPS_OOM_WATCH_H_
