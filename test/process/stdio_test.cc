#include "process/stdio.h"

#include <sys/ioctl.h>
#include <sys/mount.h>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "test/process/stdio_testing.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class StdioTest : public StdioTestBase {
 protected:
  StdioRequest Fifos() {
    if (in_.empty()) {
      in_ = MakeFifo("stdin");
      out_ = MakeFifo("stdout");
      err_ = MakeFifo("stderr");
    }
    return {.stdin_path = in_, .stdout_path = out_, .stderr_path = err_};
  }
  StdioRequest OutputFifos() {
    StdioRequest request = Fifos();
    request.stdin_path.clear();
    return request;
  }
  // `count` lines that cannot be mixed up.
  static std::string Lines(int count) {
    std::string text;
    for (int i = 1; i <= count; ++i) text += fmt::format("{}\n", i);
    return text;
  }

  std::string in_;
  std::string out_;
  std::string err_;
};

TEST_F(StdioTest, WithoutNamesNothingIsOpened) {
  WISP_ASSERT_OK(Prepare({}));
  EXPECT_EQ(OpenFds(), fds_before_);
  Spawn("echo x && echo y >&2 && ! read line");
  WISP_ASSERT_OK(Connect());
  EXPECT_EQ(stdio_->child_stdout(), -1);
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(stdio_->finished());
}

TEST_F(StdioTest, StreamsGoToTheirFifosAndEnd) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "echo to stdout; echo to stderr >&2");
  EXPECT_EQ(ReadToEnd(out), "to stdout\n");
  EXPECT_EQ(ReadToEnd(err), "to stderr\n");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(stdio_->finished());
  EXPECT_EQ(stdio_->counters().output, 20U);
  EXPECT_EQ(stdio_->counters().lost, 0U);
}

TEST_F(StdioTest, LeavesNoFdBehind) {
  StdioRequest request = Fifos();
  {
    const UniqueFd out = OpenReader(out_);
    const UniqueFd err = OpenReader(err_);
    Start(request, "echo x; echo y >&2; cat");
    stdio_->CloseStdin();
    ReadToEnd(out);
    ReadToEnd(err);
    AwaitExit();
    WISP_ASSERT_OK(Drain());
  }
  // Before it is destroyed.
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, AnEmptyNameIsDevNull) {
  StdioRequest request = OutputFifos();
  request.stderr_path.clear();
  const UniqueFd out = OpenReader(out_);
  Start(request, "echo lost >&2 && echo x && ! read line");
  EXPECT_EQ(ReadToEnd(out), "x\n");
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
}

TEST_F(StdioTest, ThePipesBelongToTheIdsNamed) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to give files away";
  StdioRequest request = Fifos();
  request.io_uid = 1234;
  request.io_gid = 5678;
  WISP_ASSERT_OK(Prepare(request));
  for (const int fd : {stdio_->child_stdin(), stdio_->child_stdout(),
                       stdio_->child_stderr()}) {
    struct stat info;
    ASSERT_EQ(fstat(fd, &info), 0);
    EXPECT_EQ(info.st_uid, 1234U);
    EXPECT_EQ(info.st_gid, 5678U);
    EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
}

TEST_F(StdioTest, WaitsForAReaderThatComesLate) {
  WISP_ASSERT_OK(Prepare(OutputFifos()));
  Spawn("echo early");
  AwaitExit();  // and was gone before the client came
  std::optional<absl::Status> connected;
  stdio_->Connect(absl::Seconds(30), [&connected](absl::Status status) {
    connected = std::move(status);
  });
  for (int i = 0; i < 5; ++i) loop_->RunOnce(absl::Milliseconds(20));
  EXPECT_FALSE(connected.has_value());
  const UniqueFd err = OpenReader(err_);  // in the other order than we ask
  for (int i = 0; i < 5; ++i) loop_->RunOnce(absl::Milliseconds(20));
  EXPECT_FALSE(connected.has_value());
  const UniqueFd out = OpenReader(out_);
  ASSERT_TRUE(RunUntil(*loop_, [&] { return connected.has_value(); }));
  WISP_ASSERT_OK(*connected);
  EXPECT_EQ(ReadToEnd(out), "early\n");
  EXPECT_EQ(ReadToEnd(err), "");
}

