#include "shim/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <deque>
#include <memory>

#include "absl/time/clock.h"
#include "fmt/format.h"
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
  bool debug() const { return debug_; }
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
bool LogsDebug() { return TheLog().sink->debug(); }
std::vector<std::string> RecentLogLines() { return TheLog().sink->recent(); }
uint64_t DroppedLogLines() { return TheLog().sink->dropped(); }

absl::StatusOr<UniqueFd> OpenLogFifo(const std::string& path) {
  // O_APPEND is for those who put a file there.
  return OpenFd(path, O_RDWR | O_NONBLOCK | O_APPEND | O_NOCTTY);
}

}  // namespace wisp
