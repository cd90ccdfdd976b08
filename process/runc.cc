#include "process/runc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "process/json.h"
#include "process/runc_log.h"
#include "process/spawn.h"

namespace wisp {
namespace {

// What is kept of a runtime's output: errors are at its end.
constexpr off_t kOutputLimit = off_t{64} << 10;

absl::StatusOr<std::string> ReadCaptured(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, "fstat");
  const off_t start = std::max<off_t>(0, info.st_size - kOutputLimit);
  if (lseek(fd, start, SEEK_SET) < 0) return ErrnoStatus(errno, "lseek");
  return ReadAll(fd);
}

void AppendFlag(bool wanted, std::string_view flag,
                std::vector<std::string>* command) {
  if (wanted) command->emplace_back(flag);
}

void AppendOption(std::string_view flag, const std::string& value,
                  std::vector<std::string>* command) {
  if (value.empty()) return;
  command->emplace_back(flag);
  command->push_back(value);
}

// runc and crun, in their own words, on a container that is not there.
bool SaysUnknownContainer(std::string_view text) {
  const absl::string_view words(text.data(), text.size());
  return absl::StrContains(words, "does not exist") ||
         (absl::StrContains(words, "cannot open directory") &&
          absl::StrContains(words, "No such file"));
}

// `[1, 2]`, or `null` for none.
absl::StatusOr<std::vector<pid_t>> ParsePids(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, Json::Parse(text));
  std::vector<pid_t> pids;
  for (const JsonView& element : json.view().elements()) {
    pids.push_back(static_cast<pid_t>(element.Int64Or(0)));
  }
  return pids;
}

bool SaysProcessGone(std::string_view text) {
  const absl::string_view words(text.data(), text.size());
  return absl::StrContains(words, "os: process already finished") ||
         absl::StrContains(words, "container not running") ||
         absl::StrContains(absl::AsciiStrToLower(words), "no such process");
}

}  // namespace

struct RuncDriver::Result {
  absl::Status status;  // undecorated: the exit status, and output if captured
  std::string output;
  // The last error in what this command appended to the log, if it logged any.
  absl::StatusOr<std::optional<std::string>> log_error = std::nullopt;

  // All that the runtime said.
  std::string words() const {
    return fmt::format(
        "{} {}", Message(status),
        log_error.ok() ? log_error->value_or("") : std::string());
  }
};

struct RuncRun::Run {
  EventLoop& loop;
  std::string binary;  // as configured, for the texts
  std::string command;
  std::string log_path;
  int64_t log_start;
  UniqueFd capture;  // invalid where the container has the fds
  absl::Duration limit;
  RuncDriver::OnResult on_result;
  absl::Status aborted;
  Reaper::Child child;
  EventLoop::TimerHandle timer;

  void Finish(std::optional<ExitStatus> exit);
};

void RuncRun::Abort(absl::Status why) {
  const std::shared_ptr<Run> run = run_.lock();
  if (run == nullptr || !run->aborted.ok() || !run->child.valid()) return;
  run->aborted = std::move(why);
  // The pid is that of a child nobody has reaped, so the group is still its
  // own.
  if (run->child.pidfd() != nullptr) kill(-run->child.pid(), SIGKILL);
  run->timer = run->loop.After(kAbandonAfter, [weak = run_] {
    if (const std::shared_ptr<Run> stuck = weak.lock()) {
      stuck->Finish(std::nullopt);
    }
  });
}

void RuncRun::Run::Finish(std::optional<ExitStatus> exit) {
  timer.Reset();
  RuncDriver::Result result;
  if (capture.valid()) {
    absl::StatusOr<std::string> output = ReadCaptured(capture.get());
    if (output.ok()) result.output = *std::move(output);
  }
  if (!aborted.ok()) {
    result.status = aborted;
  } else if (exit->code != 0) {
    std::string text =
        fmt::format("{} did not terminate successfully: exit status {}", binary,
                    exit->code);
    const absl::string_view said = absl::StripAsciiWhitespace(result.output);
    if (!said.empty()) text += fmt::format(": {}", View(said));
    result.status = absl::UnknownError(text);
  }
  if (!result.status.ok()) {
    result.log_error = LastRuncError(log_path, log_start);
  }
  RuncDriver::OnResult tell = std::move(on_result);
  child.Reset();  // if abandoned, whoever reaps it some day is not interested
  std::move(tell)(std::move(result));
}

RuncDriver::RuncDriver(EventLoop& loop, Reaper& reaper, RuncSettings settings)
    : loop_(loop), reaper_(reaper), settings_(std::move(settings)) {}

std::string RuncDriver::log_path() const {
  return settings_.bundle + "/log.json";
}

