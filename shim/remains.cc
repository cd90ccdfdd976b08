#include "shim/remains.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "cgroups/cgroup.h"
#include "fmt/format.h"
#include "process/runc_log.h"
#include "shim/log.h"
#include "shim/run_command.h"

namespace wisp {
namespace {

constexpr int kRemoveAttempts = 10;
constexpr absl::Duration kRemovePause = absl::Milliseconds(20);
constexpr uint32_t kKilled = 128 + SIGKILL;

void DeleteFromRuntime(const Bundle& bundle, const std::string& binary,
                       const std::string& root, const std::string& id,
                       absl::Time deadline) {
  std::vector<std::string> argv = {binary, "--root", root};
  const std::string log = bundle.runtime_log();
  const RuncLogMark mark = MarkRuncLog(log);
  struct stat info;
  if (stat(bundle.directory().c_str(), &info) == 0) {
    argv.insert(argv.end(), {"--log", log, "--log-format", "json"});
  }
  argv.insert(argv.end(), {"delete", "--force", id});
  const absl::StatusOr<CommandResult> result = RunCommand(argv, deadline);
  if (!result.ok()) {
    LogWarning("failed to remove runc container", {{"error", result.status()}});
  } else if (result->exit_code != 0) {
    const absl::StatusOr<std::optional<std::string>> logged =
        LastRuncError(log, mark);
    LogWarning(
        "failed to remove runc container",
        {{"exit_code", result->exit_code},
         {"error",
          logged.ok() && logged->has_value() ? **logged : result->errors}});
  }
}

// A runtime that is missing, hangs, or knows nothing of what else runs there
// leaves processes, which would hold the rootfs and outlive their pod.
void KillLeftovers(const CgroupHost& host, const std::string& path) {
  const absl::StatusOr<Cgroup> cgroup = Cgroup::Find(host, path);
  if (!cgroup.ok()) return;  // it has gone, as it should
  const absl::StatusOr<std::vector<pid_t>> pids = cgroup->Procs();
  if (!pids.ok() || pids->empty()) return;
  // KillAll() spares our own cgroup. Nor is that of containerd or of the system
  // a container's, whatever the runtime wrote down.
  for (const pid_t spared : {1, getppid()}) {
    if (std::find(pids->begin(), pids->end(), spared) != pids->end()) return;
  }
  LogWarning("killing what the runtime left",
             {{"processes", pids->size()}, {"cgroup", path}});
  if (const absl::Status killed = cgroup->KillAll(); !killed.ok()) {
    LogWarning("cannot kill all of it", {{"error", killed}});
  }
}

}  // namespace

ExitRecord FindExitRecord(const Bundle& bundle) {
  const absl::StatusOr<ExitRecord> known = bundle.ReadExitRecord();
  if (known.ok()) return *known;
  if (!absl::IsNotFound(known.status())) {
    LogWarning("exit record does not count", {{"error", known.status()}});
  }
  ExitRecord guess;
  guess.at = absl::FromUnixNanos(absl::GetCurrentTimeNanos());
  guess.status = kKilled;
  guess.guessed = true;
  const absl::StatusOr<pid_t> pid = bundle.ReadInitPid();
  if (pid.ok()) guess.pid = static_cast<uint32_t>(*pid);
  // Not synced: if the power fails the container has ended anyway.
  const absl::StatusOr<ExitRecord> written =
      bundle.WriteExitRecordIfNone(guess, /*sync=*/false);
  if (!written.ok()) {
    LogWarning("cannot record the exit", {{"error", written.status()}});
    return guess;
  }
  if (written->guessed) {
    LogWarning("nobody saw the container end: its status is a guess",
               {{"pid", written->pid}, {"status", written->status}});
  }
  return *written;
}

RuntimeRemains InspectRuntime(const Remains& remains) {
  RuntimeRemains runtime = {.host = DetectCgroupHost()};
  const absl::StatusOr<RuncOptions> read = remains.bundle.ReadOptions();
  if (!read.ok() && !absl::IsNotFound(read.status())) {
    LogWarning("cannot read the options", {{"error", read.status()}});
  }
  runtime.options = read.value_or(RuncOptions());
  runtime.binary = remains.bundle.ReadRuntime().value_or("");
  if (runtime.binary.empty()) runtime.binary = runtime.options.Binary();
  runtime.root = runtime.options.RootOf(remains.namespace_name);
  runtime.state = InspectRuntimeState(
      fmt::format("{}/{}", runtime.root, remains.id), remains.name,
      remains.bundle, runtime.host.value_or(CgroupHost()));
  return runtime;
}

void RemoveFromRuntime(const Remains& remains, const RuntimeRemains& runtime,
                       absl::Time deadline) {
  if (!runtime.state.exists) return;
  if (!runtime.state.ours) {
    LogWarning("the runtime's container of this id is another's",
               {{"root", runtime.root}, {"bundle", runtime.state.bundle}});
    return;
  }
  DeleteFromRuntime(remains.bundle, runtime.binary, runtime.root, remains.id,
                    deadline);
  if (!runtime.host.ok()) return;
  std::string cgroup = runtime.state.cgroup;
  if (!cgroup.empty()) {
    KillLeftovers(*runtime.host, cgroup);
  } else if (!runtime.options.systemd_cgroup) {
    // It was killed before it could note it down. What is in there may be
    // another's, for all we know.
    const absl::StatusOr<Json> config = remains.bundle.ReadConfig();
    if (config.ok()) cgroup = CgroupsPathOfConfig(*config);
  }
  if (!cgroup.empty()) RemoveEmptyCgroup(*runtime.host, cgroup);
}

void RemoveEmptyCgroup(const CgroupHost& host, const std::string& path) {
  for (int attempt = 0; attempt < kRemoveAttempts; ++attempt) {
    const absl::StatusOr<Cgroup> cgroup = Cgroup::Find(host, path);
    if (!cgroup.ok() || cgroup->Remove().ok()) return;
    absl::SleepFor(kRemovePause);
  }
}

}  // namespace wisp
