// Id-mapped mounts: files shown with other owners than they have on disk.
// Linux 5.12, for overlay 5.19; before that an error.
#ifndef WISP_MOUNT_ID_MAP_H_
#define WISP_MOUNT_ID_MAP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

struct IdRange {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t size = 0;

  friend bool operator==(const IdRange&, const IdRange&) = default;
};

// `CID:HID:SIZE[,...]`. Error: kInvalidArgument.
absl::StatusOr<std::vector<IdRange>> ParseIdMap(std::string_view text);

// A user namespace with these maps; the fd alone keeps it. Blocks for the life
// of a short child, which is cloned with no exit signal and waited for by
// pidfd: no SIGCHLD, and no plain wait sees it, so it never meets the reaper.
absl::StatusOr<UniqueFd> MakeUserNamespace(const std::vector<IdRange>& uid_map,
                                           const std::vector<IdRange>& gid_map);

// Clones the mounts at `source` with all below it, maps them by
// `user_namespace`, makes them private, and mounts the clone on `target` (which
// may be `source` itself).
absl::Status MakeIdMappedMount(const std::string& source,
                               const std::string& target, int user_namespace,
                               bool read_only);

}  // namespace wisp

#endif  // WISP_MOUNT_ID_MAP_H_
