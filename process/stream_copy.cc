#include "process/stream_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr uint64_t kLargestPipe = uint64_t{1} << 30;
constexpr absl::Duration kComplaintPause = absl::Minutes(1);
constexpr absl::Duration kReaderPause = absl::Milliseconds(2);

short Poll(int fd, short events) {
  pollfd poll_fd = {.fd = fd, .events = events, .revents = 0};
  return poll(&poll_fd, 1, 0) > 0 ? poll_fd.revents : short{0};
}

bool NobodyReads(int pipe) { return (Poll(pipe, POLLOUT) & POLLERR) != 0; }

}  // namespace

size_t UnreadBytes(int pipe) {
  int bytes = 0;
  return ioctl(pipe, FIONREAD, &bytes) == 0 ? static_cast<size_t>(bytes) : 0;
}

void EnlargePipe(int pipe, uint64_t size) {
  // EPERM: beyond /proc/sys/fs/pipe-max-size, or the user has too many.
  size = std::min(size, kLargestPipe);
  while (fcntl(pipe, F_GETPIPE_SZ) < static_cast<int>(size) &&
         fcntl(pipe, F_SETPIPE_SZ, static_cast<int>(size)) < 0 &&
         errno == EPERM) {
    size /= 2;
  }
}

void ReleasePipe(int pipe) {
  if (fcntl(pipe, F_GETPIPE_SZ) > static_cast<int>(kCopyChunk)) {
    fcntl(pipe, F_SETPIPE_SZ, static_cast<int>(kCopyChunk));
  }
}

void StreamCopy::SetEnded() {
  if (std::exchange(ended_, true)) return;
  if (on_end_ != nullptr) std::exchange(on_end_, nullptr)();
}

void StreamCopy::AddSpilled(const Spool::Moved& moved) {
  AddMoved(moved.delivered);
  AddLost(moved.dropped);
  if (moved.dropped == 0 && moved.error == 0) return;
  const absl::Time now = absl::Now();
  if (now < next_complaint_) return;
  next_complaint_ = now + kComplaintPause;
  Trouble(moved.error != 0
              ? fmt::format("output that waits: {}", ErrnoText(moved.error))
              : "output is dropped: its reader does not keep up");
}

void OutputCloser::Close(Output output,
                         absl::AnyInvocable<void() &&> on_closed) {
  output_ = std::move(output);
  on_closed_ = std::move(on_closed);
  reader_limit_ = absl::Now() + kReaderLimit;
  Look();
}

void OutputCloser::Look() {
  // Without our own reader the kernel tells whether there is another. What the
  // fifo holds stays as long as the write end does.
  output_.keeper.Reset();
  if (output_.is_fifo && UnreadBytes(output_.fd.get()) > 0) {
    if (NobodyReads(output_.fd.get())) {
      timer_ = loop_.After(pause_, [this] { Look(); });
      pause_ = std::min(pause_ * 2, absl::Seconds(1));
      return;
    }
    if (absl::Now() < reader_limit_) {
      timer_ = loop_.After(kReaderPause, [this] { Look(); });
      return;
    }
  }
  output_.fd.Reset();
  std::exchange(on_closed_, nullptr)();
}

uint64_t OutputCloser::Abandon() {
  if (!waiting()) return 0;
  const uint64_t lost =
      NobodyReads(output_.fd.get()) ? UnreadBytes(output_.fd.get()) : 0;
  timer_.Reset();
  output_ = Output();
  on_closed_ = nullptr;
  return lost;
}

PipeCopy::PipeCopy(EventLoop& loop, UniqueFd source, Output sink,
                   SpillOptions options, OnTrouble on_trouble, OnEnd on_end)
    : StreamCopy(std::move(on_trouble), std::move(on_end)),
      loop_(loop),
      source_(std::move(source)),
      sink_(std::move(sink)),
      options_(std::move(options)),
      keeping_(sink_.keeper.valid()),
      closer_(loop) {}

