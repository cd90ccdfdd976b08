#include "process/settled.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "test/process/testing.h"

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

TEST(SettledTest, KnowsTheCpuTime) {
  const int64_t ticks = sysconf(_SC_CLK_TCK);
  EXPECT_EQ(CpuTime(fmt::format("7 (a b) R 1 7 7 0 -1 0 1 2 3 4 {} {} 5 6 20",
                                2 * ticks, ticks / 2)),
            absl::Seconds(2.5));
  EXPECT_EQ(CpuTime("7 (sh) R 1 7"), absl::ZeroDuration());
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
  const std::unique_ptr<EventLoop> loop = MakeLoop();
  EXPECT_TRUE(RunUntil(*loop, [pid] { return HasSettled(pid); }));
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

// A child that runs until it is told to sleep.
class Busy {
 public:
  Busy() {
    absl::StatusOr<Pipe> input = MakePipe();
    WISP_CHECK(input.ok() && SetNonblocking(input->read_end.get()).ok());
    pid_ = fork();
    if (pid_ == 0) {
      input->write_end.Reset();
      char byte = 0;
      while (read(input->read_end.get(), &byte, 1) < 0) {
      }
      execlp("sleep", "sleep", "1000", nullptr);
      _exit(127);
    }
    input_ = std::move(input->write_end);
  }
  ~Busy() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  void Sleep() { input_.Reset(); }

 private:
  pid_t pid_ = 0;
  UniqueFd input_;
};

constexpr absl::Duration kForEver = absl::Minutes(1);

class SettlingTest : public ::testing::Test {
 protected:
  EventLoop::Task Note(int number) {
    return [this, number] { order_.push_back(number); };
  }

  std::unique_ptr<EventLoop> loop_ = MakeLoop();
  Settling settling_{*loop_};
  Busy busy_;
  std::vector<int> order_;
};

TEST_F(SettlingTest, RunsWhatComesForAnOldProcessAtOnce) {
  settling_.Run(kForEver, Note(1));
  EXPECT_EQ(order_, std::vector<int>{1});
  settling_.Begin(busy_.pid());
  const absl::Time later = absl::Now() + Settling::kWindow;
  RunUntil(*loop_, [later] { return absl::Now() > later; });
  settling_.Run(kForEver, Note(2));
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

TEST_F(SettlingTest, WaitsForRestAndKeepsTheOrder) {
  settling_.Begin(busy_.pid());
  settling_.Run(kForEver, Note(1));
  settling_.Run(kForEver, Note(2));
  const absl::Time later = absl::Now() + absl::Milliseconds(20);
  RunUntil(*loop_, [later] { return absl::Now() > later; });
  EXPECT_TRUE(order_.empty());
  busy_.Sleep();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return order_.size() == 2; }));
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
}

TEST_F(SettlingTest, WaitsNoLongerThanEachAllows) {
  settling_.Begin(busy_.pid());
  settling_.Run(kForEver, Note(1));
  settling_.Run(absl::Milliseconds(10), Note(2));
  EXPECT_TRUE(RunUntil(*loop_, [this] { return !order_.empty(); }));
  EXPECT_EQ(order_, std::vector<int>{2});
}

TEST_F(SettlingTest, WaitsNoLongerThanTheProcessLives) {
  settling_.Begin(busy_.pid());
  settling_.Run(kForEver, Note(1));
  settling_.RunUnlessBusy(kForEver, Note(2));
  EXPECT_TRUE(order_.empty());
  settling_.End();
  EXPECT_EQ(order_, (std::vector<int>{1, 2}));
  settling_.Run(kForEver, Note(3));
  EXPECT_EQ(order_, (std::vector<int>{1, 2, 3}));
}

TEST_F(SettlingTest, OnlySomeDoNotWaitForAProgramThatIsBusy) {
  const pid_t pid = fork();
  if (pid == 0) {
    execlp("sh", "sh", "-c", "while :; do :; done", nullptr);
    _exit(127);
  }
  settling_.Begin(pid);
  settling_.Run(kForEver, Note(1));
  settling_.RunUnlessBusy(kForEver, Note(2));
  EXPECT_TRUE(RunUntil(*loop_, [this] { return !order_.empty(); }));
  EXPECT_EQ(order_, std::vector<int>{2});
  kill(pid, SIGKILL);
  EXPECT_TRUE(RunUntil(*loop_, [this] { return order_.size() == 2; }));
  waitpid(pid, nullptr, 0);
}

// It has run as long, but what it runs is not its own program yet.
TEST_F(SettlingTest, WaitsForTheProgramHoweverLongThatTakes) {
  settling_.Begin(busy_.pid());
  settling_.RunUnlessBusy(kForEver, Note(1));
  EXPECT_TRUE(RunUntil(*loop_, [this] {
    return CpuTime(ReadFile(fmt::format("/proc/{}/stat", busy_.pid()))
                       .value_or("")) > Settling::kBusy * 2;
  }));
  EXPECT_TRUE(order_.empty());
  busy_.Sleep();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return !order_.empty(); }));
}

TEST_F(SettlingTest, MayGoInATaskOfItsOwn) {
  auto settling = std::make_unique<Settling>(*loop_);
  settling->Begin(busy_.pid());
  for (int number : {1, 2}) {
    settling->Run(kForEver, [this, &settling, number] {
      settling.reset();
      order_.push_back(number);
    });
  }
  busy_.Sleep();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return order_.size() == 2; }));
}

}  // namespace
}  // namespace wisp
