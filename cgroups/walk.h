// A cgroup and all below it.
#ifndef WISP_CGROUPS_WALK_H_
#define WISP_CGROUPS_WALK_H_

#include <dirent.h>

#include <memory>
#include <string>
#include <string_view>

namespace wisp {

// Calls `visit(directory)` for `top` first, whether it exists or not, and then
// for what it finds below. Cgroups that come or go meanwhile are found or not.
template <typename Visit>
void ForEachCgroup(const std::string& top, Visit&& visit) {
  visit(top);
  struct Close {
    void operator()(DIR* stream) const { closedir(stream); }
  };
  // opendir() opens with O_CLOEXEC.
  const std::unique_ptr<DIR, Close> stream(opendir(top.c_str()));
  if (stream == nullptr) return;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
    ForEachCgroup(top + "/" + entry->d_name, visit);
  }
}

}  // namespace wisp

#endif  // WISP_CGROUPS_WALK_H_
