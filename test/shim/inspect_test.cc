// The real binary, asked what it is doing.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "process/json.h"
#include "shim/run_command.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

using ::testing::HasSubstr;
using ::testing::Not;

class InspectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    Start(/*debug=*/true);
  }

  void Start(bool debug) {
    shim_ = TestShim::Start(FAKE_RUNC, debug);
    ASSERT_NE(shim_, nullptr);
    shim_->MakeBundle("c1", {"sleep", "1000"});
    ASSERT_TRUE(shim_->Create("c1").ok());
    ASSERT_TRUE(shim_->StartTask("c1").ok());
  }

  // An exec whose runtime does not go on.
  void HangExec() {
    shim_->CloseGate("exec.e1.before");
    ASSERT_TRUE(shim_->Exec("c1", "e1", {"true"}).ok());
    api::StartRequest request;
    request.set_id("c1");
    request.set_exec_id("e1");
    start_ = shim_->StartCall("Start", request);
    ASSERT_TRUE(shim_->AwaitRuntimeCall("exec e1"));
    // Ages are told in whole milliseconds: until both have one to tell.
    const absl::Time hung = absl::Now();
    ASSERT_TRUE(shim_->RunUntil(
        [hung] { return absl::Now() - hung >= absl::Milliseconds(2); }));
  }

  // Of the last run of the runtime.
  int64_t RuntimePid() const {
    const std::string calls =
        ReadFile(shim_->control() + "/calls").value_or("");
    const std::vector<std::string> words =
        absl::StrSplit(calls, absl::ByAnyChar(" \n"), absl::SkipEmpty());
    int64_t pid = 0;
    return !words.empty() && absl::SimpleAtoi(words.back(), &pid) ? pid : 0;
  }

  static CommandResult Inspect(const std::string& target) {
    absl::StatusOr<CommandResult> result =
        RunCommand({TestShim::Binary(), "inspect", target},
                   absl::Now() + absl::Minutes(1));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.value_or(CommandResult());
  }

  std::string DumpIn(const std::string& id) const {
    return fmt::format("{}/bundles/{}/wisp-dump.json", shim_->directory(), id);
  }

  // Asks for a dump and waits for it; null if it does not come.
  Json DumpOnSignal(const std::string& path) {
    kill(shim_->pid(), SIGUSR1);
    EXPECT_TRUE(shim_->RunUntil(
        [&path] { return std::filesystem::is_regular_file(path); }));
    absl::StatusOr<Json> dump = Json::Parse(ReadFile(path).value_or(""));
    return dump.ok() ? *std::move(dump) : Json::Object();
  }

  void ExpectTheCulprit(const Json& dump) {
    const JsonView task = dump["tasks"].at(0);
    EXPECT_EQ(task["id"].StringOr(""), "c1");
    EXPECT_EQ(task["status"].StringOr(""), "running");
    const JsonView run = task["runtime_runs"].at(0);
    EXPECT_EQ(run["command"].StringOr(""), "exec");
    EXPECT_EQ(run["pid"].Int64Or(0), RuntimePid());
    EXPECT_GT(run["age_ms"].Int64Or(-1), 0);
    EXPECT_GT(run["limit_ms"].Int64Or(0), run["age_ms"].Int64Or(0));
    EXPECT_EQ(task["execs"].at(0)["id"].StringOr(""), "e1");
    EXPECT_TRUE(task["execs"].at(0)["starting"].BoolOr(false));
    const JsonView call = dump["calls"].at(0);
    EXPECT_EQ(call["method"].StringOr(""), "Start");
    EXPECT_GT(call["age_ms"].Int64Or(-1), 0);
  }

  std::unique_ptr<TestShim> shim_;
  std::shared_ptr<TestShim::Pending> start_;
};

TEST_F(InspectTest, NamesTheRunOfTheRuntimeThatHangs) {
  HangExec();
  const std::string bundle = shim_->directory() + "/bundles/c1";
  // The shim that the bundle names is found where `start` wrote its address.
  ASSERT_TRUE(shim_->RunStart("c1").ok());
  for (const std::string& target :
       {shim_->socket(), "unix://" + shim_->socket(), bundle,
        std::to_string(shim_->pid())}) {
    const CommandResult result = Inspect(target);
    ASSERT_EQ(result.exit_code, 0) << target << ": " << result.errors;
    const absl::StatusOr<Json> dump = Json::Parse(result.output);
    ASSERT_TRUE(dump.ok()) << result.output;
    ExpectTheCulprit(*dump);
  }
  shim_->OpenGate("exec.e1.before");
  shim_->Await(*start_);
  EXPECT_TRUE(start_->result.ok()) << start_->result.status();
}

