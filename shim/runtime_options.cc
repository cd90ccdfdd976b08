#include "shim/runtime_options.h"

#include <string>

#include "fmt/format.h"
#include "process/fd.h"
#include "proto/linux_runc_options.pb.h"
#include "proto/runc_options.pb.h"
#include "proto/runtime_options.pb.h"
#include "shim/toml_options.h"

namespace wisp {
namespace {

constexpr std::string_view kRuncType = "containerd.runc.v1.Options";
constexpr std::string_view kCriType = "runtimeoptions.v1.Options";
constexpr std::string_view kLegacyType = "containerd.linux.runc.CreateOptions";
constexpr size_t kMostConfig = size_t{1} << 20;

std::string_view WithoutPrefix(std::string_view type_url) {
  const size_t slash = type_url.rfind('/');
  return slash == type_url.npos ? type_url : type_url.substr(slash + 1);
}

template <typename T>
absl::Status Parse(std::string_view type, std::string_view value, T* message) {
  if (message->ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      fmt::format("unmarshal {}: invalid wire-format data", type));
}

// What both messages of runc have; the older one has nothing else that we use.
template <typename Message>
RuncOptions Common(const Message& message) {
  RuncOptions options;
  options.no_pivot_root = message.no_pivot_root();
  options.no_new_keyring = message.no_new_keyring();
  options.shim_cgroup = message.shim_cgroup();
  options.io_uid = message.io_uid();
  options.io_gid = message.io_gid();
  options.criu_image_path = message.criu_image_path();
  options.criu_work_path = message.criu_work_path();
  return options;
}

absl::StatusOr<RuncOptions> FromRunc(std::string_view value) {
  containerd::runc::v1::Options message;
  RETURN_IF_ERROR(Parse(kRuncType, value, &message));
  RuncOptions options = Common(message);
  options.binary_name = message.binary_name();
  options.root = message.root();
  options.systemd_cgroup = message.systemd_cgroup();
  return options;
}

absl::StatusOr<RuncOptions> FromLegacy(std::string_view value) {
  containerd::linux::runc::CreateOptions message;
  RETURN_IF_ERROR(Parse(kLegacyType, value, &message));
  return Common(message);
}

absl::StatusOr<RuncOptions> FromCri(std::string_view value) {
  runtimeoptions::v1::Options message;
  RETURN_IF_ERROR(Parse(kCriType, value, &message));
  if (!message.config_body().empty()) {
    return ParseTomlOptions(message.config_body());
  }
  if (message.config_path().empty()) return RuncOptions();
  absl::StatusOr<std::string> text =
      ReadFile(message.config_path(), kMostConfig);
  if (!text.ok()) {
    // A file that is missing makes the request wrong, not its container.
    return absl::InvalidArgumentError(
        fmt::format("runtime options: {}", Message(text.status())));
  }
  absl::StatusOr<RuncOptions> options = ParseTomlOptions(*text);
  if (!options.ok()) return Prefixed(message.config_path(), options.status());
  return options;
}

}  // namespace

absl::StatusOr<RuncOptions> DecodeRuntimeOptions(std::string_view type_url,
                                                 std::string_view value) {
  if (type_url.empty() || value.empty()) return RuncOptions();
  const std::string_view type = WithoutPrefix(type_url);
  if (type == kRuncType) return FromRunc(value);
  if (type == kCriType) return FromCri(value);
  if (type == kLegacyType) return FromLegacy(value);
  return absl::InvalidArgumentError(fmt::format(
      "type with url {}: not supported: invalid argument", type_url));
}

absl::StatusOr<RuncOptions> DecodeRuntimeOptions(
    const google::protobuf::Any& any) {
  return DecodeRuntimeOptions(any.type_url(), any.value());
}

bool IsRuntimeOptionsType(std::string_view type_url) {
  const std::string_view type = WithoutPrefix(type_url);
  return type == kRuncType || type == kCriType || type == kLegacyType;
}

bool IsLegacyOptionsType(std::string_view type_url) {
  return WithoutPrefix(type_url) == kLegacyType;
}

bool IsRuncOptionsType(std::string_view type_url) {
  return WithoutPrefix(type_url) == kRuncType;
}

}  // namespace wisp
