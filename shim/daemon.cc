#include "shim/daemon.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <utility>

#include "fmt/format.h"
#include "process/spawn.h"
#include "shim/identity.h"
#include "shim/log.h"
#include "shim/state_dump.h"

namespace wisp {
namespace {

// After the last event. The next burst may follow at once, and what is done in
// the middle of one brings little, for what is in use lies everywhere.
constexpr absl::Duration kGiveBackDelay = absl::Seconds(1);

// A setting that cannot be read is no reason not to serve.
template <typename Setting>
Setting FromEnvironment(const char* name,
                        absl::StatusOr<Setting> (*parse)(std::string_view)) {
  const char* const text = getenv(name);
  if (text == nullptr) return {};
  absl::StatusOr<Setting> setting = parse(text);
  if (setting.ok()) return *std::move(setting);
  LogError("ignoring a setting", {{"name", name}, {"error", setting.status()}});
  return {};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(
    const ShimOptions& options, const Transport& transport, UniqueFd listener,
    std::optional<SocketName> name) {
  std::unique_ptr<Daemon> daemon(
      new Daemon(options, std::move(listener), std::move(name)));
  RETURN_IF_ERROR(daemon->Build(options, transport));
  return daemon;
}

Daemon::Daemon(const ShimOptions& options, UniqueFd listener,
               std::optional<SocketName> name)
    : options_(options),
      listener_(std::move(listener)),
      name_(std::move(name)) {}

absl::Status Daemon::Build(const ShimOptions& options,
                           const Transport& transport) {
  // Writing to a reader who has gone is an error like any other.
  signal(SIGPIPE, SIG_IGN);
  ASSIGN_OR_RETURN(log_, OpenLogFifo("log"));
  // What the C library or a sanitizer has to say belongs there as well.
  if (dup3(log_.get(), STDERR_FILENO, 0) < 0) return ErrnoStatus(errno, "dup3");
  SetLogOutput(log_.get());
  SetLogDebug(options.debug);

  ASSIGN_OR_RETURN(loop_, EventLoop::Create());
  ASSIGN_OR_RETURN(reaper_, Reaper::Create(*loop_));
  publisher_ = std::make_unique<EventPublisher>(
      *loop_,
      EventPublisher::Options{.address = options.ttrpc_address,
                              .containerd_namespace = options.namespace_name},
      [](const absl::Status& trouble) {
        LogWarning("events", {{"error", trouble}});
      });
  // Every burst, be it of calls or of exits, ends in events. By itself glibc
  // gives the kernel back only what is free at the top of the heap.
  publisher_->SetOnEmpty([this] {
    give_back_ = loop_->After(kGiveBackDelay, [] { malloc_trim(0); });
  });
  events_.emplace(*publisher_);
  detached_.emplace();
  detached_->SetOnEmpty([this] { ConsiderIdleExit(); });
  ASSIGN_OR_RETURN(CgroupHost cgroups, DetectCgroupHost());
  context_.emplace(ContainerContext{
      .loop = *loop_,
      .reaper = *reaper_,
      .events = *events_,
      .detached = *detached_,
      .namespace_name = options.namespace_name,
      .cgroups = std::move(cgroups),
      .limits = FromEnvironment("WISP_RUNTIME_LIMITS", ParseRuncLimits),
      .spill = FromEnvironment("WISP_STDIO_SPILL", ParseSpillOptions),
      // Or runc waits for, and answers to, a systemd that waits for containerd.
      .runtime_env = EnvironmentWithout({"NOTIFY_SOCKET"}),
  });
  service_ = std::make_unique<TaskService>(
      *context_,
      TaskService::Hooks{
          .on_shutdown =
              [this](EventLoop::Task reply) { OnShutdown(std::move(reply)); },
          .on_tasks = [this] { ConsiderIdleExit(); },
      });
  // Before the server, which may have threads: no signal is theirs.
  ASSIGN_OR_RETURN(
      signals_, loop_->WatchSignals({SIGTERM, SIGINT, SIGUSR1, SIGUSR2},
                                    [this](int signal) { OnSignal(signal); }));
  ASSIGN_OR_RETURN(
      server_,
      transport.make_server(
          *loop_, Server::Hooks{
                      .on_connections = [this](size_t) { ConsiderIdleExit(); },
                      .on_trouble =
                          [](const absl::Status& trouble) {
                            LogWarning("connections", {{"error", trouble}});
                          },
                      .on_broken =
                          [this](const absl::Status& why) {
                            LogError("cannot accept connections any more",
                                     {{"error", why}});
                            exit_status_ = 1;
                            loop_->Stop();
                          },
                  }));
  // The same methods and messages; a daemon may be replaced by one that speaks
  // the other version while we run.
  server_->Register("containerd.task.v2.Task", &service_->methods());
  server_->Register("containerd.task.v3.Task", &service_->methods());
  inspection_[std::string(kDumpMethod)] = [this](RawCall call) {
    call.Respond(DumpText());
  };
  server_->Register(std::string(kDumpService), &inspection_);
  RETURN_IF_ERROR(server_->Listen(listener_.get()));
  ConsiderIdleExit();
  return absl::OkStatus();
}

int Daemon::Run() {
  loop_->Run();
  Close();
  return exit_status_;
}

void Daemon::OnSignal(int signal) {
  if (signal == SIGUSR1) return Dump();
  if (signal == SIGUSR2) return SwitchDebug();
  // Containers stay: containerd finds the connection closed and runs `delete`.
  LogInfo("leaving on a signal", {{"signal", signal}});
  leaving_ = true;
  Close();
  DrainAndStop(kDrainAfterSignal, kDrainAfterSignal);
}

void Daemon::ConsiderIdleExit() {
  if (leaving_) return StopIfQuiet();
  if (service_->tasks() > 0 || server_->connections() > 0 ||
      detached_->size() > 0) {
    idle_.Reset();
    return;
  }
  if (idle_.active()) return;
  idle_ = loop_->After(
      service_->ever_had_task() ? kGrace : kGraceBeforeFirstTask, [this] {
        if (Leave([] {})) {
          LogInfo("leaving: no task and no connection for too long");
        }
      });
}

void Daemon::OnShutdown(EventLoop::Task reply) {
  if (leaving_) {
    std::move(reply)();
    return;
  }
  Leave(std::move(reply));
}

bool Daemon::Leave(EventLoop::Task reply) {
  // The name goes first: whoever looks for us from here on starts a new shim.
  // Who has come before is in the backlog, and if he is still there, we stay.
  absl::StatusOr<HiddenSocket> hidden = absl::NotFoundError("no name");
  if (name_.has_value()) hidden = HideSocket(*name_);
  const absl::StatusOr<size_t> newcomers = server_->AcceptPending();
  if (!newcomers.ok() || *newcomers > 0) {
    if (hidden.ok()) ShowSocket(*hidden);
    std::move(reply)();
    ConsiderIdleExit();
    return false;
  }
  std::move(reply)();
  if (hidden.ok()) RemoveHiddenSocket(*hidden);
  name_.reset();
  leaving_ = true;
  idle_.Reset();
  // Now, not at exit: upstream's tests want the connections closed when the pod
  // is gone, and a thread in D state would keep them open.
  Close();
  DrainAndStop(kDrainIfUp, kDrainIfDown);
  return true;
}

void Daemon::Close() {
  if (name_.has_value()) RemoveSocket(*name_);
  name_.reset();
  server_->StopListening();
  listener_.Reset();
  server_->CloseAllConnections();
}

void Daemon::DrainAndStop(absl::Duration limit_if_up,
                          absl::Duration limit_if_down) {
  publisher_->Drain(limit_if_up, limit_if_down, [this](absl::Status status) {
    if (!status.ok()) {
      LogError("leaving with undelivered events",
               {{"error", status}, {"events", publisher_->pending()}});
    }
    drained_ = true;
    StopIfQuiet();
  });
}

void Daemon::StopIfQuiet() {
  // Answers under way; output that a client still reads, loggers that write the
  // end of their logs. Each tells when it is done.
  if (drained_ && server_->connections() == 0 && detached_->size() == 0) {
    loop_->Stop();
  }
}

std::string Daemon::DumpText() const {
  return DumpState({.tasks = *service_,
                    .server = *server_,
                    .publisher = *publisher_,
                    .detached = *detached_,
                    .reaper = *reaper_,
                    .loop = *loop_})
      .view()
      .DumpIndented();
}

void Daemon::Dump() {
  const absl::StatusOr<std::string> path = WriteDump(DumpText(), *service_);
  if (!path.ok()) LogError("cannot dump the state", {{"error", path.status()}});
  LogInfo("state", {{"dump", path.value_or("")},
                    {"tasks", service_->tasks()},
                    {"connections", server_->connections()},
                    {"calls", server_->calls_in_flight()},
                    {"children", reaper_->known_children()},
                    {"threads", loop_->threads()},
                    {"events_pending", publisher_->pending()},
                    {"events_dropped", publisher_->dropped()}});
}

void Daemon::SwitchDebug() {
  SetLogDebug(!LogsDebug());
  LogInfo("debug messages", {{"logged", LogsDebug() ? "yes" : "no"}});
}

}  // namespace wisp
