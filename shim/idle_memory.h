// Gives the kernel back what a burst has left free in the allocator: events of
// an hour in which containerd was down, or of fifty execs at once. By itself
// glibc returns only what is free at the top of the heap.
#ifndef WISP_SHIM_IDLE_MEMORY_H_
#define WISP_SHIM_IDLE_MEMORY_H_

#include <cstddef>

#include "absl/time/time.h"
#include "process/event_loop.h"

namespace wisp {

// All on the loop's thread.
class IdleMemory {
 public:
  // Less is not worth the work.
  static constexpr size_t kWorthIt = size_t{256} << 10;
  // Without a further end. The next burst may follow at once; and what is done
  // in the middle of one brings little, for what is in use lies everywhere.
  static constexpr absl::Duration kDelay = absl::Seconds(1);

  // `loop` must outlive it.
  explicit IdleMemory(EventLoop& loop);
  IdleMemory(const IdleMemory&) = delete;
  IdleMemory& operator=(const IdleMemory&) = delete;

  // Something has ended. If much is free that the process did not have before
  // it will be given back when nothing has ended for kDelay; else there is no
  // timer.
  void Consider();

  // True from then on until it has been given back.
  bool waits() const { return later_.active(); }

 private:
  EventLoop& loop_;
  // The least that was resident since the last time, to which a further try
  // would bring us back at best.
  size_t least_;
  EventLoop::TimerHandle later_;
};

}  // namespace wisp

#endif  // WISP_SHIM_IDLE_MEMORY_H_
