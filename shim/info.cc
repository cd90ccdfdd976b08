#include <signal.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/json.h"
#include "process/spawn.h"
#include "proto/types.pb.h"
#include "shim/bootstrap.h"
#include "shim/identity.h"
#include "shim/run_command.h"
#include "shim/runtime_options.h"

namespace wisp {
namespace {

constexpr size_t kMostInput = size_t{10} << 20;
constexpr absl::Duration kFeaturesLimit = absl::Seconds(10);
constexpr std::string_view kFeaturesType =
    "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

// What `BINARY features` prints, byte for byte, or nothing. Several daemons
// look into `linux` without asking whether it is there.
std::string FeaturesOf(const std::string& binary) {
  absl::StatusOr<CommandResult> result =
      RunCommand({binary, "features"}, absl::Now() + kFeaturesLimit);
  if (!result.ok() || result->exit_code != 0) return "";
  const absl::StatusOr<Json> json = Json::Parse(result->output);
  if (!json.ok() || !(*json)["linux"].is_object()) return "";
  return std::move(result->output);
}

absl::Status Info() {
  containerd::types::RuntimeInfo info;
  info.set_name(std::string(kRuntimeName));
  info.mutable_version()->set_version(std::string(kVersion));
  info.mutable_version()->set_revision(std::string(kRevision));

  RuncOptions options;
  const absl::StatusOr<std::string> input = ReadAll(STDIN_FILENO, kMostInput);
  if (input.ok() && !input->empty()) {
    google::protobuf::Any any;
    if (!any.ParseFromString(*input)) {
      return absl::InvalidArgumentError("stdin: no google.protobuf.Any");
    }
    // Options that are none of ours say nothing about our runtime.
    if (IsRuntimeOptionsType(any.type_url())) {
      ASSIGN_OR_RETURN(options, DecodeRuntimeOptions(any));
    }
    *info.mutable_options() = std::move(any);
  }
  // A runtime that is missing is an error; one that has no such command has
  // merely no features.
  RETURN_IF_ERROR(FindExecutable(options.Binary()).status());
  std::string features = FeaturesOf(options.Binary());
  if (!features.empty()) {
    info.mutable_features()->set_type_url(std::string(kFeaturesType));
    info.mutable_features()->set_value(std::move(features));
  }
  return Prefixed("stdout", WriteAll(STDOUT_FILENO, info.SerializeAsString()));
}

}  // namespace

int Fail(const absl::Status& status) {
  const std::string text = fmt::format("{}: {}", kRuntimeName, Message(status));
  (void)!write(STDERR_FILENO, text.data(), text.size());
  return 1;
}

int RunInfo(const ShimOptions& options) {
  (void)options;
  signal(SIGPIPE, SIG_IGN);
  const absl::Status status = Info();
  if (status.ok()) return 0;
  return Fail(status);
}

int RunVersion(const ShimOptions& options) {
  const size_t slash = options.program.rfind('/');
  const std::string text = fmt::format(
      "{}:\n  Version:  {}\n  Revision: {}\n  Go version: none, this is C++\n"
      "\n",
      slash == std::string::npos ? options.program
                                 : options.program.substr(slash + 1),
      kVersion, kRevision);
  return WriteAll(STDOUT_FILENO, text).ok() ? 0 : 1;
}

}  // namespace wisp
