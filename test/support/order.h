// What the event stream and the answers of a shim must agree on: exactly one
// exit for each process that was started, in the promised order, with the truth
// in it.
#ifndef WISP_TEST_SUPPORT_ORDER_H_
#define WISP_TEST_SUPPORT_ORDER_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "test/support/test_shim.h"

namespace wisp {

// Init is the process without an exec's id.
struct ProcessName {
  std::string container;
  std::string exec;

  std::string Text() const;
  auto operator<=>(const ProcessName&) const = default;
};

// What the client knows of a call that was to make or start a process.
enum class Outcome {
  kNotAsked,
  kFailed,
  kUnknown,  // the caller's time was over, or his connection lost
  kDone,
};

// What happened to a process, as its client has seen it.
struct ProcessFacts {
  Outcome made = Outcome::kNotAsked;  // by Create, by Exec
  Outcome started = Outcome::kNotAsked;
  uint32_t pid = 0;  // as Create or Start has answered; 0: neither has
  // What it may have ended with, and from when on there was a reason for it.
  std::map<uint32_t, absl::Time> statuses;

  struct Answer {
    std::string from;  // "Wait"
    uint32_t status = 0;
    absl::Time exited_at;
  };
  std::vector<Answer> answers;  // about its end

  // The best of several attempts counts.
  static void Merge(Outcome outcome, Outcome* into);
  // `status` is possible from `when` on.
  void Allow(uint32_t status, absl::Time when);
};

using Facts = std::map<ProcessName, ProcessFacts>;

// Go's zero time, which stands for "never" on the wire.
absl::Time NeverExited();

// Everything that is wrong with a finished stream, one line each. All
// containers have been deleted; events of those that `facts` does not name are
// wrong as well.
std::vector<std::string> FindFaults(const std::vector<TestEvent>& events,
                                    const Facts& facts);

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_ORDER_H_
