// What mounting needs from outside. All of mount/ blocks: it belongs on a
// thread of its own (EventLoop::Offload), and touches no loop.
#ifndef WISP_MOUNT_CONTEXT_H_
#define WISP_MOUNT_CONTEXT_H_

#include <atomic>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "process/status_macros.h"

namespace wisp {

struct HelperResult {
  int exit_code = 0;   // 128 + signal if it was killed
  std::string output;  // stdout and stderr
};

// Runs `argv` (argv[0] is looked up in PATH) to its end. It is called on the
// thread that mounts, but only the loop may spawn: the caller's implementation
// posts the command there and waits for its exit. kNotFound: no such program.
using HelperRunner = absl::AnyInvocable<absl::StatusOr<HelperResult>(
    const std::vector<std::string>& argv)>;

struct MountContext {
  // Where an id-mapped overlay's lower layers are mounted for the moment. Not
  // in the bundle: whoever removes that tree would walk into the image.
  std::string temporary_directory = "/tmp";
  // Borrowed. Null: FUSE mounts are kUnimplemented, and FUSE unmounts are a
  // plain umount2(2), which root may do, though mtab-like records of a helper
  // stay behind.
  HelperRunner* run_helper = nullptr;
  // Borrowed; set by any thread to give up between two steps. Null: never.
  const std::atomic<bool>* cancelled = nullptr;

  bool is_cancelled() const {
    return cancelled != nullptr && cancelled->load(std::memory_order_relaxed);
  }
};

}  // namespace wisp

#endif  // WISP_MOUNT_CONTEXT_H_
