#include "process/settled.h"

#include <unistd.h>

#include <cstdint>
#include <optional>
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
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(2);

struct Stat {
  char state = 0;
  bool has_executed = false;
  absl::Duration cpu;
};

std::optional<Stat> ParseStat(std::string_view text) {
  // Counted from behind the name.
  constexpr size_t kState = 0;
  constexpr size_t kFlags = 6;
  constexpr size_t kUserTime = 11;
  constexpr size_t kSystemTime = 12;
  // The name may hold anything, parentheses and spaces too.
  const size_t name_end = text.rfind(") ");
  if (name_end == text.npos) return std::nullopt;
  text.remove_prefix(name_end + 2);
  const std::vector<std::string> fields =
      absl::StrSplit(std::string(text), absl::MaxSplits(' ', kSystemTime + 1));
  uint64_t flags = 0;
  int64_t user = 0;
  int64_t system = 0;
  if (fields.size() <= kSystemTime || fields[kState].size() != 1 ||
      !absl::SimpleAtoi(fields[kFlags], &flags) ||
      !absl::SimpleAtoi(fields[kUserTime], &user) ||
      !absl::SimpleAtoi(fields[kSystemTime], &system)) {
    return std::nullopt;
  }
  return Stat{.state = fields[kState][0],
              .has_executed = (flags & kForkedOnly) == 0,
              .cpu = absl::Seconds(user + system) / sysconf(_SC_CLK_TCK)};
}

bool HasSettled(const std::optional<Stat>& stat) {
  if (!stat.has_value()) return true;
  // R runs and D waits for the disk, for the next page of its program say: it
  // is still at something.
  if (stat->state == 'S') return stat->has_executed;
  return stat->state != 'R' && stat->state != 'D';
}

std::string ReadStat(pid_t pid) {
  return ReadFile(fmt::format("/proc/{}/stat", pid)).value_or("");
}

}  // namespace

bool IsSettled(std::string_view stat) { return HasSettled(ParseStat(stat)); }

absl::Duration CpuTime(std::string_view stat) {
  return ParseStat(stat).value_or(Stat()).cpu;
}

bool HasSettled(pid_t pid) { return IsSettled(ReadStat(pid)); }

void Settling::Begin(pid_t pid) {
  pid_ = pid;
  cpu_before_ = CpuTime(ReadStat(pid));
  // Only to be active for so long.
  window_ = loop_.After(kWindow, [] {});
}

void Settling::End() {
  window_.Reset();
  next_look_.Reset();
  std::list<Waiter> waiting;
  waiting.swap(waiters_);
  for (Waiter& waiter : waiting) std::move(waiter.task)();
}

void Settling::Run(absl::Duration limit, EventLoop::Task task) {
  Add(limit, /*unless_busy=*/false, std::move(task));
}

void Settling::RunUnlessBusy(absl::Duration limit, EventLoop::Task task) {
  Add(limit, /*unless_busy=*/true, std::move(task));
}

void Settling::Add(absl::Duration limit, bool unless_busy,
                   EventLoop::Task task) {
  if (!window_.active() && waiters_.empty()) {
    std::move(task)();
    return;
  }
  const auto waiter = waiters_.insert(waiters_.end(), Waiter());
  waiter->task = std::move(task);
  waiter->unless_busy = unless_busy;
  waiter->limit = loop_.After(limit, [this, waiter] {
    EventLoop::Task due = std::move(waiter->task);
    waiters_.erase(waiter);
    std::move(due)();
  });
  if (!next_look_.active()) Look();
}

void Settling::Look() {
  if (waiters_.empty()) return;
  const std::optional<Stat> stat = ParseStat(ReadStat(pid_));
  if (HasSettled(stat)) {
    End();
    return;
  }
  next_look_ = loop_.After(kBetweenLooks, [this] { Look(); });
  if (!stat->has_executed || stat->cpu - cpu_before_ < kBusy) return;
  std::list<Waiter> waiting;
  for (auto next = waiters_.begin(); next != waiters_.end();) {
    const auto waiter = next++;
    if (waiter->unless_busy) waiting.splice(waiting.end(), waiters_, waiter);
  }
  for (Waiter& waiter : waiting) std::move(waiter.task)();
}

}  // namespace wisp
