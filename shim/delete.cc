#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "fmt/format.h"
#include "mount/unmount.h"
#include "process/fd.h"
#include "process/pidfd.h"
#include "process/runc_log.h"
#include "proto/task.pb.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/identity.h"
#include "shim/log.h"
#include "shim/run_command.h"
#include "shim/runtime_state.h"
#include "shim/socket.h"

namespace wisp {
namespace {

// containerd kills us after 5 seconds, reports 255 and keeps the bundle.
constexpr absl::Duration kLimit = absl::Seconds(4);
// What the runtime must leave of that to those who come after it.
constexpr absl::Duration kReserve = absl::Milliseconds(700);
constexpr uint32_t kKilled = 128 + SIGKILL;

struct Target {
  Bundle bundle;     // where it is now
  std::string name;  // what its path was when it was made
  // The bundle was renamed on its way out and another container has its id.
  bool succeeded = false;
};

std::string CurrentDirectory() {
  char path[4096];
  // The kernel's own call, which answers "(unreachable)/..." where libc gives
  // up; a directory that has been removed is ENOENT.
  if (syscall(SYS_getcwd, path, sizeof(path)) < 0 || path[0] != '/') return "";
  return path;
}

// The directory next to the current one with the container's id for a name, as
// Go has it; on Linux both are the same. containerd renames the bundle to .ID
// before it removes it, perhaps while we are at it.
absl::StatusOr<Target> FindTarget(const ShimOptions& options) {
  const std::string current = CurrentDirectory();
  const std::string& known = current.empty() ? options.bundle : current;
  if (known.empty() || known[0] != '/') {
    return absl::NotFoundError("the bundle has gone");
  }
  const std::string name = GoJoin({known, "..", options.id});
  struct stat here;
  struct stat there;
  const bool is_here = !current.empty() && stat(".", &here) == 0;
  const bool is_there = stat(name.c_str(), &there) == 0;
  if (!is_here) {
    // Removed. What has its name now is another's.
    if (is_there) return absl::NotFoundError("the bundle has gone");
    return Target{Bundle(name), name};
  }
  if (is_there && here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
    return Target{Bundle(name), name};
  }
  const bool renamed = current == GoJoin({known, "..", "." + options.id});
  if (!renamed) return Target{Bundle(name), name};
  return Target{Bundle(current), name, is_there};
}

// How init ended: what is on record, or a guess that goes on record so that
// whoever asks again hears the same.
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

void RemoveContainer(const ShimOptions& options, const Target& target,
                     absl::Time deadline) {
  const absl::StatusOr<RuncOptions> read = target.bundle.ReadOptions();
  if (!read.ok() && !absl::IsNotFound(read.status())) {
    LogWarning("cannot read the options", {{"error", read.status()}});
  }
  const RuncOptions runc = read.value_or(RuncOptions());
  std::string binary = target.bundle.ReadRuntime().value_or("");
  if (binary.empty()) binary = runc.Binary();
  const std::string root = runc.RootOf(options.namespace_name);

  const absl::StatusOr<CgroupHost> host = DetectCgroupHost();
  const RuntimeState state =
      InspectRuntimeState(fmt::format("{}/{}", root, options.id), target.name,
                          target.bundle, host.value_or(CgroupHost()));
  // After a normal Delete, which is most of the time, there is nothing.
  if (!state.exists) return;
  if (!state.ours) {
    LogWarning("the runtime's container of this id is another's",
               {{"root", root}, {"bundle", state.bundle}});
    return;
  }
  DeleteFromRuntime(target.bundle, binary, root, options.id, deadline);
  if (host.ok() && !state.cgroup.empty()) KillLeftovers(*host, state.cgroup);
}

// Where the group's shim listened: what `start` wrote, or worked out again.
std::string SocketOf(const ShimOptions& options, const Bundle& bundle) {
  constexpr std::string_view kScheme = "unix://";
  const std::string address = bundle.ReadAddress().value_or("");
  if (address.compare(0, kScheme.size(), kScheme) == 0) {
    return address.substr(kScheme.size());
  }
  const absl::StatusOr<Json> config = bundle.ReadConfig();
  if (!config.ok()) return "";
  const absl::StatusOr<std::optional<std::string>> group =
      GroupOfConfig(*config);
  if (!group.ok()) return "";
  return SocketPath(bundle.ReadSocketDirectory().value_or(
                        std::string(kDefaultSocketDirectory)),
                    options.address, options.namespace_name,
                    group->value_or(options.id));
}

// What can get stuck in the kernel, or behind another's lock, is done by a
// child: a thread in D state keeps its whole process from being waited for. Its
// stdio is /dev/null, since the daemon waits for the end of our pipes too.
void CleanUpInChild(const ShimOptions& options, const Bundle& bundle,
                    absl::Time deadline) {
  const absl::StatusOr<UniqueFd> report = MakeMemfd("report");
  const absl::StatusOr<UniqueFd> null = OpenFd("/dev/null", O_RDWR);
  if (!report.ok() || !null.ok()) {
    LogWarning("no fds to clean up with");
    return;
  }
  const std::string socket = SocketOf(options, bundle);
  const pid_t pid = fork();
  if (pid < 0) {
    LogWarning("cannot clean up", {{"error", ErrnoStatus(errno, "fork")}});
    return;
  }
  if (pid == 0) {
    for (int fd = 0; fd <= 2; ++fd) dup2(null->get(), fd);
    if (!socket.empty()) (void)RemoveDeadSocket(socket);
    const absl::Status status =
        UnmountRecursive(bundle.rootfs(), MountContext());
    if (!status.ok()) {
      (void)WriteAll(report->get(), Message(status));
      _exit(1);
    }
    _exit(0);
  }
  const absl::StatusOr<Pidfd> child = Pidfd::Open(pid);
  const absl::StatusOr<int> exit_code =
      child.ok() ? WaitForExit(*child, deadline) : child.status();
  if (!exit_code.ok()) {
    // Later there may be another container's rootfs under that name.
    kill(pid, SIGKILL);
    LogWarning("failed to cleanup rootfs mount",
               {{"error", exit_code.status()}});
  } else if (*exit_code != 0) {
    std::string text = fmt::format("exit status {}", *exit_code);
    if (lseek(report->get(), 0, SEEK_SET) == 0) {
      text = ReadAll(report->get()).value_or(text);
    }
    LogWarning("failed to cleanup rootfs mount", {{"error", text}});
  }
}

absl::Status Delete(const ShimOptions& options) {
  const absl::Time deadline = absl::Now() + kLimit;
  // It becomes part of paths.
  RETURN_IF_ERROR(Prefixed("container id", ValidateIdentifier(options.id)));

  ExitRecord record{absl::Now(), 0, kKilled, true};
  const absl::StatusOr<Target> target = FindTarget(options);
  if (!target.ok()) {
    LogWarning("nothing to clean up", {{"error", target.status()}});
  } else {
    record = FindExitRecord(target->bundle);
    if (!target->succeeded) {
      RemoveContainer(options, *target, deadline - kReserve);
      CleanUpInChild(options, target->bundle, deadline);
    }
  }

  containerd::task::v3::DeleteResponse response;
  response.set_pid(record.pid);
  response.set_exit_status(record.status);
  const int64_t nanos = absl::ToUnixNanos(record.at);
  const int64_t seconds = absl::ToUnixSeconds(record.at);
  response.mutable_exited_at()->set_seconds(seconds);
  response.mutable_exited_at()->set_nanos(
      static_cast<int32_t>(nanos - seconds * 1000000000));
  return Prefixed("stdout",
                  WriteAll(STDOUT_FILENO, response.SerializeAsString()));
}

}  // namespace

int RunDelete(const ShimOptions& options) {
  for (const int signal : {SIGTERM, SIGINT, SIGPIPE}) {
    ::signal(signal, SIG_IGN);
  }
  const absl::Status status = Delete(options);
  if (status.ok()) return 0;
  const std::string text = fmt::format("{}: {}", kRuntimeName, Message(status));
  (void)!write(STDERR_FILENO, text.data(), text.size());
  return 1;
}

}  // namespace wisp
