#include "shim/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <vector>

#include "fmt/format.h"

namespace wisp {
namespace {

// More than any net.core.somaxconn: the kernel takes the lesser of the two. The
// backlog holds the daemon's connection until the server has come up.
constexpr int kBacklog = 1 << 20;

// On sockets that were made listening before they had their name. What starts
// with `trusted.` no container can set or see.
constexpr const char* kMark = "trusted.wisp.socket";
// What all names that a socket has in its life begin with: a hash but for its
// last digit, see ClaimSocket() and HideSocket().
constexpr size_t kCommonName = 63;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status MakeDirectories(const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos;
       end = path.find('/', end + 1)) {
    mkdir(path.substr(0, end).c_str(), 0700);
  }
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("mkdir {}", path));
  }
  return absl::OkStatus();
}

// The lock on all names in `directory`, held as long as the fd. Close-on-exec,
// so no server inherits it.
absl::StatusOr<UniqueFd> LockDirectory(const std::string& directory) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(directory, O_RDONLY | O_DIRECTORY));
  while (flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      return ErrnoStatus(errno, fmt::format("lock {}", directory));
    }
  }
  return fd;
}

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  if (path.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(
        fmt::format("socket path {} has {} bytes, {} more than the kernel "
                    "takes: a shorter socket_dir is needed",
                    path, path.size(), path.size() - kMaxSocketPath));
  }
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  return fd;
}

absl::StatusOr<UniqueFd> ListenAt(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  unlink(path.c_str());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0) {
    return ErrnoStatus(errno, fmt::format("bind {}", path));
  }
  // Until listen(2) nobody can connect, whatever the mode.
  if (chmod(path.c_str(), 0600) != 0 || listen(fd.get(), kBacklog) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return ErrnoStatus(error, fmt::format("listen on {}", path));
  }
  return fd;
}

bool SameFile(const SocketName& name, const struct stat& info) {
  return name.device == info.st_dev && name.inode == info.st_ino;
}

// The common beginnings of the names of all sockets of this network namespace.
std::set<std::string> BoundNames() {
  std::set<std::string> names;
  const absl::StatusOr<std::string> table = ReadFile("/proc/net/unix");
  if (!table.ok()) return names;
  for (size_t begin = 0, end; begin < table->size(); begin = end + 1) {
    end = table->find('\n', begin);
    if (end == std::string::npos) end = table->size();
    const std::string line = table->substr(begin, end - begin);
    const size_t slash = line.rfind('/');
    if (slash != std::string::npos) {
      names.insert(line.substr(slash + 1, kCommonName));
    }
  }
  return names;
}

// Puts the socket at `temporary` under `path`. False: a live one is there.
absl::StatusOr<bool> Publish(const std::string& temporary,
                             const std::string& path, bool* replaced_dead) {
  // Twice would do among ourselves, under the lock. Go's shims know no lock.
  for (int attempt = 0; attempt < 8; ++attempt) {
    if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(),
                  RENAME_NOREPLACE) == 0) {
      return true;
    }
    if (errno != EEXIST)
      return ErrnoStatus(errno, fmt::format("bind {}", path));
    const absl::StatusOr<SocketName> probed = IdentifySocket(path);
    if (!probed.ok()) continue;
    if (SomebodyListens(path)) return false;
    // It is dead, but is it still there? Change places and look at what we got.
    if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(),
                  RENAME_EXCHANGE) != 0) {
      continue;
    }
    struct stat displaced;
    if (lstat(temporary.c_str(), &displaced) == 0 &&
        !SameFile(*probed, displaced)) {
      renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(),
                RENAME_EXCHANGE);
      continue;
    }
    unlink(temporary.c_str());
    *replaced_dead = true;
    return true;
  }
  return absl::UnknownError(
      fmt::format("bind {}: the name changes hands all the time", path));
}

}  // namespace

std::string GoJoin(std::initializer_list<std::string_view> elements) {
  std::string joined;
  for (const std::string_view element : elements) {
    if (joined.empty()) {
      joined = element;  // leading empty elements leave no slash
    } else {
      joined += '/';
      joined += element;
    }
  }
  if (joined.empty()) return "";

  const bool rooted = joined[0] == '/';
  std::vector<std::string_view> parts;
  std::string_view rest = joined;
  while (!rest.empty()) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    rest.remove_prefix(slash == rest.npos ? rest.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty() && parts.back() != "..") {
      parts.pop_back();
    } else if (!rooted) {
      parts.push_back(part);
    }
  }
  std::string clean = rooted ? "/" : "";
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) clean += '/';
    clean += parts[i];
  }
  return clean.empty() ? "." : clean;
}

std::string SocketPath(std::string_view directory, std::string_view address,
                       std::string_view namespace_name, std::string_view key) {
  const std::string input = GoJoin({address, namespace_name, key});
  SHA2_CTX context;
  SHA256Init(&context);
  SHA256Update(&context, reinterpret_cast<const uint8_t*>(input.data()),
               input.size());
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256Final(digest, &context);
  std::string path = fmt::format("{}/", directory);
  for (const uint8_t byte : digest) path += fmt::format("{:02x}", byte);
  return path;
}

