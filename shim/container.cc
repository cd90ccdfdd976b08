#include "shim/container.h"

#include <signal.h>

#include <algorithm>

#include "fmt/format.h"
#include "shim/log.h"

namespace wisp {
namespace {

RuncSettings SettingsFor(const ContainerContext& context,
                         const ContainerConfig& config) {
  return RuncSettings{
      .binary = config.options.Binary(),
      .root = config.options.RootOf(context.namespace_name),
      .container_id = config.id,
      .bundle = config.bundle,
      .systemd_cgroup = config.options.systemd_cgroup,
      .no_pivot_root = config.options.no_pivot_root,
      .no_new_keyring = config.options.no_new_keyring,
      .limits = context.limits,
      .env = context.runtime_env,
  };
}

// Only a namespace of its own counts: the kernel kills what is in it when its
// init dies. One with a path is shared (containerd's ShouldKillAllOnExit,
// cmd/containerd-shim-runc-v2/runc/util.go@v2.4.2).
bool HasPrivatePidNamespace(const Json& spec) {
  for (const JsonView& space : spec["linux"]["namespaces"].elements()) {
    if (space["type"].StringOr("") == "pid") {
      return space["path"].StringOr("").empty();
    }
  }
  return false;
}

// `slice:prefix:name`, which only the systemd driver understands. nerdctl
// writes it, but sends no options to a runtime that is not named like runc.
bool IsSystemdPath(std::string_view path) {
  return std::count(path.begin(), path.end(), ':') == 2 &&
         path.find('/') == std::string_view::npos;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Container>> Container::Make(
    ContainerContext& context, ContainerConfig config) {
  bool private_pid_namespace = false;
  if (const absl::StatusOr<Json> spec = Bundle(config.bundle).ReadConfig();
      spec.ok()) {
    private_pid_namespace = HasPrivatePidNamespace(*spec);
    if (config.options == RuncOptions() &&
        IsSystemdPath((*spec)["linux"]["cgroupsPath"].StringOr(""))) {
      config.options.systemd_cgroup = true;
    }
  } else {
    // The runtime will say what is wrong with it, in the words users know.
    LogWarning("cannot read the container's config",
               {{"id", config.id}, {"error", spec.status()}});
  }
  std::shared_ptr<Container> container(
      new Container(context, std::move(config)));
  ASSIGN_OR_RETURN(std::unique_ptr<Stdio> stdio,
                   container->MakeStdio(container->config_.stdio));
  container->private_pid_namespace_ = private_pid_namespace;
  Container* const self = container.get();
  container->init_ = std::make_unique<InitProcess>(
      context.loop, context.reaper, container->driver_, std::move(stdio),
      [self](const ExitStatus&) { self->OnInitDeath(); });
  return container;
}

Container::Container(ContainerContext& context, ContainerConfig config)
    : context_(context),
      config_(std::move(config)),
      bundle_(config_.bundle),
      driver_(context.loop, context.reaper, SettingsFor(context, config_)),
      exec_turns_(context.loop, kParallelExecs),
      settling_(context.loop) {}

absl::StatusOr<std::unique_ptr<Stdio>> Container::MakeStdio(
    StdioRequest request) {
  const std::string process = request.process_id;
  StdioOptions options;
  options.spill = context_.spill;
  if (options.spill.directory.empty()) {
    options.spill.directory = config_.bundle;
  }
  if (options.spill.needs_spool()) {
    options.spill.on_tmpfs = OnTmpfs(options.spill.directory);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Stdio> stdio,
                   Stdio::Create(context_.loop, context_.reaper,
                                 std::move(request), std::move(options)));
  stdio->SetOnTrouble([id = config_.id, process](std::string_view what) {
    LogWarning("stdio", {{"id", id}, {"process", process}, {"error", what}});
  });
  return stdio;
}

void Container::OnDeleted() {
  context_.detached.Take(init_->TakeStdio());
  // Execs that nobody has deleted go as well; those that never ran have no exit
  // that their waiters could wait for.
  for (const auto& [id, exec] : std::map(execs_)) {
    if (exec->state() == ExecState::kCreated && !exec->starting()) {
      exec->waiters().Release(ExitStatus());
    }
  }
}

void Container::MarkCreated() {
  LoadCgroup();
  context_.events.Created(config_.id, config_.bundle, config_.rootfs,
                          config_.stdio, config_.checkpoint, init_->pid());
  created_ = true;
  // It may have been killed before anybody was told of it (issue 9103).
  if (init_->death().has_value()) BeginInitExit();
}

void Container::LoadCgroup() {
  if (init_->pid() == 0) return;
  absl::StatusOr<Cgroup> cgroup = Cgroup::Load(context_.cgroups, init_->pid());
  if (!cgroup.ok()) {
    LogError("cannot find the container's cgroup",
             {{"id", config_.id}, {"error", cgroup.status()}});
    return;
  }
  cgroup_ = *std::move(cgroup);
  if (absl::Status enabled = cgroup_->EnableControllers(); !enabled.ok()) {
    LogDebug("cannot enable all cgroup controllers",
             {{"id", config_.id}, {"error", enabled}});
  }
  absl::StatusOr<std::unique_ptr<OomWatch>> watch =
      OomWatch::Create(context_.loop, *cgroup_, [this] { TellOom(); });
  if (!watch.ok()) {
    LogError("cannot watch for OOM kills",
             {{"id", config_.id}, {"error", watch.status()}});
    return;
  }
  oom_ = *std::move(watch);
}

// The runtime's start is over when it has let init go, which may be before that
// is more than the runtime's own process. Go's shim takes longer to say so, and
// answers Pids and Kill by way of another run of the runtime, so there has
// always been time for init to execute its program, and for that to start what
// it consists of and to handle signals. Clients count on it: TestContainerPids
// of 1.6.20 wants a shell and its child, TestContainerStopSignals of 2.4.2 that
// it has set its trap, and TestSandboxRemoveWithoutIPLeakage signals a pause
// container itself, which has two CPU shares. A signal that is early is worse
// than late: the kernel drops those that the init of a pid namespace does not
// handle yet, and whoever stops it waits in vain.
void Container::Start(const Environment& extra_env, Done<pid_t> done) {
  if (exit_begun_ && init_->state() == InitState::kCreated) {
    std::move(done)(absl::FailedPreconditionError(
        fmt::format("container {} init process is not running", config_.id)));
    return;
  }
  if (init_->starting() && !init_->start_given_up()) {
    // One at a time, as for an exec: a call that ends early must end its own.
    // One that was given up is only waited for.
    std::move(done)(absl::FailedPreconditionError("process is being started"));
    return;
  }
  init_->Start(extra_env, [self = shared_from_this(), done = std::move(done)](
                              absl::Status status) mutable {
    if (!status.ok()) {
      // What an early death waited for is over.
      self->Reconsider();
      std::move(done)(status);
      return;
    }
    if (!self->cgroup_.has_value()) self->LoadCgroup();  // a restored one
    self->context_.events.Started(self->config_.id, self->init_->pid());
    // Told at once if it has ended already: before the answer, after the start.
    if (self->init_->death().has_value() && !self->exit_begun_) {
      self->BeginInitExit();
    } else {
      self->Reconsider();
    }
    // What a checkpoint was taken of has long come to rest.
    if (self->config_.checkpoint.empty() && !self->init_->dead()) {
      self->settling_.Begin(self->init_->pid());
    }
    self->settling_.RunUnlessBusy(kStartLimit,
                                  [self, done = std::move(done)]() mutable {
                                    std::move(done)(self->init_->pid());
                                  });
  });
}

void Container::Pause(const Environment& extra_env, DoneStatus done) {
  init_->Pause(extra_env, [self = shared_from_this(), done = std::move(done)](
                              absl::Status status) mutable {
    if (status.ok()) self->context_.events.Paused(self->config_.id);
    std::move(done)(status);
  });
}

void Container::Resume(const Environment& extra_env, DoneStatus done) {
  init_->Resume(extra_env, [self = shared_from_this(), done = std::move(done)](
                               absl::Status status) mutable {
    if (status.ok()) self->context_.events.Resumed(self->config_.id);
    std::move(done)(status);
  });
}

absl::Status Container::AddExec(const std::string& exec_id, std::string process,
                                StdioRequest stdio_request) {
  if (execs_.contains(exec_id)) {
    return absl::AlreadyExistsError(fmt::format("id {}", exec_id));
  }
  RETURN_IF_ERROR(Check(init_->state(), Operation::kExec));
  ASSIGN_OR_RETURN(std::unique_ptr<Stdio> stdio,
                   MakeStdio(std::move(stdio_request)));
  execs_[exec_id] = std::make_shared<ExecProcess>(
      context_.loop, context_.reaper, driver_, exec_id, std::move(process),
      std::move(stdio), [weak = weak_from_this(), exec_id](const ExitStatus&) {
        if (const auto self = weak.lock()) self->OnExecDeath(exec_id);
      });
  context_.events.ExecAdded(config_.id, exec_id);
  return absl::OkStatus();
}

std::shared_ptr<ExecProcess> Container::FindExec(
    const std::string& exec_id) const {
  const auto exec = execs_.find(exec_id);
  return exec == execs_.end() ? nullptr : exec->second;
}

void Container::StartExec(const std::string& exec_id,
                          const Environment& extra_env, Done<pid_t> done) {
  const auto run = [self = shared_from_this(), exec_id, extra_env](
                       std::shared_ptr<TurnQueue::Turn> turn,
                       Done<pid_t> tell) {
    const std::shared_ptr<ExecProcess> exec = self->FindExec(exec_id);
    if (exec == nullptr) {
      std::move(tell)(absl::NotFoundError(
          fmt::format("process does not exist {}", exec_id)));
      return;
    }
    if (self->init_->dead()) {
      std::move(tell)(absl::FailedPreconditionError(fmt::format(
          "container {} init process is not running", self->config_.id)));
      return;
    }
    exec->Start(extra_env,
                [self, exec, turn = std::move(turn),
                 tell = std::move(tell)](absl::Status status) mutable {
                  self->OnExecStarted(exec, status, std::move(tell));
                });
  };
  exec_turns_.Enqueue([run,
                       done = std::move(done)](TurnQueue::Turn turn) mutable {
    run(std::make_shared<TurnQueue::Turn>(std::move(turn)), std::move(done));
  });
}

void Container::OnExecStarted(const std::shared_ptr<ExecProcess>& exec,
                              const absl::Status& status, Done<pid_t> done) {
  if (status.ok()) {
    // One that came up although init is dead goes the way of all the rest.
    if (init_->dead()) (void)exec->Kill(SIGKILL);
    context_.events.ExecStarted(config_.id, exec->id(), exec->pid());
    if (exec->death().has_value()) TellExecExit(*exec);
  } else if (exec->state() == ExecState::kCreated && !exec->starting()) {
    exec->waiters().Release(ExitStatus());
  }
  Reconsider();
  if (status.ok()) {
    std::move(done)(exec->pid());
  } else {
    std::move(done)(status);
  }
  const auto [first, last] = after_exec_start_.equal_range(exec->id());
  std::vector<EventLoop::Task> waiting;
  for (auto it = first; it != last; ++it)
    waiting.push_back(std::move(it->second));
  after_exec_start_.erase(first, last);
  for (EventLoop::Task& task : waiting) std::move(task)();
}

void Container::CancelStart(const std::string& exec_id,
                            const absl::Status& why) {
  if (exec_id.empty()) {
    init_->Cancel(why);
  } else if (const std::shared_ptr<ExecProcess> exec = FindExec(exec_id)) {
    exec->Cancel(why);
  }
}

void Container::DeleteExec(const std::string& exec_id, Done<ExitInfo> done) {
  const std::shared_ptr<ExecProcess> exec = FindExec(exec_id);
  if (exec == nullptr) {
    std::move(done)(
        absl::NotFoundError(fmt::format("process does not exist {}", exec_id)));
    return;
  }
  if (exec->starting()) {
    after_exec_start_.emplace(exec_id, [self = shared_from_this(), exec_id,
                                        done = std::move(done)]() mutable {
      self->DeleteExec(exec_id, std::move(done));
    });
    return;
  }
  if (absl::Status allowed = Check(exec->state(), Operation::kDelete);
      !allowed.ok()) {
    std::move(done)(allowed);
    return;
  }
  // One that never ran must not begin to while it is being taken apart.
  if (exec->state() == ExecState::kCreated) exec->MarkDeleted();
  exec->stdio().Drain([self = shared_from_this(), exec,
                       done = std::move(done)](absl::Status) mutable {
    exec->MarkDeleted();
    exec->waiters().Release(ExitStatus());  // of one that never ran
    const auto entry = self->execs_.find(exec->id());
    if (entry != self->execs_.end() && entry->second == exec) {
      self->execs_.erase(entry);
      self->context_.detached.Take(exec->TakeStdio());
    }
    std::move(done)(ExitInfo{
        exec->pid(), exec->waiters().released().value_or(ExitStatus())});
  });
}

void Container::Pids(Done<std::vector<pid_t>> done) {
  if (exit_told_ || init_->death().has_value()) {
    // The daemon takes a task without processes for a leak and deletes it, exit
    // status and all, when it restarts (core/runtime/v2/shim_load.go).
    std::move(done)(std::vector<pid_t>{init_->pid()});
    return;
  }
  if (!cgroup_.has_value()) {
    if (init_->pid() == 0) {
      std::move(done)(std::vector<pid_t>());
      return;
    }
    driver_.Ps(std::move(done));
    return;
  }
  settling_.Run(kListLimit,
                [self = shared_from_this(), done = std::move(done)]() mutable {
                  self->ListProcesses(std::move(done));
                });
}

void Container::ListProcesses(Done<std::vector<pid_t>> done) {
  absl::StatusOr<std::vector<pid_t>> pids = cgroup_->Procs();
  if (!pids.ok() || pids->empty()) pids = std::vector<pid_t>{init_->pid()};
  std::move(done)(std::move(pids));
}

const ExecProcess* Container::ExecOfPid(pid_t pid) const {
  for (const auto& [id, exec] : execs_) {
    if (exec->pid() == pid && exec->state() == ExecState::kRunning) {
      return exec.get();
    }
  }
  return nullptr;
}

}  // namespace wisp
