// Opening the client's ends of a process's stdio without waiting in open(2).
#ifndef WISP_PROCESS_FIFO_H_
#define WISP_PROCESS_FIFO_H_

#include <string>

#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

// Where a stream goes.
struct Output {
  UniqueFd fd;  // write end, not blocking if it is a fifo
  // Of a fifo: an end to read from that nobody reads. It keeps writes from
  // failing when the client dies; the fifo fills up until one comes back.
  UniqueFd keeper;
  bool is_fifo = false;
};

// Opens what `path` names for writing. A fifo is waited for until someone reads
// it, or is blocked in opening it for that, since a container that writes and
// ends at once would otherwise be copied into a fifo that dies with our own
// ends before the client's open(2) has come through. The kernel tells only by
// failing with ENXIO, so a timer tries again, at first every millisecond.
//
// The path is looked up once: it may be unlinked or replaced meanwhile. What is
// no fifo is opened for appending, and not created.
class OutputOpener {
 public:
  // `done` is called from the loop. Destroying the opener ends the wait.
  // Errors: `containerd-shim: opening w/o fifo "P" failed: ...`, `... r/o fifo
  // ...`, `containerd-shim: opening file "P" failed: open P: ...`.
  OutputOpener(EventLoop& loop, std::string path, Done<Output> done);

  // What the wait would fail with if it ended for the reason `why`.
  absl::Status Interrupted(const absl::Status& why) const;

 private:
  void Try();
  absl::Status Look();
  void Finish(absl::StatusOr<Output> result);

  EventLoop& loop_;
  const std::string path_;
  Done<Output> done_;
  UniqueFd handle_;  // O_PATH
  bool is_fifo_ = false;
  absl::Duration pause_ = absl::Milliseconds(1);
  EventLoop::TimerHandle timer_;
};

// Both ends of a client's stdin fifo: while the writer is open the reader sees
// no end, though clients come and go. Does not wait.
struct StdinFifo {
  UniqueFd reader;
  UniqueFd writer;
};

// Errors: `failed to open stdin fifo P: stat P: no such file or directory`.
absl::StatusOr<StdinFifo> OpenStdinFifo(const std::string& path);

}  // namespace wisp

#endif  // WISP_PROCESS_FIFO_H_
