#include "shim/kernel.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fmt/format.h"

namespace wisp {
namespace {

// Numbers that no kernel takes, so that a call which is there does nothing.
struct Call {
  const char* name;
  long number;
  long arguments[4];
};
constexpr Call kCalls[] = {
    {"pidfd_open", SYS_pidfd_open, {-1, 0, 0, 0}},
    {"openat2", SYS_openat2, {-1, 0, 0, 0}},
    {"close_range", SYS_close_range, {1, 0, 0, 0}},
};

}  // namespace

absl::Status CheckKernel() {
  for (const Call& call : kCalls) {
    const auto& [first, second, third, fourth] = call.arguments;
    // A sandbox may refuse with another error: then the call itself will say.
    if (syscall(call.number, first, second, third, fourth) != -1 ||
        errno != ENOSYS) {
      continue;
    }
    utsname name{};
    uname(&name);
    return absl::FailedPreconditionError(
        fmt::format("wisp needs Linux 5.10 or newer: {} has no {}",
                    name.release, call.name));
  }
  return absl::OkStatus();
}

}  // namespace wisp
