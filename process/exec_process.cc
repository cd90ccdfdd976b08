#include "process/exec_process.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "process/fd.h"

namespace wisp {
namespace {

constexpr Launch::Texts kTexts = {
    .console_socket = "failed to create runc console socket",
    .stdio = "failed to create init process I/O",
    .pid = "failed to retrieve OCI runtime exec pid",
};

}  // namespace

ExecProcess::ExecProcess(EventLoop& loop, Reaper& reaper, RuncDriver& driver,
                         std::string id, std::string process,
                         std::unique_ptr<Stdio> stdio, OnDeath on_death)
    : loop_(loop),
      reaper_(reaper),
      driver_(driver),
      id_(std::move(id)),
      process_(std::move(process)),
      stdio_(std::move(stdio)),
      on_death_(std::move(on_death)) {}

ExecProcess::~ExecProcess() {
  if (launch_ == nullptr) return;
  unlink(process_file().c_str());
  unlink(pid_file().c_str());
}

std::string ExecProcess::pid_file() const {
  return driver_.settings().bundle + "/" + id_ + ".pid";
}

std::string ExecProcess::process_file() const {
  return driver_.settings().bundle + "/" + id_ + ".process.json";
}

void ExecProcess::Start(const std::vector<std::string>& extra_env,
                        DoneStatus done) {
  absl::Status allowed = std::exchange(start_cancelled_, absl::OkStatus());
  if (allowed.ok()) allowed = Check(state_, Operation::kStart);
  if (allowed.ok() && launch_ != nullptr) {
    allowed = absl::FailedPreconditionError(
        starting_ ? "process is being started"
                  : "process could not be started");
  }
  if (!allowed.ok()) {
    std::move(done)(allowed);
    return;
  }
  starting_ = true;
  launch_ = std::make_unique<Launch>(reaper_, *stdio_, kTexts, pid_file(),
                                     [this](ExitStatus status) {
                                       // Killed because it did not come up
                                       // properly: nobody was told of it.
                                       if (!launch_->active() && pid_ == 0)
                                         return;
                                       death_ = status;
                                       if (stdio_ != nullptr)
                                         stdio_->ProcessExited();
                                       std::move(on_death_)(status);
                                     });
  RuncRunOptions options;
  options.extra_env = extra_env;
  launch_->Run(
      std::move(options),
      [this](const RuncRunOptions& with_stdio, DoneStatus ran) {
        // In the bundle, that is on a tmpfs as a rule, and gone with it.
        const absl::Status written = WriteFileAtomically(
            process_file(), process_ + "\n", 0600, /*sync=*/false);
        if (!written.ok()) {
          loop_.Post([written, ran = std::move(ran)]() mutable {
            std::move(ran)(Unclassified("OCI runtime exec failed", written));
          });
          return RuncRun();
        }
        return driver_.Exec(process_file(), pid_file(), with_stdio,
                            std::move(ran));
      },
      [this,
       done = std::move(done)](absl::StatusOr<Reaper::Child> child) mutable {
        OnLaunched(std::move(child), std::move(done));
      });
}

void ExecProcess::OnLaunched(absl::StatusOr<Reaper::Child> child,
                             DoneStatus done) {
  starting_ = false;
  unlink(process_file().c_str());
  process_.clear();
  if (!child.ok()) {
    death_.reset();
  } else {
    child_ = *std::move(child);
    pid_ = child_.pid();
    state_ = ExecState::kRunning;
  }
  std::move(done)(child.status());
}

void ExecProcess::Cancel(const absl::Status& why) {
  if (launch_ != nullptr) {
    launch_->Cancel(why);
  } else {
    start_cancelled_ = why;
  }
}

absl::Status ExecProcess::Kill(int signal) {
  RETURN_IF_ERROR(Check(state_, Operation::kKill));
  if (pid_ == 0) return absl::FailedPreconditionError("process not created");
  if (death_.has_value() || child_.pidfd() == nullptr ||
      child_.pidfd()->exited()) {
    return absl::NotFoundError("process already finished");
  }
  const absl::Status status = child_.pidfd()->Signal(signal);
  if (status.code() == absl::StatusCode::kNotFound) {
    return absl::NotFoundError("process already finished");
  }
  return Unclassified("exec kill error: unknown error after kill", status);
}

}  // namespace wisp
