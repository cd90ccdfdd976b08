#include "cgroups/files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

// ENODEV is what ENOENT is to an fd: the cgroup went while it was open. One
// text for both, that of the path, which is the one clients look for.
absl::Status FileError(int error, std::string_view what,
                       const std::string& path) {
  return ErrnoStatus(error == ENODEV ? ENOENT : error,
                     fmt::format("{} {}", what, path));
}

}  // namespace

absl::StatusOr<std::string> ReadCgroupFd(int fd, const std::string& path) {
  std::string text;
  size_t size = 0;
  for (;;) {
    text.resize(size + 4096);
    const ssize_t n =
        pread(fd, text.data() + size, 4096, static_cast<off_t>(size));
    if (n < 0) {
      if (errno == EINTR) continue;
      return FileError(errno, "read", path);
    }
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  text.resize(size);
  return text;
}

absl::StatusOr<std::string> ReadCgroupFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileError(errno, "open", path);
  return ReadCgroupFd(fd.get(), path);
}

absl::Status WriteCgroupFile(const std::string& path, std::string_view value) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return FileError(errno, "open", path);
  while (write(fd.get(), value.data(), value.size()) < 0) {
    if (errno != EINTR) return FileError(errno, "write", path);
  }
  return absl::OkStatus();
}

}  // namespace wisp
