#include "test/support/schedule.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/json.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using Op = Step::Op;
using Kind = Behaviour::Kind;

constexpr uint32_t kStopped = 3;
// How long a schedule waits for what it hopes for.
constexpr absl::Duration kHope = absl::Milliseconds(500);
// And for what is held up until its limit, or its deadline.
constexpr absl::Duration kHopeAtLimit = absl::Seconds(5);

absl::Time FromTimestamp(const google::protobuf::Timestamp& stamp) {
  return absl::FromUnixSeconds(stamp.seconds()) +
         absl::Nanoseconds(stamp.nanos());
}

bool SaysRuntimeLimit(const absl::Status& status) {
  return absl::StrContains(status.message(), "did not end within");
}

template <typename Request>
Request For(const ProcessName& process) {
  Request request;
  request.set_id(process.container);
  request.set_exec_id(process.exec);
  return request;
}

}  // namespace

ScheduleRunner::ScheduleRunner(TestShim& shim, Tally& tally)
    : shim_(shim), tally_(tally), first_event_ever_(shim.events().size()) {
  for (int i = 0; i < Plan::kClients; ++i) clients_.push_back(shim.Connect());
}

std::vector<std::string> ScheduleRunner::Run(const Plan& plan) {
  plan_ = &plan;
  first_event_ = shim_.events().size();
  faults_.clear();
  facts_.clear();
  asked_.clear();
  for (const auto& [name, process] : plan.processes) {
    facts_[name];
    if (name.exec.empty()) {
      shim_.MakeBundle(name.container, process.behaviour.Args());
    }
    if (process.outside) {
      (void)WriteFileAtomically(
          fmt::format("{}/exec.{}.outside", shim_.control(), name.exec), "",
          0600, /*sync=*/false);
    }
  }
  for (const Step& step : plan.steps) Do(step);
  CleanUp();
  AwaitDeletions();
  for (std::string& fault : FindFaults(Events(), facts_)) {
    Object(std::move(fault));
  }
  CheckLeftovers();
  CountCalls();
  CountEvents();
  all_facts_.insert(facts_.begin(), facts_.end());
  std::error_code error;
  for (const auto& [name, process] : plan.processes) {
    if (name.exec.empty()) std::filesystem::remove_all(Bundle(name), error);
  }
  for (const std::filesystem::directory_entry& file :
       std::filesystem::directory_iterator(shim_.control(), error)) {
    unlink(file.path().c_str());
  }
  return std::move(faults_);
}

std::vector<std::string> ScheduleRunner::FindLateFaults() const {
  return FindFaults(
      {shim_.events().begin() + static_cast<ptrdiff_t>(first_event_ever_),
       shim_.events().end()},
      all_facts_);
}

std::vector<TestEvent> ScheduleRunner::Events() const {
  return {shim_.events().begin() + static_cast<ptrdiff_t>(first_event_),
          shim_.events().end()};
}

std::string ScheduleRunner::Bundle(const ProcessName& process) const {
  return fmt::format("{}/bundles/{}", shim_.directory(), process.container);
}

bool ScheduleRunner::InFlight(const ProcessName& process) const {
  for (const Asked& asked : asked_) {
    if (!asked.answered() && asked.step.process == process &&
        asked.step.op != Op::kWait) {
      return true;
    }
  }
  return false;
}

bool ScheduleRunner::HasEnded(const ProcessName& process) const {
  const std::string& id =
      process.exec.empty() ? process.container : process.exec;
  for (size_t i = first_event_; i < shim_.events().size(); ++i) {
    const TestEvent& event = shim_.events()[i];
    if (event.topic == "/tasks/exit" && event.process == id &&
        event.container == process.container) {
      return true;
    }
  }
  return false;
}

bool ScheduleRunner::AtGate(const std::string& gate) const {
  const absl::StatusOr<std::string> gates =
      ReadFile(shim_.control() + "/gates");
  if (!gates.ok()) return false;
  for (absl::string_view line : absl::StrSplit(*gates, '\n')) {
    if (line == gate) return true;
  }
  return false;
}

// ---- The steps ----

