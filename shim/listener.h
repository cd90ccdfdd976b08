// Accepts connections on a listening unix socket, from our own user only.
//
// Knows nothing of what is spoken on them, so ttrpc and gRPC share it.
#ifndef WISP_SHIM_LISTENER_H_
#define WISP_SHIM_LISTENER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

class Listener {
 public:
  // A connected socket, non-blocking and close-on-exec, whose peer had, when it
  // connected, our effective uid and gid: containerd's shims require both
  // (vendor/github.com/containerd/ttrpc/unixcreds_linux.go).
  using OnConnection = absl::AnyInvocable<void(UniqueFd socket)>;
  // Worth a log line: a peer was refused (kPermissionDenied), or connections
  // cannot be accepted for now, which is told once and then tried again after
  // pauses from 1 ms to 1 s.
  using OnTrouble = absl::AnyInvocable<void(const absl::Status& trouble)>;
  // The socket can never accept again, and the listener is at rest.
  using OnBroken = absl::AnyInvocable<void(const absl::Status& why)>;

  // `fd` is a listening socket; it stays the caller's, must stay open as long
  // as the listener lives, and is made non-blocking. `loop` must outlive the
  // listener. None of the callbacks may destroy the listener.
  static absl::StatusOr<std::unique_ptr<Listener>> Create(
      EventLoop& loop, int fd, OnConnection on_connection, OnTrouble on_trouble,
      OnBroken on_broken);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Accepts all who wait now, without waiting for the loop, and tells how many
  // of them are still there: who only probes the socket has closed again. Those
  // that are gone are closed here; the others go to `on_connection` as ever.
  // Error: accept failed before anybody alive was found, so that some may wait
  // still.
  absl::StatusOr<size_t> AcceptPending();

 private:
  // EAGAIN is OK with no socket. A socket of a refused peer is closed, and
  // `*refused` set.
  struct Accepted {
    int error = 0;  // of accept(2)
    UniqueFd socket;
    bool refused = false;
  };

  Listener(EventLoop& loop, int fd, OnConnection on_connection,
           OnTrouble on_trouble, OnBroken on_broken);
  Accepted AcceptOne();
  void OnReady(uint32_t events);
  void Pause(int error);

  EventLoop& loop_;
  const int fd_;
  OnConnection on_connection_;
  OnTrouble on_trouble_;
  OnBroken on_broken_;
  absl::Duration pause_;  // the last one; zero after a success
  EventLoop::WatchHandle watch_;
  EventLoop::TimerHandle resume_;
};

}  // namespace wisp

#endif  // WISP_SHIM_LISTENER_H_
