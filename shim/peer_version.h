// Which task service the shim that lives at a socket speaks.
//
// Ours serves v2 and v3. But the group's shim may be another: Go's of 1.7
// serves only v2, of 2.x only v3, while one runtime replaces the other.
#ifndef WISP_SHIM_PEER_VERSION_H_
#define WISP_SHIM_PEER_VERSION_H_

#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "process/status_macros.h"

namespace wisp {

// Asks with a Connect for v3, then v2; blocks for at most `limit`. 3 also if it
// does not answer in time: containerd falls back from 3 to 2, never the other
// way. Error: kUnavailable if the shim went away meanwhile.
absl::StatusOr<int> ProbeTaskVersion(const std::string& socket_path,
                                     std::string_view namespace_name,
                                     std::string_view id, absl::Duration limit);

}  // namespace wisp

#endif  // WISP_SHIM_PEER_VERSION_H_
