// The serving shim: builds every part in order, owns them all, runs the loop.
#ifndef WISP_SHIM_DAEMON_H_
#define WISP_SHIM_DAEMON_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "process/detached_stdio.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/reaper.h"
#include "process/status_macros.h"
#include "shim/container.h"
#include "shim/event_publisher.h"
#include "shim/options.h"
#include "shim/server.h"
#include "shim/socket.h"
#include "shim/task_events.h"
#include "shim/task_service.h"
#include "shim/transport.h"

namespace wisp {

class Daemon {
 public:
  // How long a shim without tasks and connections waits for either.
  static constexpr absl::Duration kGrace = absl::Seconds(30);
  static constexpr absl::Duration kGraceBeforeFirstTask = absl::Minutes(5);
  // How long undelivered events hold up its end: with a containerd that
  // answers, and with one that is down; and after a signal.
  static constexpr absl::Duration kDrainIfUp = absl::Seconds(5);
  static constexpr absl::Duration kDrainIfDown = absl::Seconds(60);
  static constexpr absl::Duration kDrainAfterSignal = absl::Seconds(1);

  // Takes over the process: its signals, fds 2 and 3, its children. `listener`
  // is bound under `name`, if that is known.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(
      const ShimOptions& options, const Transport& transport, UniqueFd listener,
      std::optional<SocketName> name);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Serves until it is shut down, and returns the exit status.
  int Run();

 private:
  Daemon(const ShimOptions& options, UniqueFd listener,
         std::optional<SocketName> name);
  absl::Status Build(const ShimOptions& options, const Transport& transport);
  void OnSignal(int signal);
  void ConsiderIdleExit();
  void OnShutdown(EventLoop::Task reply);
  bool Leave(EventLoop::Task reply);
  void Close();
  void DrainAndStop(absl::Duration limit_if_up, absl::Duration limit_if_down);
  void StopIfQuiet();
  std::string DumpText() const;
  void Dump();
  void SwitchDebug();

  const ShimOptions options_;
  UniqueFd log_;
  UniqueFd listener_;
  std::optional<SocketName> name_;
  int exit_status_ = 0;
  bool leaving_ = false;
  bool drained_ = false;  // of events

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<EventPublisher> publisher_;
  std::optional<TaskEvents> events_;
  std::optional<DetachedStdio> detached_;
  std::optional<ContainerContext> context_;
  std::unique_ptr<TaskService> service_;
  Methods inspection_;
  EventLoop::WatchHandle signals_;
  std::unique_ptr<Server> server_;
  EventLoop::TimerHandle idle_;
  EventLoop::TimerHandle give_back_;  // free memory, to the kernel
};

}  // namespace wisp

#endif  // WISP_SHIM_DAEMON_H_
