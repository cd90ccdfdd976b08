#include "mount/id_map.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <iterator>

#include "fmt/format.h"
#include "mount/options.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace wisp {
namespace {

bool TakeNumber(std::string_view& text, uint32_t& number) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool TakeColon(std::string_view& text) {
  if (!text.starts_with(':')) return false;
  text.remove_prefix(1);
  return true;
}

std::string MapText(const std::vector<IdRange>& map) {
  std::string text;
  for (const IdRange& range : map) {
    fmt::format_to(std::back_inserter(text), "{} {} {}\n", range.inside,
                   range.outside, range.size);
  }
  return text;
}

// The kernel takes a map in one write and only once.
absl::Status WriteMap(const std::string& path, const std::string& text) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(path, O_WRONLY));
  if (write(fd.get(), text.data(), text.size()) !=
      static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(errno, fmt::format("write {}", path));
  }
  return absl::OkStatus();
}

// Ends and reaps the child, however its owner returns.
class HeldChild {
 public:
  HeldChild(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  HeldChild(const HeldChild&) = delete;
  HeldChild& operator=(const HeldChild&) = delete;
  ~HeldChild() {
    syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    siginfo_t info;
    while (waitid(static_cast<idtype_t>(P_PIDFD),
                  static_cast<id_t>(pidfd_.get()), &info,
                  WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
  UniqueFd pidfd_;
};

}  // namespace

absl::StatusOr<std::vector<IdRange>> ParseIdMap(std::string_view text) {
  std::vector<IdRange> map;
  for (std::string_view rest = text;;) {
    IdRange range;
    if (!TakeNumber(rest, range.inside) || !TakeColon(rest) ||
        !TakeNumber(rest, range.outside) || !TakeColon(rest) ||
        !TakeNumber(rest, range.size)) {
      return absl::InvalidArgumentError(
          fmt::format("user namespace mappings require the format "
                      "`container-id:host-id:size`: {}",
                      Quoted(text)));
    }
    if (range.size == 0) {
      return absl::InvalidArgumentError(
          fmt::format("invalid mapping {}: empty range", Quoted(text)));
    }
    map.push_back(range);
    if (rest.empty()) return map;
    if (rest[0] != ',') {
      return absl::InvalidArgumentError(
          fmt::format("invalid mapping {}", Quoted(text)));
    }
    rest.remove_prefix(1);
  }
}

absl::StatusOr<UniqueFd> MakeUserNamespace(
    const std::vector<IdRange>& uid_map, const std::vector<IdRange>& gid_map) {
  const pid_t parent = getpid();
  int raw_pidfd = -1;
  // A copy of this process (no CLONE_VM: it runs beside us) that makes two
  // system calls and sleeps. The lowest byte of the flags is the exit signal.
  const long pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_PIDFD, nullptr,
                           &raw_pidfd, nullptr, 0);
  if (pid < 0) return ErrnoStatus(errno, "clone user namespace");
  if (pid == 0) {
    // Ends with the thread that cloned it, which waits for it below. If that
    // ended before this call, we have another parent by now.
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) _exit(0);
    for (;;) pause();
  }
  HeldChild child(static_cast<pid_t>(pid), UniqueFd(raw_pidfd));
  // Unreaped until `child` goes: its number cannot become somebody else's.
  const std::string proc = fmt::format("/proc/{}", child.pid());
  RETURN_IF_ERROR(WriteMap(proc + "/uid_map", MapText(uid_map)));
  RETURN_IF_ERROR(WriteMap(proc + "/gid_map", MapText(gid_map)));
  return OpenFd(proc + "/ns/user", O_RDONLY);
}

absl::Status MakeIdMappedMount(const std::string& source,
                               const std::string& target, int user_namespace,
                               bool read_only) {
  UniqueFd tree(open_tree(AT_FDCWD, source.c_str(),
                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (!tree.valid()) {
    return ErrnoStatus(errno, fmt::format("open_tree {}", source));
  }
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  if (read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  attributes.propagation = MS_PRIVATE;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace);
  if (mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                    sizeof(attributes)) != 0) {
    return ErrnoStatus(errno, fmt::format("mount_setattr {}", source));
  }
  if (move_mount(tree.get(), "", AT_FDCWD, target.c_str(),
                 MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, fmt::format("move_mount to {}", target));
  }
  return absl::OkStatus();
}

}  // namespace wisp
