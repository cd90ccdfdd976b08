#include "shim/server_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/spawn.h"

namespace wisp {
namespace {

// linux/prctl.h, from 5.14 on.
constexpr int kPrSchedCore = 62;
constexpr int kSchedCoreCreate = 1;
constexpr int kPidTypeProcessGroup = 2;

absl::Status WriteKernelFile(const std::string& path, std::string_view text) {
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenFd(path, O_WRONLY));
  return Prefixed(path, WriteAll(fd.get(), text));
}

bool InUserNamespace() {
  const absl::StatusOr<std::string> map =
      ReadFile("/proc/self/uid_map", size_t{64} << 10);
  if (!map.ok()) return false;
  const std::vector<std::string> words =
      absl::StrSplit(*map, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  return words != std::vector<std::string>{"0", "0", "4294967295"};
}

}  // namespace

std::vector<std::string> ServerArguments(const ShimOptions& options,
                                         const StartRequest& request,
                                         const std::string& socket_path) {
  std::vector<std::string> arguments = {
      options.program, "-namespace",   options.namespace_name,
      "-id",           options.id,     "-address",
      request.address, "-socket-name", socket_path};
  if (request.debug) arguments.push_back("-debug");
  return arguments;
}

absl::StatusOr<Pidfd> SpawnServer(const std::vector<std::string>& arguments,
                                  const StartRequest& request, int listener,
                                  bool core_scheduling) {
  // For our own process group: the server inherits the cookie by birth.
  if (core_scheduling &&
      prctl(kPrSchedCore, kSchedCoreCreate, 0, kPidTypeProcessGroup, 0) != 0) {
    return ErrnoStatus(errno, "enable core scheduling");
  }
  SpawnOptions spawn;
  // Whatever the daemon found under our name may have been replaced by now.
  spawn.path = "/proc/self/exe";
  spawn.argv = arguments;
  spawn.env =
      EnvironmentWithout({"TTRPC_ADDRESS", "GOMAXPROCS", "NOTIFY_SOCKET"});
  spawn.env.push_back(fmt::format("TTRPC_ADDRESS={}", request.ttrpc_address));
  // For the runtime, which inherits it: what it sees under Go's shim.
  spawn.env.emplace_back("GOMAXPROCS=4");
  spawn.extra_fds = {listener};
  spawn.new_process_group = true;
  spawn.die_with_parent = false;
  return Spawn(spawn);
}

absl::Status MoveToCgroup(pid_t pid, const std::string& path) {
  ASSIGN_OR_RETURN(const CgroupHost host, DetectCgroupHost());
  const absl::StatusOr<Cgroup> cgroup = Cgroup::Find(host, path);
  if (!cgroup.ok()) return Prefixed("shim cgroup", cgroup.status());
  return Prefixed("shim cgroup", cgroup->AddProcess(pid));
}

absl::Status AdjustOomScore(pid_t pid, pid_t daemon) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadFile(fmt::format("/proc/{}/oom_score_adj", daemon)));
  int score = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &score)) {
    return absl::UnknownError(fmt::format("oom_score_adj is \"{}\"", text));
  }
  const absl::Status status =
      WriteKernelFile(fmt::format("/proc/{}/oom_score_adj", pid),
                      fmt::to_string(std::clamp(score + 1, -1000, 1000)));
  if (absl::IsPermissionDenied(status) &&
      (geteuid() != 0 || InUserNamespace())) {
    return absl::OkStatus();
  }
  return status;
}

}  // namespace wisp
