#include "shim/options.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "fmt/format.h"

namespace wisp {
namespace {

struct StringFlag {
  std::string_view name;
  std::string ShimOptions::*field;
};
constexpr StringFlag kStringFlags[] = {
    {"namespace", &ShimOptions::namespace_name},
    {"id", &ShimOptions::id},
    {"address", &ShimOptions::address},
    {"publish-binary", &ShimOptions::publish_binary},
    {"bundle", &ShimOptions::bundle},
    {"socket", &ShimOptions::socket},
    {"debug-socket", &ShimOptions::debug_socket},
    {"socket-name", &ShimOptions::socket_name},
};

struct BoolFlag {
  std::string_view name;
  bool ShimOptions::*field;
};
constexpr BoolFlag kBoolFlags[] = {
    {"debug", &ShimOptions::debug},     {"v", &ShimOptions::version},
    {"version", &ShimOptions::version}, {"info", &ShimOptions::info},
    {"h", &ShimOptions::help},          {"help", &ShimOptions::help},
};

template <typename Flag, size_t N>
const Flag* FindFlag(const Flag (&flags)[N], std::string_view name) {
  for (const Flag& flag : flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

// strconv.ParseBool.
std::optional<bool> ParseBool(std::string_view text) {
  for (std::string_view word : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == word) return true;
  }
  for (std::string_view word : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

bool MayBeAValue(std::string_view word) {
  return word.substr(0, 1) != "-" && word != "start" && word != "delete";
}

void ReadEnvironment(const char* const* environment, ShimOptions* options) {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals);
    const std::string_view value = entry.substr(equals + 1);
    if (name == "TTRPC_ADDRESS") {
      options->ttrpc_address = value;
    } else if (name == "MAX_SHIM_VERSION") {
      options->max_version_known = true;
    } else if (name == "SCHED_CORE") {
      options->sched_core = value;
    }
  }
}

}  // namespace

absl::StatusOr<ShimOptions> ParseOptions(int argc, const char* const* argv,
                                         const char* const* environment) {
  ShimOptions options;
  if (argc > 0) options.program = argv[0];
  ReadEnvironment(environment, &options);

  int next = 1;
  while (next < argc) {
    const std::string_view word = argv[next];
    if (word.size() < 2 || word[0] != '-') break;
    ++next;
    if (word == "--") break;
    std::string_view name = word.substr(word[1] == '-' ? 2 : 1);
    if (name[0] == '-' || name[0] == '=') {
      return absl::InvalidArgumentError(
          fmt::format("bad flag syntax: {}", word));
    }
    std::optional<std::string_view> value;
    if (const size_t equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }

    if (const BoolFlag* flag = FindFlag(kBoolFlags, name)) {
      if (flag->field == &ShimOptions::help) {
        // Go stops here, whatever the value and what follows.
        options.help = true;
        return options;
      }
      const std::optional<bool> parsed = ParseBool(value.value_or("true"));
      if (!parsed.has_value()) {
        return absl::InvalidArgumentError(fmt::format(
            "invalid boolean value \"{}\" for -{}: parse error", *value, name));
      }
      options.*flag->field = *parsed;
    } else if (const StringFlag* string = FindFlag(kStringFlags, name)) {
      if (!value.has_value()) {
        if (next >= argc) {
          return absl::InvalidArgumentError(
              fmt::format("flag needs an argument: -{}", name));
        }
        value = argv[next++];
      }
      options.*string->field = *value;
    } else if (!value.has_value() && next < argc && MayBeAValue(argv[next])) {
      ++next;
    }
  }

  if (next < argc) {
    const std::string_view action = argv[next];
    if (action == "start") options.action = ShimOptions::Action::kStart;
    if (action == "delete") options.action = ShimOptions::Action::kDelete;
    if (action == "inspect") {
      options.action = ShimOptions::Action::kInspect;
      if (next + 1 < argc) options.target = argv[next + 1];
    }
  }
  return options;
}

std::string Usage(const ShimOptions& options) {
  std::string text = fmt::format(
      "Usage of {}:\n  inspect SOCKET|BUNDLE|PID\n    \tprint the state of a "
      "running shim\n",
      options.program);
  for (const StringFlag& flag : kStringFlags) {
    text += fmt::format("  -{} string\n", flag.name);
  }
  for (const BoolFlag& flag : kBoolFlags) {
    text += fmt::format("  -{}\n", flag.name);
  }
  return text;
}

absl::Status ValidateIdentifier(std::string_view name) {
  constexpr size_t kMaxLength = 76;
  if (name.empty()) {
    return absl::InvalidArgumentError("identifier must not be empty");
  }
  if (name.size() > kMaxLength) {
    return absl::InvalidArgumentError(fmt::format(
        "identifier \"{}\" is longer than {} bytes", name, kMaxLength));
  }
  bool separated = true;  // a separator must not come next
  for (const char c : name) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c));
    const bool separator = c == '.' || c == '_' || c == '-';
    if (!plain && (!separator || separated)) {
      separated = true;
      break;
    }
    separated = separator;
  }
  if (separated) {
    return absl::InvalidArgumentError(fmt::format(
        "identifier \"{}\" must be letters and digits, with single '.', '_' "
        "or '-' between them",
        name));
  }
  return absl::OkStatus();
}

absl::Status CheckNamespace(const ShimOptions& options) {
  if (options.namespace_name.empty()) {
    return absl::InvalidArgumentError("shim namespace cannot be empty");
  }
  return Prefixed("shim namespace", ValidateIdentifier(options.namespace_name));
}

}  // namespace wisp
