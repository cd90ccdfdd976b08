// The mounts of a container's rootfs, together.
#ifndef WISP_MOUNT_ROOTFS_H_
#define WISP_MOUNT_ROOTFS_H_

#include <string>
#include <vector>

#include "mount/context.h"
#include "mount/options.h"
#include "process/status_macros.h"

namespace wisp {

struct MountedRootfs {
  absl::Status status;
  // Where each was mounted, in order; empty after a failure.
  std::vector<std::string> mount_points;
  // What could not be undone after a failure. For the log; the reply is
  // `status`.
  absl::Status undo_status;
};

// The absolute path of `target` inside `root`, symlinks in it resolved as if
// `root` were `/`, so that none leads out. It must exist. Error: `failed to
// join path "TARGET" with root "ROOT": <errno text>`.
absl::StatusOr<std::string> ResolveInRoot(const std::string& root,
                                          const std::string& target);

// Makes all `mounts` in order on `rootfs`, <bundle>/rootfs, or none: after the
// first failure those made are unmounted in reverse. Blocks.
MountedRootfs MountAll(const std::string& rootfs,
                       const std::vector<Mount>& mounts,
                       const MountContext& context);

// Undoes MountAll when something later fails: in reverse, each mount point
// until nothing is mounted there. The error is that of the first to go.
absl::Status UnmountInReverse(const std::vector<std::string>& mount_points,
                              const MountContext& context);

// For Delete: all at and below `rootfs`. Error: `failed rootfs umount: ...`.
absl::Status UnmountRootfs(const std::string& rootfs,
                           const MountContext& context);

}  // namespace wisp

#endif  // WISP_MOUNT_ROOTFS_H_
