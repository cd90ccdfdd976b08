// The end of a schedule: everything is let go, killed and deleted; what is left
// then, and what has happened.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "fmt/format.h"
#include "test/support/schedule.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
namespace fs = std::filesystem;
using Op = Step::Op;
using Code = absl::StatusCode;

// Longer than anything may take, on a machine with better things to do.
constexpr absl::Duration kPatience = absl::Seconds(30);

std::vector<std::string> Entries(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(directory, error)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

// Living processes with this in their environment, but for one.
std::vector<std::string> FindProcesses(const std::string& variable, pid_t but) {
  std::vector<std::string> found;
  for (const std::string& pid : Entries("/proc")) {
    if (pid.find_first_not_of("0123456789") != std::string::npos ||
        pid == std::to_string(but)) {
      continue;
    }
    const absl::StatusOr<std::string> environment =
        ReadFile(fmt::format("/proc/{}/environ", pid));
    if (!environment.ok() || !absl::StrContains(*environment, variable)) {
      continue;
    }
    absl::StatusOr<std::string> command =
        ReadFile(fmt::format("/proc/{}/cmdline", pid));
    if (!command.ok()) continue;
    std::replace(command->begin(), command->end(), '\0', ' ');
    found.push_back(fmt::format("{} ({})", pid, *command));
  }
  return found;
}

bool SaysRuntimeLimit(const absl::Status& status) {
  return absl::StrContains(status.message(), "did not end within");
}

}  // namespace

void ScheduleRunner::CleanUp() {
  for (const std::string& gate : std::exchange(closed_gates_, {})) {
    shim_.OpenGate(gate);
  }
  for (const std::string& what : std::exchange(failures_, {})) {
    shim_.ClearFailure(what);
  }
  for (const auto& [name, process] : plan_->processes) {
    if (process.has_output && !readers_.contains(name)) OpenReader(name);
  }
  // They would hold calls up until the shim stops waiting for them.
  for (const auto& [name, process] : plan_->processes) {
    if (!process.outside) continue;
    Must(Op::kKill, name,
         {Code::kOk, Code::kNotFound, Code::kFailedPrecondition}, SIGKILL);
  }
  AwaitAnswers(/*waits_as_well=*/false);
  for (const auto& [name, process] : plan_->processes) {
    if (name.exec.empty()) CleanUp(name);
  }
  AwaitAnswers(/*waits_as_well=*/true);
  // What is still unanswered ends here; it points into asked_.
  for (int i = 0; i < Plan::kClients; ++i) {
    if (clients_[static_cast<size_t>(i)]->calls_in_flight() > 0) Disconnect(i);
  }
}

void ScheduleRunner::AwaitAnswers(bool waits_as_well) {
  const auto missing = [this, waits_as_well](const Asked& asked) {
    return !asked.answered() && (waits_as_well || asked.step.op != Op::kWait);
  };
  if (shim_.RunUntil(
          [&] { return std::none_of(asked_.begin(), asked_.end(), missing); },
          kPatience)) {
    return;
  }
  for (const Asked& asked : asked_) {
    if (missing(asked)) Object(asked.step.Text() + ": never answered");
  }
}

absl::StatusCode ScheduleRunner::Must(Op op, const ProcessName& process,
                                      const std::set<Code>& codes, int signal) {
  Ask({.op = op, .process = process, .text = "", .signal = signal});
  const Asked& asked = asked_.back();
  if (!shim_.RunUntil([&asked] { return asked.answered(); }, kPatience)) {
    Object(asked.step.Text() + ": hangs in the end");
    return Code::kUnknown;
  }
  if (!codes.contains(asked.status.code())) {
    Object(fmt::format("{}: in the end answered with {}", asked.step.Text(),
                       View(asked.status.ToString())));
  }
  return asked.status.code();
}