TEST_F(StdioTest, AFifoMayBeUnlinkedWhileItIsWaitedFor) {
  WISP_ASSERT_OK(Prepare(OutputFifos()));
  Spawn("echo x");
  bool connected = false;
  stdio_->Connect(absl::Seconds(30), [&connected](const absl::Status& status) {
    EXPECT_TRUE(status.ok()) << status;
    connected = true;
  });
  for (int i = 0; i < 5; ++i) loop_->RunOnce(absl::Milliseconds(5));
  // The client's readers come by a handle, after the names are gone.
  const UniqueFd out_handle = std::move(OpenFd(out_, O_PATH)).value();
  const UniqueFd err_handle = std::move(OpenFd(err_, O_PATH)).value();
  unlink(out_.c_str());
  unlink(err_.c_str());
  const UniqueFd out =
      OpenReader(fmt::format("/proc/self/fd/{}", out_handle.get()));
  const UniqueFd err =
      OpenReader(fmt::format("/proc/self/fd/{}", err_handle.get()));
  ASSERT_TRUE(RunUntil(*loop_, [&connected] { return connected; }));
  EXPECT_EQ(ReadToEnd(out), "x\n");
}

TEST_F(StdioTest, WithoutAReaderTheLimitEndsTheWait) {
  WISP_ASSERT_OK(Prepare(Fifos()));
  Spawn("read line");
  absl::Status status = Connect(absl::Milliseconds(50));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(status),
            "failed to start io pipe copy: unable to copy pipes: "
            "containerd-shim: opening w/o fifo \"" +
                out_ + "\" failed: context deadline exceeded");
  AwaitExit();  // for its stdin has ended
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, TheStreamThatIsWaitedForIsNamed) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  WISP_ASSERT_OK(Prepare(request));
  Spawn("exit 0");
  EXPECT_THAT(std::string(Message(Connect(absl::Milliseconds(50)))),
              HasSubstr("w/o fifo \"" + err_ + "\" failed"));
}

TEST_F(StdioTest, CancelEndsTheWait) {
  WISP_ASSERT_OK(Prepare(OutputFifos()));
  Spawn("exit 0");
  const absl::Status status = Await([this](DoneStatus done) {
    stdio_->Connect(absl::Seconds(30), std::move(done));
    for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
    stdio_->Cancel(absl::CancelledError("context canceled"));
    stdio_->Cancel(absl::CancelledError("twice"));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("failed: context canceled"));
  AwaitExit();
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, MayBeDestroyedWhileItWaits) {
  WISP_ASSERT_OK(Prepare(Fifos()));
  Spawn("exit 0");
  stdio_->Connect(absl::Seconds(30), [](const absl::Status&) { FAIL(); });
  loop_->RunOnce(absl::Milliseconds(5));
  stdio_.reset();
  AwaitExit();
  for (int i = 0; i < 5; ++i) loop_->RunOnce(absl::Milliseconds(20));
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, MissingFifosAreAnErrorAtOnce) {
  StdioRequest request = OutputFifos();
  const UniqueFd err = OpenReader(err_);
  request.stdout_path = directory_ / "none";
  WISP_ASSERT_OK(Prepare(request));
  Spawn("exit 0");
  EXPECT_EQ(Message(Connect()),
            "failed to start io pipe copy: unable to copy pipes: "
            "containerd-shim: opening file \"" +
                request.stdout_path + "\" failed: open " + request.stdout_path +
                ": no such file or directory");
  request = Fifos();
  request.stdin_path = directory_ / "none";
  WISP_ASSERT_OK(Prepare(request));
  Spawn("exit 0");
  EXPECT_EQ(Message(Connect()),
            "failed to open stdin fifo " + request.stdin_path + ": stat " +
                request.stdin_path + ": no such file or directory");
}

TEST_F(StdioTest, UnknownSchemesAreRefused) {
  EXPECT_EQ(Message(Prepare({.stdout_path = "http://x"})),
            "unknown STDIO scheme http");
}

TEST_F(StdioTest, SixtyFourMebibytesToASlowReader) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "seq 1 8400000 | head -c 67108864");
  const std::string expected = Lines(8'400'000).substr(0, 64 << 20);
  std::string got;
  int turns = 0;
  ASSERT_TRUE(RunUntil(
      *loop_,
      [&] {
        loop_->RunOnce(absl::ZeroDuration());
        // Odd portions; and now and then the fifo is left full for a while.
        const size_t portion = 1 + (static_cast<size_t>(turns) * 977) % 60'000;
        if (++turns % 100 == 0) loop_->RunOnce(absl::Milliseconds(2));
        return !ReadSome(out, &got, portion);
      },
      absl::Seconds(100)));
  EXPECT_TRUE(got == expected) << got.size();
  EXPECT_EQ(stdio_->counters().output, expected.size());
}

