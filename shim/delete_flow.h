// Taking a container apart, step by step.
#ifndef WISP_SHIM_DELETE_FLOW_H_
#define WISP_SHIM_DELETE_FLOW_H_

#include <memory>

#include "process/status_macros.h"
#include "shim/container.h"

namespace wisp {

// Kills what is left, has the runtime delete its state, unmounts the rootfs,
// and meanwhile lets the output drain: in that order, so that what holds the
// output open is gone before anybody waits for its end (pains B3, containerd
// #13377). Runs to its end whatever becomes of the caller. After an error the
// container stays, and Delete may be tried again; nothing has been touched if
// the state forbids it by the time that its turn has come. Keeps itself alive
// until it has answered.
class DeleteFlow : public std::enable_shared_from_this<DeleteFlow> {
 public:
  DeleteFlow(ContainerContext& context, std::shared_ptr<Container> container,
             Container::Environment extra_env);

  // `done` is called once. On success nothing of the container is left but
  // output that somebody still reads.
  void Run(Done<ExitInfo> done);

 private:
  void Begin();
  void OnRuntimeDone(const absl::Status& status);
  void AwaitExit();
  void Unmount();
  void OnUnmounted(const absl::Status& status);
  void FinishWhenDrained();

  // A created init that the runtime has just killed is dead in no time; this is
  // for one in D state.
  static constexpr absl::Duration kExitLimit = absl::Seconds(5);

  ContainerContext& context_;
  const std::shared_ptr<Container> container_;
  const Container::Environment extra_env_;
  Done<ExitInfo> done_;
  absl::Status failure_;
  bool begun_ = false;
  bool drained_ = false;
  bool cleaned_up_ = false;
  EventLoop::TimerHandle exit_limit_;
};

}  // namespace wisp

#endif  // WISP_SHIM_DELETE_FLOW_H_
