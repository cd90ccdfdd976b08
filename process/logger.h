// A logging binary: binary:// and binary-v2://.
#ifndef WISP_PROCESS_LOGGER_H_
#define WISP_PROCESS_LOGGER_H_

#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/reaper.h"
#include "process/status_macros.h"
#include "process/stdio_plan.h"

namespace wisp {

// Its contract is containerd's (core/runtime/v2/logging@v2.4.2): fd 3 is the
// container's stdout, 4 its stderr, 5 a pipe on which it says that it is ready;
// CONTAINER_ID and CONTAINER_NAMESPACE are all its environment. Unlike there
// its stderr is read, for the error message, and it is watched.
class Logger {
 public:
  struct Limits {
    absl::Duration ready = absl::Seconds(10);
    absl::Duration end = absl::Seconds(10);  // from Close() to SIGTERM
    absl::Duration term = absl::Seconds(2);  // from SIGTERM to SIGKILL
  };
  // Called when it has ended, with `exit status N`. May destroy the logger.
  using OnExit = absl::AnyInvocable<void(std::string_view how) &&>;

  // The references must outlive the logger. Kills the logger if it runs still.
  Logger(EventLoop& loop, Reaper& reaper, Limits limits)
      : loop_(loop), reaper_(reaper), limits_(limits) {}
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  // Starts it with these fds, which are borrowed. `ready` is called from the
  // loop, within the limit; after an error the logger is no more. `on_exit`
  // follows only a logger that was ready.
  // Errors: `failed to start binary process: ...` (with a terminal `failed to
  // start logging binary process: ...`), `failed to read from logging
  // binary: ...`, and for binary-v2 `logging binary did not call ready (it may
  // have crashed or exited prematurely)`.
  void Start(const LoggerCommand& command, const StdioRequest& request,
             int stdout_fd, int stderr_fd, DoneStatus ready, OnExit on_exit);

  bool running() const { return child_.pidfd() != nullptr; }

  // Lets it end: its input has ended. SIGTERM and SIGKILL follow if it does
  // not. The caller is told by `on_exit`.
  void Close();
  void Kill();

 private:
  absl::Status TryStart(const LoggerCommand& command,
                        const StdioRequest& request, int stdout_fd,
                        int stderr_fd);
  void OnReadyPipe();
  void OnExited(const ExitStatus& status);
  void TellExit();
  void ReadStderr();
  void Ready(absl::Status status);

  EventLoop& loop_;
  Reaper& reaper_;
  const Limits limits_;
  std::string path_;
  bool must_say_ready_ = false;
  DoneStatus ready_;
  OnExit on_exit_;
  Reaper::Child child_;
  UniqueFd ready_pipe_;
  EventLoop::WatchHandle ready_watch_;
  UniqueFd stderr_pipe_;
  EventLoop::WatchHandle stderr_watch_;
  std::string stderr_;  // the end of what it wrote before it was ready
  std::string exited_;  // how, once it has
  EventLoop::TimerHandle timer_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_LOGGER_H_
