#include "process/runc_run.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "process/runtime_words.h"
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

}  // namespace

void RuncRun::Abort(absl::Status why) {
  const std::shared_ptr<Run> run = run_ == nullptr ? nullptr : run_->lock();
  if (run == nullptr || !run->aborted.ok() || !run->child.valid()) return;
  run->aborted = std::move(why);
  // The pid is that of a child nobody has reaped, so the group is still its
  // own.
  if (run->child.pidfd() != nullptr) kill(-run->child.pid(), SIGKILL);
  run->timer = run->loop.After(kAbandonAfter, [weak = *run_] {
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
  if (aborted.ok() && SaysUnknownCommand(result.words(), command)) {
    result.status = absl::UnimplementedError(
        fmt::format("{} has no command {}", binary, command));
    result.log_error = std::nullopt;
  }
  RuncDriver::OnResult tell = std::move(on_result);
  child.Reset();  // if abandoned, whoever reaps it some day is not interested
  std::move(tell)(std::move(result));
}

std::vector<RuncRunInfo> RuncDriver::Runs() const {
  std::vector<RuncRunInfo> runs;
  for (const std::weak_ptr<RuncRun::Run>& weak : runs_) {
    const std::shared_ptr<RuncRun::Run> run = weak.lock();
    if (run == nullptr || !run->child.valid()) continue;
    runs.push_back({.command = run->command,
                    .pid = run->child.pid(),
                    .age = absl::Now() - run->started,
                    .limit = run->limit,
                    .aborted = !run->aborted.ok()});
  }
  return runs;
}

RuncRun RuncDriver::Run(std::vector<std::string> command, absl::Duration limit,
                        const RuncRunOptions& options, OnResult on_result) {
  auto run = std::make_shared<RuncRun::Run>(RuncRun::Run{
      .loop = loop_,
      .binary = settings_.binary,
      .command = command.front(),
      .log_path = log_path(),
      .log_start = MarkRuncLog(log_path()),
      .limit = limit,
      .on_result = std::move(on_result),
  });

  const absl::Status started = [&]() -> absl::Status {
    SpawnOptions spawn;
    ASSIGN_OR_RETURN(spawn.path, FindExecutable(settings_.binary));
    spawn.argv = {settings_.binary, "--root",       settings_.root, "--log",
                  log_path(),       "--log-format", "json"};
    if (settings_.systemd_cgroup) spawn.argv.emplace_back("--systemd-cgroup");
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
  handle.run_ = std::make_shared<std::weak_ptr<RuncRun::Run>>();
  if (!started.ok()) {
    loop_.Post([run, started] {
      Result result;
      result.status = started;
      result.log_error = LastRuncError(run->log_path, run->log_start);
      std::move(run->on_result)(std::move(result));
    });
    return handle;
  }
  *handle.run_ = run;
  std::erase_if(runs_, [](const auto& other) { return other.expired(); });
  runs_.push_back(run);
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
  if (EndedFromOutside(result.status)) {
    return Unclassified(prefix, result.status);
  }
  if (absl::IsUnimplemented(result.status)) {
    return Prefixed(prefix, result.status);
  }
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

RuncRun RuncDriver::AskForHelp(const std::string& verb, WithHelp next) {
  if (const auto known = help_.find(verb); known != help_.end()) {
    return std::move(next)(absl::OkStatus(), known->second);
  }
  RuncRun handle;
  const auto current = std::make_shared<std::weak_ptr<RuncRun::Run>>();
  handle =
      Run({verb, "--help"}, settings_.limits.ps, {},
          [this, verb, current, next = std::move(next)](Result result) mutable {
            absl::Status status;
            if (EndedFromOutside(result.status)) {
              status = result.status;
            } else {
              // A failure without help is explained by what comes next.
              help_[verb] = result.output;
            }
            const RuncRun second = std::move(next)(status, result.output);
            if (second.run_ != nullptr) *current = *second.run_;
          });
  *current = *handle.run_;
  handle.run_ = current;
  return handle;
}

}  // namespace wisp
