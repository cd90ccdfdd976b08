#include "shim/program.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "google/protobuf/stubs/logging.h"
#include "process/fd.h"
#include "shim/bootstrap.h"
#include "shim/daemon.h"
#include "shim/options.h"

namespace wisp {
namespace {

constexpr int kListenerFd = 3;

// Returns only if it could not begin.
absl::Status Serve(const ShimOptions& options, const Transport& transport) {
  UniqueFd listener;
  std::optional<SocketName> name;
  if (!options.socket.empty()) {
    ASSIGN_OR_RETURN(ClaimedSocket claimed, ClaimSocket(options.socket));
    if (!claimed.listener.valid()) {
      return absl::AlreadyExistsError(
          fmt::format("{} is served by another shim", options.socket));
    }
    listener = std::move(claimed.listener);
    name = std::move(claimed.name);
  } else {
    // Before anything is spawned: a listener that leaks into a container makes
    // a dead shim look alive for as long as that runs.
    if (fcntl(kListenerFd, F_SETFD, FD_CLOEXEC) != 0) {
      return ErrnoStatus(errno, "no listening socket on fd 3");
    }
    listener = UniqueFd(kListenerFd);
    if (absl::StatusOr<SocketName> found = IdentifySocket(options.socket_name);
        found.ok()) {
      name = *std::move(found);
    }
  }
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Daemon> daemon,
      Daemon::Create(options, transport, std::move(listener), std::move(name)));
  // Straight out: a container that goes on without us keeps what a destructor
  // would take from it, its logger for one; and a thread may be stuck in the
  // kernel.
  _exit(daemon->Run());
}

}  // namespace

int RunProgram(const Transport& transport, int argc, char** argv,
               char** environment) {
  // Threads come and go; an arena for each would stay.
  mallopt(M_ARENA_MAX, 1);
  // What is large goes back to the kernel when it is freed. Without this glibc
  // would raise the limit with each such piece.
  mallopt(M_MMAP_THRESHOLD, 32 << 10);
  // What it has to say on stderr would become part of the answer of `start`.
  google::protobuf::SetLogHandler(nullptr);
  const absl::StatusOr<ShimOptions> options =
      ParseOptions(argc, argv, environment);
  if (!options.ok()) {
    (void)Fail(options.status());
    return 2;
  }
  if (options->help) {
    const std::string usage = Usage(*options);
    (void)!write(STDERR_FILENO, usage.data(), usage.size());
    return 0;
  }
  if (options->version) return RunVersion(*options);
  if (options->info) return RunInfo(*options);
  if (options->action == ShimOptions::Action::kInspect) {
    return RunInspect(*options, transport);
  }
  if (const absl::Status valid = CheckNamespace(*options); !valid.ok()) {
    return Fail(valid);
  }
  switch (options->action) {
    case ShimOptions::Action::kStart:
      return RunStart(*options, transport);
    case ShimOptions::Action::kDelete:
      return RunDelete(*options, transport);
    case ShimOptions::Action::kInspect:
    case ShimOptions::Action::kServe:
      break;
  }
  return Fail(Serve(*options, transport));
}

}  // namespace wisp
