// One level-triggered epoll loop: fds, timers, signals, and threads' results.
//
// All state of the shim belongs to the thread that calls Run(). A turn handles
// exits and what was posted first (Priority::kExits), then timers, then the
// other fds: a request that comes with the death of the process it asks about
// finds the death already recorded. An idle loop has no timer and does not
// wake.
#ifndef WISP_PROCESS_EVENT_LOOP_H_
#define WISP_PROCESS_EVENT_LOOP_H_

#include <sys/epoll.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

class EventLoop {
 public:
  using Task = absl::AnyInvocable<void() &&>;
  using OnReady = absl::AnyInvocable<void(uint32_t events)>;

  enum class Priority { kExits, kNormal };

  // A watched fd. Destroying the handle ends the watch, also inside its own
  // callback and while an event for it is already waiting in the same turn. It
  // must go before the fd is closed: declare it after the fd's owner.
  class [[nodiscard]] WatchHandle {
   public:
    WatchHandle() = default;
    WatchHandle(WatchHandle&& other) noexcept { *this = std::move(other); }
    WatchHandle& operator=(WatchHandle&& other) noexcept;
    ~WatchHandle() { Reset(); }

    bool active() const { return loop_ != nullptr; }
    void Reset();
    // Waits for `events` from now on; 0 leaves EPOLLERR and EPOLLHUP, which
    // cannot be masked.
    void SetEvents(uint32_t events);

   private:
    friend class EventLoop;
    WatchHandle(EventLoop* loop, uint32_t slot) : loop_(loop), slot_(slot) {}
    EventLoop* loop_ = nullptr;
    uint32_t slot_ = 0;
  };

  // A timer that has not run yet. Destroying the handle cancels it.
  class [[nodiscard]] TimerHandle {
   public:
    TimerHandle() = default;
    TimerHandle(TimerHandle&& other) noexcept { *this = std::move(other); }
    TimerHandle& operator=(TimerHandle&& other) noexcept;
    ~TimerHandle() { Reset(); }

    // False once it has run or was reset.
    bool active() const;
    void Reset();

   private:
    friend class EventLoop;
    TimerHandle(EventLoop* loop, int64_t when, uint64_t id)
        : loop_(loop), when_(when), id_(id) {}
    EventLoop* loop_ = nullptr;
    int64_t when_ = 0;
    uint64_t id_ = 0;
  };

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  // All handles must be gone. Threads that are still at work keep what they
  // captured; their results find nobody.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls `on_ready` with the ready events until the handle goes. `fd` stays
  // the caller's. Fails if epoll refuses it (regular files: EPERM).
  absl::StatusOr<WatchHandle> Watch(int fd, uint32_t events, OnReady on_ready,
                                    Priority priority = Priority::kNormal);

  // Runs `task` once, not before `delay` has passed (monotonic clock).
  TimerHandle After(absl::Duration delay, Task task);

  // Blocks `signals` for this thread (and those it starts) and calls
  // `on_signal` with each that arrives.
  absl::StatusOr<WatchHandle> WatchSignals(
      std::initializer_list<int> signals,
      absl::AnyInvocable<void(int signal)> on_signal,
      Priority priority = Priority::kNormal);

  // Runs `task` in a turn to come. The one method for any thread.
  void Post(Task task);

  // Calls `work` in a thread that lives for this call, then `done` with its
  // result on the loop. For what may hang: mount, unmount, a sick disk. At most
  // kMaxThreads at once, the rest queue up. `work` must not touch the loop's
  // state, nor spawn a process.
  template <typename Work, typename OnDone>
  void Offload(Work work, OnDone done) {
    using Result = std::invoke_result_t<Work&>;
    auto result = std::make_shared<std::unique_ptr<Result>>();
    OffloadTask(
        [work = std::move(work), result]() mutable {
          *result = std::make_unique<Result>(work());
        },
        [done = std::move(done), result]() mutable {
          std::move(done)(std::move(**result));
        });
  }
  static constexpr int kMaxThreads = 16;
  int threads() const { return threads_; }

  // Runs until Stop(); the turn under way is finished first.
  void Run();
  void Stop() { stopped_ = true; }
  // One turn; waits for at most `limit`. For tests and for shutting down.
  void RunOnce(absl::Duration limit);

 private:
  // What other threads reach; it outlives the loop if they do.
  struct Mailbox;
  struct Job {
    Task work;
    Task done;
  };
  struct Slot {
    int fd = -1;
    uint32_t generation = 0;
    Priority priority = Priority::kNormal;
    OnReady on_ready;
  };

  EventLoop(UniqueFd epoll, std::shared_ptr<Mailbox> mailbox);
  void Unwatch(uint32_t slot);
  void Dispatch(const epoll_event& event);
  void RunPosted();
  void RunTimers();
  int WaitMilliseconds(absl::Duration limit) const;
  void OffloadTask(Task work, Task done);
  void StartThreads();

  UniqueFd epoll_;
  std::shared_ptr<Mailbox> mailbox_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::map<std::pair<int64_t, uint64_t>, Task> timers_;  // by (ns, id)
  uint64_t next_timer_id_ = 0;
  std::vector<Job> jobs_;  // waiting for a thread
  int threads_ = 0;
  bool stopped_ = false;
  WatchHandle mailbox_watch_;
  TimerHandle retry_threads_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_EVENT_LOOP_H_
