#include "shim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "process/json.h"
#include "shim/identity.h"
#include "spdlog/details/null_mutex.h"
#include "spdlog/logger.h"
#include "spdlog/sinks/base_sink.h"

namespace wisp {
namespace {

constexpr size_t kRemembered = 100;

// Writes each message as it is. The line is complete when it comes.
class FdSink final
    : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  void set_fd(int fd) { fd_ = fd; }
  void set_debug(bool debug) { debug_ = debug; }
  uint64_t dropped() const { return dropped_; }
  std::vector<std::string> recent() const {
    return {recent_.begin(), recent_.end()};
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line(message.payload.data(), message.payload.size());
    if (debug_ || message.level > spdlog::level::debug) Write(line);
    recent_.push_back(std::move(line));
    if (recent_.size() > kRemembered) recent_.pop_front();
  }
  void flush_() override {}

 private:
  void Write(std::string_view line) {
    if (untold_ > 0) {
      const std::string notice =
          FormatLogLine(absl::Now(), "warning",
                        fmt::format("{} messages dropped", untold_), {});
      if (!WriteOnce(notice)) {
        ++dropped_;
        ++untold_;
        return;
      }
      untold_ = 0;
    }
    if (!WriteOnce(line)) {
      ++dropped_;
      ++untold_;
    }
  }

  // A write of at most PIPE_BUF bytes to a pipe is made whole or not at all.
  bool WriteOnce(std::string_view text) const {
    ssize_t written;
    do {
      written = write(fd_, text.data(), text.size());
    } while (written < 0 && errno == EINTR);
    return written >= 0;
  }

  int fd_ = STDERR_FILENO;
  bool debug_ = false;
  uint64_t dropped_ = 0;
  uint64_t untold_ = 0;
  std::deque<std::string> recent_;
};

struct Log {
  std::shared_ptr<FdSink> sink = std::make_shared<FdSink>();
  spdlog::logger logger{"wisp", sink};
};

// Never destroyed: whatever runs at exit may still log.
Log& TheLog() {
  static Log& log = []() -> Log& {
    auto* made = new Log;
    made->logger.set_level(spdlog::level::debug);
    return *made;
  }();
  return log;
}

void Write(spdlog::level::level_enum level, std::string_view word,
           std::string_view message, LogFields fields) {
  const std::string line = FormatLogLine(absl::Now(), word, message, fields);
  TheLog().logger.log(level, spdlog::string_view_t(line.data(), line.size()));
}

bool IsBare(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
         c == '.' || c == '_' || c == '/' || c == '@' || c == '^' || c == '+';
}

// Whether Go prints the character rather than its number: near enough to
// unicode.IsPrint for what a log has, and safe for every terminal.
bool IsPrintable(uint32_t c) {
  if (c < 0xA1 || c == 0xAD) return false;
  if (c >= 0x2000 && c <= 0x200F) return false;  // spaces, directions
  if (c >= 0x2028 && c <= 0x202F) return false;
  if (c >= 0x205F && c <= 0x206F) return false;
  if (c == 0x3000 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF) return false;
  if (c >= 0xE000 && c <= 0xF8FF) return false;  // private use
  return c < 0xE0000;
}

// Decodes the character that valid UTF-8 begins with.
uint32_t Decode(std::string_view text, size_t* length) {
  const auto first = static_cast<unsigned char>(text[0]);
  *length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  uint32_t c = first & (0xFF >> (*length + 1));
  for (size_t i = 1; i < *length; ++i) {
    c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  return c;
}

void AppendEscaped(unsigned char c, std::string* out) {
  constexpr std::string_view kNamed = "\a\b\t\n\v\f\r";  // 7 to 13
  if (c == '"' || c == '\\') {
    *out += '\\';
    *out += static_cast<char>(c);
  } else if (kNamed.find(static_cast<char>(c)) != kNamed.npos && c != 0) {
    *out += '\\';
    *out += "abtnvfr"[c - 7];
  } else if (c < 0x20 || c >= 0x7F) {
    *out += fmt::format("\\x{:02x}", c);
  } else {
    *out += static_cast<char>(c);
  }
}

}  // namespace

void LogDebug(std::string_view message, LogFields fields) {
  Write(spdlog::level::debug, "debug", message, fields);
}
void LogInfo(std::string_view message, LogFields fields) {
  Write(spdlog::level::info, "info", message, fields);
}
void LogWarning(std::string_view message, LogFields fields) {
  Write(spdlog::level::warn, "warning", message, fields);
}
void LogError(std::string_view message, LogFields fields) {
  Write(spdlog::level::err, "error", message, fields);
}

void SetLogOutput(int fd) { TheLog().sink->set_fd(fd); }
void SetLogDebug(bool debug) { TheLog().sink->set_debug(debug); }
std::vector<std::string> RecentLogLines() { return TheLog().sink->recent(); }
uint64_t DroppedLogLines() { return TheLog().sink->dropped(); }

absl::StatusOr<UniqueFd> OpenLogFifo(const std::string& path) {
  // O_APPEND is for those who put a file there.
  return OpenFd(path, O_RDWR | O_NONBLOCK | O_APPEND | O_NOCTTY);
}

std::string QuoteLogValue(std::string_view value) {
  if (std::all_of(value.begin(), value.end(), IsBare)) {
    return std::string(value);
  }
  std::string quoted = "\"";
  while (!value.empty()) {
    const auto first = static_cast<unsigned char>(value[0]);
    const size_t sequence = Utf8SequenceLength(value);
    if (first < 0x80 || sequence == 0) {
      AppendEscaped(first, &quoted);
      value.remove_prefix(1);
      continue;
    }
    size_t length;
    const uint32_t c = Decode(value, &length);
    if (IsPrintable(c)) {
      quoted += value.substr(0, length);
    } else if (c < 0x10000) {
      quoted += fmt::format("\\u{:04x}", c);
    } else {
      quoted += fmt::format("\\U{:08x}", c);
    }
    value.remove_prefix(length);
  }
  quoted += '"';
  return quoted;
}

std::string FormatLogLine(absl::Time time, std::string_view level,
                          std::string_view message, LogFields fields) {
  std::string line = fmt::format(
      "time=\"{}\" level={}",
      absl::FormatTime("%E4Y-%m-%dT%H:%M:%E9SZ", time, absl::UTCTimeZone()),
      level);
  if (!message.empty()) {
    line += " msg=";
    line += QuoteLogValue(message);
  }
  const LogField runtime("runtime", kRuntimeName);
  std::vector<const LogField*> sorted = {&runtime};
  for (const LogField& field : fields) sorted.push_back(&field);
  std::sort(
      sorted.begin(), sorted.end(),
      [](const LogField* a, const LogField* b) { return a->key < b->key; });
  for (const LogField* field : sorted) {
    line += fmt::format(" {}={}", field->key, QuoteLogValue(field->value));
  }
  constexpr std::string_view kCut = "...\n";
  if (line.size() >= PIPE_BUF) {
    line.resize(PIPE_BUF - kCut.size());
    // Not in the middle of a character.
    while ((static_cast<unsigned char>(line.back()) & 0xC0) == 0x80) {
      line.pop_back();
    }
    if (static_cast<unsigned char>(line.back()) >= 0xC0) line.pop_back();
    line += kCut;
  } else {
    line += '\n';
  }
  return line;
}

}  // namespace wisp
