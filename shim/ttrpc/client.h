// Calls a ttrpc server on a unix socket: containerd's, for events.
#ifndef WISP_SHIM_TTRPC_CLIENT_H_
#define WISP_SHIM_TTRPC_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "shim/call.h"
#include "shim/ttrpc/channel.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

// Connects with the first call, and anew by path with the first call after the
// connection was lost. An idle client does not wake the loop. All on the loop's
// thread.
class TtrpcClient {
 public:
  // `path` is that of the socket. `loop` must outlive the client.
  TtrpcClient(EventLoop& loop, std::string path);
  // Calls under way end unanswered: their completions are destroyed.
  ~TtrpcClient();
  TtrpcClient(const TtrpcClient&) = delete;
  TtrpcClient& operator=(const TtrpcClient&) = delete;

  // Calls `method` of `service`; `timeout` is positive, or infinite. `done`
  // gets the serialized response, never from inside Call(), and may call the
  // client but not destroy it. Errors:
  //   - those of the server, with its code and text; connected() is true then
  //   - kUnavailable, with connected() false: no connection, or lost
  //   - kDeadlineExceeded: no answer in time; one that comes later is ignored,
  //     and the server may have done its work, or may do it yet
  //   - kResourceExhausted: request or response over 4 MiB
  void Call(std::string_view service, std::string_view method,
            std::string payload, const RawCall::Metadata& metadata,
            absl::Duration timeout, Done<std::string> done);

  bool connected() const { return channel_ != nullptr; }
  size_t calls_in_flight() const { return calls_.size(); }

  // Closes the connection; calls under way fail with kUnavailable, inside this.
  void Disconnect();

 private:
  struct Pending {
    Done<std::string> done;
    EventLoop::TimerHandle timer;  // its deadline, or its failure
  };

  absl::Status Connect();
  void OnFrame(Frame frame);
  void Finish(uint64_t id, absl::StatusOr<std::string> result);

  EventLoop& loop_;
  const std::string path_;
  std::shared_ptr<TtrpcChannel> channel_;
  std::map<uint64_t, Pending> calls_;  // by number
  // A call's stream is twice its number plus one, counted from the first call
  // on this connection.
  uint64_t next_call_ = 0;
  uint64_t first_call_ = 0;
};

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_CLIENT_H_
