// An OCI runtime for tests: runc's command line, real processes in a real pid
// namespace, nothing else of a container, and gates to order events.
//
// $FAKE_RUNC_CONTROL is a directory. For a verb V and a container or exec I:
//   V.I.before, V.before   a fifo: wait until somebody has opened and closed
//   it,
//                          then go on (before anything is done)
//   V.I.after, V.after     the same, when all is done but the exit
//   V.I.fail, V.fail       log the content as an error and exit with 1
//   exec.I.outside         the process stays out of the container's pid
//                          namespace, so that it can outlive init
//   calls                  gets a line for each run: V I PID
//   gates                  gets a line for each wait: the gate's name
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "fmt/format.h"
#include "process/fd.h"
#include "process/json.h"

#ifdef __SANITIZE_ADDRESS__
// The thread that looks for leaks cannot be made when the pid namespace of our
// children has died, and then it is waited for without end.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return 1; }
#endif

namespace wisp {
namespace {

struct Command {
  std::string root;
  std::string log;
  std::string verb;
  std::string bundle;
  std::string pid_file;
  std::string process_file;
  std::string console_socket;
  std::string id;  // the last argument but the signal of kill
  std::string signal;
  bool all = false;
  bool force = false;

  std::string state() const { return root + "/" + id; }
  // What gates are named after: the exec's id for an exec.
  std::string subject() const {
    if (verb != "exec") return id;
    const size_t slash = pid_file.rfind('/');
    return pid_file.substr(slash + 1, pid_file.size() - slash - 1 - 4);
  }
};

Command Parse(int argc, char** argv) {
  Command command;
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto value = [&] {
      return std::string(i + 1 < argc ? argv[++i] : "");
    };
    if (word == "--root") {
      command.root = value();
    } else if (word == "--log") {
      command.log = value();
    } else if (word == "--log-format" || word == "--image-path" ||
               word == "--work-path" || word == "--format") {
      value();
    } else if (word == "--console-socket") {
      command.console_socket = value();
    } else if (word == "--bundle") {
      command.bundle = value();
    } else if (word == "--pid-file") {
      command.pid_file = value();
    } else if (word == "--process") {
      command.process_file = value();
    } else if (word == "--all") {
      command.all = true;
    } else if (word == "--force") {
      command.force = true;
    } else if (!word.starts_with("-")) {
      words.emplace_back(word);
    }
  }
  if (!words.empty()) command.verb = words[0];
  if (words.size() > 1) command.id = words[1];
  if (words.size() > 2) command.signal = words[2];
  return command;
}

std::string ControlPath(const std::string& name) {
  const char* const directory = getenv("FAKE_RUNC_CONTROL");
  return directory == nullptr ? "" : fmt::format("{}/{}", directory, name);
}

// The path of the control file of this run, or of its verb; empty if neither.
std::string Control(const Command& command, std::string_view what) {
  for (const std::string& name :
       {fmt::format("{}.{}.{}", command.verb, command.subject(), what),
        fmt::format("{}.{}", command.verb, what)}) {
    const std::string path = ControlPath(name);
    if (!path.empty() && access(path.c_str(), F_OK) == 0) return path;
  }
  return "";
}

void AppendLine(const std::string& path, std::string_view line) {
  if (path.empty()) return;
  if (absl::StatusOr<UniqueFd> file =
          OpenFd(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
      file.ok()) {
    (void)WriteAll(file->get(), fmt::format("{}\n", line));
  }
}

void Pass(const Command& command, std::string_view gate) {
  const std::string path = Control(command, gate);
  if (path.empty()) return;
  AppendLine(ControlPath("gates"), path.substr(path.rfind('/') + 1));
  // Opened without waiting: who has opened the gate just now has no more end.
  const absl::StatusOr<UniqueFd> fifo = OpenFd(path, O_RDONLY | O_NONBLOCK);
  if (!fifo.ok()) return;
  fcntl(fifo->get(), F_SETFL, 0);
  (void)ReadAll(fifo->get());
}

[[noreturn]] void Die(const Command& command, std::string_view message) {
  Json line = Json::Object();
  line.Set("level", "error");
  line.Set("msg", message);
  line.Set("time", "2026-01-02T03:04:05Z");
  if (absl::StatusOr<UniqueFd> log =
          OpenFd(command.log, O_WRONLY | O_APPEND | O_CREAT, 0600);
      log.ok()) {
    (void)WriteAll(log->get(), line.Dump() + "\n");
  }
  fmt::print(stderr, "{}\n", message);
  exit(1);
}

pid_t InitOf(const Command& command) {
  const absl::StatusOr<std::string> pid = ReadFile(command.state() + "/pid");
  return pid.ok() ? atoi(pid->c_str()) : 0;
}

[[noreturn]] void Become(const JsonView& process) {
  std::vector<std::string> args;
  for (const JsonView& arg : process["args"].elements()) {
    args.push_back(arg.StringOr(""));
  }
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  // The shim's children get default signals and an empty mask; nothing to undo.
  execvp(argv[0], argv.data());
  _exit(127);
}

void WritePidFile(const Command& command, pid_t pid) {
  if (!WriteFileAtomically(command.pid_file, std::to_string(pid), 0644, false)
           .ok()) {
    Die(command, "cannot write the pid file");
  }
}

// A pty for the process, if one is asked for. Its master goes to the shim.
struct Terminal {
  UniqueFd slave;

  static Terminal Open(const Command& command);
  // In the process, as leader of a session.
  void Attach() const {
    if (!slave.valid()) return;
    ioctl(slave.get(), TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; ++fd) dup2(slave.get(), fd);
  }
};

Terminal Terminal::Open(const Command& command) {
  Terminal terminal;
  if (command.console_socket.empty()) return terminal;
  int master_fd;
  int slave_fd;
  if (openpty(&master_fd, &slave_fd, nullptr, nullptr, nullptr) != 0) {
    Die(command, "openpty");
  }
  UniqueFd master(master_fd);
  terminal.slave.Reset(slave_fd);
  fcntl(master_fd, F_SETFD, FD_CLOEXEC);
  fcntl(slave_fd, F_SETFD, FD_CLOEXEC);
  const UniqueFd connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  command.console_socket.copy(address.sun_path, sizeof(address.sun_path) - 1);
  char name[] = "/dev/ptmx";
  iovec data = {.iov_base = name, .iov_len = sizeof(name) - 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &master_fd, sizeof(int));
  if (connect(connection.get(), reinterpret_cast<sockaddr*>(&address),
              sizeof(address)) != 0 ||
      sendmsg(connection.get(), &message, 0) < 0) {
    Die(command, "cannot send the terminal");
  }
  return terminal;
}

// A child that does nothing before its parent has taken note of it: whoever
// kills the runtime in between has killed both. `body` does not return.
template <typename Body>
pid_t ForkHeld(UniqueFd* release, Body body) {
  absl::StatusOr<Pipe> hold = MakePipe();
  if (!hold.ok()) return -1;
  const pid_t pid = fork();
  if (pid == 0) {
    hold->write_end.Reset();
    const absl::StatusOr<std::string> go = ReadAll(hold->read_end.get());
    if (!go.ok() || go->empty()) _exit(1);
    setsid();
    body();
    _exit(127);
  }
  *release = std::move(hold->write_end);
  return pid;
}

// When a process began, in ticks, which tells it from a later one with its pid;
// 0 if it is not there or dead.
uint64_t StartOf(pid_t pid) {
  const absl::StatusOr<std::string> stat =
      ReadFile(fmt::format("/proc/{}/stat", pid));
  if (!stat.ok()) return 0;
  // Field 22; the third comes after the name, which may have anything in it.
  std::istringstream fields(stat->substr(stat->rfind(')') + 1));
  std::string state;
  fields >> state;
  if (state == "Z" || state == "X") return 0;
  std::string skipped;
  for (int i = 4; i < 22; ++i) fields >> skipped;
  uint64_t start = 0;
  fields >> start;
  return start;
}

// Init lives, and its pid is not another's by now.
bool IsAlive(const Command& command) {
  const absl::StatusOr<std::string> start =
      ReadFile(command.state() + "/start_time");
  return start.ok() && *start != "0" &&
         *start == std::to_string(StartOf(InitOf(command)));
}

void Create(const Command& command) {
  mkdir(command.root.c_str(), 0700);
  if (mkdir(command.state().c_str(), 0700) != 0) {
    Die(command, "container with given ID already exists");
  }
  const absl::StatusOr<std::string> config =
      ReadFile(command.bundle + "/config.json");
  if (!config.ok()) Die(command, Message(config.status()));
  const absl::StatusOr<Json> spec = Json::Parse(*config);
  if (!spec.ok()) Die(command, Message(spec.status()));
  Json labels = Json::Array();
  labels.Append("bundle=" + command.bundle);
  Json inner = Json::Object();
  inner.Set("labels", std::move(labels));
  Json state = Json::Object();
  state.Set("config", std::move(inner));
  (void)WriteFileAtomically(command.state() + "/state.json", state.Dump(), 0600,
                            false);
  const std::string start = command.state() + "/start";
  mkfifo(start.c_str(), 0600);
  if (unshare(CLONE_NEWPID) != 0) Die(command, "unshare");
  UniqueFd release;
  const Terminal terminal = Terminal::Open(command);
  const pid_t pid = ForkHeld(&release, [&start, &spec, &terminal] {
    terminal.Attach();
    const absl::StatusOr<UniqueFd> go = OpenFd(start, O_RDONLY);
    if (go.ok()) (void)ReadAll(go->get());
    Become((*spec)["process"]);
  });
  if (pid < 0) Die(command, "fork");
  (void)WriteFileAtomically(command.state() + "/pid", std::to_string(pid), 0600,
                            false);
  (void)WriteFileAtomically(command.state() + "/start_time",
                            std::to_string(StartOf(pid)), 0600, false);
  WritePidFile(command, pid);
  (void)WriteAll(release.get(), "go");
}

void Start(const Command& command) {
  if (kill(InitOf(command), 0) != 0) {
    Die(command, "cannot start a container that has stopped");
  }
  // Read-write: it does not wait for an init that has just been killed.
  const absl::StatusOr<UniqueFd> go =
      OpenFd(command.state() + "/start", O_RDWR | O_NONBLOCK);
  if (!go.ok()) Die(command, "cannot start an already running container");
  // Init opens the fifo to read and gets its end when we close.
  const absl::StatusOr<UniqueFd> write_end =
      OpenFd(command.state() + "/start", O_WRONLY);
  (void)WriteAll(write_end->get(), "go");
  unlink((command.state() + "/start").c_str());
}

void Exec(const Command& command) {
  const absl::StatusOr<std::string> text = ReadFile(command.process_file);
  if (!text.ok()) Die(command, Message(text.status()));
  const absl::StatusOr<Json> process = Json::Parse(*text);
  if (!process.ok()) Die(command, Message(process.status()));
  const absl::StatusOr<UniqueFd> space =
      OpenFd(fmt::format("/proc/{}/ns/pid", InitOf(command)), O_RDONLY);
  const bool outside = !Control(command, "outside").empty();
  if (!space.ok() || (!outside && setns(space->get(), CLONE_NEWPID) != 0)) {
    Die(command, "cannot exec in a stopped container");
  }
  UniqueFd release;
  const Terminal terminal = Terminal::Open(command);
  const pid_t pid = ForkHeld(&release, [&process, &terminal] {
    terminal.Attach();
    Become(process->view());
  });
  if (pid < 0) Die(command, "cannot exec in a stopped container");
  WritePidFile(command, pid);
  (void)WriteAll(release.get(), "go");
}

void Kill(const Command& command) {
  if (access(command.state().c_str(), F_OK) != 0) {
    Die(command, "container does not exist");
  }
  const pid_t pid = InitOf(command);
  if (!IsAlive(command) || kill(pid, atoi(command.signal.c_str())) != 0) {
    Die(command, "container not running");
  }
}

void Delete(const Command& command) {
  if (access(command.state().c_str(), F_OK) != 0) {
    if (command.force) return;
    Die(command, "container does not exist");
  }
  const pid_t pid = InitOf(command);
  const bool created = access((command.state() + "/start").c_str(), F_OK) == 0;
  if (created || command.force) {
    const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    // The number may be somebody else's by now.
    if (pidfd.valid() && IsAlive(command)) {
      syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
      pollfd dead = {.fd = pidfd.get(), .events = POLLIN, .revents = 0};
      poll(&dead, 1, 10'000);
    }
  } else if (IsAlive(command)) {
    Die(command, "cannot delete container that is not stopped: running");
  }
  // All of it, as runc does: a create that was killed has left temporary files.
  std::error_code error;
  std::filesystem::remove_all(command.state(), error);
}

int Main(int argc, char** argv) {
  const Command command = Parse(argc, argv);
  AppendLine(ControlPath("calls"), fmt::format("{} {} {}", command.verb,
                                               command.subject(), getpid()));
  Pass(command, "before");
  if (const std::string fail = Control(command, "fail"); !fail.empty()) {
    const absl::StatusOr<std::string> why = ReadFile(fail);
    Die(command, why.ok() ? *why : "failed as told");
  }
  if (command.verb == "create") {
    Create(command);
  } else if (command.verb == "start") {
    Start(command);
  } else if (command.verb == "restore") {
    Create(command);
    Start(command);
  } else if (command.verb == "exec") {
    Exec(command);
  } else if (command.verb == "kill") {
    Kill(command);
  } else if (command.verb == "delete") {
    Delete(command);
  } else if (command.verb == "ps") {
    fmt::print("[{}]\n", InitOf(command));
  } else if (command.verb == "features") {
    fmt::print("{{\"ociVersionMin\":\"1.0.0\",\"linux\":{{}}}}\n");
  }
  // pause, resume, update, checkpoint: gates and failures are all there is.
  Pass(command, "after");
  return 0;
}

}  // namespace
}  // namespace wisp

int main(int argc, char** argv) { return wisp::Main(argc, argv); }
