// Files as block devices.
#ifndef WISP_MOUNT_LOOP_DEVICE_H_
#define WISP_MOUNT_LOOP_DEVICE_H_

#include <string>

#include "mount/context.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

// A loop device that the kernel frees by itself at the last close or unmount
// (LO_FLAGS_AUTOCLEAR). Hold the fd until the mount is made; then only the
// mount keeps it. Never LOOP_CLR_FD besides: by then it may be somebody else's.
struct LoopDevice {
  UniqueFd fd;
  std::string path;  // /dev/loopN
};

// Attaches `file`. Blocks: other processes race for the free device, so it is
// tried up to 100 times with growing pauses. Errors: what open(2) and the ioctl
// say; kUnknown `timeout creating new loopback device`; kCancelled.
absl::StatusOr<LoopDevice> AttachLoopDevice(const std::string& file,
                                            bool read_only, bool direct_io,
                                            const MountContext& context);

}  // namespace wisp

#endif  // WISP_MOUNT_LOOP_DEVICE_H_
