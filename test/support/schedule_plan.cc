#include "test/support/schedule_plan.h"

#include <signal.h>

#include <algorithm>
#include <random>
#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

using Op = Step::Op;
using Steps = std::vector<Step>;

constexpr std::string_view kOpNames[] = {
    "create",      "start",         "exec",       "kill",
    "delete",      "wait",          "state",      "close",
    "open",        "await gate",    "fail",       "no longer fail",
    "open reader", "await answers", "disconnect", "turn"};

class Planner {
 public:
  explicit Planner(uint64_t seed) : seed_(seed), random_(seed) {}

  Plan Make() {
    std::vector<Steps> lanes;
    const size_t containers = 1 + Below(3);
    for (size_t i = 0; i < containers; ++i) lanes.push_back(PlanContainer(i));
    plan_.steps = Merge(std::move(lanes), /*pauses=*/true);
    return std::move(plan_);
  }

 private:
  // Modulo, not a distribution: those differ from library to library.
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  bool Chance(uint64_t percent) { return Below(100) < percent; }

  Step Make(Op op, const ProcessName& process) {
    return {.op = op,
            .process = process,
            .client = static_cast<int>(Below(Plan::kClients))};
  }
  Step Kill(const ProcessName& process, int signal) {
    Step step = Make(Op::kKill, process);
    step.signal = signal;
    return step;
  }
  Step Named(Op op, const ProcessName& process, std::string text) {
    Step step = Make(op, process);
    step.text = std::move(text);
    return step;
  }
  Step Turn() {
    Step step = Make(Op::kTurn, {});
    step.limit = absl::Microseconds(Below(4000));
    return step;
  }
  static void Append(Steps more, Steps* steps) {
    for (Step& step : more) steps->push_back(std::move(step));
  }
  static bool Has(Op op, const Steps& steps) {
    return std::any_of(steps.begin(), steps.end(),
                       [op](const Step& step) { return step.op == op; });
  }

  Behaviour PlanBehaviour();
  Steps PlanContainer(size_t number);
  Steps PlanExec(const ProcessName& exec);
  Steps PlanEnd(const ProcessName& init);
  Steps Disturbed(Step call, std::string_view verb);
  Steps Disturbance(const Step& call);
  Steps Merge(std::vector<Steps> lanes, bool pauses);

  const uint64_t seed_;
  std::mt19937_64 random_;
  Plan plan_;
};

Behaviour Planner::PlanBehaviour() {
  using Kind = Behaviour::Kind;
  constexpr Kind kKinds[] = {Kind::kExits, Kind::kSleeps, Kind::kSleeps,
                             Kind::kTraps};
  return {.kind = kKinds[Below(4)],
          .code = static_cast<uint32_t>(1 + Below(100))};
}

// A call with the runtime's step for it held up, failing, or both in time.
Steps Planner::Disturbed(Step call, std::string_view verb) {
  const ProcessName process = call.process;
  const std::string subject = fmt::format(
      "{}.{}", verb, process.exec.empty() ? process.container : process.exec);
  Steps steps;
  if (Chance(10)) {
    steps.push_back(Named(Op::kSetFailure, process, subject));
    steps.push_back(std::move(call));
    steps.push_back(Make(Op::kAwaitAnswers, process));
    steps.push_back(Named(Op::kClearFailure, process, subject));
    return steps;
  }
  if (Chance(45)) {
    if (Chance(5)) call.limit = absl::Milliseconds(1 + Below(20));
    steps.push_back(std::move(call));
    if (Chance(80)) steps.push_back(Make(Op::kAwaitAnswers, process));
    return steps;
  }
  const std::string gate = subject + (Chance(50) ? ".before" : ".after");
  const bool by_deadline = Chance(20);
  if (by_deadline) call.limit = absl::Milliseconds(20 + Below(60));
  steps.push_back(Named(Op::kCloseGate, process, gate));
  steps.push_back(call);
  if (Chance(80)) steps.push_back(Named(Op::kAwaitGate, process, gate));
  // Held for good, it ends at its deadline or the runtime at its limit.
  const bool to_the_end = by_deadline ? Chance(70) : Chance(6);
  if (to_the_end) {
    if (Chance(50)) Append(Disturbance(call), &steps);
    Step answers = Make(Op::kAwaitAnswers, process);
    answers.text = gate;
    steps.push_back(std::move(answers));
  } else {
    Steps disturbance = Disturbance(call);
    if (Chance(30)) {
      Steps second = Disturbance(call);
      // A second Create that is slow to arrive would find the first one's
      // container deleted, and rightly make another.
      const bool may_make_another =
          (Has(Op::kDelete, disturbance) && Has(Op::kCreate, second)) ||
          (Has(Op::kCreate, disturbance) && Has(Op::kDelete, second));
      if (!may_make_another) Append(std::move(second), &disturbance);
    }
    Append(std::move(disturbance), &steps);
  }
  steps.push_back(Named(Op::kOpenGate, process, gate));
  if (Chance(80)) steps.push_back(Make(Op::kAwaitAnswers, process));
  return steps;
}

// What may come between a call and its answer.
Steps Planner::Disturbance(const Step& call) {
  const ProcessName& process = call.process;
  const ProcessName init = {.container = process.container, .exec = ""};
  switch (Below(10)) {
    case 0:
    case 1: {
      Step loss = Make(Op::kDisconnect, process);
      loss.client = call.client;
      return {loss};
    }
    case 2:
    case 3:
      return {Kill(init, SIGKILL)};
    case 4:
      return {Kill(process, Chance(50) ? SIGKILL : SIGTERM)};
    case 5: {
      Step again = call;
      again.client = static_cast<int>(Below(Plan::kClients));
      again.limit = absl::InfiniteDuration();
      return {again};
    }
    case 6:
      return {Make(Op::kDelete, process)};
    case 7:
      return {Make(Op::kDelete, init), Make(Op::kState, process)};
    case 8:
      return {Make(Op::kWait, process), Make(Op::kState, init)};
    default:
      return {Turn(), Turn()};
  }
}

