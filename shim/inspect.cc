// `inspect`: asks a running shim what it is doing.
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/identity.h"
#include "shim/state_dump.h"
#include "shim/transport.h"
#include "shim/ttrpc/sync_call.h"

namespace wisp {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(10);
constexpr std::string_view kScheme = "unix://";

std::string WithoutScheme(const std::string& address) {
  return address.starts_with(kScheme) ? address.substr(kScheme.size())
                                      : address;
}

// A server's command line has the name of its socket.
absl::StatusOr<std::string> SocketOfProcess(int64_t pid) {
  ASSIGN_OR_RETURN(const std::string text,
                   ReadFile(fmt::format("/proc/{}/cmdline", pid)));
  const std::vector<std::string> words = absl::StrSplit(text, '\0');
  for (const std::string_view flag : {"-socket-name", "-socket"}) {
    const auto found = std::find(words.begin(), words.end(), flag);
    if (found != words.end() && found + 1 != words.end()) return found[1];
  }
  return absl::InvalidArgumentError(
      fmt::format("process {} is no shim of ours", pid));
}

absl::StatusOr<std::string> SocketOf(const std::string& target,
                                     const Transport& transport) {
  int64_t pid = 0;
  if (absl::SimpleAtoi(target, &pid)) return SocketOfProcess(pid);
  const std::string path = WithoutScheme(target);
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  if (S_ISSOCK(info.st_mode)) return path;
  if (!S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(
        fmt::format("{} is neither a socket nor a bundle", path));
  }
  ASSIGN_OR_RETURN(const std::string address, Bundle(path).ReadAddress());
  std::string socket = transport.parse_address(address);
  if (socket.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "the shim of {} does not speak {}", path, transport.protocol));
  }
  return socket;
}

absl::StatusOr<std::string> Inspect(const std::string& target,
                                    const Transport& transport) {
  if (target.empty()) {
    return absl::InvalidArgumentError(
        "inspect what? The socket, the bundle or the pid of a shim");
  }
  ASSIGN_OR_RETURN(const std::string path, SocketOf(target, transport));
  absl::StatusOr<UniqueFd> fd = ConnectToShim(path);
  if (!fd.ok()) return Prefixed(path, fd.status());
  // What we print could be anybody's.
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoStatus(errno, "SO_PEERCRED");
  }
  if (peer.uid != geteuid()) {
    return absl::PermissionDeniedError(
        fmt::format("{} belongs to user {}", path, peer.uid));
  }
  absl::StatusOr<std::string> dump = transport.call(
      *std::move(fd), kDumpService, kDumpMethod, absl::Now() + kLimit);
  if (!dump.ok()) {
    // Whoever was given a socket or a pid may have the wrong one of the
    // programs.
    return Prefixed(fmt::format("{} (pid {}), asked over {}", path, peer.pid,
                                transport.protocol),
                    dump.status());
  }
  return dump;
}

}  // namespace

int RunInspect(const ShimOptions& options, const Transport& transport) {
  const absl::StatusOr<std::string> dump = Inspect(options.target, transport);
  if (dump.ok()) return WriteAll(STDOUT_FILENO, *dump).ok() ? 0 : 1;
  (void)WriteAll(STDERR_FILENO,
                 fmt::format("{}: {}\n", kRuntimeName, Message(dump.status())));
  return 1;
}

}  // namespace wisp
