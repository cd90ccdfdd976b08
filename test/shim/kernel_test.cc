#include "shim/kernel.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "process/fd.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// From now on and for good, `number` is a call that this kernel does not know.
bool Forget(long number) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {4, program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// What CheckKernel() says in a process whose kernel lacks `number`.
std::string SaidWithout(long number) {
  absl::StatusOr<Pipe> pipe = MakePipe();
  EXPECT_TRUE(pipe.ok());
  const pid_t pid = fork();
  if (pid == 0) {
    if (!Forget(number)) _exit(1);
    (void)WriteAll(pipe->write_end.get(), Message(CheckKernel()));
    _exit(0);
  }
  pipe->write_end.Reset();
  absl::StatusOr<std::string> said = ReadAll(pipe->read_end.get(), 4096);
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  return said.ok() ? *said : "";
}

TEST(KernelTest, IsContentWithThisOne) { EXPECT_TRUE(CheckKernel().ok()); }

TEST(KernelTest, NamesTheCallThatIsMissing) {
  const struct {
    long number;
    const char* name;
  } kCalls[] = {{SYS_pidfd_open, "has no pidfd_open"},
                {SYS_openat2, "has no openat2"},
                {SYS_close_range, "has no close_range"}};
  for (const auto& call : kCalls) {
    const std::string said = SaidWithout(call.number);
    EXPECT_THAT(said, StartsWith("wisp needs Linux 5.10 or newer: "));
    EXPECT_THAT(said, HasSubstr(call.name));
  }
}

TEST(KernelTest, DoesNotMindWhatItCanDoWithout) {
  EXPECT_EQ(SaidWithout(SYS_fsopen), "");
}

}  // namespace
}  // namespace wisp
