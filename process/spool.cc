#include "process/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "fmt/format.h"

namespace wisp {
namespace {

constexpr size_t kChunk = size_t{64} << 10;
constexpr int kChunksPerTurn = 16;

// A file that is gone when it is closed.
UniqueFd OpenNameless(const std::string& directory) {
  UniqueFd fd(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // Not every file system can do that.
  std::string path = directory + "/.stdio-XXXXXX";
  fd.Reset(mkostemp(path.data(), O_CLOEXEC));
  if (fd.valid()) unlink(path.c_str());
  return fd;
}

// Writes at `place` for as long as the file takes it. Error: an errno.
int WriteAt(int fd, std::string_view* data, uint64_t place) {
  while (!data->empty()) {
    const ssize_t n =
        pwrite(fd, data->data(), data->size(), static_cast<off_t>(place));
    if (n > 0) {
      data->remove_prefix(static_cast<size_t>(n));
      place += static_cast<uint64_t>(n);
    } else if (n == 0) {
      return EIO;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

uint64_t Spool::Room() const {
  const uint64_t used = size();
  return in_hand_.empty() && used < Capacity() ? Capacity() - used : 0;
}

bool Spool::NeedsFile() const {
  return in_file_ || (MayMoveToFile() && size() + kChunk > options_.memory);
}

Spool::Moved Spool::Turn(int source, int sink, bool may_use_file) {
  Moved moved;
  moved.source_dry = source < 0;
  char buffer[kChunk];
  for (int i = 0; i < kChunksPerTurn; ++i) {
    if (NeedsFile() && !may_use_file) {
      moved.needs_file = true;
      break;
    }
    Deliver(sink, buffer, &moved);
    if (moved.sink_gone || source < 0 || !takes_more()) break;
    const size_t wanted =
        options_.drop ? kChunk : std::min<uint64_t>(kChunk, Room());
    const ssize_t n = read(source, buffer, wanted);
    if (n > 0) {
      Push(std::string_view(buffer, static_cast<size_t>(n)), &moved);
    } else if (n == 0 || errno != EINTR) {
      moved.source_ended = n == 0;
      moved.source_dry = true;
      break;
    }
  }
  return moved;
}

void Spool::Add(std::string_view data) {
  Moved ignored;
  Push(data, &ignored);
}

void Spool::Push(std::string_view data, Moved* moved) {
  if (MayMoveToFile() && size() + data.size() > options_.memory) {
    moved->error = MoveToFile();
    no_file_ = moved->error != 0;
  }
  if (options_.drop && size() + data.size() > Capacity()) {
    Drop(size() + data.size() - Capacity(), moved);
    if (data.size() > Capacity()) {
      dropped_ += data.size() - Capacity();
      moved->dropped += data.size() - Capacity();
      data.remove_prefix(data.size() - Capacity());
    }
  }
  int error = Store(&data);
  if (!data.empty() && options_.drop) {
    // The disk is full before the ring is: what is oldest makes room for all.
    Drop(size(), moved);
    error = Store(&data);
    dropped_ += data.size();
    moved->dropped += data.size();
  } else if (!data.empty()) {
    in_hand_.append(data);
  }
  if (error != 0) moved->error = error;
}

int Spool::Store(std::string_view* data) {
  const uint64_t capacity = RingCapacity();
  if (!ring_.valid() && !data->empty() && capacity > 0) {
    absl::StatusOr<UniqueFd> memory = MakeMemfd("stdio");
    if (!memory.ok()) return ENOMEM;
    ring_ = *std::move(memory);
  }
  while (!data->empty() && tail_ - head_ < capacity) {
    const uint64_t place = tail_ % capacity;
    std::string_view part =
        data->substr(0, std::min(capacity - place, capacity - (tail_ - head_)));
    const size_t size = part.size();
    const int error = WriteAt(ring_.get(), &part, place);
    tail_ += size - part.size();
    data->remove_prefix(size - part.size());
    if (error != 0) return error;
  }
  return 0;
}

int Spool::MoveToFile() {
  UniqueFd file = OpenNameless(options_.directory);
  if (!file.valid()) return errno;
  std::string buffer(kChunk, '\0');
  const uint64_t size = tail_ - head_;
  for (uint64_t done = 0; done < size;) {
    const uint64_t place = (head_ + done) % options_.memory;
    const size_t wanted =
        std::min({uint64_t{kChunk}, size - done, options_.memory - place});
    const ssize_t n =
        pread(ring_.get(), buffer.data(), wanted, static_cast<off_t>(place));
    if (n <= 0) return n == 0 ? EIO : errno;
    std::string_view part(buffer.data(), static_cast<size_t>(n));
    const int error = WriteAt(file.get(), &part, done);
    if (error != 0) return error;
    done += static_cast<uint64_t>(n);
  }
  ring_ = std::move(file);
  in_file_ = true;
  head_ = 0;
  tail_ = size;
  return 0;
}

void Spool::Drop(uint64_t bytes, Moved* moved) {
  bytes = std::min(bytes, tail_ - head_);
  dropped_ += bytes;
  moved->dropped += bytes;
  cut_ = true;
  Pop(bytes);
}

void Spool::Pop(uint64_t bytes) {
  head_ += bytes;
  if (head_ < tail_) return;
  head_ = tail_ = 0;
  ring_.Reset();
  in_file_ = false;
}

size_t Spool::Load(char* buffer, size_t size) const {
  const uint64_t place = head_ % RingCapacity();
  const size_t wanted =
      std::min({uint64_t{size}, tail_ - head_, RingCapacity() - place});
  ssize_t n;
  do {
    n = pread(ring_.get(), buffer, wanted, static_cast<off_t>(place));
  } while (n < 0 && errno == EINTR);
  return n > 0 ? static_cast<size_t>(n) : 0;
}

void Spool::Deliver(int sink, char* buffer, Moved* moved) {
  for (int i = 0; i < kChunksPerTurn && !empty(); ++i) {
    if (marker_.empty() && dropped_ > 0 &&
        !DeliverMarker(sink, buffer, moved)) {
      return;
    }
    const bool marker = !marker_.empty();
    std::string_view data = marker ? marker_ : in_hand_;
    if (!marker && tail_ > head_) {
      data = std::string_view(buffer, Load(buffer, kChunk));
      if (data.empty()) {  // a disk that cannot read what it has written
        moved->error = EIO;
        Drop(tail_ - head_, moved);
        continue;
      }
    }
    if (data.empty()) return;
    const std::optional<size_t> written = Write(sink, data, moved);
    if (!written.has_value()) return;
    if (marker) {
      marker_.erase(0, *written);
      continue;
    }
    moved->delivered += *written;
    if (tail_ > head_) {
      Pop(*written);
    } else {
      in_hand_.erase(0, *written);
    }
  }
}

std::optional<size_t> Spool::Write(int sink, std::string_view data,
                                   Moved* moved) {
  ssize_t n;
  do {
    n = write(sink, data.data(), data.size());
  } while (n < 0 && errno == EINTR);
  if (n <= 0) {
    moved->sink_gone = n < 0 && errno != EAGAIN;
    return std::nullopt;
  }
  at_line_start_ = data[static_cast<size_t>(n) - 1] == '\n';
  return static_cast<size_t>(n);
}

bool Spool::DeliverMarker(int sink, char* buffer, Moved* moved) {
  // Whole lines go, so that none looks like another.
  if (std::exchange(cut_, false) && tail_ > head_) {
    const std::string_view front(buffer, Load(buffer, kChunk));
    const size_t line = front.find('\n');
    if (line != std::string_view::npos) Drop(line + 1, moved);
    cut_ = false;
  }
  // Until it gets through, what is dropped meanwhile counts as well.
  const std::string marker =
      fmt::format("{}[wisp: {} bytes of output were dropped here]\n",
                  at_line_start_ ? "" : "\n", dropped_);
  const std::optional<size_t> written = Write(sink, marker, moved);
  if (!written.has_value()) return false;
  marker_ = marker.substr(*written);
  dropped_ = 0;
  return true;
}

}  // namespace wisp
