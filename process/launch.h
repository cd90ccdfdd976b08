// Bringing a process up through the runtime, step by step.
#ifndef WISP_PROCESS_LAUNCH_H_
#define WISP_PROCESS_LAUNCH_H_

#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "process/reaper.h"
#include "process/runc.h"
#include "process/status_macros.h"
#include "process/stdio.h"

namespace wisp {

// The way of every process, init, exec or restored: its stdio is made, the
// runtime runs with it and leaves the process behind, we adopt it by the pid in
// the runtime's file, then the client's ends of its stdio are opened (which may
// wait for the client) and copying begins.
//
// The process is ours from the moment the runtime has exited: if a later step
// fails it is killed. What the runtime keeps of it is the caller's to delete.
class Launch {
 public:
  struct Texts {
    std::string_view
        console_socket;  // what failed, as containerd's shim says it
    std::string_view stdio;
    std::string_view pid;
  };
  // Runs the runtime's command with these fds.
  using Command =
      absl::AnyInvocable<RuncRun(const RuncRunOptions&, DoneStatus) &&>;

  // The references must outlive the launch; `stdio` is prepared and connected.
  // `on_death` is called when the process is dead, perhaps before Run() is
  // done, and also for one that Run() then reports as failed.
  Launch(Reaper& reaper, Stdio& stdio, Texts texts, std::string pid_file,
         Reaper::OnExit on_death);

  // `done` gets the adopted child. It is called once, unless this is destroyed
  // before.
  void Run(RuncRunOptions options, Command command, Done<Reaper::Child> done);

  // Ends what is under way; Run() then fails with `why`. Does nothing when it
  // is over.
  void Cancel(const absl::Status& why);

  bool active() const { return done_ != nullptr; }
  // True once the runtime was run: it may know the container.
  bool runtime_ran() const { return runtime_ran_; }

 private:
  void OnPrepared(const absl::Status& status);
  void OnCommandDone(const absl::Status& status);
  absl::Status AdoptByFile();
  void OnConnected(const absl::Status& status);
  void Fail(absl::Status status);

  Reaper& reaper_;
  Stdio& stdio_;
  const Texts texts_;
  const std::string pid_file_;
  Reaper::OnExit on_death_;

  RuncRunOptions options_;
  Command command_;
  Done<Reaper::Child> done_;  // null before Run() and when it is over
  absl::Status cancelled_;
  RuncRun running_;
  bool runtime_ran_ = false;
  Reaper::SweepGuard guard_;
  Reaper::Child child_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_LAUNCH_H_
