// Stdio of tasks of the real binary, as clients use it.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "process/json.h"
#include "process/stdio_plan.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using ::testing::HasSubstr;

class StdioTaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (setting_ != nullptr) setenv("WISP_STDIO_SPILL", setting_, 1);
    shim_ = TestShim::Start(FAKE_RUNC);
    unsetenv("WISP_STDIO_SPILL");
    ASSERT_NE(shim_, nullptr);
  }
  void TearDown() override {
    if (shim_ != nullptr && HasFailure()) {
      std::string log = shim_->Log();
      fprintf(stderr, "the shim's log:\n%s", log.c_str());
    }
  }

  TestShim& shim() { return *shim_; }
  std::string Path(const std::string& name) {
    return shim().directory() + "/control/" + name;
  }
  std::string MakeFifo(const std::string& name) {
    EXPECT_EQ(mkfifo(Path(name).c_str(), 0600), 0);
    return Path(name);
  }
  static UniqueFd OpenReader(const std::string& path) {
    return std::move(OpenFd(path, O_RDONLY | O_NONBLOCK)).value();
  }
  static UniqueFd OpenWriter(const std::string& path) {
    return std::move(OpenFd(path, O_WRONLY | O_NONBLOCK)).value();
  }

  void Create(const std::string& id, const std::vector<std::string>& args,
              const StdioRequest& stdio) {
    shim().MakeBundle(id, args);
    api::CreateTaskRequest request = shim().CreateRequest(id);
    request.set_stdin(stdio.stdin_path);
    request.set_stdout(stdio.stdout_path);
    request.set_terminal(stdio.terminal);
    const absl::Status created =
        shim().Call<api::CreateTaskResponse>("Create", request).status();
    ASSERT_TRUE(created.ok()) << created;
  }
  void Run(const std::string& id, const std::vector<std::string>& args,
           const StdioRequest& stdio) {
    Create(id, args, stdio);
    const absl::StatusOr<uint32_t> pid = shim().StartTask(id);
    ASSERT_TRUE(pid.ok()) << pid.status();
  }
  absl::Status AddExec(const std::string& id, const std::string& exec_id,
                       const std::vector<std::string>& args,
                       const StdioRequest& stdio) {
    Json list = Json::Array();
    for (const std::string& arg : args) list.Append(arg);
    Json process = Json::Object();
    process.Set("args", std::move(list));
    api::ExecProcessRequest request;
    request.set_id(id);
    request.set_exec_id(exec_id);
    request.set_stdin(stdio.stdin_path);
    request.set_stdout(stdio.stdout_path);
    request.set_terminal(stdio.terminal);
    request.mutable_spec()->set_value(process.Dump());
    return shim().Call<Empty>("Exec", request).status();
  }
  absl::Status CloseIO(const std::string& id, const std::string& exec_id = "") {
    api::CloseIORequest request;
    request.set_id(id);
    request.set_exec_id(exec_id);
    request.set_stdin(true);
    return shim().Call<Empty>("CloseIO", request).status();
  }
  absl::Status Resize(const std::string& id, const std::string& exec_id,
                      uint32_t width, uint32_t height) {
    api::ResizePtyRequest request;
    request.set_id(id);
    request.set_exec_id(exec_id);
    request.set_width(width);
    request.set_height(height);
    return shim().Call<Empty>("ResizePty", request).status();
  }

  // What the shim has open, sorted: "pipe:[7]" as "pipe".
  std::vector<std::string> Fds() const {
    std::vector<std::string> fds;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(
             fmt::format("/proc/{}/fd", shim_->pid()), none)) {
      const std::string target =
          std::filesystem::read_symlink(entry.path(), none).string();
      fds.push_back(target.substr(0, target.find(":[")));
    }
    std::sort(fds.begin(), fds.end());
    return fds;
  }
  static int64_t Count(const std::vector<std::string>& fds,
                       std::string_view part) {
    return std::count_if(fds.begin(), fds.end(), [part](const std::string& fd) {
      return fd.find(part) != std::string::npos;
    });
  }

  // What `before` had and is closed since was about to be.
  bool NoMoreThan(const std::vector<std::string>& before) const {
    const std::vector<std::string> now = Fds();
    return std::includes(before.begin(), before.end(), now.begin(), now.end());
  }

  bool ReadUntil(const UniqueFd& fd, std::string* text,
                 absl::AnyInvocable<bool()> condition) {
    return shim().RunUntil([&] {
      char buffer[65536];
      ssize_t n;
      while ((n = read(fd.get(), buffer, sizeof(buffer))) > 0) {
        text->append(buffer, static_cast<size_t>(n));
      }
      ended_ = n == 0;
      return condition();
    });
  }
  std::string ReadToEnd(const UniqueFd& fd) {
    std::string text;
    EXPECT_TRUE(ReadUntil(fd, &text, [this] { return ended_; }));
    return text;
  }
  static std::string Lines(int count) {
    std::string text;
    for (int i = 1; i <= count; ++i) text += fmt::format("{}\n", i);
    return text;
  }

  const char* setting_ = nullptr;
  std::unique_ptr<TestShim> shim_;
  bool ended_ = false;
};

