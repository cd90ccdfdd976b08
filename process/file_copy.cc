#include "process/file_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr int kLogFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY;
constexpr int kPortions = 64;  // chunks that one thread copies at most
// A thread costs more than the few bytes that a pipe has got meanwhile, so it
// stays a little where so much has come already.
constexpr uint64_t kBusy = kCopyChunk / 2;
constexpr absl::Duration kLinger = absl::Milliseconds(10);
constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);
constexpr absl::Duration kSlow = absl::Milliseconds(100);

absl::Status MakeParents(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, fmt::format("mkdir {}", parent));
    }
  }
  return absl::OkStatus();
}

// Waits for more in a pipe, until `limit`.
bool MoreComes(int pipe, absl::Time limit) {
  pollfd ready = {.fd = pipe, .events = POLLIN, .revents = 0};
  const int64_t wait = absl::ToInt64Milliseconds(limit - absl::Now());
  return wait > 0 && poll(&ready, 1, static_cast<int>(wait)) > 0;
}

}  // namespace

absl::StatusOr<std::shared_ptr<LogFile>> LogFile::Open(std::string path,
                                                       absl::Duration recheck) {
  RETURN_IF_ERROR(MakeParents(path));
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFd(path, kLogFlags, 0644));
  auto file = std::make_shared<LogFile>(std::move(fd));
  file->path_ = std::move(path);
  file->recheck_ = recheck;
  file->checked_ = absl::Now();
  return file;
}

bool LogFile::NamesAnother() {
  const absl::Time now = absl::Now();
  if (path_.empty() || now - checked_ < recheck_) return false;
  checked_ = now;
  struct stat named;
  struct stat open;
  if (fstat(fd_.get(), &open) != 0) return false;
  return stat(path_.c_str(), &named) != 0 || named.st_ino != open.st_ino ||
         named.st_dev != open.st_dev;
}

int LogFile::Append(std::string_view* data) {
  while (!data->empty()) {
    const ssize_t n = write(fd_.get(), data->data(), data->size());
    if (n > 0) {
      at_line_start_ = (*data)[static_cast<size_t>(n) - 1] == '\n';
      data->remove_prefix(static_cast<size_t>(n));
    } else if (n == 0) {
      return EIO;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int LogFile::Write(std::string_view* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (data->empty()) return 0;
  rotated_ = rotated_ || NamesAnother();
  if (rotated_ && !at_line_start_) {
    const size_t end = std::min(data->find('\n'), data->size() - 1) + 1;
    std::string_view line = data->substr(0, end);
    // A file that takes no more is one to leave at once.
    if (Append(&line) != 0) at_line_start_ = true;
    data->remove_prefix(end - line.size());
  }
  if (rotated_ && at_line_start_) {
    absl::StatusOr<UniqueFd> fresh = OpenFd(path_, kLogFlags, 0644);
    if (fresh.ok()) fd_ = *std::move(fresh);
    rotated_ = false;
  }
  return Append(data);
}

FileCopy::FileCopy(EventLoop& loop, UniqueFd source,
                   std::shared_ptr<LogFile> file, uint64_t stalled_size,
                   OnTrouble on_trouble, OnEnd on_end)
    : StreamCopy(std::move(on_trouble), std::move(on_end)),
      loop_(loop),
      source_(std::make_shared<UniqueFd>(std::move(source))),
      file_(std::move(file)),
      stalled_size_(stalled_size),
      pause_(kFirstPause),
      self_(std::make_shared<FileCopy*>(this)) {}

FileCopy::Portion FileCopy::Copy(int source, LogFile& file, std::string rest) {
  Portion portion;
  std::string_view left = rest;
  portion.error = file.Write(&left);
  portion.written = rest.size() - left.size();
  if (portion.error != 0) {
    portion.rest = std::string(left);
    return portion;
  }
  char buffer[kCopyChunk];
  const absl::Time enough = absl::Now() + kLinger;
  for (int i = 0; i < kPortions; ++i) {
    const ssize_t n = read(source, buffer, sizeof(buffer));
    if (n < 0 && errno == EAGAIN && portion.written >= kBusy &&
        MoreComes(source, enough)) {
      continue;
    }
    if (n <= 0) {
      portion.end = n == 0;
      break;
    }
    left = std::string_view(buffer, static_cast<size_t>(n));
    portion.error = file.Write(&left);
    portion.written += static_cast<size_t>(n) - left.size();
    if (portion.error != 0) {
      portion.rest = std::string(left);
      break;
    }
  }
  return portion;
}

void FileCopy::WaitForSource() {
  absl::StatusOr<EventLoop::WatchHandle> watch =
      loop_.Watch(source_->get(), EPOLLIN, [this](uint32_t) { Work(); });
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    retry_ = loop_.After(kLongestPause, [this] { Work(); });
  }
}

void FileCopy::Work() {
  watch_.Reset();
  working_ = true;
  slow_ = loop_.After(kSlow,
                      [this] { EnlargePipe(source_->get(), stalled_size_); });
  loop_.Offload(
      [source = source_, file = file_, rest = std::exchange(rest_, {})] {
        return Copy(source->get(), *file, rest);
      },
      [self = std::weak_ptr<FileCopy*>(self_)](Portion portion) {
        if (const auto copy = self.lock()) {
          (*copy)->OnPortion(std::move(portion));
        }
      });
}

void FileCopy::OnPortion(Portion portion) {
  working_ = false;
  const bool slow = !slow_.active();
  slow_.Reset();
  AddMoved(portion.written);
  if (ended()) {  // cut off meanwhile
    AddLost(portion.rest.size() + UnreadBytes(source_->get()));
    source_->Reset();
    return;
  }
  if (portion.error != 0) {
    rest_ = std::move(portion.rest);
    if (!std::exchange(failing_, true)) {
      Trouble(fmt::format("write log: {}", ErrnoText(portion.error)));
    }
    EnlargePipe(source_->get(), stalled_size_);
    MakeRoom();
    retry_ = loop_.After(pause_, [this] { Work(); });
    pause_ = std::min(pause_ * 2, kLongestPause);
    return;
  }
  if (failing_ || slow) ReleasePipe(source_->get());
  failing_ = false;
  pause_ = kFirstPause;
  if (!portion.end) return WaitForSource();
  source_->Reset();
  file_.reset();
  SetEnded();
}

void FileCopy::MakeRoom() {
  const int size = fcntl(source_->get(), F_GETPIPE_SZ);
  if (size <= 0) return;
  const size_t room = static_cast<size_t>(size);
  if (UnreadBytes(source_->get()) <= room / 2) return;
  AddLost(rest_.size());
  rest_.clear();
  rest_.shrink_to_fit();
  char buffer[kCopyChunk];
  while (UnreadBytes(source_->get()) > room / 4) {
    const ssize_t n = read(source_->get(), buffer, sizeof(buffer));
    if (n <= 0) break;
    AddLost(static_cast<uint64_t>(n));
  }
}

uint64_t FileCopy::held() const {
  return rest_.size() + (source_->valid() ? UnreadBytes(source_->get()) : 0);
}

void FileCopy::Cut() {
  if (ended()) return;
  retry_.Reset();
  slow_.Reset();
  watch_.Reset();
  // A thread that is at it uses the fd until it is through: OnPortion().
  if (!working_) {
    AddLost(held());
    source_->Reset();
  }
  rest_.clear();
  file_.reset();
  SetEnded();
}

}  // namespace wisp
