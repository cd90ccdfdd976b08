// Driving an OCI runtime: one method per command of runc.
//
// Arguments in, a Status out when the runtime has exited. The command lines are
// those of containerd's shim (containerd/go-runc), element by element: wrappers
// and other runtimes parse them.
#ifndef WISP_PROCESS_RUNC_H_
#define WISP_PROCESS_RUNC_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/reaper.h"
#include "process/runc_limits.h"
#include "process/status_macros.h"

namespace wisp {

// What is the same for all commands of one container.
struct RuncSettings {
  std::string binary;        // name or path; looked up in $PATH at each run
  std::string root;          // --root
  std::string container_id;  // as the runtime knows it
  std::string bundle;
  bool systemd_cgroup = false;
  bool no_pivot_root = false;
  bool no_new_keyring = false;
  RuncLimits limits;
  std::vector<std::string> env;  // the runtime's environment
};

// What differs from run to run.
struct RuncRunOptions {
  int stdin_fd = -1;  // borrowed for the call; -1: /dev/null
  int stdout_fd = -1;
  int stderr_fd = -1;
  // True: the fds above are the container's. False: output is captured, for the
  // error message.
  bool container_io = false;
  std::string console_socket;          // empty: no terminal
  std::vector<std::string> extra_env;  // such as a trace context
};

struct CheckpointOptions {
  std::string image_path;
  std::string work_path;
  std::string parent_path;
  bool leave_running = false;
  bool open_tcp = false;
  bool external_unix_sockets = false;
  bool shell_job = false;
  bool file_locks = false;
  std::vector<std::string> empty_namespaces;
};

// A command under way; a copy refers to the same one. Keeps nothing alive.
class RuncRun {
 public:
  RuncRun() = default;
  // SIGKILLs the process group and lets the command end with `why`, when it has
  // been reaped or after kAbandonAfter: what a D state holds is left behind.
  void Abort(absl::Status why);
  static constexpr absl::Duration kAbandonAfter = absl::Seconds(2);

 private:
  friend class RuncDriver;
  struct Run;
  // Shared, for a command may take two runs one after the other.
  std::shared_ptr<std::weak_ptr<Run>> run_;
};

// A command under way, for who wants to know what a container waits for.
struct RuncRunInfo {
  std::string command;  // "exec"
  pid_t pid = 0;
  absl::Duration age;
  absl::Duration limit;  // after which it is killed
  bool aborted = false;  // it has been killed, and has not ended yet
};

// Runs commands for one container. Completions run on the loop, never from
// within the method that started them. Errors carry the runtime's own words:
// `OCI runtime create failed: <last error of its log>`, else its output.
//
// What all runtimes have in common is just run. A command or a flag that some
// do not have (see runtime_words.h) is found out the cheapest way: a runtime
// that does not know a command says so itself, which is kUnimplemented here;
// and `BINARY VERB --help` is asked once before flags that not all have, for a
// restored container's output is no place for its complaints.
class RuncDriver {
 public:
  // `loop` and `reaper` must outlive what it started, and it itself a Restore()
  // or Checkpoint().
  RuncDriver(EventLoop& loop, Reaper& reaper, RuncSettings settings);

  const RuncSettings& settings() const { return settings_; }
  std::string log_path() const;
  // What is under way, oldest first.
  std::vector<RuncRunInfo> Runs() const;

  // Leaves init behind, waiting to be started, and its pid in `pid_file`.
  RuncRun Create(const std::string& pid_file, const RuncRunOptions& options,
                 DoneStatus done);
  // Without the flags that the runtime does not know: nothing depends on them
  // where the runtime is detached.
  RuncRun Restore(const std::string& pid_file, const CheckpointOptions& from,
                  const RuncRunOptions& options, DoneStatus done);
  RuncRun Start(const RuncRunOptions& options, DoneStatus done);
  // Runs the process described by the JSON in `process_file`.
  RuncRun Exec(const std::string& process_file, const std::string& pid_file,
               const RuncRunOptions& options, DoneStatus done);
  // kNotFound: the container, or its init, is gone.
  RuncRun Kill(int signal, bool all, DoneStatus done);
  // The kill-all that follows the death of an init in a shared pid namespace.
  RuncRun KillAllAfterExit(DoneStatus done);
  // Succeeds if the runtime does not know the container.
  RuncRun Delete(bool force, const RuncRunOptions& options, DoneStatus done);
  RuncRun Pause(const RuncRunOptions& options, DoneStatus done);
  RuncRun Resume(const RuncRunOptions& options, DoneStatus done);
  // `resources` is a JSON object.
  RuncRun Update(const std::string& resources, const RuncRunOptions& options,
                 DoneStatus done);
  // kUnimplemented if `to` asks for what the runtime has no flag for: an image
  // without it would be another one.
  RuncRun Checkpoint(const CheckpointOptions& to, const RuncRunOptions& options,
                     DoneStatus done);
  // The host's pids of all processes of the container.
  RuncRun Ps(Done<std::vector<pid_t>> done);

 private:
  friend struct RuncRun::Run;
  struct Result;
  using OnResult = absl::AnyInvocable<void(Result) &&>;
  // Starts a command now that `verb --help` is known; or ends with the error.
  using WithHelp =
      absl::AnyInvocable<RuncRun(absl::Status, const std::string& help) &&>;

  RuncRun AskForHelp(const std::string& verb, WithHelp next);
  RuncRun Run(std::vector<std::string> command, absl::Duration limit,
              const RuncRunOptions& options, OnResult on_result);
  RuncRun RunDecorated(std::string_view prefix,
                       std::vector<std::string> command, absl::Duration limit,
                       const RuncRunOptions& options, DoneStatus done);
  static absl::Status Decorated(std::string_view prefix, const Result& result);

  EventLoop& loop_;
  Reaper& reaper_;
  const RuncSettings settings_;
  std::map<std::string, std::string> help_;  // by verb, as far as asked for
  std::vector<std::weak_ptr<RuncRun::Run>> runs_;  // some are over
};

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_H_
