// Errors and broken promises.
//
// Three kinds of trouble are never mixed: a bug ends the process (WISP_CHECK),
// an unusable environment ends `start`, and everything else is an absl::Status
// that travels to the edge, where it is logged once.
//
// Wire texts are what containerd's clients match, and those were written
// against Go: errno texts begin in lower case here, as Go prints them.
#ifndef WISP_PROCESS_STATUS_MACROS_H_
#define WISP_PROCESS_STATUS_MACROS_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace wisp {

// A completion: called exactly once, on the loop's thread, or destroyed
// uncalled when the program ends.
template <typename T>
using Done = absl::AnyInvocable<void(absl::StatusOr<T>) &&>;
using DoneStatus = absl::AnyInvocable<void(absl::Status) &&>;

// Debian 12's absl::string_view is a type of its own; ours is the standard's.
inline std::string_view View(absl::string_view text) {
  return {text.data(), text.size()};
}
inline std::string_view Message(const absl::Status& status) {
  return View(status.message());
}

// The kernel's text for `error`, as Go prints it: "no such file or directory".
std::string ErrnoText(int error);

// `what: <errno text>`. ENOENT becomes kNotFound, EEXIST kAlreadyExists, EPERM
// and EACCES kPermissionDenied, the rest kUnknown: the same four that Go's
// ttrpc server makes of a bare errno.
absl::Status ErrnoStatus(int error, std::string_view what);

// `prefix: <message>`, with the code of `status`. OK stays OK.
absl::Status Prefixed(std::string_view prefix, const absl::Status& status);

// `prefix: <message>` as a failure without a class (kUnknown), which is what
// containerd expects of a failed operation, whatever the cause below it was.
// Only the end of the call itself (kDeadlineExceeded, kCancelled) shows
// through.
absl::Status Unclassified(std::string_view prefix, const absl::Status& status);

namespace internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* what);
inline const absl::Status& ToStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}
}  // namespace internal
}  // namespace wisp

// Ends the process if a promise of our own code is broken.
#define WISP_CHECK(condition)    \
  (ABSL_PREDICT_TRUE(condition)) \
      ? (void)0                  \
      : ::wisp::internal::CheckFailed(__FILE__, __LINE__, #condition)

#define RETURN_IF_ERROR(expr)                    \
  do {                                           \
    absl::Status wisp_status = (expr);           \
    if (ABSL_PREDICT_FALSE(!wisp_status.ok())) { \
      return wisp_status;                        \
    }                                            \
  } while (false)

#define WISP_CONCAT_INNER(a, b) a##b
#define WISP_CONCAT(a, b) WISP_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL(WISP_CONCAT(wisp_result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL(result, lhs, expr) \
  auto result = (expr);                          \
  if (ABSL_PREDICT_FALSE(!result.ok())) {        \
    return std::move(result).status();           \
  }                                              \
  lhs = std::move(result).value()

#endif  // WISP_PROCESS_STATUS_MACROS_H_
