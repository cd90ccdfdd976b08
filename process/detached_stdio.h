// Output that outlives its process.
#ifndef WISP_PROCESS_DETACHED_STDIO_H_
#define WISP_PROCESS_DETACHED_STDIO_H_

#include <cstddef>
#include <list>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "process/stdio.h"

namespace wisp {

// Stdio whose processes are gone, and deleted: what of it is still on its way
// to a client, and loggers that write the end of their logs. The shim stays for
// their sake.
class DetachedStdio {
 public:
  // Drains it if that was not asked for yet. The loop and reaper of what it
  // holds must outlive it.
  void Take(std::unique_ptr<Stdio> stdio);
  size_t size() const { return stdios_.size(); }
  // Sums of those that are gone.
  const StdioCounters& counters() const { return counters_; }
  // Called whenever the last one goes.
  void SetOnEmpty(absl::AnyInvocable<void()> on_empty) {
    on_empty_ = std::move(on_empty);
  }

 private:
  void Release(std::list<std::unique_ptr<Stdio>>::iterator stdio);

  std::list<std::unique_ptr<Stdio>> stdios_;
  StdioCounters counters_;
  absl::AnyInvocable<void()> on_empty_;
};

}  // namespace wisp

#endif  // WISP_PROCESS_DETACHED_STDIO_H_
