// A random schedule: what a client of a shim does, in which order, with which
// of the runtime's steps held up meanwhile.
#ifndef WISP_TEST_SUPPORT_SCHEDULE_PLAN_H_
#define WISP_TEST_SUPPORT_SCHEDULE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "test/support/order.h"

namespace wisp {

// What a process does when nobody kills it.
struct Behaviour {
  enum class Kind {
    kExits,  // at once
    kSleeps,
    kTraps,  // sleeps, and exits by itself on SIGTERM
  };
  Kind kind = Kind::kSleeps;
  uint32_t code = 0;  // of kExits and kTraps

  std::vector<std::string> Args() const;
};

struct PlannedProcess {
  Behaviour behaviour;
  bool outside = false;     // an exec that does not die with init
  bool has_output = false;  // an exec whose client opens its fifo late, if ever
};

struct Step {
  enum class Op {
    kCreate,
    kStart,  // of init or an exec
    kExec,
    kKill,
    kDelete,
    kWait,
    kState,
    kCloseGate,  // `text` is its name
    kOpenGate,
    kAwaitGate,   // until the runtime has come to it, or will not come any more
    kSetFailure,  // `text` is the verb with the id
    kClearFailure,
    kOpenReader,    // of the exec's output
    kAwaitAnswers,  // of all calls for the container, but for Waits
    kDisconnect,
    kTurn,  // for the others' sake
  };
  Op op;
  ProcessName process;
  std::string text;
  int signal = 0;
  int client = 0;
  absl::Duration limit = absl::InfiniteDuration();  // deadline; length of kTurn

  std::string Text() const;
};

struct Plan {
  static constexpr int kClients = 2;

  std::map<ProcessName, PlannedProcess> processes;
  std::vector<Step> steps;

  std::string Text() const;
};

// The same for the same seed, whatever happens when it is carried out. Ids
// begin with the seed; nothing is left out of the end: whoever carries it out
// opens, kills and deletes what is left.
Plan MakePlan(uint64_t seed);

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_SCHEDULE_PLAN_H_
