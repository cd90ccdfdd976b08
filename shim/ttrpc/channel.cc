#include "shim/ttrpc/channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <string_view>
#include <utility>

namespace wisp {
namespace {

// Read per turn of the loop, so that one busy peer does not keep others
// waiting.
constexpr size_t kReadSize = size_t{16} << 10;

}  // namespace

absl::StatusOr<std::shared_ptr<TtrpcChannel>> TtrpcChannel::Create(
    EventLoop& loop, UniqueFd socket, OnFrame on_frame, OnLost on_lost) {
  std::shared_ptr<TtrpcChannel> channel(new TtrpcChannel(
      std::move(socket), std::move(on_frame), std::move(on_lost)));
  TtrpcChannel* self = channel.get();
  self->events_ = EPOLLIN;
  ASSIGN_OR_RETURN(self->watch_, loop.Watch(self->socket_.get(), EPOLLIN,
                                            [self](uint32_t events) {
                                              self->OnReady(events);
                                            }));
  return channel;
}

TtrpcChannel::TtrpcChannel(UniqueFd socket, OnFrame on_frame, OnLost on_lost)
    : socket_(std::move(socket)),
      on_frame_(std::move(on_frame)),
      on_lost_(std::move(on_lost)) {}

void TtrpcChannel::OnReady(uint32_t events) {
  const std::shared_ptr<TtrpcChannel> self = shared_from_this();
  if ((events & EPOLLOUT) != 0) Write();
  // A hang-up shows even while we do not want to read; reading is how it is
  // learned for certain.
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) Read();
  UpdateEvents();
}

void TtrpcChannel::Read() {
  char buffer[kReadSize];
  ssize_t n;
  do {
    n = recv(socket_.get(), buffer, sizeof(buffer), 0);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
  if (n <= 0) {
    Close();
    on_lost_();
    return;
  }
  std::string_view input(buffer, static_cast<size_t>(n));
  while (!closed()) {
    std::optional<Frame> frame = decoder_.Next(&input);
    if (!frame.has_value()) break;
    on_frame_(*std::move(frame));
  }
}

void TtrpcChannel::Send(std::string frame) {
  if (closed() || !writable_) return;
  queued_bytes_ += frame.size();
  queue_.push_back(std::move(frame));
  // Those in front wait for EPOLLOUT, and so does this one.
  if (queue_.size() == 1) Write();
  UpdateEvents();
}

void TtrpcChannel::Write() {
  while (!queue_.empty()) {
    const std::string_view rest =
        std::string_view(queue_.front()).substr(sent_);
    const ssize_t n =
        send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) GiveUpWriting();
      return;
    }
    sent_ += static_cast<size_t>(n);
    queued_bytes_ -= static_cast<size_t>(n);
    if (sent_ == queue_.front().size()) {
      queue_.pop_front();
      sent_ = 0;
    }
  }
}

void TtrpcChannel::GiveUpWriting() {
  queue_.clear();
  sent_ = queued_bytes_ = 0;
  writable_ = false;
  // Send() is called from the middle of a handler, where the end of the
  // connection, which ends other handlers' calls, must not be told. The socket
  // reports a hang-up now, so the loop comes to us in its next turn.
  shutdown(socket_.get(), SHUT_RDWR);
}

void TtrpcChannel::UpdateEvents() {
  if (closed()) return;
  const uint32_t events =
      (queued_bytes_ > kMaxQueuedBytes ? 0u : uint32_t{EPOLLIN}) |
      (queue_.empty() ? 0u : uint32_t{EPOLLOUT});
  if (events == events_) return;
  events_ = events;
  watch_.SetEvents(events);
}

void TtrpcChannel::Close() {
  watch_.Reset();
  socket_.Reset();
  queue_.clear();
  sent_ = queued_bytes_ = 0;
}

}  // namespace wisp
