// Whether a process that has just been let go has come to rest.
#ifndef WISP_PROCESS_SETTLED_H_
#define WISP_PROCESS_SETTLED_H_

#include <sys/types.h>

#include <list>
#include <string_view>

#include "absl/time/time.h"
#include "process/event_loop.h"

namespace wisp {

// True once `pid` has executed a program since it was forked and is asleep in
// it, waiting for something: a shell for its first child, a server for its
// first request. Also true if it has stopped or ended, and if the kernel does
// not tell. A process that a checkpoint was restored to has executed nothing.
bool HasSettled(pid_t pid);

// The same from the content of its /proc/PID/stat.
bool IsSettled(std::string_view stat);

// By the same, the CPU time that it has had with all its threads, in whole
// ticks of the kernel's (10 ms); zero if the kernel does not tell.
absl::Duration CpuTime(std::string_view stat);

// Puts off what would come too early for a process that has just been let go.
class Settling {
 public:
  // Whatever is asked later than this after Begin() is not put off.
  static constexpr absl::Duration kWindow = absl::Milliseconds(200);
  // Of CPU time since Begin(), by when a program has had its chance: between 10
  // and 20 ms, as exact as the kernel tells.
  static constexpr absl::Duration kBusy = absl::Milliseconds(20);

  // `loop` must outlive this. What still waits at its end is dropped.
  explicit Settling(EventLoop& loop) : loop_(loop) {}
  Settling(const Settling&) = delete;
  Settling& operator=(const Settling&) = delete;

  // `pid` has been let go just now.
  void Begin(pid_t pid);
  // It has ended: nothing has to wait any more.
  void End();

  // Runs `task` when the process has settled, but after `limit` at the latest;
  // at once if there is nothing to wait for. Tasks of equal limits run in the
  // order in which they came, and may destroy this.
  void Run(absl::Duration limit, EventLoop::Task task);
  // Not for longer than it takes a program that is busy to get kBusy. One that
  // the kernel keeps from running, for others have more CPU shares, is waited
  // for.
  void RunUnlessBusy(absl::Duration limit, EventLoop::Task task);

 private:
  struct Waiter {
    EventLoop::Task task;
    bool unless_busy = false;
    EventLoop::TimerHandle limit;
  };

  void Add(absl::Duration limit, bool unless_busy, EventLoop::Task task);

  void Look();

  EventLoop& loop_;
  pid_t pid_ = 0;
  absl::Duration cpu_before_;
  std::list<Waiter> waiters_;
  EventLoop::TimerHandle window_;
  EventLoop::TimerHandle next_look_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_SETTLED_H_
