#include "process/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr size_t kLongestName = 4096;  // of the pty, with which the fd comes
constexpr int kReadsPerTurn = 16;

absl::Status RecvError(std::string_view what) {
  return absl::UnknownError(fmt::format("recvfd: {}", what));
}

// One message with exactly one fd.
absl::StatusOr<UniqueFd> ReceiveFd(int socket) {
  char name[kLongestName];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];  // SCM_MAX_FD
  iovec data = {.iov_base = name, .iov_len = sizeof(name)};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return ErrnoStatus(errno, "recvmsg");
  // Owned before anything is judged: what came must not stay open.
  std::vector<UniqueFd> fds;
  int messages = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    ++messages;
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  if (static_cast<size_t>(n) >= kLongestName || messages == 0) {
    return RecvError(
        fmt::format("incorrect number of bytes read (n={} oobn={})", n,
                    message.msg_controllen));
  }
  if (messages != 1) {
    return RecvError(fmt::format("number of SCMs is not 1: {}", messages));
  }
  if (fds.size() != 1) {
    return RecvError(fmt::format("number of fds is not 1: {}", fds.size()));
  }
  if (isatty(fds[0].get()) == 0) {
    return absl::UnknownError("provided file is not a console");
  }
  return std::move(fds[0]);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ConsoleSocket>> ConsoleSocket::Create(
    EventLoop& loop) {
  std::unique_ptr<ConsoleSocket> socket(new ConsoleSocket(loop));
  RETURN_IF_ERROR(socket->Listen());
  return socket;
}

ConsoleSocket::~ConsoleSocket() {
  watch_.Reset();
  if (!path_.empty()) unlink(path_.c_str());
  if (!directory_.empty()) rmdir(directory_.c_str());
}

absl::Status ConsoleSocket::Listen() {
  const char* parent = getenv("XDG_RUNTIME_DIR");
  const bool runtime_dir = parent != nullptr && *parent != '\0';
  if (!runtime_dir) parent = getenv("TMPDIR");
  if (parent == nullptr || *parent == '\0') parent = "/tmp";
  std::string directory = fmt::format("{}/ptyXXXXXX", parent);
  if (mkdtemp(directory.data()) == nullptr) {
    return ErrnoStatus(errno, fmt::format("mkdtemp {}", directory));
  }
  directory_ = std::move(directory);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::string path = directory_ + "/pty.sock";
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::UnknownError(
        fmt::format("listen unix {}: the path is too long", path));
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  socket_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.valid()) return ErrnoStatus(errno, "socket");
  if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&address),
           sizeof(address)) != 0) {
    return ErrnoStatus(errno, fmt::format("bind {}", path));
  }
  path_ = std::move(path);
  // Sticky: what cleans up the runtime directory leaves such a file alone.
  if (runtime_dir && chmod(path_.c_str(), 01755) != 0) {
    return ErrnoStatus(errno, fmt::format("chmod {}", path_));
  }
  if (listen(socket_.get(), 1) != 0) {
    return ErrnoStatus(errno, fmt::format("listen {}", path_));
  }
  return absl::OkStatus();
}

void ConsoleSocket::Receive(Done<UniqueFd> done) {
  done_ = std::move(done);
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(socket_.get(), EPOLLIN, [this](uint32_t) { OnConnection(); });
  if (!watch.ok()) {
    loop_.Post([done = std::move(done_), status = watch.status()]() mutable {
      std::move(done)(status);
    });
    return;
  }
  watch_ = *std::move(watch);
}

void ConsoleSocket::OnConnection() {
  UniqueFd connection(
      accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    return Finish(ErrnoStatus(errno, "accept"));
  }
  watch_.Reset();
  socket_ = std::move(connection);  // and nobody else can connect
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(socket_.get(), EPOLLIN, [this](uint32_t) { OnMessage(); });
  if (!watch.ok()) return Finish(watch.status());
  watch_ = *std::move(watch);
}

void ConsoleSocket::OnMessage() { Finish(ReceiveFd(socket_.get())); }

void ConsoleSocket::Finish(absl::StatusOr<UniqueFd> result) {
  watch_.Reset();
  socket_.Reset();
  std::exchange(done_, nullptr)(std::move(result));
}

