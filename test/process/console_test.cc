#include "process/console.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include <cstring>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "test/process/stdio_testing.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ConsoleTest : public StdioTestBase {
 protected:
  StdioRequest Terminal() {
    in_ = MakeFifo("stdin");
    out_ = MakeFifo("stdout");
    return {.terminal = true, .stdin_path = in_, .stdout_path = out_};
  }

  static UniqueFd ConnectTo(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)),
              0);
    return fd;
  }
  static void SendFds(const UniqueFd& socket, const std::vector<int>& fds,
                      std::string name = "/dev/ptmx") {
    std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
    iovec data = {.iov_base = name.data(), .iov_len = name.size()};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    EXPECT_GT(sendmsg(socket.get(), &message, 0), 0);
  }

  // What the runtime does: makes a pty, starts the process on its slave in a
  // session of its own, and sends the master.
  void RunOnTerminal(const std::string& script, bool raw = false) {
    int master;
    int slave;
    ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
    const UniqueFd own_master(master);
    const UniqueFd own_slave(slave);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    if (raw) {
      termios mode;
      tcgetattr(slave, &mode);
      cfmakeraw(&mode);
      tcsetattr(slave, TCSANOW, &mode);
    }
    char name[64];
    ASSERT_EQ(ptsname_r(master, name, sizeof(name)), 0);
    slave_name_ = name;
    exit_.reset();
    child_ =
        std::move(reaper_->Own(
                      std::move(wisp::Spawn({.path = "/usr/bin/setsid",
                                             .argv = {"setsid", "-c", "/bin/sh",
                                                      "-c", script},
                                             .env = {"PATH=/usr/bin:/bin"},
                                             .stdin_fd = slave,
                                             .stdout_fd = slave,
                                             .stderr_fd = slave,
                                             .new_process_group = false}))
                          .value(),
                      [this](ExitStatus status) {
                        exit_ = status;
                        if (stdio_ != nullptr) stdio_->ProcessExited();
                      }))
            .value();
    SendFds(ConnectTo(stdio_->console_socket()), {master});
  }
  void StartTerminal(const StdioRequest& request, const std::string& script,
                     bool raw = false) {
    WISP_ASSERT_OK(Prepare(request));
    RunOnTerminal(script, raw);
    WISP_ASSERT_OK(Connect());
  }
  static size_t CountMasters() {
    size_t count = 0;
    for (const auto& [fd, target] : OpenFds()) {
      if (target.find("ptmx") != std::string::npos) ++count;
    }
    return count;
  }
  std::string Failure(const std::vector<int>& fds) {
    EXPECT_TRUE(Prepare(Terminal()).ok());
    SendFds(ConnectTo(stdio_->console_socket()), fds);
    std::string text(Message(Connect()));
    unlink(in_.c_str());
    unlink(out_.c_str());
    EXPECT_EQ(OpenFds(), fds_before_);
    return text;
  }

  std::string in_;
  std::string out_;
  std::string slave_name_;
};

TEST_F(ConsoleTest, EchoesWhatIsTypedAndShowsWhatIsPrinted) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  StartTerminal(request, "read line; echo got $line");
  EXPECT_EQ(CountMasters(), 1U);
  EXPECT_EQ(stdio_->console_socket(), "");
  const UniqueFd in = std::move(OpenFd(in_, O_WRONLY)).value();
  WISP_ASSERT_OK(WriteAll(in.get(), "hello\n"));
  EXPECT_EQ(ReadToEnd(out), "hello\r\ngot hello\r\n");
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  EXPECT_TRUE(stdio_->finished());
  EXPECT_EQ(stdio_->counters().input, 6U);
  EXPECT_EQ(stdio_->counters().output, 18U);
  stdio_.reset();
  EXPECT_EQ(CountMasters(), 0U);
}

