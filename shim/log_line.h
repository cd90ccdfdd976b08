// One line of the log, in the format of logrus, which Go's shims use.
#ifndef WISP_SHIM_LOG_LINE_H_
#define WISP_SHIM_LOG_LINE_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/time/time.h"
#include "process/status_macros.h"

namespace wisp {

// Out of line, down to the destructor: there are many fields in the program.
struct LogField {
  LogField(std::string_view field_key, std::string_view text);
  LogField(std::string_view field_key, const char* text);
  LogField(std::string_view field_key, const std::string& text);
  LogField(std::string_view field_key, const absl::Status& status);
  LogField(std::string_view field_key, bool flag);
  template <std::integral T>
  LogField(std::string_view field_key, T number)
      : LogField(Number(), field_key,
                 std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>(
                     number)) {}
  LogField(const LogField&) = delete;
  LogField& operator=(const LogField&) = delete;
  ~LogField();

  std::string_view key;
  std::string value;

 private:
  struct Number {};
  LogField(Number, std::string_view field_key, int64_t number);
  LogField(Number, std::string_view field_key, uint64_t number);
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
