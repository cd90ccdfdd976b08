#include "process/init_process.h"

#include <signal.h>

#include <utility>

namespace wisp {
namespace {

constexpr Launch::Texts kTexts = {
    .console_socket = "failed to create OCI runtime console socket",
    .stdio = "failed to create init process I/O",
    .pid = "failed to retrieve OCI runtime container pid",
};

RuncRunOptions With(const InitProcess::Environment& extra_env) {
  RuncRunOptions options;
  options.extra_env = extra_env;
  return options;
}

}  // namespace

InitProcess::InitProcess(EventLoop& loop, Reaper& reaper, RuncDriver& driver,
                         std::unique_ptr<Stdio> stdio, OnDeath on_death)
    : reaper_(reaper),
      driver_(driver),
      stdio_(std::move(stdio)),
      on_death_(std::move(on_death)),
      queue_(loop) {}

TaskStatus InitProcess::status() const {
  return pausing_ ? TaskStatus::kPausing : StatusOf(state_);
}

bool InitProcess::dead() const {
  if (death_.has_value()) return true;
  return child_.pidfd() != nullptr && child_.pidfd()->exited();
}

std::string InitProcess::pid_file() const {
  return driver_.settings().bundle + "/init.pid";
}

Reaper::OnExit InitProcess::DeathCallback() {
  return [this](ExitStatus status) {
    // One that is only killed because it did not come up properly.
    const bool failed = !launching() && pid_ == 0;
    if (failed) return;
    death_ = status;
    if (stdio_ != nullptr) stdio_->ProcessExited();
    on_death_(status);
  };
}

bool InitProcess::runtime_ran() const {
  return launch_ != nullptr && launch_->runtime_ran();
}

void InitProcess::Create(const Environment& extra_env, DoneStatus done) {
  launch_ = std::make_unique<Launch>(reaper_, *stdio_, kTexts, pid_file(),
                                     DeathCallback());
  launch_->Run(
      With(extra_env),
      [this](const RuncRunOptions& options, DoneStatus ran) {
        return driver_.Create(pid_file(), options, std::move(ran));
      },
      [this,
       done = std::move(done)](absl::StatusOr<Reaper::Child> child) mutable {
        OnLaunched(std::move(child), InitState::kCreated, std::move(done));
      });
}

void InitProcess::OnLaunched(absl::StatusOr<Reaper::Child> child,
                             InitState next, DoneStatus done) {
  if (!child.ok()) {
    death_.reset();  // of a process that nobody was told of
    std::move(done)(child.status());
    return;
  }
  child_ = *std::move(child);
  pid_ = child_.pid();
  state_ = next;
  std::move(done)(absl::OkStatus());
}

void InitProcess::CreateFromCheckpoint(CheckpointOptions from) {
  checkpoint_ = std::move(from);
  state_ = InitState::kCreatedCheckpoint;
}

void InitProcess::Cancel(const absl::Status& why) {
  if (launch_ != nullptr) launch_->Cancel(why);
  start_.Abort(why);
  if (starting() && start_cancelled_->ok()) *start_cancelled_ = why;
}

void InitProcess::Start(const Environment& extra_env, DoneStatus done) {
  ++starts_;
  const auto cancelled = std::make_shared<absl::Status>();
  start_cancelled_ = cancelled;
  queue_.Enqueue([this, extra_env, cancelled,
                  done = std::move(done)](TurnQueue::Turn turn) mutable {
    absl::Status allowed = *cancelled;
    if (allowed.ok()) allowed = CheckStart();
    if (!allowed.ok()) {
      --starts_;
      std::move(done)(allowed);
      return;
    }
    if (state_ == InitState::kCreatedCheckpoint) {
      launch_ = std::make_unique<Launch>(reaper_, *stdio_, kTexts, pid_file(),
                                         DeathCallback());
      launch_->Run(
          With(extra_env),
          [this](const RuncRunOptions& options, DoneStatus ran) {
            return driver_.Restore(pid_file(), *checkpoint_, options,
                                   std::move(ran));
          },
          [this, turn = std::move(turn), done = std::move(done)](
              absl::StatusOr<Reaper::Child> child) mutable {
            --starts_;
            OnLaunched(std::move(child), InitState::kRunning, std::move(done));
          });
      return;
    }
    start_ = driver_.Start(
        With(extra_env), [this, turn = std::move(turn),
                          done = std::move(done)](absl::Status status) mutable {
          --starts_;
          if (status.ok()) state_ = InitState::kRunning;
          start_failed_ = !status.ok();
          std::move(done)(status);
        });
  });
}

absl::Status InitProcess::CheckStart() const {
  // Its stdio is being drained, or is somebody else's already.
  return Check(deleting_ ? InitState::kDeleted : state_, Operation::kStart);
}

void InitProcess::Pause(const Environment& extra_env, DoneStatus done) {
  queue_.Enqueue(
      [this, extra_env, done = std::move(done)](TurnQueue::Turn turn) mutable {
        if (absl::Status allowed = Check(state_, Operation::kPause);
            !allowed.ok()) {
          std::move(done)(allowed);
          return;
        }
        pausing_ = true;
        driver_.Pause(With(extra_env),
                      [this, turn = std::move(turn),
                       done = std::move(done)](absl::Status status) mutable {
                        pausing_ = false;
                        // It may have died meanwhile, and been told so.
                        if (status.ok() && state_ == InitState::kRunning) {
                          state_ = InitState::kPaused;
                        }
                        std::move(done)(status);
                      });
      });
}

void InitProcess::Resume(const Environment& extra_env, DoneStatus done) {
  queue_.Enqueue(
      [this, extra_env, done = std::move(done)](TurnQueue::Turn turn) mutable {
        if (absl::Status allowed = Check(state_, Operation::kResume);
            !allowed.ok()) {
          std::move(done)(allowed);
          return;
        }
        driver_.Resume(With(extra_env),
                       [this, turn = std::move(turn),
                        done = std::move(done)](absl::Status status) mutable {
                         if (status.ok() && state_ == InitState::kPaused) {
                           state_ = InitState::kRunning;
                         }
                         std::move(done)(status);
                       });
      });
}

void InitProcess::Update(std::string resources, const Environment& extra_env,
                         DoneStatus done) {
  queue_.Enqueue([this, resources = std::move(resources), extra_env,
                  done = std::move(done)](TurnQueue::Turn turn) mutable {
    if (absl::Status allowed = Check(state_, Operation::kUpdate);
        !allowed.ok()) {
      std::move(done)(allowed);
      return;
    }
    driver_.Update(
        resources, With(extra_env),
        [turn = std::move(turn), done = std::move(done)](
            absl::Status status) mutable { std::move(done)(status); });
  });
}

void InitProcess::Checkpoint(CheckpointOptions to, const Environment& extra_env,
                             DoneStatus done) {
  queue_.Enqueue([this, to = std::move(to), extra_env,
                  done = std::move(done)](TurnQueue::Turn turn) mutable {
    if (absl::Status allowed = Check(state_, Operation::kCheckpoint);
        !allowed.ok()) {
      std::move(done)(allowed);
      return;
    }
    driver_.Checkpoint(
        to, With(extra_env),
        [turn = std::move(turn), done = std::move(done)](
            absl::Status status) mutable { std::move(done)(status); });
  });
}

void InitProcess::Delete(const Environment& extra_env, EventLoop::Task on_begin,
                         DoneStatus done) {
  queue_.Enqueue([this, extra_env, on_begin = std::move(on_begin),
                  done = std::move(done)](TurnQueue::Turn turn) mutable {
    if (absl::Status allowed = Check(state_, Operation::kDelete);
        !allowed.ok()) {
      std::move(done)(allowed);
      return;
    }
    deleting_ = true;
    std::move(on_begin)();
    driver_.Delete(
        // A start that was given up may have got through all the same; without
        // force the runtime would then refuse.
        /*force=*/start_failed_, With(extra_env),
        [turn = std::move(turn), done = std::move(done)](
            absl::Status status) mutable { std::move(done)(status); });
  });
}

void InitProcess::Kill(int signal, bool all, EventLoop::Task on_delivered,
                       DoneStatus done) {
  if (absl::Status allowed = Check(state_, Operation::kKill); !allowed.ok()) {
    std::move(done)(allowed);
    return;
  }
  // `all` is also for what outlived init in a shared pid namespace.
  if (dead() && !all) {
    std::move(done)(absl::NotFoundError("process already finished"));
    return;
  }
  const Pidfd* pidfd = child_.pidfd();
  if (all || pidfd == nullptr || pausing_ || state_ == InitState::kPaused) {
    KillThroughRuntime(signal, all, std::move(on_delivered), std::move(done));
    return;
  }
  const absl::Status status = pidfd->Signal(signal);
  if (status.code() == absl::StatusCode::kNotFound) {
    std::move(done)(absl::NotFoundError("process already finished"));
  } else if (status.code() == absl::StatusCode::kPermissionDenied) {
    // AppArmor lets some containers be signalled by the runtime only
    // (containerd issue 10123).
    KillThroughRuntime(signal, all, std::move(on_delivered), std::move(done));
  } else {
    std::move(done)(Unclassified("unknown error after kill", status));
  }
}

void InitProcess::KillThroughRuntime(int signal, bool all,
                                     EventLoop::Task on_delivered,
                                     DoneStatus done) {
  // What cannot be caught needs nobody's help to arrive, and must arrive also
  // where the runtime hangs. A frozen process takes it when it is thawed. The
  // runtime may then find init dead already, which is what was wanted.
  const bool delivered = signal == SIGKILL && !dead() && KillNow();
  if (delivered) std::move(on_delivered)();
  driver_.Kill(
      signal, all,
      [delivered, done = std::move(done)](absl::Status status) mutable {
        if (delivered && absl::IsNotFound(status)) {
          status = absl::OkStatus();
        }
        std::move(done)(status);
      });
}

bool InitProcess::KillNow() {
  return child_.pidfd() != nullptr && child_.pidfd()->Signal(SIGKILL).ok();
}

void InitProcess::MarkStopped() {
  if (state_ != InitState::kDeleted) state_ = InitState::kStopped;
}

}  // namespace wisp
