#include "shim/start_request.h"

#include "proto/bootstrap.pb.h"
#include "shim/runtime_options.h"

namespace wisp {
namespace {

namespace bootstrap = containerd::runtime::bootstrap::v1;

template <typename T>
bool Parse(std::string_view input, T* message) {
  return message->ParseFromArray(input.data(), static_cast<int>(input.size()));
}

// runc's own options wherever they stand, else the first of the other types.
const google::protobuf::Any* FindRuntimeOptions(
    const bootstrap::BootstrapParams& params) {
  const google::protobuf::Any* found = nullptr;
  for (const bootstrap::Extension& extension : params.extensions()) {
    const std::string& type = extension.value().type_url();
    if (IsRuncOptionsType(type)) return &extension.value();
    if (found == nullptr && IsRuntimeOptionsType(type)) {
      found = &extension.value();
    }
  }
  return found;
}

}  // namespace

absl::StatusOr<StartRequest> ParseStartRequest(const ShimOptions& options,
                                               std::string_view input) {
  StartRequest request;
  request.debug = options.debug;
  request.address = options.address;
  request.ttrpc_address = options.ttrpc_address;

  bootstrap::BootstrapParams params;
  google::protobuf::Any any;
  const google::protobuf::Any* runtime_options = nullptr;
  if (!options.id.empty() && Parse(input, &params) &&
      params.instance_id() == options.id &&
      params.namespace_() == options.namespace_name) {
    request.reply = StartRequest::Reply::kBootstrapResult;
    // The enum is open: DEBUG is -4 and TRACE -8.
    if (params.log_level() <= bootstrap::LOG_LEVEL_DEBUG) request.debug = true;
    if (request.address.empty()) {
      request.address = params.containerd_grpc_address();
    }
    if (request.ttrpc_address.empty()) {
      request.ttrpc_address = params.containerd_ttrpc_address();
    }
    request.socket_directory = params.socket_dir();
    runtime_options = FindRuntimeOptions(params);
  } else if (Parse(input, &any) && IsRuntimeOptionsType(any.type_url())) {
    runtime_options = &any;
  }
  if (runtime_options != nullptr) {
    ASSIGN_OR_RETURN(request.runtime_options,
                     DecodeRuntimeOptions(*runtime_options));
  }
  return request;
}

std::string FormatBootstrapResult(int version, std::string_view address,
                                  std::string_view protocol) {
  bootstrap::BootstrapResult result;
  result.set_version(version);
  result.set_address(std::string(address));
  result.set_protocol(std::string(protocol));
  result.add_extensions()->mutable_value()->set_type_url(
      "containerd.types.MountCapabilities");
  return result.SerializeAsString();
}

}  // namespace wisp