TEST_F(StdioTest, AReaderMayGoAndComeBackWithoutALoss) {
  const StdioRequest request = OutputFifos();
  UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  Start(request, fmt::format("echo first; read line <{0}/gate; seq 1 100000; "
                             "touch {0}/through",
                             directory_.path()));
  EXPECT_EQ(ReadUntil(out, "first\n"), "first\n");
  out.Reset();  // the client dies
  {
    // Half a mebibyte fits into what is left: the container does not block.
    WISP_ASSERT_OK(WriteAll(gate.get(), "go\n"));
    ASSERT_TRUE(FileAppears(directory_ / "through"));
    AwaitExit();
  }
  for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
  out = OpenReader(out_);
  EXPECT_TRUE(ReadToEnd(out) == Lines(100'000));
  EXPECT_TRUE(RunUntil(*loop_, [this] { return stdio_->finished(); }));
}

TEST_F(StdioTest, TheEndOfTheOutputWaitsForAReaderThatIsAway) {
  const StdioRequest request = OutputFifos();
  UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "read line; echo last words");
  out.Reset();
  AwaitExit();
  EXPECT_EQ(ReadToEnd(err), "");
  for (int i = 0; i < 5; ++i) loop_->RunOnce(absl::Milliseconds(20));
  EXPECT_FALSE(stdio_->finished());
  out = OpenReader(out_);
  EXPECT_EQ(ReadToEnd(out), "last words\n");
  EXPECT_TRUE(RunUntil(*loop_, [this] { return stdio_->finished(); }));
  EXPECT_EQ(stdio_->counters().lost, 0U);
}

TEST_F(StdioTest, DrainGivesUpAfterSilenceThoughSomebodyHoldsStdout) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "sleep 1000 & echo $!");
  const pid_t sleeper = std::stoi(ReadUntil(out, "\n"));
  kill_at_end_.push_back(sleeper);
  AwaitExit();  // told at once, whoever holds the pipes
  const absl::Time start = absl::Now();
  WISP_ASSERT_OK(Drain());
  EXPECT_GE(absl::Now() - start, options_.drain_quiet);
  EXPECT_LT(absl::Now() - start, options_.drain_total + absl::Seconds(2));
  EXPECT_TRUE(stdio_->finished());
  EXPECT_EQ(ReadToEnd(out), "");
  EXPECT_EQ(kill(sleeper, 0), 0);  // not ours to kill
}

TEST_F(StdioTest, DrainIsDoneAtOnceWhenAllIsDelivered) {
  options_.drain_quiet = absl::Seconds(60);
  options_.drain_total = absl::Seconds(60);
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "echo x");
  AwaitExit();
  const absl::Time start = absl::Now();
  WISP_ASSERT_OK(Drain());
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_EQ(ReadToEnd(out), "x\n");
}

TEST_F(StdioTest, DrainLeavesAReaderAMomentToTakeWhatIsInTheFifo) {
  options_.drain_quiet = absl::Seconds(60);
  options_.drain_total = absl::Seconds(60);
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  const absl::Time start = absl::Now();
  Start(request, "echo x");
  WISP_ASSERT_OK(Drain());
  EXPECT_GE(absl::Now() - start, OutputCloser::kReaderLimit);
  EXPECT_EQ(ReadToEnd(out), "x\n");
}

