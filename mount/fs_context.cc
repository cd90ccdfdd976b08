#include "mount/fs_context.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "mount/overlay.h"
#include "process/fd.h"

namespace wisp {
namespace {

// strndup_user() in fsconfig(2): 256 bytes with the final 0.
constexpr size_t kMaxValue = 255;

constexpr std::pair<unsigned long, unsigned> kAttributes[] = {
    {MS_RDONLY, MOUNT_ATTR_RDONLY},         {MS_NOSUID, MOUNT_ATTR_NOSUID},
    {MS_NODEV, MOUNT_ATTR_NODEV},           {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
};

unsigned MountAttributes(unsigned long flags) {
  unsigned attributes = 0;
  for (const auto& [flag, attribute] : kAttributes) {
    if ((flags & flag) != 0) attributes |= attribute;
  }
  // Of these the kernel takes one; mount(2) prefers them in this order.
  if ((flags & MS_STRICTATIME) != 0) return attributes | MOUNT_ATTR_STRICTATIME;
  if ((flags & MS_NOATIME) != 0) return attributes | MOUNT_ATTR_NOATIME;
  return attributes;
}

constexpr unsigned long kKnownFlags = MS_RDONLY | MS_NOSUID | MS_NODEV |
                                      MS_NOEXEC | MS_NODIRATIME |
                                      MS_STRICTATIME | MS_NOATIME | MS_RELATIME;

bool Fits(unsigned long flags, const std::vector<std::string>& data) {
  if ((flags & ~kKnownFlags) != 0) return false;
  for (const std::string& option : data) {
    if (option.find_first_of("\\\"") != std::string::npos) return false;
    if (option.starts_with("lowerdir=")) continue;
    const size_t equals = option.find('=');
    if (equals != std::string::npos && option.size() - equals - 1 > kMaxValue) {
      return false;
    }
  }
  for (const std::string& layer : LowerLayers(data)) {
    if (layer.empty() || layer.size() > kMaxValue) return false;
  }
  return true;
}

// What the file system has to say: a line per read, "e overlay: ...".
std::string Log(int context) {
  std::string log;
  char line[512];
  for (;;) {
    const ssize_t size = read(context, line, sizeof(line));
    if (size <= 0) return log;
    std::string_view text(line, static_cast<size_t>(size));
    while (text.ends_with('\n')) text.remove_suffix(1);
    log += fmt::format(" ({})", text);
  }
}

absl::Status Failed(int context, int error, std::string_view what) {
  const absl::Status status = ErrnoStatus(error, what);
  return absl::Status(status.code(),
                      fmt::format("{}{}", Message(status), Log(context)));
}

absl::Status SetOption(int context, const std::string& option) {
  const size_t equals = option.find('=');
  int result;
  if (equals == std::string::npos) {
    result = fsconfig(context, FSCONFIG_SET_FLAG, option.c_str(), nullptr, 0);
  } else {
    const std::string key = option.substr(0, equals);
    result = fsconfig(context, FSCONFIG_SET_STRING, key.c_str(),
                      option.c_str() + equals + 1, 0);
  }
  if (result == 0) return absl::OkStatus();
  return Failed(context, errno, option);
}

absl::Status SetLayers(int context, const std::vector<std::string>& layers) {
  // Before 6.5 overlay takes any word, even this one without its value, until a
  // page is full of them, and reads them in the end.
  if (fsconfig(context, FSCONFIG_SET_FLAG, "lowerdir+", nullptr, 0) == 0) {
    return absl::UnimplementedError("overlay does not know lowerdir+");
  }
  (void)Log(context);
  bool first = true;
  for (const std::string& layer : layers) {
    if (fsconfig(context, FSCONFIG_SET_STRING, "lowerdir+", layer.c_str(), 0) !=
        0) {
      const int error = errno;
      // Overlay's own words about a layer are ENOENT, ENOTDIR and the like, or
      // an EINVAL after the first.
      if (first && error == EINVAL) {
        return absl::UnimplementedError("overlay does not know lowerdir+");
      }
      return Failed(context, error, fmt::format("lower layer {}", layer));
    }
    first = false;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MountOverlayLayerByLayer(const std::string& source,
                                      const std::string& target,
                                      unsigned long flags,
                                      const std::vector<std::string>& data) {
  if (!Fits(flags, data)) {
    return absl::UnimplementedError("options do not fit fsconfig");
  }
  UniqueFd context(fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context.valid()) {
    if (errno == ENOSYS) return absl::UnimplementedError("no fsopen");
    return ErrnoStatus(errno, "fsopen overlay");
  }
  const int fd = context.get();
  if (!source.empty() &&
      fsconfig(fd, FSCONFIG_SET_STRING, "source", source.c_str(), 0) != 0) {
    return Failed(fd, errno, "source");
  }
  // First of all, to learn whether this kernel can.
  RETURN_IF_ERROR(SetLayers(fd, LowerLayers(data)));
  for (const std::string& option : data) {
    if (option.starts_with("lowerdir=")) continue;
    RETURN_IF_ERROR(SetOption(fd, option));
  }
  if ((flags & MS_RDONLY) != 0) RETURN_IF_ERROR(SetOption(fd, "ro"));
  if (fsconfig(fd, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return Failed(fd, errno, "create overlay");
  }
  UniqueFd made(fsmount(fd, FSMOUNT_CLOEXEC, MountAttributes(flags)));
  if (!made.valid()) return Failed(fd, errno, "fsmount");
  if (move_mount(made.get(), "", AT_FDCWD, target.c_str(),
                 MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, fmt::format("move_mount to {}", target));
  }
  return absl::OkStatus();
}

}  // namespace wisp