RuncRun RuncDriver::Run(std::vector<std::string> command, absl::Duration limit,
                        const RuncRunOptions& options, OnResult on_result) {
  auto run = std::make_shared<RuncRun::Run>(RuncRun::Run{
      .loop = loop_,
      .binary = settings_.binary,
      .command = command.front(),
      .log_path = log_path(),
      .log_start = RuncLogSize(log_path()),
      .limit = limit,
      .on_result = std::move(on_result),
  });

  const absl::Status started = [&]() -> absl::Status {
    SpawnOptions spawn;
    ASSIGN_OR_RETURN(spawn.path, FindExecutable(settings_.binary));
    spawn.argv = {settings_.binary, "--root",       settings_.root, "--log",
                  log_path(),       "--log-format", "json"};
    AppendFlag(settings_.systemd_cgroup, "--systemd-cgroup", &spawn.argv);
    spawn.argv.insert(spawn.argv.end(), command.begin(), command.end());
    spawn.env = settings_.env;
    spawn.env.insert(spawn.env.end(), options.extra_env.begin(),
                     options.extra_env.end());
    spawn.stdin_fd = options.stdin_fd;
    if (options.container_io) {
      spawn.stdout_fd = options.stdout_fd;
      spawn.stderr_fd = options.stderr_fd;
    } else {
      // A file, not a pipe: a grandchild that keeps it open holds up nobody.
      ASSIGN_OR_RETURN(run->capture, MakeMemfd("runtime-output"));
      spawn.stdout_fd = run->capture.get();
      spawn.stderr_fd = run->capture.get();
    }
    ASSIGN_OR_RETURN(Pidfd pidfd, Spawn(spawn));
    ASSIGN_OR_RETURN(
        run->child, reaper_.Own(std::move(pidfd),
                                [run](ExitStatus exit) { run->Finish(exit); }));
    return absl::OkStatus();
  }();
  RuncRun handle;
  if (!started.ok()) {
    loop_.Post([run, started] {
      Result result;
      result.status = started;
      result.log_error = LastRuncError(run->log_path, run->log_start);
      std::move(run->on_result)(std::move(result));
    });
    return handle;
  }
  handle.run_ = run;
  run->timer = loop_.After(limit, [handle, binary = settings_.binary,
                                   verb = command.front(), limit]() mutable {
    handle.Abort(absl::DeadlineExceededError(
        fmt::format("{} {} did not end within {} and was killed", binary, verb,
                    absl::FormatDuration(limit))));
  });
  return handle;
}

absl::Status RuncDriver::Decorated(std::string_view prefix,
                                   const Result& result) {
  if (result.status.ok()) return result.status;
  const bool ended_from_outside =
      result.status.code() == absl::StatusCode::kDeadlineExceeded ||
      result.status.code() == absl::StatusCode::kCancelled;
  if (ended_from_outside) return Unclassified(prefix, result.status);
  if (!result.log_error.ok()) {
    return absl::UnknownError(fmt::format(
        "{}: unable to retrieve OCI runtime error ({}): {}", prefix,
        Message(result.log_error.status()), Message(result.status)));
  }
  if (result.log_error->has_value()) {
    return absl::UnknownError(
        fmt::format("{}: {}", prefix, **result.log_error));
  }
  return Unclassified(prefix, result.status);
}

RuncRun RuncDriver::RunDecorated(std::string_view prefix,
                                 std::vector<std::string> command,
                                 absl::Duration limit,
                                 const RuncRunOptions& options,
                                 DoneStatus done) {
  return Run(std::move(command), limit, options,
             [prefix, done = std::move(done)](Result result) mutable {
               std::move(done)(Decorated(prefix, result));
             });
}

RuncRun RuncDriver::Create(const std::string& pid_file,
                           const RuncRunOptions& options, DoneStatus done) {
  std::vector<std::string> command = {"create", "--bundle", settings_.bundle,
                                      "--pid-file", pid_file};
  AppendOption("--console-socket", options.console_socket, &command);
  AppendFlag(settings_.no_pivot_root, "--no-pivot", &command);
  AppendFlag(settings_.no_new_keyring, "--no-new-keyring", &command);
  command.push_back(settings_.container_id);
  return RunDecorated("OCI runtime create failed", std::move(command),
                      settings_.limits.create, options, std::move(done));
}

RuncRun RuncDriver::Restore(const std::string& pid_file,
                            const CheckpointOptions& from,
                            const RuncRunOptions& options, DoneStatus done) {
  std::vector<std::string> command = {"restore", "--image-path",
                                      from.image_path, "--work-path",
                                      from.work_path};
  AppendOption("--parent-path", from.parent_path, &command);
  command.insert(command.end(), {"--detach", "--pid-file", pid_file});
  AppendOption("--console-socket", options.console_socket, &command);
  AppendFlag(settings_.no_pivot_root, "--no-pivot", &command);
  command.insert(command.end(), {"--no-subreaper", "--bundle", settings_.bundle,
                                 settings_.container_id});
  return RunDecorated("OCI runtime restore failed", std::move(command),
                      settings_.limits.checkpoint, options, std::move(done));
}

RuncRun RuncDriver::Start(const RuncRunOptions& options, DoneStatus done) {
  return RunDecorated("OCI runtime start failed",
                      {"start", settings_.container_id}, settings_.limits.start,
                      options, std::move(done));
}