TEST_F(StdioTest, WhatASlowReaderHasNotReadYetFollowsAfterDrain) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  // More than fifo and pipe hold: the writer is still at it, too.
  Start(request, "exec seq 1 300000");
  WISP_ASSERT_OK(Drain());
  EXPECT_FALSE(stdio_->finished());
  detached_->Take(std::move(stdio_));
  EXPECT_EQ(detached_->size(), 1U);
  // Longer than the quiet time without a byte: a reader is there, so no loss.
  const absl::Time until = absl::Now() + options_.drain_quiet * 3;
  while (absl::Now() < until) loop_->RunOnce(absl::Milliseconds(50));
  bool empty = false;
  detached_->SetOnEmpty([&empty] { empty = true; });
  EXPECT_TRUE(ReadToEnd(out) == Lines(300'000));
  ASSERT_TRUE(RunUntil(*loop_, [&empty] { return empty; }));
  EXPECT_EQ(detached_->size(), 0U);
  EXPECT_EQ(detached_->counters().output, Lines(300'000).size());
  EXPECT_EQ(detached_->counters().lost, 0U);
}

TEST_F(StdioTest, WithoutAReaderTheBackgroundEndsAndCountsTheLoss) {
  const StdioRequest request = OutputFifos();
  UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "exec seq 1 100000");
  AwaitExit();  // the pipe has been made large enough
  out.Reset();
  WISP_ASSERT_OK(Drain());
  detached_->Take(std::move(stdio_));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  const StdioCounters& counters = detached_->counters();
  // What had gone into the fifo is counted twice: as given on, and as lost.
  EXPECT_GE(counters.lost + counters.output, Lines(100'000).size());
  EXPECT_GE(counters.lost, Lines(100'000).size() / 2);
  EXPECT_THAT(troubles_, testing::Contains(HasSubstr("had no reader")));
}

TEST_F(StdioTest, AReaderThatDiesInTheBackgroundEndsIt) {
  const StdioRequest request = OutputFifos();
  UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "exec seq 1 300000");
  WISP_ASSERT_OK(Drain());
  detached_->Take(std::move(stdio_));
  for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
  EXPECT_EQ(detached_->size(), 1U);
  out.Reset();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  EXPECT_GT(detached_->counters().lost, 0U);
  AwaitExit();
}

TEST_F(StdioTest, StdinEndsOnlyAfterCloseStdin) {
  const StdioRequest request = Fifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "exec cat");
  for (const std::string text : {"one\n", "two\n"}) {
    // A client detaches and another one comes: no end.
    const UniqueFd in = std::move(OpenFd(in_, O_WRONLY)).value();
    WISP_ASSERT_OK(WriteAll(in.get(), text));
    EXPECT_EQ(ReadUntil(out, text), text);
  }
  for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
  EXPECT_FALSE(exit_.has_value());
  UniqueFd in = std::move(OpenFd(in_, O_WRONLY)).value();
  stdio_->CloseStdin();
  stdio_->CloseStdin();
  WISP_ASSERT_OK(WriteAll(in.get(), "three\n"));  // it is still open for us
  EXPECT_EQ(ReadUntil(out, "three\n"), "three\n");
  in.Reset();
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
  stdio_->CloseStdin();
  EXPECT_EQ(stdio_->counters().input, 14U);
}

TEST_F(StdioTest, CloseStdinFromBeforeIsRemembered) {
  const StdioRequest request = Fifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  WISP_ASSERT_OK(Prepare(request));
  stdio_->CloseStdin();
  Spawn("exec cat");
  // A client whose open(2) comes through with ours, in a process of its own.
  const pid_t client = fork();
  if (client == 0) {
    const UniqueFd in(open(in_.c_str(), O_WRONLY | O_CLOEXEC));
    (void)!write(in.get(), "hello\n", 6);
    _exit(0);
  }
  WISP_ASSERT_OK(Connect());
  EXPECT_EQ(ReadToEnd(out), "hello\n");
  AwaitExit();
}

TEST_F(StdioTest, CloseStdinFromBeforeEndsAStdinThatNobodyOpens) {
  const StdioRequest request = Fifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  WISP_ASSERT_OK(Prepare(request));
  stdio_->CloseStdin();
  Spawn("exec cat");
  WISP_ASSERT_OK(Connect());
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
}

TEST_F(StdioTest, StdinIsByteExact) {
  const StdioRequest request = Fifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "exec cksum");
  const std::string text = Lines(2'000'000);
  UniqueFd in = std::move(OpenFd(in_, O_WRONLY | O_NONBLOCK)).value();
  size_t written = 0;
  ASSERT_TRUE(RunUntil(*loop_, [&] {
    const ssize_t n =
        write(in.get(), text.data() + written, text.size() - written);
    if (n > 0) written += static_cast<size_t>(n);
    return written == text.size();
  }));
  stdio_->CloseStdin();
  in.Reset();
  const std::string got = ReadToEnd(out);
  const std::string path = directory_ / "expected";
  WISP_ASSERT_OK(WriteFileAtomically(path, text, 0600, false));
  Pipe pipe = std::move(MakePipe()).value();
  const Pidfd cksum =
      std::move(wisp::Spawn({.path = "/bin/sh",
                             .argv = {"sh", "-c", "cksum <" + path},
                             .env = {"PATH=/usr/bin:/bin"},
                             .stdout_fd = pipe.write_end.get()}))
          .value();
  pipe.write_end.Reset();
  EXPECT_EQ(got, *ReadAll(pipe.read_end.get()));
}

TEST_F(StdioTest, AProcessMayCloseItsStdinEarly) {
  const StdioRequest request = Fifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "exec <&-; echo closed; read line <" + MakeFifo("gate"));
  ReadUntil(out, "closed\n");
  const UniqueFd in = std::move(OpenFd(in_, O_WRONLY | O_NONBLOCK)).value();
  WISP_ASSERT_OK(WriteAll(in.get(), "nobody reads this\n"));
  for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Milliseconds(5));
  EXPECT_FALSE(exit_.has_value());
  // And the client hears of it, as it would of a pipe.
  EXPECT_EQ(write(in.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_THAT(troubles_, IsEmpty());
  (void)child_.pidfd()->Signal(SIGKILL);
  AwaitExit();
}

TEST_F(StdioTest, AnIdleStreamHoldsNoBufferAndDoesNotWake) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "echo x; exec sleep 1000");
  ReadUntil(out, "x\n");
  const absl::Time start = absl::Now();
  loop_->RunOnce(absl::Milliseconds(100));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(99));
  (void)child_.pidfd()->Signal(SIGKILL);
  AwaitExit();
}

