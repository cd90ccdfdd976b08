#include "process/pidfd.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fmt/format.h"

namespace wisp {

absl::StatusOr<Pidfd> Pidfd::Open(pid_t pid) {
  // Close-on-exec by itself.
  UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (fd.valid()) return Pidfd(pid, std::move(fd));
  if (errno == ESRCH) {
    return absl::NotFoundError(
        fmt::format("pid {}: {}", pid, ErrnoText(ESRCH)));
  }
  return ErrnoStatus(errno, fmt::format("pidfd_open {}", pid));
}

bool Pidfd::exited() const {
  pollfd poll_fd = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLIN) != 0;
}

absl::Status Pidfd::Signal(int signal) const {
  if (syscall(SYS_pidfd_send_signal, fd_.get(), signal, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  if (errno == ESRCH) return absl::NotFoundError(ErrnoText(ESRCH));
  if (errno == EINVAL) return absl::InvalidArgumentError(ErrnoText(EINVAL));
  return ErrnoStatus(errno, fmt::format("signal {} to {}", signal, pid_));
}

}  // namespace wisp
