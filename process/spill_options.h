// How much output may wait for a reader who does not keep up, and what happens
// beyond that.
#ifndef WISP_PROCESS_SPILL_OPTIONS_H_
#define WISP_PROCESS_SPILL_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "process/status_macros.h"

namespace wisp {

// For each stream. Nothing of it is taken before the stream stalls.
struct SpillOptions {
  uint64_t memory = uint64_t{1} << 20;  // bytes
  // Bytes that may wait in a file instead, once they are more than `memory`.
  // The file has no name, so nothing of it can be left behind.
  uint64_t file = 0;
  // When that is full, too: true: the oldest bytes are dropped, and a line in
  // their place says how many; false: the writer blocks and nothing is lost.
  bool drop = false;
  // Where the file is made. On a tmpfs it is memory, too, and threads are not
  // needed.
  std::string directory;
  bool on_tmpfs = false;

  // A pipe is a buffer of bounded size that blocks its writer. Anything else
  // takes a Spill.
  bool needs_spool() const { return drop || file > memory; }
  // The most bytes that wait.
  uint64_t capacity() const { return file > memory ? file : memory; }
};

// Reads `memory=1M,file=64M,full=drop,dir=/var/spool` over the defaults; sizes
// are bytes, or K, M or G of them. Error: kInvalidArgument, naming the part
// that is wrong.
absl::StatusOr<SpillOptions> ParseSpillOptions(std::string_view text);

}  // namespace wisp

#endif  // WISP_PROCESS_SPILL_OPTIONS_H_
