// The terminal of a process: how its master comes to us, and what becomes of
// it.
#ifndef WISP_PROCESS_CONSOLE_H_
#define WISP_PROCESS_CONSOLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "process/stream_copy.h"

namespace wisp {

// The socket that the runtime's --console-socket names, alone in a directory of
// ours; both go with this object.
class ConsoleSocket {
 public:
  // In $XDG_RUNTIME_DIR, $TMPDIR or /tmp, the first that is set.
  static absl::StatusOr<std::unique_ptr<ConsoleSocket>> Create(EventLoop& loop);
  ~ConsoleSocket();
  ConsoleSocket(const ConsoleSocket&) = delete;
  ConsoleSocket& operator=(const ConsoleSocket&) = delete;

  const std::string& path() const { return path_; }

  // Takes one connection and from it one message with one fd, the master of a
  // pty. Waits for as long as this object lives. Errors: `recvfd: ...`,
  // `provided file is not a console`.
  void Receive(Done<UniqueFd> done);

 private:
  explicit ConsoleSocket(EventLoop& loop) : loop_(loop) {}
  absl::Status Listen();
  void OnConnection();
  void OnMessage();
  void Finish(absl::StatusOr<UniqueFd> result);

  EventLoop& loop_;
  std::string directory_;
  std::string path_;
  UniqueFd socket_;  // listens, then is the connection
  EventLoop::WatchHandle watch_;
  Done<UniqueFd> done_;
};

// Copies between a pty's master and the client. The master keeps its single fd,
// not blocking, and is watched edge-triggered: without an open slave it hangs
// up, which epoll cannot be told to ignore. That (EIO) and EAGAIN both mean
// "nothing now" while the process lives, which may close and open its terminal
// as it likes.
//
// As a StreamCopy it is the output: it ends when the process has ended and all
// is read that could be read then; or when stdin ends, which closes the master
// and so hangs up the session.
class ConsoleCopy final : public StreamCopy {
 public:
  // `input` is the client's fifo, or none. Without `output` all is read to
  // nowhere. What waits for its reader does so in the output's own pipe, or in
  // a spool (see PipeCopy).
  ConsoleCopy(EventLoop& loop, UniqueFd master, UniqueFd input, Output output,
              SpillOptions options, OnTrouble on_trouble, OnEnd on_end);

  absl::Status Start();
  absl::Status Resize(uint16_t width, uint16_t height);
  // From now on what cannot be read at once is the end.
  void ProcessExited();
  uint64_t input_moved() const { return input_moved_; }

  bool stalled() const override {
    return output_watch_.active() || spill_ != nullptr || closer_.waiting();
  }
  uint64_t held() const override;
  void StopKeeping() override;
  void Cut() override;

 private:
  void OnMaster();
  void PumpOutput();
  // How much of `data` is dealt with: written, or lost.
  size_t TryWrite(std::string_view data);
  void LoseOutput();
  void WaitForOutput();
  void PumpThroughSpill();
  void OnSpilled(const Spool::Moved& moved);
  // These two: true if nothing is left to write.
  bool FlushOutput();
  void OnOutputEnd();
  void PumpInput();
  bool FlushInput();
  void OnInputEnd();

  EventLoop& loop_;
  UniqueFd master_;
  UniqueFd input_;
  Output output_;
  const SpillOptions options_;
  bool stop_keeping_ = false;
  bool reader_gone_ = false;
  bool readable_ = true;       // the master, for all we know
  bool exited_ = false;        // the process
  bool hang_up_ = false;       // stdin has ended
  std::string pending_input_;  // read, but not yet written
  std::string pending_output_;
  uint64_t input_moved_ = 0;
  std::unique_ptr<Spill> spill_;
  OutputCloser closer_;
  EventLoop::WatchHandle master_watch_;
  EventLoop::WatchHandle input_watch_;
  EventLoop::WatchHandle output_watch_;
  EventLoop::TimerHandle again_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_CONSOLE_H_
