#include "shim/delete_flow.h"

#include <utility>

#include "mount/rootfs.h"
#include "shim/log.h"
#include "shim/mount_helper.h"

namespace wisp {

DeleteFlow::DeleteFlow(ContainerContext& context,
                       std::shared_ptr<Container> container,
                       Container::Environment extra_env)
    : context_(context),
      container_(std::move(container)),
      extra_env_(std::move(extra_env)) {}

void DeleteFlow::Run(Done<ExitInfo> done) {
  if (absl::Status allowed =
          Check(container_->init().state(), Operation::kDelete);
      !allowed.ok()) {
    std::move(done)(allowed);
    return;
  }
  done_ = std::move(done);
  container_->init().Delete(
      extra_env_, [self = shared_from_this()] { self->Begin(); },
      [self = shared_from_this()](absl::Status status) {
        self->OnRuntimeDone(status);
      });
}

void DeleteFlow::Begin() {
  begun_ = true;
  container_->init().stdio().Drain([self = shared_from_this()](absl::Status) {
    self->drained_ = true;
    self->FinishWhenDrained();
  });
  // With a pid namespace of its own nothing can have outlived init; and a
  // cgroup may be shared with a container that lives.
  if (container_->exited() && !container_->has_private_pid_namespace() &&
      container_->cgroup().has_value()) {
    (void)container_->cgroup()->KillAll();
  }
}

void DeleteFlow::OnRuntimeDone(const absl::Status& status) {
  failure_ = status;
  if (!begun_) {
    // A start that was under way has come through.
    cleaned_up_ = true;
    FinishWhenDrained();
  } else if (!status.ok() || container_->exited() ||
             container_->init().pid() == 0) {
    Unmount();
  } else {
    AwaitExit();
  }
}

void DeleteFlow::AwaitExit() {
  // It was never started, and the runtime has killed it: its exit is told like
  // any other, before we say that it is deleted.
  container_->init().KillNow();
  const uint64_t waiter = container_->init().waiters().Add(
      [self = shared_from_this()](const ExitStatus&) {
        self->exit_limit_.Reset();
        self->Unmount();
      });
  if (waiter == 0) return;
  exit_limit_ =
      context_.loop.After(kExitLimit, [self = shared_from_this(), waiter] {
        // Dead, it is an exec that holds its exit back, and not without limit:
        // nothing is deleted whose exit has not been told.
        if (self->container_->init().death().has_value()) return;
        self->container_->init().waiters().Remove(waiter);
        self->Unmount();
      });
}

void DeleteFlow::Unmount() {
  if (container_->config().rootfs.empty()) {
    OnUnmounted(absl::OkStatus());
    return;
  }
  context_.loop.Offload(
      [rootfs = container_->bundle().rootfs(),
       helper =
           MakeMountHelperRunner(context_.loop, context_.reaper)]() mutable {
        MountContext context;
        context.run_helper = &helper;
        return UnmountRootfs(rootfs, context);
      },
      [self = shared_from_this()](const absl::Status& status) {
        self->OnUnmounted(status);
      });
}

void DeleteFlow::OnUnmounted(const absl::Status& status) {
  if (failure_.ok()) failure_ = status;
  cleaned_up_ = true;
  FinishWhenDrained();
}

void DeleteFlow::FinishWhenDrained() {
  if (!cleaned_up_ || done_ == nullptr) return;
  if (!failure_.ok()) {
    std::exchange(done_, nullptr)(failure_);
    return;
  }
  if (!drained_) return;
  InitProcess& init = container_->init();
  init.MarkDeleted();
  init.waiters().Release(ExitStatus());  // of one that was never restored
  container_->OnDeleted();
  std::exchange(done_, nullptr)(
      ExitInfo{init.pid(), init.death().value_or(ExitStatus())});
}

}  // namespace wisp
