// Calls a shim and waits for the answer, for actions that have nothing else to
// do and no loop.
#ifndef WISP_SHIM_TTRPC_SYNC_CALL_H_
#define WISP_SHIM_TTRPC_SYNC_CALL_H_

#include <string>

#include "absl/time/time.h"
#include "process/fd.h"
#include "process/status_macros.h"
#include "proto/ttrpc.pb.h"

namespace wisp {

// Does not wait. Errors: kUnavailable if nobody listens there,
// kDeadlineExceeded if too many wait there already.
absl::StatusOr<UniqueFd> ConnectToShim(const std::string& socket_path);

// Sends `request` on `stream`, an odd number that grows from call to call, and
// returns what comes back, be it an error's status. Errors: kDeadlineExceeded;
// kUnavailable if the shim goes away; kDataLoss for an answer that makes no
// sense.
absl::StatusOr<ttrpc::Response> CallShim(int fd, uint32_t stream,
                                         const ttrpc::Request& request,
                                         absl::Time deadline);

}  // namespace wisp

#endif  // WISP_SHIM_TTRPC_SYNC_CALL_H_
