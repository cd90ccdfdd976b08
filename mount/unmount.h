// Unmounting, with patience and without force.
//
// No MNT_DETACH and no MNT_FORCE: a lazy unmount would report a rootfs free
// that is still in use, and the daemon would delete files under it. Nothing
// here removes a file.
#ifndef WISP_MOUNT_UNMOUNT_H_
#define WISP_MOUNT_UNMOUNT_H_

#include <string>

#include "mount/context.h"
#include "process/status_macros.h"

namespace wisp {

// Unmounts the topmost mount at `target`, which may not be a symlink. Busy is
// tried 50 times 50 ms apart. FUSE: `fusermount3 -u`, else `fusermount -u`, if
// the context can run them, else (and if both fail) as any other.
// Errors: `failed to unmount target T: <errno text>`; kFailedPrecondition if
// nothing is mounted there; kCancelled.
absl::Status UnmountOne(const std::string& target, const MountContext& context);

// Unmounts all that is stacked at `target`; fine if that is nothing, or if
// there is no such path.
absl::Status UnmountAll(const std::string& target, const MountContext& context);

// Unmounts all at and below `path`, deepest first. Fine if there is no such
// path. Only an error of `path` itself is returned: what is stuck below it
// keeps it busy anyway.
absl::Status UnmountRecursive(const std::string& path,
                              const MountContext& context);

}  // namespace wisp

#endif  // WISP_MOUNT_UNMOUNT_H_
