// Apart from everything else for the sake of the compiler: the TOML library is
// a header of seventeen thousand lines.
#include "shim/toml_options.h"

#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "toml++/toml.h"

namespace wisp {
namespace {

struct TextKey {
  std::string_view name;
  std::string RuncOptions::*field;
};
constexpr TextKey kTextKeys[] = {
    {"binaryname", &RuncOptions::binary_name},
    {"root", &RuncOptions::root},
    {"shimcgroup", &RuncOptions::shim_cgroup},
    {"criuimagepath", &RuncOptions::criu_image_path},
    {"criuworkpath", &RuncOptions::criu_work_path},
};

struct BoolKey {
  std::string_view name;
  bool RuncOptions::*field;
};
constexpr BoolKey kBoolKeys[] = {
    {"systemdcgroup", &RuncOptions::systemd_cgroup},
    {"nopivotroot", &RuncOptions::no_pivot_root},
    {"nonewkeyring", &RuncOptions::no_new_keyring},
};

struct NumberKey {
  std::string_view name;
  uint32_t RuncOptions::*field;
};
constexpr NumberKey kNumberKeys[] = {
    {"iouid", &RuncOptions::io_uid},
    {"iogid", &RuncOptions::io_gid},
};

// BinaryName, binary_name and binaryname are one key.
std::string Normalized(std::string_view key) {
  std::string normalized;
  for (const char c : key) {
    if (c != '_') {
      normalized += absl::ascii_tolower(static_cast<unsigned char>(c));
    }
  }
  return normalized;
}

absl::Status WrongType(std::string_view key, std::string_view wanted) {
  return absl::InvalidArgumentError(
      fmt::format("runtime options: {} is no {}", key, wanted));
}

absl::Status SetOption(std::string_view key, const toml::node& node,
                       RuncOptions* options) {
  const std::string name = Normalized(key);
  for (const TextKey& text : kTextKeys) {
    if (text.name != name) continue;
    const toml::value<std::string>* value = node.as_string();
    if (value == nullptr) return WrongType(key, "string");
    options->*text.field = value->get();
  }
  for (const BoolKey& flag : kBoolKeys) {
    if (flag.name != name) continue;
    const toml::value<bool>* value = node.as_boolean();
    if (value == nullptr) return WrongType(key, "boolean");
    options->*flag.field = value->get();
  }
  for (const NumberKey& number : kNumberKeys) {
    if (number.name != name) continue;
    const toml::value<int64_t>* value = node.as_integer();
    if (value == nullptr || value->get() < 0 ||
        value->get() > std::numeric_limits<uint32_t>::max()) {
      return WrongType(key, "number of a user or group");
    }
    options->*number.field = static_cast<uint32_t>(value->get());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RuncOptions> ParseTomlOptions(std::string_view text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return absl::InvalidArgumentError(fmt::format(
        "runtime options: line {}: {}", parsed.error().source().begin.line,
        parsed.error().description()));
  }
  RuncOptions options;
  for (const auto& [key, node] : parsed.table()) {
    RETURN_IF_ERROR(SetOption(key.str(), node, &options));
  }
  return options;
}

}  // namespace wisp
