// One end of a ttrpc connection: frames from and to a socket, never blocking.
#ifndef WISP_SHIM_TTRPC_CHANNEL_H_
#define WISP_SHIM_TTRPC_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

// Shared, since a frame's receiver may close the channel it came from: it then
// lives on until the call has returned. All on the loop's thread.
class TtrpcChannel : public std::enable_shared_from_this<TtrpcChannel> {
 public:
  using OnFrame = absl::AnyInvocable<void(Frame frame)>;
  using OnLost = absl::AnyInvocable<void()>;

  // While more than this waits for a peer that does not read, nothing is read
  // from it either: who takes no answers gets no more questions in.
  static constexpr size_t kMaxQueuedBytes = size_t{16} << 20;

  // `socket` is connected and non-blocking. `on_frame` gets every frame until
  // the channel is closed; `on_lost` tells, once, that the peer has closed or
  // reset the connection, after all frames it had sent. Neither runs inside
  // Send(). `loop` must outlive the channel.
  static absl::StatusOr<std::shared_ptr<TtrpcChannel>> Create(EventLoop& loop,
                                                              UniqueFd socket,
                                                              OnFrame on_frame,
                                                              OnLost on_lost);
  TtrpcChannel(const TtrpcChannel&) = delete;
  TtrpcChannel& operator=(const TtrpcChannel&) = delete;

  // Writes `frame` (of EncodeFrame) behind what waits already, at once if the
  // socket takes it. Does nothing once the peer is gone.
  void Send(std::string frame);

  // Closes the socket at once; what waits is lost. No callback follows.
  void Close();
  bool closed() const { return !socket_.valid(); }

  size_t queued_bytes() const { return queued_bytes_; }

 private:
  TtrpcChannel(UniqueFd socket, OnFrame on_frame, OnLost on_lost);
  void OnReady(uint32_t events);
  void Read();
  void Write();
  void GiveUpWriting();
  void UpdateEvents();

  UniqueFd socket_;
  OnFrame on_frame_;
  OnLost on_lost_;
  FrameDecoder decoder_;
  std::deque<std::string> queue_;
  size_t sent_ = 0;  // bytes of the first that are on their way
  size_t queued_bytes_ = 0;
  bool writable_ = true;  // false: the peer takes nothing any more
  uint32_t events_ = 0;   // those watched
  EventLoop::WatchHandle watch_;
};

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_CHANNEL_H_
