// Operations on one process queue up behind each other.
#ifndef WISP_PROCESS_SERIAL_QUEUE_H_
#define WISP_PROCESS_SERIAL_QUEUE_H_

#include <deque>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"

namespace wisp {

class SerialQueue {
 public:
  // Whoever holds it has his turn; the next one begins, from the loop, when it
  // is destroyed. It may outlive the queue.
  class [[nodiscard]] Turn;
  using Operation = absl::AnyInvocable<void(Turn) &&>;

  explicit SerialQueue(EventLoop& loop) : line_(std::make_shared<Line>(loop)) {}
  // Those still waiting are dropped.
  ~SerialQueue() { line_->waiting.clear(); }
  SerialQueue(const SerialQueue&) = delete;
  SerialQueue& operator=(const SerialQueue&) = delete;

  // Runs `operation` at once if nobody has a turn.
  void Enqueue(Operation operation);

 private:
  struct Line {
    explicit Line(EventLoop& event_loop) : loop(event_loop) {}
    EventLoop& loop;
    std::deque<Operation> waiting;
    bool busy = false;
  };

  std::shared_ptr<Line> line_;
};

class [[nodiscard]] SerialQueue::Turn {
 public:
  explicit Turn(std::shared_ptr<Line> line) : line_(std::move(line)) {}
  Turn(Turn&&) = default;
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (line_ == nullptr) return;
    // Not from here: the holder may be in the middle of destroying things.
    EventLoop& loop = line_->loop;
    loop.Post([line = std::move(line_)] { Next(line); });
  }

 private:
  friend class SerialQueue;
  static void Next(const std::shared_ptr<Line>& line) {
    if (line->waiting.empty()) {
      line->busy = false;
      return;
    }
    Operation next = std::move(line->waiting.front());
    line->waiting.pop_front();
    std::move(next)(Turn(line));
  }

  std::shared_ptr<Line> line_;
};

inline void SerialQueue::Enqueue(Operation operation) {
  if (line_->busy) {
    line_->waiting.push_back(std::move(operation));
    return;
  }
  line_->busy = true;
  std::move(operation)(Turn(line_));
}

}  // namespace wisp

#endif  // WISP_PROCESS_SERIAL_QUEUE_H_
