#include "shim/siblings.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "mount/unmount.h"
#include "process/fd.h"
#include "shim/bundle.h"
#include "shim/options.h"
#include "shim/remains.h"
#include "shim/run_command.h"
#include "shim/socket.h"

namespace wisp {
namespace {

constexpr absl::Duration kRetryLock = absl::Milliseconds(20);
// What the runtime leaves to the unmounting.
constexpr absl::Duration kReserve = absl::Milliseconds(300);

// What `start` or the daemon has written down, cheaper to read than a config.
// A member that was started by the daemon itself may have neither.
bool MayBeOf(const ShimGroup& group, const Bundle& bundle) {
  const absl::StatusOr<std::string> address = bundle.ReadAddress();
  if (address.ok()) return absl::StrContains(*address, group.socket);
  const absl::StatusOr<std::string> bootstrap =
      ReadFile(bundle.Path("bootstrap.json"), size_t{1} << 20);
  return !bootstrap.ok() || absl::StrContains(*bootstrap, group.socket);
}

bool IsOf(const ShimGroup& group, const Bundle& bundle) {
  if (!MayBeOf(group, bundle)) return false;
  const absl::StatusOr<Json> config = bundle.ReadConfig();
  if (!config.ok()) return false;
  const absl::StatusOr<std::optional<std::string>> key = GroupOfConfig(*config);
  return key.ok() && *key == group.key;
}

// By the program it runs: ours, whatever it is called, or one that has the name
// of a shim. A server's own name (comm) is "exe".
bool IsShim(std::string_view pid) {
  const std::string exe = fmt::format("/proc/{}/exe", pid);
  struct stat program;
  struct stat ours;
  if (stat(exe.c_str(), &program) == 0 && stat("/proc/self/exe", &ours) == 0 &&
      program.st_dev == ours.st_dev && program.st_ino == ours.st_ino) {
    return true;
  }
  char target[4096];
  const ssize_t length = readlink(exe.c_str(), target, sizeof(target));
  if (length <= 0) return false;
  const std::string_view path(target, static_cast<size_t>(length));
  return path.substr(path.rfind('/') + 1).starts_with("containerd-shim");
}

// The socket's name may have been taken from a shim that lives. Then that is
// init's parent, while the orphans of a dead one have init(1) or a service.
bool HasLiveShim(const Bundle& bundle) {
  constexpr std::string_view kParent = "\nPPid:\t";
  const absl::StatusOr<pid_t> init = bundle.ReadInitPid();
  if (!init.ok()) return false;
  const absl::StatusOr<std::string> status =
      ReadFile(fmt::format("/proc/{}/status", *init));
  if (!status.ok()) return false;
  const size_t found = status->find(kParent);
  if (found == std::string::npos) return false;
  const size_t begin = found + kParent.size();
  return IsShim(std::string_view(*status).substr(
      begin, status->find('\n', begin) - begin));
}

std::vector<Remains> FindSiblings(const ShimGroup& group) {
  std::vector<Remains> siblings;
  for (const std::string& id : ListDirectory(group.bundles)) {
    if (id == group.own_id || !ValidateIdentifier(id).ok()) continue;
    const std::string path = fmt::format("{}/{}", group.bundles, id);
    Remains remains = {Bundle(path), path, id, group.namespace_name};
    if (!IsOf(group, remains.bundle) || HasLiveShim(remains.bundle)) continue;
    // One that is only about to be created is its new shim's.
    if (!InspectRuntime(remains).ours()) continue;
    siblings.push_back(std::move(remains));
  }
  return siblings;
}

void SilenceStdio() {
  const absl::StatusOr<UniqueFd> null = OpenFd("/dev/null", O_RDWR);
  if (!null.ok()) return;
  for (int fd = 0; fd <= 2; ++fd) dup2(null->get(), fd);
}

void CleanUp(const Remains& remains, absl::Time deadline) {
  (void)FindExitRecord(remains.bundle);
  RemoveFromRuntime(remains, InspectRuntime(remains), deadline - kReserve);
  (void)UnmountRecursive(remains.bundle.rootfs(), MountContext());
}

// Runs `work` in a child that does not outlive us; the parent gets its pidfd.
template <typename Work>
absl::StatusOr<Pidfd> InChild(Work work) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    SilenceStdio();
    work();
    _exit(0);
  }
  return Pidfd::Open(pid);
}

// Each `delete` of the group sweeps; the first finds it all, and the others
// nothing any more. The lock goes with the process.
absl::StatusOr<UniqueFd> LockBundles(const std::string& bundles,
                                     absl::Time deadline) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(bundles, O_RDONLY | O_DIRECTORY));
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError("another sweeps");
    }
    absl::SleepFor(kRetryLock);
  }
  return fd;
}

void Sweep(const ShimGroup& group, absl::Time deadline) {
  const absl::StatusOr<UniqueFd> lock = LockBundles(group.bundles, deadline);
  if (!lock.ok()) return;
  // Who is found while no new shim can take the socket's name belongs to the
  // dead one, whatever starts afterwards.
  std::vector<Remains> siblings;
  const auto find = [&] { siblings = FindSiblings(group); };
  if (group.claimed) {
    find();
  } else if (!IfNobodyListens(group.socket, find)) {
    return;
  }
  // Together: a runtime that hangs has to hang for one of them only.
  std::vector<Pidfd> children;
  for (const Remains& remains : siblings) {
    absl::StatusOr<Pidfd> child = InChild([&] { CleanUp(remains, deadline); });
    if (child.ok()) children.push_back(*std::move(child));
  }
  for (const Pidfd& child : children) (void)WaitForExit(child, deadline);
}

}  // namespace

absl::StatusOr<Pidfd> SweepSiblings(const ShimGroup& group,
                                    absl::Time deadline) {
  return InChild([&] { Sweep(group, deadline); });
}

}  // namespace wisp
