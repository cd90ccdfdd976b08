#include "process/status_macros.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "fmt/format.h"

namespace wisp {

std::string ErrnoText(int error) {
  char buffer[128];
  std::string text = strerror_r(error, buffer, sizeof(buffer));
  if (!text.empty()) {
    text[0] = static_cast<char>(tolower(static_cast<unsigned char>(text[0])));
  }
  return text;
}

absl::Status ErrnoStatus(int error, std::string_view what) {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  switch (error) {
    case ENOENT:
      code = absl::StatusCode::kNotFound;
      break;
    case EEXIST:
      code = absl::StatusCode::kAlreadyExists;
      break;
    case EPERM:
    case EACCES:
      code = absl::StatusCode::kPermissionDenied;
      break;
    default:
      break;
  }
  return absl::Status(code, fmt::format("{}: {}", what, ErrnoText(error)));
}

absl::Status Prefixed(std::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      fmt::format("{}: {}", prefix, Message(status)));
}

absl::Status Unclassified(std::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  absl::StatusCode code = status.code();
  if (code != absl::StatusCode::kDeadlineExceeded &&
      code != absl::StatusCode::kCancelled) {
    code = absl::StatusCode::kUnknown;
  }
  return absl::Status(code, fmt::format("{}: {}", prefix, Message(status)));
}

namespace internal {

void CheckFailed(const char* file, int line, const char* what) {
  // Straight to fd 2, which a serving shim has pointed at its log: the state of
  // anything richer is in doubt.
  const std::string text =
      fmt::format("{}:{}: check failed: {}\n", file, line, what);
  (void)!write(STDERR_FILENO, text.data(), text.size());
  abort();
}

}  // namespace internal
}  // namespace wisp
