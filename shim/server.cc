#include "shim/server.h"

#include <utility>

#include "fmt/format.h"

namespace wisp {

Server::Server(EventLoop& loop, Hooks hooks)
    : loop_(loop), hooks_(std::move(hooks)) {}

Server::~Server() = default;

void Server::Register(std::string service, const Methods* methods) {
  services_[std::move(service)] = methods;
}

absl::Status Server::Listen(int fd) {
  auto on_connection = [this](UniqueFd socket) {
    AddConnection(std::move(socket));
  };
  auto on_broken = [this](const absl::Status& why) {
    if (hooks_.on_broken != nullptr) hooks_.on_broken(why);
  };
  ASSIGN_OR_RETURN(listener_, Listener::Create(
                                  loop_, fd, std::move(on_connection),
                                  [this](const absl::Status& trouble) {
                                    TellTrouble(trouble);
                                  },
                                  std::move(on_broken)));
  return absl::OkStatus();
}

absl::StatusOr<size_t> Server::AcceptPending() {
  WISP_CHECK(listener_ != nullptr);
  return listener_->AcceptPending();
}

absl::Status Server::Find(std::string_view service, std::string_view method,
                          Target* target) const {
  // The texts have no class at their end, unlike those of handlers: containerd
  // compares only the code, and Go's ttrpc server sends them like this.
  const auto methods = services_.find(service);
  if (methods == services_.end()) {
    return absl::UnimplementedError(fmt::format("service {}", service));
  }
  const auto found = methods->second->find(method);
  if (found == methods->second->end()) {
    return absl::UnimplementedError(fmt::format("method {}", method));
  }
  *target = {methods->first, found->first, &found->second};
  return absl::OkStatus();
}

void Server::TellConnections() {
  if (hooks_.on_connections != nullptr) hooks_.on_connections(connections());
}

void Server::ForgetHooks() { hooks_ = Hooks(); }

void Server::TellTrouble(const absl::Status& trouble) {
  if (hooks_.on_trouble != nullptr) hooks_.on_trouble(trouble);
}

}  // namespace wisp
