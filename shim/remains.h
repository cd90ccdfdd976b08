// What a shim that has died leaves of a container, and taking it away.
#ifndef WISP_SHIM_REMAINS_H_
#define WISP_SHIM_REMAINS_H_

#include <string>

#include "absl/time/time.h"
#include "cgroups/host.h"
#include "process/runc_options.h"
#include "shim/bundle.h"
#include "shim/exit_record.h"
#include "shim/runtime_state.h"

namespace wisp {

struct Remains {
  Bundle bundle;     // where it is now
  std::string name;  // what its path was when it was made
  std::string id;
  std::string namespace_name;
};

// Killed, just now, by an unknown pid: what to say of an end that nobody saw.
ExitRecord GuessedExit();

// How init ended: what is on record, or a guess that goes on record so that
// whoever asks again hears the same.
ExitRecord FindExitRecord(const Bundle& bundle);

// The runtime's part of it.
struct RuntimeRemains {
  RuncOptions options;
  std::string binary;
  std::string root;
  absl::StatusOr<CgroupHost> host;
  RuntimeState state;

  // After a normal Delete, which is most of the time, there is nothing.
  bool ours() const { return state.exists && state.ours; }
};
RuntimeRemains InspectRuntime(const Remains& remains);

// Kills its processes and has the runtime forget it, if it is ours. The runtime
// gets until `deadline`.
void RemoveFromRuntime(const Remains& remains, const RuntimeRemains& runtime,
                       absl::Time deadline);

// The cgroup in which a runtime makes the container, by its config. Empty with
// systemd, which removes what is empty.
std::string CgroupToBe(const Bundle& bundle, const RuncOptions& options);

// Removes a cgroup, or none (empty `path`), unless somebody is in it. Waits
// until `deadline` for those who die. False: it is still there.
bool RemoveEmptyCgroup(const CgroupHost& host, const std::string& path,
                       absl::Time deadline);

}  // namespace wisp

#endif  // WISP_SHIM_REMAINS_H_
