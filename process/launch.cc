#include "process/launch.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "process/fd.h"
#include "process/pidfd.h"

namespace wisp {
namespace {

// containerd's shim waits this long for the other sides of the stdio
// (cmd/containerd-shim-runc-v2/process/init.go@v2.4.2).
constexpr absl::Duration kConnectLimit = absl::Seconds(30);

absl::StatusOr<pid_t> ReadPidFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64));
  return ParsePidFile(text);
}

}  // namespace

Launch::Launch(Reaper& reaper, Stdio& stdio, Texts texts, std::string pid_file,
               Reaper::OnExit on_death)
    : reaper_(reaper),
      stdio_(stdio),
      texts_(texts),
      pid_file_(std::move(pid_file)),
      on_death_(std::move(on_death)) {}

void Launch::Run(RuncRunOptions options, Command command,
                 Done<Reaper::Child> done) {
  options_ = std::move(options);
  command_ = std::move(command);
  done_ = std::move(done);
  stdio_.Prepare([this](absl::Status status) { OnPrepared(status); });
}

void Launch::OnPrepared(const absl::Status& status) {
  if (!cancelled_.ok()) return Fail(cancelled_);
  if (!status.ok()) {
    return Fail(Unclassified(
        stdio_.terminal() ? texts_.console_socket : texts_.stdio, status));
  }
  options_.stdin_fd = stdio_.child_stdin();
  options_.stdout_fd = stdio_.child_stdout();
  options_.stderr_fd = stdio_.child_stderr();
  options_.container_io = !stdio_.terminal();
  options_.console_socket = stdio_.console_socket();
  // From here on a stranger that turns up dead may be the process itself.
  guard_ = reaper_.GuardNewChildren();
  // What an earlier attempt has left is not of this one.
  unlink(pid_file_.c_str());
  runtime_ran_ = true;
  running_ = std::move(command_)(
      options_, [this](absl::Status result) { OnCommandDone(result); });
  // While we hold copies of them the container's streams would have no end.
  stdio_.CloseChildEnds();
}

void Launch::OnCommandDone(const absl::Status& status) {
  // Also after a failure: a runtime that was killed late has left the process
  // behind, and Fail() can kill only what it knows.
  absl::Status adopted = AdoptByFile();
  if (!status.ok()) adopted = status;
  guard_.Reset();
  if (!cancelled_.ok()) return Fail(cancelled_);
  if (!adopted.ok()) return Fail(std::move(adopted));
  stdio_.Connect(kConnectLimit,
                 [this](absl::Status result) { OnConnected(result); });
}

absl::Status Launch::AdoptByFile() {
  absl::StatusOr<pid_t> pid = ReadPidFile(pid_file_);
  if (!pid.ok()) return Unclassified(texts_.pid, pid.status());
  absl::StatusOr<Reaper::Child> child =
      reaper_.Adopt(*pid, std::move(on_death_));
  if (!child.ok()) return Unclassified(texts_.pid, child.status());
  child_ = *std::move(child);
  return absl::OkStatus();
}

void Launch::OnConnected(const absl::Status& status) {
  if (!cancelled_.ok()) return Fail(cancelled_);
  if (!status.ok()) return Fail(status);
  std::exchange(done_, nullptr)(std::move(child_));
}

void Launch::Cancel(const absl::Status& why) {
  if (done_ == nullptr || !cancelled_.ok()) return;
  cancelled_ = why;
  // The step under way ends early and finds `cancelled_`.
  running_.Abort(why);
  stdio_.Cancel(why);
}

void Launch::Fail(absl::Status status) {
  if (child_.pidfd() != nullptr) (void)child_.pidfd()->Signal(SIGKILL);
  std::exchange(done_, nullptr)(std::move(status));
}

}  // namespace wisp
