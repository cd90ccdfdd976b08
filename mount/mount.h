// Making one mount.
#ifndef WISP_MOUNT_MOUNT_H_
#define WISP_MOUNT_MOUNT_H_

#include <optional>
#include <string>
#include <vector>

#include "mount/context.h"
#include "mount/options.h"
#include "process/status_macros.h"

namespace wisp {

// Makes `mount` on `target`, an absolute path that exists (Mount::target is not
// looked at). On failure nothing of it is left.
//
// Blocks, and may start a thread of its own that ends before this returns. The
// working directory and root of the caller's thread are left alone, those of
// the new thread are its own: nothing is asked of the caller's thread.
//
// Errors carry containerd's texts (core/mount/mount_linux.go), e.g. `mount
// source: "S", target: "T", fstype: F, flags: N, data: "D", err: <errno text>`;
// kInvalidArgument for bad options; kUnimplemented for FUSE without a
// HelperRunner; kCancelled.
absl::Status MakeMount(const Mount& mount, const std::string& target,
                       const MountContext& context);

// For types `fuse3.X` and `fuse.X`: the command that makes the mount,
// `mount.fuse3 SOURCE TARGET -o OPTION ... -t X`. None for other types.
std::optional<std::vector<std::string>> FuseHelperCommand(
    const Mount& mount, const std::string& target);

}  // namespace wisp

#endif  // WISP_MOUNT_MOUNT_H_
