#include "shim/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <limits>

#include "fmt/format.h"
#include "process/fd.h"
#include "process/pidfd.h"

namespace wisp {
namespace {

constexpr size_t kSmallFile = size_t{1} << 20;

std::string Temporary(const std::string& path) {
  return fmt::format("{}.{}.new", path, getpid());
}

}  // namespace

std::string Bundle::Path(std::string_view name) const {
  return fmt::format("{}/{}", directory_, name);
}

std::string Bundle::exec_pid(std::string_view exec_id) const {
  return fmt::format("{}/{}.pid", directory_, exec_id);
}

absl::StatusOr<Json> Bundle::ReadConfig() const {
  ASSIGN_OR_RETURN(std::string text, ReadFile(config()));
  absl::StatusOr<Json> json = Json::Parse(text);
  if (!json.ok()) return Prefixed(config(), json.status());
  return json;
}

absl::Status Bundle::WriteRuntime(std::string_view binary_name) const {
  return WriteFileAtomically(Path("runtime"), binary_name, 0600,
                             /*sync=*/false);
}

absl::StatusOr<std::string> Bundle::ReadRuntime() const {
  return ReadFile(Path("runtime"), kSmallFile);
}

absl::Status Bundle::WriteOptions(const RuncOptions& options) const {
  return WriteFileAtomically(Path("options.json"), FormatOptionsJson(options),
                             0600, /*sync=*/false);
}

absl::StatusOr<RuncOptions> Bundle::ReadOptions() const {
  ASSIGN_OR_RETURN(std::string text,
                   ReadFile(Path("options.json"), kSmallFile));
  return ParseOptionsJson(text);
}

absl::Status Bundle::WriteAddress(std::string_view address) const {
  // It must survive a power cut no better than the shim does.
  return WriteFileAtomically(Path("address"), address, 0644, /*sync=*/false);
}

absl::StatusOr<std::string> Bundle::ReadAddress() const {
  return ReadFile(Path("address"), kSmallFile);
}

void Bundle::RemoveAddress() const { unlink(Path("address").c_str()); }

absl::Status Bundle::LinkSocketDirectory(const std::string& target) const {
  const std::string path = Path("s");
  const std::string temporary = Temporary(path);
  unlink(temporary.c_str());
  if (symlink(target.c_str(), temporary.c_str()) != 0 ||
      rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(temporary.c_str());
    return ErrnoStatus(error, fmt::format("symlink {} {}", target, path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Bundle::ReadSocketDirectory() const {
  const std::string path = Path("s");
  char target[4096];
  const ssize_t length = readlink(path.c_str(), target, sizeof(target));
  if (length < 0) return ErrnoStatus(errno, fmt::format("readlink {}", path));
  return std::string(target, static_cast<size_t>(length));
}

absl::Status Bundle::MarkCreating() const {
  return WriteFileAtomically(Path("creating"), "", 0600, /*sync=*/false);
}

void Bundle::UnmarkCreating() const { unlink(Path("creating").c_str()); }

bool Bundle::IsMarkedCreating() const {
  return access(Path("creating").c_str(), F_OK) == 0;
}

absl::StatusOr<pid_t> Bundle::ReadInitPid() const {
  ASSIGN_OR_RETURN(std::string text, ReadFile(init_pid(), kSmallFile));
  absl::StatusOr<pid_t> pid = ParsePidFile(text);
  if (!pid.ok()) return Prefixed(init_pid(), pid.status());
  return pid;
}

absl::Status Bundle::WriteExitRecord(const ExitRecord& record,
                                     bool sync) const {
  return WriteFileAtomically(Path("exit.json"), FormatExitRecord(record), 0600,
                             sync);
}

absl::StatusOr<ExitRecord> Bundle::WriteExitRecordIfNone(
    const ExitRecord& record, bool sync) const {
  if (absl::StatusOr<ExitRecord> known = ReadExitRecord(); known.ok()) {
    return known;
  }
  const std::string path = Path("exit.json");
  const std::string ours = Temporary(path);
  RETURN_IF_ERROR(
      WriteFileAtomically(ours, FormatExitRecord(record), 0600, sync));
  if (renameat2(AT_FDCWD, ours.c_str(), AT_FDCWD, path.c_str(),
                RENAME_NOREPLACE) == 0) {
    return record;
  }
  // Something has appeared, or what was there does not count. Changing places
  // with it lets us look at it while nobody can lose it.
  if (renameat2(AT_FDCWD, ours.c_str(), AT_FDCWD, path.c_str(),
                RENAME_EXCHANGE) != 0) {
    const int error = errno;
    unlink(ours.c_str());
    return ErrnoStatus(error, fmt::format("write {}", path));
  }
  const absl::StatusOr<std::string> text = ReadFile(ours, kSmallFile);
  if (text.ok()) {
    absl::StatusOr<ExitRecord> other = ParseExitRecord(*text);
    if (other.ok() && rename(ours.c_str(), path.c_str()) == 0) return other;
  }
  unlink(ours.c_str());
  return record;
}

absl::StatusOr<ExitRecord> Bundle::ReadExitRecord() const {
  ASSIGN_OR_RETURN(std::string text, ReadFile(Path("exit.json"), kSmallFile));
  return ParseExitRecord(text);
}

std::string FormatOptionsJson(const RuncOptions& options) {
  Json json = Json::Object();
  const auto set_true = [&json](std::string_view key, bool value) {
    if (value) json.Set(key, true);
  };
  const auto set_number = [&json](std::string_view key, uint32_t value) {
    if (value != 0) json.Set(key, value);
  };
  const auto set_text = [&json](std::string_view key, const std::string& text) {
    if (!text.empty()) json.Set(key, text);
  };
  set_true("no_pivot_root", options.no_pivot_root);
  set_true("no_new_keyring", options.no_new_keyring);
  set_text("shim_cgroup", options.shim_cgroup);
  set_number("io_uid", options.io_uid);
  set_number("io_gid", options.io_gid);
  set_text("binary_name", options.binary_name);
  set_text("root", options.root);
  set_true("systemd_cgroup", options.systemd_cgroup);
  set_text("criu_image_path", options.criu_image_path);
  set_text("criu_work_path", options.criu_work_path);
  return json.Dump();
}

absl::StatusOr<RuncOptions> ParseOptionsJson(std::string_view text) {
  absl::StatusOr<Json> json = Json::Parse(text);
  if (!json.ok()) return Prefixed("options.json", json.status());
  if (!json->view().is_object()) {
    return absl::InvalidArgumentError("options.json: no object");
  }
  const auto number = [&json](std::string_view key) {
    const uint64_t value = (*json)[key].Uint64Or(0);
    return value > std::numeric_limits<uint32_t>::max()
               ? 0
               : static_cast<uint32_t>(value);
  };
  RuncOptions options;
  options.no_pivot_root = (*json)["no_pivot_root"].BoolOr(false);
  options.no_new_keyring = (*json)["no_new_keyring"].BoolOr(false);
  options.shim_cgroup = (*json)["shim_cgroup"].StringOr("");
  options.io_uid = number("io_uid");
  options.io_gid = number("io_gid");
  options.binary_name = (*json)["binary_name"].StringOr("");
  options.root = (*json)["root"].StringOr("");
  options.systemd_cgroup = (*json)["systemd_cgroup"].BoolOr(false);
  options.criu_image_path = (*json)["criu_image_path"].StringOr("");
  options.criu_work_path = (*json)["criu_work_path"].StringOr("");
  return options;
}

absl::StatusOr<std::optional<std::string>> GroupOfConfig(const Json& config) {
  const JsonView annotations = config["annotations"];
  for (std::string_view key :
       {"io.containerd.wisp.v2.group", "io.containerd.runc.v2.group",
        "io.kubernetes.cri.sandbox-id"}) {
    if (!annotations[key].exists()) continue;
    std::optional<std::string> group = annotations[key].AsString();
    if (group.has_value()) return group;
    return absl::InvalidArgumentError(
        fmt::format("config.json: annotation {} is no string", key));
  }
  return std::nullopt;
}

std::string CgroupsPathOfConfig(const Json& config) {
  std::string path = config["linux"]["cgroupsPath"].StringOr("");
  return path.starts_with('/') ? path : std::string();
}

bool OnTmpfs(const std::string& directory) {
  struct statfs info;
  if (statfs(directory.c_str(), &info) != 0) return false;
  const auto type = static_cast<unsigned long>(info.f_type);
  return type == TMPFS_MAGIC || type == RAMFS_MAGIC;
}

}  // namespace wisp
