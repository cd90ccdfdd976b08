// A process with its stdio, brought up as the shim does it, and a client.
#ifndef WISP_TEST_PROCESS_STDIO_TESTING_H_
#define WISP_TEST_PROCESS_STDIO_TESTING_H_

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "process/detached_stdio.h"
#include "process/fd.h"
#include "process/reaper.h"
#include "process/spawn.h"
#include "process/stdio.h"
#include "test/process/testing.h"

namespace wisp {

class StdioTestBase : public testing::Test {
 protected:
  StdioTestBase() {
    signal(SIGPIPE, SIG_IGN);
    reaper_ = std::move(Reaper::Create(*loop_)).value();
    // Limits in proportion, short enough to be met in a test.
    options_.drain_quiet = absl::Milliseconds(200);
    options_.drain_total = absl::Milliseconds(500);
    options_.logger = {.ready = absl::Milliseconds(500),
                       .end = absl::Milliseconds(400),
                       .term = absl::Milliseconds(200)};
    // What is opened on first use and kept is not a leak.
    WISP_CHECK(absl::LocalTimeZone().name() != "");
    fds_before_ = OpenFds();
  }
  ~StdioTestBase() override {
    child_.Reset();
    stdio_.reset();
    detached_.reset();
    reaper_.reset();
    for (const pid_t pid : kill_at_end_) kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0) {
    }
  }

  std::string MakeFifo(const std::string& name) {
    std::string path = directory_ / name;
    EXPECT_EQ(mkfifo(path.c_str(), 0600), 0);
    return path;
  }
  static UniqueFd OpenReader(const std::string& path) {
    return std::move(OpenFd(path, O_RDONLY | O_NONBLOCK)).value();
  }

  absl::Status Await(absl::FunctionRef<void(DoneStatus)> start,
                     absl::Duration limit = absl::Seconds(30)) {
    std::optional<absl::Status> result;
    start([&result](absl::Status status) { result = std::move(status); });
    EXPECT_FALSE(result.has_value()) << "called from within the method";
    EXPECT_TRUE(RunUntil(
        *loop_, [&result] { return result.has_value(); }, limit));
    return result.value_or(absl::InternalError("never called"));
  }

  absl::Status Prepare(StdioRequest request) {
    request.process_id = "c1";
    request.container_ns = "ns1";
    absl::StatusOr<std::unique_ptr<Stdio>> stdio =
        Stdio::Create(*loop_, *reaper_, std::move(request), options_);
    if (!stdio.ok()) return stdio.status();
    stdio_ = *std::move(stdio);
    stdio_->SetOnTrouble(
        [this](std::string_view what) { troubles_.emplace_back(what); });
    return Await([this](DoneStatus done) { stdio_->Prepare(std::move(done)); });
  }
  // Runs a shell script as the container's process.
  void Spawn(const std::string& script) {
    exit_.reset();
    child_ =
        std::move(
            reaper_->Own(
                std::move(wisp::Spawn({.path = "/bin/sh",
                                       .argv = {"sh", "-c", script},
                                       .env = {"PATH=/usr/bin:/bin"},
                                       .stdin_fd = stdio_->child_stdin(),
                                       .stdout_fd = stdio_->child_stdout(),
                                       .stderr_fd = stdio_->child_stderr()}))
                    .value(),
                [this](ExitStatus status) {
                  exit_ = status;
                  if (stdio_ != nullptr) stdio_->ProcessExited();
                }))
            .value();
    stdio_->CloseChildEnds();
  }
  absl::Status Connect(absl::Duration limit = absl::Seconds(30)) {
    return Await([this, limit](DoneStatus done) {
      stdio_->Connect(limit, std::move(done));
    });
  }
  void Start(const StdioRequest& request, const std::string& script) {
    WISP_ASSERT_OK(Prepare(request));
    Spawn(script);
    WISP_ASSERT_OK(Connect());
  }
  absl::Status Drain() {
    return Await([this](DoneStatus done) { stdio_->Drain(std::move(done)); });
  }
  void AwaitExit() {
    ASSERT_TRUE(RunUntil(*loop_, [this] { return exit_.has_value(); }));
  }

  // Reads what is there. False at the end of the stream.
  static bool ReadSome(const UniqueFd& fd, std::string* text,
                       size_t limit = size_t{64} << 10) {
    std::string buffer(limit, '\0');
    const ssize_t n = read(fd.get(), buffer.data(), buffer.size());
    if (n > 0) text->append(buffer, 0, static_cast<size_t>(n));
    return n > 0 || (n < 0 && errno == EAGAIN);
  }
  // The stream up to its end, while the loop turns.
  std::string ReadToEnd(const UniqueFd& fd) {
    std::string text;
    EXPECT_TRUE(RunUntil(*loop_, [&] {
      loop_->RunOnce(absl::ZeroDuration());
      return !ReadSome(fd, &text);
    }));
    return text;
  }
  std::string ReadUntil(const UniqueFd& fd, const std::string& wanted) {
    std::string text;
    EXPECT_TRUE(RunUntil(*loop_,
                         [&] {
                           ReadSome(fd, &text);
                           return text.find(wanted) != std::string::npos;
                         }))
        << "got: " << text;
    return text;
  }
  bool FileAppears(const std::string& path) {
    return RunUntil(*loop_,
                    [&path] { return access(path.c_str(), F_OK) == 0; });
  }

  const std::unique_ptr<EventLoop> loop_ = MakeLoop();
  TemporaryDirectory directory_;
  std::unique_ptr<Reaper> reaper_;
  StdioOptions options_;
  std::unique_ptr<Stdio> stdio_;
  std::unique_ptr<DetachedStdio> detached_ = std::make_unique<DetachedStdio>();
  Reaper::Child child_;
  std::optional<ExitStatus> exit_;
  std::vector<std::string> troubles_;
  std::vector<pid_t> kill_at_end_;
  std::map<int, std::string> fds_before_;
};

}  // namespace wisp

#endif  // WISP_TEST_PROCESS_STDIO_TESTING_H_
