#include "process/fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr absl::Duration kLongestPause = absl::Milliseconds(50);

// Opens what an O_PATH handle stands for, whatever its path means by now.
// Error: an errno.
UniqueFd Reopen(const UniqueFd& handle, int flags) {
  const std::string path = fmt::format("/proc/self/fd/{}", handle.get());
  UniqueFd fd;
  do {
    fd.Reset(open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY));
  } while (!fd.valid() && errno == EINTR);
  return fd;
}

absl::StatusOr<bool> IsFifo(const UniqueFd& handle) {
  struct stat info;
  if (fstat(handle.get(), &info) != 0) return ErrnoStatus(errno, "fstat");
  return S_ISFIFO(info.st_mode);
}

absl::Status Opening(std::string_view what, const std::string& path,
                     const absl::Status& why) {
  return Unclassified(
      fmt::format("containerd-shim: opening {} \"{}\" failed", what, path),
      why);
}

}  // namespace

OutputOpener::OutputOpener(EventLoop& loop, std::string path, Done<Output> done)
    : loop_(loop), path_(std::move(path)), done_(std::move(done)) {
  timer_ = loop_.After(absl::ZeroDuration(), [this] { Try(); });
}

absl::Status OutputOpener::Interrupted(const absl::Status& why) const {
  return Opening("w/o fifo", path_, why);
}

void OutputOpener::Finish(absl::StatusOr<Output> result) {
  std::exchange(done_, nullptr)(std::move(result));
}

absl::Status OutputOpener::Look() {
  absl::StatusOr<UniqueFd> handle = OpenFd(path_, O_PATH);
  if (!handle.ok()) return Opening("file", path_, handle.status());
  absl::StatusOr<bool> is_fifo = IsFifo(*handle);
  if (!is_fifo.ok()) return Opening("file", path_, is_fifo.status());
  handle_ = *std::move(handle);
  is_fifo_ = *is_fifo;
  return absl::OkStatus();
}

void OutputOpener::Try() {
  if (!handle_.valid()) {
    if (absl::Status status = Look(); !status.ok()) return Finish(status);
  }
  Output output;
  output.is_fifo = is_fifo_;
  if (!is_fifo_) {
    output.fd = Reopen(handle_, O_WRONLY | O_APPEND);
    if (output.fd.valid()) return Finish(std::move(output));
    return Finish(Opening("file", path_,
                          ErrnoStatus(errno, fmt::format("open {}", path_))));
  }
  output.fd = Reopen(handle_, O_WRONLY | O_NONBLOCK);
  if (!output.fd.valid()) {
    if (errno != ENXIO) {
      return Finish(Opening("w/o fifo", path_,
                            ErrnoStatus(errno, fmt::format("open {}", path_))));
    }
    timer_ = loop_.After(pause_, [this] { Try(); });
    pause_ = std::min(pause_ * 2, kLongestPause);
    return;
  }
  output.keeper = Reopen(handle_, O_RDONLY | O_NONBLOCK);
  if (!output.keeper.valid()) {
    return Finish(Opening("r/o fifo", path_,
                          ErrnoStatus(errno, fmt::format("open {}", path_))));
  }
  Finish(std::move(output));
}

absl::StatusOr<StdinFifo> OpenStdinFifo(const std::string& path) {
  const auto fail = [&path](const absl::Status& why) {
    return Unclassified(fmt::format("failed to open stdin fifo {}", path), why);
  };
  UniqueFd handle(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!handle.valid()) {
    return fail(ErrnoStatus(errno, fmt::format("stat {}", path)));
  }
  absl::StatusOr<bool> is_fifo = IsFifo(handle);
  if (!is_fifo.ok()) return fail(is_fifo.status());
  if (!*is_fifo) return fail(absl::UnknownError("not a fifo"));
  StdinFifo fifo;
  fifo.reader = Reopen(handle, O_RDONLY | O_NONBLOCK);
  if (fifo.reader.valid()) {
    fifo.writer = Reopen(handle, O_WRONLY | O_NONBLOCK);
  }
  if (!fifo.writer.valid()) {
    return fail(ErrnoStatus(errno, fmt::format("open {}", path)));
  }
  return fifo;
}

}  // namespace wisp
