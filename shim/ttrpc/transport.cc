#include "shim/ttrpc/transport.h"

#include <utility>

#include "shim/peer_version.h"
#include "shim/ttrpc/server.h"
#include "shim/ttrpc/sync_call.h"

namespace wisp {
namespace {

constexpr std::string_view kScheme = "unix://";

// Every daemon reads a bare address as task service v2, which we serve; nothing
// tells 1.7, which rejects a 3, from 2.x.
std::string FormatAddress(std::string_view socket_path) {
  return fmt::format("{}{}", kScheme, socket_path);
}

std::string ParseAddress(std::string_view text) {
  return text.starts_with(kScheme) ? std::string(text.substr(kScheme.size()))
                                   : "";
}

absl::StatusOr<std::string> CallMethod(UniqueFd connection,
                                       std::string_view service,
                                       std::string_view method,
                                       absl::Time deadline) {
  ttrpc::Request request;
  request.set_service(std::string(service));
  request.set_method(std::string(method));
  ASSIGN_OR_RETURN(ttrpc::Response response,
                   CallShim(connection.get(), 1, request, deadline));
  if (response.status().code() != 0) {
    return absl::UnknownError(response.status().message());
  }
  return std::move(*response.mutable_payload());
}

absl::StatusOr<std::unique_ptr<Server>> MakeServer(EventLoop& loop,
                                                   Server::Hooks hooks) {
  return std::make_unique<TtrpcServer>(loop, std::move(hooks));
}

}  // namespace

const Transport kTtrpc = {
    .protocol = "ttrpc",
    .scheme = kScheme,
    .format_address = FormatAddress,
    .parse_address = ParseAddress,
    .probe_version = ProbeTaskVersion,
    .call = CallMethod,
    .make_server = MakeServer,
};

}  // namespace wisp
