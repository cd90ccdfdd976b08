// Bytes that wait: a bounded queue in a file without a name.
#ifndef WISP_PROCESS_SPOOL_H_
#define WISP_PROCESS_SPOOL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "process/fd.h"
#include "process/spill_options.h"

namespace wisp {

// A ring in a memfd of at most `memory` bytes; what does not fit moves to a
// file, if there may be one. While nothing waits there is neither. For one
// thread at a time; what uses the file takes as long as the disk likes.
class Spool {
 public:
  explicit Spool(SpillOptions options) : options_(std::move(options)) {}

  // What a turn has done.
  struct Moved {
    uint64_t delivered = 0;
    uint64_t dropped = 0;
    bool source_dry = false;  // there was no more, or no more to be had
    bool source_ended = false;
    bool sink_gone = false;
    bool needs_file = false;  // it stopped where the file begins
    int error = 0;            // an errno of the spool's own
  };
  // Gives what waits to `sink` and takes what `source` has, until both would
  // block; not for ever, however fast they are. Neither may block. A source of
  // -1 is none.
  Moved Turn(int source, int sink, bool may_use_file);

  // Takes `data` as if it came from a source. Only while all fits into memory.
  void Add(std::string_view data);

  uint64_t size() const { return tail_ - head_ + in_hand_.size(); }
  // True if nothing is left to deliver, not even a word about what was dropped.
  bool empty() const { return size() == 0 && marker_.empty() && dropped_ == 0; }
  bool takes_more() const { return options_.drop || Room() > 0; }

 private:
  bool MayMoveToFile() const {
    return !in_file_ && !no_file_ && options_.file > options_.memory;
  }
  uint64_t RingCapacity() const {
    return in_file_ ? options_.file : options_.memory;
  }
  uint64_t Capacity() const {
    return MayMoveToFile() ? options_.file : RingCapacity();
  }
  uint64_t Room() const;
  bool NeedsFile() const;

  void Push(std::string_view data, Moved* moved);
  int Store(std::string_view* data);
  int MoveToFile();
  void Drop(uint64_t bytes, Moved* moved);
  void Pop(uint64_t bytes);
  size_t Load(char* buffer, size_t size) const;
  void Deliver(int sink, char* buffer, Moved* moved);
  // False if it has to wait.
  bool DeliverMarker(int sink, char* buffer, Moved* moved);
  // How much was written; nothing if the sink takes none.
  std::optional<size_t> Write(int sink, std::string_view data, Moved* moved);

  const SpillOptions options_;
  UniqueFd ring_;
  bool in_file_ = false;
  bool no_file_ = false;  // it could not be made
  // Positions in the stream; their places in the ring are these modulo its
  // capacity.
  uint64_t head_ = 0;
  uint64_t tail_ = 0;
  std::string in_hand_;         // taken, but the disk is full
  uint64_t dropped_ = 0;        // of which no marker has told yet
  bool cut_ = false;            // by which a line may have lost its beginning
  std::string marker_;          // what is left of one that is under way
  bool at_line_start_ = false;  // the sink, as far as we know
};

}  // namespace wisp

#endif  // WISP_PROCESS_SPOOL_H_
