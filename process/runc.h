// Driving an OCI runtime: one method per command of runc.
//
// Arguments in, a Status out when the runtime has exited. The command lines are
// those of containerd's shim (containerd/go-runc), element by element: wrappers
// and other runtimes parse them.
#ifndef WISP_PROCESS_RUNC_H_
#define WISP_PROCESS_RUNC_H_

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
  bool active() const { return !run_.expired(); }
  // SIGKILLs the process group and lets the command end with `why`, when it has
  // been reaped or after kAbandonAfter: what a D state holds is left behind.
  void Abort(absl::Status why);
  static constexpr absl::Duration kAbandonAfter = absl::Seconds(2);

 private:
  friend class RuncDriver;
  struct Run;
  std::weak_ptr<Run> run_;
};

// Runs commands for one container. Completions run on the loop, never from
// within the method that started them. Errors carry the runtime's own words:
// `OCI runtime create failed: <last error of its log>`, else its output.
class RuncDriver {
 public:
  // `loop` and `reaper` must outlive what it started.
  RuncDriver(EventLoop& loop, Reaper& reaper, RuncSettings settings);

  const RuncSettings& settings() const { return settings_; }
  std::string log_path() const;

  // Leaves init behind, waiting to be started, and its pid in `pid_file`.
  RuncRun Create(const std::string& pid_file, const RuncRunOptions& options,
                 DoneStatus done);
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
  RuncRun Checkpoint(const CheckpointOptions& to, const RuncRunOptions& options,
                     DoneStatus done);
  // The host's pids of all processes of the container.
  RuncRun Ps(Done<std::vector<pid_t>> done);

 private:
  friend struct RuncRun::Run;
  struct Result;
  using OnResult = absl::AnyInvocable<void(Result) &&>;

  RuncRun Run(std::vector<std::string> command, absl::Duration limit,
              const RuncRunOptions& options, OnResult on_result);
  RuncRun RunDecorated(std::string_view prefix,
                       std::vector<std::string> command, absl::Duration limit,
                       const RuncRunOptions& options, DoneStatus done);
  static absl::Status Decorated(std::string_view prefix, const Result& result);

  EventLoop& loop_;
  Reaper& reaper_;
  const RuncSettings settings_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_RUNC_H_
