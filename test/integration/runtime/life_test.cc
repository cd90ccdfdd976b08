// The life of a container under any OCI runtime: every verb that the shim has.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <string>

#include "cgroups/cgroup.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/spawn.h"
#include "proto/types.pb.h"
#include "test/support/real_runtime.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kRunning = 2;
constexpr int kPaused = 4;

class LifeTest : public RealRuntimeTest {
 protected:
  absl::StatusOr<Cgroup> CgroupOf(const std::string& id) {
    ASSIGN_OR_RETURN(const CgroupHost host, DetectCgroupHost());
    return Cgroup::Load(host, PidOf(id));
  }
  std::vector<std::string> EventsOf(const std::string& id) {
    std::vector<std::string> texts;
    for (const TestEvent& event : shim().events()) {
      if (event.container == id) texts.push_back(event.Text());
    }
    return texts;
  }
  // What the runtime keeps of a container.
  std::string StateOfRuntime(const std::string& id) {
    return fmt::format("{}/runtime/{}/{}", shim().directory(),
                       shim().namespace_name(), id);
  }
};

TEST_F(LifeTest, RunsToAnExitCode) {
  const End end =
      RunToEnd("c1", {.args = {"sh", "-c", "echo out; echo err >&2; exit 42"}});
  EXPECT_EQ(end.status, 42u);
  EXPECT_THAT(end.output, AllOf(HasSubstr("out\n"), HasSubstr("err\n")));
  EXPECT_TRUE(shim().AwaitEvent("delete c1 42"));
  EXPECT_THAT(EventsOf("c1"), ElementsAre("create c1", "start c1", "exit c1 42",
                                          "delete c1 42"));
  struct stat info;
  EXPECT_NE(stat(StateOfRuntime("c1").c_str(), &info), 0);
}

TEST_F(LifeTest, SaysWhyACommandCannotRun) {
  absl::Status status = Create("c1", {.args = {"/no/such/program"}});
  // Most look for it when they create, others when they start.
  if (status.ok()) {
    status = shim().StartTask("c1").status();
    EXPECT_TRUE(shim().Delete("c1").ok());
  } else {
    EXPECT_TRUE(absl::IsNotFound(shim().State("c1").status()));
  }
  EXPECT_THAT(std::string(Message(status)),
              AllOf(HasSubstr("OCI runtime "), HasSubstr("/no/such/program")));
  struct stat info;
  EXPECT_NE(stat(StateOfRuntime("c1").c_str(), &info), 0);
}

TEST_F(LifeTest, SaysWhatIsWrongWithAConfig) {
  MakeBundle("c1", {.args = {"true"}});
  ASSERT_TRUE(
      WriteFileAtomically(bundle("c1") + "/config.json", "{", 0600, false)
          .ok());
  const absl::Status status =
      shim()
          .Call<api::CreateTaskResponse>("Create", CreateRequest("c1"))
          .status();
  EXPECT_THAT(std::string(Message(status)),
              AllOf(HasSubstr("OCI runtime create failed: "),
                    Not(HasSubstr("exit status"))));
}

