// The driver against runtimes that do what no runtime should: scripts.
#include "process/runc.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/process/runc_testing.h"

namespace wisp {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(RuncTest, GivesTheRuntimeContainerdsCommandLine) {
  const std::string runtime =
      Script("printf '%s\\n' \"$@\" > " + directory_.path() + "/args");
  RuncDriver driver = Driver(runtime);
  RuncRunOptions options;
  options.console_socket = "/tmp/pty.sock";
  ASSERT_TRUE(Run([&](DoneStatus done) {
                driver.Create("/b/init.pid", options, std::move(done));
              }).ok());
  const std::string bundle = directory_.path();
  EXPECT_EQ(*ReadFile(bundle + "/args"),
            fmt::format("--root\n{0}/root\n--log\n{0}/log.json\n--log-format\n"
                        "json\ncreate\n--bundle\n{0}\n--pid-file\n/b/init.pid\n"
                        "--console-socket\n/tmp/pty.sock\nc1\n",
                        bundle));
  ASSERT_TRUE(Run([&](DoneStatus done) {
                driver.Exec("/b/p.json", "/b/e.pid", {}, std::move(done));
              }).ok());
  EXPECT_THAT(
      *ReadFile(bundle + "/args"),
      EndsWith("json\nexec\n--process\n/b/p.json\n--detach\n--pid-file\n"
               "/b/e.pid\nc1\n"));
  ASSERT_TRUE(Run([&](DoneStatus done) {
                driver.Kill(15, true, std::move(done));
              }).ok());
  EXPECT_THAT(*ReadFile(bundle + "/args"),
              EndsWith("json\nkill\n--all\nc1\n15\n"));
}

TEST_F(RuncTest, QuotesTheNameOfARuntimeThatIsNotThere) {
  EXPECT_EQ(
      Message(Start("no-such-runtime")),
      fmt::format("OCI runtime start failed: unable to retrieve OCI "
                  "runtime error (open {}/log.json: no such file or "
                  "directory): exec: \"no-such-runtime\": executable file "
                  "not found in $PATH",
                  directory_.path()));
}

TEST_F(RuncTest, TellsOfARuntimeThatIsNotExecutable) {
  const std::string path = directory_.path() + "/text";
  ASSERT_TRUE(WriteFileAtomically(path, "text", 0600, false).ok());
  EXPECT_THAT(Message(Start(path)), HasSubstr("permission denied"));
}

TEST_F(RuncTest, TellsOfARuntimeForAnotherMachine) {
  const std::string path = directory_.path() + "/alien";
  ASSERT_TRUE(WriteFileAtomically(path,
                                  "\x7f"
                                  "ELF nonsense",
                                  0700, false)
                  .ok());
  EXPECT_THAT(Message(Start(path)),
              EndsWith(fmt::format("fork/exec {}: exec format error", path)));
}

TEST_F(RuncTest, PrefersTheRuntimesLogToItsOutput) {
  const std::string runtime = Script(
      "echo noise; echo '{\"level\":\"error\",\"msg\":\" the reason \","
      "\"time\":\"2026-01-02T03:04:05Z\"}' >> \"$4\"; exit 1");
  EXPECT_EQ(Message(Start(runtime)), "OCI runtime start failed: the reason");
}

TEST_F(RuncTest, DoesNotTakeAnEarlierCommandsErrorForThisOnes) {
  const std::string log = directory_.path() + "/log.json";
  ASSERT_TRUE(WriteFileAtomically(log,
                                  "{\"level\":\"error\",\"msg\":\"old\","
                                  "\"time\":\"2026-01-02T03:04:05Z\"}\n",
                                  0600, false)
                  .ok());
  const std::string runtime = Script("echo fresh >&2; exit 3");
  EXPECT_EQ(Message(Start(runtime)),
            fmt::format("OCI runtime start failed: {} did not terminate "
                        "successfully: exit status 3: fresh",
                        runtime));
}

TEST_F(RuncTest, TellsOfARuntimeThatWasKilled) {
  const std::string runtime = Script("touch \"$4\"; kill -KILL $$");
  EXPECT_THAT(Message(Start(runtime)), HasSubstr("exit status 137"));
}

TEST_F(RuncTest, TellsOfALogThatIsNoJson) {
  const std::string runtime = Script("echo garbage >> \"$4\"; exit 1");
  EXPECT_THAT(
      Message(Start(runtime)),
      AllOf(StartsWith("OCI runtime start failed: unable to retrieve OCI "
                       "runtime error ("),
            EndsWith("exit status 1")));
}

TEST_F(RuncTest, KeepsTheEndOfALotOfOutput) {
  const std::string runtime = Script(
      "touch \"$4\"; head -c 300000 /dev/zero | tr '\\0' x; echo; echo the "
      "end; "
      "exit 1");
  const absl::Status status = Start(runtime);
  EXPECT_THAT(Message(status), EndsWith("the end"));
  EXPECT_LT(Message(status).size(), 70'000u);
}

TEST_F(RuncTest, IsNotHeldUpByAGrandchildThatKeepsTheOutput) {
  const std::string runtime =
      Script("sleep 1000 & echo $! > " + directory_.path() + "/pid; exit 0");
  EXPECT_TRUE(Start(runtime).ok());
  kill(atoi(ReadFile(directory_.path() + "/pid")->c_str()), SIGKILL);
}

TEST_F(RuncTest, KillsARuntimeAndItsChildrenAtItsLimit) {
  const std::string runtime =
      Script("sleep 1000 & echo $! > " + directory_.path() + "/pid; wait");
  const absl::Status status =
      Start(runtime, RuncLimits{.start = absl::Milliseconds(300)});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Message(status),
              HasSubstr("start did not end within 300ms and was killed"));
  const pid_t child = atoi(ReadFile(directory_.path() + "/pid")->c_str());
  ASSERT_GT(child, 0);
  EXPECT_TRUE(RunUntil(*loop_, [child] { return kill(child, 0) != 0; }));
}

TEST_F(RuncTest, EndsWithTheReasonOfAnAbort) {
  RuncDriver driver = Driver(Script("sleep 1000"));
  const absl::Status status = Run([&](DoneStatus done) {
    driver.Start({}, std::move(done)).Abort(absl::CancelledError("gone"));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Message(status), "OCI runtime start failed: gone");
}

TEST_F(RuncTest, ReadsWhatAKillMeans) {
  const auto kill_with = [this](const std::string& words) {
    RuncDriver driver = Driver(Script("echo '" + words + "' >&2; exit 1"));
    return Run(
        [&](DoneStatus done) { driver.Kill(9, false, std::move(done)); });
  };
  EXPECT_EQ(kill_with("container not running"),
            absl::NotFoundError("process already finished"));
  EXPECT_EQ(kill_with("kill container: No such process"),
            absl::NotFoundError("process already finished"));
  EXPECT_EQ(kill_with("container does not exist"),
            absl::NotFoundError("no such container"));
  EXPECT_EQ(kill_with("something else").code(), absl::StatusCode::kUnknown);
}

TEST_F(RuncTest, TakesAnUnknownContainerForDeleted) {
  for (const char* words :
       {"container does not exist",
        "cannot open directory `/x`: No such file or directory"}) {
    RuncDriver driver =
        Driver(Script(fmt::format("echo '{}' >&2; exit 1", words)));
    EXPECT_TRUE(Run([&](DoneStatus done) {
                  driver.Delete(false, {}, std::move(done));
                }).ok())
        << words;
  }
}

TEST_F(RuncTest, GivesTheResourcesOnStdin) {
  RuncDriver driver = Driver(Script("cat > " + directory_.path() + "/in"));
  ASSERT_TRUE(Run([&](DoneStatus done) {
                driver.Update("{\"cpu\":{}}", {}, std::move(done));
              }).ok());
  EXPECT_EQ(*ReadFile(directory_.path() + "/in"), "{\"cpu\":{}}\n");
}

TEST(RuncLimitsTest, ReadsThemByVerb) {
  const absl::StatusOr<RuncLimits> limits =
      ParseRuncLimits("create=1m30s,exec=10s");
  ASSERT_TRUE(limits.ok()) << limits.status();
  EXPECT_EQ(limits->create, absl::Seconds(90));
  EXPECT_EQ(limits->exec, absl::Seconds(10));
  EXPECT_EQ(limits->start, RuncLimits().start);
  for (const char* bad :
       {"create", "create=", "create=soon", "dance=1s", "exec=-1s"}) {
    EXPECT_FALSE(ParseRuncLimits(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace wisp
