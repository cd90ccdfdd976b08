#include "cgroups/host.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

constexpr const char* kV1Controllers[] = {
    "systemd",    "freezer", "pids",    "net_cls", "net_prio",
    "perf_event", "cpuset",  "cpu",     "cpuacct", "memory",
    "blkio",      "rdma",    "devices", "hugetlb"};

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string Unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        sscanf(std::string(text.substr(i + 1, 3)).c_str(), "%3o", &code) == 1) {
      result += static_cast<char>(code);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

bool InUserNamespace(const std::string& proc) {
  const absl::StatusOr<std::string> map = ReadFile(proc + "/self/uid_map");
  unsigned inside = 0, outside = 0, size = 0;
  return map.ok() &&
         (sscanf(map->c_str(), "%u %u %u", &inside, &outside, &size) != 3 ||
          inside != 0 || outside != 0 || size != 0xffffffff);
}

}  // namespace

absl::StatusOr<CgroupHost> DetectCgroupHost() {
  CgroupHost host;
  host.in_user_namespace = InUserNamespace(host.proc);
  struct statfs info;
  if (statfs(host.root.c_str(), &info) == 0 &&
      info.f_type == CGROUP2_SUPER_MAGIC) {
    return host;
  }
  host.mode = CgroupMode::kV1;
  ASSIGN_OR_RETURN(std::string text, ReadFile(host.proc + "/self/mountinfo"));
  ASSIGN_OR_RETURN(auto mounts, ParseCgroupMounts(text));
  if (!mounts[""].empty()) host.root = mounts[""];
  return host;
}

std::vector<std::string> CgroupV1Controllers(const CgroupHost& host) {
  std::vector<std::string> controllers;
  for (const std::string controller : kV1Controllers) {
    if (controller == "devices" && host.in_user_namespace) continue;
    if (controller == "hugetlb" && access(host.huge_pages.c_str(), R_OK) != 0) {
      continue;
    }
    controllers.push_back(controller);
  }
  return controllers;
}

absl::StatusOr<std::map<std::string, std::string>> ParseCgroupMounts(
    std::string_view mountinfo) {
  std::map<std::string, std::string> roots;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(mountinfo.data(), mountinfo.size()),
                      '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 3 >= fields.size()) {
      return absl::InvalidArgumentError(
          fmt::format("mountinfo: malformed line: {}", View(line)));
    }
    if (fields[dash + 1] != "cgroup") continue;
    const std::string root = Unescape(View(fields[3]));
    roots.emplace("", ParentOf(Unescape(View(fields[4]))));
    for (absl::string_view option : absl::StrSplit(fields[dash + 3], ',')) {
      // Words such as rw are taken for controllers too; nobody asks for them.
      std::string name(option);
      if (name.starts_with("name=")) name.erase(0, 5);
      roots.emplace(std::move(name), root);
    }
  }
  return roots;
}

}  // namespace wisp
