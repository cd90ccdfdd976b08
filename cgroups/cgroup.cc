#include "cgroups/cgroup.h"

#include <errno.h>
#include <sys/stat.h>

#include <charconv>
#include <optional>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cgroups/files.h"
#include "fmt/format.h"

namespace wisp {
namespace {

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Absolute, no empty, `.` or `..` component, no slash at the end.
bool IsClean(std::string_view path) {
  if (path == "/") return true;
  if (!path.starts_with('/')) return false;
  for (absl::string_view part : absl::StrSplit(
           absl::string_view(path.data() + 1, path.size() - 1), '/')) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

absl::Status InvalidPath(std::string_view path) {
  return absl::InvalidArgumentError(
      fmt::format("invalid group path \"{}\"", path));
}

// `path` seen from `root`, both of the same hierarchy.
std::optional<std::string> RelativeTo(const std::string& root,
                                      std::string_view path) {
  if (root == "/") return std::string(path);
  if (!path.starts_with(root)) return std::nullopt;
  path.remove_prefix(root.size());
  if (path.empty()) return "/";
  if (path[0] != '/') return std::nullopt;
  return std::string(path);
}

struct CgroupLine {
  std::string_view controllers;
  std::string_view path;
};

// N:controllers:path, the path with whatever colons it has.
std::vector<CgroupLine> ParseCgroupLines(std::string_view text) {
  std::vector<CgroupLine> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const size_t first = line.find(':');
    if (first == std::string_view::npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    lines.push_back(
        {line.substr(first + 1, second - first - 1), line.substr(second + 1)});
  }
  return lines;
}

}  // namespace

absl::StatusOr<Cgroup> Cgroup::Load(const CgroupHost& host, pid_t pid) {
  return host.mode == CgroupMode::kV2 ? LoadV2(host, pid) : LoadV1(host, pid);
}

absl::StatusOr<Cgroup> Cgroup::LoadV2(const CgroupHost& host, pid_t pid) {
  const std::string file = fmt::format("{}/{}/cgroup", host.proc, pid);
  ASSIGN_OR_RETURN(std::string text, ReadCgroupFile(file));
  for (const auto& [controllers, path] : ParseCgroupLines(text)) {
    if (!controllers.empty()) continue;
    // A path into the mount is the mark of a confused namespace.
    if (!IsClean(path) || path.starts_with("/sys/fs/cgroup")) {
      return InvalidPath(path);
    }
    Cgroup cgroup(host.mode, host.root);
    cgroup.paths_.emplace("", path);
    return cgroup;
  }
  return absl::NotFoundError(fmt::format("{}: no cgroup2 there", file));
}

absl::StatusOr<Cgroup> Cgroup::LoadV1(const CgroupHost& host, pid_t pid) {
  ASSIGN_OR_RETURN(std::string text,
                   ReadCgroupFile(fmt::format("{}/{}/cgroup", host.proc, pid)));
  ASSIGN_OR_RETURN(std::string mountinfo,
                   ReadCgroupFile(host.proc + "/self/mountinfo"));
  ASSIGN_OR_RETURN(const auto roots, ParseCgroupMounts(mountinfo));

  std::map<std::string, std::string_view> paths;
  for (const auto& [controllers, path] : ParseCgroupLines(text)) {
    for (absl::string_view controller : absl::StrSplit(
             absl::string_view(controllers.data(), controllers.size()), ',')) {
      std::string name(controller);
      if (name.starts_with("name=")) name.erase(0, 5);
      paths.emplace(std::move(name), path);
    }
  }

  Cgroup cgroup(host.mode, host.root);
  for (const std::string& controller : CgroupV1Controllers(host)) {
    const auto path = paths.find(controller);
    if (path == paths.end()) {
      if (controller != "devices") continue;
      return absl::FailedPreconditionError(
          fmt::format("pid {} has no devices cgroup", pid));
    }
    const auto root = roots.find(controller);
    if (root == roots.end()) continue;
    const std::optional<std::string> relative =
        RelativeTo(root->second, path->second);
    if (!relative || !IsClean(*relative)) continue;
    cgroup.paths_.emplace(controller, *relative);
    if (!IsDirectory(cgroup.directory(controller))) {
      cgroup.paths_.erase(controller);
    }
  }
  if (cgroup.paths_.empty()) return absl::NotFoundError("cgroup deleted");
  return cgroup;
}

absl::StatusOr<Cgroup> Cgroup::Find(const CgroupHost& host,
                                    const std::string& path) {
  if (!IsClean(path)) return InvalidPath(path);
  Cgroup cgroup(host.mode, host.root);
  if (host.mode == CgroupMode::kV2) {
    cgroup.paths_.emplace("", path);
    if (cgroup.Exists()) return cgroup;
    return ErrnoStatus(ENOENT, fmt::format("cgroup {}", cgroup.directory()));
  }
  for (const std::string& controller : CgroupV1Controllers(host)) {
    cgroup.paths_.emplace(controller, path);
    if (!IsDirectory(cgroup.directory(controller))) {
      cgroup.paths_.erase(controller);
    }
  }
  if (!cgroup.paths_.empty()) return cgroup;
  return absl::NotFoundError(fmt::format("{}: cgroup deleted", path));
}

std::string Cgroup::directory(std::string_view controller) const {
  const auto path = paths_.find(mode_ == CgroupMode::kV2 ? "" : controller);
  if (path == paths_.end()) return "";
  std::string result = root_;
  if (!path->first.empty()) result += "/" + path->first;
  if (path->second != "/") result += path->second;
  return result;
}

std::string Cgroup::PathOf(std::string_view controller) const {
  const auto path = paths_.find(controller);
  return path == paths_.end() ? "" : path->second;
}

std::string Cgroup::ProcsController() const {
  if (mode_ == CgroupMode::kV2 || paths_.contains("devices")) {
    return mode_ == CgroupMode::kV2 ? "" : "devices";
  }
  return paths_.begin()->first;
}

bool Cgroup::Exists() const {
  bool has_own = false;
  for (const auto& [controller, path] : paths_) {
    // A hierarchy that the runtime left alone: its root is always there.
    if (path == "/") continue;
    has_own = true;
    if (IsDirectory(directory(controller))) return true;
  }
  return !has_own;
}

std::string Cgroup::FreezerDirectory() const {
  // The freezer of v1 is a hierarchy of its own: a process may share its cgroup
  // there, the root above all, with others.
  if (mode_ == CgroupMode::kV1 && PathOf("freezer") != PathOf("devices")) {
    return "";
  }
  const std::string controller = mode_ == CgroupMode::kV2 ? "" : "freezer";
  const std::string path = PathOf(controller);
  return path.empty() || path == "/" ? "" : directory(controller);
}

absl::StatusOr<bool> Cgroup::IsFrozen() const {
  const std::string at = FreezerDirectory();
  if (at.empty()) return false;
  if (mode_ == CgroupMode::kV2) {
    ASSIGN_OR_RETURN(std::string text,
                     ReadCgroupFile(at + "/" + cgroup_files::kFreeze));
    return text.starts_with('1');
  }
  ASSIGN_OR_RETURN(std::string text,
                   ReadCgroupFile(at + "/" + cgroup_files::kFreezerState));
  return !text.starts_with("THAWED");
}

absl::Status Cgroup::SetFrozen(bool frozen) const {
  const std::string at = FreezerDirectory();
  if (at.empty()) return absl::FailedPreconditionError("no freezer of its own");
  if (mode_ == CgroupMode::kV2) {
    return WriteCgroupFile(at + "/" + cgroup_files::kFreeze,
                           frozen ? "1" : "0");
  }
  return WriteCgroupFile(at + "/" + cgroup_files::kFreezerState,
                         frozen ? "FROZEN" : "THAWED");
}

absl::Status Cgroup::Freeze() const { return SetFrozen(true); }
absl::Status Cgroup::Thaw() const { return SetFrozen(false); }

absl::Status Cgroup::AddProcess(pid_t pid) const {
  for (const auto& [controller, path] : paths_) {
    RETURN_IF_ERROR(
        WriteCgroupFile(directory(controller) + "/" + cgroup_files::kProcs,
                        fmt::format("{}", pid)));
  }
  return absl::OkStatus();
}

absl::Status Cgroup::EnableControllers() const {
  if (mode_ == CgroupMode::kV1) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string text,
                   ReadCgroupFile(root_ + "/" + cgroup_files::kControllers));
  const std::vector<std::string> controllers =
      absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  if (controllers.empty()) return absl::OkStatus();
  const std::string all = fmt::format("+{}", fmt::join(controllers, " +"));
  const std::string path = PathOf("");
  absl::Status last;
  // From the root down: a child can only pass on what its parent has.
  for (size_t slash = path.find('/'); slash != std::string::npos && path != "/";
       slash = path.find('/', slash + 1)) {
    const std::string file = fmt::format(
        "{}{}/{}", root_, path.substr(0, slash), cgroup_files::kSubtreeControl);
    last = WriteCgroupFile(file, all);
    if (last.ok()) continue;
    // One name that this ancestor does not know spoils the whole write.
    for (const std::string& controller : controllers) {
      (void)WriteCgroupFile(file, "+" + controller);
    }
  }
  return Prefixed(fmt::format("failed to enable controllers ([{}])",
                              fmt::join(controllers, " ")),
                  last);
}

}  // namespace wisp
