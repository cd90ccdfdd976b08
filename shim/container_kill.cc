// Signals to init and to all of a container.
#include <signal.h>

#include <utility>

#include "shim/container.h"

namespace wisp {

void Container::Kill(int signal, bool all, DoneStatus done) {
  if (signal == SIGKILL || all) {  // all: the runtime does it, in its time
    KillNow(signal, all, std::move(done));
    return;
  }
  settling_.Run(kSignalLimit, [self = shared_from_this(), signal,
                               done = std::move(done)]() mutable {
    self->KillNow(signal, /*all=*/false, std::move(done));
  });
}

void Container::KillNow(int signal, bool all, DoneStatus done) {
  // Whatever shares a private pid namespace went with init.
  const bool leftovers_possible = all && !private_pid_namespace_;
  if (init_->dead() && !leftovers_possible &&
      init_->state() != InitState::kDeleted) {
    std::move(done)(absl::NotFoundError("process already finished"));
    return;
  }
  const auto answer = std::make_shared<DoneStatus>(std::move(done));
  if (signal == SIGKILL) {
    killed_by_us_ = true;
    std::erase_if(kills_, [](const auto& kill) { return kill.expired(); });
    kills_.push_back(answer);
  }
  const bool thaw = signal == SIGKILL && cgroup_.has_value() &&
                    init_->state() == InitState::kPaused;
  init_->Kill(
      signal, all,
      [this, thaw] {
        // A frozen process of v1 dies when it is thawed, whatever the runtime
        // does with it; and in v2 runc would wait 10 s for what is dying to
        // freeze.
        if (thaw) (void)cgroup_->Thaw();
      },
      [self = shared_from_this(), thaw, answer](const absl::Status& status) {
        // Where only the runtime may signal it.
        if (thaw) (void)self->cgroup_->Thaw();
        if (*answer != nullptr) std::exchange(*answer, nullptr)(status);
      });
}

void Container::AnswerKills() {
  // They have come about, though the runtime may still be at it; and who hears
  // of the exit may delete the task and shut us down, which would cut them off
  // (containerd's CRI does when it stops a sandbox).
  for (const std::weak_ptr<DoneStatus>& kill : std::exchange(kills_, {})) {
    const std::shared_ptr<DoneStatus> answer = kill.lock();
    if (answer == nullptr || *answer == nullptr) continue;
    std::exchange(*answer, nullptr)(absl::OkStatus());
  }
}

}  // namespace wisp
