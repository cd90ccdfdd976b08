// What an OCI runtime has on disk about a container: whose it is, and where its
// processes are.
//
// The runtime's root does not depend on the daemon: two of them on one host
// share it, and a container of our id may be the other's.
#ifndef WISP_SHIM_RUNTIME_STATE_H_
#define WISP_SHIM_RUNTIME_STATE_H_

#include <string>

#include "cgroups/host.h"
#include "shim/bundle.h"

namespace wisp {

struct RuntimeState {
  bool exists = false;  // the runtime knows the container
  bool ours = false;    // and it was made from our bundle
  std::string bundle;   // what it was made from, empty if that is not known
  // Its cgroup, as a path below the hierarchy's root, empty if it is not told.
  std::string cgroup;
};

// Looks at `directory`, which is ROOT/NAMESPACE/ID. runc and youki keep
// state.json there (labels), crun status. `name` is the bundle's path as the
// runtime was told, `bundle` where it is now; `host` tells how cgroups are
// named. If neither file can be read, it is ours only if a runtime has left its
// init.pid in our bundle, or was about to when its shim died.
RuntimeState InspectRuntimeState(const std::string& directory,
                                 const std::string& name, const Bundle& bundle,
                                 const CgroupHost& host);

}  // namespace wisp

#endif  // WISP_SHIM_RUNTIME_STATE_H_
