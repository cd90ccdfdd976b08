#include "process/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "fmt/format.h"

namespace wisp {

void UniqueFd::Reset(int fd) {
  // EINTR from close(2) has closed the fd on Linux, so it is not tried again.
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe2");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

absl::Status SetNonblocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoStatus(errno, "set O_NONBLOCK");
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenFd(const std::string& path, int flags,
                                mode_t mode) {
  for (;;) {
    UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, mode));
    if (fd.valid()) return fd;
    if (errno != EINTR) return ErrnoStatus(errno, fmt::format("open {}", path));
  }
}

absl::StatusOr<std::string> ReadAll(int fd, size_t limit) {
  std::string data;
  size_t size = 0;
  for (;;) {
    // Grows by what it has: a config.json of a megabyte is not read in 4096s.
    data.resize(size + std::max<size_t>(4096, size));
    const ssize_t n = read(fd, data.data() + size, data.size() - size);
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "read");
    }
    if (n == 0) break;
    size += static_cast<size_t>(n);
    if (size > limit) {
      return absl::OutOfRangeError(fmt::format("more than {} bytes", limit));
    }
  }
  data.resize(size);
  return data;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(path, O_RDONLY));
  absl::StatusOr<std::string> data = ReadAll(fd.get(), limit);
  if (!data.ok()) return Prefixed(path, data.status());
  return data;
}

std::vector<std::string> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()),
                                                closedir);
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

absl::Status WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = write(fd, data.data(), data.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "write");
    }
    data.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view data,
                                 mode_t mode, bool sync) {
  // One writer per file and process: the pid is enough to keep the server's
  // temporary file apart from that of a `delete` beside it.
  const std::string temporary = fmt::format("{}.{}.tmp", path, getpid());
  absl::StatusOr<UniqueFd> fd =
      OpenFd(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  if (!fd.ok()) return fd.status();
  absl::Status status = WriteAll(fd->get(), data);
  if (status.ok() && fchmod(fd->get(), mode) != 0) {
    status = ErrnoStatus(errno, "fchmod");
  }
  if (status.ok() && sync && fsync(fd->get()) != 0) {
    status = ErrnoStatus(errno, "fsync");
  }
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(errno, "rename");
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return Prefixed(fmt::format("write {}", path), status);
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> MakeMemfd(const char* name) {
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "memfd_create");
  return fd;
}

}  // namespace wisp
