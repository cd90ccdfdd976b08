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

constexpr absl::Duration kRemovePause = absl::Milliseconds(20);

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

ExitRecord GuessedExit() {
  return {.at = absl::FromUnixNanos(absl::GetCurrentTimeNanos()),
          .status = 128 + SIGKILL,
          .guessed = true};
}

ExitRecord FindExitRecord(const Bundle& bundle) {
  const absl::StatusOr<ExitRecord> known = bundle.ReadExitRecord();
  if (known.ok()) return *known;
  if (!absl::IsNotFound(known.status())) {
    LogWarning("exit record does not count", {{"error", known.status()}});
  }
  ExitRecord guess = GuessedExit();
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
  if (runtime.state.exists && !runtime.state.ours) {
    LogWarning("the runtime's container of this id is another's",
               {{"root", runtime.root}, {"bundle", runtime.state.bundle}});
    return;
  }
  if (runtime.state.exists) {
    DeleteFromRuntime(remains.bundle, runtime.binary, runtime.root, remains.id,
                      deadline);
    if (runtime.host.ok() && !runtime.state.cgroup.empty()) {
      KillLeftovers(*runtime.host, runtime.state.cgroup);
    }
  }
  std::string cgroup = runtime.state.cgroup;
  if (cgroup.empty() &&
      (runtime.state.exists || remains.bundle.IsMarkedCreating())) {
    cgroup = CgroupToBe(remains.bundle, runtime.options);
  }
  if (runtime.host.ok()) RemoveEmptyCgroup(*runtime.host, cgroup, deadline);
}

std::string CgroupToBe(const Bundle& bundle, const RuncOptions& options) {
  if (options.systemd_cgroup) return "";
  const absl::StatusOr<Json> config = bundle.ReadConfig();
  return config.ok() ? CgroupsPathOfConfig(*config) : "";
}

bool RemoveEmptyCgroup(const CgroupHost& host, const std::string& path,
                       absl::Time deadline) {
  if (path.empty()) return true;
  for (;;) {
    // What is in there may be another's, for all we know: nobody is killed.
    const absl::StatusOr<Cgroup> cgroup = Cgroup::Find(host, path);
    if (!cgroup.ok() || cgroup->Remove().ok()) return true;
    if (absl::Now() > deadline) return false;
    absl::SleepFor(kRemovePause);
  }
}

}  // namespace wisp
