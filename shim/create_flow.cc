#include "shim/create_flow.h"

#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "shim/log.h"
#include "shim/mount_helper.h"
#include "shim/remains.h"
#include "shim/runtime_state.h"

namespace wisp {
namespace {

// How long a runtime's own children may take to die after it.
constexpr absl::Duration kDyingLimit = absl::Seconds(2);

}  // namespace

CreateFlow::CreateFlow(ContainerContext& context,
                       std::shared_ptr<Container> container,
                       Container::Environment extra_env)
    : context_(context),
      container_(std::move(container)),
      extra_env_(std::move(extra_env)) {}

void CreateFlow::Run(DoneStatus done) {
  done_ = std::move(done);
  if (absl::Status status = WriteFiles(); !status.ok()) {
    Undo(std::move(status));
  } else if (container_->config().rootfs.empty()) {
    RunRuntime();
  } else {
    Mount();
  }
}

void CreateFlow::Cancel(const absl::Status& why) {
  if (!cancelled_.ok()) return;
  cancelled_ = why;
  stop_mounting_->store(true, std::memory_order_relaxed);
  container_->init().Cancel(why);
}

absl::Status CreateFlow::WriteFiles() {
  // First of all: `delete` must know the runtime and its root from the moment
  // that there may be something to delete.
  const Bundle& bundle = container_->bundle();
  const RuncOptions& options = container_->config().options;
  RETURN_IF_ERROR(bundle.WriteOptions(options));
  RETURN_IF_ERROR(bundle.WriteRuntime(options.binary_name));
  if (!container_->config().rootfs.empty() &&
      mkdir(bundle.rootfs().c_str(), 0711) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("mkdir {}", bundle.rootfs()));
  }
  return absl::OkStatus();
}

void CreateFlow::Mount() {
  context_.loop.Offload(
      [rootfs = container_->bundle().rootfs(),
       mounts = container_->config().rootfs, stop = stop_mounting_,
       helper =
           MakeMountHelperRunner(context_.loop, context_.reaper)]() mutable {
        MountContext context;
        context.cancelled = stop.get();
        context.run_helper = &helper;
        return MountAll(rootfs, mounts, context);
      },
      [self = shared_from_this()](MountedRootfs mounted) {
        self->OnMounted(std::move(mounted));
      });
}

void CreateFlow::OnMounted(MountedRootfs mounted) {
  mount_points_ = std::move(mounted.mount_points);
  if (!mounted.undo_status.ok()) {
    LogWarning(
        "failed to cleanup rootfs mount",
        {{"id", container_->config().id}, {"error", mounted.undo_status}});
  }
  if (!cancelled_.ok()) {
    Undo(cancelled_);
  } else if (!mounted.status.ok()) {
    Undo(Unclassified("failed to mount rootfs component", mounted.status));
  } else {
    RunRuntime();
  }
}

void CreateFlow::RunRuntime() {
  const ContainerConfig& config = container_->config();
  if (!config.checkpoint.empty()) {
    CheckpointOptions from;
    from.image_path = config.checkpoint;
    from.parent_path = config.parent_checkpoint;
    from.work_path = config.options.criu_work_path.empty()
                         ? container_->bundle().work()
                         : config.options.criu_work_path;
    container_->init().CreateFromCheckpoint(std::move(from));
    Finish();
    return;
  }
  runtime_knew_ = LookAtRuntime().exists;
  if (!runtime_knew_) {
    if (absl::Status status = container_->bundle().MarkCreating();
        !status.ok()) {
      return Undo(std::move(status));
    }
  }
  container_->init().Create(extra_env_,
                            [self = shared_from_this()](absl::Status status) {
                              self->OnRuntimeDone(status);
                            });
}

void CreateFlow::OnRuntimeDone(const absl::Status& status) {
  if (!cancelled_.ok()) {
    Undo(cancelled_);
  } else if (!status.ok()) {
    Undo(status);
  } else {
    Finish();
  }
}

void CreateFlow::Undo(absl::Status status) {
  failure_ = std::move(status);
  if (!container_->init().runtime_ran() || !RuntimeHasOurs()) {
    RemoveCgroup();
    return;
  }
  container_->driver().Delete(
      /*force=*/true, {}, [self = shared_from_this()](absl::Status deleted) {
        if (!deleted.ok()) {
          LogWarning(
              "cannot delete a container that could not be created",
              {{"id", self->container_->config().id}, {"error", deleted}});
        }
        self->RemoveCgroup();
      });
}

RuntimeState CreateFlow::LookAtRuntime() const {
  const ContainerConfig& config = container_->config();
  return InspectRuntimeState(
      fmt::format("{}/{}", config.options.RootOf(context_.namespace_name),
                  config.id),
      config.bundle, container_->bundle(), context_.cgroups);
}

bool CreateFlow::RuntimeHasOurs() const {
  // Another daemon may have a container of this id; that it has was perhaps the
  // very reason of our failure.
  const RuntimeState state = LookAtRuntime();
  if (!state.bundle.empty()) return state.ours;
  // A runtime that was killed early leaves a directory that does not say whose
  // it is: ours, if it was not there before.
  return state.exists && (container_->bundle().ReadInitPid().ok() ||
                          (RuntimeWasKilled() && !runtime_knew_));
}

bool CreateFlow::RuntimeWasKilled() const {
  return container_->init().runtime_ran() &&
         (absl::IsCancelled(failure_) || absl::IsDeadlineExceeded(failure_));
}

void CreateFlow::RemoveCgroup() {
  // Killed early, the runtime has told nobody of the cgroup that it had made.
  if (!RuntimeWasKilled() || runtime_knew_) return Unmount();
  context_.loop.Offload(
      [host = context_.cgroups, bundle = container_->bundle(),
       options = container_->config().options] {
        return RemoveEmptyCgroup(host, CgroupToBe(bundle, options),
                                 absl::Now() + kDyingLimit);
      },
      [self = shared_from_this()](bool removed) {
        self->made_half_ = !removed;
        self->Unmount();
      });
}

void CreateFlow::Unmount() {
  if (mount_points_.empty()) {
    Finish();
    return;
  }
  context_.loop.Offload(
      [points = mount_points_, helper = MakeMountHelperRunner(
                                   context_.loop, context_.reaper)]() mutable {
        MountContext context;
        context.run_helper = &helper;
        return UnmountInReverse(points, context);
      },
      [self = shared_from_this()](const absl::Status& unmounted) {
        if (!unmounted.ok()) {
          LogWarning(
              "failed to cleanup rootfs mount",
              {{"id", self->container_->config().id}, {"error", unmounted}});
        }
        self->Finish();
      });
}

void CreateFlow::Finish() {
  // What is left is for the `delete` that follows.
  if (!made_half_) container_->bundle().UnmarkCreating();
  std::exchange(done_, nullptr)(failure_);
}

}  // namespace wisp
