#include "test/support/order.h"

#include <algorithm>

#include "fmt/format.h"

namespace wisp {
namespace {

// The events of one process, by kind.
struct Seen {
  std::vector<size_t> made;  // create, exec-added: positions in the stream
  std::vector<size_t> started;
  std::vector<size_t> exited;
  std::vector<size_t> deleted;
};

class Checker {
 public:
  Checker(const std::vector<TestEvent>& events, const Facts& facts)
      : events_(events), facts_(facts) {}

  std::vector<std::string> Run() {
    Sort();
    for (const auto& [name, seen] : seen_) CheckStream(name, seen);
    for (const auto& [name, facts] : facts_) CheckFacts(name, facts);
    return std::move(faults_);
  }

 private:
  void Sort();
  void CheckStream(const ProcessName& name, const Seen& seen);
  void CheckInit(const ProcessName& name, const Seen& seen);
  void CheckExec(const ProcessName& name, const Seen& seen);
  void CheckFacts(const ProcessName& name, const ProcessFacts& facts);
  void CheckEnd(const ProcessName& name, const ProcessFacts& facts,
                const TestEvent* exit);

  void Object(const ProcessName& name, std::string_view what) {
    faults_.push_back(fmt::format("{}: {}", name.Text(), what));
  }
  // Objects unless each of `earlier` comes before each of `later`.
  void Order(const ProcessName& name, const std::vector<size_t>& earlier,
             const std::vector<size_t>& later, std::string_view what) {
    if (earlier.empty() || later.empty()) return;
    if (*std::max_element(earlier.begin(), earlier.end()) >
        *std::min_element(later.begin(), later.end())) {
      Object(name, what);
    }
  }
  const TestEvent* Only(const std::vector<size_t>& positions) const {
    return positions.empty() ? nullptr : &events_[positions.front()];
  }

