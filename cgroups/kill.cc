// Cgroup's processes: who they are, and their end.
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cgroups/cgroup.h"
#include "cgroups/files.h"
#include "cgroups/walk.h"
#include "fmt/format.h"
#include "process/fd.h"

namespace wisp {
namespace {

// Each round meets only children of processes that the round before had not
// reached yet.
constexpr int kMaxRounds = 64;

void ParsePids(std::string_view text, std::vector<pid_t>& pids) {
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n',
                      absl::SkipEmpty())) {
    pid_t pid = 0;
    std::from_chars(line.data(), line.data() + line.size(), pid);
    // 0 is a process that our pid namespace does not see.
    if (pid > 0) pids.push_back(pid);
  }
}

bool IsGoneOrThreaded(const absl::Status& status) {
  // A threaded cgroup (EOPNOTSUPP) has threads only; their processes are listed
  // by the domain above it.
  return absl::IsNotFound(status) ||
         Message(status).ends_with(ErrnoText(EOPNOTSUPP));
}

struct OpenProcess {
  pid_t pid;
  UniqueFd pidfd;
};

}  // namespace

absl::StatusOr<std::vector<pid_t>> Cgroup::Procs() const {
  const std::string top = directory(ProcsController());
  std::vector<pid_t> pids;
  absl::Status status;
  ForEachCgroup(top, [&](const std::string& at) {
    absl::StatusOr<std::string> text =
        ReadCgroupFile(at + "/" + cgroup_files::kProcs);
    if (text.ok()) {
      ParsePids(*text, pids);
    } else if (at == top || !IsGoneOrThreaded(text.status())) {
      status = text.status();
    }
  });
  RETURN_IF_ERROR(status);
  // v1 sorts nothing and may list one twice; and it may have moved between two
  // reads.
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

absl::Status Cgroup::KillOneByOne() const {
  std::set<pid_t> seen;
  for (int round = 0; round < kMaxRounds; ++round) {
    absl::StatusOr<std::vector<pid_t>> pids = Procs();
    if (absl::IsNotFound(pids.status())) return absl::OkStatus();
    RETURN_IF_ERROR(pids.status());
    bool new_ones = false;
    std::vector<OpenProcess> open;
    for (pid_t pid : *pids) {
      new_ones |= seen.insert(pid).second;
      UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
      if (pidfd.valid()) open.push_back({pid, std::move(pidfd)});
    }
    if (!new_ones) return absl::OkStatus();
    // Between listing and opening the number may have gone to a stranger. Whom
    // a second list names is ours: if it is not the process we hold, that one
    // is dead and the signal meets nobody.
    pids = Procs();
    if (absl::IsNotFound(pids.status())) return absl::OkStatus();
    RETURN_IF_ERROR(pids.status());
    for (const OpenProcess& process : open) {
      if (!std::binary_search(pids->begin(), pids->end(), process.pid)) {
        continue;
      }
      syscall(SYS_pidfd_send_signal, process.pidfd.get(), SIGKILL, nullptr, 0);
    }
  }
  return absl::UnknownError(fmt::format(
      "cgroup {}: new processes keep appearing", directory(ProcsController())));
}

absl::Status Cgroup::KillAll() const {
  const absl::StatusOr<std::vector<pid_t>> pids = Procs();
  if (absl::IsNotFound(pids.status())) return absl::OkStatus();
  RETURN_IF_ERROR(pids.status());
  // Where the runtime could make no cgroup (rootless) the container sits in its
  // parent's, with us and who knows whom.
  if (PathOf(ProcsController()) == "/" ||
      std::binary_search(pids->begin(), pids->end(), getpid())) {
    return absl::FailedPreconditionError(fmt::format(
        "cgroup {} is not the container's own", directory(ProcsController())));
  }
  if (mode_ == CgroupMode::kV2) {
    // Reaches frozen ones, and those that are being forked. EOPNOTSUPP: a
    // threaded cgroup.
    if (WriteCgroupFile(directory() + "/" + cgroup_files::kKill, "1").ok()) {
      return absl::OkStatus();
    }
  }
  // Frozen processes fork no more; killed ones die when they thaw.
  (void)Freeze();
  absl::Status status = KillOneByOne();
  const absl::Status thawed = Thaw();
  if (status.ok() && !thawed.ok() && !absl::IsNotFound(thawed) &&
      !absl::IsFailedPrecondition(thawed)) {
    status = thawed;
  }
  return status;
}

}  // namespace wisp
