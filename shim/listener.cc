#include "shim/listener.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(1);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
// Per turn of the loop.
constexpr int kMaxAccepts = 64;

absl::Status CheckPeer(int socket) {
  ucred peer;
  socklen_t size = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoStatus(errno, "credentials of the peer");
  }
  if (peer.uid != geteuid() || peer.gid != getegid()) {
    return absl::PermissionDeniedError(
        fmt::format("connection refused: process {} has uid {} and gid {}",
                    peer.pid, peer.uid, peer.gid));
  }
  return absl::OkStatus();
}

// False if the peer has closed. What it may have sent before does not count:
// nobody waits for the answer.
bool PeerIsThere(int socket) {
  pollfd poll_fd = {socket, 0, 0};  // POLLHUP and POLLERR need not be asked for
  return poll(&poll_fd, 1, 0) == 0;
}

bool IsPermanent(int error) {
  return error == EBADF || error == EINVAL || error == ENOTSOCK ||
         error == EOPNOTSUPP || error == EFAULT;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(
    EventLoop& loop, int fd, OnConnection on_connection, OnTrouble on_trouble,
    OnBroken on_broken) {
  RETURN_IF_ERROR(SetNonblocking(fd));
  std::unique_ptr<Listener> listener(
      new Listener(loop, fd, std::move(on_connection), std::move(on_trouble),
                   std::move(on_broken)));
  Listener* self = listener.get();
  ASSIGN_OR_RETURN(self->watch_,
                   loop.Watch(fd, EPOLLIN, [self](uint32_t events) {
                     self->OnReady(events);
                   }));
  return listener;
}

Listener::Listener(EventLoop& loop, int fd, OnConnection on_connection,
                   OnTrouble on_trouble, OnBroken on_broken)
    : loop_(loop),
      fd_(fd),
      on_connection_(std::move(on_connection)),
      on_trouble_(std::move(on_trouble)),
      on_broken_(std::move(on_broken)) {}

Listener::Accepted Listener::AcceptOne() {
  for (;;) {
    UniqueFd socket(
        accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
      return {.error = errno};
    }
    pause_ = absl::ZeroDuration();
    if (const absl::Status peer = CheckPeer(socket.get()); !peer.ok()) {
      on_trouble_(peer);
      return {.refused = true};
    }
    return {.socket = std::move(socket)};
  }
}

void Listener::OnReady(uint32_t events) {
  for (int i = 0; i < kMaxAccepts; ++i) {
    Accepted accepted = AcceptOne();
    if (accepted.error != 0) {
      Pause(accepted.error);
      return;
    }
    if (accepted.refused) continue;
    if (!accepted.socket.valid()) {
      // A listening socket hangs up when somebody who shares it shuts it down.
      // accept(2) has nothing but EAGAIN to say about that, for ever.
      if ((events & EPOLLHUP) != 0) Pause(EINVAL);
      return;
    }
    on_connection_(std::move(accepted.socket));
  }
}

absl::StatusOr<size_t> Listener::AcceptPending() {
  size_t alive = 0;
  for (;;) {
    Accepted accepted = AcceptOne();
    if (accepted.error != 0 && alive == 0) {
      return ErrnoStatus(accepted.error, "accept");
    }
    if (accepted.refused) continue;
    if (!accepted.socket.valid()) return alive;
    if (!PeerIsThere(accepted.socket.get())) continue;
    ++alive;
    on_connection_(std::move(accepted.socket));
  }
}

void Listener::Pause(int error) {
  const absl::Status status = ErrnoStatus(error, "accept");
  if (IsPermanent(error)) {
    watch_.Reset();
    on_broken_(status);
    return;
  }
  // Out of fds or memory. Who connects stays in the backlog, and a
  // level-triggered watch would spin on it.
  const bool first = pause_ == absl::ZeroDuration();
  pause_ = first ? kFirstPause : std::min(pause_ * 2, kLongestPause);
  watch_.SetEvents(0);
  resume_ = loop_.After(pause_, [this] {
    watch_.SetEvents(EPOLLIN);
    OnReady(EPOLLIN);
  });
  if (first) on_trouble_(status);
}

}  // namespace wisp