  const std::vector<TestEvent>& events_;
  const Facts& facts_;
  std::map<ProcessName, Seen> seen_;
  std::vector<std::string> faults_;
};

void Checker::Sort() {
  for (size_t i = 0; i < events_.size(); ++i) {
    const TestEvent& event = events_[i];
    const bool of_init =
        event.process.empty() || event.process == event.container;
    const ProcessName name = {.container = event.container,
                              .exec = of_init ? "" : event.process};
    Seen& seen = seen_[name];
    if (event.topic == "/tasks/create" || event.topic == "/tasks/exec-added") {
      seen.made.push_back(i);
    } else if (event.topic == "/tasks/start" ||
               event.topic == "/tasks/exec-started") {
      seen.started.push_back(i);
    } else if (event.topic == "/tasks/exit") {
      seen.exited.push_back(i);
    } else if (event.topic == "/tasks/delete") {
      seen.deleted.push_back(i);
    } else {
      Object(name, "an event nobody asked for: " + event.topic);
    }
  }
}

void Checker::CheckStream(const ProcessName& name, const Seen& seen) {
  if (!facts_.contains(name)) Object(name, "events of a process nobody made");
  if (seen.made.size() > 1) Object(name, "made more than once");
  if (seen.started.size() > 1) Object(name, "started more than once");
  if (seen.exited.size() > 1) Object(name, "exited more than once");
  if (seen.deleted.size() > 1) Object(name, "deleted more than once");
  if (seen.made.empty()) Object(name, "events, but it was never made");
  Order(name, seen.made, seen.started, "started before it was made");
  Order(name, seen.made, seen.exited, "exited before it was made");
  Order(name, seen.started, seen.exited, "exited before it was started");
  Order(name, seen.exited, seen.deleted, "deleted before it exited");
  const TestEvent* const started = Only(seen.started);
  const TestEvent* const exited = Only(seen.exited);
  if (exited != nullptr && exited->pid == 0) Object(name, "exit without a pid");
  if (started != nullptr && exited != nullptr && started->pid != exited->pid) {
    Object(name, "started and exited with different pids");
  }
  if (name.exec.empty()) {
    CheckInit(name, seen);
  } else {
    CheckExec(name, seen);
  }
}

void Checker::CheckInit(const ProcessName& name, const Seen& seen) {
  // Never started or not, it was a process, and has been killed at the latest.
  if (seen.exited.empty()) Object(name, "its exit is missing");
  if (seen.deleted.empty()) Object(name, "its deletion is missing");
  const TestEvent* const made = Only(seen.made);
  const TestEvent* const exited = Only(seen.exited);
  const TestEvent* const deleted = Only(seen.deleted);
  if (made != nullptr && exited != nullptr && made->pid != exited->pid) {
    Object(name, "created and exited with different pids");
  }
  if (exited != nullptr && deleted != nullptr &&
      (exited->pid != deleted->pid || exited->status != deleted->status ||
       exited->exited_at != deleted->exited_at)) {
    Object(name, "its deletion tells of another end than its exit");
  }
}

void Checker::CheckExec(const ProcessName& name, const Seen& seen) {
  if (!seen.started.empty() && seen.exited.empty()) {
    Object(name, "its exit is missing");
  }
  if (seen.started.empty() && !seen.exited.empty()) {
    Object(name, "exited, but was never started");
  }
  const auto init = seen_.find({.container = name.container, .exec = ""});
  if (init == seen_.end()) {
    Object(name, "has no container");
    return;
  }
  const Seen& of_init = init->second;
  Order(name, of_init.made, seen.made, "added before its container was made");
  Order(name, seen.made, of_init.exited, "added after init's exit");
  Order(name, seen.started, of_init.exited, "started after init's exit");
  Order(name, seen.exited, of_init.exited, "exited after init's exit");
}

void Checker::CheckFacts(const ProcessName& name, const ProcessFacts& facts) {
  const auto found = seen_.find(name);
  const Seen seen = found == seen_.end() ? Seen() : found->second;
  if (facts.made == Outcome::kDone && seen.made.empty()) {
    Object(name, "was made, but nothing tells of it");
  }
  if (facts.made != Outcome::kDone && facts.made != Outcome::kUnknown &&
      found != seen_.end()) {
    Object(name, "was not made, but events tell of it");
  }
  if (facts.started == Outcome::kDone && seen.started.empty()) {
    Object(name, "was started, but nothing tells of it");
  }
  if (facts.started != Outcome::kDone && facts.started != Outcome::kUnknown &&
      !seen.started.empty()) {
    Object(name, "was not started, but an event tells that it was");
  }
  const TestEvent* const exit = Only(seen.exited);
  if (facts.pid != 0 && exit != nullptr && exit->pid != facts.pid) {
    Object(name, "exited with another pid than it was given");
  }
  CheckEnd(name, facts, exit);
}

void Checker::CheckEnd(const ProcessName& name, const ProcessFacts& facts,
                       const TestEvent* exit) {
  if (exit != nullptr) {
    const auto allowed = facts.statuses.find(exit->status);
    if (allowed == facts.statuses.end()) {
      Object(name, fmt::format("cannot have ended with {}", exit->status));
    } else if (exit->exited_at < allowed->second) {
      Object(name, fmt::format("ended with {} before there was a reason for it",
                               exit->status));
    }
  }
  const uint32_t status = exit == nullptr ? 0 : exit->status;
  const absl::Time at = exit == nullptr ? NeverExited() : exit->exited_at;
  for (const ProcessFacts::Answer& answer : facts.answers) {
    if (answer.status != status) {
      Object(name, fmt::format("{} says {}, the event {}", answer.from,
                               answer.status, status));
    }
    if (answer.exited_at != at) {
      Object(name, fmt::format("{} says it ended at {}, the event {}",
                               answer.from, absl::FormatTime(answer.exited_at),
                               absl::FormatTime(at)));
    }
  }
}

}  // namespace

std::string ProcessName::Text() const {
  return exec.empty() ? container : container + "/" + exec;
}

void ProcessFacts::Merge(Outcome outcome, Outcome* into) {
  *into = std::max(*into, outcome);
}

void ProcessFacts::Allow(uint32_t status, absl::Time when) {
  const auto [entry, is_new] = statuses.try_emplace(status, when);
  if (!is_new) entry->second = std::min(entry->second, when);
}

absl::Time NeverExited() { return absl::FromUnixSeconds(-62135596800); }

std::vector<std::string> FindFaults(const std::vector<TestEvent>& events,
                                    const Facts& facts) {
  return Checker(events, facts).Run();
}

}  // namespace wisp
