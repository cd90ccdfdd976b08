#include "process/runc_log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

// Lines as runc 1.1 and crun 1.8 write them.
constexpr std::string_view kRuncError =
    R"({"level":"error","msg":"runc create failed: unable to start container process: error during container init: exec: \"foo\": executable file not found in $PATH","time":"2026-09-04T10:20:30Z"})"
    "\n";
constexpr std::string_view kWarning =
    R"({"level":"warning","msg":"unable to get oom kill count","time":"2026-09-04T10:20:31+02:00"})"
    "\n";
constexpr std::string_view kCrunError =
    R"({"msg":"executable file `foo` not found in $PATH","level":"error","time":"2026-09-04T10:20:30.518000Z"})"
    "\n";

std::optional<std::string> LastIn(std::string_view text) {
  absl::StatusOr<std::optional<std::string>> found = LastErrorInRuncLog(text);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() ? *found : std::nullopt;
}

std::string Line(std::string_view level, std::string_view message) {
  return "{\"level\":\"" + std::string(level) + "\",\"msg\":\"" +
         std::string(message) + "\",\"time\":\"2026-09-04T10:20:30Z\"}\n";
}

class RuncLogFileTest : public ::testing::Test {
 protected:
  RuncLogFileTest() {
    char name[] = "/tmp/runc_log_test.XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/log.json";
  }
  ~RuncLogFileTest() override {
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }
  void Append(std::string_view text) {
    absl::StatusOr<UniqueFd> fd =
        OpenFd(path_, O_WRONLY | O_APPEND | O_CREAT, 0600);
    ASSERT_TRUE(fd.ok());
    ASSERT_TRUE(WriteAll(fd->get(), text).ok());
  }
  std::string directory_;
  std::string path_;
};

TEST(RuncLogTest, FindsTheErrorBetweenWarnings) {
  EXPECT_THAT(
      LastIn(std::string(kWarning) + std::string(kRuncError) +
             std::string(kWarning)),
      Optional(std::string(
          "runc create failed: unable to start container process: error during "
          "container init: exec: \"foo\": executable file not found in "
          "$PATH")));
  EXPECT_THAT(
      LastIn(kCrunError),
      Optional(std::string("executable file `foo` not found in $PATH")));
}

TEST(RuncLogTest, TakesTheLastErrorAndPrefersItToALaterFatal) {
  EXPECT_THAT(LastIn(Line("error", "one") + Line("error", "  two\\n") +
                     Line("fatal", "three")),
              Optional(std::string("two")));
  EXPECT_THAT(LastIn(Line("fatal", "a") + Line("fatal", "b")),
              Optional(std::string("b")));
}

TEST(RuncLogTest, NothingWasLoggedIsNoError) {
  EXPECT_EQ(LastIn(""), std::nullopt);
  EXPECT_EQ(LastIn(" \n\t\n"), std::nullopt);
  EXPECT_EQ(LastIn(kWarning), std::nullopt);
  EXPECT_EQ(LastIn(Line("ERROR", "upper case is another level")), std::nullopt);
}

TEST(RuncLogTest, SkipsWhatIsBroken) {
  const std::string half = Line("error", "cut").substr(0, 25);
  EXPECT_THAT(LastIn(half + "\n" + Line("error", "whole") + half),
              Optional(std::string("whole")));
  EXPECT_THAT(LastIn("panic: oops\n" + Line("error", "x")),
              Optional(std::string("x")));
  EXPECT_THAT(LastIn("{\"level\":7,\"msg\":[]}\n" + Line("error", "x")),
              Optional(std::string("x")));
}

TEST(RuncLogTest, ReadsObjectsWithoutNewlinesAndOverSeveralLines) {
  EXPECT_THAT(LastIn(R"({"level":"error","msg":"a}{"}{"level":"info"})"),
              Optional(std::string("a}{")));
  EXPECT_THAT(LastIn("{\n \"level\": \"error\",\n \"msg\": \"spread\"\n}"),
              Optional(std::string("spread")));
}

TEST(RuncLogTest, KeepsAMessageWithBytesThatAreNoUtf8) {
  EXPECT_THAT(LastIn(Line("error", "open /\xff: gone")),
              Optional(std::string("open /\xEF\xBF\xBD: gone")));
}

TEST(RuncLogTest, TextWithoutAnyJsonIsAnError) {
  const absl::Status status =
      LastErrorInRuncLog("time=x level=error msg=y\n").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("time=x level=error"));
}

TEST_F(RuncLogFileTest, SeesOnlyWhatCameAfterTheMark) {
  EXPECT_EQ(MarkRuncLog(path_).size, 0);
  Append(Line("error", "of an earlier command"));
  const RuncLogMark mark = MarkRuncLog(path_);
  EXPECT_GT(mark.size, 0);
  EXPECT_EQ(*LastRuncError(path_, mark), std::nullopt);
  Append(Line("error", "of this one"));
  EXPECT_THAT(*LastRuncError(path_, mark),
              Optional(std::string("of this one")));
}

TEST_F(RuncLogFileTest, ReadsALogThatWasReplacedFromItsBeginning) {
  Append(Line("error", "new"));
  EXPECT_THAT(*LastRuncError(path_, {.size = 1 << 20}),
              Optional(std::string("new")));
}

// youki 0.7: {timestamp, level, message}, over what an earlier command wrote.
TEST_F(RuncLogFileTest, ReadsWhatIsWrittenOverTheBeginning) {
  const auto line = [](int second, const std::string& message) {
    return fmt::format(
        "{{\"timestamp\":\"2026-09-04T10:20:{:02}Z\",\"level\":"
        "\"ERROR\",\"message\":\"{}\"}}\n",
        second, message);
  };
  const auto write_over = [this](const std::string& text) {
    const absl::StatusOr<UniqueFd> fd = OpenFd(path_, O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(fd.ok() && WriteAll(fd->get(), text).ok());
  };
  write_over(line(1, "a long first message"));
  EXPECT_THAT(*LastRuncError(path_, RuncLogMark()),
              Optional(std::string("a long first message")));
  RuncLogMark mark = MarkRuncLog(path_);
  EXPECT_EQ(*LastRuncError(path_, mark), std::nullopt);
  write_over(line(2, "short"));
  EXPECT_THAT(*LastRuncError(path_, mark), Optional(std::string("short")));
  mark = MarkRuncLog(path_);
  write_over(line(3, "a message that is longer than what was there before"));
  EXPECT_THAT(*LastRuncError(path_, mark),
              Optional(std::string(
                  "a message that is longer than what was there before")));
}

TEST_F(RuncLogFileTest, ReadsTheEndOfALogThatIsTooLong) {
  const std::string line = Line("info", std::string(1000, 'x'));
  std::string many;
  while (many.size() < (3 << 20)) many += line;
  Append(Line("error", "long ago") + many + Line("error", "now"));
  EXPECT_THAT(*LastRuncError(path_, RuncLogMark()),
              Optional(std::string("now")));
}

TEST_F(RuncLogFileTest, AMissingLogIsNamedAsGoNamesIt) {
  const absl::Status status = LastRuncError(path_, RuncLogMark()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "open " + path_ + ": no such file or directory");
}

}  // namespace
}  // namespace wisp