TEST_F(StdioTest, AFullFifoDoesNotKeepTheLoopBusy) {
  const StdioRequest request = OutputFifos();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd err = OpenReader(err_);
  Start(request, "seq 1 20000");  // more than the fifo holds; then its end
  AwaitExit();
  loop_->RunOnce(absl::ZeroDuration());
  loop_->RunOnce(absl::ZeroDuration());
  const absl::Time start = absl::Now();
  loop_->RunOnce(absl::Milliseconds(100));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(99));
  EXPECT_TRUE(ReadToEnd(out) == Lines(20'000));
}

// ---- file://

TEST_F(StdioTest, AFileTakesBothStreamsAndIsMadeWithItsParents) {
  const std::string path = directory_ / "a/b/log";
  Start({.stdout_path = "file://" + path}, "echo out; echo err >&2");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(stdio_->finished());
  std::vector<std::string> lines = {ReadFile(path)->substr(0, 4),
                                    ReadFile(path)->substr(4)};
  EXPECT_THAT(lines, UnorderedElementsAre("out\n", "err\n"));
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0644U);
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, AFileIsAppendedToAndComplete) {
  const std::string path = directory_ / "log";
  WISP_ASSERT_OK(WriteFileAtomically(path, "before\n", 0600, false));
  Start({.stdout_path = "file://" + path}, "exec seq 1 1000000");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(RunUntil(*loop_, [this] { return stdio_->finished(); }));
  EXPECT_TRUE(*ReadFile(path) == "before\n" + Lines(1'000'000));
}

