// What we call ourselves.
#ifndef WISP_SHIM_IDENTITY_H_
#define WISP_SHIM_IDENTITY_H_

#include <string_view>

namespace wisp {

// The runtime that containerd knows the program by. Each program has its own,
// so it comes with the program and not with wisp_shim.
extern const std::string_view kRuntimeName;

// Of this build: the project's version, and the revision that the packager
// named (-DWISP_REVISION), empty if none was.
extern const std::string_view kVersion;
extern const std::string_view kRevision;

}  // namespace wisp

#endif  // WISP_SHIM_IDENTITY_H_
