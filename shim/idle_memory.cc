#include "shim/idle_memory.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "process/fd.h"

namespace wisp {
namespace {

// Bytes of memory that are resident and of no file.
size_t ResidentBytes() {
  size_t size = 0;
  size_t resident = 0;
  size_t shared = 0;
  const absl::StatusOr<std::string> pages = ReadFile("/proc/self/statm");
  if (!pages.ok() ||
      sscanf(pages->c_str(), "%zu %zu %zu", &size, &resident, &shared) != 3) {
    return 0;
  }
  return (resident - shared) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

IdleMemory::IdleMemory(EventLoop& loop)
    : loop_(loop), least_(ResidentBytes()) {}

void IdleMemory::Consider() {
  // What was given back before counts as free all the same.
  if (!waits()) {
    if (mallinfo2().fordblks < kWorthIt) return;
    const size_t resident = ResidentBytes();
    least_ = std::min(least_, resident);
    if (resident < least_ + kWorthIt) return;
  }
  later_ = loop_.After(kDelay, [this] {
    malloc_trim(0);
    least_ = ResidentBytes();
  });
}

}  // namespace wisp
