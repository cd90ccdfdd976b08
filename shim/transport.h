// What the shim's two programs differ in: how containerd speaks to them, and
// how it is told to. Everything else is one library, and neither program holds
// what belongs to the other.
#ifndef WISP_SHIM_TRANSPORT_H_
#define WISP_SHIM_TRANSPORT_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "fmt/format.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "shim/options.h"
#include "shim/server.h"
#include "shim/start_request.h"

namespace wisp {

struct Transport {
  std::string_view protocol;  // "ttrpc", "grpc": as containerd names it
  // Before the socket's path in an address.
  std::string_view scheme;
  // Behind the group's key in the name of the socket: shims that do not speak
  // the same never meet under one name.
  std::string_view socket_key_suffix;
  std::string SocketKey(std::string_view group) const {
    return fmt::format("{}{}", group, socket_key_suffix);
  }

  // The text that answers daemons up to 2.2, and stands in the file `address`,
  // where daemons up to 1.7 read it as they read that answer.
  std::string (*format_address)(std::string_view socket_path) = nullptr;
  // The path in such a text; empty if it is another's.
  std::string (*parse_address)(std::string_view text) = nullptr;
  // Refuses a daemon that cannot speak like this. Null: all can.
  absl::Status (*check_daemon)(const ShimOptions& options,
                               const StartRequest& request) = nullptr;
  // Which version of the task service the shim that lives at a socket speaks:
  // see ProbeTaskVersion.
  absl::StatusOr<int> (*probe_version)(const std::string& socket_path,
                                       std::string_view namespace_name,
                                       std::string_view id,
                                       absl::Duration limit) = nullptr;

  // Calls a method without arguments on `connection`, a connected and
  // non-blocking socket, and waits for the answer.
  absl::StatusOr<std::string> (*call)(UniqueFd connection,
                                      std::string_view service,
                                      std::string_view method,
                                      absl::Time deadline) = nullptr;

  // Threads of the server have the signal mask of the caller.
  absl::StatusOr<std::unique_ptr<Server>> (*make_server)(
      EventLoop& loop, Server::Hooks hooks) = nullptr;
};

}  // namespace wisp

#endif  // WISP_SHIM_TRANSPORT_H_