TEST_F(LifeTest, RunsExecs) {
  Run("c1", {.args = {"sleep", "1000"}});
  ASSERT_TRUE(Exec("c1", "e1", {"sh", "-c", "echo again; exit 7"}).ok());
  const End end = FinishExec("c1", "e1");
  EXPECT_EQ(end.status, 7u);
  EXPECT_EQ(end.output, "again\n");
  ASSERT_TRUE(Exec("c1", "e2", {"sh", "-c", "kill -KILL $$"}).ok());
  EXPECT_EQ(FinishExec("c1", "e2").status, 137u);
  EXPECT_TRUE(shim().AwaitEvent("exit c1/e2 137"));

  const absl::Status failed = Exec("c1", "e3", {"/no/such/program"});
  EXPECT_THAT(std::string(Message(failed)),
              AllOf(HasSubstr("OCI runtime exec failed"),
                    HasSubstr("/no/such/program")));
  EXPECT_TRUE(shim().Delete("c1", "e3").ok());
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(LifeTest, GivesATerminal) {
  MakeBundle("c1", {.args = {"sh", "-c",
                             "tty; read line; echo got $line; "
                             "stty size; exit 5"},
                    .terminal = true});
  RealTerminal terminal(shim().directory() + "/t1");
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  request.set_terminal(true);
  request.set_stdin(terminal.in_path());
  request.set_stdout(terminal.out_path());
  const auto created = shim().Call<api::CreateTaskResponse>("Create", request);
  ASSERT_TRUE(created.ok()) << created.status();
  ASSERT_TRUE(shim().StartTask("c1").ok());
  const auto shows = [&](const std::string& text) {
    return shim().RunUntil([&terminal, &text] {
      return terminal.Text().find(text) != std::string::npos;
    });
  };
  EXPECT_TRUE(shows("/dev/pts/0")) << terminal.Text();
  api::ResizePtyRequest resize;
  resize.set_id("c1");
  resize.set_width(101);
  resize.set_height(51);
  EXPECT_TRUE(Call("ResizePty", resize).ok());
  terminal.Type("words\n");
  EXPECT_TRUE(shows("got words")) << terminal.Text();
  EXPECT_TRUE(shows("51 101")) << terminal.Text();
  EXPECT_EQ(Finish("c1").status, 5u);
}

TEST_F(LifeTest, GivesAnExecATerminal) {
  Run("c1", {.args = {"sleep", "1000"}});
  RealTerminal terminal(shim().directory() + "/t1");
  api::ExecProcessRequest request;
  request.set_id("c1");
  request.set_exec_id("e1");
  request.set_terminal(true);
  request.set_stdin(terminal.in_path());
  request.set_stdout(terminal.out_path());
  request.mutable_spec()->set_value(
      R"({"args":["sh","-c","tty; exit 6"],"env":["PATH=/bin"],"cwd":"/",)"
      R"("terminal":true,"user":{"uid":0,"gid":0}})");
  ASSERT_TRUE(Call("Exec", request).ok());
  const auto started = shim().StartTask("c1", "e1");
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(FinishExec("c1", "e1").status, 6u);
  EXPECT_THAT(terminal.Text(), HasSubstr("/dev/pts/"));
}

TEST_F(LifeTest, PausesAndResumes) {
  Run("c1", {.args = {"sleep", "1000"}});
  const absl::StatusOr<Cgroup> cgroup = CgroupOf("c1");
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  const absl::Status paused = Pause("c1");
  SKIP_IF_LACKING(paused);
  ASSERT_TRUE(paused.ok()) << paused;
  EXPECT_EQ(StatusOf("c1"), kPaused);
  EXPECT_TRUE(cgroup->IsFrozen().value_or(false));
  const absl::Status resumed = Resume("c1");
  ASSERT_TRUE(resumed.ok()) << resumed;
  EXPECT_EQ(StatusOf("c1"), kRunning);
  EXPECT_FALSE(cgroup->IsFrozen().value_or(true));
  ASSERT_TRUE(Exec("c1", "e1", {"true"}).ok());
  EXPECT_EQ(FinishExec("c1", "e1").status, 0u);
}

TEST_F(LifeTest, KillsWhatIsPaused) {
  Run("c1", {.args = {"sleep", "1000"}});
  const absl::Status paused = Pause("c1");
  SKIP_IF_LACKING(paused);
  ASSERT_TRUE(paused.ok()) << paused;
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  EXPECT_EQ(Finish("c1").status, 137u);
}

// A runtime that does nothing before it is dead, as runc for 10 s where it is
// frozen and dying.
TEST_F(LifeTest, KillsWhatIsPausedBeforeTheRuntimeHasAnswered) {
  Run("c1", {.args = {"sleep", "1000"}});
  const absl::Status paused = Pause("c1");
  SKIP_IF_LACKING(paused);
  ASSERT_TRUE(paused.ok()) << paused;
  const std::string name = RuntimeName().substr(RuntimeName().rfind('/') + 1);
  if (name != RuntimeName()) GTEST_SKIP() << "not found by its name";
  const std::string real = *FindExecutable(name);
  ASSERT_TRUE(
      WriteFileAtomically(
          shim().path_directory() + "/" + name,
          fmt::format("#!/bin/sh\ncase \" $* \" in *\" kill \"*) while ! grep "
                      "-qs '^State:.Z' /proc/{0}/status && [ -e /proc/{0} ]; "
                      "do sleep 0.05; done ;; esac\nexec {1} \"$@\"\n",
                      PidOf("c1"), real),
          0755, false)
          .ok());
  const absl::Status killed = shim().Kill("c1", SIGKILL);
  EXPECT_TRUE(killed.ok()) << killed;
  EXPECT_EQ(Finish("c1").status, 137u);
}

TEST_F(LifeTest, DeliversSignals) {
  Run("c1", {.args = {"sh", "-c",
                      "trap 'exit 3' TERM; echo ready; "
                      "while :; do sleep 0.05; done"}});
  ASSERT_TRUE(AwaitOutput("c1", "ready"));
  ASSERT_TRUE(shim().Kill("c1", SIGTERM).ok());
  EXPECT_EQ(Finish("c1").status, 3u);
}

TEST_F(LifeTest, KillsAllOfASharedPidNamespace) {
  Run("c1",
      {.args = {"sh", "-c", "sleep 1001 & echo pid $! is up; wait"},
       .namespaces = R"({"type":"mount"},{"type":"ipc"},{"type":"uts"})"});
  ASSERT_TRUE(AwaitOutput("c1", " is up"));
  const pid_t child = atoi(Output("c1").c_str() + 4);
  ASSERT_TRUE(Alive(child));
  api::KillRequest request;
  request.set_id("c1");
  request.set_signal(SIGKILL);
  request.set_all(true);
  const absl::Status killed = Call("Kill", request);
  ASSERT_TRUE(killed.ok()) << killed;
  EXPECT_EQ(Finish("c1").status, 137u);
  EXPECT_TRUE(shim().RunUntil([child] { return !Alive(child); }));
}

TEST_F(LifeTest, EndsWhatInitLeavesInASharedPidNamespace) {
  Run("c1",
      {.args = {"sh", "-c", "sleep 1002 & echo pid $! is up; exit 4"},
       .namespaces = R"({"type":"mount"},{"type":"ipc"},{"type":"uts"})"});
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1");
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status(), 4u);
  const End end = Finish("c1");
  const pid_t child = atoi(end.output.c_str() + 4);
  ASSERT_GT(child, 0);
  EXPECT_TRUE(shim().RunUntil([child] { return !Alive(child); }));
}

