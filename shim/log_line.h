// One line of the log, in the format of logrus, which Go's shims use.
#ifndef WISP_SHIM_LOG_LINE_H_
#define WISP_SHIM_LOG_LINE_H_

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "fmt/format.h"
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

// One line as it is written, with its newline; at most PIPE_BUF bytes.
// `level` is one of logrus's words: debug, info, warning, error.
std::string FormatLogLine(absl::Time time, std::string_view level,
                          std::string_view message, LogFields fields);
// `value` as it is if logrus would leave it so, else quoted as strconv.Quote.
std::string QuoteLogValue(std::string_view value);

}  // namespace wisp

#endif  // WISP_SHIM_LOG_LINE_H_
