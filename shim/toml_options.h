// The [options] table of CRI's configuration: runtime options as TOML.
#ifndef WISP_SHIM_TOML_OPTIONS_H_
#define WISP_SHIM_TOML_OPTIONS_H_

#include <string_view>

#include "process/runc_options.h"
#include "process/status_macros.h"

namespace wisp {

// Reads BinaryName, Root, SystemdCgroup, NoPivotRoot, NoNewKeyring,
// ShimCgroup, IoUid, IoGid, CriuImagePath and CriuWorkPath; case and
// underscores do not matter. Other keys are CRI's or of a future version, and
// passed over. Error: kInvalidArgument for broken TOML or a value of another
// type than its key's.
absl::StatusOr<RuncOptions> ParseTomlOptions(std::string_view text);

}  // namespace wisp

#endif  // WISP_SHIM_TOML_OPTIONS_H_
