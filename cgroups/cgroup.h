// A container's cgroup: one directory in v2, one per hierarchy in v1.
#ifndef WISP_CGROUPS_CGROUP_H_
#define WISP_CGROUPS_CGROUP_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/host.h"
#include "process/status_macros.h"

namespace wisp {

// Names only: a value, valid as text whether or not the cgroup still exists.
// Its methods are short system calls on kernfs, fit for the loop.
class Cgroup {
 public:
  // That of `pid`, at this moment: load it right after create, while the init
  // is still where the runtime put it, and keep it. v1 leaves controllers out
  // whose directory does not exist. Errors: kNotFound if the process or all
  // directories have gone (`cgroup deleted`); kInvalidArgument `invalid group
  // path` for a v2 path that is not clean, e.g. one outside our own cgroup
  // namespace; kFailedPrecondition for a v1 process without `devices`.
  static absl::StatusOr<Cgroup> Load(const CgroupHost& host, pid_t pid);

  // An existing cgroup by name: in v1 that path in every hierarchy that has it.
  // Errors: kInvalidArgument for a path that is not absolute and clean;
  // kNotFound.
  static absl::StatusOr<Cgroup> Find(const CgroupHost& host,
                                     const std::string& path);

  CgroupMode mode() const { return mode_; }

  // The directory. v1: that of `controller`, empty if it has none.
  std::string directory(std::string_view controller = "") const;
  // v1: what directory() knows.
  const std::map<std::string, std::string, std::less<>>& paths() const {
    return paths_;
  }

  // Whether the directory, in v1 any of them, exists.
  bool Exists() const;

  // The processes in it and below, ascending. v1: of the `devices` hierarchy,
  // as runc does. kNotFound if it has gone.
  absl::StatusOr<std::vector<pid_t>> Procs() const;

  // SIGKILLs them all, frozen ones too, and leaves the cgroup thawed: by
  // cgroup.kill, or one by one until no new one appears. Returns when all are
  // signalled, not when they are dead. A cgroup that has gone is fine. Errors:
  // kFailedPrecondition, nobody killed, if it is a root or holds this process;
  // kUnknown if new ones keep appearing.
  absl::Status KillAll() const;

  // Removes it, and what is below it; in v1 from every hierarchy. Kills nobody:
  // kFailedPrecondition if there are processes left in it, and then what is
  // empty has been removed all the same. One that has gone is fine.
  absl::Status Remove() const;

  // Whether it was told to freeze. v1: the freezer's state, which for a parent
  // that is frozen says so too.
  absl::StatusOr<bool> IsFrozen() const;
  absl::Status Freeze() const;
  absl::Status Thaw() const;

  // Moves a process into it, v1: in every hierarchy.
  absl::Status AddProcess(pid_t pid) const;

  // v2: switches on, in all its ancestors, what the root has, so that stats are
  // complete even if a manager forgot a controller. Every ancestor is tried;
  // the last error is returned, as `failed to enable controllers ([...])`. One
  // that cannot (it holds processes: EBUSY) does no harm. v1: nothing.
  absl::Status EnableControllers() const;

 private:
  Cgroup(CgroupMode mode, std::string root)
      : mode_(mode), root_(std::move(root)) {}
  static absl::StatusOr<Cgroup> LoadV1(const CgroupHost& host, pid_t pid);
  static absl::StatusOr<Cgroup> LoadV2(const CgroupHost& host, pid_t pid);
  // Whose cgroup.procs counts, and its path below the hierarchy's root.
  std::string ProcsController() const;
  std::string PathOf(std::string_view controller) const;
  // Where freezing it freezes it and nobody else; empty if there is no such
  // place.
  std::string FreezerDirectory() const;
  absl::Status SetFrozen(bool frozen) const;
  absl::Status KillOneByOne() const;

  CgroupMode mode_;
  std::string root_;
  // By controller; v2 has one, "". Absolute, without a slash at the end but for
  // the root.
  std::map<std::string, std::string, std::less<>> paths_;
};

}  // namespace wisp

#endif  // WISP_CGROUPS_CGROUP_H_
