// Serves methods over ttrpc to any number of connections.
//
// Nothing but the peer's own EOF or reset ends a connection, whatever it sends:
// to containerd the end of a connection is the death of the container it was
// opened for. Malformed input is answered as containerd's own library answers
// it (vendor/github.com/containerd/ttrpc/server.go, 1.2), or ignored.
#ifndef WISP_SHIM_TTRPC_SERVER_H_
#define WISP_SHIM_TTRPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "shim/call.h"
#include "shim/listener.h"
#include "shim/ttrpc/frame.h"

namespace wisp {

// All on the loop's thread. A handler may call anything here but the
// destructor.
class TtrpcServer {
 public:
  struct Hooks {
    // After every change of the number of connections.
    absl::AnyInvocable<void(size_t connections)> on_connections;
    // Worth a log line, and not more than that: see Listener::OnTrouble.
    Listener::OnTrouble on_trouble;
    // Nobody can connect any more; connections go on.
    Listener::OnBroken on_broken;
  };

  // A call that has not been answered.
  struct CallInfo {
    uint64_t connection = 0;
    std::string service;
    std::string method;
    absl::Duration age;
  };

  // `loop` must outlive the server. Hooks may be null.
  TtrpcServer(EventLoop& loop, Hooks hooks);
  // Closes all connections, but calls no hook.
  ~TtrpcServer();
  TtrpcServer(const TtrpcServer&) = delete;
  TtrpcServer& operator=(const TtrpcServer&) = delete;

  // Serves `methods`, which must outlive the server, under the full name
  // `service`. Several names may have the same methods. Both stay as they are
  // once there are connections.
  void Register(std::string service, const Methods* methods);

  // Accepts connections on `fd`, a listening unix socket, from now on. It stays
  // the caller's and must stay open until StopListening().
  absl::Status Listen(int fd);

  // The end of a server's life, in this order: the caller takes the socket's
  // name away; AcceptPending() tells whether somebody has just come; Respond()
  // to the last call, which hands the answer to the kernel before it returns,
  // if the socket has room; StopListening(), and the caller closes the
  // listening socket; CloseAllConnections().

  // Accepts who waits in the backlog, and returns how many of them are alive;
  // they are served like others. Error: that could not be found out.
  // Precondition: listening.
  absl::StatusOr<size_t> AcceptPending();

  void StopListening() { listener_.reset(); }

  // Closes all connections at once, unsent answers included, then ends their
  // calls with kCancelled. What handlers do on that happens inside this call.
  void CloseAllConnections();

  // Takes over a connected, non-blocking socket whose peer has been checked.
  void AddConnection(UniqueFd socket);

  size_t connections() const { return connections_.size(); }
  size_t calls_in_flight() const;
  // Oldest first per connection. For the debug dump.
  std::vector<CallInfo> Calls() const;

 private:
  struct Stream;
  struct Connection;

  void OnFrame(uint64_t id, Frame frame);
  void OnRequest(const std::shared_ptr<Connection>& connection, Frame frame);
  void Drop(uint64_t id);
  void TellConnections();
  void TellTrouble(const absl::Status& trouble);

  EventLoop& loop_;
  Hooks hooks_;
  std::map<std::string, const Methods*, std::less<>> services_;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  uint64_t next_connection_ = 0;
  std::unique_ptr<Listener> listener_;
};

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_SERVER_H_
