// One run of the runtime, inside of RuncDriver.
#ifndef WISP_PROCESS_RUNC_RUN_H_
#define WISP_PROCESS_RUNC_RUN_H_

#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/runc.h"
#include "process/runc_log.h"

namespace wisp {

struct RuncDriver::Result {
  absl::Status status;  // undecorated: the exit status, and output if captured
  std::string output;
  // The last error in what this command appended to the log, if it logged any.
  absl::StatusOr<std::optional<std::string>> log_error = std::nullopt;

  // All that the runtime said.
  std::string words() const {
    return fmt::format(
        "{} {}", Message(status),
        log_error.ok() ? log_error->value_or("") : std::string());
  }
};

struct RuncRun::Run {
  EventLoop& loop;
  std::string binary;  // as configured, for the texts
  std::string command;
  std::string log_path;
  RuncLogMark log_start;
  UniqueFd capture;  // invalid where the container has the fds
  absl::Duration limit;
  RuncDriver::OnResult on_result;
  absl::Time started = absl::Now();
  absl::Status aborted;
  Reaper::Child child;
  EventLoop::TimerHandle timer;

  void Finish(std::optional<ExitStatus> exit);
};

// The runtime did not end by itself.
inline bool EndedFromOutside(const absl::Status& status) {
  return absl::IsDeadlineExceeded(status) || absl::IsCancelled(status);
}

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_RUN_H_
