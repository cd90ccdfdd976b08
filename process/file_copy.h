// Output into a file: a log by file://, or what a client names instead of a
// fifo.
#ifndef WISP_PROCESS_FILE_COPY_H_
#define WISP_PROCESS_FILE_COPY_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "process/stream_copy.h"

namespace wisp {

// An open log. Any thread may use it; every method may take as long as the disk
// likes.
class LogFile {
 public:
  // Opens `path` for appending, made with mode 0644 if need be, and its parent
  // directories with 0755. Every `recheck` of writing the path is looked at:
  // when it names another file by then (logs are rotated so) that one is opened
  // or made, once the line under way is complete.
  static absl::StatusOr<std::shared_ptr<LogFile>> Open(std::string path,
                                                       absl::Duration recheck);
  // An open file that is never looked up again.
  explicit LogFile(UniqueFd fd) : fd_(std::move(fd)) {}

  // Writes `data`; what could not be written is left in it. The error is an
  // errno, 0 if all was.
  int Write(std::string_view* data);

 private:
  bool NamesAnother();
  int Append(std::string_view* data);

  std::string path_;  // empty: no look
  absl::Duration recheck_;
  std::mutex mutex_;
  absl::Time checked_;
  UniqueFd fd_;
  bool rotated_ = false;
  bool at_line_start_ = true;
};

// From a pipe to a log. Each portion is copied in a thread of its own, which
// lives for that: a sick disk holds up nobody else. A write that fails does not
// end the copy: it is tried again with back-off, and when the pipe is filling
// up meanwhile the oldest bytes are dropped, so that the container is not
// blocked. One that only takes long is waited for, with a larger pipe.
class FileCopy final : public StreamCopy {
 public:
  // A source whose log cannot keep up is made `stalled_size` bytes large.
  // `on_trouble` hears of the first of a series of failed writes.
  FileCopy(EventLoop& loop, UniqueFd source, std::shared_ptr<LogFile> file,
           uint64_t stalled_size, OnTrouble on_trouble, OnEnd on_end);

  void Start() { WaitForSource(); }

  // Only for the disk: what fails is not waited for.
  bool stalled() const override { return working_; }
  uint64_t held() const override;
  void StopKeeping() override {}
  void Cut() override;

 private:
  struct Portion {
    uint64_t written = 0;
    std::string rest;  // read, but not written
    int error = 0;     // of the write
    bool end = false;
  };
  static Portion Copy(int source, LogFile& file, std::string rest);
  void WaitForSource();
  void Work();
  void OnPortion(Portion portion);
  void MakeRoom();

  EventLoop& loop_;
  const std::shared_ptr<UniqueFd> source_;  // shared with the thread
  std::shared_ptr<LogFile> file_;
  const uint64_t stalled_size_;
  std::string rest_;
  bool working_ = false;
  bool failing_ = false;
  absl::Duration pause_;
  EventLoop::WatchHandle watch_;
  EventLoop::TimerHandle retry_;
  EventLoop::TimerHandle slow_;
  const std::shared_ptr<FileCopy*> self_;  // its weak copies outlive us
};

}  // namespace wisp

#endif  // WISP_PROCESS_FILE_COPY_H_
