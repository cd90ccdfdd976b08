#include "process/stdio_plan.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using Mode = StdioPlan::Mode;

StdioPlan Plan(const StdioRequest& request) {
  const absl::StatusOr<StdioPlan> plan = PlanStdio(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.value_or(StdioPlan());
}

std::string Refusal(const std::string& stdout_path) {
  return std::string(Message(PlanStdio({.stdout_path = stdout_path}).status()));
}

TEST(StdioPlanTest, NothingIsNull) { EXPECT_EQ(Plan({}).mode, Mode::kNull); }

TEST(StdioPlanTest, PathsAreFifosAsTheyAre) {
  const StdioPlan plan = Plan({.stdin_path = "/in",
                               .stdout_path = "/a dir/100%/out:1?x#y",
                               .stderr_path = "/err"});
  EXPECT_EQ(plan.mode, Mode::kFifo);
  EXPECT_EQ(plan.stdin_path, "/in");
  EXPECT_EQ(plan.stdout_path, "/a dir/100%/out:1?x#y");
  EXPECT_EQ(plan.stderr_path, "/err");
}

TEST(StdioPlanTest, SingleStreamsMayBeAbsent) {
  EXPECT_EQ(Plan({.stdin_path = "/in"}).mode, Mode::kFifo);
  EXPECT_EQ(Plan({.stderr_path = "/err"}).mode, Mode::kFifo);
}

TEST(StdioPlanTest, FifoUrisAreTheirPaths) {
  const StdioPlan plan = Plan({.stdin_path = "fifo:///in",
                               .stdout_path = "FIFO:///o%20ut",
                               .stderr_path = "fifo:///err"});
  EXPECT_EQ(plan.mode, Mode::kFifo);
  EXPECT_EQ(plan.stdin_path, "/in");
  EXPECT_EQ(plan.stdout_path, "/o ut");
  EXPECT_EQ(plan.stderr_path, "/err");
}

TEST(StdioPlanTest, AFileIsForBothStreams) {
  const StdioPlan plan = Plan({.stdin_path = "/in",
                               .stdout_path = "file://host/var/l%6Fg?x=1",
                               .stderr_path = "/ignored"});
  EXPECT_EQ(plan.mode, Mode::kFile);
  EXPECT_EQ(plan.stdout_path, "/var/log");
  EXPECT_EQ(plan.stderr_path, "/var/log");
  EXPECT_EQ(plan.stdin_path, "/in");
}

TEST(StdioPlanTest, LoggerArgumentsKeepTheOrderOfTheUri) {
  const StdioPlan plan =
      Plan({.stdin_path = "/in",
            .stdout_path = "binary:///bin/log?z=1&a=b+c&empty=&&flag&z=2&"
                           "%61b=%2F&bad=%zz"});
  EXPECT_EQ(plan.mode, Mode::kLogger);
  EXPECT_EQ(plan.logger.path, "/bin/log");
  EXPECT_THAT(plan.logger.arguments, ElementsAre("z", "1", "a", "b c", "empty",
                                                 "", "flag", "", "ab", "/"));
  EXPECT_FALSE(plan.logger.must_say_ready);
  EXPECT_EQ(plan.stdin_path, "");
}

TEST(StdioPlanTest, OnlyTheSecondLoggerSchemeWantsAWord) {
  EXPECT_TRUE(
      Plan({.stdout_path = "binary-v2:///bin/log"}).logger.must_say_ready);
}

TEST(StdioPlanTest, ATerminalTakesFifosAndLoggers) {
  StdioPlan plan =
      Plan({.terminal = true, .stdin_path = "/in", .stdout_path = "/out"});
  EXPECT_EQ(plan.mode, Mode::kTerminal);
  EXPECT_EQ(plan.stdout_path, "/out");
  plan = Plan({.terminal = true, .stdout_path = "binary:///log?a=1"});
  EXPECT_EQ(plan.mode, Mode::kTerminal);
  EXPECT_EQ(plan.stdout_path, "");
  EXPECT_EQ(plan.logger.path, "/log");
}

TEST(StdioPlanTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Refusal("ttrpc+unix:///x?stream_id=1"),
            "unknown STDIO scheme ttrpc+unix");
  EXPECT_EQ(Refusal("http://x"), "unknown STDIO scheme http");
  EXPECT_EQ(Refusal(":x"),
            "unable to parse stdout uri: parse \":x\": missing protocol "
            "scheme");
  EXPECT_EQ(Refusal("file:///%zz"),
            "unable to parse stdout uri: parse \"file:///%zz\": invalid URL "
            "escape");
}

}  // namespace
}  // namespace wisp
