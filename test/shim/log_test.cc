#include "shim/log.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class LogTest : public ::testing::Test {
 protected:
  LogTest() : path_(directory_ / "log") {
    WISP_CHECK(mkfifo(path_.c_str(), 0700) == 0);
    absl::StatusOr<UniqueFd> fd = OpenLogFifo(path_);
    WISP_CHECK(fd.ok());
    fifo_ = *std::move(fd);
    SetLogOutput(fifo_.get());
  }
  ~LogTest() override {
    SetLogOutput(STDERR_FILENO);
    SetLogDebug(false);
  }
  // What is in the fifo now.
  std::string Drain() {
    std::string all;
    char buffer[4096];
    ssize_t n;
    while ((n = read(fifo_.get(), buffer, sizeof(buffer))) > 0) {
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }

  TemporaryDirectory directory_;
  std::string path_;
  UniqueFd fifo_;
};

TEST(LogLineTest, LooksLikeLogrus) {
  const absl::Time time =
      absl::FromUnixSeconds(1714979289) + absl::Nanoseconds(5);
  EXPECT_EQ(FormatLogLine(time, "info", "started shim",
                          {{"pid", 42},
                           {"error", absl::NotFoundError("no: \"x\"")},
                           {"zone", "a/b"},
                           {"namespace", std::string("k8s.io")}}),
            "time=\"2024-05-06T07:08:09.000000005Z\" level=info "
            "msg=\"started shim\" error=\"no: \\\"x\\\"\" namespace=k8s.io "
            "pid=42 runtime=io.containerd.wisp.v2 zone=a/b\n");
}

TEST(LogLineTest, QuotesAsGoDoes) {
  EXPECT_EQ(QuoteLogValue("abc-1_2/3@4^5+6.7"), "abc-1_2/3@4^5+6.7");
  EXPECT_EQ(QuoteLogValue(""), "");
  EXPECT_EQ(QuoteLogValue("a b"), "\"a b\"");
  EXPECT_EQ(QuoteLogValue("a=b:c"), "\"a=b:c\"");
  EXPECT_EQ(QuoteLogValue("\"\\\a\b\f\n\r\t\v"), R"("\"\\\a\b\f\n\r\t\v")");
  EXPECT_EQ(QuoteLogValue(std::string_view("\0\x1b\x7f\xff", 4)),
            R"("\x00\x1b\x7f\xff")");
  EXPECT_EQ(QuoteLogValue("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
            "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
  EXPECT_EQ(QuoteLogValue("\xc2\x85\xe2\x80\xae\xef\xbb\xbf"),
            R"("\u0085\u202e\ufeff")");
  EXPECT_EQ(QuoteLogValue("\xf3\xa0\x80\x81"), R"("\U000e0001")");
}

TEST(LogLineTest, IsNeverLongerThanAnAtomicWrite) {
  for (size_t pad = 0; pad < 8; ++pad) {
    std::string text(pad, 'x');
    for (int i = 0; i < 3000; ++i) text += "\xe2\x82\xac";
    const std::string line = FormatLogLine(absl::Now(), "info", text, {});
    EXPECT_LE(line.size(), size_t{PIPE_BUF});
    EXPECT_GT(line.size(), size_t{PIPE_BUF - 8});
    EXPECT_EQ(line.substr(line.size() - 7, 3), "\xe2\x82\xac");
    EXPECT_EQ(line.substr(line.size() - 4), "...\n");
  }
}

TEST_F(LogTest, WritesLevelsAndKeepsDebugToItself) {
  LogInfo("one");
  LogWarning("two");
  LogError("three");
  LogDebug("four");
  const std::string text = Drain();
  EXPECT_THAT(text, HasSubstr("level=info msg=one "));
  EXPECT_THAT(text, HasSubstr("level=warning msg=two "));
  EXPECT_THAT(text, HasSubstr("level=error msg=three "));
  EXPECT_EQ(text.find("four"), std::string::npos);
  EXPECT_THAT(RecentLogLines().back(), HasSubstr("level=debug msg=four "));
  SetLogDebug(true);
  LogDebug("five");
  EXPECT_THAT(Drain(), HasSubstr("level=debug msg=five "));
}

TEST_F(LogTest, AFullFifoCostsLinesButNoTime) {
  const uint64_t before = DroppedLogLines();
  const std::string page(4096, 'f');
  while (write(fifo_.get(), page.data(), page.size()) > 0) {
  }
  LogInfo("lost");
  LogInfo("lost");
  EXPECT_EQ(DroppedLogLines(), before + 2);
  const std::string kept = Drain();
  EXPECT_EQ(kept, std::string(kept.size(), 'f'));  // no part of a line
  LogInfo("found");
  const std::string text = Drain();
  EXPECT_THAT(text, HasSubstr("level=warning msg=\"2 messages dropped\""));
  EXPECT_LT(text.find("dropped"), text.find("msg=found"));
  LogInfo("again");
  EXPECT_EQ(Drain().find("dropped"), std::string::npos);
}

TEST_F(LogTest, RemembersTheLastHundredLines) {
  for (int i = 0; i < 150; ++i) LogInfo("line", {{"n", i}});
  const std::vector<std::string> lines = RecentLogLines();
  ASSERT_EQ(lines.size(), 100U);
  EXPECT_THAT(lines.front(), HasSubstr(" n=50 "));
  EXPECT_THAT(lines.back(), HasSubstr(" n=149 "));
  EXPECT_THAT(lines.back(), StartsWith("time=\""));
}

TEST_F(LogTest, WaitsInThePipeForADaemonThatIsAway) {
  // We hold both ends, so there is no EPIPE; the daemon comes later.
  LogInfo("early");
  const UniqueFd daemon(open(path_.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  char buffer[4096];
  const ssize_t n = read(daemon.get(), buffer, sizeof(buffer));
  ASSERT_GT(n, 0);
  EXPECT_THAT(std::string(buffer, static_cast<size_t>(n)), HasSubstr("early"));
}

TEST_F(LogTest, DoesNotMakeAFifoThatIsGone) {
  const std::string absent = directory_ / "absent";
  EXPECT_EQ(OpenLogFifo(absent).status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(access(absent.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace wisp