void ScheduleRunner::CleanUp(const ProcessName& init) {
  std::vector<ProcessName> execs;
  for (const auto& [name, process] : plan_->processes) {
    if (name.container == init.container && !name.exec.empty()) {
      execs.push_back(name);
    }
  }
  // As good as random, and the same for the same seed.
  const bool init_first = plan_->steps.size() % 2 == 0;
  const bool go_with_task = plan_->steps.size() % 3 == 0;
  bool exists =
      Must(Op::kState, init, {Code::kOk, Code::kNotFound}) == Code::kOk;
  const bool delete_lost =
      std::any_of(asked_.begin(), asked_.end(), [&init](const Asked& asked) {
        return asked.step.op == Op::kDelete && asked.step.process == init &&
               asked.outcome == Outcome::kUnknown;
      });
  if (exists && delete_lost) {
    // It may still be under way: this one joins it.
    exists = Must(Op::kDelete, init,
                  {Code::kOk, Code::kNotFound, Code::kFailedPrecondition}) ==
             Code::kFailedPrecondition;
    if (!exists) return;
  }
  if (exists) {
    if (init_first) {
      Must(Op::kKill, init, {Code::kOk, Code::kNotFound}, SIGKILL);
    }
    for (const ProcessName& exec : execs) {
      Must(Op::kKill, exec,
           {Code::kOk, Code::kNotFound, Code::kFailedPrecondition}, SIGKILL);
    }
    Must(Op::kKill, init, {Code::kOk, Code::kNotFound}, SIGKILL);
    Must(Op::kWait, init, {Code::kOk});
    Must(Op::kState, init, {Code::kOk});
    for (const ProcessName& exec : execs) {
      if (Must(Op::kState, exec, {Code::kOk, Code::kNotFound}) != Code::kOk) {
        continue;
      }
      if (go_with_task) continue;
      Must(Op::kDelete, exec, {Code::kOk});
      Must(Op::kState, exec, {Code::kNotFound});
    }
  }
  const Code deleted = Must(Op::kDelete, init, {Code::kOk, Code::kNotFound});
  if (exists && deleted != Code::kOk) {
    Object(init.Text() + ": could not be deleted in the end");
  }
  if (!exists && deleted == Code::kOk) Count(kKeptDelete);
  Must(Op::kDelete, init, {Code::kNotFound});
  Must(Op::kState, init, {Code::kNotFound});
}

void ScheduleRunner::AwaitDeletions() {
  std::set<std::string> missing;
  const auto all_told = [&] {
    missing.clear();
    for (const auto& [name, facts] : facts_) {
      if (name.exec.empty() && facts.made == Outcome::kDone) {
        missing.insert(name.container);
      }
    }
    for (const TestEvent& event : Events()) {
      if (event.topic == "/tasks/create") missing.insert(event.container);
      if (event.topic == "/tasks/delete") missing.erase(event.container);
    }
    return missing.empty();
  };
  // If not, the judge of the stream will say it.
  shim_.RunUntil(all_told, kPatience);
}

void ScheduleRunner::CheckLeftovers() {
  const std::string states =
      fmt::format("{}/runtime/{}", shim_.directory(), shim_.namespace_name());
  if (!shim_.RunUntil([&] { return Entries(states).empty(); }, kPatience)) {
    for (const std::string& name : Entries(states)) {
      Object("the runtime still knows " + name);
    }
  }
  const std::string variable = "FAKE_RUNC_CONTROL=" + shim_.control();
  std::vector<std::string> alive;
  if (!shim_.RunUntil(
          [&] {
            alive = FindProcesses(variable, shim_.pid());
            return alive.empty();
          },
          kPatience / 3)) {
    for (const std::string& process : alive) {
      Object("still alive: " + process);
    }
  }
  const std::string children =
      fmt::format("/proc/{0}/task/{0}/children", static_cast<int>(shim_.pid()));
  if (!shim_.RunUntil([&] { return ReadFile(children).value_or("").empty(); },
                      kPatience / 3)) {
    Object("children left: " + ReadFile(children).value_or(""));
  }
  for (const auto& [name, process] : plan_->processes) {
    if (!name.exec.empty()) continue;
    for (const std::string& file : Entries(Bundle(name))) {
      if ((file.ends_with(".pid") && file != "init.pid") ||
          file.ends_with(".process.json")) {
        Object(fmt::format("{}: {} left in the bundle", name.Text(), file));
      }
    }
  }
  readers_.clear();
  CheckFds();
}

