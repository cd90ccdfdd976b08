#include "process/logger.h"

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "test/process/stdio_testing.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Loggers are shell scripts: fd 3 is stdout, 4 stderr, 5 the ready pipe.
class LoggerTest : public StdioTestBase {
 protected:
  static constexpr char kReadyByByte[] = "printf x >&5; exec 5>&-\n";
  static constexpr char kReadyByClose[] = "exec 5>&-\n";

  std::string Script(const std::string& text) {
    std::string path = directory_ / "logger";
    EXPECT_TRUE(WriteFileAtomically(path,
                                    "#!/bin/sh\nPATH=/usr/bin:/bin; D=" +
                                        directory_.path() + "\n" + text,
                                    0755, false)
                    .ok());
    return path;
  }
  StdioRequest Request(const std::string& script,
                       const std::string& scheme = "binary") {
    return {.stdout_path = scheme + "://" + Script(script)};
  }
  std::string Logged(const std::string& name = "log") {
    return ReadFile(directory_ / name).value_or("(none)");
  }
  // True when all are reaped.
  static bool NoChildren() {
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0;
  }
  // Drains and waits until the logger, too, is gone.
  void End() {
    WISP_ASSERT_OK(Drain());
    detached_->Take(std::move(stdio_));
    ASSERT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  }
};

TEST_F(LoggerTest, GetsAllOutputAndItsEnd) {
  for (const char* scheme : {"binary", "binary-v2"}) {
    Start(Request(std::string(kReadyByByte) +
                      "cat <&4 >$D/err & cat <&3 >$D/log; wait",
                  scheme),
          "seq 1 200000; echo bad >&2");
    AwaitExit();
    End();
    EXPECT_EQ(Logged().size(), 1288895U);
    EXPECT_EQ(Logged("err"), "bad\n");
    EXPECT_THAT(troubles_, IsEmpty());
    EXPECT_EQ(OpenFds(), fds_before_);
  }
}

TEST_F(LoggerTest, ClosingTheReadyPipeIsReadyForTheFirstScheme) {
  Start(Request(std::string(kReadyByClose) + "cat <&3 >$D/log"), "echo x");
  AwaitExit();
  End();
  EXPECT_EQ(Logged(), "x\n");
}

TEST_F(LoggerTest, TheSecondSchemeWantsAByte) {
  const absl::Status status = Prepare(
      Request(std::string(kReadyByClose) + "exec sleep 1000", "binary-v2"));
  EXPECT_EQ(Message(status),
            "logging binary did not call ready (it may have crashed or exited "
            "prematurely)");
  stdio_.reset();
  ASSERT_TRUE(RunUntil(*loop_, NoChildren));
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, OneThatNeverSpeaksIsKilledAtTheLimit) {
  const absl::Status status =
      Prepare(Request("echo no config >&2; exec sleep 1000"));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("/logger was not ready within 500ms: no config"));
  stdio_.reset();
  ASSERT_TRUE(RunUntil(*loop_, NoChildren));
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, CancelEndsTheWaitForIt) {
  options_.logger.ready = absl::Seconds(60);
  absl::StatusOr<std::unique_ptr<Stdio>> stdio =
      Stdio::Create(*loop_, *reaper_, Request("exec sleep 1000"), options_);
  ASSERT_TRUE(stdio.ok());
  stdio_ = *std::move(stdio);
  const absl::Status status = Await([this](DoneStatus done) {
    stdio_->Prepare(std::move(done));
    stdio_->Cancel(absl::CancelledError("context canceled"));
  });
  EXPECT_EQ(status, absl::CancelledError("context canceled"));
  stdio_.reset();
  ASSERT_TRUE(RunUntil(*loop_, NoChildren));
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, ExitAtOnceIsAnErrorOnlyForTheSecondScheme) {
  EXPECT_THAT(std::string(Message(
                  Prepare(Request("echo oops >&2; exit 1", "binary-v2")))),
              HasSubstr("did not call ready (it may have crashed or exited "
                        "prematurely): oops"));
  // Far more than a pipe holds: with nobody to read, the container would block.
  Start(Request("exit 1"), "exec seq 1 200000");
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
  EXPECT_THAT(troubles_, ElementsAre(HasSubstr("exit status 1, its input is "
                                               "discarded")));
  End();
  EXPECT_EQ(detached_->counters().lost, 1288895U);
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, ALoggerThatDiesLaterDoesNotBlockTheContainer) {
  const std::string gate = MakeFifo("gate");
  const UniqueFd opener = std::move(OpenFd(gate, O_RDWR)).value();
  Start(Request(std::string(kReadyByByte) + "head -n 1 <&3 >$D/log; exit 3"),
        "echo one; read line <" + gate + "; seq 1 200000; echo err >&2");
  ASSERT_TRUE(RunUntil(*loop_, [this] { return !troubles_.empty(); }));
  EXPECT_THAT(troubles_, ElementsAre(HasSubstr("exit status 3")));
  WISP_ASSERT_OK(WriteAll(opener.get(), "go\n"));
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
  EXPECT_EQ(Logged(), "one\n");
  End();
}

