// Operations that take turns: one at a time on one process, a few at a time
// where each costs a run of the runtime.
#ifndef WISP_PROCESS_TURN_QUEUE_H_
#define WISP_PROCESS_TURN_QUEUE_H_

#include <deque>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"

namespace wisp {

class TurnQueue {
 public:
  // Whoever holds it has a turn; the next one begins, from the loop, when it is
  // destroyed. It may outlive the queue.
  class [[nodiscard]] Turn;
  using Operation = absl::AnyInvocable<void(Turn) &&>;

  // At most `width` turns at once.
  explicit TurnQueue(EventLoop& loop, int width = 1)
      : line_(std::make_shared<Line>(loop, width)) {}
  // Those still waiting are dropped.
  ~TurnQueue() {
    std::deque<Operation> dropped = std::move(line_->waiting);
    line_->waiting.clear();
  }
  TurnQueue(const TurnQueue&) = delete;
  TurnQueue& operator=(const TurnQueue&) = delete;

  // Runs `operation` at once if there is a turn to be had.
  void Enqueue(Operation operation);

 private:
  struct Line {
    Line(EventLoop& event_loop, int turns) : loop(event_loop), free(turns) {}
    EventLoop& loop;
    std::deque<Operation> waiting;
    int free;
  };
  static void Next(const std::shared_ptr<Line>& line);

  std::shared_ptr<Line> line_;
};

class [[nodiscard]] TurnQueue::Turn {
 public:
  Turn(Turn&&) = default;
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (line_ == nullptr) return;
    // Not from here: the holder may be in the middle of destroying things.
    EventLoop& loop = line_->loop;
    loop.Post([line = std::move(line_)] {
      ++line->free;
      Next(line);
    });
  }

 private:
  friend class TurnQueue;
  explicit Turn(std::shared_ptr<Line> line) : line_(std::move(line)) {}
  std::shared_ptr<Line> line_;
};

inline void TurnQueue::Next(const std::shared_ptr<Line>& line) {
  if (line->free == 0 || line->waiting.empty()) return;
  --line->free;
  Operation next = std::move(line->waiting.front());
  line->waiting.pop_front();
  std::move(next)(Turn(line));
}

inline void TurnQueue::Enqueue(Operation operation) {
  line_->waiting.push_back(std::move(operation));
  Next(line_);
}

}  // namespace wisp

#endif  // WISP_PROCESS_TURN_QUEUE_H_
