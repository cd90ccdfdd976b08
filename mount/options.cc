#include "mount/options.h"

#include <sys/mount.h>

#include <utility>

#include "fmt/format.h"

namespace wisp {
namespace {

struct FlagWord {
  std::string_view word;
  unsigned long set;
  unsigned long clear;
};

constexpr FlagWord kFlagWords[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0},
    {"dev", 0, MS_NODEV},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC, 0},
    {"remount", MS_REMOUNT, 0},
    {"mand", MS_MANDLOCK, 0},
    {"nomand", 0, MS_MANDLOCK},
    {"noatime", MS_NOATIME, 0},
    {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME},
    {"relatime", MS_RELATIME, 0},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, 0},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"defaults", 0, 0},
};

constexpr std::pair<std::string_view, unsigned long> kPropagationWords[] = {
    {"shared", MS_SHARED},         {"rshared", MS_SHARED | MS_REC},
    {"slave", MS_SLAVE},           {"rslave", MS_SLAVE | MS_REC},
    {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},
    {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC},
};

bool TakeFlag(std::string_view option, MountOptions& result) {
  for (const FlagWord& flag : kFlagWords) {
    if (option != flag.word) continue;
    result.flags = (result.flags | flag.set) & ~flag.clear;
    return true;
  }
  for (const auto& [word, propagation] : kPropagationWords) {
    if (option != word) continue;
    result.propagation = propagation;
    return true;
  }
  return false;
}

// The value of `name=value`.
bool TakeValue(std::string_view option, std::string_view name,
               std::string& value) {
  if (!option.starts_with(name)) return false;
  value = option.substr(name.size());
  return true;
}

}  // namespace

absl::StatusOr<MountOptions> ParseMountOptions(
    const std::vector<std::string>& options) {
  MountOptions result;
  for (const std::string& option : options) {
    if (option.starts_with("X-containerd.")) {
      return absl::InvalidArgumentError(
          fmt::format("internal mount option {} was not consumed by the mount "
                      "manager",
                      Quoted(option)));
    }
    if (TakeFlag(option, result) ||
        TakeValue(option, "uidmap=", result.uid_map) ||
        TakeValue(option, "gidmap=", result.gid_map)) {
      continue;
    }
    if (option == "loop") {
      result.loop = true;
    } else {
      result.data.push_back(option);
    }
  }
  // Without a loop device `direct-io` is some file system's own word.
  if (result.loop) result.direct_io = std::erase(result.data, "direct-io") > 0;
  return result;
}

std::string JoinMountData(const std::vector<std::string>& data) {
  return fmt::format("{}", fmt::join(data, ","));
}

std::string Quoted(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace wisp