void ScheduleRunner::Do(const Step& step) {
  switch (step.op) {
    case Op::kCloseGate:
      if (closed_gates_.insert(step.text).second) shim_.CloseGate(step.text);
      return;
    case Op::kOpenGate:
      if (closed_gates_.erase(step.text) > 0) shim_.OpenGate(step.text);
      return;
    case Op::kAwaitGate:
      shim_.RunUntil(
          [&] { return AtGate(step.text) || !InFlight(step.process); }, kHope);
      return;
    case Op::kSetFailure:
      failures_.insert(step.text);
      shim_.SetFailure(step.text, "told to fail");
      return;
    case Op::kClearFailure:
      failures_.erase(step.text);
      shim_.ClearFailure(step.text);
      return;
    case Op::kOpenReader:
      OpenReader(step.process);
      return;
    case Op::kAwaitAnswers:
      shim_.RunUntil([&] { return !InFlight(step.process); },
                     step.text.empty() ? kHope : kHopeAtLimit);
      return;
    case Op::kDisconnect:
      Disconnect(step.client);
      return;
    case Op::kTurn:
      shim_.RunUntil([] { return false; }, step.limit);
      return;
    default:
      Ask(step);
  }
}

void ScheduleRunner::Ask(const Step& step) {
  switch (step.op) {
    case Op::kCreate:
      return Create(step);
    case Op::kExec:
      return Exec(step);
    case Op::kStart:
      return Start(step);
    case Op::kKill:
      return Kill(step);
    case Op::kDelete:
      return Delete(step);
    case Op::kWait:
      return Wait(step);
    default:
      return State(step);
  }
}

void ScheduleRunner::Disconnect(int client) {
  // Its calls end inside, as far as their callers can know.
  clients_[static_cast<size_t>(client)]->Disconnect();
}

void ScheduleRunner::OpenReader(const ProcessName& exec) {
  absl::StatusOr<UniqueFd> reader = OpenFd(
      fmt::format("{}/{}.out", Bundle(exec), exec.exec), O_RDONLY | O_NONBLOCK);
  if (reader.ok()) readers_[exec] = *std::move(reader);
}

void ScheduleRunner::Send(const Step& step, std::string_view method,
                          const google::protobuf::MessageLite& request,
                          OnAnswer on_answer) {
  Asked& asked = asked_.emplace_back(Asked{.step = step, .at = absl::Now()});
  clients_[static_cast<size_t>(step.client)]->Call(
      "containerd.task.v3.Task", method, request.SerializeAsString(), {},
      step.limit,
      [this, &asked, on_answer](absl::StatusOr<std::string> result) {
        Judge(&asked, result.status());
        on_answer(asked, result.ok() ? *result : std::string());
      });
}

void ScheduleRunner::Judge(Asked* asked, const absl::Status& status) {
  asked->answered_at = absl::Now();
  asked->status = status;
  asked->outcome = status.ok() ? Outcome::kDone : Outcome::kFailed;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      asked->outcome = Outcome::kUnknown;
      return;
    case absl::StatusCode::kDeadlineExceeded:
      if (asked->step.limit < absl::InfiniteDuration()) {
        asked->outcome = Outcome::kUnknown;
        return;
      }
      if (SaysRuntimeLimit(status)) return;
      break;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
      break;
    default:
      return;
  }
  Object(fmt::format("{}: answered with {}", asked->step.Text(),
                     View(status.ToString())));
}

void ScheduleRunner::Create(const Step& step) {
  Send(step, "Create", shim_.CreateRequest(step.process.container),
       [this](const Asked& asked, const std::string& payload) {
         ProcessFacts& facts = facts_[asked.step.process];
         ProcessFacts::Merge(asked.outcome, &facts.made);
         api::CreateTaskResponse response;
         if (asked.outcome == Outcome::kDone &&
             response.ParseFromString(payload)) {
           facts.pid = response.pid();
         }
       });
}

void ScheduleRunner::Exec(const Step& step) {
  const ProcessName& name = step.process;
  Json args = Json::Array();
  for (const std::string& arg : Planned(name).behaviour.Args()) {
    args.Append(arg);
  }
  Json process = Json::Object();
  process.Set("args", std::move(args));
  auto request = For<api::ExecProcessRequest>(name);
  request.mutable_spec()->set_value(process.Dump());
  if (Planned(name).has_output) {
    const std::string path = fmt::format("{}/{}.out", Bundle(name), name.exec);
    mkfifo(path.c_str(), 0600);
    request.set_stdout(path);
  }
  Send(step, "Exec", request, [this](const Asked& asked, const std::string&) {
    ProcessFacts::Merge(asked.outcome, &facts_[asked.step.process].made);
  });
}