TEST_F(StdioTaskTest, HoldsNoFdOfWhatIsDeletedAndOneForEachTerminal) {
  // The connection for events stays.
  Run("c0", {"true"}, {});
  ASSERT_TRUE(shim().Wait("c0").ok());
  ASSERT_TRUE(shim().Delete("c0").ok());
  ASSERT_TRUE(shim().AwaitEvent("delete c0 0"));
  const std::vector<std::string> idle = Fds();
  EXPECT_EQ(Count(idle, "pipe"), 0);
  EXPECT_EQ(Count(idle, "ptmx"), 0);
  const std::string in = MakeFifo("in");
  const std::string out = MakeFifo("out");
  const std::string tty = MakeFifo("tty");
  const std::string exec_tty = MakeFifo("exec_tty");
  {
    const UniqueFd reader = OpenReader(out);
    const UniqueFd tty_reader = OpenReader(tty);
    const UniqueFd exec_reader = OpenReader(exec_tty);
    Run("c1", {"cat"}, {.stdin_path = in, .stdout_path = out});
    Run("c2", {"sleep", "1000"}, {.terminal = true, .stdout_path = tty});
    ASSERT_TRUE(AddExec("c2", "e1", {"sleep", "1000"},
                        {.terminal = true, .stdout_path = exec_tty})
                    .ok());
    ASSERT_TRUE(shim().StartTask("c2", "e1").ok());
    EXPECT_EQ(Count(Fds(), "ptmx"), 2);
    ASSERT_TRUE(shim().Kill("c2", SIGKILL, "e1").ok());
    ASSERT_TRUE(shim().Wait("c2", "e1").ok());
    ASSERT_TRUE(shim().Delete("c2", "e1").ok());
    EXPECT_TRUE(shim().RunUntil([&] { return Count(Fds(), "ptmx") == 1; }));
    for (const char* id : {"c1", "c2"}) {
      ASSERT_TRUE(shim().Kill(id, SIGKILL).ok());
      ASSERT_TRUE(shim().Wait(id).ok());
      ASSERT_TRUE(shim().Delete(id).ok());
    }
  }
  EXPECT_TRUE(shim().RunUntil([&] { return NoMoreThan(idle); }))
      << testing::PrintToString(Fds()) << testing::PrintToString(idle);
}

TEST_F(StdioTaskTest, HoldsNoFdOfClientsThatWaitedAndWent) {
  Run("c1", {"sleep", "1000"}, {});
  const std::vector<std::string> before = Fds();
  {
    std::vector<std::unique_ptr<TestClient>> clients;
    api::WaitRequest wait;
    wait.set_id("c1");
    for (int i = 0; i < 100; ++i) {
      clients.push_back(shim().Connect());
      clients.back()->Call("containerd.task.v3.Task", "Wait",
                           wait.SerializeAsString(), {}, absl::Seconds(60),
                           [](const absl::StatusOr<std::string>&) {});
    }
    EXPECT_TRUE(shim().RunUntil([&] {
      return Count(Fds(), "socket") == Count(before, "socket") + 100;
    }));
  }
  EXPECT_TRUE(shim().RunUntil([&] { return NoMoreThan(before); }));
}