void ScheduleRunner::CheckFds() {
  // Each client has a connection, as at the beginning.
  for (int i = 0; i < Plan::kClients; ++i) {
    bool answered = false;
    clients_[static_cast<size_t>(i)]->Call(
        "containerd.task.v3.Task", "Connect", "", {}, kPatience,
        [&answered](const absl::StatusOr<std::string>&) { answered = true; });
    shim_.RunUntil([&answered] { return answered; });
  }
  const std::string directory =
      fmt::format("/proc/{}/fd", static_cast<int>(shim_.pid()));
  // The events have a connection once there has been one.
  if (fds_ == 0 && shim_.events().empty()) return;
  if (fds_ == 0) fds_ = Entries(directory).size();
  if (shim_.RunUntil([&] { return Entries(directory).size() == fds_; },
                     kPatience / 3)) {
    return;
  }
  std::string found;
  for (const std::string& fd : Entries(directory)) {
    std::error_code error;
    found += fmt::format(
        " {}={}", fd,
        fs::read_symlink(fmt::format("{}/{}", directory, fd), error).string());
  }
  Object(fmt::format("{} fds before, now{}", fds_, found));
}

// ---- What has happened ----

void ScheduleRunner::CountCalls() {
  for (const Asked& asked : asked_) {
    const Step& step = asked.step;
    const bool exec = !step.process.exec.empty();
    const absl::Status& status = asked.status;
    const bool lost = status.code() == Code::kUnavailable;
    const bool late = asked.outcome == Outcome::kUnknown && !lost;
    const bool limit = !late && SaysRuntimeLimit(status);
    const bool failed = absl::StrContains(status.message(), "told to fail");
    if (step.op == Op::kCreate) {
      if (lost) Count(kLostCreate);
      if (late) Count(kLateCreate);
      if (limit) Count(kLimitCreate);
      if (failed) Count(kFailedCreate);
      if (status.code() == Code::kAlreadyExists) Count(kSecondCreate);
    } else if (step.op == Op::kStart) {
      if (lost) Count(exec ? kLostExecStart : kLostStart);
      if (late) {
        Count(!exec                              ? kLateStart
              : Planned(step.process).has_output ? kLateReader
                                                 : kLateExecStart);
      }
      if (limit) Count(exec ? kLimitExec : kLimitStart);
      if (failed) Count(exec ? kFailedExec : kFailedStart);
      if (exec && absl::StrContains(status.message(), "is not running")) {
        Count(kRefusedExec);
      }
      if (exec && (absl::StrContains(status.message(), "being started") ||
                   absl::StrContains(status.message(), "not be started") ||
                   absl::StrContains(status.message(), "cannot start a"))) {
        Count(kSecondStart);
      }
    } else if (step.op == Op::kDelete && !exec) {
      if (lost) Count(kLostDelete);
      if (late) Count(kLateDelete);
      if (failed) Count(kFailedDelete);
    } else if (step.op == Op::kWait && lost) {
      Count(kLostWait);
    }
    if (step.op != Op::kDelete || exec) continue;
    for (const Asked& other : asked_) {
      if (&other == &asked || other.step.process != step.process ||
          asked.at < other.at || asked.at > other.answered_at) {
        continue;
      }
      if (other.step.op == Op::kCreate) Count(kDeleteInCreate);
      if (other.step.op == Op::kDelete && asked.outcome == Outcome::kDone &&
          other.outcome == Outcome::kDone) {
        Count(kJoinedDelete);
      }
    }
  }
}

void ScheduleRunner::CountEvents() {
  std::map<ProcessName, absl::Time> exits;
  std::set<ProcessName> started;
  for (const TestEvent& event : Events()) {
    const ProcessName name = {
        .container = event.container,
        .exec = event.process == event.container ? "" : event.process};
    if (event.topic == "/tasks/exit") exits[name] = event.exited_at;
    if (event.topic.ends_with("start") || event.topic.ends_with("started")) {
      started.insert(name);
    }
  }
  for (const Asked& asked : asked_) {
    if (asked.step.op != Op::kStart) continue;
    const ProcessName& name = asked.step.process;
    const auto during = [&asked](absl::Time when) {
      return asked.at < when && when < asked.answered_at;
    };
    if (const auto exit = exits.find(name); exit != exits.end() &&
                                            asked.outcome == Outcome::kDone &&
                                            during(exit->second)) {
      Count(name.exec.empty() ? kEarlyInit : kEarlyExec);
    }
    const auto init = exits.find({.container = name.container, .exec = ""});
    if (!name.exec.empty() && init != exits.end() && during(init->second)) {
      Count(kDeathInFlight);
    }
  }
  for (const auto& [name, at] : exits) {
    if (name.exec.empty()) {
      if (!started.contains(name)) Count(kUnstartedExit);
      continue;
    }
    const auto init = exits.find({.container = name.container, .exec = ""});
    if (init != exits.end() && init->second < at) Count(kHeldExit);
  }
}

}  // namespace wisp
