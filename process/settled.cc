#include "process/settled.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

// PF_FORKNOEXEC of the kernel's include/linux/sched.h, which proc(5) shows in
// `flags`: forked, and no execve yet.
constexpr uint64_t kForkedOnly = 0x40;
constexpr size_t kStateField = 0;  // counted from behind the name
constexpr size_t kFlagsField = 6;
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(2);

}  // namespace

bool IsSettled(std::string_view stat) {
  // The name may hold anything, parentheses and spaces too.
  const size_t name_end = stat.rfind(") ");
  if (name_end == stat.npos) return true;
  stat.remove_prefix(name_end + 2);
  const std::vector<std::string> fields =
      absl::StrSplit(std::string(stat), absl::MaxSplits(' ', kFlagsField + 1));
  uint64_t flags = 0;
  if (fields.size() <= kFlagsField ||
      !absl::SimpleAtoi(fields[kFlagsField], &flags)) {
    return true;
  }
  // R runs and D waits for the disk, for the next page of its program say: it
  // is still at something.
  const std::string& state = fields[kStateField];
  if (state == "S") return (flags & kForkedOnly) == 0;
  return state != "R" && state != "D";
}

bool HasSettled(pid_t pid) {
  const absl::StatusOr<std::string> stat =
      ReadFile(fmt::format("/proc/{}/stat", pid));
  return !stat.ok() || IsSettled(*stat);
}

void Settling::Begin(pid_t pid) {
  pid_ = pid;
  // Only to be active for so long.
  window_ = loop_.After(kWindow, [] {});
}

void Settling::Run(absl::Duration limit, EventLoop::Task task) {
  if (!window_.active() && waiters_.empty()) {
    std::move(task)();
    return;
  }
  const auto waiter = waiters_.insert(waiters_.end(), Waiter());
  waiter->task = std::move(task);
  waiter->limit = loop_.After(limit, [this, waiter] {
    EventLoop::Task due = std::move(waiter->task);
    waiters_.erase(waiter);
    std::move(due)();
  });
  if (!next_look_.active()) Look();
}

void Settling::Look() {
  if (waiters_.empty()) return;
  if (!HasSettled(pid_)) {
    next_look_ = loop_.After(kBetweenLooks, [this] { Look(); });
    return;
  }
  window_.Reset();
  std::list<Waiter> waiting;
  waiting.swap(waiters_);
  for (Waiter& waiter : waiting) std::move(waiter.task)();
}

}  // namespace wisp