TEST_F(InspectTest, WritesTheSameIntoTheBundleOnSignal) {
  HangExec();
  // Whoever put it there, it is replaced, and what it points to is left alone.
  const std::string other = shim_->directory() + "/other";
  ASSERT_TRUE(WriteFileAtomically(other, "mine", 0600, false).ok());
  ASSERT_EQ(symlink(other.c_str(), DumpIn("first").c_str()), 0);
  kill(shim_->pid(), SIGUSR1);
  ASSERT_TRUE(shim_->RunUntil(
      [this] { return !std::filesystem::is_symlink(DumpIn("first")); }));
  ExpectTheCulprit(DumpOnSignal(DumpIn("first")));
  EXPECT_EQ(ReadFile(other).value_or(""), "mine");
  struct stat info;
  ASSERT_EQ(stat(DumpIn("first").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_THAT(shim_->Log(), HasSubstr("dump=" + DumpIn("first")));
  shim_->OpenGate("exec.e1.before");
}

TEST_F(InspectTest, FindsAnotherBundleWhenItsOwnHasGone) {
  std::filesystem::remove_all(shim_->directory() + "/bundles/first");
  EXPECT_EQ(DumpOnSignal(DumpIn("c1"))["pid"].Int64Or(0), shim_->pid());
}

TEST_F(InspectTest, HasNothingLeftOfExecsThatAreOver) {
  for (int i = 0; i < 20; ++i) {
    const std::string exec = fmt::format("e{}", i);
    ASSERT_TRUE(shim_->Exec("c1", exec, {"true"}).ok());
    ASSERT_TRUE(shim_->StartTask("c1", exec).ok());
    ASSERT_TRUE(shim_->Wait("c1", exec).ok());
    ASSERT_TRUE(shim_->Delete("c1", exec).ok());
  }
  const Json dump = DumpOnSignal(DumpIn("first"));
  EXPECT_EQ(dump["tasks"].at(0)["execs"].size(), 0u);
  EXPECT_EQ(dump["tasks"].at(0)["runtime_runs"].size(), 0u);
  EXPECT_EQ(dump["calls"].size(), 0u);
  EXPECT_EQ(dump["counts"]["children"].Int64Or(0), 1);  // init
  EXPECT_GT(dump["fds"].size(), 3u);
  // The first one is in the log of the second.
  const Json again =
      Json::Parse(Inspect(shim_->socket()).output).value_or(Json::Object());
  ASSERT_GT(again["log"].size(), 0u);
  EXPECT_THAT(again["log"].at(again["log"].size() - 1).StringOr(""),
              HasSubstr("msg=state"));
}

TEST_F(InspectTest, SaysWhatIsNoShim) {
  const CommandResult own = Inspect(std::to_string(getpid()));
  EXPECT_EQ(own.exit_code, 1);
  EXPECT_THAT(own.errors, HasSubstr("is no shim of ours"));
  EXPECT_THAT(Inspect("/no/such/path").errors, HasSubstr("no such file"));
  EXPECT_THAT(Inspect("").errors, HasSubstr("inspect what?"));
  // A socket that nobody serves any more.
  kill(shim_->pid(), SIGKILL);
  ASSERT_TRUE(shim_->RunUntil([this] { return shim_->gone(); }));
  EXPECT_THAT(Inspect(shim_->socket()).errors, HasSubstr("went away"));
}

TEST_F(InspectTest, LogsDebugMessagesFromOneSignalToTheNext) {
  Start(/*debug=*/false);
  const auto fail_a_create = [this] {
    shim_->SetFailure("create.bad", "as told");
    shim_->MakeBundle("bad", {"true"});
    EXPECT_FALSE(shim_->Create("bad").ok());
  };
  fail_a_create();
  EXPECT_THAT(shim_->Log(), Not(HasSubstr("level=debug")));
  kill(shim_->pid(), SIGUSR2);
  ASSERT_TRUE(shim_->RunUntil(
      [this] { return shim_->Log().find("logged=yes") != std::string::npos; }));
  fail_a_create();
  EXPECT_THAT(shim_->Log(), HasSubstr("level=debug msg=\"create failed\""));
  const size_t length = shim_->Log().size();
  kill(shim_->pid(), SIGUSR2);
  ASSERT_TRUE(shim_->RunUntil(
      [this] { return shim_->Log().find("logged=no") != std::string::npos; }));
  fail_a_create();
  EXPECT_THAT(shim_->Log().substr(length), Not(HasSubstr("level=debug")));
}

}  // namespace
}  // namespace wisp
