// Starting a child.
//
// clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD): the caller's memory is neither
// copied nor marked, whatever its size, and the pidfd is there from the start.
// Call it from the loop's thread only: PDEATHSIG belongs to the thread that
// cloned, and that one lives as long as the shim.
#ifndef WISP_PROCESS_SPAWN_H_
#define WISP_PROCESS_SPAWN_H_

#include <string>
#include <vector>

#include "process/pidfd.h"
#include "process/status_macros.h"

namespace wisp {

// What a child gets: exactly fds 0, 1, 2 and those in `extra_fds`, default
// signal dispositions, an empty signal mask.
struct SpawnOptions {
  std::string path;               // the file to execute; PATH is not searched
  std::vector<std::string> argv;  // argv[0] included
  std::vector<std::string> env;   // KEY=VALUE, all of it
  std::string directory;          // empty: the caller's
  int stdin_fd = -1;              // -1: /dev/null. Borrowed, not closed.
  int stdout_fd = -1;
  int stderr_fd = -1;
  std::vector<int> extra_fds;     // become 3, 4, 5 ...
  bool new_process_group = true;  // so that it can be killed with its children
  bool die_with_parent = true;    // SIGKILL when the cloning thread ends
};

// Starts it. What goes wrong before the program runs is an error here, with
// Go's text for a failed execve: `fork/exec PATH: <errno text>`.
absl::StatusOr<Pidfd> Spawn(const SpawnOptions& options);

// Finds `name` as execvp(3) would: in the directories of $PATH, or as it is if
// it has a slash. Error: `exec: "NAME": executable file not found in $PATH`,
// which containerd's tests look for.
absl::StatusOr<std::string> FindExecutable(const std::string& name);

// This process's environment without the variables named.
std::vector<std::string> EnvironmentWithout(
    const std::vector<std::string>& names);

}  // namespace wisp

#endif  // WISP_PROCESS_SPAWN_H_
