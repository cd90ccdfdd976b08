// The log, our only global.
//
// containerd copies what comes out of a shim's fifo to its own stderr as it is,
// so lines look like those of Go's shim (logrus): time, level, msg, then the
// other keys in alphabetical order. Only the edge logs: handlers, and what runs
// in the background. The loop's thread only.
#ifndef WISP_SHIM_LOG_H_
#define WISP_SHIM_LOG_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

struct LogField {
  LogField(std::string_view field_key, std::string_view text)
      : key(field_key), value(text) {}
  LogField(std::string_view field_key, const char* text)
      : key(field_key), value(text) {}
  LogField(std::string_view field_key, const std::string& text)
      : key(field_key), value(text) {}
  LogField(std::string_view field_key, std::integral auto number)
      : key(field_key), value(fmt::to_string(number)) {}
  LogField(std::string_view field_key, const absl::Status& status)
      : key(field_key), value(Message(status)) {}

  std::string_view key;
  std::string value;
};
using LogFields = std::initializer_list<LogField>;

// LogWarning("cannot unmount", {{"path", path}, {"error", status}}).
void LogDebug(std::string_view message, LogFields fields = {});
void LogInfo(std::string_view message, LogFields fields = {});
void LogWarning(std::string_view message, LogFields fields = {});
void LogError(std::string_view message, LogFields fields = {});

// Where lines go: `fd`, which stays the caller's and open; before the first
// call, fd 2. Each line is one write of at most PIPE_BUF bytes, so lines of
// several writers never mix. What does not fit into a non-blocking fd is
// dropped and counted, and the count told when there is room again: a daemon
// that has stopped reading must not stop us.
void SetLogOutput(int fd);
// Debug lines are written only if this is set, but always remembered.
void SetLogDebug(bool debug);

// Opens the bundle's fifo so that nothing about it can stop the shim: reading
// and writing, since write-only fails while no daemon lives (ENXIO) and gets
// EPIPE later; non-blocking; and never made anew, which would fill the tmpfs.
absl::StatusOr<UniqueFd> OpenLogFifo(const std::string& path);

// The last lines, up to 100, for a dump on request. With newlines.
std::vector<std::string> RecentLogLines();
// How many lines were dropped since the start.
uint64_t DroppedLogLines();

// One line as it is written, with its newline; at most PIPE_BUF bytes.
// `level` is one of logrus's words: debug, info, warning, error.
std::string FormatLogLine(absl::Time time, std::string_view level,
                          std::string_view message, LogFields fields);
// `value` as it is if logrus would leave it so, else quoted as strconv.Quote.
std::string QuoteLogValue(std::string_view value);

}  // namespace wisp

#endif  // WISP_SHIM_LOG_H_
