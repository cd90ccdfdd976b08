// A process that cannot be confused with its successor.
#ifndef WISP_PROCESS_PIDFD_H_
#define WISP_PROCESS_PIDFD_H_

#include <sys/types.h>

#include <string_view>
#include <utility>

#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

class Pidfd {
 public:
  Pidfd() = default;
  // `fd` must be a pidfd of `pid`, as clone(2) returns it.
  Pidfd(pid_t pid, UniqueFd fd) : pid_(pid), fd_(std::move(fd)) {}

  // Sure to be the process meant only while `pid` is an unreaped child of ours.
  // Error: kNotFound if there is no such process.
  static absl::StatusOr<Pidfd> Open(pid_t pid);

  bool valid() const { return fd_.valid(); }
  pid_t pid() const { return pid_; }
  int fd() const { return fd_.get(); }

  // True once the process has ended, reaped or not. Does not wait.
  bool exited() const;

  // kill(2). Errors: kNotFound once it is reaped (a zombie still takes
  // signals), kPermissionDenied where an LSM says no, kInvalidArgument for a
  // bad number.
  absl::Status Signal(int signal) const;

 private:
  pid_t pid_ = 0;
  UniqueFd fd_;
};

// Content of a runtime's pid file: nothing but digits. Go trims nothing either,
// and the file is renamed into place, or written to its end before the runtime
// exits. Error: kInvalidArgument.
absl::StatusOr<pid_t> ParsePidFile(std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_PIDFD_H_
