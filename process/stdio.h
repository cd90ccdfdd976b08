// The stdio of one process, from the client's names to its last byte.
#ifndef WISP_PROCESS_STDIO_H_
#define WISP_PROCESS_STDIO_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "process/console.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/fifo.h"
#include "process/file_copy.h"
#include "process/logger.h"
#include "process/reaper.h"
#include "process/spill_options.h"
#include "process/status_macros.h"
#include "process/stdio_plan.h"
#include "process/stream_copy.h"

namespace wisp {

struct StdioOptions {
  // Delete waits for output until there was none for so long, or so long in
  // all.
  absl::Duration drain_quiet = absl::Seconds(2);
  absl::Duration drain_total = absl::Seconds(5);
  // How long a CloseStdin() from before Connect() waits for a client that is
  // only about to open its end.
  absl::Duration stdin_grace = absl::Milliseconds(100);
  absl::Duration log_recheck = absl::Seconds(10);
  // Of each output.
  SpillOptions spill;
  Logger::Limits logger;
};

struct StdioCounters {
  uint64_t input = 0;   // bytes given to the process
  uint64_t output = 0;  // bytes taken from it and given on
  uint64_t held = 0;    // bytes that wait for whoever takes them
  uint64_t lost = 0;    // bytes that nobody was there to take
};

// In order: Prepare(), the runtime is spawned with the child's ends,
// CloseChildEnds(), Connect() once the runtime has succeeded, Drain(). What is
// asked for too early (CloseStdin, Resize, ProcessExited) is remembered.
//
// Completions are called from the loop, never from within the method; they may
// destroy this. Destroying it at any time closes everything at once and kills a
// logger; for a gentle end hand it to DetachedStdio. The program must ignore
// SIGPIPE.
class Stdio {
 public:
  using OnTrouble = absl::AnyInvocable<void(std::string_view what)>;

  // Reads the names, touches nothing. The references must outlive it. Errors:
  // `unknown STDIO scheme X`, `unable to parse stdout uri: ...`.
  static absl::StatusOr<std::unique_ptr<Stdio>> Create(
      EventLoop& loop, Reaper& reaper, StdioRequest request,
      StdioOptions options = {});
  ~Stdio();
  Stdio(const Stdio&) = delete;
  Stdio& operator=(const Stdio&) = delete;

  const StdioRequest& request() const { return request_; }
  bool terminal() const { return request_.terminal; }

  // Called with what goes wrong beside any call: a dead logger, a full disk,
  // output that was cut off.
  void SetOnTrouble(OnTrouble on_trouble) {
    on_trouble_ = std::move(on_trouble);
  }

  // Makes the container's ends, or the console socket; starts a logger and
  // waits until it is ready; opens a log file.
  void Prepare(DoneStatus done);
  // For SpawnOptions; -1: /dev/null. Ours.
  int child_stdin() const { return child_stdin_.get(); }
  int child_stdout() const { return child_stdout_.get(); }
  int child_stderr() const { return child_stderr_.get(); }
  // Empty without a terminal.
  std::string console_socket() const;
  // Must follow the spawn at once: while we hold the container's ends its
  // streams have no end.
  void CloseChildEnds();

  // Opens the client's ends and starts to copy; waits for the client, and for
  // the terminal, until `limit` (kDeadlineExceeded). The errors' texts are
  // containerd's, whole. After one everything is closed.
  void Connect(absl::Duration limit, DoneStatus done);
  // Ends a Prepare() or Connect() under way: it fails with `why` at the end of
  // its text. Does nothing else.
  void Cancel(const absl::Status& why);

  // The process's stdin ends when all that clients have written is read and
  // they, too, have closed it.
  void CloseStdin();
  // Success without a terminal. Error: the errno's text.
  absl::Status Resize(uint16_t width, uint16_t height);
  // A terminal's output ends with its process, whoever else has it open.
  void ProcessExited();

