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
#include "fmt/format.h"
#include "mount/unmount.h"
#include "process/fd.h"
#include "process/pidfd.h"
#include "proto/task.pb.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/log.h"
#include "shim/remains.h"
#include "shim/run_command.h"
#include "shim/siblings.h"
#include "shim/socket.h"
#include "shim/transport.h"

namespace wisp {
namespace {

// containerd kills us after 5 seconds, reports 255 and keeps the bundle.
constexpr absl::Duration kLimit = absl::Seconds(4);
// What the runtime must leave of that to those who come after it.
constexpr absl::Duration kReserve = absl::Milliseconds(700);

struct Target {
  Remains remains;
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
  const Target there_now = {
      {Bundle(name), name, options.id, options.namespace_name}};
  struct stat here;
  struct stat there;
  const bool is_here = !current.empty() && stat(".", &here) == 0;
  const bool is_there = stat(name.c_str(), &there) == 0;
  if (!is_here) {
    // Removed. What has its name now is another's.
    if (is_there) return absl::NotFoundError("the bundle has gone");
    return there_now;
  }
  if (is_there && here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
    return there_now;
  }
  const bool renamed = current == GoJoin({known, "..", "." + options.id});
  if (!renamed) return there_now;
  return Target{{Bundle(current), name, options.id, options.namespace_name},
                is_there};
}

// Where the group's shim listened: what `start` wrote, or worked out again.
std::string SocketOf(const ShimOptions& options, const Transport& transport,
                     const Bundle& bundle) {
  const std::string address = bundle.ReadAddress().value_or("");
  std::string path = transport.parse_address(address);
  if (!path.empty()) return path;
  const absl::StatusOr<Json> config = bundle.ReadConfig();
  if (!config.ok()) return "";
  const absl::StatusOr<std::optional<std::string>> group =
      GroupOfConfig(*config);
  if (!group.ok()) return "";
  return SocketPath(bundle.ReadSocketDirectory().value_or(
                        std::string(kDefaultSocketDirectory)),
                    options.address, options.namespace_name,
                    transport.SocketKey(group->value_or(options.id)));
}

// What can get stuck in the kernel, or behind another's lock, is done by a
// child: a thread in D state keeps its whole process from being waited for. Its
// stdio is /dev/null, since the daemon waits for the end of our pipes too.
void CleanUpInChild(const std::string& socket, const Bundle& bundle,
                    absl::Time deadline) {
  const absl::StatusOr<UniqueFd> report = MakeMemfd("report");
  const absl::StatusOr<UniqueFd> null = OpenFd("/dev/null", O_RDWR);
  if (!report.ok() || !null.ok()) {
    LogWarning("no fds to clean up with");
    return;
  }
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

// Nothing for a container without a group, or whose shim lives. Reading the
// config and looking around are for the rare case that something was left.
std::optional<ShimGroup> DeadGroupOf(const ShimOptions& options,
                                     const Remains& remains,
                                     const RuntimeRemains& runtime,
                                     const std::string& socket) {
  struct stat info;
  if (socket.empty() || SomebodyListens(socket) ||
      (!runtime.ours() && stat(socket.c_str(), &info) != 0)) {
    return std::nullopt;
  }
  const absl::StatusOr<Json> config = remains.bundle.ReadConfig();
  if (!config.ok()) return std::nullopt;
  const absl::StatusOr<std::optional<std::string>> key = GroupOfConfig(*config);
  if (!key.ok() || !key->has_value()) return std::nullopt;
  return ShimGroup{.bundles = GoJoin({remains.name, ".."}),
                   .namespace_name = options.namespace_name,
                   .key = **key,
                   .socket = socket,
                   .own_id = options.id};
}

void CleanUp(const ShimOptions& options, const Transport& transport,
             const Remains& remains, absl::Time deadline) {
  const RuntimeRemains runtime = InspectRuntime(remains);
  const std::string socket = SocketOf(options, transport, remains.bundle);
  absl::StatusOr<Pidfd> sweep = absl::NotFoundError("no siblings");
  if (const std::optional<ShimGroup> group =
          DeadGroupOf(options, remains, runtime, socket)) {
    sweep = SweepSiblings(*group, deadline - kReserve);
  }
  RemoveFromRuntime(remains, runtime, deadline - kReserve);
  CleanUpInChild(socket, remains.bundle, deadline);
  if (!sweep.ok()) return;
  if (!WaitForExit(*sweep, deadline).ok()) {
    LogWarning("the containers beside it may not be all gone");
    (void)sweep->Signal(SIGKILL);
  }
}

// What the bundles beside `bundle` tell of their shims, in all namespaces.
std::vector<std::string> AddressesBeside(const std::string& bundle) {
  std::vector<std::string> addresses;
  const std::string state = GoJoin({bundle, "..", ".."});
  for (const std::string& space : ListDirectory(state)) {
    const std::string bundles = GoJoin({state, space});
    for (const std::string& id : ListDirectory(bundles)) {
      absl::StatusOr<std::string> address =
          Bundle(GoJoin({bundles, id})).ReadAddress();
      if (address.ok()) addresses.push_back(*std::move(address));
    }
  }
  return addresses;
}

// containerd may remove a bundle, with all that tells the name of its dead
// shim's socket, before it calls us, and asks for nothing at all after a
// `start` that was killed. The sockets that other bundles name are for those
// who clean up after them.
void RemoveForgottenSockets(const std::string& bundle,
                            const std::string& directory) {
  if (bundle.empty()) return;
  std::optional<std::vector<std::string>> addresses;
  const int removed =
      RemoveDeadSockets(directory, [&](const std::string& path) {
        if (!addresses.has_value()) addresses = AddressesBeside(bundle);
        // Whichever of our programs wrote it: their forms differ.
        return std::any_of(addresses->begin(), addresses->end(),
                           [&path](const std::string& address) {
                             return address.find(path) != std::string::npos;
                           });
      });
  if (removed == 0) return;
  LogInfo("removed sockets of dead shims", {{"count", removed}});
}

absl::Status Delete(const ShimOptions& options, const Transport& transport) {
  const absl::Time deadline = absl::Now() + kLimit;
  // It becomes part of paths.
  RETURN_IF_ERROR(Prefixed("container id", ValidateIdentifier(options.id)));

  ExitRecord record = GuessedExit();
  std::string sockets(kDefaultSocketDirectory);
  const absl::StatusOr<Target> target = FindTarget(options);
  if (!target.ok()) {
    LogWarning("nothing to clean up", {{"error", target.status()}});
  } else {
    const Bundle& bundle = target->remains.bundle;
    record = FindExitRecord(bundle);
    sockets = bundle.ReadSocketDirectory().value_or(sockets);
    if (!target->succeeded) {
      CleanUp(options, transport, target->remains, deadline);
    }
  }
  RemoveForgottenSockets(target.ok() ? target->remains.name : options.bundle,
                         sockets);

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

int RunDelete(const ShimOptions& options, const Transport& transport) {
  for (const int signal : {SIGTERM, SIGINT, SIGPIPE}) {
    ::signal(signal, SIG_IGN);
  }
  const absl::Status status = Delete(options, transport);
  if (status.ok()) return 0;
  return Fail(status);
}

}  // namespace wisp
