#include "process/pidfd.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
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

absl::StatusOr<pid_t> ParsePidFile(std::string_view text) {
  uint32_t pid = 0;
  bool digits = !text.empty();
  for (const char c : text) {
    digits = digits && absl::ascii_isdigit(static_cast<unsigned char>(c));
  }
  if (!digits || !absl::SimpleAtoi(std::string(text), &pid) || pid == 0 ||
      pid > static_cast<uint32_t>(std::numeric_limits<pid_t>::max())) {
    return absl::InvalidArgumentError(
        fmt::format("\"{}\" is no pid", text.substr(0, 32)));
  }
  return static_cast<pid_t>(pid);
}

}  // namespace wisp
