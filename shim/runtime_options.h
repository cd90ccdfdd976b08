// Runtime options as they come: one Any of several types, or none.
#ifndef WISP_SHIM_RUNTIME_OPTIONS_H_
#define WISP_SHIM_RUNTIME_OPTIONS_H_

#include <string_view>

#include "google/protobuf/any.pb.h"
#include "process/runc_options.h"
#include "process/status_macros.h"

namespace wisp {

// Decodes
//   containerd.runc.v1.Options             what clients send to a runc shim,
//   runtimeoptions.v1.Options              CRI to any other: TOML, or a file,
//   containerd.linux.runc.CreateOptions    1.x clients to any other,
// with or without a prefix that ends in `/`. An empty URL or value is the
// defaults. Error: kInvalidArgument, for another type `type with url X: not
// supported: invalid argument`. May read the file that the options name.
absl::StatusOr<RuncOptions> DecodeRuntimeOptions(
    const google::protobuf::Any& any);

// The same from its two parts.
absl::StatusOr<RuncOptions> DecodeRuntimeOptions(std::string_view type_url,
                                                 std::string_view value);

// True if DecodeRuntimeOptions() knows the type.
bool IsRuntimeOptionsType(std::string_view type_url);
// True for containerd.runc.v1.Options, bare or behind a `/`.
bool IsRuncOptionsType(std::string_view type_url);
// True for containerd.linux.runc.CreateOptions, likewise.
bool IsLegacyOptionsType(std::string_view type_url);

}  // namespace wisp

#endif  // WISP_SHIM_RUNTIME_OPTIONS_H_
