#include "process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"

#if defined(__SANITIZE_ADDRESS__)
#define WISP_NO_SANITIZE __attribute__((no_sanitize("address", "undefined")))
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WISP_NO_SANITIZE __attribute__((no_sanitize("address", "undefined")))
#endif
#endif
#ifndef WISP_NO_SANITIZE
#define WISP_NO_SANITIZE
#endif

namespace wisp {
namespace {

// Room for the child until it has called execve(2); below it a guard page.
constexpr size_t kStackSize = size_t{64} << 10;

// All that the child needs, made beforehand: between clone and execve it shares
// our memory and must call nothing that is not async-signal-safe.
struct ChildPlan {
  const char* path;
  char* const* argv;
  char* const* env;
  const char* directory;  // or null
  const int* fds;         // what becomes 0, 1, 2, 3 ...
  int fd_count;
  pid_t parent;
  bool new_process_group;
  bool die_with_parent;
  int error = 0;  // the child's answer, read after vfork's wait
};

WISP_NO_SANITIZE int Fail(ChildPlan* plan) {
  plan->error = errno;
  _exit(127);
}

WISP_NO_SANITIZE int RunChild(void* argument) {
  auto* plan = static_cast<ChildPlan*>(argument);
  // SIGPIPE is ignored in the shim and what it reads by signalfd is blocked.
  // Both would pass through the runtime into the container's processes.
  struct sigaction default_action = {};
  default_action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) {
    sigaction(signal, &default_action, nullptr);
  }
  if (plan->new_process_group && setpgid(0, 0) != 0) return Fail(plan);
  if (plan->die_with_parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return Fail(plan);
    if (getppid() != plan->parent) _exit(127);
  }
  if (plan->directory != nullptr && chdir(plan->directory) != 0)
    return Fail(plan);
  // First out of the way of each other, then into place.
  int moved[16];
  for (int i = 0; i < plan->fd_count; ++i) {
    moved[i] = fcntl(plan->fds[i], F_DUPFD_CLOEXEC, plan->fd_count);
    if (moved[i] < 0) return Fail(plan);
  }
  for (int i = 0; i < plan->fd_count; ++i) {
    if (dup2(moved[i], i) < 0) return Fail(plan);
  }
  // Ours are all close-on-exec; this is for what a library may have opened.
  syscall(SYS_close_range, plan->fd_count, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(plan->path, plan->argv, plan->env);
  return Fail(plan);
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) {
    pointers.push_back(const_cast<char*>(string.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// The one stack for all children: vfork holds us until it is free again.
absl::StatusOr<char*> ChildStackTop() {
  static char* const base = static_cast<char*>(
      mmap(nullptr, kStackSize + 4096, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
  if (base == MAP_FAILED) return ErrnoStatus(ENOMEM, "child stack");
  static const int guarded = mprotect(base, 4096, PROT_NONE);
  (void)guarded;
  return base + 4096 + kStackSize;
}

bool IsExecutableFile(const std::string& path, int* error) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    *error = errno;
    return false;
  }
  if (S_ISDIR(info.st_mode)) {
    *error = EISDIR;
    return false;
  }
  if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) {
    *error = errno;
    return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<Pidfd> Spawn(const SpawnOptions& options) {
  UniqueFd null;
  if (options.stdin_fd < 0 || options.stdout_fd < 0 || options.stderr_fd < 0) {
    ASSIGN_OR_RETURN(null, OpenFd("/dev/null", O_RDWR));
  }
  std::vector<int> fds;
  for (int fd : {options.stdin_fd, options.stdout_fd, options.stderr_fd}) {
    fds.push_back(fd < 0 ? null.get() : fd);
  }
  fds.insert(fds.end(), options.extra_fds.begin(), options.extra_fds.end());
  WISP_CHECK(fds.size() <= 16);

  const std::vector<char*> argv = Pointers(options.argv);
  const std::vector<char*> env = Pointers(options.env);
  ChildPlan plan = {
      .path = options.path.c_str(),
      .argv = argv.data(),
      .env = env.data(),
      .directory =
          options.directory.empty() ? nullptr : options.directory.c_str(),
      .fds = fds.data(),
      .fd_count = static_cast<int>(fds.size()),
      .parent = getpid(),
      .new_process_group = options.new_process_group,
      .die_with_parent = options.die_with_parent,
  };
  ASSIGN_OR_RETURN(char* const stack, ChildStackTop());

  // With everything blocked no handler of ours can run in the child, on our
  // memory, before it has reset the dispositions.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  int raw_pidfd = -1;
  const pid_t pid =
      clone(RunChild, stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
            &plan, &raw_pidfd);
  const int error = errno;
  sigprocmask(SIG_SETMASK, &before, nullptr);

  if (pid < 0) {
    return Unclassified(fmt::format("fork/exec {}", options.path),
                        absl::UnknownError(ErrnoText(error)));
  }
  Pidfd child(pid, UniqueFd(raw_pidfd));
  if (plan.error != 0) {
    // It never became a program, so nobody will adopt it. This wait cannot take
    // another's child away, nor does it block.
    siginfo_t info;
    waitid(P_PIDFD, static_cast<id_t>(child.fd()), &info, WEXITED);
    return absl::UnknownError(
        fmt::format("fork/exec {}: {}", options.path, ErrnoText(plan.error)));
  }
  return child;
}

absl::StatusOr<std::string> FindExecutable(const std::string& name) {
  int error = ENOENT;
  if (name.find('/') != std::string::npos) {
    if (IsExecutableFile(name, &error)) return name;
    return absl::UnknownError(fmt::format("exec: \"{}\": {} {}: {}", name,
                                          error == EACCES ? "exec" : "stat",
                                          name, ErrnoText(error)));
  }
  const char* path = getenv("PATH");
  for (absl::string_view directory :
       absl::StrSplit(path == nullptr ? "" : path, ':')) {
    // An empty element would be the current directory, which for a shim is the
    // bundle: content of the image, not a place for programs.
    if (directory.empty()) continue;
    std::string candidate = fmt::format("{}/{}", View(directory), name);
    int ignored;
    if (IsExecutableFile(candidate, &ignored)) return candidate;
  }
  return absl::NotFoundError(
      fmt::format("exec: \"{}\": executable file not found in $PATH", name));
}

std::vector<std::string> EnvironmentWithout(
    const std::vector<std::string>& names) {
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      kept.emplace_back(text);
    }
  }
  return kept;
}

}  // namespace wisp
