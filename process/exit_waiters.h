// Those who wait for a process to end.
#ifndef WISP_PROCESS_EXIT_WAITERS_H_
#define WISP_PROCESS_EXIT_WAITERS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "process/reaper.h"

namespace wisp {

// Released once, with a status that late comers get as well.
class ExitWaiters {
 public:
  using Waiter = absl::AnyInvocable<void(const ExitStatus&) &&>;

  // Calls `waiter` at the release, or at once if that is past. The number
  // returned removes it.
  uint64_t Add(Waiter waiter) {
    if (released_.has_value()) {
      std::move(waiter)(*released_);
      return 0;
    }
    waiters_.emplace(++last_, std::move(waiter));
    return last_;
  }

  // Forgets a waiter, uncalled; of one that has been called knows nothing.
  void Remove(uint64_t number) { auto node = waiters_.extract(number); }

  void Release(const ExitStatus& status) {
    if (released_.has_value()) return;
    released_ = status;
    while (!waiters_.empty()) {
      auto node = waiters_.extract(waiters_.begin());
      std::move(node.mapped())(status);
    }
  }

  const std::optional<ExitStatus>& released() const { return released_; }
  size_t size() const { return waiters_.size(); }

 private:
  std::map<uint64_t, Waiter> waiters_;
  uint64_t last_ = 0;
  std::optional<ExitStatus> released_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_EXIT_WAITERS_H_
