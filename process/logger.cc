#include "process/logger.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/spawn.h"

namespace wisp {
namespace {

constexpr size_t kStderrKept = 512;

}  // namespace

Logger::~Logger() { Kill(); }

void Logger::Kill() {
  if (running()) (void)child_.pidfd()->Signal(SIGKILL);
}

void Logger::Start(const LoggerCommand& command, const StdioRequest& request,
                   int stdout_fd, int stderr_fd, DoneStatus ready,
                   OnExit on_exit) {
  path_ = command.path;
  must_say_ready_ = command.must_say_ready;
  ready_ = std::move(ready);
  absl::Status started = TryStart(command, request, stdout_fd, stderr_fd);
  if (!started.ok()) {
    Kill();
    timer_ = loop_.After(absl::ZeroDuration(), [this, started] {
      std::exchange(ready_, nullptr)(started);
    });
    return;
  }
  on_exit_ = std::move(on_exit);
  timer_ = loop_.After(limits_.ready, [this] {
    Kill();
    Ready(absl::DeadlineExceededError(
        fmt::format("logging binary {} was not ready within {}", path_,
                    absl::FormatDuration(limits_.ready))));
  });
}

absl::Status Logger::TryStart(const LoggerCommand& command,
                              const StdioRequest& request, int stdout_fd,
                              int stderr_fd) {
  ASSIGN_OR_RETURN(Pipe ready, MakePipe());
  ASSIGN_OR_RETURN(Pipe errors, MakePipe());
  RETURN_IF_ERROR(SetNonblocking(ready.read_end.get()));
  RETURN_IF_ERROR(SetNonblocking(errors.read_end.get()));
  SpawnOptions options = {
      .path = command.path,
      .argv = {command.path},
      .env = {"CONTAINER_ID=" + request.process_id,
              "CONTAINER_NAMESPACE=" + request.container_ns},
      .stderr_fd = errors.write_end.get(),
      .extra_fds = {stdout_fd, stderr_fd, ready.write_end.get()},
      // It outlives us if need be: it has the end of the log to write.
      .new_process_group = false,
      .die_with_parent = false,
  };
  options.argv.insert(options.argv.end(), command.arguments.begin(),
                      command.arguments.end());
  absl::StatusOr<Pidfd> pidfd = Spawn(options);
  if (!pidfd.ok()) {
    return Unclassified(request.terminal
                            ? "failed to start logging binary process"
                            : "failed to start binary process",
                        pidfd.status());
  }
  ASSIGN_OR_RETURN(
      child_, reaper_.Own(*std::move(pidfd), [this](const ExitStatus& status) {
        OnExited(status);
      }));
  ready_pipe_ = std::move(ready.read_end);
  stderr_pipe_ = std::move(errors.read_end);
  ASSIGN_OR_RETURN(ready_watch_,
                   loop_.Watch(ready_pipe_.get(), EPOLLIN,
                               [this](uint32_t) { OnReadyPipe(); }));
  ASSIGN_OR_RETURN(stderr_watch_,
                   loop_.Watch(stderr_pipe_.get(), EPOLLIN,
                               [this](uint32_t) { ReadStderr(); }));
  return absl::OkStatus();
}

void Logger::OnReadyPipe() {
  char byte;
  const ssize_t n = read(ready_pipe_.get(), &byte, 1);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return Ready(ErrnoStatus(errno, "failed to read from logging binary"));
  }
  if (n == 0 && must_say_ready_) {
    Kill();
    return Ready(absl::UnknownError(
        "logging binary did not call ready (it may have crashed or exited "
        "prematurely)"));
  }
  Ready(absl::OkStatus());
}

void Logger::ReadStderr() {
  char buffer[4096];
  const ssize_t n = read(stderr_pipe_.get(), buffer, sizeof(buffer));
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    stderr_watch_.Reset();
    stderr_pipe_.Reset();
    return;
  }
  if (ready_ == nullptr) return;  // read on, or it would block one day
  stderr_.append(buffer, static_cast<size_t>(n));
  if (stderr_.size() > kStderrKept) {
    stderr_.erase(0, stderr_.size() - kStderrKept);
  }
}

void Logger::Ready(absl::Status status) {
  timer_.Reset();
  ready_watch_.Reset();
  ready_pipe_.Reset();
  if (!status.ok()) {
    // What it said last is in the pipe, or never will be.
    if (stderr_pipe_.valid()) ReadStderr();
    const std::string_view said = View(absl::StripAsciiWhitespace(stderr_));
    if (!said.empty()) {
      status = absl::Status(status.code(),
                            fmt::format("{}: {}", Message(status), said));
    }
  }
  std::string().swap(stderr_);
  if (status.ok() && !exited_.empty()) {
    timer_ = loop_.After(absl::ZeroDuration(), [this] { TellExit(); });
  }
  std::exchange(ready_, nullptr)(std::move(status));
}

void Logger::OnExited(const ExitStatus& status) {
  exited_ = fmt::format("exit status {}", status.code);
  // Its word may be in the ready pipe still; or else its end is, unless a child
  // of its own holds that and may yet speak. So that is heard first.
  if (ready_ == nullptr) TellExit();
}

void Logger::TellExit() {
  timer_.Reset();
  if (on_exit_ != nullptr) std::exchange(on_exit_, nullptr)(exited_);
}

void Logger::Close() {
  if (!running()) return;
  timer_ = loop_.After(limits_.end, [this] {
    (void)child_.pidfd()->Signal(SIGTERM);
    timer_ = loop_.After(limits_.term, [this] { Kill(); });
  });
}

}  // namespace wisp
