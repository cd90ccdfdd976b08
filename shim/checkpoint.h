// Checkpointing a container with CRIU, through the runtime.
#ifndef WISP_SHIM_CHECKPOINT_H_
#define WISP_SHIM_CHECKPOINT_H_

#include <memory>

#include "process/runc.h"
#include "process/status_macros.h"
#include "shim/container.h"

namespace wisp {

// Writes the image to `options.image_path`. An empty work path means one in the
// bundle, which is removed afterwards. After a failure CRIU's log is in the
// bundle as criu-dump.log, and the error says so, in the words of containerd's
// shim (cmd/containerd-shim-runc-v2/process/init.go@v2.4.2).
void CheckpointContainer(std::shared_ptr<Container> container,
                         CheckpointOptions options,
                         const Container::Environment& extra_env,
                         DoneStatus done);

}  // namespace wisp

#endif  // WISP_SHIM_CHECKPOINT_H_
