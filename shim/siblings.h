// The other containers of a shim that has died.
//
// containerd runs `delete` for each container whose connection it loses, but
// for a pod's members some releases hold none (1.7 to 2.3): their processes
// would live on with nobody to know of them, and a pod that starts again would
// have each of them twice.
#ifndef WISP_SHIM_SIBLINGS_H_
#define WISP_SHIM_SIBLINGS_H_

#include <string>

#include "absl/time/time.h"
#include "process/pidfd.h"
#include "process/status_macros.h"

namespace wisp {

struct ShimGroup {
  std::string bundles;  // the directory in which they stand beside each other
  std::string namespace_name;
  std::string key;     // what their configs name as their group
  std::string socket;  // where their shim listened
  std::string own_id;  // the one that is being taken care of already
  // The caller has taken that name and lets nobody be served yet.
  bool claimed = false;
};

// In a child, whose stdio is /dev/null: takes the name away from a socket
// nobody listens on, unless it is claimed, and then ends what that shim has
// left of its containers but `own_id`: records how they ended, kills them, has
// the runtime forget them, unmounts. Their bundles stay, for the `delete` that
// may come for each. Touches nothing if somebody listens, nor a container whose
// init still has a shim for its parent, nor what is not ours. It ends by
// `deadline`, more or less: whoever waits for it kills it then.
absl::StatusOr<Pidfd> SweepSiblings(const ShimGroup& group,
                                    absl::Time deadline);

}  // namespace wisp

#endif  // WISP_SHIM_SIBLINGS_H_
