// The server as `start` makes it: our own program again, set up from outside.
#ifndef WISP_SHIM_SERVER_PROCESS_H_
#define WISP_SHIM_SERVER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "process/pidfd.h"
#include "process/status_macros.h"
#include "shim/options.h"
#include "shim/start_request.h"

namespace wisp {

// The server's command line: what Go's server gets, and -socket-name.
std::vector<std::string> ServerArguments(const ShimOptions& options,
                                         const StartRequest& request,
                                         const std::string& socket_path);

// Starts it in the current directory, which is the bundle: its own process
// group, /dev/null for stdio, since containerd waits until nobody holds the
// pipe of `start` any more, `listener` as fd 3. It outlives us. With
// `core_scheduling` it shares a core with its own children only, from its first
// instruction (prctl(2), PR_SCHED_CORE).
absl::StatusOr<Pidfd> SpawnServer(const std::vector<std::string>& arguments,
                                  const StartRequest& request, int listener,
                                  bool core_scheduling);

// Moves `pid` into the cgroup `path` below the root, which must exist: in the
// unified hierarchy, or in every v1 hierarchy that has it.
absl::Status MoveToCgroup(pid_t pid, const std::string& path);

// Makes `pid` one point likelier to be killed for memory than `daemon` is. In a
// user namespace or without privileges, EPERM and EACCES are fine.
absl::Status AdjustOomScore(pid_t pid, pid_t daemon);

}  // namespace wisp

#endif  // WISP_SHIM_SERVER_PROCESS_H_
