// What the OCI runtime wrote to its log about a failure.
//
// All commands of a task append to one file that nobody truncates. So the
// caller notes its size before a command and looks only at what came after it:
// a command that fails without a word must not get the last error of another.
#ifndef WISP_PROCESS_RUNC_LOG_H_
#define WISP_PROCESS_RUNC_LOG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp {

// The size of the log, 0 if there is none yet.
int64_t RuncLogSize(const std::string& path);

// The last message of level `error` behind `offset`, white space trimmed, or
// the last of level `fatal` if there is no error; nothing if neither was
// logged. Errors: the log cannot be read (kNotFound and others, with Go's text
// `open PATH: no such file or directory`), or there is text in it but no JSON.
// Of more than a megabyte only the end is read.
absl::StatusOr<std::optional<std::string>> LastRuncError(
    const std::string& path, int64_t offset);

// The same for text: JSON objects one after the other, with or without newlines
// between them. What is broken is skipped.
absl::StatusOr<std::optional<std::string>> LastErrorInRuncLog(
    std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_LOG_H_
