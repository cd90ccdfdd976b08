// Serves methods over gRPC to any number of connections.
//
// Our loop accepts and checks the peer; grpc++ gets the socket. Its threads do
// the HTTP/2 and know nothing of ours: what they have done comes to the loop,
// where all of this lives, and what we start there they take up.
#ifndef WISP_SHIM_GRPC_SERVER_H_
#define WISP_SHIM_GRPC_SERVER_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "shim/grpc/completions.h"
#include "shim/server.h"

namespace wisp {

class GrpcServer final : public Server {
 public:
  // How long answers may take to leave when connections are closed.
  static constexpr absl::Duration kFlushLimit = absl::Seconds(1);
  // How long a connection of which no handler has heard counts as one that has
  // just come: a Shutdown that was sent before it was made may have been under
  // way in grpc++ when the loop accepted it, and its first call may still be.
  static constexpr absl::Duration kNew = absl::Seconds(1);
  // Of a request or a response, as with ttrpc and as Go's clients have it.
  static constexpr size_t kMaxMessage = size_t{4} << 20;

  // `loop` must outlive the server. Hooks may be null. Starts threads, with the
  // signal mask of the caller.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Create(EventLoop& loop,
                                                            Hooks hooks);
  // Blocks until grpc++ has let go of everything.
  ~GrpcServer() override;

  // Counts, of those that were accepted before, the new ones as well.
  absl::StatusOr<size_t> AcceptPending() override;
  void CloseAllConnections() override;
  void AddConnection(UniqueFd socket) override;

  size_t connections() const override { return connections_.size(); }
  size_t calls_in_flight() const override;
  std::vector<CallInfo> Calls() const override;

 private:
  class Incoming;
  // Our half of a connection: its end is seen, and made, at a second descriptor
  // of its socket. grpc++ tells nothing of connections, but shuts the socket
  // down when it closes one, so this hears of that as well.
  struct Connection {
    UniqueFd socket;
    int grpc_fd = -1;
    std::chrono::steady_clock::time_point since;
    bool called = false;  // a handler has had a call of it
    EventLoop::WatchHandle watch;
  };

  GrpcServer(EventLoop& loop, Hooks hooks);
  absl::StatusOr<Connection> Watch(int socket, uint64_t id);
  void Drop(uint64_t id);
  uint64_t ConnectionOf(std::string_view peer) const;
  void AcceptCall();
  void OnAnswered();
  void ShutDownConnections();
  void EndCalls();

  grpc::AsyncGenericService service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<Completions> completions_;
  std::map<uint64_t, Connection> connections_;
  uint64_t next_connection_ = 0;
  // The one that waits for a call, and those that grpc++ still works on.
  std::map<uint64_t, std::shared_ptr<Incoming>> calls_;
  uint64_t next_call_ = 0;
  size_t answers_under_way_ = 0;
  bool closing_ = false;
  EventLoop::TimerHandle flush_limit_;
};

}  // namespace wisp

#endif  // WISP_SHIM_GRPC_SERVER_H_
