// Command line and environment, read once.
//
// containerd calls every shim with Go flags, so the grammar is that of Go's
// package flag, to the letter. Flags that we do not know are passed over: a
// future daemon may add some, and to refuse them would break every container
// creation after its upgrade.
#ifndef WISP_SHIM_OPTIONS_H_
#define WISP_SHIM_OPTIONS_H_

#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp {

struct ShimOptions {
  // The first word that is no flag. Whatever is none of ours, also nothing at
  // all, means to serve. No daemon says inspect.
  enum class Action { kServe, kStart, kDelete, kInspect };

  std::string program;  // argv[0]
  Action action = Action::kServe;
  std::string target;    // the word after inspect
  bool help = false;     // -h, -help: print Usage(), exit 0
  bool version = false;  // -v, -version
  bool info = false;
  bool debug = false;
  std::string namespace_name;
  std::string id;
  std::string address;         // containerd's gRPC socket, as text
  std::string publish_binary;  // accepted, not used
  std::string bundle;          // only `delete` gets it
  std::string socket;          // bind this instead of taking fd 3
  std::string debug_socket;    // accepted, not used
  // Ours, from `start` to the server and seen by no daemon: the name under
  // which fd 3 can be reached. It was bound under another (socket.h), so
  // getsockname(2) does not tell.
  std::string socket_name;

  // The environment.
  std::string ttrpc_address;       // TTRPC_ADDRESS
  bool max_version_known = false;  // MAX_SHIM_VERSION is there: not 1.6
  std::string sched_core;          // SCHED_CORE
};

// Reads argv and `environment` (KEY=VALUE, null at the end, as main has them).
// Error: kInvalidArgument with Go's text; the program then prints it with
// Usage() on stderr and exits with 2.
absl::StatusOr<ShimOptions> ParseOptions(int argc, const char* const* argv,
                                         const char* const* environment);

std::string Usage(const ShimOptions& options);

// containerd's rule for names of namespaces and ids, which become parts of
// paths: 1 to 76 bytes, letters and digits, with single `.`, `_` or `-` between
// them. Error: kInvalidArgument.
absl::Status ValidateIdentifier(std::string_view name);

// The namespace, which every action but -v and -info needs, is there and valid.
absl::Status CheckNamespace(const ShimOptions& options);

}  // namespace wisp

#endif  // WISP_SHIM_OPTIONS_H_
