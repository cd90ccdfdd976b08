// The shim's socket: its name, and who owns the name.
//
// All shims of one containerd namespace and group meet under one path, which
// two `start`s may want at the same moment and a dead shim may have left. What
// changes names in the directory does so under a lock on the directory itself,
// which the kernel releases whatever becomes of its holder and which leaves no
// file behind.
#ifndef WISP_SHIM_SOCKET_H_
#define WISP_SHIM_SOCKET_H_

#include <sys/types.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

inline constexpr std::string_view kDefaultSocketDirectory = "/run/containerd/s";
// What sun_path holds besides its NUL.
inline constexpr size_t kMaxSocketPath = 107;

// path/filepath.Join of Go on Linux, Clean included: a byte of difference is
// another hash, and two shims for one pod during a migration from Go's.
std::string GoJoin(std::initializer_list<std::string_view> elements);

// DIRECTORY/hex(SHA-256(Join(address, namespace, key))).
std::string SocketPath(std::string_view directory, std::string_view address,
                       std::string_view namespace_name, std::string_view key);

// A name in the file system that is ours: a shim may unlink it only as long as
// it still is.
struct SocketName {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

struct ClaimedSocket {
  // Bound, listening, close-on-exec, blocking. Invalid: a live shim has the
  // name, and serves the group.
  UniqueFd listener;
  SocketName name;
  // A dead socket had it before: that of a shim that was killed.
  bool replaced_dead = false;
};

// Takes `path`, or finds out that a live shim has it. The socket appears under
// its name when it is already listening, so that nobody who probes it can take
// it for dead; a dead one is replaced in one step. Makes missing directories
// (0700); the socket is 0600. Error: kInvalidArgument for a path that is too
// long; others as they come. Blocks for as long as another `start` is at it.
absl::StatusOr<ClaimedSocket> ClaimSocket(const std::string& path);

// True if somebody listens on `path`. Does not wait.
bool SomebodyListens(const std::string& path);

// The name `path` has in the file system now. Nobody takes it away from a
// socket on which a process listens, so a server may ask when it starts.
absl::StatusOr<SocketName> IdentifySocket(const std::string& path);
// Unlinks it if it is still the same file.
void RemoveSocket(const SocketName& name);

// A socket that has been taken away from its name, and may come back to it:
// whoever looks for the name finds nothing, whoever has connected is there.
struct HiddenSocket {
  SocketName name;
  std::string hidden_path;
};
// Error: kNotFound if the name is no longer ours.
absl::StatusOr<HiddenSocket> HideSocket(const SocketName& name);
// Gives it its name back, unless another shim has that by now.
void ShowSocket(const HiddenSocket& hidden);
void RemoveHiddenSocket(const HiddenSocket& hidden);

// Runs `look` while no `start` of ours can take `path`, and then unlinks what
// there is of it, if nobody listens on it, or there is no such name. True if it
// ran. Waits as RemoveDeadSocket() does.
bool IfNobodyListens(const std::string& path,
                     const absl::AnyInvocable<void() const>& look);

// Unlinks the socket at `path` if nobody listens on it; waits for whoever is
// claiming a name just now. True if it did.
bool RemoveDeadSocket(const std::string& path);

// Unlinks what shims of ours that were killed have left in `directory`, under
// whatever name, but not the paths for which `spared` is true; it is asked for
// dead ones only. ClaimSocket() marks its sockets by an extended attribute, if
// the file system and our rights allow it; of others nobody can know that they
// do not come up just now. Does nothing while somebody is claiming a name.
// Returns how many it has removed.
int RemoveDeadSockets(const std::string& directory,
                      absl::FunctionRef<bool(const std::string& path)> spared);

}  // namespace wisp

#endif  // WISP_SHIM_SOCKET_H_
