// The init process of a container.
#ifndef WISP_PROCESS_INIT_PROCESS_H_
#define WISP_PROCESS_INIT_PROCESS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/exit_waiters.h"
#include "process/launch.h"
#include "process/reaper.h"
#include "process/runc.h"
#include "process/state.h"
#include "process/status_macros.h"
#include "process/stdio.h"
#include "process/turn_queue.h"

namespace wisp {

// Its state follows what is asked of it here, and its owner's word that it has
// stopped: the owner knows when an exit may be told. Operations queue up behind
// each other; what observes, and Kill(), does not.
//
// Must outlive its completions: the owner keeps it while one is due.
class InitProcess final {
 public:
  using Environment = std::vector<std::string>;
  using OnDeath = absl::AnyInvocable<void(const ExitStatus&)>;

  // `driver` and `stdio` are for this process. `on_death` is called when init
  // has been seen dead, while its pid is still its own; what then fails to come
  // up never lived: see launching().
  InitProcess(EventLoop& loop, Reaper& reaper, RuncDriver& driver,
              std::unique_ptr<Stdio> stdio, OnDeath on_death);
  InitProcess(const InitProcess&) = delete;
  InitProcess& operator=(const InitProcess&) = delete;

  InitState state() const { return state_; }
  // kPausing from the moment a Pause is accepted until the runtime has
  // answered.
  TaskStatus status() const;
  // Kept after the exit. 0 before Create() and for a checkpoint not yet
  // restored.
  pid_t pid() const { return pid_; }
  // True once it is known to be dead, told or not. Asks the kernel.
  bool dead() const;
  // It is coming up through the runtime; should it die now, that is no exit of
  // the task, or not yet.
  bool launching() const { return launch_ != nullptr && launch_->active(); }
  // How it ended, as soon as it has been seen.
  const std::optional<ExitStatus>& death() const { return death_; }
  // A start or restore is under way, or waits for its turn.
  bool starting() const { return starts_ > 0; }
  // The last one was cancelled and is about to fail.
  bool start_given_up() const {
    return start_cancelled_ != nullptr && !start_cancelled_->ok();
  }
  // Until TakeStdio().
  Stdio& stdio() { return *stdio_; }
  // Null after TakeStdio().
  const Stdio* stdio_if_any() const { return stdio_.get(); }
  std::unique_ptr<Stdio> TakeStdio() { return std::move(stdio_); }
  ExitWaiters& waiters() { return waiters_; }

  // Has the runtime make the container. On failure no process is left; what the
  // runtime keeps is there until Delete().
  void Create(const Environment& extra_env, DoneStatus done);
  // Takes note of the checkpoint that Start() will restore.
  void CreateFromCheckpoint(CheckpointOptions from);
  // Ends a Create(), or the last Start() that was asked for; it fails with
  // `why`.
  void Cancel(const absl::Status& why);
  // True if the runtime may know the container.
  bool runtime_ran() const;

  // While an earlier one is not over: only behind one that was given up, since
  // Cancel() is for the last.
  void Start(const Environment& extra_env, DoneStatus done);
  void Pause(const Environment& extra_env, DoneStatus done);
  void Resume(const Environment& extra_env, DoneStatus done);
  void Update(std::string resources, const Environment& extra_env,
              DoneStatus done);
  void Checkpoint(CheckpointOptions to, const Environment& extra_env,
                  DoneStatus done);
  // Removes what the runtime keeps; a created init is killed by that. Does not
  // change the state, but nothing starts any more. `on_begin` is called when
  // its turn has come and the state allows it; else it fails without.
  void Delete(const Environment& extra_env, EventLoop::Task on_begin,
              DoneStatus done);

  // Signals it: through the kernel if that suffices, through the runtime if all
  // processes are meant, the container is paused, or an LSM refuses us.
  // A SIGKILL that the runtime is asked for goes to init first; `on_delivered`
  // is called, within this method, when that has arrived. kNotFound: it is
  // dead.
  void Kill(int signal, bool all, EventLoop::Task on_delivered,
            DoneStatus done);
  // SIGKILL to init alone, whatever its state. True if it was delivered.
  bool KillNow();

  // From the owner, in the order of an exit.
  void MarkStopped();
  void MarkDeleted() { state_ = InitState::kDeleted; }

 private:
  void OnLaunched(absl::StatusOr<Reaper::Child> child, InitState next,
                  DoneStatus done);
  absl::Status CheckStart() const;
  void KillThroughRuntime(int signal, bool all, EventLoop::Task on_delivered,
                          DoneStatus done);
  std::string pid_file() const;
  Reaper::OnExit DeathCallback();

  Reaper& reaper_;
  RuncDriver& driver_;
  std::unique_ptr<Stdio> stdio_;
  OnDeath on_death_;
  TurnQueue queue_;

  InitState state_ = InitState::kCreated;
  bool pausing_ = false;
  bool deleting_ = false;
  int starts_ = 0;
  pid_t pid_ = 0;
  Reaper::Child child_;
  std::optional<ExitStatus> death_;
  ExitWaiters waiters_;
  std::optional<CheckpointOptions> checkpoint_;
  std::unique_ptr<Launch> launch_;
  RuncRun start_;
  std::shared_ptr<absl::Status> start_cancelled_;  // of the last one
  bool start_failed_ = false;  // so it may run, whatever `state_` says
};

}  // namespace wisp

#endif  // WISP_PROCESS_INIT_PROCESS_H_
