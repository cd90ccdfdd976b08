#include "process/runc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "fmt/format.h"
#include "process/criu_log.h"
#include "process/json.h"
#include "process/runc_run.h"
#include "process/runtime_words.h"

namespace wisp {
namespace {

constexpr std::string_view kRestoreFailed = "OCI runtime restore failed";

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

// The fds of a run that is to begin after the call that lends them.
struct OwnFds {
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;

  static absl::StatusOr<OwnFds> CopyOf(const RuncRunOptions& options) {
    OwnFds fds;
    for (const auto& [from, to] : {std::pair(options.stdin_fd, &fds.in),
                                   std::pair(options.stdout_fd, &fds.out),
                                   std::pair(options.stderr_fd, &fds.err)}) {
      if (from < 0) continue;
      to->Reset(fcntl(from, F_DUPFD_CLOEXEC, 0));
      if (!to->valid()) return ErrnoStatus(errno, "dup");
    }
    return fds;
  }
  void PutInto(RuncRunOptions* options) const {
    options->stdin_fd = in.get();
    options->stdout_fd = out.get();
    options->stderr_fd = err.get();
  }
};

// In one line: what the runtime says, which is at best that CRIU failed, and
// CRIU's own words.
absl::Status WithCriuErrors(const std::string& log,
                            const absl::Status& status) {
  if (status.code() != absl::StatusCode::kUnknown) return status;
  const std::string errors = CriuErrorsIn(log);
  const std::string_view words = Message(status);
  if (errors.empty()) return status;
  return absl::UnknownError(
      fmt::format("{}: {}", words.substr(0, words.find('\n')), errors));
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

}  // namespace

RuncDriver::RuncDriver(EventLoop& loop, Reaper& reaper, RuncSettings settings)
    : loop_(loop), reaper_(reaper), settings_(std::move(settings)) {}

std::string RuncDriver::log_path() const {
  return settings_.bundle + "/log.json";
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
  absl::StatusOr<OwnFds> fds = OwnFds::CopyOf(options);
  if (!fds.ok()) {
    loop_.Post([status = fds.status(), done = std::move(done)]() mutable {
      std::move(done)(Unclassified(kRestoreFailed, status));
    });
    return RuncRun();
  }
  return AskForHelp(
      "restore", [this, pid_file, from, with = RuncRunOptions(options),
                  fds = *std::move(fds), done = std::move(done)](
                     absl::Status status, const std::string& help) mutable {
        if (!status.ok()) {
          std::move(done)(absl::IsUnimplemented(status)
                              ? Prefixed(kRestoreFailed, status)
                              : Unclassified(kRestoreFailed, status));
          return RuncRun();
        }
        const auto knows = [&help](std::string_view flag) {
          return HelpNames(help, flag);
        };
        std::vector<std::string> command = {"restore", "--image-path",
                                            from.image_path, "--work-path",
                                            from.work_path};
        if (knows("--parent-path")) {
          AppendOption("--parent-path", from.parent_path, &command);
        }
        command.insert(command.end(), {"--detach", "--pid-file", pid_file});
        AppendOption("--console-socket", with.console_socket, &command);
        AppendFlag(settings_.no_pivot_root && knows("--no-pivot"), "--no-pivot",
                   &command);
        AppendFlag(knows("--no-subreaper"), "--no-subreaper", &command);
        command.insert(command.end(),
                       {"--bundle", settings_.bundle, settings_.container_id});
        fds.PutInto(&with);
        return RunDecorated(
            kRestoreFailed, std::move(command), settings_.limits.checkpoint,
            with,
            [log = from.work_path + "/restore.log",
             done = std::move(done)](absl::Status restored) mutable {
              std::move(done)(WithCriuErrors(log, restored));
            });
      });
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
  std::vector<std::string_view> uncommon;
  if (!to.parent_path.empty()) uncommon.push_back("--parent-path");
  if (!to.empty_namespaces.empty()) uncommon.push_back("--empty-ns");
  auto run = [this, command = std::move(command), options,
              log = to.work_path + "/dump.log"](DoneStatus tell) {
    return Run(command, settings_.limits.checkpoint, options,
               [log, tell = std::move(tell)](Result result) mutable {
                 std::move(tell)(WithCriuErrors(log, result.status));
               });
  };
  if (uncommon.empty()) return run(std::move(done));
  return AskForHelp(
      "checkpoint", [&loop = loop_, binary = settings_.binary, uncommon,
                     run = std::move(run), done = std::move(done)](
                        absl::Status status, const std::string& help) mutable {
        for (const std::string_view flag : uncommon) {
          if (!status.ok() || HelpNames(help, flag)) continue;
          status = absl::UnimplementedError(
              fmt::format("{} checkpoint has no option {}", binary, flag));
        }
        if (status.ok()) return run(std::move(done));
        loop.Post([status, done = std::move(done)]() mutable {
          std::move(done)(status);
        });
        return RuncRun();
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
