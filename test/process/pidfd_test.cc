#include "process/pidfd.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "gtest/gtest.h"
#include "process/fd.h"

namespace wisp {
namespace {

// A child that waits until it is killed or the gate closes.
class PidfdTest : public testing::Test {
 protected:
  PidfdTest() {
    gate_ = std::move(MakePipe()).value();
    pid_ = fork();
    if (pid_ == 0) {
      gate_.write_end.Reset();
      char byte;
      (void)!read(gate_.read_end.get(), &byte, 1);
      _exit(0);
    }
  }
  ~PidfdTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Reap();
    }
  }
  void Reap() {
    ASSERT_EQ(waitpid(pid_, nullptr, 0), pid_);
    pid_ = 0;
  }
  // Waits for the death without reaping.
  static void WaitForExit(const Pidfd& pidfd) {
    pollfd poll_fd = {.fd = pidfd.fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&poll_fd, 1, 10'000), 1);
  }

  Pipe gate_;
  pid_t pid_ = 0;
};

TEST_F(PidfdTest, TellsTheLivingFromTheDead) {
  const Pidfd pidfd = std::move(Pidfd::Open(pid_)).value();
  EXPECT_EQ(pidfd.pid(), pid_);
  EXPECT_FALSE(pidfd.exited());
  gate_.write_end.Reset();
  WaitForExit(pidfd);
  EXPECT_TRUE(pidfd.exited());  // a zombie
  Reap();
  EXPECT_TRUE(pidfd.exited());  // nothing
}

TEST_F(PidfdTest, SignalsAZombieButNotWhatIsReaped) {
  const Pidfd pidfd = std::move(Pidfd::Open(pid_)).value();
  EXPECT_TRUE(pidfd.Signal(SIGKILL).ok());
  WaitForExit(pidfd);
  EXPECT_TRUE(pidfd.Signal(SIGKILL).ok());
  Reap();
  EXPECT_EQ(pidfd.Signal(SIGKILL).code(), absl::StatusCode::kNotFound);
}

TEST_F(PidfdTest, RefusesASignalThatDoesNotExist) {
  const Pidfd pidfd = std::move(Pidfd::Open(pid_)).value();
  EXPECT_EQ(pidfd.Signal(500).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(pidfd.Signal(0).ok());
}

TEST_F(PidfdTest, OpeningNobodyIsNotFound) {
  const pid_t gone = pid_;
  kill(pid_, SIGKILL);
  Reap();
  EXPECT_EQ(Pidfd::Open(gone).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace wisp
