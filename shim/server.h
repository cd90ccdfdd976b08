// Serves methods to those who connect to a socket; what is spoken on a
// connection is up to the transports: ttrpc/server.h, grpc/server.h.
//
// Nothing but the peer's own end of a connection ends it, whatever it sends: to
// containerd the end of a connection is the death of the container it was
// opened for.
#ifndef WISP_SHIM_SERVER_H_
#define WISP_SHIM_SERVER_H_

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
#include "process/fd.h"
#include "process/status_macros.h"
#include "shim/call.h"
#include "shim/listener.h"

namespace wisp {

// All on the loop's thread. A handler may call anything here but the
// destructor.
class Server {
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

  // Closes all connections, but calls no hook.
  virtual ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves `methods`, which must outlive the server, under the full name
  // `service`. Several names may have the same methods. Both stay as they are
  // once there are connections.
  void Register(std::string service, const Methods* methods);

  // Accepts connections on `fd`, a listening unix socket, from now on. It stays
  // the caller's and must stay open until StopListening().
  absl::Status Listen(int fd);

  // The end of a server's life, in this order: the caller takes the socket's
  // name away; AcceptPending() tells whether somebody has just come; Respond()
  // to the last call; StopListening(), and the caller closes the listening
  // socket; CloseAllConnections().

  // Accepts who waits in the backlog, and returns how many of them are alive;
  // they are served like others. Error: that could not be found out.
  // Precondition: listening.
  virtual absl::StatusOr<size_t> AcceptPending();

  void StopListening() { listener_.reset(); }

  // Closes all connections, then ends the calls that were not answered with
  // kCancelled, which no client sees. Answers that were given reach the kernel,
  // if the socket has room for them: connections may stay until they have, for
  // a moment that the transport limits. The last on_connections tells.
  virtual void CloseAllConnections() = 0;

  // Takes over a connected, non-blocking socket whose peer has been checked.
  virtual void AddConnection(UniqueFd socket) = 0;

  virtual size_t connections() const = 0;
  virtual size_t calls_in_flight() const = 0;
  // Oldest first per connection. For the debug dump.
  virtual std::vector<CallInfo> Calls() const = 0;

 protected:
  // A method and its names, which are keys of the maps that serve it.
  struct Target {
    std::string_view service;
    std::string_view name;
    const Method* method = nullptr;
  };

  // `loop` must outlive the server. Hooks may be null.
  Server(EventLoop& loop, Hooks hooks);

  EventLoop& loop() const { return loop_; }
  // Error: kUnimplemented, as it goes to the client.
  absl::Status Find(std::string_view service, std::string_view method,
                    Target* target) const;
  void TellConnections();
  void TellTrouble(const absl::Status& trouble);
  // For destructors: no hook runs after it.
  void ForgetHooks();

 private:
  EventLoop& loop_;
  Hooks hooks_;
  std::map<std::string, const Methods*, std::less<>> services_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace wisp

#endif  // WISP_SHIM_SERVER_H_