absl::StatusOr<ClaimedSocket> ClaimSocket(const std::string& path) {
  RETURN_IF_ERROR(Address(path).status());
  const std::string directory = DirectoryOf(path);
  RETURN_IF_ERROR(MakeDirectories(directory));
  ASSIGN_OR_RETURN(const UniqueFd lock, LockDirectory(directory));

  ClaimedSocket claimed;
  claimed.name.path = path;
  // Whoever has the lock has this name. No longer than the final one, so that
  // it fits wherever that one does; a `start` killed just now leaves at most
  // one behind, which the next overwrites.
  std::string temporary = path;
  temporary.back() = '~';
  ASSIGN_OR_RETURN(UniqueFd listener, ListenAt(temporary));
  (void)lsetxattr(temporary.c_str(), kMark, nullptr, 0, 0);
  absl::StatusOr<SocketName> name = IdentifySocket(temporary);
  absl::StatusOr<bool> ours =
      name.ok() ? Publish(temporary, path, &claimed.replaced_dead)
                : absl::StatusOr<bool>(name.status());
  if (!ours.ok() || !*ours) unlink(temporary.c_str());
  if (!ours.ok()) return ours.status();
  if (*ours) {
    claimed.listener = std::move(listener);
    claimed.name = {path, name->device, name->inode};
  }
  return claimed;
}

bool SomebodyListens(const std::string& path) {
  const absl::StatusOr<sockaddr_un> address = Address(path);
  if (!address.ok()) return false;
  const UniqueFd fd(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return true;  // out of fds, say: then nothing is certain
  int result;
  do {
    result = connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address),
                     sizeof(*address));
  } while (result != 0 && errno == EINTR);
  // EAGAIN: its backlog is full, so there is somebody who does not accept fast
  // enough. A connection to a unix socket is made at once or not at all.
  return result == 0 || errno == EAGAIN;
}

absl::StatusOr<SocketName> IdentifySocket(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return ErrnoStatus(errno, fmt::format("stat {}", path));
  }
  return SocketName{path, info.st_dev, info.st_ino};
}

void RemoveSocket(const SocketName& name) {
  struct stat info;
  if (name.path.empty() || lstat(name.path.c_str(), &info) != 0) return;
  if (SameFile(name, info)) unlink(name.path.c_str());
}

absl::StatusOr<HiddenSocket> HideSocket(const SocketName& name) {
  // No lock: nobody replaces a socket on which somebody listens, and to wait
  // for a `start` that is at it would stop the loop.
  struct stat info;
  if (name.path.empty() || lstat(name.path.c_str(), &info) != 0 ||
      !SameFile(name, info)) {
    return absl::NotFoundError(
        fmt::format("{} is another's socket", name.path));
  }
  HiddenSocket hidden = {name, fmt::format("{}.{}", name.path, getpid())};
  if (rename(name.path.c_str(), hidden.hidden_path.c_str()) != 0) {
    return ErrnoStatus(errno, fmt::format("rename {}", name.path));
  }
  return hidden;
}

void ShowSocket(const HiddenSocket& hidden) {
  if (renameat2(AT_FDCWD, hidden.hidden_path.c_str(), AT_FDCWD,
                hidden.name.path.c_str(), RENAME_NOREPLACE) != 0) {
    RemoveHiddenSocket(hidden);
  }
}

void RemoveHiddenSocket(const HiddenSocket& hidden) {
  unlink(hidden.hidden_path.c_str());
}

bool IfNobodyListens(const std::string& path,
                     const absl::AnyInvocable<void() const>& look) {
  const absl::StatusOr<UniqueFd> lock = LockDirectory(DirectoryOf(path));
  if (!lock.ok() || SomebodyListens(path)) return false;
  look();
  unlink(path.c_str());
  return true;
}

bool RemoveDeadSocket(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  // Between our probe and our unlink no `start` may put a live one there.
  const absl::StatusOr<UniqueFd> lock = LockDirectory(DirectoryOf(path));
  if (!lock.ok() || SomebodyListens(path)) return false;
  return unlink(path.c_str()) == 0;
}

int RemoveDeadSockets(const std::string& directory,
                      absl::FunctionRef<bool(const std::string& path)> spared) {
  const absl::StatusOr<UniqueFd> lock =
      OpenFd(directory, O_RDONLY | O_DIRECTORY);
  if (!lock.ok() || flock(lock->get(), LOCK_EX | LOCK_NB) != 0) return 0;
  std::optional<std::set<std::string>> bound;
  int removed = 0;
  for (const std::string& name : ListDirectory(directory)) {
    const std::string path = fmt::format("{}/{}", directory, name);
    if (lgetxattr(path.c_str(), kMark, nullptr, 0) < 0) continue;
    // To connect wakes a shim, and there may be hundreds.
    if (!bound.has_value()) bound = BoundNames();
    if (bound->contains(name.substr(0, kCommonName)) || SomebodyListens(path)) {
      continue;
    }
    if (!spared(path) && unlink(path.c_str()) == 0) ++removed;
  }
  return removed;
}

}  // namespace wisp
