// The end of a container's processes: what Container promises of exits.
#include <signal.h>

#include "fmt/format.h"
#include "shim/container.h"
#include "shim/log.h"

namespace wisp {

void Container::OnInitDeath() {
  settling_.End();
  // While it is coming up this is no exit of the task yet: MarkCreated() or the
  // end of a restore takes it from here.
  if (created_ && !init_->launching()) BeginInitExit();
}

void Container::BeginInitExit() {
  exit_begun_ = true;
  RecordExit();
  KillLeftovers();
  LimitStartsAfterDeath();
  Reconsider();
}

void Container::RecordExit() {
  const ExitRecord record = {.at = init_->death()->at,
                             .pid = static_cast<uint32_t>(init_->pid()),
                             .status = init_->death()->code};
  const auto complain = [id = config_.id](const absl::Status& status) {
    if (status.ok()) return;
    LogError("cannot record the exit", {{"id", id}, {"error", status}});
  };
  if (OnTmpfs(config_.bundle)) {
    complain(bundle_.WriteExitRecord(record, /*sync=*/false));
    exit_recorded_ = true;
    return;
  }
  // A disk may take its time; it holds up this exit alone, and not for long.
  context_.loop.Offload(
      [bundle = bundle_, record] {
        return bundle.WriteExitRecord(record, /*sync=*/true);
      },
      [self = shared_from_this(), complain](const absl::Status& status) {
        complain(status);
        self->exit_recorded_ = true;
        self->Reconsider();
      });
  record_limit_ = context_.loop.After(kRecordLimit, [this] {
    if (exit_recorded_) return;
    LogError("the exit is told before it is on disk", {{"id", config_.id}});
    exit_recorded_ = true;
    Reconsider();
  });
}

void Container::KillLeftovers() {
  const auto limit_stuck_execs = [this] {
    stuck_limit_ = context_.loop.After(kStuckExecLimit, [this] {
      stuck_execs_given_up_ = true;
      Reconsider();
    });
  };
  if (private_pid_namespace_) {
    leftovers_killed_ = true;
    limit_stuck_execs();
    return;
  }
  // Before any wait for execs: in a shared pid namespace nothing else ends
  // them.
  driver_.KillAllAfterExit(
      [self = shared_from_this(), limit_stuck_execs](absl::Status status) {
        if (!status.ok()) {
          LogWarning("the runtime could not kill what init left behind",
                     {{"id", self->config_.id}, {"error", status}});
          if (self->cgroup_.has_value()) (void)self->cgroup_->KillAll();
        }
        self->leftovers_killed_ = true;
        if (!self->exit_told_) limit_stuck_execs();
        self->Reconsider();
      });
}

void Container::LimitStartsAfterDeath() {
  start_limit_ = context_.loop.After(kStartAfterDeathLimit, [this] {
    const absl::Status why = absl::DeadlineExceededError(
        fmt::format("init died and the runtime did not end within {}",
                    absl::FormatDuration(kStartAfterDeathLimit)));
    const auto self = shared_from_this();
    if (init_->starting()) init_->Cancel(why);
    for (const auto& [id, exec] : std::map(execs_)) {
      if (exec->starting()) exec->Cancel(why);
    }
  });
}

bool Container::MayTellInitExit() const {
  if (!exit_begun_ || exit_told_) return false;
  if (!exit_recorded_ || !leftovers_killed_ || init_->starting()) return false;
  for (const auto& [id, exec] : execs_) {
    if (exec->starting()) return false;
    if (exec->state() == ExecState::kRunning && !stuck_execs_given_up_) {
      return false;
    }
  }
  return true;
}

void Container::Reconsider() {
  if (MayTellInitExit()) TellInitExit();
}

void Container::TellInitExit() {
  exit_told_ = true;
  record_limit_.Reset();
  start_limit_.Reset();
  stuck_limit_.Reset();
  const ExitStatus status = *init_->death();
  const bool frozen = init_->status() == TaskStatus::kPaused ||
                      init_->status() == TaskStatus::kPausing;
  CheckOom(status);
  oom_.reset();
  AnswerKills();
  init_->MarkStopped();
  context_.events.Exited(config_.id, config_.id, init_->pid(), status);
  init_->waiters().Release(status);
  if (frozen) {
    // Or the rest of the cgroup stays frozen, and nobody can delete it.
    driver_.Resume({}, [self = shared_from_this()](absl::Status resumed) {
      if (resumed.ok()) return;
      LogWarning("cannot resume a container that ended while paused",
                 {{"id", self->config_.id}, {"error", resumed}});
    });
  }
}

void Container::OnExecDeath(const std::string& exec_id) {
  const std::shared_ptr<ExecProcess> exec = FindExec(exec_id);
  // One that is still being started is told of by OnExecStarted().
  if (exec == nullptr || exec->starting()) return;
  TellExecExit(*exec);
  Reconsider();
}

void Container::TellExecExit(ExecProcess& exec) {
  const ExitStatus status = *exec.death();
  CheckOom(status);
  exec.MarkStopped();
  context_.events.Exited(config_.id, exec.id(), exec.pid(), status);
  exec.waiters().Release(status);
}

void Container::CheckOom(const ExitStatus& status) {
  // The kernel has counted before the victim was dead, but its notice may come
  // after ours. Whoever exits, it may be because a child of his was killed:
  // what explains an exit must be told first.
  if (oom_ == nullptr) return;
  switch (oom_->FinalCheck()) {
    case OomWatch::Final::kNone:
      return;
    case OomWatch::Final::kOom:
      break;
    case OomWatch::Final::kParentOnly:
      // Systemd has removed the scope with its counter. A SIGKILL while the
      // parent's counter rose is no proof, but the best there is.
      if (status.signal != SIGKILL || killed_by_us_) return;
      LogWarning(
          "taken for an OOM kill: the counter is gone, the parent's rose",
          {{"id", config_.id}});
      break;
  }
  TellOom();
}

void Container::TellOom() {
  // The event has no room for which limit it was.
  LogWarning("OOM kill", {{"id", config_.id}, {"memory", oom_->Describe()}});
  context_.events.Oom(config_.id);
}

}  // namespace wisp
