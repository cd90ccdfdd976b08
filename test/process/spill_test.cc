// Streams that stall where more may wait than a pipe holds.
#include "process/spill.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "test/process/stdio_testing.h"

namespace wisp {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// In a directory on a tmpfs, and in one that may be on a disk.
class SpillTest : public StdioTestBase,
                  public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    out_ = MakeFifo("stdout");
    std::string name = fmt::format("{}/wisp-XXXXXX", GetParam());
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    spool_ = name;
    options_.spill.memory = uint64_t{256} << 10;
    options_.spill.file = uint64_t{64} << 20;
    options_.spill.directory = spool_;
    options_.spill.on_tmpfs = std::string_view(GetParam()) == "/dev/shm";
  }
  // Fails if anything is left in it.
  void TearDown() override { EXPECT_EQ(rmdir(spool_.c_str()), 0); }

  static std::string Lines(int count) {
    std::string text;
    for (int i = 1; i <= count; ++i) text += fmt::format("{}\n", i);
    return text;
  }

  // True once nothing happens any more.
  bool ComesToRest() {
    return RunUntil(*loop_, [this] {
      const absl::Time start = absl::Now();
      loop_->RunOnce(absl::Milliseconds(100));
      return absl::Now() - start >= absl::Milliseconds(99);
    });
  }

  std::string out_;
  std::string spool_;
};

INSTANTIATE_TEST_SUITE_P(Directories, SpillTest,
                         ::testing::Values("/dev/shm", "/var/tmp"),
                         [](const auto& directory) {
                           return directory.index == 0 ? "Tmpfs" : "Disk";
                         });

TEST_P(SpillTest, TakesAllOfAProcessWhoseReaderIsAway) {
  UniqueFd out = OpenReader(out_);
  Start({.stdout_path = out_}, "seq 1 300000; exec seq 1 300000");
  out.Reset();
  AwaitExit();                          // 14 MB: it has not blocked
  EXPECT_EQ(rmdir(spool_.c_str()), 0);  // so nothing in it has a name
  ASSERT_EQ(mkdir(spool_.c_str(), 0700), 0);
  const std::string expected = Lines(300'000) + Lines(300'000);
  ASSERT_TRUE(ComesToRest());
  EXPECT_GT(stdio_->counters().held, options_.spill.memory);
  EXPECT_EQ(stdio_->counters().held + stdio_->counters().output,
            expected.size());
  out = OpenReader(out_);
  EXPECT_TRUE(ReadToEnd(out) == expected);
  EXPECT_TRUE(RunUntil(*loop_, [this] { return stdio_->finished(); }));
  EXPECT_EQ(stdio_->counters().lost, 0U);
  out.Reset();
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_P(SpillTest, ASlowReaderGetsItAllAndTheStreamGoesStraightAgain) {
  const UniqueFd out = OpenReader(out_);
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  Start({.stdout_path = out_},
        fmt::format("seq 1 300000; read line <{0}/gate; seq 1 300000; read "
                    "line <{0}/gate",
                    directory_.path()));
  const std::string expected = Lines(300'000);
  for (int i = 0; i < 2; ++i) {
    std::string got;
    ASSERT_TRUE(RunUntil(
        *loop_,
        [&] {
          loop_->RunOnce(absl::ZeroDuration());
          ReadSome(out, &got, 30'011);
          return got.size() >= expected.size();
        },
        absl::Seconds(100)));
    EXPECT_TRUE(got == expected) << got.size();
    EXPECT_TRUE(ComesToRest());
    WISP_ASSERT_OK(WriteAll(gate.get(), "go\n"));
  }
  EXPECT_EQ(ReadToEnd(out), "");
  AwaitExit();
}

TEST_P(SpillTest, BlocksTheWriterWhenAllIsFull) {
  options_.spill.file = uint64_t{1} << 20;
  const UniqueFd out = OpenReader(out_);
  Start({.stdout_path = out_}, "exec seq 1 300000");
  // Whatever comes of it: it is not read any more, and nothing turns.
  ASSERT_TRUE(ComesToRest());
  EXPECT_FALSE(exit_.has_value());
  EXPECT_TRUE(ReadToEnd(out) == Lines(300'000));
  AwaitExit();
  EXPECT_EQ(stdio_->counters().lost, 0U);
}

TEST_P(SpillTest, DropsWhatIsOldestRatherThanBlock) {
  options_.spill.file = uint64_t{1} << 20;
  options_.spill.drop = true;
  UniqueFd out = OpenReader(out_);
  Start({.stdout_path = out_}, "exec seq 1 600000");
  out.Reset();
  AwaitExit();
  ASSERT_TRUE(ComesToRest());  // so there is one gap
  out = OpenReader(out_);
  const std::string got = ReadToEnd(out);
  const std::string all = Lines(600'000);
  const StdioCounters counters = stdio_->counters();
  EXPECT_EQ(counters.output + counters.lost, all.size());
  const std::string marker = fmt::format(
      "\n[wisp: {} bytes of output were dropped here]\n", counters.lost);
  const size_t at = got.find(marker);
  ASSERT_NE(at, std::string::npos);
  EXPECT_TRUE(all.starts_with(got.substr(0, at)));
  EXPECT_TRUE(all.ends_with("\n" + got.substr(at + marker.size())));
  EXPECT_GT(got.size(), options_.spill.file);
  EXPECT_THAT(troubles_, Contains(HasSubstr("output is dropped")));
}

TEST_P(SpillTest, AReaderThatDiesForGoodEndsIt) {
  UniqueFd out = OpenReader(out_);
  Start({.stdout_path = out_}, "exec seq 1 300000");
  AwaitExit();
  out.Reset();
  WISP_ASSERT_OK(Drain());
  detached_->Take(std::move(stdio_));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  EXPECT_GE(detached_->counters().lost + detached_->counters().output,
            Lines(300'000).size());
  EXPECT_GT(detached_->counters().lost, options_.spill.memory);
}

TEST_P(SpillTest, MayBeDestroyedWhileItIsAtIt) {
  {
    const UniqueFd out = OpenReader(out_);
    Start({.stdout_path = out_}, "exec seq 1 300000");
    for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
    stdio_.reset();
  }
  AwaitExit();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return loop_->threads() == 0; }));
  EXPECT_TRUE(RunUntil(*loop_, [this] { return OpenFds() == fds_before_; }));
}

}  // namespace
}  // namespace wisp
