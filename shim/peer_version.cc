#include "shim/peer_version.h"

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "proto/task.pb.h"
#include "shim/ttrpc/sync_call.h"

namespace wisp {
namespace {

constexpr int kUnimplemented = 12;

ttrpc::Request ConnectRequest(int version, std::string_view namespace_name,
                              std::string_view id) {
  containerd::task::v3::ConnectRequest connect;
  connect.set_id(std::string(id));
  ttrpc::Request request;
  request.set_service(fmt::format("containerd.task.v{}.Task", version));
  request.set_method("Connect");
  request.set_payload(connect.SerializeAsString());
  ttrpc::KeyValue* metadata = request.add_metadata();
  metadata->set_key("containerd-namespace-ttrpc");
  metadata->set_value(std::string(namespace_name));
  return request;
}

}  // namespace

absl::StatusOr<int> ProbeTaskVersion(const std::string& socket_path,
                                     std::string_view namespace_name,
                                     std::string_view id,
                                     absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  absl::StatusOr<UniqueFd> fd = ConnectToShim(socket_path);
  absl::Status trouble = fd.status();
  uint32_t stream = 1;
  for (int version = 3; trouble.ok() && version >= 2; --version) {
    const absl::StatusOr<ttrpc::Response> response =
        CallShim(fd->get(), stream, ConnectRequest(version, namespace_name, id),
                 deadline);
    // "Not found", too, is an answer that only those give who know the service.
    if ((response.ok() && response->status().code() != kUnimplemented) ||
        absl::IsDataLoss(response.status())) {
      return version;
    }
    trouble = response.status();
    stream += 2;
  }
  if (absl::IsUnavailable(trouble)) return trouble;
  return 3;
}

}  // namespace wisp
