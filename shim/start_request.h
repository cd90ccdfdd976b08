// What `start` was asked, in the forms of every containerd since 1.6, and the
// answer in the form that this one reads.
#ifndef WISP_SHIM_START_REQUEST_H_
#define WISP_SHIM_START_REQUEST_H_

#include <string>
#include <string_view>

#include "process/runc_options.h"
#include "process/status_macros.h"
#include "shim/options.h"

namespace wisp {

struct StartRequest {
  enum class Reply {
    // Up to 2.2: what Transport::format_address makes of the socket's path.
    kAddress,
    kBootstrapResult,  // from 2.3 on: protobuf
  };
  Reply reply = Reply::kAddress;
  bool debug = false;
  std::string address;        // containerd's gRPC socket, as text
  std::string ttrpc_address;  // where events go
  // Where the socket belongs; empty: kDefaultSocketDirectory.
  std::string socket_directory;
  RuncOptions runtime_options;
};

// `input` is what came on stdin: BootstrapParams (from 2.3 on), an Any with
// runtime options, or nothing. The first two look alike: it is BootstrapParams
// only if it names the id and the namespace that the flags do. What is neither
// counts as nothing, as do options of an unknown type. Error: kInvalidArgument
// for options of a known type that cannot be decoded.
absl::StatusOr<StartRequest> ParseStartRequest(const ShimOptions& options,
                                               std::string_view input);

// The protobuf form of the answer, to the byte. `version` is that of the task
// service. It also claims that we make no special mounts, which saves
// containerd 2.4 an `-info`.
std::string FormatBootstrapResult(int version, std::string_view address,
                                  std::string_view protocol);

}  // namespace wisp

#endif  // WISP_SHIM_START_REQUEST_H_