TEST_F(StdioTest, APlainFileInTheFifosPlaceIsWrittenTo) {
  const std::string path = directory_ / "plain";
  WISP_ASSERT_OK(WriteFileAtomically(path, "", 0600, false));
  Start({.stdout_path = path, .stderr_path = path}, "echo a; echo b >&2");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_EQ(ReadFile(path)->size(), 4U);
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(StdioTest, ARotatedFileIsFollowed) {
  options_.log_recheck = absl::ZeroDuration();
  const std::string path = directory_ / "log";
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  Start({.stdout_path = "file://" + path},
        fmt::format("echo one; read line <{0}/gate; echo two",
                    directory_.path()));
  ASSERT_TRUE(RunUntil(*loop_, [&path] { return *ReadFile(path) == "one\n"; }));
  ASSERT_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
  WISP_ASSERT_OK(WriteAll(gate.get(), "go\n"));
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_EQ(*ReadFile(path + ".1"), "one\n");
  EXPECT_EQ(*ReadFile(path), "two\n");
}

TEST_F(StdioTest, NoLineIsLostOrCutWhenALogIsRotatedUnderWay) {
  options_.log_recheck = absl::ZeroDuration();
  const std::string path = directory_ / "log";
  Start({.stdout_path = "file://" + path}, "exec seq 1 2000000");
  std::string all;
  int files = 0;
  // Turns of the loop and renames, in no step with each other.
  while (!exit_.has_value()) {
    const std::string old = fmt::format("{}.{}", path, files);
    if (rename(path.c_str(), old.c_str()) == 0) ++files;
    loop_->RunOnce(absl::Milliseconds(3));
  }
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(RunUntil(*loop_, [this] { return stdio_->finished(); }));
  for (int i = 0; i < files; ++i) {
    const std::string part = *ReadFile(fmt::format("{}.{}", path, i));
    EXPECT_TRUE(part.empty() || part.back() == '\n');
    all += part;
  }
  if (access(path.c_str(), F_OK) == 0) all += *ReadFile(path);
  EXPECT_GT(files, 3);
  EXPECT_TRUE(all == Lines(2'000'000)) << all.size();
}

TEST_F(StdioTest, AFullDiskBlocksNobodyAndIsUsedAgainWhenThereIsRoom) {
  const std::string disk = directory_ / "disk";
  ASSERT_EQ(mkdir(disk.c_str(), 0700), 0);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "needs the right to mount a tmpfs";
  }
  options_.spill.memory = uint64_t{64} << 10;
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  Start({.stdout_path = "file://" + disk + "/log"},
        fmt::format("seq 1 60000; touch {0}/through; read line <{0}/gate; "
                    "echo at last",
                    directory_.path()));
  // Far more than disk and pipe hold.
  EXPECT_TRUE(FileAppears(directory_ / "through"));
  EXPECT_THAT(troubles_,
              testing::ElementsAre("write log: no space left on device"));
  // Room for all that is still on its way, which an emptied file would not be.
  EXPECT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=4m"), 0);
  WISP_ASSERT_OK(WriteAll(gate.get(), "go\n"));
  EXPECT_TRUE(RunUntil(*loop_, [&] {
    return ReadFile(disk + "/log")->find("at last\n") != std::string::npos;
  }));
  AwaitExit();
  EXPECT_EQ(exit_->code, 0U);
  EXPECT_GT(stdio_->counters().lost, 0U);
  stdio_.reset();
  EXPECT_EQ(umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_F(StdioTest, AFileThatCannotBeMadeIsAnError) {
  const std::string path = directory_ / "file";
  WISP_ASSERT_OK(WriteFileAtomically(path, "", 0600, false));
  EXPECT_THAT(
      std::string(Message(Prepare({.stdout_path = "file://" + path + "/log"}))),
      HasSubstr("not a directory"));
  EXPECT_EQ(OpenFds(), fds_before_);
}

}  // namespace
}  // namespace wisp