TEST_F(ConsoleTest, LeavesNoFdAndNoDirectoryBehind) {
  setenv("TMPDIR", directory_.path().c_str(), 1);
  unsetenv("XDG_RUNTIME_DIR");
  const StdioRequest request = Terminal();
  {
    const UniqueFd out = OpenReader(out_);
    WISP_ASSERT_OK(Prepare(request));
    unsetenv("TMPDIR");
    const std::string socket = stdio_->console_socket();
    EXPECT_THAT(socket, HasSubstr(directory_.path() + "/pty"));
    struct stat info;
    const std::string parent = socket.substr(0, socket.rfind('/'));
    ASSERT_EQ(stat(parent.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0700U);
    RunOnTerminal("echo x");
    WISP_ASSERT_OK(Connect());
    EXPECT_NE(access(parent.c_str(), F_OK), 0);
    ReadToEnd(out);
    AwaitExit();
    WISP_ASSERT_OK(Drain());
  }
  stdio_.reset();
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(ConsoleTest, TheSocketInTheRuntimeDirectoryIsSticky) {
  setenv("XDG_RUNTIME_DIR", directory_.path().c_str(), 1);
  WISP_ASSERT_OK(Prepare({.terminal = true}));
  unsetenv("XDG_RUNTIME_DIR");
  struct stat info;
  ASSERT_EQ(stat(stdio_->console_socket().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 01755U);
}

TEST_F(ConsoleTest, ASizeFromBeforeTheTerminalIsKept) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  WISP_ASSERT_OK(Prepare(request));
  WISP_ASSERT_OK(stdio_->Resize(80, 24));
  WISP_ASSERT_OK(stdio_->Resize(133, 57));
  RunOnTerminal("read line; stty size; read line; stty size");
  WISP_ASSERT_OK(Connect());
  const UniqueFd in = std::move(OpenFd(in_, O_WRONLY)).value();
  WISP_ASSERT_OK(WriteAll(in.get(), "\n"));
  EXPECT_EQ(ReadUntil(out, "133\r\n"), "\r\n57 133\r\n");
  WISP_ASSERT_OK(stdio_->Resize(10, 20));
  WISP_ASSERT_OK(WriteAll(in.get(), "\n"));
  EXPECT_EQ(ReadToEnd(out), "\r\n20 10\r\n");
  AwaitExit();
  WISP_ASSERT_OK(stdio_->Resize(1, 1));
}

TEST_F(ConsoleTest, ResizeWithoutATerminalIsSuccess) {
  WISP_ASSERT_OK(Prepare({}));
  WISP_ASSERT_OK(stdio_->Resize(1, 2));
}

TEST_F(ConsoleTest, AllOutputOfAProcessThatEndsAtOnceArrives) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  StartTerminal(request, "exec seq 1 300000", /*raw=*/true);
  const std::string got = ReadToEnd(out);
  std::string expected;
  for (int i = 1; i <= 300'000; ++i) expected += fmt::format("{}\n", i);
  EXPECT_TRUE(got == expected) << got.size() << " of " << expected.size();
  AwaitExit();
}

TEST_F(ConsoleTest,
       AProcessThatIsGoneBeforeTheTerminalIsConnectedLosesNothing) {
  const StdioRequest request = Terminal();
  WISP_ASSERT_OK(Prepare(request));
  RunOnTerminal("echo short");
  AwaitExit();
  const UniqueFd out = OpenReader(out_);
  WISP_ASSERT_OK(Connect());
  EXPECT_EQ(ReadToEnd(out), "short\r\n");
}

TEST_F(ConsoleTest, AClientThatComesBackFindsAllOfAMebibyte) {
  const StdioRequest request = Terminal();
  UniqueFd out = OpenReader(out_);
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  StartTerminal(request,
                fmt::format("echo first; read line <{}/gate; seq 1 100000",
                            directory_.path()),
                /*raw=*/true);
  ReadUntil(out, "first\n");
  out.Reset();
  WISP_ASSERT_OK(WriteAll(gate.get(), "go\n"));
  AwaitExit();  // so it has not blocked
  out = OpenReader(out_);
  EXPECT_EQ(ReadToEnd(out).size(), 588895U);
}

TEST_F(ConsoleTest, ASlowReaderGetsAllOfAProcessThatEndsAtOnce) {
  for (const bool spool : {false, true}) {
    options_.spill.file = spool ? uint64_t{64} << 20 : 0;
    options_.spill.directory = directory_.path();
    const StdioRequest request = Terminal();
    const UniqueFd out = OpenReader(out_);
    StartTerminal(request, "exec seq 1 400000", /*raw=*/true);
    std::string got;
    bool more = true;
    // The fifo is full most of the time, at the end as well.
    ASSERT_TRUE(RunUntil(*loop_, [&] {
      for (int i = 0; i < 20; ++i) loop_->RunOnce(absl::ZeroDuration());
      more = ReadSome(out, &got, 30'011);
      return !more;
    }));
    std::string expected;
    for (int i = 1; i <= 400'000; ++i) expected += fmt::format("{}\n", i);
    EXPECT_TRUE(got == expected) << got.size() << " of " << expected.size();
    AwaitExit();
    stdio_.reset();
    unlink(in_.c_str());
    unlink(out_.c_str());
  }
}

TEST_F(ConsoleTest, ATerminalMayBeClosedAndOpenedAgain) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  const UniqueFd gate = std::move(OpenFd(MakeFifo("gate"), O_RDWR)).value();
  WISP_ASSERT_OK(Prepare(request));
  // Without a controlling terminal, so that nothing but the fds holds it.
  int master;
  int slave;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  UniqueFd own_master(master);
  UniqueFd own_slave(slave);
  char name[64];
  ASSERT_EQ(ptsname_r(master, name, sizeof(name)), 0);
  SendFds(ConnectTo(stdio_->console_socket()), {master});
  own_master.Reset();
  WISP_ASSERT_OK(Connect());
  WISP_ASSERT_OK(WriteAll(own_slave.get(), "one\n"));
  ReadUntil(out, "one\r\n");
  own_slave.Reset();
  // Hung up: the loop must neither end the copy nor spin.
  loop_->RunOnce(absl::ZeroDuration());
  loop_->RunOnce(absl::ZeroDuration());
  const absl::Time start = absl::Now();
  loop_->RunOnce(absl::Milliseconds(100));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(99));
  own_slave = std::move(OpenFd(name, O_RDWR | O_NOCTTY)).value();
  WISP_ASSERT_OK(WriteAll(own_slave.get(), "two\n"));
  ReadUntil(out, "two\r\n");
  stdio_->ProcessExited();
  EXPECT_EQ(ReadToEnd(out), "");  // though the slave is still open
}

TEST_F(ConsoleTest, TheEndOfStdinHangsUp) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  StartTerminal(request, "echo ready; cat; exit 3");
  ReadUntil(out, "ready\r\n");
  UniqueFd in = std::move(OpenFd(in_, O_WRONLY)).value();
  in.Reset();
  loop_->RunOnce(absl::Milliseconds(20));
  EXPECT_FALSE(exit_.has_value());  // a client may come back
  stdio_->CloseStdin();
  AwaitExit();
  EXPECT_EQ(exit_->signal, SIGHUP);
  EXPECT_EQ(CountMasters(), 0U);
}

TEST_F(ConsoleTest, MuchInputArrivesWhole) {
  const StdioRequest request = Terminal();
  const UniqueFd out = OpenReader(out_);
  StartTerminal(request, "echo ready; head -c 1000000 | cksum", /*raw=*/true);
  ReadUntil(out, "ready\n");
  const UniqueFd in = std::move(OpenFd(in_, O_WRONLY | O_NONBLOCK)).value();
  const std::string text(1'000'000, 'x');
  size_t written = 0;
  ASSERT_TRUE(RunUntil(*loop_, [&] {
    const ssize_t n =
        write(in.get(), text.data() + written, text.size() - written);
    if (n > 0) written += static_cast<size_t>(n);
    return written == text.size();
  }));
  EXPECT_THAT(ReadToEnd(out), HasSubstr(" 1000000\n"));
  AwaitExit();
}

TEST_F(ConsoleTest, WithoutANameOutputGoesNowhere) {
  StartTerminal({.terminal = true}, "seq 1 100000; exit 4");
  AwaitExit();
  EXPECT_EQ(exit_->code, 4U);
}

TEST_F(ConsoleTest, NobodyWhoConnectsIsTheEndAtTheLimit) {
  WISP_ASSERT_OK(Prepare(Terminal()));
  const absl::Status status = Connect(absl::Milliseconds(50));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(status),
            "failed to retrieve console master: context deadline exceeded");
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(ConsoleTest, NobodyWhoReadsIsTheEndAtTheLimit) {
  WISP_ASSERT_OK(Prepare(Terminal()));
  RunOnTerminal("exit 0");
  const absl::Status status = Connect(absl::Milliseconds(50));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("failed to start console copy: "));
  AwaitExit();
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(ConsoleTest, RefusesWhatIsNotOneTerminal) {
  int master;
  int slave;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  fds_before_ = OpenFds();
  const std::string prefix = "failed to retrieve console master: ";
  EXPECT_EQ(Failure({master, slave}),
            prefix + "recvfd: number of fds is not 1: 2");
  EXPECT_EQ(Failure({}),
            prefix + "recvfd: incorrect number of bytes read (n=9 oobn=0)");
  const UniqueFd null = std::move(OpenFd("/dev/null", O_RDWR)).value();
  fds_before_ = OpenFds();
  EXPECT_EQ(Failure({null.get()}), prefix + "provided file is not a console");
  close(master);
  close(slave);
}

TEST_F(ConsoleTest, ALoggerTakesTheOutputAndSeesItsEnd) {
  const std::string path = directory_ / "logger";
  WISP_ASSERT_OK(WriteFileAtomically(
      path,
      fmt::format("#!/bin/sh\nPATH=/usr/bin:/bin\nprintf x >&5; exec 5>&-\n"
                  "cat <&3 >{0}/part; cat <&4 >>{0}/part; mv {0}/part {0}/log",
                  directory_.path()),
      0755, false));
  StartTerminal({.terminal = true, .stdout_path = "binary://" + path},
                "exec seq 1 100000", /*raw=*/true);
  AwaitExit();
  WISP_ASSERT_OK(Drain());
  detached_->Take(std::move(stdio_));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return detached_->size() == 0; }));
  EXPECT_EQ(ReadFile(directory_ / "log")->size(), 588895U);
  EXPECT_THAT(troubles_, IsEmpty());
  EXPECT_EQ(OpenFds(), fds_before_);
}

TEST_F(ConsoleTest, ADeadLoggerDoesNotBlockTheTerminal) {
  const std::string path = directory_ / "logger";
  WISP_ASSERT_OK(WriteFileAtomically(path, "#!/bin/sh\nexit 1\n", 0755, false));
  StartTerminal({.terminal = true, .stdout_path = "binary://" + path},
                "seq 1 200000; exit 5", /*raw=*/true);
  AwaitExit();
  EXPECT_EQ(exit_->code, 5U);
  EXPECT_THAT(troubles_, testing::ElementsAre(HasSubstr("exit status 1")));
}

TEST_F(ConsoleTest, AMissingLoggerFailsTheConsole) {
  WISP_ASSERT_OK(
      Prepare({.terminal = true, .stdout_path = "binary:///nowhere/log"}));
  RunOnTerminal("exit 0");
  EXPECT_THAT(std::string(Message(Connect())),
              HasSubstr("failed to start console copy: failed to start "
                        "logging binary process: fork/exec /nowhere/log"));
  AwaitExit();
}

}  // namespace
}  // namespace wisp
