// File descriptors with an owner, and whole files.
#ifndef WISP_PROCESS_FD_H_
#define WISP_PROCESS_FD_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "process/status_macros.h"

namespace wisp {

// Owns a file descriptor. Everything of ours is close-on-exec: what opens an fd
// passes O_CLOEXEC or its like, or a container could inherit it.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }  // -1 if there is none
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// A pipe, both ends close-on-exec and blocking: one of them goes to a child,
// and O_NONBLOCK belongs to the open file, which the child would see.
absl::StatusOr<Pipe> MakePipe();

absl::Status SetNonblocking(int fd);

// open(2) with O_CLOEXEC. Error: `open PATH: <errno text>`.
absl::StatusOr<UniqueFd> OpenFd(const std::string& path, int flags,
                                mode_t mode = 0);

// A whole file, at most `limit` bytes (kOutOfRange beyond that).
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     size_t limit = size_t{64} << 20);
// The names in a directory but for `.` and `..`, in no order; none if it cannot
// be read.
std::vector<std::string> ListDirectory(const std::string& path);
// The rest of what `fd` has, up to EOF.
absl::StatusOr<std::string> ReadAll(int fd, size_t limit = size_t{64} << 20);
// All of `data`, to an fd that blocks.
absl::Status WriteAll(int fd, std::string_view data);

// Replaces the file by a new one with `data` and `mode` (umask does not apply):
// a reader sees the old content or the new one, never a part. With `sync` it is
// on disk when this returns, which may take as long as the disk likes.
absl::Status WriteFileAtomically(const std::string& path, std::string_view data,
                                 mode_t mode, bool sync);

// A memfd named `name` (shown in /proc) holding nothing.
absl::StatusOr<UniqueFd> MakeMemfd(const char* name);

}  // namespace wisp

#endif  // WISP_PROCESS_FD_H_