void PipeCopy::Move() {
  if (spill_ != nullptr) return MoveThroughSpill();
  const ssize_t moved = splice(source_.get(), nullptr, sink_.fd.get(), nullptr,
                               kCopyChunk, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
  if (moved > 0) {
    AddMoved(static_cast<uint64_t>(moved));
    // While the sink is the slower one it stays the one that is watched.
    if (!sink_watch_.active() || (Poll(source_.get(), POLLIN) & POLLIN) == 0) {
      WaitForSource();
    }
  } else if (moved == 0) {
    OnSourceEnd();
  } else if (errno == EAGAIN) {
    // Which of the two? At its end an empty source is told from a full sink
    // only by a look, too.
    const short ready = Poll(source_.get(), POLLIN);
    if ((ready & POLLIN) != 0) {
      WaitForSink();
    } else if ((ready & POLLHUP) != 0) {
      OnSourceEnd();
    } else {
      WaitForSource();
    }
  } else if (errno == EINTR) {
    Retry();
  } else {
    Cut();  // EPIPE: nobody reads any more
  }
}

void PipeCopy::MoveThroughSpill() {
  if (spill_->busy()) return;
  source_watch_.Reset();
  sink_watch_.Reset();
  const std::optional<Spool::Moved> moved =
      spill_->Turn(source_.get(), sink_.fd.get(),
                   [this](const Spool::Moved& late) { OnSpilled(late); });
  if (moved.has_value()) OnSpilled(*moved);
}

void PipeCopy::OnSpilled(const Spool::Moved& moved) {
  AddSpilled(moved);
  if (moved.sink_gone) return Cut();
  if (moved.source_ended) source_.Reset();
  if (moved.needs_file) return Retry();
  if (spill_->empty()) {
    spill_.reset();
    if (source_.valid()) {
      WaitForSource();
    } else {
      OnSourceEnd();
    }
    return;
  }
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(sink_.fd.get(), EPOLLOUT, [this](uint32_t) { Move(); });
  if (!watch.ok()) return Retry();
  sink_watch_ = *std::move(watch);
  if (!source_.valid() || !spill_->takes_more()) return;
  watch = loop_.Watch(source_.get(), EPOLLIN, [this](uint32_t) { Move(); });
  if (watch.ok()) source_watch_ = *std::move(watch);
}

void PipeCopy::WaitForSource() {
  if (sink_watch_.active() && options_.memory > 0) ReleasePipe(source_.get());
  sink_watch_.Reset();
  if (source_watch_.active()) return;
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(source_.get(), EPOLLIN, [this](uint32_t) { Move(); });
  if (!watch.ok()) return Retry();
  source_watch_ = *std::move(watch);
}

void PipeCopy::WaitForSink() {
  // Its hang-up cannot be masked, so the source is not watched at all.
  source_watch_.Reset();
  if (sink_watch_.active()) return;
  if (options_.needs_spool()) {
    spill_ = std::make_unique<Spill>(loop_, options_);
    return MoveThroughSpill();
  }
  EnlargePipe(source_.get(), options_.memory);
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(sink_.fd.get(), EPOLLOUT, [this](uint32_t) { Move(); });
  if (!watch.ok()) return Retry();
  sink_watch_ = *std::move(watch);
}

void PipeCopy::Retry() {
  retry_ = loop_.After(absl::Milliseconds(50), [this] { Move(); });
}

void PipeCopy::OnSourceEnd() {
  CloseAll();
  if (keeping_) {
    closer_.Close(std::move(sink_), [this] { SetEnded(); });
  } else {
    Cut();
  }
}

void PipeCopy::CloseAll() {
  retry_.Reset();
  source_watch_.Reset();
  sink_watch_.Reset();
  source_.Reset();
}

void PipeCopy::StopKeeping() {
  keeping_ = false;
  sink_.keeper.Reset();
  if (closer_.waiting()) Cut();  // what it waits for is a reader
}

uint64_t PipeCopy::held() const {
  return (source_.valid() ? UnreadBytes(source_.get()) : 0) +
         (spill_ != nullptr ? spill_->size() : 0);
}

void PipeCopy::Cut() {
  if (ended()) return;
  AddLost(held());
  spill_.reset();
  AddLost(closer_.Abandon());
  // What lies in the fifo is lost, too, if its readers are gone.
  sink_.keeper.Reset();
  if (sink_.is_fifo && NobodyReads(sink_.fd.get())) {
    AddLost(UnreadBytes(sink_.fd.get()));
  }
  CloseAll();
  sink_ = Output();
  SetEnded();
}

PipeDiscard::PipeDiscard(EventLoop& loop, UniqueFd source)
    : source_(std::move(source)) {
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop.Watch(source_.get(), EPOLLIN, [this](uint32_t) { Read(); });
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    source_.Reset();  // an error for its writers is better than a block
  }
}

void PipeDiscard::Read() {
  char buffer[kCopyChunk];
  const ssize_t n = read(source_.get(), buffer, sizeof(buffer));
  if (n > 0) {
    bytes_ += static_cast<uint64_t>(n);
  } else if (n == 0) {
    watch_.Reset();
    source_.Reset();
  }
}

}  // namespace wisp
