#include "mount/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmt/format.h"
#include "mount/mount.h"
#include "mount/unmount.h"
#include "process/fd.h"

namespace wisp {
namespace {

absl::StatusOr<std::string> PathOf(int fd) {
  char path[PATH_MAX];
  const std::string link = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t size = readlink(link.c_str(), path, sizeof(path));
  if (size < 0) return ErrnoStatus(errno, link);
  return std::string(path, static_cast<size_t>(size));
}

absl::StatusOr<UniqueFd> OpenInRoot(const std::string& root,
                                    const std::string& target) {
  ASSIGN_OR_RETURN(UniqueFd directory, OpenFd(root, O_PATH | O_DIRECTORY));
  // Opened anew each time: an earlier mount may cover the root.
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  const std::string path = target.empty() ? "." : target;
  UniqueFd fd(static_cast<int>(
      syscall(SYS_openat2, directory.get(), path.c_str(), &how, sizeof(how))));
  if (!fd.valid()) return ErrnoStatus(errno, path);
  return fd;
}

absl::Status MountOn(const std::string& rootfs, const Mount& mount,
                     const MountContext& context, std::string& point) {
  if (context.is_cancelled()) return absl::CancelledError("mount: cancelled");
  ASSIGN_OR_RETURN(point, ResolveInRoot(rootfs, mount.target));
  return MakeMount(mount, point, context);
}

}  // namespace

absl::StatusOr<std::string> ResolveInRoot(const std::string& root,
                                          const std::string& target) {
  absl::StatusOr<std::string> path;
  absl::StatusOr<UniqueFd> fd = OpenInRoot(root, target);
  path = fd.ok() ? PathOf(fd->get()) : fd.status();
  if (path.ok()) return path;
  return Prefixed(fmt::format("failed to join path {} with root {}",
                              Quoted(target), Quoted(root)),
                  path.status());
}

MountedRootfs MountAll(const std::string& rootfs,
                       const std::vector<Mount>& mounts,
                       const MountContext& context) {
  MountedRootfs result;
  for (const Mount& mount : mounts) {
    std::string point;
    result.status = MountOn(rootfs, mount, context, point);
    if (!result.status.ok()) break;
    result.mount_points.push_back(std::move(point));
  }
  if (result.status.ok()) return result;
  MountContext undo = context;
  undo.cancelled = nullptr;
  result.undo_status = UnmountInReverse(result.mount_points, undo);
  result.mount_points.clear();
  return result;
}

absl::Status UnmountInReverse(const std::vector<std::string>& mount_points,
                              const MountContext& context) {
  absl::Status status;
  for (auto point = mount_points.rbegin(); point != mount_points.rend();
       ++point) {
    absl::Status result = UnmountAll(*point, context);
    if (point == mount_points.rbegin()) status = std::move(result);
  }
  return status;
}

absl::Status UnmountRootfs(const std::string& rootfs,
                           const MountContext& context) {
  return Prefixed("failed rootfs umount", UnmountRecursive(rootfs, context));
}

}  // namespace wisp
