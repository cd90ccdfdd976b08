// A spool for a stream of the loop's.
#ifndef WISP_PROCESS_SPILL_H_
#define WISP_PROCESS_SPILL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/spill_options.h"
#include "process/spool.h"

namespace wisp {

// Runs a spool's turns: on the loop while it is in memory, and in a thread that
// lives for one turn while it is on a disk, which may be sick.
class Spill {
 public:
  using OnTurn = absl::AnyInvocable<void(const Spool::Moved&) &&>;

  Spill(EventLoop& loop, const SpillOptions& options);

  // Spool::Turn(). If a thread does it `on_turn` is called from the loop,
  // unless this is destroyed before; else it is done already, and this is how.
  std::optional<Spool::Moved> Turn(int source, int sink, OnTurn on_turn);
  // A thread is at it.
  bool busy() const { return busy_; }

  // Not while busy, but for size(), which is then that of the turn before.
  void Add(std::string_view data);
  uint64_t size() const { return size_; }
  bool empty() const { return spool_->empty(); }
  bool takes_more() const { return spool_->takes_more(); }

 private:
  EventLoop& loop_;
  const bool on_disk_;
  const std::shared_ptr<Spool> spool_;  // shared with the thread
  uint64_t size_ = 0;
  bool busy_ = false;
  const std::shared_ptr<Spill*> self_;  // its weak copies outlive us
};

}  // namespace wisp

#endif  // WISP_PROCESS_SPILL_H_
