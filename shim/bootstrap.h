// What the program does besides serving: one short run per action.
//
// Each returns the program's exit status and has by then written its answer on
// stdout, or what went wrong on stderr. The namespace in `options` has been
// checked where an action needs it.
#ifndef WISP_SHIM_BOOTSTRAP_H_
#define WISP_SHIM_BOOTSTRAP_H_

#include "process/status_macros.h"
#include "shim/options.h"
#include "shim/transport.h"

namespace wisp {

// `start`, in the bundle: prints the address of the shim that serves the
// container, after starting it unless its group has one. The server outlives
// us and holds none of our fds. On failure nothing is left behind and nothing
// on stdout, which containerd reads together with stderr.
int RunStart(const ShimOptions& options, const Transport& transport);

// `delete`, in the bundle: cleans up after a container whose shim is gone, or
// is done with it, and prints a DeleteResponse. At most 4 seconds; succeeds
// whatever it finds, any number of times; leaves a live server alone.
int RunDelete(const ShimOptions& options, const Transport& transport);

// `inspect TARGET`: prints the state of a running shim, named by its socket, by
// one of its bundles or by its pid, as JSON. Only for its own user.
int RunInspect(const ShimOptions& options, const Transport& transport);

// `-info`: prints a RuntimeInfo.
int RunInfo(const ShimOptions& options);

// `-v`.
int RunVersion(const ShimOptions& options);

// Says on stderr, under our name, what went wrong; returns 1.
int Fail(const absl::Status& status);

}  // namespace wisp

#endif  // WISP_SHIM_BOOTSTRAP_H_
