// Whether the kernel is new enough.
#ifndef WISP_SHIM_KERNEL_H_
#define WISP_SHIM_KERNEL_H_

#include "process/status_macros.h"

namespace wisp {

// Asks for every system call without which a container would go wrong later, or
// leak our descriptors without a word: pidfd_open, openat2 and close_range, the
// youngest of Linux 5.9, and 5.10 is the oldest that the tests run. What wisp
// can do without (cgroup.kill, mount_setattr, fsopen) is found out where it is
// used. Error: kFailedPrecondition `wisp needs Linux 5.10 or newer: RELEASE has
// no NAME`.
absl::Status CheckKernel();

}  // namespace wisp

#endif  // WISP_SHIM_KERNEL_H_
