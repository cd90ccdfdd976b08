#include "shim/run_command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/spawn.h"

namespace wisp {
namespace {

constexpr size_t kMostOutput = size_t{8} << 20;

std::string ContentOf(const UniqueFd& memory) {
  if (lseek(memory.get(), 0, SEEK_SET) != 0) return "";
  return ReadAll(memory.get(), kMostOutput).value_or("");
}

}  // namespace

absl::StatusOr<int> WaitForExit(const Pidfd& child, absl::Time deadline) {
  for (;;) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    pollfd ready = {child.fd(), POLLIN, 0};
    const int n = poll(
        &ready, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 3600 * 1000)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::DeadlineExceededError("did not end in time");
    siginfo_t info = {};
    if (waitid(P_PIDFD, static_cast<id_t>(child.fd()), &info, WEXITED) != 0) {
      return ErrnoStatus(errno, "waitid");
    }
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  }
}

absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& argv,
                                         absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueFd output, MakeMemfd("stdout"));
  ASSIGN_OR_RETURN(const UniqueFd errors, MakeMemfd("stderr"));
  SpawnOptions spawn;
  ASSIGN_OR_RETURN(spawn.path, FindExecutable(argv[0]));
  spawn.argv = argv;
  spawn.env = EnvironmentWithout({"NOTIFY_SOCKET"});
  spawn.stdout_fd = output.get();
  spawn.stderr_fd = errors.get();
  ASSIGN_OR_RETURN(const Pidfd child, Spawn(spawn));

  const absl::StatusOr<int> exit_code = WaitForExit(child, deadline);
  if (!exit_code.ok()) {
    // Still unreaped, so the group is still its own.
    kill(-child.pid(), SIGKILL);
    (void)WaitForExit(child, absl::Now() + absl::Milliseconds(100));
    return Prefixed(argv[0], exit_code.status());
  }
  return CommandResult{*exit_code, ContentOf(output), ContentOf(errors)};
}

}  // namespace wisp