  // Ends stdin and waits for the output as Delete does (see StdioOptions).
  // Then it is done, always with OK, though copying goes on while bytes move,
  // or wait, and the client reads. A logger is not waited for: it gets its time
  // to end by itself, then SIGTERM, then SIGKILL.
  void Drain(DoneStatus done);
  bool draining() const { return draining_; }
  // Nothing moves any more and there is no logger. Meaningful after Drain().
  bool finished() const;
  // Called from the loop when, after Drain(), it is finished().
  void SetOnFinished(absl::AnyInvocable<void() &&> on_finished);

  StdioCounters counters() const;

 private:
  Stdio(EventLoop& loop, Reaper& reaper, StdioRequest request, StdioPlan plan,
        StdioOptions options);

  absl::Status MakePipes();
  void PrepareFile();
  absl::Status PrepareLogger();
  absl::Status StartConnecting();
  void OpenOutput(const std::string& path, std::optional<Output>* output,
                  std::string_view failure);
  void OnOpened(std::string_view failure);
  absl::Status StartCopies();
  void OnMaster(absl::StatusOr<UniqueFd> master);
  absl::Status StartConsoleLogger();
  absl::Status StartConsole();
  void StartInput(UniqueFd reader);

  // The end of the Prepare() or Connect() under way, in a turn to come.
  void FinishSoon(absl::Status status);
  void Finish(absl::Status status);
  // What the step under way fails with if it ends for the reason `why`.
  absl::Status Interrupted(const absl::Status& why) const;

  void OnLoggerExit(std::string_view how);
  void OnCopyEnd();
  void CheckDrain();
  void StartBackground(bool quiet);
  void CheckBackground();
  void CheckFinished();
  bool copies_ended() const;
  uint64_t moved() const;
  void CloseAll();
  void Trouble(std::string_view what);

  EventLoop& loop_;
  Reaper& reaper_;
  const StdioRequest request_;
  const StdioPlan plan_;
  const StdioOptions options_;
  OnTrouble on_trouble_;

  // The container's ends, and ours.
  UniqueFd child_stdin_;
  UniqueFd child_stdout_;
  UniqueFd child_stderr_;
  UniqueFd stdin_pipe_;
  UniqueFd stdout_pipe_;
  UniqueFd stderr_pipe_;

  DoneStatus done_;  // of the step under way
  bool connecting_ = false;
  EventLoop::TimerHandle finish_soon_;
  EventLoop::TimerHandle deadline_;
  std::unique_ptr<ConsoleSocket> console_socket_;
  std::vector<std::unique_ptr<OutputOpener>> openers_;
  std::optional<Output> stdout_;
  std::optional<Output> stderr_;
  std::shared_ptr<LogFile> log_file_;

  bool stdin_closed_ = false;
  bool exited_ = false;
  std::optional<std::pair<uint16_t, uint16_t>> size_;
  UniqueFd stdin_reader_;  // of the client's fifo, until it is copied
  UniqueFd stdin_writer_;  // held so that stdin has no end
  EventLoop::TimerHandle stdin_grace_;
  UniqueFd master_;  // until it is copied

  std::unique_ptr<StreamCopy> input_;
  std::vector<std::unique_ptr<StreamCopy>> outputs_;
  ConsoleCopy* console_ = nullptr;  // the one in outputs_
  UniqueFd console_logger_stderr_;  // nothing comes of it but its end
  std::unique_ptr<Logger> logger_;
  std::vector<std::unique_ptr<PipeDiscard>> discards_;
  uint64_t logger_lost_ = 0;

  bool draining_ = false;
  DoneStatus drained_;
  absl::Time drain_start_;
  absl::Time last_move_;
  uint64_t last_moved_ = 0;
  EventLoop::TimerHandle drain_timer_;
  absl::AnyInvocable<void() &&> on_finished_;
  const std::shared_ptr<Stdio*> self_;  // its weak copies outlive us
};

}  // namespace wisp

#endif  // WISP_PROCESS_STDIO_H_
