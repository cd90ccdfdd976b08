// What the OCI runtime wrote to its log about a failure.
//
// All commands of a task append to one file that nobody truncates. So the
// caller marks its end before a command and looks only at what came after it: a
// command that fails without a word must not get the last error of another.
// youki 0.7 does not append but writes over the beginning, which shows there.
#ifndef WISP_PROCESS_RUNC_LOG_H_
#define WISP_PROCESS_RUNC_LOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp {

// A log as it was at a moment.
struct RuncLogMark {
  int64_t size = 0;
  std::string head;  // its first bytes
};

// Empty if there is no log yet.
RuncLogMark MarkRuncLog(const std::string& path);

// The last message of level `error` behind `mark`, white space trimmed, or the
// last of level `fatal` if there is no error; nothing if neither was
// logged. Errors: the log cannot be read (kNotFound and others, with Go's text
// `open PATH: no such file or directory`), or there is text in it but no JSON.
// Of more than a megabyte only the end is read.
absl::StatusOr<std::optional<std::string>> LastRuncError(
    const std::string& path, const RuncLogMark& mark);

// The same for text: JSON objects one after the other, with or without newlines
// between them. What is broken is skipped. An error of youki's has the level
// `ERROR` and a `message`.
absl::StatusOr<std::optional<std::string>> LastErrorInRuncLog(
    std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_LOG_H_