void ScheduleRunner::Start(const Step& step) {
  const ProcessName& name = step.process;
  const Behaviour& behaviour = Planned(name).behaviour;
  if (behaviour.kind == Kind::kExits) {
    facts_[name].Allow(behaviour.code, absl::Now());
    if (name.exec.empty()) InitMayDie(name.container);
  }
  Send(step, "Start", For<api::StartRequest>(name),
       [this](const Asked& asked, const std::string& payload) {
         ProcessFacts& facts = facts_[asked.step.process];
         ProcessFacts::Merge(asked.outcome, &facts.started);
         api::StartResponse response;
         if (asked.outcome == Outcome::kDone &&
             response.ParseFromString(payload)) {
           facts.pid = response.pid();
         }
       });
}

void ScheduleRunner::InitMayDie(const std::string& container) {
  for (auto& [name, facts] : facts_) {
    if (name.container == container && !name.exec.empty()) {
      facts.Allow(128 + SIGKILL, absl::Now());
    }
  }
}

void ScheduleRunner::Kill(const Step& step) {
  const ProcessName& name = step.process;
  const Behaviour& behaviour = Planned(name).behaviour;
  const bool is_init = name.exec.empty();
  ProcessFacts& facts = facts_[name];
  if (step.signal == SIGKILL) facts.Allow(128 + SIGKILL, absl::Now());
  // Without a handler, an init is not to be hurt by less.
  if (step.signal == SIGTERM && !is_init) {
    facts.Allow(128 + SIGTERM, absl::Now());
  }
  if (step.signal == SIGTERM && behaviour.kind == Kind::kTraps) {
    facts.Allow(behaviour.code, absl::Now());
  }
  if (is_init) InitMayDie(name.container);
  auto request = For<api::KillRequest>(name);
  request.set_signal(static_cast<uint32_t>(step.signal));
  Send(step, "Kill", request, [](const Asked&, const std::string&) {});
}

void ScheduleRunner::Delete(const Step& step) {
  const ProcessName& name = step.process;
  if (name.exec.empty()) {
    // One that was only created dies of it.
    facts_[name].Allow(128 + SIGKILL, absl::Now());
    InitMayDie(name.container);
  }
  Send(step, "Delete", For<api::DeleteRequest>(name),
       [this](const Asked& asked, const std::string& payload) {
         api::DeleteResponse response;
         if (asked.outcome == Outcome::kDone &&
             response.ParseFromString(payload)) {
           facts_[asked.step.process].answers.push_back(
               {.from = "Delete",
                .status = response.exit_status(),
                .exited_at = FromTimestamp(response.exited_at())});
         }
       });
}

void ScheduleRunner::Wait(const Step& step) {
  Send(step, "Wait", For<api::WaitRequest>(step.process),
       [this](const Asked& asked, const std::string& payload) {
         api::WaitResponse response;
         if (asked.outcome == Outcome::kDone &&
             response.ParseFromString(payload)) {
           facts_[asked.step.process].answers.push_back(
               {.from = "Wait",
                .status = response.exit_status(),
                .exited_at = FromTimestamp(response.exited_at())});
         }
       });
}

void ScheduleRunner::State(const Step& step) {
  const bool ended = HasEnded(step.process);
  Send(step, "State", For<api::StateRequest>(step.process),
       [this, ended](const Asked& asked, const std::string& payload) {
         api::StateResponse response;
         if (asked.outcome != Outcome::kDone ||
             !response.ParseFromString(payload)) {
           return;
         }
         const auto status = static_cast<uint32_t>(response.status());
         if (status == kStopped) {
           facts_[asked.step.process].answers.push_back(
               {.from = "State",
                .status = response.exit_status(),
                .exited_at = FromTimestamp(response.exited_at())});
         } else if (ended) {
           Object(fmt::format("{}: state {} after its exit was told",
                              asked.step.process.Text(), status));
         }
       });
}

}  // namespace wisp
