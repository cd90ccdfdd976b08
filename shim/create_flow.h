// Making a container, step by step, or leaving nothing behind.
#ifndef WISP_SHIM_CREATE_FLOW_H_
#define WISP_SHIM_CREATE_FLOW_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "mount/rootfs.h"
#include "process/status_macros.h"
#include "shim/container.h"
#include "shim/runtime_state.h"

namespace wisp {

// Files, mounts, then the runtime. Whatever fails, or is cancelled, the steps
// done are undone before the answer: the runtime forgets the container (if it
// is ours: another daemon's may have the same id) and the rootfs is unmounted.
// Keeps itself alive until it has answered.
class CreateFlow : public std::enable_shared_from_this<CreateFlow> {
 public:
  CreateFlow(ContainerContext& context, std::shared_ptr<Container> container,
             Container::Environment extra_env);

  // `done` is called once. On success the container has still to be told of
  // (Container::MarkCreated).
  void Run(DoneStatus done);

  // The caller has gone, or his time is over: Run() ends with `why`, as soon as
  // everything is undone.
  void Cancel(const absl::Status& why);

 private:
  absl::Status WriteFiles();
  void Mount();
  void OnMounted(MountedRootfs mounted);
  void RunRuntime();
  void OnRuntimeDone(const absl::Status& status);
  void Undo(absl::Status status);
  RuntimeState LookAtRuntime() const;
  bool RuntimeHasOurs() const;
  bool RuntimeWasKilled() const;
  void RemoveCgroup();
  void Unmount();
  void Finish();

  ContainerContext& context_;
  const std::shared_ptr<Container> container_;
  const Container::Environment extra_env_;
  DoneStatus done_;
  absl::Status cancelled_;
  absl::Status failure_;
  bool runtime_knew_ = false;  // a container of this id, before we ran it
  bool made_half_ = false;     // by it, and still there
  // Read by the thread that mounts.
  const std::shared_ptr<std::atomic<bool>> stop_mounting_ =
      std::make_shared<std::atomic<bool>>(false);
  std::vector<std::string> mount_points_;
};

}  // namespace wisp

#endif  // WISP_SHIM_CREATE_FLOW_H_
