// How long a runtime may take.
#ifndef WISP_PROCESS_RUNC_LIMITS_H_
#define WISP_PROCESS_RUNC_LIMITS_H_

#include <string_view>

#include "absl/time/time.h"
#include "process/status_macros.h"

namespace wisp {

// How long a command may take before its process group is killed.
struct RuncLimits {
  absl::Duration create = absl::Minutes(4);
  absl::Duration start = absl::Minutes(2);
  absl::Duration exec = absl::Minutes(2);
  absl::Duration kill = absl::Seconds(15);
  absl::Duration remove = absl::Minutes(1);  // delete
  absl::Duration pause = absl::Seconds(30);  // and resume
  absl::Duration update = absl::Seconds(30);
  absl::Duration ps = absl::Seconds(10);
  absl::Duration checkpoint = absl::Minutes(10);  // and restore
};

// Reads `create=4m,exec=10s,...` over the defaults, the names being those of
// the commands. Error: kInvalidArgument, naming the part that is wrong.
absl::StatusOr<RuncLimits> ParseRuncLimits(std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_LIMITS_H_