ConsoleCopy::ConsoleCopy(EventLoop& loop, UniqueFd master, UniqueFd input,
                         Output output, SpillOptions options,
                         OnTrouble on_trouble, OnEnd on_end)
    : StreamCopy(std::move(on_trouble), std::move(on_end)),
      loop_(loop),
      master_(std::move(master)),
      input_(std::move(input)),
      output_(std::move(output)),
      options_(std::move(options)),
      closer_(loop) {}

absl::Status ConsoleCopy::Start() {
  RETURN_IF_ERROR(SetNonblocking(master_.get()));
  ASSIGN_OR_RETURN(
      master_watch_,
      loop_.Watch(master_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                  [this](uint32_t) { OnMaster(); }));
  if (input_.valid()) {
    ASSIGN_OR_RETURN(
        input_watch_,
        loop_.Watch(input_.get(), EPOLLIN, [this](uint32_t) { PumpInput(); }));
  }
  return absl::OkStatus();
}

absl::Status ConsoleCopy::Resize(uint16_t width, uint16_t height) {
  if (!master_.valid()) return absl::OkStatus();
  const winsize size = {.ws_row = height, .ws_col = width};
  if (ioctl(master_.get(), TIOCSWINSZ, &size) != 0) {
    return absl::UnknownError(ErrnoText(errno));
  }
  return absl::OkStatus();
}

void ConsoleCopy::ProcessExited() {
  if (std::exchange(exited_, true) || ended()) return;
  OnInputEnd();
  readable_ = true;
  again_ = loop_.After(absl::ZeroDuration(), [this] { PumpOutput(); });
}

void ConsoleCopy::OnMaster() {
  readable_ = true;
  if (!pending_input_.empty()) PumpInput();
  PumpOutput();
}

void ConsoleCopy::PumpOutput() {
  if (ended() || closer_.waiting()) return;
  if (spill_ != nullptr) return PumpThroughSpill();
  if (!FlushOutput()) return;
  char buffer[kCopyChunk];
  for (int i = 0; i < kReadsPerTurn && readable_; ++i) {
    const ssize_t n = read(master_.get(), buffer, sizeof(buffer));
    if (n > 0) {
      const std::string_view data(buffer, static_cast<size_t>(n));
      const size_t written = TryWrite(data);
      if (written < data.size() && options_.needs_spool()) {
        spill_ = std::make_unique<Spill>(loop_, options_);
        spill_->Add(data.substr(written));
        return PumpThroughSpill();
      }
      if (written < data.size()) {
        pending_output_ = std::string(data.substr(written));
        return WaitForOutput();
      }
    } else if (n == 0 || errno != EINTR) {
      // The kernel lets what a dead process has written arrive before it says
      // so (tty_buffer_flush_work in n_tty_read).
      readable_ = false;
    }
  }
  if (stop_keeping_ && reader_gone_) {
    Cut();
  } else if (readable_) {
    again_ = loop_.After(absl::ZeroDuration(), [this] { PumpOutput(); });
  } else if (exited_ || hang_up_) {
    OnOutputEnd();
  }
}

void ConsoleCopy::PumpThroughSpill() {
  if (spill_->busy()) return;
  output_watch_.Reset();
  // What becomes readable meanwhile is an edge that sets it again.
  const int source = std::exchange(readable_, false) ? master_.get() : -1;
  const std::optional<Spool::Moved> moved =
      spill_->Turn(source, output_.fd.get(),
                   [this](const Spool::Moved& late) { OnSpilled(late); });
  if (moved.has_value()) OnSpilled(*moved);
}

void ConsoleCopy::OnSpilled(const Spool::Moved& moved) {
  AddSpilled(moved);
  if (!moved.source_dry) readable_ = true;
  if (moved.sink_gone) {
    AddLost(spill_->size());
    spill_.reset();
    LoseOutput();
  } else if (spill_->empty()) {
    spill_.reset();
  } else {
    WaitForOutput();
    // Soon enough for output; at once would not do where no fd can be had.
    if (moved.needs_file) {
      again_ = loop_.After(absl::Milliseconds(50), [this] { PumpOutput(); });
      return;
    }
    if (!readable_ || !spill_->takes_more()) return;
  }
  again_ = loop_.After(absl::ZeroDuration(), [this] { PumpOutput(); });
}

