// One container: init, execs, cgroup, and the order of their events.
#ifndef WISP_SHIM_CONTAINER_H_
#define WISP_SHIM_CONTAINER_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "cgroups/cgroup.h"
#include "cgroups/host.h"
#include "cgroups/oom_watch.h"
#include "mount/options.h"
#include "process/detached_stdio.h"
#include "process/event_loop.h"
#include "process/exec_process.h"
#include "process/init_process.h"
#include "process/reaper.h"
#include "process/runc.h"
#include "process/runc_options.h"
#include "process/settled.h"
#include "process/spill_options.h"
#include "process/stdio.h"
#include "process/turn_queue.h"
#include "shim/bundle.h"
#include "shim/task_events.h"

namespace wisp {

// What all containers of a shim share. Outlives them.
struct ContainerContext {
  EventLoop& loop;
  Reaper& reaper;
  TaskEvents& events;
  DetachedStdio& detached;  // output that outlives its process
  std::string namespace_name;
  CgroupHost cgroups;
  RuncLimits limits;
  SpillOptions spill;  // without a directory: each container's bundle
  std::vector<std::string> runtime_env;  // of every run of the runtime
};

struct ContainerConfig {
  std::string id;
  std::string bundle;
  std::vector<Mount> rootfs;
  StdioRequest stdio;
  std::string checkpoint;  // image to restore from; empty: none
  std::string parent_checkpoint;
  RuncOptions options;
};

// What happened to a process, for the answer to Delete.
struct ExitInfo {
  pid_t pid = 0;
  ExitStatus status;
};

// Keeps two promises, whatever the runtime does meanwhile: an exit is told
// after the start, and init's exit last. They are two conditions: an exec's
// exit waits for its start to be told, init's for everything in
// MayTellInitExit().
//
// Always held by shared_ptr: flows and completions keep it alive.
class Container final : public std::enable_shared_from_this<Container> {
 public:
  using Environment = InitProcess::Environment;

  // From init's death on, how long the rest may hold its exit back.
  static constexpr absl::Duration kStartAfterDeathLimit = absl::Seconds(10);
  static constexpr absl::Duration kStuckExecLimit = absl::Seconds(10);
  static constexpr absl::Duration kRecordLimit = absl::Seconds(1);
  // How long the answer to Start, a look at the processes and a signal may be
  // put off until init has come to rest.
  static constexpr absl::Duration kStartLimit = Settling::kWindow;
  static constexpr absl::Duration kListLimit = absl::Milliseconds(40);
  static constexpr absl::Duration kSignalLimit = Settling::kWindow;
  // Runs of the runtime for execs, at once.
  static constexpr int kParallelExecs = 16;

  // Does nothing outside yet. Errors: what stdio the request wants.
  static absl::StatusOr<std::shared_ptr<Container>> Make(
      ContainerContext& context, ContainerConfig config);
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  const ContainerConfig& config() const { return config_; }
  const Bundle& bundle() const { return bundle_; }
  InitProcess& init() { return *init_; }
  const InitProcess& init() const { return *init_; }
  RuncDriver& driver() { return driver_; }
  const RuncDriver& driver() const { return driver_; }
  // By id.
  const std::map<std::string, std::shared_ptr<ExecProcess>>& execs() const {
    return execs_;
  }
  const std::optional<Cgroup>& cgroup() const { return cgroup_; }
  // A pid namespace of its own, which dies with init.
  bool has_private_pid_namespace() const { return private_pid_namespace_; }
  // Init is dead and that has been told.
  bool exited() const { return exit_told_; }

  // Once the runtime has made it: tells of it, and from now on of its end.
  void MarkCreated();

  // Done when init runs its own program and has come to rest in it, or is busy,
  // or after kStartLimit; at once if it ends.
  void Start(const Environment& extra_env, Done<pid_t> done);
  void Pause(const Environment& extra_env, DoneStatus done);
  void Resume(const Environment& extra_env, DoneStatus done);
  // SIGKILL at once; another signal just after Start when init has come to
  // rest, or after kSignalLimit.
  void Kill(int signal, bool all, DoneStatus done);

  // Registers an exec; `process` is the JSON of an OCI process.
  absl::Status AddExec(const std::string& exec_id, std::string process,
                       StdioRequest stdio);
  // Null if there is none.
  std::shared_ptr<ExecProcess> FindExec(const std::string& exec_id) const;
  void StartExec(const std::string& exec_id, const Environment& extra_env,
                 Done<pid_t> done);
  // Ends a Start of init (empty id) or of an exec; it fails with `why`.
  void CancelStart(const std::string& exec_id, const absl::Status& why);
  // Lets go of an exec that has ended or never began.
  void DeleteExec(const std::string& exec_id, Done<ExitInfo> done);

  // All processes, by the host's pids. Never empty, but for a checkpoint that
  // has not been restored. Just after Start only when init has come to rest, or
  // after kListLimit.
  void Pids(Done<std::vector<pid_t>> done);
  // After its deletion: output that is still on its way goes its own way, and
  // nobody waits any more for execs that were never started.
  void OnDeleted();

  // The exec that has this pid now; null if none.
  const ExecProcess* ExecOfPid(pid_t pid) const;

 private:
  Container(ContainerContext& context, ContainerConfig config);
  absl::StatusOr<std::unique_ptr<Stdio>> MakeStdio(StdioRequest request);
  void LoadCgroup();
  void CheckOom(const ExitStatus& status);
  void TellOom();

  void OnInitDeath();
  void BeginInitExit();
  void RecordExit();
  void KillLeftovers();
  void LimitStartsAfterDeath();
  bool MayTellInitExit() const;
  void Reconsider();
  void TellInitExit();
  void AnswerKills();
  void KillNow(int signal, bool all, DoneStatus done);
  void ListProcesses(Done<std::vector<pid_t>> done);
  void OnExecDeath(const std::string& exec_id);
  void TellExecExit(ExecProcess& exec);
  void OnExecStarted(const std::shared_ptr<ExecProcess>& exec,
                     const absl::Status& status, Done<pid_t> done);

  ContainerContext& context_;
  const ContainerConfig config_;
  const Bundle bundle_;
  RuncDriver driver_;
  std::unique_ptr<InitProcess> init_;
  std::map<std::string, std::shared_ptr<ExecProcess>> execs_;
  TurnQueue exec_turns_;
  // Deletes of execs that are being started.
  std::multimap<std::string, EventLoop::Task> after_exec_start_;

  bool private_pid_namespace_ = false;
  std::optional<Cgroup> cgroup_;
  std::unique_ptr<OomWatch> oom_;

  bool created_ = false;
  bool killed_by_us_ = false;  // a SIGKILL was asked for
  // Of those SIGKILLs that the runtime has not answered.
  std::vector<std::weak_ptr<DoneStatus>> kills_;
  bool exit_begun_ = false;
  bool exit_recorded_ = false;
  bool leftovers_killed_ = false;
  bool stuck_execs_given_up_ = false;
  bool exit_told_ = false;
  Settling settling_;
  EventLoop::TimerHandle record_limit_;
  EventLoop::TimerHandle start_limit_;
  EventLoop::TimerHandle stuck_limit_;
};

}  // namespace wisp

#endif  // WISP_SHIM_CONTAINER_H_
