#include "shim/runtime_state.h"

#include <sys/stat.h>

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "process/fd.h"
#include "process/json.h"
#include "shim/socket.h"

namespace wisp {
namespace {

std::optional<Json> ReadJson(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return std::nullopt;
  absl::StatusOr<Json> json = Json::Parse(*text);
  if (!json.ok() || !json->view().is_object()) return std::nullopt;
  return *std::move(json);
}

// Annotations stand before it under the same form, so the last one is runc's.
std::string BundleOfLabels(const JsonView& labels) {
  constexpr std::string_view kKey = "bundle=";
  std::string bundle;
  for (const JsonView& label : labels.elements()) {
    const std::string text = label.StringOr("");
    if (text.compare(0, kKey.size(), kKey) == 0) {
      bundle = text.substr(kKey.size());
    }
  }
  return bundle;
}

// runc tells the directory of each hierarchy; that of devices is where it looks
// for processes itself.
void ReadRunc(const Json& state, const CgroupHost& host, RuntimeState* result) {
  result->bundle = BundleOfLabels(state["config"]["labels"]);
  const bool v2 = host.mode == CgroupMode::kV2;
  const std::string root = v2 ? host.root : host.root + "/devices";
  const std::string path =
      state["cgroup_paths"][v2 ? "" : "devices"].StringOr("");
  if (absl::StartsWith(path, root + "/")) {
    result->cgroup = path.substr(root.size());
  }
}

// In youki's state.json is the state of the specification; the rest is in a
// file beside it, with or without a slash in front.
void ReadYouki(const Json& state, const std::string& directory,
               RuntimeState* result) {
  result->bundle = state["bundle"].StringOr("");
  if (const std::optional<Json> config =
          ReadJson(directory + "/youki_config.json")) {
    const std::string path = (*config)["cgroup_path"].StringOr("");
    if (!path.empty()) result->cgroup = GoJoin({"/", path});
  }
}

void ReadCrun(const Json& status, RuntimeState* result) {
  result->bundle = status["bundle"].StringOr("");
  const std::string path = status["cgroup-path"].StringOr("");
  if (!path.empty()) result->cgroup = GoJoin({"/", path});
}

bool SameDirectory(const std::string& a, const std::string& b) {
  struct stat left;
  struct stat right;
  if (stat(a.c_str(), &left) == 0 && stat(b.c_str(), &right) == 0) {
    return left.st_dev == right.st_dev && left.st_ino == right.st_ino;
  }
  return false;
}

// One that does not exist (any more) is compared by its name.
bool SameBundle(const std::string& a, const std::string& b) {
  return GoJoin({a}) == GoJoin({b}) || SameDirectory(a, b);
}

}  // namespace

RuntimeState InspectRuntimeState(const std::string& directory,
                                 const std::string& name, const Bundle& bundle,
                                 const CgroupHost& host) {
  RuntimeState result;
  struct stat info;
  if (stat(directory.c_str(), &info) != 0) return result;
  result.exists = true;
  if (const std::optional<Json> state = ReadJson(directory + "/state.json")) {
    if ((*state)["bundle"].exists()) {
      ReadYouki(*state, directory, &result);
    } else {
      ReadRunc(*state, host, &result);
    }
  } else if (const std::optional<Json> status =
                 ReadJson(directory + "/status")) {
    ReadCrun(*status, &result);
  }
  if (result.bundle.empty()) {
    result.ours = bundle.ReadInitPid().ok() || bundle.IsMarkedCreating();
  } else {
    result.ours = SameBundle(result.bundle, name) ||
                  SameDirectory(result.bundle, bundle.directory());
  }
  return result;
}

}  // namespace wisp
