// exit.json: how a container's init ended, told to `delete` after a crash.
//
// The format is that of Go's shim since containerd 2.4 (writeInitExitStatus in
// cmd/containerd-shim-runc-v2): after a restart its `delete` may meet our
// bundle, and ours its.
#ifndef WISP_SHIM_EXIT_RECORD_H_
#define WISP_SHIM_EXIT_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "process/status_macros.h"

namespace wisp {

struct ExitRecord {
  absl::Time at;        // whole nanoseconds are kept
  uint32_t pid = 0;     // 0 only in a guess
  uint32_t status = 0;  // exit code, or 128 + signal
  // Made up by `delete`, since nobody had seen the end: an extra key that Go
  // passes over.
  bool guessed = false;

  friend bool operator==(const ExitRecord&, const ExitRecord&) = default;
};

// `{"Timestamp":"2026-09-04T10:20:30.123456789Z","Pid":4300,"Status":42}`.
std::string FormatExitRecord(const ExitRecord& record);

// Error, kInvalidArgument, for what Go would not take either: no JSON, a pid
// below 1 (but 0 is allowed in a guess), a negative status, a time that is not
// RFC 3339 or in the year 1.
absl::StatusOr<ExitRecord> ParseExitRecord(std::string_view text);

}  // namespace wisp

#endif  // WISP_SHIM_EXIT_RECORD_H_