TEST_F(StdioTaskTest, TakesCloseIOInEveryState) {
  const std::string in = MakeFifo("in");
  const std::string out = MakeFifo("out");
  const UniqueFd reader = OpenReader(out);
  Create("c1", {"cat"}, {.stdin_path = in, .stdout_path = out});
  UniqueFd writer = OpenWriter(in);
  EXPECT_TRUE(CloseIO("c1").ok());
  EXPECT_TRUE(CloseIO("c1").ok());
  ASSERT_TRUE(shim().StartTask("c1").ok());
  EXPECT_TRUE(CloseIO("c1").ok());
  // All that was written before the last writer closes still arrives.
  ASSERT_TRUE(WriteAll(writer.get(), "hello\n").ok());
  writer.Reset();
  EXPECT_EQ(ReadToEnd(reader), "hello\n");
  ASSERT_TRUE(shim().Wait("c1").ok());
  EXPECT_TRUE(CloseIO("c1").ok());
  EXPECT_TRUE(shim().Delete("c1").ok());
  EXPECT_EQ(CloseIO("c1").code(), absl::StatusCode::kNotFound);
}

TEST_F(StdioTaskTest, RemembersCloseIOOfAnExecThatIsNotStarted) {
  const std::string in = MakeFifo("in");
  const std::string out = MakeFifo("out");
  const UniqueFd reader = OpenReader(out);
  Run("c1", {"sleep", "1000"}, {});
  ASSERT_TRUE(
      AddExec("c1", "e1", {"cat"}, {.stdin_path = in, .stdout_path = out})
          .ok());
  EXPECT_TRUE(CloseIO("c1", "e1").ok());
  ASSERT_TRUE(shim().StartTask("c1", "e1").ok());
  EXPECT_EQ(ReadToEnd(reader), "");
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1", "e1");
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status(), 0u);
}

TEST_F(StdioTaskTest, PassesMuchThroughStdinAndBack) {
  const std::string in = MakeFifo("in");
  const std::string out = MakeFifo("out");
  const UniqueFd reader = OpenReader(out);
  Run("c1", {"cat"}, {.stdin_path = in, .stdout_path = out});
  UniqueFd writer = OpenWriter(in);
  const std::string text = Lines(3'000'000);
  size_t written = 0;
  std::string got;
  EXPECT_TRUE(ReadUntil(reader, &got, [&] {
    while (written < text.size()) {
      const ssize_t n =
          write(writer.get(), text.data() + written, text.size() - written);
      if (n < 0) return false;
      written += static_cast<size_t>(n);
    }
    if (writer.valid()) {
      EXPECT_TRUE(CloseIO("c1").ok());
      writer.Reset();
    }
    return ended_;
  }));
  EXPECT_TRUE(got == text) << got.size();
}

TEST_F(StdioTaskTest, KeepsASizeFromBeforeTheTerminal) {
  const std::string out = MakeFifo("out");
  const std::string exec_out = MakeFifo("exec_out");
  const UniqueFd reader = OpenReader(out);
  const UniqueFd exec_reader = OpenReader(exec_out);
  Create("c1", {"sh", "-c", "stty size; exec sleep 1000"},
         {.terminal = true, .stdout_path = out});
  ASSERT_TRUE(Resize("c1", "", 133, 57).ok());
  ASSERT_TRUE(shim().StartTask("c1").ok());
  std::string text;
  EXPECT_TRUE(
      ReadUntil(reader, &text, [&text] { return text == "57 133\r\n"; }));
  // It may run before the shim has its terminal.
  ASSERT_TRUE(AddExec("c1", "e1",
                      {"sh", "-c",
                       "until [ \"$(stty size)\" != '0 0' ]; do :; done; stty "
                       "size"},
                      {.terminal = true, .stdout_path = exec_out})
                  .ok());
  ASSERT_TRUE(Resize("c1", "e1", 11, 22).ok());
  ASSERT_TRUE(shim().StartTask("c1", "e1").ok());
  EXPECT_EQ(ReadToEnd(exec_reader), "22 11\r\n");
}

