#include "process/settled.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/fd.h"

namespace wisp {
namespace {

std::string Stat(std::string_view name, char state, unsigned flags) {
  return fmt::format("7 ({}) {} 1 7 7 0 -1 {} 11 0 0 0 0 0 0 0 20 0 1 0", name,
                     state, flags);
}

TEST(SettledTest, WantsAProgramOfItsOwnAndSleep) {
  EXPECT_TRUE(IsSettled(Stat("sh", 'S', 0x400000)));
  EXPECT_FALSE(IsSettled(Stat("runc:[2:INIT]", 'S', 0x400040)));
  EXPECT_FALSE(IsSettled(Stat("sh", 'R', 0x400000)));
  EXPECT_FALSE(IsSettled(Stat("sh", 'D', 0x400000)));
}

TEST(SettledTest, ExpectsNothingMoreOfWhatHasStoppedOrEnded) {
  for (const char state : {'T', 't', 'Z', 'X'}) {
    EXPECT_TRUE(IsSettled(Stat("sh", state, 0x40))) << state;
  }
}

TEST(SettledTest, IsNotMisledByAName) {
  EXPECT_FALSE(IsSettled(Stat("a) S 1 7 7 0 -1 0 (", 'R', 0)));
  EXPECT_TRUE(IsSettled(Stat("a) R 1 7 7 0 -1 64 (", 'S', 0)));
}

TEST(SettledTest, TakesNonsenseForAnAnswer) {
  for (const char* stat : {"", "7", "7 (sh", "7 (sh) ", "7 (sh) S 1 7 7",
                           "7 (sh) S 1 7 7 0 -1 many 1"}) {
    EXPECT_TRUE(IsSettled(stat)) << stat;
  }
}

// Calls `condition` until it holds; false after half a minute.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time end = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > end) return false;
    usleep(1000);
  }
  return true;
}

TEST(SettledTest, SeesAChildGoThroughItsStages) {
  absl::StatusOr<Pipe> gate = MakePipe();
  absl::StatusOr<Pipe> input = MakePipe();
  ASSERT_TRUE(gate.ok() && input.ok());
  const pid_t pid = fork();
  if (pid == 0) {
    gate->write_end.Reset();
    input->write_end.Reset();
    (void)ReadAll(gate->read_end.get());
    dup2(input->read_end.get(), STDIN_FILENO);
    execlp("cat", "cat", nullptr);
    _exit(127);
  }
  ASSERT_GT(pid, 0);
  // Runnable or asleep, it is still what was forked.
  EXPECT_FALSE(HasSettled(pid));
  gate->write_end.Reset();
  EXPECT_TRUE(Eventually([pid] { return HasSettled(pid); }));
  const absl::StatusOr<std::string> name =
      ReadFile(fmt::format("/proc/{}/comm", pid));
  ASSERT_TRUE(name.ok()) << name.status();
  EXPECT_EQ(*name, "cat\n");
  input->write_end.Reset();
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(HasSettled(pid));  // a zombie
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_TRUE(HasSettled(pid));  // nobody
}

}  // namespace
}  // namespace wisp
