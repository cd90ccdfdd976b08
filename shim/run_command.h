// A program run to its end while nothing else happens: for the short-lived
// actions, which have no loop.
#ifndef WISP_SHIM_RUN_COMMAND_H_
#define WISP_SHIM_RUN_COMMAND_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "process/pidfd.h"
#include "process/status_macros.h"

namespace wisp {

struct CommandResult {
  int exit_code = 0;   // 128 + signal if it was killed
  std::string output;  // stdout
  std::string errors;  // stderr
};

// Runs argv[0], looked up in $PATH, in the current directory with our
// environment less NOTIFY_SOCKET, which would make runc talk to systemd for
// containerd. Its output goes to memory files: no process that inherits them
// can hold us up. Errors: it cannot be started; kDeadlineExceeded, its process
// group killed.
absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& argv,
                                         absl::Time deadline);

// Waits for a child to end, at most until `deadline`, and reaps it. Error:
// kDeadlineExceeded; it lives on.
absl::StatusOr<int> WaitForExit(const Pidfd& child, absl::Time deadline);

}  // namespace wisp

#endif  // WISP_SHIM_RUN_COMMAND_H_
