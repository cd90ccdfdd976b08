#include "process/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr std::string_view kPipeCopyFailed =
    "failed to start io pipe copy: unable to copy pipes";
constexpr std::string_view kConsoleCopyFailed = "failed to start console copy";
constexpr std::string_view kNoMaster = "failed to retrieve console master";

// Root in a user namespace must be able to reopen /dev/stdout, which takes the
// owner's rights.
absl::Status Chown(int fd, const StdioRequest& request, std::string_view name) {
  if ((request.io_uid == geteuid() && request.io_gid == getegid()) ||
      fchown(fd, request.io_uid, request.io_gid) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, fmt::format("failed to chown {}", name));
}

// A reader of our own of the pipe that a logger reads: O_NONBLOCK belongs to
// the open file, and a duplicate would share the logger's.
absl::StatusOr<UniqueFd> SecondReader(int pipe) {
  return OpenFd(fmt::format("/proc/self/fd/{}", pipe), O_RDONLY | O_NONBLOCK);
}

bool AtEnd(int pipe) {
  pollfd poll_fd = {.fd = pipe, .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & POLLIN) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Stdio>> Stdio::Create(EventLoop& loop,
                                                     Reaper& reaper,
                                                     StdioRequest request,
                                                     StdioOptions options) {
  ASSIGN_OR_RETURN(StdioPlan plan, PlanStdio(request));
  return std::unique_ptr<Stdio>(new Stdio(loop, reaper, std::move(request),
                                          std::move(plan), std::move(options)));
}

Stdio::Stdio(EventLoop& loop, Reaper& reaper, StdioRequest request,
             StdioPlan plan, StdioOptions options)
    : loop_(loop),
      reaper_(reaper),
      request_(std::move(request)),
      plan_(std::move(plan)),
      options_(std::move(options)),
      self_(std::make_shared<Stdio*>(this)) {}

Stdio::~Stdio() = default;

std::string Stdio::console_socket() const {
  return console_socket_ == nullptr ? "" : console_socket_->path();
}

void Stdio::Trouble(std::string_view what) {
  if (on_trouble_ != nullptr) on_trouble_(what);
}

// ---- Prepare

void Stdio::Prepare(DoneStatus done) {
  done_ = std::move(done);
  connecting_ = false;
  switch (plan_.mode) {
    case StdioPlan::Mode::kNull:
      return FinishSoon(absl::OkStatus());
    case StdioPlan::Mode::kFifo:
      return FinishSoon(MakePipes());
    case StdioPlan::Mode::kFile:
      return PrepareFile();
    case StdioPlan::Mode::kLogger:
      if (absl::Status status = PrepareLogger(); !status.ok()) {
        FinishSoon(std::move(status));
      }
      return;
    case StdioPlan::Mode::kTerminal: {
      absl::StatusOr<std::unique_ptr<ConsoleSocket>> socket =
          ConsoleSocket::Create(loop_);
      if (socket.ok()) console_socket_ = *std::move(socket);
      return FinishSoon(socket.status());
    }
  }
}

absl::Status Stdio::MakePipes() {
  if (!plan_.stdin_path.empty()) {
    ASSIGN_OR_RETURN(Pipe pipe, MakePipe());
    RETURN_IF_ERROR(Chown(pipe.read_end.get(), request_, "stdin"));
    RETURN_IF_ERROR(SetNonblocking(pipe.write_end.get()));
    child_stdin_ = std::move(pipe.read_end);
    stdin_pipe_ = std::move(pipe.write_end);
  }
  if (!plan_.stdout_path.empty()) {
    ASSIGN_OR_RETURN(Pipe pipe, MakePipe());
    RETURN_IF_ERROR(Chown(pipe.write_end.get(), request_, "stdout"));
    RETURN_IF_ERROR(SetNonblocking(pipe.read_end.get()));
    child_stdout_ = std::move(pipe.write_end);
    stdout_pipe_ = std::move(pipe.read_end);
  }
  if (!plan_.stderr_path.empty()) {
    ASSIGN_OR_RETURN(Pipe pipe, MakePipe());
    RETURN_IF_ERROR(Chown(pipe.write_end.get(), request_, "stderr"));
    RETURN_IF_ERROR(SetNonblocking(pipe.read_end.get()));
    child_stderr_ = std::move(pipe.write_end);
    stderr_pipe_ = std::move(pipe.read_end);
  }
  return absl::OkStatus();
}

void Stdio::PrepareFile() {
  loop_.Offload(
      [path = plan_.stdout_path, recheck = options_.log_recheck] {
        return LogFile::Open(path, recheck);
      },
      [self = std::weak_ptr<Stdio*>(self_)](
          absl::StatusOr<std::shared_ptr<LogFile>> file) {
        const auto stdio = self.lock();
        if (stdio == nullptr || (*stdio)->done_ == nullptr) return;
        absl::Status status = file.status();
        if (status.ok()) {
          (*stdio)->log_file_ = *std::move(file);
          status = (*stdio)->MakePipes();
        }
        (*stdio)->Finish(std::move(status));
      });
}

absl::Status Stdio::PrepareLogger() {
  absl::StatusOr<Pipe> out = MakePipe();
  absl::StatusOr<Pipe> err = MakePipe();
  if (!out.ok()) return Prefixed("failed to create stdout pipes", out.status());
  if (!err.ok()) return Prefixed("failed to create stderr pipes", err.status());
  // Readers of our own, idle while the logger lives: if it dies they keep the
  // container's writes from failing, and are read to nowhere.
  ASSIGN_OR_RETURN(stdout_pipe_, SecondReader(out->read_end.get()));
  ASSIGN_OR_RETURN(stderr_pipe_, SecondReader(err->read_end.get()));
  RETURN_IF_ERROR(Chown(out->write_end.get(), request_, "stdout"));
  RETURN_IF_ERROR(Chown(err->write_end.get(), request_, "stderr"));
  child_stdout_ = std::move(out->write_end);
  child_stderr_ = std::move(err->write_end);
  logger_ = std::make_unique<Logger>(loop_, reaper_, options_.logger);
  logger_->Start(
      plan_.logger, request_, out->read_end.get(), err->read_end.get(),
      [this](absl::Status status) { Finish(std::move(status)); },
      [this](std::string_view how) { OnLoggerExit(how); });
  return absl::OkStatus();
}

void Stdio::CloseChildEnds() {
  child_stdin_.Reset();
  child_stdout_.Reset();
  child_stderr_.Reset();
}

// ---- the end of a step

void Stdio::FinishSoon(absl::Status status) {
  finish_soon_ =
      loop_.After(absl::ZeroDuration(),
                  [this, status = std::move(status)] { Finish(status); });
}

void Stdio::Finish(absl::Status status) {
  if (done_ == nullptr || finish_soon_.active()) return;  // cancelled
  deadline_.Reset();
  openers_.clear();
  if (connecting_) console_socket_.reset();
  if (!status.ok()) CloseAll();
  std::exchange(done_, nullptr)(std::move(status));
}

void Stdio::Cancel(const absl::Status& why) {
  if (done_ == nullptr || finish_soon_.active()) return;
  absl::Status status = Interrupted(why);
  CloseAll();
  FinishSoon(std::move(status));
}

absl::Status Stdio::Interrupted(const absl::Status& why) const {
  if (!connecting_) return why;
  if (!request_.terminal) {
    if (openers_.empty()) return Unclassified(kPipeCopyFailed, why);
    const bool stdout_waits =
        !plan_.stdout_path.empty() && !stdout_.has_value();
    const OutputOpener& waiting =
        stdout_waits ? *openers_.front() : *openers_.back();
    return Unclassified(kPipeCopyFailed, waiting.Interrupted(why));
  }
  if (!master_.valid()) return Unclassified(kNoMaster, why);
  return Unclassified(kConsoleCopyFailed,
                      openers_.empty() ? why : openers_[0]->Interrupted(why));
}

void Stdio::CloseAll() {
  openers_.clear();
  console_socket_.reset();
  deadline_.Reset();
  stdin_grace_.Reset();
  CloseChildEnds();
  stdin_reader_.Reset();
  stdin_writer_.Reset();
  console_ = nullptr;
  input_.reset();
  outputs_.clear();
  stdin_pipe_.Reset();
  stdout_pipe_.Reset();
  stderr_pipe_.Reset();
  console_logger_stderr_.Reset();
  stdout_.reset();
  stderr_.reset();
  log_file_.reset();
  master_.Reset();
  if (logger_ != nullptr) logger_->Kill();
}

// ---- Connect

void Stdio::Connect(absl::Duration limit, DoneStatus done) {
  done_ = std::move(done);
  connecting_ = true;
  deadline_ = loop_.After(limit, [this] {
    Finish(
        Interrupted(absl::DeadlineExceededError("context deadline exceeded")));
  });
  if (absl::Status status = StartConnecting(); !status.ok()) {
    FinishSoon(std::move(status));
  }
}

absl::Status Stdio::StartConnecting() {
  if (!plan_.stdin_path.empty()) {
    ASSIGN_OR_RETURN(StdinFifo fifo, OpenStdinFifo(plan_.stdin_path));
    stdin_reader_ = std::move(fifo.reader);
    stdin_writer_ = std::move(fifo.writer);
    if (stdin_closed_) {
      // Not at once: a client that has not come through its open(2) yet would
      // find that stdin has ended.
      stdin_grace_ =
          loop_.After(options_.stdin_grace, [this] { stdin_writer_.Reset(); });
    }
  }
  switch (plan_.mode) {
    case StdioPlan::Mode::kNull:
    case StdioPlan::Mode::kLogger:
      FinishSoon(absl::OkStatus());
      break;
    case StdioPlan::Mode::kFile:
      FinishSoon(StartCopies());
      break;
    case StdioPlan::Mode::kFifo:
      if (plan_.stdout_path.empty() && plan_.stderr_path.empty()) {
        FinishSoon(StartCopies());
        break;
      }
      // Both at once, so the order in which a client opens them does not
      // matter.
      if (!plan_.stdout_path.empty()) {
        OpenOutput(plan_.stdout_path, &stdout_, kPipeCopyFailed);
      }
      if (!plan_.stderr_path.empty()) {
        OpenOutput(plan_.stderr_path, &stderr_, kPipeCopyFailed);
      }
      break;
    case StdioPlan::Mode::kTerminal:
      if (console_socket_ == nullptr) {
        return absl::InternalError("terminal without a console socket");
      }
      console_socket_->Receive([this](absl::StatusOr<UniqueFd> master) {
        OnMaster(std::move(master));
      });
      break;
  }
  return absl::OkStatus();
}

void Stdio::OpenOutput(const std::string& path, std::optional<Output>* output,
                       std::string_view failure) {
  openers_.push_back(std::make_unique<OutputOpener>(
      loop_, path, [this, output, failure](absl::StatusOr<Output> opened) {
        if (!opened.ok()) {
          return Finish(Unclassified(failure, opened.status()));
        }
        *output = *std::move(opened);
        OnOpened(failure);
      }));
}

void Stdio::OnOpened(std::string_view failure) {
  if ((!plan_.stdout_path.empty() && !stdout_.has_value()) ||
      (!plan_.stderr_path.empty() && !stderr_.has_value())) {
    return;
  }
  Finish(Unclassified(failure,
                      request_.terminal ? StartConsole() : StartCopies()));
}

absl::Status Stdio::StartCopies() {
  // Names of one plain file share one open file.
  const auto log_of = [this](std::optional<Output>& output, bool same) {
    if (log_file_ == nullptr || !same) {
      log_file_ = std::make_shared<LogFile>(std::move(output->fd));
    }
    return log_file_;
  };
  const auto copy = [this](UniqueFd pipe, std::optional<Output>& output,
                           std::shared_ptr<LogFile> log) {
    if (log != nullptr) {
      auto file = std::make_unique<FileCopy>(
          loop_, std::move(pipe), std::move(log), options_.spill.memory,
          [this](std::string_view what) { Trouble(what); },
          [this] { OnCopyEnd(); });
      file->Start();
      outputs_.push_back(std::move(file));
    } else {
      auto fifo = std::make_unique<PipeCopy>(
          loop_, std::move(pipe), *std::move(output), options_.spill,
          [this](std::string_view what) { Trouble(what); },
          [this] { OnCopyEnd(); });
      fifo->Start();
      outputs_.push_back(std::move(fifo));
    }
    output.reset();
  };
  const bool file_mode = plan_.mode == StdioPlan::Mode::kFile;
  if (stdout_pipe_.valid()) {
    std::shared_ptr<LogFile> log = log_file_;
    if (!file_mode && !stdout_->is_fifo) log = log_of(stdout_, false);
    copy(std::move(stdout_pipe_), stdout_, std::move(log));
  }
  if (stderr_pipe_.valid()) {
    std::shared_ptr<LogFile> log = file_mode ? log_file_ : nullptr;
    if (!file_mode && !stderr_->is_fifo) {
      log = log_of(stderr_, plan_.stderr_path == plan_.stdout_path);
    }
    copy(std::move(stderr_pipe_), stderr_, std::move(log));
  }
  log_file_.reset();  // it is the copies'
  if (stdin_reader_.valid()) {
    Output output;
    output.fd = std::move(stdin_pipe_);
    // What it holds back, its client holds.
    auto input = std::make_unique<PipeCopy>(
        loop_, std::move(stdin_reader_), std::move(output),
        SpillOptions{.memory = 0}, nullptr, nullptr);
    input->Start();
    input_ = std::move(input);
  }
  return absl::OkStatus();
}

void Stdio::OnMaster(absl::StatusOr<UniqueFd> master) {
  if (!master.ok()) return Finish(Unclassified(kNoMaster, master.status()));
  master_ = *std::move(master);
  absl::Status status;
  if (!plan_.logger.path.empty()) {
    status = StartConsoleLogger();
    if (status.ok()) return;  // it goes on when the logger is ready
  } else if (!plan_.stdout_path.empty()) {
    return OpenOutput(plan_.stdout_path, &stdout_, kConsoleCopyFailed);
  } else {
    status = StartConsole();
  }
  Finish(Unclassified(kConsoleCopyFailed, status));
}

absl::Status Stdio::StartConsoleLogger() {
  ASSIGN_OR_RETURN(Pipe out, MakePipe());
  ASSIGN_OR_RETURN(Pipe err, MakePipe());
  RETURN_IF_ERROR(SetNonblocking(out.write_end.get()));
  stdout_.emplace().fd = std::move(out.write_end);
  console_logger_stderr_ = std::move(err.write_end);
  logger_ = std::make_unique<Logger>(loop_, reaper_, options_.logger);
  logger_->Start(
      plan_.logger, request_, out.read_end.get(), err.read_end.get(),
      [this](absl::Status status) {
        if (status.ok()) status = StartConsole();
        Finish(Unclassified(kConsoleCopyFailed, status));
      },
      [this](std::string_view how) { OnLoggerExit(how); });
  return absl::OkStatus();
}

absl::Status Stdio::StartConsole() {
  Output output;
  if (stdout_.has_value()) output = *std::move(stdout_);
  stdout_.reset();
  auto console = std::make_unique<ConsoleCopy>(
      loop_, std::move(master_), std::move(stdin_reader_), std::move(output),
      options_.spill, [this](std::string_view what) { Trouble(what); },
      [this] { OnCopyEnd(); });
  console_ = console.get();
  outputs_.push_back(std::move(console));
  RETURN_IF_ERROR(console_->Start());
  // A size that does not suit the terminal is no reason to fail it.
  if (size_.has_value()) (void)console_->Resize(size_->first, size_->second);
  if (exited_) console_->ProcessExited();
  return absl::OkStatus();
}

// ---- while it runs

void Stdio::CloseStdin() {
  stdin_closed_ = true;
  stdin_writer_.Reset();
}

absl::Status Stdio::Resize(uint16_t width, uint16_t height) {
  if (!request_.terminal) return absl::OkStatus();
  size_ = {width, height};
  return console_ == nullptr ? absl::OkStatus()
                             : console_->Resize(width, height);
}

void Stdio::ProcessExited() {
  exited_ = true;
  if (console_ != nullptr) console_->ProcessExited();
}

void Stdio::OnLoggerExit(std::string_view how) {
  // With its input at an end it was meant to.
  bool all_read = true;
  for (UniqueFd* const pipe : {&stdout_pipe_, &stderr_pipe_}) {
    if (!pipe->valid()) continue;
    if (AtEnd(pipe->get())) {
      pipe->Reset();
      continue;
    }
    all_read = false;
    if (draining_) {
      logger_lost_ += UnreadBytes(pipe->get());
      pipe->Reset();
    } else {
      discards_.push_back(
          std::make_unique<PipeDiscard>(loop_, std::move(*pipe)));
    }
  }
  if (console_ != nullptr && !console_->ended()) all_read = false;
  if (!all_read || how != "exit status 0") {
    Trouble(fmt::format("logging binary {}: {}{}", plan_.logger.path, how,
                        all_read ? "" : ", its input is discarded"));
  }
  if (draining_) CheckFinished();
}

void Stdio::OnCopyEnd() {
  if (console_ != nullptr && console_->ended()) {
    // A console's logger finds the end of both its inputs.
    console_logger_stderr_.Reset();
    if (logger_ != nullptr) logger_->Close();
  }
  if (draining_) {
    drain_timer_ = loop_.After(absl::ZeroDuration(), [this] {
      drained_ != nullptr ? CheckDrain() : CheckBackground();
    });
  }
}

StdioCounters Stdio::counters() const {
  StdioCounters counters = {.lost = logger_lost_};
  for (const auto& output : outputs_) {
    counters.output += output->moved();
    counters.held += output->held();
    counters.lost += output->lost();
  }
  for (const UniqueFd* const pipe : {&stdout_pipe_, &stderr_pipe_}) {
    if (pipe->valid()) counters.held += UnreadBytes(pipe->get());
  }
  for (const auto& discard : discards_) counters.lost += discard->bytes();
  if (input_ != nullptr) counters.input = input_->moved();
  if (console_ != nullptr) counters.input = console_->input_moved();
  return counters;
}

}  // namespace wisp