TEST_F(LoggerTest, HasTwoVariablesTheArgumentsInOrderAndThreeFds) {
  const std::string printer =
      "for n in 0 1 2 3 4 5 6 7 8 9; do"
      " [ ! -L /proc/$$/fd/$n ] || echo $n; done >$D/fds\n"
      "tr '\\0' '\\n' </proc/$$/environ >$D/env; echo \"$@\" >$D/args\n";
  StdioRequest request = Request(printer + kReadyByByte + "cat <&3 >/dev/null");
  request.stdout_path += "?zeta=1&alpha=2&mid=&beta=a%20b";
  Start(request, "exit 0");
  AwaitExit();
  End();
  EXPECT_EQ(Logged("env"), "CONTAINER_ID=c1\nCONTAINER_NAMESPACE=ns1\n");
  EXPECT_EQ(Logged("args"), "zeta 1 alpha 2 mid  beta a b\n");
  // 10, where the shell keeps its script, is its own affair.
  EXPECT_EQ(Logged("fds"), "0\n1\n2\n3\n4\n5\n");
}

TEST_F(LoggerTest, AMissingBinaryIsAnError) {
  const absl::Status status = Prepare({.stdout_path = "binary:///nowhere/log"});
  EXPECT_EQ(Message(status),
            "failed to start binary process: fork/exec /nowhere/log: no such "
            "file or directory");
  stdio_.reset();
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, DrainDoesNotWaitForIt) {
  options_.logger.end = absl::Seconds(60);
  const std::string gate = MakeFifo("gate");
  const UniqueFd opener = std::move(OpenFd(gate, O_RDWR)).value();
  Start(Request(std::string(kReadyByByte) + "cat <&3 >$D/part; read line <" +
                gate + "; mv $D/part $D/log"),
        "echo x");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_FALSE(stdio_->finished());
  EXPECT_EQ(Logged(), "(none)");
  detached_->Take(std::move(stdio_));
  WISP_ASSERT_OK(WriteAll(opener.get(), "go\n"));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  EXPECT_EQ(Logged(), "x\n");
}

TEST_F(LoggerTest, OneThatIgnoresItsEndIsTerminatedThenKilled) {
  const std::string ready = kReadyByByte;
  Start(Request(ready + "trap 'echo term >$D/log; exit 0' TERM\n"
                        "while :; do sleep 0.05; done"),
        "exit 0");
  AwaitExit();
  End();
  EXPECT_EQ(Logged(), "term\n");
  Start(Request(ready + "trap '' TERM\nwhile :; do sleep 0.05; done"),
        "exit 0");
  AwaitExit();
  troubles_.clear();
  End();
  EXPECT_THAT(troubles_, ElementsAre(HasSubstr("exit status 137")));
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(LoggerTest, StderrIsReadSoThatItNeverBlocksTheLogger) {
  Start(
      Request(std::string(kReadyByByte) + "seq 1 100000 >&2; cat <&3 >$D/log"),
      "echo x");
  AwaitExit();
  options_.logger.end = absl::Seconds(60);
  End();
  EXPECT_EQ(Logged(), "x\n");
}

}  // namespace
}  // namespace wisp