TEST_F(LifeTest, UpdatesResources) {
  Run("c1", {.args = {"sleep", "1000"}});
  const absl::StatusOr<Cgroup> cgroup = CgroupOf("c1");
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  const bool v2 = cgroup->mode() == CgroupMode::kV2;
  const std::string file = cgroup->directory(v2 ? "" : "pids") + "/pids.max";
  if (!ReadFile(file).ok()) GTEST_SKIP() << "no controller of pids";
  api::UpdateTaskRequest request;
  request.set_id("c1");
  request.mutable_resources()->set_value(R"({"pids":{"limit":33}})");
  const absl::Status updated = Call("Update", request);
  SKIP_IF_LACKING(updated);
  ASSERT_TRUE(updated.ok()) << updated;
  EXPECT_EQ(ReadFile(file).value_or(""), "33\n");
}

TEST_F(LifeTest, CountsWhatItUses) {
  Run("c1", {.args = {"sleep", "1000"}});
  api::StatsRequest request;
  request.set_id("c1");
  const auto stats = shim().Call<api::StatsResponse>("Stats", request);
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_THAT(stats->stats().type_url(), HasSubstr("io.containerd.cgroups.v"));
  EXPECT_GT(stats->stats().value().size(), 10u);
}

TEST_F(LifeTest, NamesItsProcesses) {
  Run("c1", {.args = {"sleep", "1000"}});
  ASSERT_TRUE(Exec("c1", "e1", {"sleep", "1003"}).ok());
  const absl::StatusOr<api::StateResponse> exec = shim().State("c1", "e1");
  ASSERT_TRUE(exec.ok());
  api::PidsRequest request;
  request.set_id("c1");
  const auto pids = shim().Call<api::PidsResponse>("Pids", request);
  ASSERT_TRUE(pids.ok()) << pids.status();
  std::vector<uint32_t> numbers;
  for (const auto& process : pids->processes()) {
    numbers.push_back(process.pid());
  }
  EXPECT_THAT(numbers, Contains(static_cast<uint32_t>(PidOf("c1"))));
  EXPECT_THAT(numbers, Contains(exec->pid()));
  EXPECT_TRUE(shim().Kill("c1", SIGKILL, "e1").ok());
  EXPECT_EQ(FinishExec("c1", "e1").status, 137u);
}

TEST_F(LifeTest, DeletesWhatWasNeverStarted) {
  const absl::Status created = Create("c1", {.args = {"sleep", "1000"}});
  ASSERT_TRUE(created.ok()) << created;
  const pid_t pid = PidOf("c1");
  const auto deleted = shim().Delete("c1");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_FALSE(Alive(pid));
  struct stat info;
  EXPECT_NE(stat(StateOfRuntime("c1").c_str(), &info), 0);
}

TEST_F(LifeTest, TakesADeadProcessForWhatItIs) {
  Run("c1", {.args = {"true"}});
  ASSERT_TRUE(shim().Wait("c1").ok());
  EXPECT_TRUE(absl::IsNotFound(shim().Kill("c1", SIGTERM)));
  EXPECT_EQ(Finish("c1").status, 0u);
}

// What containerd's `delete` does after a crash.
TEST_F(LifeTest, CleansUpAfterACrash) {
  Run("c1", {.args = {"sleep", "1000"}});
  const pid_t pid = PidOf("c1");
  kill(shim().pid(), SIGKILL);
  ASSERT_TRUE(shim().RunUntil([this] { return shim().gone(); }));
  const absl::StatusOr<std::string> deleted = shim().RunDelete("c1");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_TRUE(shim().RunUntil([pid] { return !Alive(pid); }));
  struct stat info;
  EXPECT_NE(stat(StateOfRuntime("c1").c_str(), &info), 0);
}

// `-info` hands on what `BINARY features` prints, which daemons look into.
TEST_F(LifeTest, TellsTheFeaturesOfTheRuntime) {
  const std::string request = shim().directory() + "/request";
  const std::string reply = shim().directory() + "/reply";
  ASSERT_TRUE(WriteFileAtomically(
                  request,
                  shim().CreateRequest("c1").options().SerializeAsString(),
                  0600, false)
                  .ok());
  ASSERT_EQ(
      system(fmt::format("{} -info <{} >{}", TestShim::Binary(), request, reply)
                 .c_str()),
      0);
  containerd::types::RuntimeInfo info;
  ASSERT_TRUE(info.ParseFromString(ReadFile(reply).value_or("?")));
  if (!info.has_features()) GTEST_SKIP() << "not there: features";
  EXPECT_THAT(info.features().value(), HasSubstr("\"ociVersionMin\""));
}

}  // namespace
}  // namespace wisp
