// Runs mount helpers (mount.fuse3, fusermount3) for threads that mount.
#ifndef WISP_SHIM_MOUNT_HELPER_H_
#define WISP_SHIM_MOUNT_HELPER_H_

#include "mount/context.h"
#include "process/event_loop.h"
#include "process/reaper.h"

namespace wisp {

// For an offloaded thread: has the loop spawn the helper, and waits for its
// exit. A child of the loop's like any other, so no reaper takes its status
// away (for which containerd's shim has to try again). `loop` and `reaper` must
// outlive the calls; a helper that has not ended after a minute is killed.
HelperRunner MakeMountHelperRunner(EventLoop& loop, Reaper& reaper);

}  // namespace wisp

#endif  // WISP_SHIM_MOUNT_HELPER_H_
