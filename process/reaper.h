// Reaps every child of this process exactly once and tells its owner.
#ifndef WISP_PROCESS_REAPER_H_
#define WISP_PROCESS_REAPER_H_

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/pidfd.h"
#include "process/status_macros.h"

namespace wisp {

// How a process ended.
struct ExitStatus {
  uint32_t code = 0;  // exit code, or 128 + signal, as containerd counts
  int signal = 0;     // 0 if it exited by itself
  bool core_dumped = false;
  absl::Time at = absl::InfinitePast();  // when it was reaped

  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

// Children we know are watched by pidfd. Strangers, whom the kernel hands to us
// as subreaper, are looked up one by one on SIGCHLD and reaped, but not while a
// spawn is in flight that was under way when they appeared: the init that the
// runtime leaves behind must still be there, if only as a zombie, when we come
// to adopt it by pid.
//
// Nobody else in the program calls wait, but for children that end before they
// could have an owner (Spawn) or that no plain wait can see (id-mapped mounts).
class Reaper {
 public:
  // Runs once, on the loop. The child has been reaped: whoever hears of its end
  // finds its pid free, or another's (as from Go's shim).
  using OnExit = absl::AnyInvocable<void(ExitStatus) &&>;

  // A child with an owner. Destroying it gives the child up: it is killed by
  // nobody, and reaped as a stranger when it ends.
  class [[nodiscard]] Child {
   public:
    Child() = default;
    Child(Child&& other) noexcept { *this = std::move(other); }
    Child& operator=(Child&& other) noexcept;
    ~Child() { Reset(); }

    bool valid() const { return reaper_ != nullptr; }
    pid_t pid() const { return pid_; }
    // Null once its exit is being told.
    const Pidfd* pidfd() const;
    void Reset();

   private:
    friend class Reaper;
    Child(Reaper* reaper, pid_t pid, uint64_t id)
        : reaper_(reaper), pid_(pid), id_(id) {}
    Reaper* reaper_ = nullptr;
    pid_t pid_ = 0;
    uint64_t id_ = 0;
  };

  // Holds strangers that appear during its life back from being reaped.
  class [[nodiscard]] SweepGuard {
   public:
    SweepGuard() = default;
    SweepGuard(SweepGuard&& other) noexcept { *this = std::move(other); }
    SweepGuard& operator=(SweepGuard&& other) noexcept;
    ~SweepGuard() { Reset(); }
    void Reset();

   private:
    friend class Reaper;
    SweepGuard(Reaper* reaper, uint64_t id) : reaper_(reaper), id_(id) {}
    Reaper* reaper_ = nullptr;
    uint64_t id_ = 0;
  };

  // Makes this process a subreaper and takes SIGCHLD. `loop` must outlive the
  // reaper, and the reaper all handles but those that its callbacks hold.
  static absl::StatusOr<std::unique_ptr<Reaper>> Create(EventLoop& loop);
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  // Open one before a spawn that leaves a process behind, close it once that
  // process is adopted. Steady spawning delays no stranger for ever: each waits
  // only for the guards that were open when it was first seen.
  SweepGuard GuardNewChildren();

  // Owns a child that Spawn() made.
  absl::StatusOr<Child> Own(Pidfd child, OnExit on_exit);

  // Owns `pid`, which came to us as subreaper. Error: kNotFound if it is no
  // child of ours (any more).
  absl::StatusOr<Child> Adopt(pid_t pid, OnExit on_exit);

  size_t known_children() const { return known_.size(); }
  uint64_t strangers_reaped() const { return strangers_reaped_; }

 private:
  struct Known {
    Pidfd pidfd;
    OnExit on_exit;
    EventLoop::WatchHandle watch;  // after the fd it watches
  };

  explicit Reaper(EventLoop& loop) : loop_(loop) {}
  void Reap(uint64_t id);
  void Forget(uint64_t id);
  void CloseGuard(uint64_t id);
  void Sweep();
  bool MayReapStranger(pid_t pid);
  void SweepBehindHeld();
  void SweepSoon();

  EventLoop& loop_;
  EventLoop::WatchHandle signals_;
  EventLoop::TimerHandle resweep_;
  std::map<uint64_t, Known> known_;
  std::map<pid_t, uint64_t> id_of_pid_;
  uint64_t next_id_ = 0;
  std::set<uint64_t> guards_;
  uint64_t next_guard_ = 0;
  // Strangers seen dead while guards were open -> the first guard that was not
  // open yet. They are zombies, so their pids stay theirs.
  std::map<pid_t, uint64_t> held_;
  uint64_t strangers_reaped_ = 0;
};

}  // namespace wisp

#endif  // WISP_PROCESS_REAPER_H_
