#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/pidfd.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/kernel.h"
#include "shim/run_command.h"
#include "shim/server_process.h"
#include "shim/siblings.h"
#include "shim/socket.h"
#include "shim/start_request.h"
#include "shim/transport.h"

namespace wisp {
namespace {

constexpr size_t kMostInput = size_t{10} << 20;
constexpr absl::Duration kSweepLimit = absl::Seconds(4);
constexpr absl::Duration kProbeLimit = absl::Seconds(2);
// How often a live shim may go away under our hands before we give up.
constexpr int kClaimAttempts = 5;

// What has been made so far, and is undone unless it all came to an end: no
// daemon will ever ask for a shim whose `start` failed.
class Undo {
 public:
  explicit Undo(const Bundle& bundle) : bundle_(bundle) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    if (!armed_) return;
    // The name first: a server that dies must not be found by another `start`.
    if (socket_.has_value()) RemoveSocket(*socket_);
    if (server_.valid()) {
      (void)server_.Signal(SIGKILL);
      siginfo_t info;
      waitid(P_PIDFD, static_cast<id_t>(server_.fd()), &info, WEXITED);
    }
    if (address_) bundle_.RemoveAddress();
  }

  void Socket(SocketName name) { socket_ = std::move(name); }
  void Server(Pidfd server) { server_ = std::move(server); }
  void Address() { address_ = true; }
  void Disarm() { armed_ = false; }
  pid_t server_pid() const { return server_.pid(); }

 private:
  const Bundle& bundle_;
  bool armed_ = true;
  std::optional<SocketName> socket_;
  Pidfd server_;
  bool address_ = false;
};

struct Claim {
  ClaimedSocket socket;
  int version = 3;
};

// Our own socket, or the version that the group's shim speaks.
absl::StatusOr<Claim> ClaimOrProbe(const ShimOptions& options,
                                   const StartRequest& request,
                                   const Transport& transport,
                                   const std::string& path) {
  for (int attempt = 0; attempt < kClaimAttempts; ++attempt) {
    Claim claim;
    ASSIGN_OR_RETURN(claim.socket, ClaimSocket(path));
    // The other answer has no room for a version.
    if (claim.socket.listener.valid() ||
        request.reply == StartRequest::Reply::kAddress) {
      return claim;
    }
    const absl::StatusOr<int> version = transport.probe_version(
        path, options.namespace_name, options.id, kProbeLimit);
    if (version.ok()) {
      claim.version = *version;
      return claim;
    }
  }
  return absl::UnavailableError(
      fmt::format("{}: the shim there comes and goes", path));
}

absl::Status StartServer(const ShimOptions& options,
                         const StartRequest& request,
                         const ClaimedSocket& socket, Undo* undo) {
  ASSIGN_OR_RETURN(
      Pidfd server,
      SpawnServer(ServerArguments(options, request, socket.name.path), request,
                  socket.listener.get(), !options.sched_core.empty()));
  undo->Server(std::move(server));
  if (!request.runtime_options.shim_cgroup.empty()) {
    RETURN_IF_ERROR(
        MoveToCgroup(undo->server_pid(), request.runtime_options.shim_cgroup));
  }
  // Our parent is the daemon, which waits for us.
  return Prefixed("oom score", AdjustOomScore(undo->server_pid(), getppid()));
}

// A shim of the group was killed: a pod that starts again would have its
// containers beside the new ones. No matter how far this gets.
void SweepAfterDeadShim(const ShimOptions& options, const std::string& group,
                        const std::string& socket) {
  const absl::Time deadline = absl::Now() + kSweepLimit;
  const std::unique_ptr<char, void (*)(void*)> here(realpath(".", nullptr),
                                                    free);
  if (here == nullptr) return;
  const absl::StatusOr<Pidfd> sweep =
      SweepSiblings({.bundles = GoJoin({here.get(), ".."}),
                     .namespace_name = options.namespace_name,
                     .key = group,
                     .socket = socket,
                     .own_id = options.id,
                     .claimed = true},
                    deadline);
  if (sweep.ok() && !WaitForExit(*sweep, deadline).ok()) {
    (void)sweep->Signal(SIGKILL);
  }
}

absl::Status Start(const ShimOptions& options, const Transport& transport) {
  if (options.id.empty()) {
    return absl::InvalidArgumentError("container id cannot be empty");
  }
  RETURN_IF_ERROR(CheckKernel());
  // A daemon may start us without any stdin.
  const absl::StatusOr<std::string> input = ReadAll(STDIN_FILENO, kMostInput);
  if (absl::IsOutOfRange(input.status())) {
    return Prefixed("stdin", input.status());
  }
  ASSIGN_OR_RETURN(const StartRequest request,
                   ParseStartRequest(options, input.ok() ? *input : ""));
  if (transport.check_daemon != nullptr) {
    RETURN_IF_ERROR(transport.check_daemon(options, request));
  }

  const Bundle bundle(".");
  ASSIGN_OR_RETURN(const Json config, bundle.ReadConfig());
  ASSIGN_OR_RETURN(std::optional<std::string> group, GroupOfConfig(config));
  std::string directory(kDefaultSocketDirectory);
  if (!request.socket_directory.empty()) {
    directory = request.socket_directory;
    RETURN_IF_ERROR(bundle.LinkSocketDirectory(directory));
  }
  const std::string path =
      SocketPath(directory, request.address, options.namespace_name,
                 transport.SocketKey(group.value_or(options.id)));
  const std::string address = transport.format_address(path);

  Undo undo(bundle);
  ASSIGN_OR_RETURN(const Claim claim,
                   ClaimOrProbe(options, request, transport, path));
  if (claim.socket.listener.valid()) undo.Socket(claim.socket.name);
  if (claim.socket.replaced_dead && group.has_value()) {
    SweepAfterDeadShim(options, *group, path);
  }
  undo.Address();
  // 1.x finds the shim by this file after a restart, later ones if they died
  // before they had written their own.
  RETURN_IF_ERROR(bundle.WriteAddress(address));
  if (claim.socket.listener.valid()) {
    RETURN_IF_ERROR(StartServer(options, request, claim.socket, &undo));
  }
  const std::string reply =
      request.reply == StartRequest::Reply::kAddress
          ? address
          : FormatBootstrapResult(claim.version,
                                  fmt::format("{}{}", transport.scheme, path),
                                  transport.protocol);
  RETURN_IF_ERROR(Prefixed("stdout", WriteAll(STDOUT_FILENO, reply)));
  undo.Disarm();
  return absl::OkStatus();
}

}  // namespace

int RunStart(const ShimOptions& options, const Transport& transport) {
  // As Go's helper does, which swallows them. The server starts with defaults.
  for (const int signal : {SIGTERM, SIGINT, SIGPIPE}) {
    ::signal(signal, SIG_IGN);
  }
  const absl::Status status = Start(options, transport);
  if (status.ok()) return 0;
  return Fail(status);
}

}  // namespace wisp