void ConsoleCopy::LoseOutput() {
  if (output_.is_fifo) AddLost(UnreadBytes(output_.fd.get()));
  output_watch_.Reset();
  output_ = Output();
  reader_gone_ = true;
}

size_t ConsoleCopy::TryWrite(std::string_view data) {
  size_t done = 0;
  while (done < data.size()) {
    if (!output_.fd.valid()) {
      AddLost(data.size() - done);
      return data.size();
    }
    const ssize_t n =
        write(output_.fd.get(), data.data() + done, data.size() - done);
    if (n >= 0) {
      AddMoved(static_cast<uint64_t>(n));
      done += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      // A logger that died, or the last reader: the terminal must not block.
      LoseOutput();
    }
  }
  return done;
}

void ConsoleCopy::WaitForOutput() {
  if (output_watch_.active()) return;
  if (spill_ == nullptr) EnlargePipe(output_.fd.get(), options_.memory);
  absl::StatusOr<EventLoop::WatchHandle> watch = loop_.Watch(
      output_.fd.get(), EPOLLOUT, [this](uint32_t) { PumpOutput(); });
  if (watch.ok()) {
    output_watch_ = *std::move(watch);
  } else {
    again_ = loop_.After(absl::Milliseconds(50), [this] { PumpOutput(); });
  }
}

bool ConsoleCopy::FlushOutput() {
  if (pending_output_.empty()) return true;
  pending_output_.erase(0, TryWrite(pending_output_));
  if (!pending_output_.empty()) {
    WaitForOutput();
    return false;
  }
  output_watch_.Reset();
  std::string().swap(pending_output_);
  return true;
}

void ConsoleCopy::OnOutputEnd() {
  again_.Reset();
  master_watch_.Reset();
  input_watch_.Reset();
  if (hang_up_) master_.Reset();
  if (!output_.fd.valid()) return SetEnded();
  closer_.Close(std::move(output_), [this] { SetEnded(); });
}

void ConsoleCopy::PumpInput() {
  if (!input_.valid() || !FlushInput()) return;
  char buffer[kCopyChunk];
  const ssize_t n = read(input_.get(), buffer, sizeof(buffer));
  if (n > 0) {
    pending_input_.assign(buffer, static_cast<size_t>(n));
    FlushInput();
  } else if (n == 0) {
    OnInputEnd();
    hang_up_ = true;
    readable_ = true;
    again_ = loop_.After(absl::ZeroDuration(), [this] { PumpOutput(); });
  }
}

bool ConsoleCopy::FlushInput() {
  while (!pending_input_.empty()) {
    const ssize_t n =
        write(master_.get(), pending_input_.data(), pending_input_.size());
    if (n > 0) {
      input_moved_ += static_cast<uint64_t>(n);
      pending_input_.erase(0, static_cast<size_t>(n));
    } else if (n == 0 || errno != EINTR) {
      // The line discipline is full; the master's next edge brings us back.
      input_watch_.Reset();
      return false;
    }
  }
  std::string().swap(pending_input_);
  if (!input_watch_.active()) {
    absl::StatusOr<EventLoop::WatchHandle> watch =
        loop_.Watch(input_.get(), EPOLLIN, [this](uint32_t) { PumpInput(); });
    if (watch.ok()) input_watch_ = *std::move(watch);
  }
  return true;
}

void ConsoleCopy::OnInputEnd() {
  input_watch_.Reset();
  input_.Reset();
  std::string().swap(pending_input_);
}

void ConsoleCopy::StopKeeping() {
  stop_keeping_ = true;
  output_.keeper.Reset();
  if (closer_.waiting()) Cut();
}

uint64_t ConsoleCopy::held() const {
  return pending_output_.size() + (spill_ != nullptr ? spill_->size() : 0);
}

void ConsoleCopy::Cut() {
  if (ended()) return;
  AddLost(held() + closer_.Abandon());
  spill_.reset();
  std::string().swap(pending_output_);
  output_watch_.Reset();
  master_watch_.Reset();
  again_.Reset();
  OnInputEnd();
  output_ = Output();
  master_.Reset();
  SetEnded();
}

}  // namespace wisp
