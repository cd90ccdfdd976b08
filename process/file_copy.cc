#include "process/file_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr int kLogFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY;
constexpr int kPortions = 64;  // chunks that one thread copies at most
constexpr absl::Duration kFirstPause = absl::Milliseconds(50);
constexpr absl::Duration kLongestPause = absl::Seconds(1);

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

void LogFile::Recheck() {
  const absl::Time now = absl::Now();
  if (path_.empty() || now - checked_ < recheck_) return;
  checked_ = now;
  struct stat named;
  struct stat open;
  if (fstat(fd_.get(), &open) != 0) return;
  if (stat(path_.c_str(), &named) == 0 && named.st_ino == open.st_ino &&
      named.st_dev == open.st_dev) {
    return;
  }
  absl::StatusOr<UniqueFd> fresh = OpenFd(path_, kLogFlags, 0644);
  if (fresh.ok()) fd_ = *std::move(fresh);
}

int LogFile::Write(std::string_view* data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Recheck();
  while (!data->empty()) {
    const ssize_t n = write(fd_.get(), data->data(), data->size());
    if (n > 0) {
      data->remove_prefix(static_cast<size_t>(n));
    } else if (n == 0) {
      return EIO;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

FileCopy::FileCopy(EventLoop& loop, UniqueFd source,
                   std::shared_ptr<LogFile> file, size_t stalled_size,
                   OnTrouble on_trouble, OnEnd on_end)
    : StreamCopy(std::move(on_end)),
      loop_(loop),
      source_(std::make_shared<UniqueFd>(std::move(source))),
      file_(std::move(file)),
      stalled_size_(stalled_size),
      on_trouble_(std::move(on_trouble)),
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
  for (int i = 0; i < kPortions; ++i) {
    const ssize_t n = read(source, buffer, sizeof(buffer));
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
  AddMoved(portion.written);
  if (ended()) {  // cut off meanwhile
    AddLost(portion.rest.size() + UnreadBytes(source_->get()));
    source_->Reset();
    return;
  }
  if (portion.error != 0) {
    rest_ = std::move(portion.rest);
    if (!std::exchange(failing_, true) && on_trouble_ != nullptr) {
      on_trouble_(fmt::format("write log: {}", ErrnoText(portion.error)));
    }
    EnlargePipe(source_->get(), stalled_size_);
    MakeRoom();
    retry_ = loop_.After(pause_, [this] { Work(); });
    pause_ = std::min(pause_ * 2, kLongestPause);
    return;
  }
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

void FileCopy::Cut() {
  if (ended()) return;
  retry_.Reset();
  watch_.Reset();
  // A thread that is at it uses the fd until it is through: OnPortion().
  if (!working_) {
    AddLost(rest_.size() + UnreadBytes(source_->get()));
    source_->Reset();
  }
  rest_.clear();
  file_.reset();
  SetEnded();
}

}  // namespace wisp
