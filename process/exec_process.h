// A further process in a container.
#ifndef WISP_PROCESS_EXEC_PROCESS_H_
#define WISP_PROCESS_EXEC_PROCESS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "process/event_loop.h"
#include "process/exit_waiters.h"
#include "process/launch.h"
#include "process/reaper.h"
#include "process/runc.h"
#include "process/state.h"
#include "process/status_macros.h"
#include "process/stdio.h"

namespace wisp {

// Must outlive the completion of Start(): the owner keeps it while one is due.
class ExecProcess final {
 public:
  using OnDeath = absl::AnyInvocable<void(const ExitStatus&)>;

  // `process` is the JSON of an OCI process. `on_death` is called when it has
  // been seen dead, perhaps while starting(): should Start() then fail, it
  // never lived.
  ExecProcess(EventLoop& loop, Reaper& reaper, RuncDriver& driver,
              std::string id, std::string process, std::unique_ptr<Stdio> stdio,
              OnDeath on_death);
  // Removes the files that the runtime and we keep of it in the bundle.
  ~ExecProcess();
  ExecProcess(const ExecProcess&) = delete;
  ExecProcess& operator=(const ExecProcess&) = delete;

  const std::string& id() const { return id_; }
  const StdioRequest& request() const { return stdio_->request(); }
  ExecState state() const { return state_; }
  pid_t pid() const { return pid_; }  // 0 before it is started; kept after exit
  bool starting() const { return starting_; }
  const std::optional<ExitStatus>& death() const { return death_; }
  // Until TakeStdio().
  Stdio& stdio() { return *stdio_; }
  // Null after TakeStdio().
  const Stdio* stdio_if_any() const { return stdio_.get(); }
  std::unique_ptr<Stdio> TakeStdio() { return std::move(stdio_); }
  ExitWaiters& waiters() { return waiters_; }

  // Runs it, once: after a failure there is no second try, since nobody may
  // take the exit of the first for that of the second.
  void Start(const std::vector<std::string>& extra_env, DoneStatus done);
  // Ends a Start() that was asked for; it fails with `why` and leaves no
  // process.
  void Cancel(const absl::Status& why);

  // kFailedPrecondition: never started, nothing to wait for. kNotFound: over.
  absl::Status Kill(int signal);

  // From the owner, in the order of an exit.
  void MarkStopped() { state_ = ExecState::kStopped; }
  void MarkDeleted() { state_ = ExecState::kDeleted; }

 private:
  std::string pid_file() const;
  std::string process_file() const;
  void OnLaunched(absl::StatusOr<Reaper::Child> child, DoneStatus done);

  EventLoop& loop_;
  Reaper& reaper_;
  RuncDriver& driver_;
  const std::string id_;
  std::string process_;
  std::unique_ptr<Stdio> stdio_;
  OnDeath on_death_;

  ExecState state_ = ExecState::kCreated;
  bool starting_ = false;
  absl::Status start_cancelled_;
  pid_t pid_ = 0;
  Reaper::Child child_;
  std::optional<ExitStatus> death_;
  ExitWaiters waiters_;
  std::unique_ptr<Launch> launch_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_EXEC_PROCESS_H_
