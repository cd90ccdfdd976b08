// Moving a container's output and input, without a thread or, while nothing
// moves, a buffer.
#ifndef WISP_PROCESS_STREAM_COPY_H_
#define WISP_PROCESS_STREAM_COPY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/fifo.h"
#include "process/spill.h"
#include "process/spill_options.h"
#include "process/status_macros.h"

namespace wisp {

// How much one step moves at most: what a pipe holds by default.
inline constexpr size_t kCopyChunk = size_t{64} << 10;

// Bytes that wait in a pipe, whichever end `pipe` is.
size_t UnreadBytes(int pipe);

// Makes a pipe `size` bytes large, or as large as we may. For a stream that
// stalls: its writer goes on for so long. Failure does not matter.
void EnlargePipe(int pipe, uint64_t size);
// Gives that room back if little is left in it: what our user has more than 64
// MiB of, other processes of his are denied (pipe(7), pipe-user-pages-soft).
void ReleasePipe(int pipe);

// One stream on its way. The program must ignore SIGPIPE.
class StreamCopy {
 public:
  // Called once, from the loop or from Cut(); must not destroy the copy.
  using OnEnd = absl::AnyInvocable<void() &&>;
  // Hears of what goes wrong beside any call.
  using OnTrouble = absl::AnyInvocable<void(std::string_view)>;

  StreamCopy(OnTrouble on_trouble, OnEnd on_end)
      : on_trouble_(std::move(on_trouble)), on_end_(std::move(on_end)) {}
  virtual ~StreamCopy() = default;
  StreamCopy(const StreamCopy&) = delete;
  StreamCopy& operator=(const StreamCopy&) = delete;

  // All is delivered, or cut off; its fds are closed.
  bool ended() const { return ended_; }
  uint64_t moved() const { return moved_; }
  uint64_t lost() const { return lost_; }

  // True while bytes wait for whoever reads.
  virtual bool stalled() const = 0;
  // Bytes that the process has written and that have not been given on.
  virtual uint64_t held() const = 0;
  // From now on the death of the last reader ends the copy.
  virtual void StopKeeping() = 0;
  // Ends it here. What has not been delivered is counted as lost.
  virtual void Cut() = 0;

 protected:
  void SetEnded();
  void AddMoved(uint64_t bytes) { moved_ += bytes; }
  void AddLost(uint64_t bytes) { lost_ += bytes; }
  void Trouble(std::string_view what) {
    if (on_trouble_ != nullptr) on_trouble_(what);
  }
  // Takes note of what a spool has done.
  void AddSpilled(const Spool::Moved& moved);

 private:
  OnTrouble on_trouble_;
  OnEnd on_end_;
  bool ended_ = false;
  uint64_t moved_ = 0;
  uint64_t lost_ = 0;
  absl::Time next_complaint_ = absl::InfinitePast();
};

// Closes our ends of a fifo at the end of a stream. A fifo without any open end
// forgets what it holds, so while it holds something and has no reader (its
// client is being restarted) the write end stays, and a timer looks again. For
// kReaderLimit it stays for a reader, too, that has not taken all: containerd's
// clients open the fifos of an exec in the background, and give up those that
// have not come through when Delete is answered, for which the end of the copy
// is waited for (process.Delete() in client/process.go@v2.4.2).
class OutputCloser {
 public:
  static constexpr absl::Duration kReaderLimit = absl::Milliseconds(250);

  explicit OutputCloser(EventLoop& loop) : loop_(loop) {}

  // `on_closed` may be called at once.
  void Close(Output output, absl::AnyInvocable<void() &&> on_closed);
  bool waiting() const { return output_.fd.valid(); }
  // Closes it without a look; returns how many bytes nobody will read.
  uint64_t Abandon();

 private:
  void Look();

  EventLoop& loop_;
  Output output_;
  absl::AnyInvocable<void() &&> on_closed_;
  absl::Time reader_limit_;
  absl::Duration pause_ = absl::Milliseconds(1);  // while there is no reader
  EventLoop::TimerHandle timer_;
};

// From one pipe or fifo to another, by splice(2): the pages change hands. When
// that stalls the source is made as large as may wait in memory; or, where more
// is wanted than a pipe can do, all goes through a spool until that is empty.
class PipeCopy final : public StreamCopy {
 public:
  // `source` does not block. Without a keeper in `sink` its last reader's end
  // is the copy's: EPIPE.
  PipeCopy(EventLoop& loop, UniqueFd source, Output sink, SpillOptions options,
           OnTrouble on_trouble, OnEnd on_end);

  void Start() { WaitForSource(); }

  bool stalled() const override {
    return sink_watch_.active() || spill_ != nullptr || closer_.waiting();
  }
  uint64_t held() const override;
  void StopKeeping() override;
  void Cut() override;

 private:
  void Move();
  void MoveThroughSpill();
  void OnSpilled(const Spool::Moved& moved);
  void WaitForSource();
  void WaitForSink();
  void Retry();
  void OnSourceEnd();
  void CloseAll();

  EventLoop& loop_;
  UniqueFd source_;
  Output sink_;
  const SpillOptions options_;
  bool keeping_;
  std::unique_ptr<Spill> spill_;
  OutputCloser closer_;
  EventLoop::WatchHandle source_watch_;
  EventLoop::WatchHandle sink_watch_;
  EventLoop::TimerHandle retry_;
};

// Reads a pipe to nowhere, so that its writers never block.
class PipeDiscard {
 public:
  PipeDiscard(EventLoop& loop, UniqueFd source);
  uint64_t bytes() const { return bytes_; }

 private:
  void Read();

  UniqueFd source_;
  uint64_t bytes_ = 0;
  EventLoop::WatchHandle watch_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_STREAM_COPY_H_
