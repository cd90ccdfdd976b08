#include "mount/unmount.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "fmt/format.h"
#include "mount/mount_info.h"

namespace wisp {
namespace {

constexpr int kBusyTries = 50;
constexpr absl::Duration kBusyPause = absl::Milliseconds(50);
constexpr long kFuseMagic = 0x65735546;  // FUSE_SUPER_MAGIC

bool UnmountByHelper(const std::string& target, const MountContext& context) {
  struct statfs info;
  if (context.run_helper == nullptr || statfs(target.c_str(), &info) != 0 ||
      info.f_type != kFuseMagic) {
    return false;
  }
  for (const char* helper : {"fusermount3", "fusermount"}) {
    const absl::StatusOr<HelperResult> result =
        (*context.run_helper)({helper, "-u", target});
    if (result.ok() && result->exit_code == 0) return true;
  }
  return false;
}

// 0 or an errno; ECANCELED if told to give up.
int UnmountPatiently(const std::string& target, const MountContext& context) {
  for (int tries = 1;; ++tries) {
    if (context.is_cancelled()) return ECANCELED;
    // A container may have put a symlink where its mount point was; the host's
    // path behind it is none of our business.
    if (umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0) return 0;
    if (errno != EBUSY || tries == kBusyTries) return errno;
    absl::SleepFor(kBusyPause);
  }
}

absl::Status Failed(const std::string& target, int error) {
  const std::string text = fmt::format("failed to unmount target {}", target);
  if (error == ECANCELED) {
    return absl::CancelledError(fmt::format("{}: cancelled", text));
  }
  if (error == EINVAL) {
    return absl::FailedPreconditionError(
        fmt::format("{}: {}", text, ErrnoText(error)));
  }
  return ErrnoStatus(error, text);
}

// The path without symlinks; empty if there is none.
std::string Canonical(const std::string& path) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return resolved;
  if (errno == ENOENT || errno == ENOTDIR) return "";
  // A dead FUSE server answers no question about its root (ENOTCONN), but those
  // about the directory above are not for it.
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos || slash + 1 == path.size()) return path;
  const std::string parent = slash == 0 ? "/" : path.substr(0, slash);
  if (realpath(parent.c_str(), resolved) == nullptr) return path;
  std::string result = resolved;
  if (result != "/") result += '/';
  return result + path.substr(slash + 1);
}

}  // namespace

absl::Status UnmountOne(const std::string& target,
                        const MountContext& context) {
  if (UnmountByHelper(target, context)) return absl::OkStatus();
  const int error = UnmountPatiently(target, context);
  return error == 0 ? absl::OkStatus() : Failed(target, error);
}

absl::Status UnmountAll(const std::string& target,
                        const MountContext& context) {
  if (target.empty()) return absl::OkStatus();
  for (;;) {
    if (UnmountByHelper(target, context)) continue;
    const int error = UnmountPatiently(target, context);
    // EINVAL: no mount point (any more).
    if (error == EINVAL || error == ENOENT) return absl::OkStatus();
    if (error != 0) return Failed(target, error);
  }
}

absl::Status UnmountRecursive(const std::string& path,
                              const MountContext& context) {
  const std::string top = Canonical(path);
  if (top.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<MountInfo> mounts, ReadMountInfo());
  std::vector<std::string> points;
  for (MountInfo& mount : mounts) {
    if (IsAtOrBelow(mount.mount_point, top)) {
      points.push_back(std::move(mount.mount_point));
    }
  }
  // Children have longer paths than their parents; each is visited once, as
  // UnmountAll takes the whole stack.
  std::sort(points.begin(), points.end(),
            [](const std::string& a, const std::string& b) {
              return a.size() != b.size() ? a.size() > b.size() : a < b;
            });
  points.erase(std::unique(points.begin(), points.end()), points.end());
  absl::Status status;
  for (const std::string& point : points) {
    absl::Status result = UnmountAll(point, context);
    if (point == top || absl::IsCancelled(result)) status = std::move(result);
    if (absl::IsCancelled(status)) break;
  }
  return status;
}

}  // namespace wisp