RuncRun RuncDriver::Exec(const std::string& process_file,
                         const std::string& pid_file,
                         const RuncRunOptions& options, DoneStatus done) {
  std::vector<std::string> command = {"exec", "--process", process_file};
  AppendOption("--console-socket", options.console_socket, &command);
  command.insert(command.end(),
                 {"--detach", "--pid-file", pid_file, settings_.container_id});
  return RunDecorated("OCI runtime exec failed", std::move(command),
                      settings_.limits.exec, options, std::move(done));
}

RuncRun RuncDriver::Kill(int signal, bool all, DoneStatus done) {
  std::vector<std::string> command = {"kill"};
  AppendFlag(all, "--all", &command);
  command.insert(command.end(),
                 {settings_.container_id, std::to_string(signal)});
  return Run(
      std::move(command), settings_.limits.kill, {},
      [done = std::move(done)](Result result) mutable {
        if (result.status.ok()) {
          std::move(done)(absl::OkStatus());
        } else if (SaysProcessGone(result.words())) {
          std::move(done)(absl::NotFoundError("process already finished"));
        } else if (SaysUnknownContainer(result.words())) {
          std::move(done)(absl::NotFoundError("no such container"));
        } else {
          std::move(done)(
              Unclassified("unknown error after kill", result.status));
        }
      });
}

RuncRun RuncDriver::KillAllAfterExit(DoneStatus done) {
  return RunDecorated(
      "OCI runtime killall failed",
      {"kill", "--all", settings_.container_id, std::to_string(SIGKILL)},
      settings_.limits.kill, {}, std::move(done));
}

RuncRun RuncDriver::Delete(bool force, const RuncRunOptions& options,
                           DoneStatus done) {
  std::vector<std::string> command = {"delete"};
  AppendFlag(force, "--force", &command);
  command.push_back(settings_.container_id);
  return Run(
      std::move(command), settings_.limits.remove, options,
      [done = std::move(done)](Result result) mutable {
        if (!result.status.ok() && SaysUnknownContainer(result.words())) {
          result.status = absl::OkStatus();
        }
        std::move(done)(Decorated("failed to delete task", result));
      });
}

RuncRun RuncDriver::Pause(const RuncRunOptions& options, DoneStatus done) {
  return RunDecorated("OCI runtime pause failed",
                      {"pause", settings_.container_id}, settings_.limits.pause,
                      options, std::move(done));
}

RuncRun RuncDriver::Resume(const RuncRunOptions& options, DoneStatus done) {
  return RunDecorated("OCI runtime resume failed",
                      {"resume", settings_.container_id},
                      settings_.limits.pause, options, std::move(done));
}

RuncRun RuncDriver::Update(const std::string& resources,
                           const RuncRunOptions& options, DoneStatus done) {
  // From a file in memory: unlike a pipe it holds any size without a reader.
  absl::StatusOr<UniqueFd> input = MakeMemfd("runtime-input");
  absl::Status status = input.status();
  if (status.ok()) status = WriteAll(input->get(), resources + "\n");
  if (status.ok() && lseek(input->get(), 0, SEEK_SET) != 0) {
    status = ErrnoStatus(errno, "lseek");
  }
  if (!status.ok()) {
    loop_.Post([status, done = std::move(done)]() mutable {
      std::move(done)(status);
    });
    return RuncRun();
  }
  RuncRunOptions with_input = options;
  with_input.stdin_fd = input->get();
  return Run({"update", "--resources=-", settings_.container_id},
             settings_.limits.update, with_input,
             [done = std::move(done)](Result result) mutable {
               std::move(done)(result.status);
             });
}

RuncRun RuncDriver::Checkpoint(const CheckpointOptions& to,
                               const RuncRunOptions& options, DoneStatus done) {
  std::vector<std::string> command = {
      "checkpoint", "--image-path", to.image_path, "--work-path", to.work_path};
  AppendOption("--parent-path", to.parent_path, &command);
  AppendFlag(to.open_tcp, "--tcp-established", &command);
  AppendFlag(to.external_unix_sockets, "--ext-unix-sk", &command);
  AppendFlag(to.shell_job, "--shell-job", &command);
  AppendFlag(to.file_locks, "--file-locks", &command);
  for (const std::string& name : to.empty_namespaces) {
    AppendOption("--empty-ns", name, &command);
  }
  AppendFlag(to.leave_running, "--leave-running", &command);
  command.push_back(settings_.container_id);
  return Run(std::move(command), settings_.limits.checkpoint, options,
             [done = std::move(done)](Result result) mutable {
               std::move(done)(result.status);
             });
}

RuncRun RuncDriver::Ps(Done<std::vector<pid_t>> done) {
  return Run({"ps", "--format", "json", settings_.container_id},
             settings_.limits.ps, {},
             [done = std::move(done)](Result result) mutable {
               if (!result.status.ok()) {
                 std::move(done)(result.status);
                 return;
               }
               std::move(done)(ParsePids(result.output));
             });
}

}  // namespace wisp