TEST_F(StdioTaskTest, LosesNothingOfATerminalThatIsResizedAllTheTime) {
  const std::string out = MakeFifo("out");
  const UniqueFd reader = OpenReader(out);
  Run("c1", {"sh", "-c", "stty raw; exec seq 1 500000"},
      {.terminal = true, .stdout_path = out});
  std::string text;
  for (uint32_t i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(Resize("c1", "", i, i).ok());
    char buffer[4096];
    const ssize_t n = read(reader.get(), buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
  }
  text += ReadToEnd(reader);
  EXPECT_TRUE(text == Lines(500'000)) << text.size();
}

TEST_F(StdioTaskTest, TheContainerGoesOnWhileItsReaderIsAway) {
  const std::string out = MakeFifo("out");
  const std::string gate_path = MakeFifo("gate");
  const UniqueFd gate = std::move(OpenFd(gate_path, O_RDWR)).value();
  UniqueFd reader = OpenReader(out);
  Run("c1",
      {"sh", "-c",
       fmt::format("echo first; read line <{}; seq 1 150000; : >{}; exec sleep "
                   "1000",
                   gate_path, Path("through"))},
      {.stdout_path = out});
  std::string text;
  EXPECT_TRUE(ReadUntil(reader, &text, [&text] { return text == "first\n"; }));
  reader.Reset();
  ASSERT_TRUE(WriteAll(gate.get(), "go\n").ok());
  // Nearly a mebibyte.
  EXPECT_TRUE(shim().RunUntil(
      [this] { return access(Path("through").c_str(), F_OK) == 0; }));
  reader = OpenReader(out);
  text.clear();
  const std::string expected = Lines(150'000);
  EXPECT_TRUE(
      ReadUntil(reader, &text, [&] { return text.size() >= expected.size(); }));
  EXPECT_TRUE(text == expected);
}

TEST_F(StdioTaskTest, AnExecIsOverThoughAChildOfItHoldsItsOutput) {
  const std::string out = MakeFifo("out");
  const std::string alive = MakeFifo("alive");
  const UniqueFd reader = OpenReader(out);
  const UniqueFd child = OpenReader(alive);
  Run("c1", {"sleep", "1000"}, {});
  ASSERT_TRUE(AddExec("c1", "e1",
                      {"sh", "-c",
                       fmt::format("exec 3>{}; sleep 1000 & echo ok", alive)},
                      {.stdout_path = out})
                  .ok());
  ASSERT_TRUE(shim().StartTask("c1", "e1").ok());
  EXPECT_TRUE(shim().AwaitEvent("exit c1/e1 0"));
  const absl::Time start = absl::Now();
  ASSERT_TRUE(shim().Delete("c1", "e1").ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  EXPECT_EQ(ReadToEnd(reader), "ok\n");
  EXPECT_TRUE(shim().RunUntil([&] { return Count(Fds(), "pipe") == 0; }));
  // It is not ours to kill: the fifo still has its writer.
  char byte;
  EXPECT_EQ(read(child.get(), &byte, 1), -1);
}

class SpillTaskTest : public StdioTaskTest {
 protected:
  SpillTaskTest() { setting_ = "memory=256K,file=2M,full=drop"; }
};

TEST_F(SpillTaskTest, DropsWhatIsOldestAndSaysSo) {
  const std::string out = MakeFifo("out");
  UniqueFd reader = OpenReader(out);
  Run("c1",
      {"sh", "-c",
       fmt::format("echo first; seq 1 1000000; : >{}; exec sleep 1000",
                   Path("through"))},
      {.stdout_path = out});
  EXPECT_TRUE(shim().RunUntil(
      [this] { return access(Path("through").c_str(), F_OK) == 0; }));
  std::string text;
  EXPECT_TRUE(ReadUntil(reader, &text,
                        [&text] { return text.ends_with("\n1000000\n"); }));
  EXPECT_TRUE(text.starts_with("first\n1\n2\n"));
  EXPECT_THAT(text, HasSubstr("\n[wisp: "));
  EXPECT_GT(text.size(), size_t{2} << 20);
  EXPECT_THAT(shim().Log(), HasSubstr("output is dropped"));
  // What it used is free again.
  EXPECT_TRUE(shim().RunUntil([this] {
    return Count(Fds(), "stdio") + Count(Fds(), "bundles/c1/#") == 0;
  }));
}

}  // namespace
}  // namespace wisp