Steps Planner::PlanContainer(size_t number) {
  const ProcessName init = {.container = fmt::format("s{}-c{}", seed_, number),
                            .exec = ""};
  plan_.processes[init] = {.behaviour = PlanBehaviour()};
  Steps steps = Disturbed(Make(Op::kCreate, init), "create");
  if (Chance(60)) steps.push_back(Make(Op::kWait, init));
  if (Chance(8)) steps.push_back(Kill(init, SIGKILL));
  if (Chance(5)) Append(PlanEnd(init), &steps);

  std::vector<Steps> lanes;
  const size_t execs = Below(4);
  for (size_t i = 0; i < execs; ++i) {
    lanes.push_back(
        PlanExec({.container = init.container,
                  .exec = fmt::format("s{}-c{}-e{}", seed_, number, i)}));
  }
  // Most execs come after init's start, some while it is still to come.
  Steps start = Disturbed(Make(Op::kStart, init), "start");
  if (Chance(20)) start.push_back(Make(Op::kStart, init));
  if (Chance(15)) {
    lanes.push_back(std::move(start));
  } else {
    Append(std::move(start), &steps);
  }
  if (Chance(50)) lanes.push_back(PlanEnd(init));
  Append(Merge(std::move(lanes), /*pauses=*/false), &steps);
  Append(PlanEnd(init), &steps);
  return steps;
}

Steps Planner::PlanExec(const ProcessName& exec) {
  PlannedProcess& process = plan_.processes[exec];
  process = {.behaviour = PlanBehaviour(),
             .outside = Chance(30),
             .has_output = Chance(15)};
  // Its child would outlive all.
  if (process.behaviour.kind == Behaviour::Kind::kTraps) {
    process.outside = false;
  }
  Steps steps = {Make(Op::kExec, exec)};
  if (Chance(80)) steps.push_back(Make(Op::kAwaitAnswers, exec));
  if (Chance(40)) steps.push_back(Make(Op::kWait, exec));
  if (process.has_output) {
    Step start = Make(Op::kStart, exec);
    if (Chance(60)) start.limit = absl::Milliseconds(20 + Below(80));
    steps.push_back(start);
    Append(Disturbance(start), &steps);
    if (start.limit < absl::InfiniteDuration()) {
      steps.push_back(Make(Op::kAwaitAnswers, exec));
    }
    steps.push_back(Make(Op::kOpenReader, exec));
  } else {
    Append(Disturbed(Make(Op::kStart, exec), "exec"), &steps);
  }
  if (Chance(50)) steps.push_back(Make(Op::kWait, exec));
  if (Chance(60)) {
    steps.push_back(Kill(exec, Chance(50) ? SIGKILL : SIGTERM));
    if (Chance(50)) steps.push_back(Make(Op::kState, exec));
    if (Chance(50)) steps.push_back(Make(Op::kDelete, exec));
  } else if (Chance(40)) {
    steps.push_back(Make(Op::kDelete, exec));
  }
  return steps;
}

Steps Planner::PlanEnd(const ProcessName& init) {
  Steps steps;
  if (Chance(70)) {
    steps.push_back(Kill(init, Chance(70) ? SIGKILL : SIGTERM));
    if (Chance(40)) steps.push_back(Turn());
    if (Chance(50)) steps.push_back(Make(Op::kState, init));
  }
  if (!Chance(50)) return steps;
  steps.push_back(Turn());
  Append(Disturbed(Make(Op::kDelete, init), "delete"), &steps);
  return steps;
}

// Interleaves at random.
Steps Planner::Merge(std::vector<Steps> lanes, bool pauses) {
  std::vector<size_t> next(lanes.size(), 0);
  Steps merged;
  for (;;) {
    std::vector<size_t> open;
    for (size_t i = 0; i < lanes.size(); ++i) {
      if (next[i] < lanes[i].size()) open.push_back(i);
    }
    if (open.empty()) return merged;
    const size_t lane = open[Below(open.size())];
    merged.push_back(std::move(lanes[lane][next[lane]++]));
    if (pauses && Chance(30)) merged.push_back(Turn());
  }
}

}  // namespace

std::vector<std::string> Behaviour::Args() const {
  switch (kind) {
    case Kind::kExits:
      return {"sh", "-c", fmt::format("exit {}", code)};
    case Kind::kSleeps:
      break;
    case Kind::kTraps:
      return {
          "sh", "-c",
          fmt::format("trap 'kill $!; exit {}' TERM; sleep 1000 & wait", code)};
  }
  return {"sleep", "1000"};
}

std::string Step::Text() const {
  std::string line = fmt::format("{} {}", kOpNames[static_cast<size_t>(op)],
                                 text.empty() ? process.Text() : text);
  if (signal != 0) line += fmt::format(" {}", signal);
  if (limit < absl::InfiniteDuration()) {
    line += " within " + absl::FormatDuration(limit);
  }
  return fmt::format("{} ({})", line, client);
}

std::string Plan::Text() const {
  std::string text;
  for (const auto& [name, process] : processes) {
    text += fmt::format("  {}:", name.Text());
    for (const std::string& arg : process.behaviour.Args()) text += " " + arg;
    if (process.outside) text += " (outside)";
    if (process.has_output) text += " (with output)";
    text += "\n";
  }
  for (const Step& step : steps) text += "  " + step.Text() + "\n";
  return text;
}

Plan MakePlan(uint64_t seed) { return Planner(seed).Make(); }

}  // namespace wisp
