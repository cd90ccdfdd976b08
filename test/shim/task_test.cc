// The Task API of the real binary, with a runtime whose every step can be held.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "process/json.h"
#include "shim/container.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

constexpr uint32_t kCreated = 1;
constexpr uint32_t kRunning = 2;
constexpr uint32_t kStopped = 3;
constexpr int64_t kGoZeroSeconds = -62135596800;

class TaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    shim_ = TestShim::Start(FAKE_RUNC);
    ASSERT_NE(shim_, nullptr);
  }
  void TearDown() override {
    if (shim_ != nullptr && HasFailure()) {
      std::string log = shim_->Log();
      fprintf(stderr, "the shim's log:\n%s", log.c_str());
    }
  }

  TestShim& shim() { return *shim_; }
  void Make(const std::string& id, const std::vector<std::string>& args) {
    shim().MakeBundle(id, args);
    const absl::StatusOr<uint32_t> pid = shim().Create(id);
    ASSERT_TRUE(pid.ok()) << pid.status();
  }
  void Run(const std::string& id, const std::vector<std::string>& args) {
    Make(id, args);
    const absl::StatusOr<uint32_t> pid = shim().StartTask(id);
    ASSERT_TRUE(pid.ok()) << pid.status();
  }
  uint32_t StatusOf(const std::string& id, const std::string& exec_id = "") {
    const absl::StatusOr<api::StateResponse> state = shim().State(id, exec_id);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? static_cast<uint32_t>(state->status()) : 99;
  }

  std::unique_ptr<TestShim> shim_;
};

std::string Text(const absl::Status& status) {
  return fmt::format("{}: {}", static_cast<int>(status.code()),
                     Message(status));
}

TEST_F(TaskTest, TellsTheLifeOfATaskInOrder) {
  Make("c1", {"sh", "-c", "exit 42"});
  EXPECT_EQ(StatusOf("c1"), kCreated);
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c1");
  ASSERT_TRUE(pid.ok()) << pid.status();
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1");
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status(), 42u);
  EXPECT_EQ(StatusOf("c1"), kStopped);
  const absl::StatusOr<api::DeleteResponse> deleted = shim().Delete("c1");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->exit_status(), 42u);
  EXPECT_EQ(deleted->pid(), *pid);
  EXPECT_EQ(deleted->exited_at().seconds(), exit->exited_at().seconds());
  EXPECT_EQ(deleted->exited_at().nanos(), exit->exited_at().nanos());
  EXPECT_TRUE(shim().AwaitEvent("delete c1 42"));
  EXPECT_THAT(shim().EventTexts(), ElementsAre("create c1", "start c1",
                                               "exit c1 42", "delete c1 42"));
  for (const TestEvent& event : shim().events()) EXPECT_EQ(event.pid, *pid);
}

TEST_F(TaskTest, ReportsARunningProcessAsNeverExited) {
  Run("c1", {"sleep", "1000"});
  const absl::StatusOr<api::StateResponse> state = shim().State("c1");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->id(), "c1");
  EXPECT_EQ(static_cast<uint32_t>(state->status()), kRunning);
  EXPECT_EQ(state->exited_at().seconds(), kGoZeroSeconds);
  EXPECT_TRUE(state->has_exited_at());
}

// Whoever signals it himself, as soon as it is said to run: before it has come
// to set a trap the kernel drops the signal.
TEST_F(TaskTest, AnswersStartWhenInitHasComeToRest) {
  for (int i = 0; i < 20; ++i) {
    const std::string id = fmt::format("c{}", i);
    Make(id, {"sh", "-c", "trap 'exit 3' TERM; sleep 2 & wait; exit 4"});
    const absl::Time begun = absl::Now();
    const absl::StatusOr<uint32_t> pid = shim().StartTask(id);
    ASSERT_TRUE(pid.ok()) << pid.status();
    // One that is kept from the CPU: Start does not wait for ever.
    const bool waited = absl::Now() - begun >= Container::kStartLimit;
    ASSERT_EQ(kill(static_cast<pid_t>(*pid), SIGTERM), 0);
    const absl::StatusOr<api::WaitResponse> exit = shim().Wait(id);
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_TRUE(waited || exit->exit_status() == 3) << exit->exit_status();
  }
}

TEST_F(TaskTest, KeepsAnExecsEventsBeforeInitsExit) {
  Run("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Exec("c1", "e1", {"sleep", "1000"}).ok());
  ASSERT_TRUE(shim().StartTask("c1", "e1").ok());
  EXPECT_EQ(StatusOf("c1", "e1"), kRunning);
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  EXPECT_THAT(
      shim().EventTexts(),
      ElementsAre("create c1", "start c1", "exec-added c1/e1",
                  "exec-started c1/e1", "exit c1/e1 137", "exit c1 137"));
}

TEST_F(TaskTest, ReportsAnExecThatDiesBeforeStartReturns) {
  Run("c1", {"sleep", "1000"});
  for (int i = 0; i < 20; ++i) {
    const std::string id = fmt::format("e{}", i);
    ASSERT_TRUE(shim().Exec("c1", id, {"sh", "-c", "exit 7"}).ok());
    const absl::StatusOr<uint32_t> pid = shim().StartTask("c1", id);
    ASSERT_TRUE(pid.ok()) << pid.status();
    EXPECT_GT(*pid, 0u);
    const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1", id);
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_EQ(exit->exit_status(), 7u);
    const absl::StatusOr<api::DeleteResponse> deleted = shim().Delete("c1", id);
    ASSERT_TRUE(deleted.ok()) << deleted.status();
    EXPECT_EQ(deleted->exit_status(), 7u);
  }
  // Nothing is left of them in the bundle.
  EXPECT_NE(access((shim().directory() + "/bundles/c1/e1.pid").c_str(), F_OK),
            0);
}

// containerd issue 10589.
TEST_F(TaskTest, HoldsInitsExitForAnExecInFlightAndRefusesNewOnes) {
  Run("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Exec("c1", "e1", {"sleep", "1000"}).ok());
  shim().CloseGate("exec.e1.before");
  api::StartRequest start;
  start.set_id("c1");
  start.set_exec_id("e1");
  const auto pending = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("exec e1"));
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  // Dead, but not told yet.
  ASSERT_TRUE(shim().RunUntil(
      [this] { return Text(shim().Kill("c1", SIGKILL)).starts_with("5: "); }));
  EXPECT_EQ(StatusOf("c1"), kRunning);
  EXPECT_TRUE(shim().Exec("c1", "e2", {"true"}).ok());
  EXPECT_EQ(Text(shim().StartTask("c1", "e2").status()),
            "9: container c1 init process is not running: failed precondition");
  shim().OpenGate("exec.e1.before");
  shim().Await(*pending);
  EXPECT_FALSE(pending->result.ok());  // there is no container to enter
  EXPECT_EQ(StatusOf("c1"), kStopped);
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  EXPECT_THAT(shim().EventTexts(),
              ElementsAre("create c1", "start c1", "exec-added c1/e1",
                          "exec-added c1/e2", "exit c1 137"));
}

TEST_F(TaskTest, KillsAnExecStartThatHangsAfterInitsDeath) {
  Run("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Exec("c1", "e1", {"sleep", "1000"}).ok());
  shim().CloseGate("exec.e1.before");
  api::StartRequest start;
  start.set_id("c1");
  start.set_exec_id("e1");
  const auto pending = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("exec e1"));
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  shim().Await(*pending);  // ten seconds
  EXPECT_FALSE(pending->result.ok());
  EXPECT_EQ(StatusOf("c1"), kStopped);
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
}

TEST_F(TaskTest, HasTheExitOnDiskBeforeAnybodyIsTold) {
  Make("c1", {"sh", "-c", "exit 3"});
  shim().HoldEvents(true);
  ASSERT_TRUE(shim().StartTask("c1").ok());
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1");
  ASSERT_TRUE(exit.ok()) << exit.status();
  const absl::StatusOr<std::string> record =
      ReadFile(shim().directory() + "/bundles/c1/exit.json");
  ASSERT_TRUE(record.ok()) << record.status();
  const absl::StatusOr<Json> json = Json::Parse(*record);
  ASSERT_TRUE(json.ok()) << *record;
  EXPECT_EQ((*json)["Status"].Int64Or(-1), 3);
  shim().HoldEvents(false);
}

TEST_F(TaskTest, AnswersWithTheRecordedExitAfterItsDeath) {
  Run("c1", {"sh", "-c", "exit 42"});
  ASSERT_TRUE(shim().Wait("c1").ok());
  kill(shim().pid(), SIGKILL);
  ASSERT_TRUE(shim().RunUntil([this] { return shim().gone(); }));
  std::string first;
  for (int i = 0; i < 2; ++i) {
    const absl::StatusOr<std::string> answer = shim().RunDelete("c1");
    ASSERT_TRUE(answer.ok()) << answer.status();
    api::DeleteResponse response;
    ASSERT_TRUE(response.ParseFromString(*answer));
    EXPECT_EQ(response.exit_status(), 42u);
    EXPECT_GT(response.pid(), 0u);
    if (i == 0) first = *answer;
    EXPECT_EQ(*answer, first);
  }
}

TEST_F(TaskTest, AnswersUnknownIdsAsTheFieldDoes) {
  EXPECT_EQ(Text(shim().State("nobody").status()),
            "5: container not created: not found");
  EXPECT_EQ(Text(shim().Kill("nobody", 9)),
            "5: container not created: not found");
  EXPECT_EQ(Text(shim().Delete("nobody").status()),
            "5: container not created: not found");
  const auto connected = shim().Call<api::ConnectResponse>("Connect", [] {
    api::ConnectRequest request;
    request.set_id("nobody");
    return request;
  }());
  ASSERT_TRUE(connected.ok()) << connected.status();
  EXPECT_EQ(connected->task_pid(), 0u);
  Run("c1", {"sleep", "1000"});
  EXPECT_EQ(Text(shim().State("c1", "nobody").status()),
            "5: process does not exist nobody: not found");
  EXPECT_EQ(Text(shim().StartTask("c1", "nobody").status()),
            "5: process does not exist nobody: not found");
  EXPECT_EQ(Text(shim().Kill("c1", 9, "nobody")),
            "5: process does not exist nobody: not found");
}

TEST_F(TaskTest, RefusesASecondCreateOfALiveId) {
  Run("c1", {"sleep", "1000"});
  EXPECT_EQ(Text(shim().Create("c1").status()), "6: id c1: already exists");
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(TaskTest, PassesOnTheRuntimesOwnWords) {
  shim().SetFailure("create.c1", "cannot: no such container art");
  shim().MakeBundle("c1", {"true"});
  EXPECT_EQ(Text(shim().Create("c1").status()),
            "2: OCI runtime create failed: cannot: no such container art");
  shim().ClearFailure("create.c1");
  // Nothing is left of it: the same id can be used.
  EXPECT_TRUE(shim().Create("c1").ok());
  shim().SetFailure("start.c1", "will not");
  EXPECT_EQ(Text(shim().StartTask("c1").status()),
            "2: OCI runtime start failed: will not");
  EXPECT_EQ(StatusOf("c1"), kCreated);
  EXPECT_TRUE(shim().Delete("c1").ok());
}

TEST_F(TaskTest, NamesARuntimeThatIsNotThere) {
  shim().MakeBundle("c1", {"true"});
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  request.mutable_options()->set_value("\x32\x07no-runc");
  const absl::Status status =
      shim().Call<api::CreateTaskResponse>("Create", request).status();
  EXPECT_THAT(
      Text(status),
      AllOf(HasSubstr("2: OCI runtime create failed: unable to retrieve "
                      "OCI runtime error (open "),
            EndsWith("exec: \"no-runc\": executable file not found in "
                     "$PATH")));
}

TEST_F(TaskTest, RefusesOptionsOfAnotherKind) {
  shim().MakeBundle("c1", {"true"});
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  request.mutable_options()->set_type_url("some.other.Options");
  EXPECT_EQ(
      Text(shim().Call<api::CreateTaskResponse>("Create", request).status()),
      "3: type with url some.other.Options: not supported: invalid argument");
}

TEST_F(TaskTest, RefusesWhatTheStateForbids) {
  Run("c1", {"sleep", "1000"});
  EXPECT_EQ(Text(shim().Delete("c1").status()),
            "9: cannot delete a running process: failed precondition");
  EXPECT_EQ(Text(shim().StartTask("c1").status()),
            "9: cannot start a running process: failed precondition");
  ASSERT_TRUE(shim().Exec("c1", "e1", {"true"}).ok());
  EXPECT_EQ(Text(shim().Exec("c1", "e1", {"true"})),
            "6: id e1: already exists");
  EXPECT_EQ(Text(shim().Kill("c1", 9, "e1")),
            "9: process not created: failed precondition");
  EXPECT_TRUE(shim().Delete("c1", "e1").ok());
}

TEST_F(TaskTest, DeletesATaskThatWasNeverStarted) {
  Make("c1", {"sleep", "1000"});
  const absl::StatusOr<api::DeleteResponse> deleted = shim().Delete("c1");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->exit_status(), 137u);
  EXPECT_NE(deleted->exited_at().seconds(), kGoZeroSeconds);
  EXPECT_TRUE(shim().AwaitEvent("delete c1 137"));
  EXPECT_THAT(shim().EventTexts(),
              ElementsAre("create c1", "exit c1 137", "delete c1 137"));
}

// containerd issue 9103.
TEST_F(TaskTest, TellsOfAnInitKilledBeforeItsStart) {
  Make("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  EXPECT_EQ(StatusOf("c1"), kStopped);
  EXPECT_FALSE(shim().StartTask("c1").ok());
  EXPECT_EQ(Text(shim().Kill("c1", SIGKILL)),
            "5: process already finished: not found");
  EXPECT_TRUE(shim().Delete("c1").ok());
}

TEST_F(TaskTest, EndsACreateAtItsDeadlineAndLeavesNothing) {
  shim().MakeBundle("c1", {"true"});
  shim().CloseGate("create.c1.after");
  EXPECT_EQ(shim().Create("c1", absl::Milliseconds(300)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  // A Delete that comes meanwhile waits until all is undone. The gate is still
  // closed: the runtime was killed, not waited for.
  EXPECT_EQ(Text(shim().Delete("c1").status()),
            "5: container not created: not found");
  shim().OpenGate("create.c1.after");
  EXPECT_NE(access((shim().directory() + "/runtime/" + shim().namespace_name() +
                    "/c1")
                       .c_str(),
                   F_OK),
            0);
  EXPECT_THAT(shim().EventTexts(), ElementsAre());
  EXPECT_TRUE(shim().Create("c1").ok());
}

TEST_F(TaskTest, EndsACreateWhoseConnectionIsLost) {
  shim().MakeBundle("c1", {"true"});
  shim().CloseGate("create.c1.before");
  const auto pending = shim().StartCall("Create", shim().CreateRequest("c1"));
  ASSERT_TRUE(shim().AwaitRuntimeCall("create c1"));
  shim().client().Disconnect();
  // The gate is still closed: the runtime was killed, not waited for.
  EXPECT_EQ(Text(shim().Delete("c1").status()),
            "5: container not created: not found");
  shim().OpenGate("create.c1.before");
  EXPECT_TRUE(shim().Create("c1").ok());
}

TEST_F(TaskTest, LeavesNoProcessOfAnExecWhoseStartIsGivenUp) {
  Run("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Exec("c1", "e1", {"sleep", "1000"}).ok());
  // The process is there, but the runtime does not end.
  shim().CloseGate("exec.e1.after");
  api::StartRequest start;
  start.set_id("c1");
  start.set_exec_id("e1");
  const auto pending =
      shim().StartCall("Start", start, absl::Milliseconds(500));
  pid_t pid = 0;
  ASSERT_TRUE(shim().RunUntil([this, &pid] {
    const absl::StatusOr<std::string> text =
        ReadFile(shim().directory() + "/bundles/c1/e1.pid");
    return text.ok() && absl::SimpleAtoi(*text, &pid);
  }));
  shim().Await(*pending);
  EXPECT_EQ(pending->result.status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(shim().RunUntil([pid] { return kill(pid, 0) != 0; }));
  shim().OpenGate("exec.e1.after");
  EXPECT_TRUE(shim().Delete("c1", "e1").ok());
  EXPECT_EQ(StatusOf("c1"), kRunning);
  EXPECT_THAT(shim().EventTexts(),
              ElementsAre("create c1", "start c1", "exec-added c1/e1"));
}

TEST_F(TaskTest, TellsNoExitOfAnExecWhoseStdioNobodyOpens) {
  Run("c1", {"sleep", "1000"});
  const std::string fifo = shim().directory() + "/bundles/c1/out";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  api::ExecProcessRequest exec;
  exec.set_id("c1");
  exec.set_exec_id("e1");
  exec.set_stdout(fifo);
  exec.mutable_spec()->set_value(R"({"args":["sleep","1000"]})");
  ASSERT_TRUE(shim().Call<Empty>("Exec", exec).ok());
  api::StartRequest start;
  start.set_id("c1");
  start.set_exec_id("e1");
  EXPECT_EQ(
      shim()
          .Call<api::StartResponse>("Start", start, absl::Milliseconds(300))
          .status()
          .code(),
      absl::StatusCode::kDeadlineExceeded);
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait("c1", "e1");
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exited_at().seconds(), kGoZeroSeconds);
  EXPECT_EQ(StatusOf("c1", "e1"), kCreated);
  // Whatever could be told of it comes before this.
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  EXPECT_THAT(
      shim().EventTexts(),
      ElementsAre("create c1", "start c1", "exec-added c1/e1", "exit c1 137"));
}

TEST_F(TaskTest, StartsNoExecThatIsBeingDeleted) {
  Run("c1", {"sleep", "1000"});
  for (int i = 0; i < 10; ++i) {
    const std::string id = fmt::format("e{}", i);
    ASSERT_TRUE(shim().Exec("c1", id, {"sleep", "1000"}).ok());
    api::DeleteRequest remove;
    remove.set_id("c1");
    remove.set_exec_id(id);
    api::StartRequest start;
    start.set_id("c1");
    start.set_exec_id(id);
    // The second comes before the first is done.
    const auto removed = shim().StartCall("Delete", remove);
    const auto started = shim().StartCall("Start", start);
    shim().Await(*removed);
    shim().Await(*started);
    EXPECT_TRUE(removed->result.ok()) << removed->result.status();
    EXPECT_FALSE(started->result.ok());
  }
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(TaskTest, AnswersWhoWaitsForAnExecThatGoesWithItsTask) {
  Run("c2", {"sleep", "1000"});
  ASSERT_TRUE(shim().Exec("c2", "e1", {"true"}).ok());
  api::WaitRequest wait;
  wait.set_id("c2");
  wait.set_exec_id("e1");
  const auto waiting = shim().StartCall("Wait", wait);
  ASSERT_TRUE(shim().Kill("c2", SIGKILL).ok());
  ASSERT_TRUE(shim().Wait("c2").ok());
  EXPECT_FALSE(waiting->done);
  ASSERT_TRUE(shim().Delete("c2").ok());
  shim().Await(*waiting);
  EXPECT_TRUE(waiting->result.ok()) << waiting->result.status();
}

TEST_F(TaskTest, StartsATaskWhoseFirstStartWasGivenUp) {
  Make("c1", {"sleep", "1000"});
  shim().CloseGate("start.c1.before");
  api::StartRequest start;
  start.set_id("c1");
  const auto lost = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("start c1"));
  shim().client().Disconnect();
  // Answered on a new connection: the shim has seen the end of the old one, and
  // has killed the runtime at its gate.
  ASSERT_EQ(StatusOf("c1"), kCreated);
  shim().OpenGate("start.c1.before");
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c1");
  EXPECT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(TaskTest, RefusesASecondStartThatCouldEndTheFirst) {
  Make("c1", {"sleep", "1000"});
  shim().CloseGate("start.c1.before");
  api::StartRequest start;
  start.set_id("c1");
  const auto first = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("start c1"));
  EXPECT_EQ(Text(shim()
                     .Call<api::StartResponse>("Start", start,
                                               absl::Milliseconds(300))
                     .status()),
            "9: process is being started: failed precondition");
  shim().OpenGate("start.c1.before");
  shim().Await(*first);
  EXPECT_TRUE(first->result.ok()) << first->result.status();
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(TaskTest, GivesUpEachOfTwoStartsThatWaitForTheirTurn) {
  Make("c1", {"sleep", "1000"});
  shim().CloseGate("update.c1.before");
  api::UpdateTaskRequest update;
  update.set_id("c1");
  update.mutable_resources()->set_value("{}");
  const auto updated = shim().StartCall("Update", update);
  ASSERT_TRUE(shim().AwaitRuntimeCall("update c1"));
  api::StartRequest start;
  start.set_id("c1");
  api::WaitRequest wait;
  wait.set_id("c1");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(
        shim()
            .Call<api::StartResponse>("Start", start, absl::Milliseconds(200))
            .status()
            .code(),
        absl::StatusCode::kDeadlineExceeded);
    // So says our own clock. The shim's has run out too when that of a later
    // call has.
    EXPECT_FALSE(
        shim()
            .Call<api::WaitResponse>("Wait", wait, absl::Milliseconds(300))
            .ok());
  }
  shim().OpenGate("update.c1.before");
  shim().Await(*updated);
  // Behind both of them.
  EXPECT_TRUE(shim().Call<Empty>("Update", update).ok());
  EXPECT_EQ(StatusOf("c1"), kCreated);
  EXPECT_THAT(shim().RuntimeCalls(),
              ElementsAre("create c1", "update c1", "update c1"));
}

TEST_F(TaskTest, StartsNoTaskFromACheckpointThatIsBeingDeleted) {
  const std::string source = shim().directory() + "/control/source";
  ASSERT_EQ(mkdir(source.c_str(), 0700), 0);
  shim().MakeBundle("c1", {"sleep", "1000"});
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  request.set_checkpoint(source);
  // Its unmount comes between the runtime's delete and the end.
  containerd::types::Mount* const mount = request.add_rootfs();
  mount->set_type("bind");
  mount->set_source(source);
  mount->add_options("rbind");
  const absl::Status created =
      shim().Call<api::CreateTaskResponse>("Create", request).status();
  ASSERT_TRUE(created.ok()) << created;
  api::DeleteRequest remove;
  remove.set_id("c1");
  api::StartRequest start;
  start.set_id("c1");
  const auto removed = shim().StartCall("Delete", remove);
  const auto started = shim().StartCall("Start", start);
  shim().Await(*removed);
  shim().Await(*started);
  EXPECT_TRUE(removed->result.ok()) << removed->result.status();
  EXPECT_EQ(Text(started->result.status()),
            "9: cannot start a deleted process: failed precondition");
  EXPECT_THAT(shim().RuntimeCalls(), ElementsAre("delete c1"));
}

TEST_F(TaskTest, ADeleteThatAStartOvertakesTakesNothingFromTheTask) {
  const std::string in = shim().directory() + "/control/in";
  const std::string out = shim().directory() + "/control/out";
  ASSERT_EQ(mkfifo(in.c_str(), 0600), 0);
  ASSERT_EQ(mkfifo(out.c_str(), 0600), 0);
  const UniqueFd reader = std::move(OpenFd(out, O_RDONLY | O_NONBLOCK)).value();
  shim().MakeBundle("c1", {"cat"});
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  request.set_stdin(in);
  request.set_stdout(out);
  ASSERT_TRUE(shim().Call<api::CreateTaskResponse>("Create", request).ok());
  shim().CloseGate("start.c1.before");
  api::StartRequest start;
  start.set_id("c1");
  const auto started = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("start c1"));
  api::DeleteRequest remove;
  remove.set_id("c1");
  const auto removed = shim().StartCall("Delete", remove);
  ASSERT_EQ(StatusOf("c1"), kCreated);  // so the Delete is in its queue
  shim().OpenGate("start.c1.before");
  shim().Await(*started);
  shim().Await(*removed);
  EXPECT_TRUE(started->result.ok()) << started->result.status();
  EXPECT_EQ(Text(removed->result.status()),
            "9: cannot delete a running process: failed precondition");
  const UniqueFd writer = std::move(OpenFd(in, O_WRONLY | O_NONBLOCK)).value();
  WISP_CHECK(WriteAll(writer.get(), "still there\n").ok());
  std::string text;
  EXPECT_TRUE(shim().RunUntil([&] {
    char buffer[64];
    const ssize_t n = read(reader.get(), buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    return text == "still there\n";
  }));
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

TEST_F(TaskTest, DeletesATaskWhoseStartWasGivenUpAfterItHadStarted) {
  Make("c1", {"sleep", "1000"});
  shim().CloseGate("start.c1.after");
  api::StartRequest start;
  start.set_id("c1");
  const auto lost = shim().StartCall("Start", start);
  ASSERT_TRUE(shim().AwaitRuntimeCall("start c1"));
  // The fifo of a container that has started is gone.
  const std::string fifo =
      shim().directory() + "/runtime/" + shim().namespace_name() + "/c1/start";
  ASSERT_TRUE(
      shim().RunUntil([&fifo] { return access(fifo.c_str(), F_OK) != 0; }));
  shim().client().Disconnect();
  ASSERT_EQ(StatusOf("c1"), kCreated);
  shim().OpenGate("start.c1.after");
  const absl::StatusOr<api::DeleteResponse> deleted = shim().Delete("c1");
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->exit_status(), 137u);
}

TEST_F(TaskTest, AnswersObserversWhileTheRuntimeHangs) {
  Run("c1", {"sleep", "1000"});
  Run("c2", {"sleep", "1000"});
  shim().CloseGate("pause.c1.before");
  api::PauseRequest pause;
  pause.set_id("c1");
  const auto pending = shim().StartCall("Pause", pause);
  EXPECT_EQ(StatusOf("c1"), 5u);  // PAUSING
  api::PidsRequest pids;
  pids.set_id("c1");
  EXPECT_TRUE(shim().Call<api::PidsResponse>("Pids", pids).ok());
  EXPECT_EQ(StatusOf("c2"), kRunning);
  // SIGKILL needs nobody's help.
  api::KillRequest kill;
  kill.set_id("c1");
  kill.set_signal(SIGKILL);
  const auto killed = shim().StartCall("Kill", kill);
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  shim().OpenGate("pause.c1.before");
  shim().Await(*pending);
  shim().Await(*killed);
}

// Pids of a task, and how long after the request for its Start they came.
struct Listing {
  std::vector<pid_t> pids;
  absl::Duration after_start;
};

class ListingTest : public TaskTest {
 protected:
  Listing StartAndList(const std::string& id) {
    const absl::Time before = absl::Now();
    EXPECT_TRUE(shim().StartTask(id).ok());
    api::PidsRequest request;
    request.set_id(id);
    const absl::StatusOr<api::PidsResponse> response =
        shim().Call<api::PidsResponse>("Pids", request);
    Listing listing{.pids = {}, .after_start = absl::Now() - before};
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return listing;
    for (const auto& process : response->processes()) {
      listing.pids.push_back(static_cast<pid_t>(process.pid()));
    }
    return listing;
  }
};

pid_t ParentOf(pid_t pid) {
  const absl::StatusOr<std::string> status =
      ReadFile(fmt::format("/proc/{}/status", pid));
  const size_t at = status.ok() ? status->find("PPid:") : std::string::npos;
  return at == std::string::npos ? 0 : atoi(status->c_str() + at + 5);
}

TEST_F(ListingTest, ListsWhatInitStartsFirstToWhoeverAsksAtOnce) {
  for (int i = 0; i < 100; ++i) {
    const std::string id = fmt::format("c{}", i);
    shim().MakeBundle(id, {"sh", "-c", "sleep 1000 & wait"});
    const absl::StatusOr<uint32_t> init = shim().Create(id);
    ASSERT_TRUE(init.ok()) << init.status();
    const Listing listing = StartAndList(id);
    // On a busy machine the shim may have had to give up waiting for it.
    if (listing.after_start >= Container::kListLimit) continue;
    EXPECT_EQ(std::count_if(listing.pids.begin(), listing.pids.end(),
                            [&init](pid_t pid) {
                              return ParentOf(pid) == static_cast<pid_t>(*init);
                            }),
              1);
    return;
  }
  GTEST_SKIP() << "the machine is too busy";
}

TEST_F(ListingTest, DoesNotWaitForEverForAnInitThatNeverSleeps) {
  Make("c1", {"sh", "-c", "while :; do :; done"});
  const Listing first = StartAndList("c1");
  EXPECT_GE(first.after_start, Container::kListLimit);
  EXPECT_FALSE(first.pids.empty());
}

// The kernel drops what init does not handle yet: the first signal must not
// come before the shell has set its trap.
TEST_F(TaskTest, SignalsAnInitThatHasJustBegunWhenItIsReady) {
  for (int i = 0; i < 100; ++i) {
    const std::string id = fmt::format("c{}", i);
    // Some ten milliseconds of work come first.
    Make(id, {"sh", "-c",
              "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done;"
              "trap 'exit 7' TERM; sleep 1000 & wait"});
    const absl::Time before = absl::Now();
    ASSERT_TRUE(shim().StartTask(id).ok());
    ASSERT_TRUE(shim().Kill(id, SIGTERM).ok());
    // On a busy machine the shim may have had to give up waiting for it.
    const bool conclusive = absl::Now() - before < Container::kSignalLimit;
    if (!conclusive) {
      ASSERT_TRUE(shim().Kill(id, SIGKILL).ok());
    }
    const absl::StatusOr<api::WaitResponse> exit = shim().Wait(id);
    ASSERT_TRUE(exit.ok()) << exit.status();
    if (!conclusive) continue;
    EXPECT_EQ(exit->exit_status(), 7u);
    return;
  }
  GTEST_SKIP() << "the machine is too busy";
}

// Who hears of the exit may shut the shim down, and with it the connection.
TEST_F(TaskTest, AnswersAKillWithTheExitThatItBrings) {
  Run("c1", {"sleep", "1000"});
  shim().CloseGate("kill.c1.before");
  api::KillRequest kill;
  kill.set_id("c1");
  kill.set_signal(SIGKILL);
  kill.set_all(true);
  const auto killed = shim().StartCall("Kill", kill);
  EXPECT_TRUE(shim().AwaitEvent("exit c1 137"));
  shim().Await(*killed);
  EXPECT_TRUE(killed->result.ok()) << killed->result.status();
  shim().OpenGate("kill.c1.before");
  EXPECT_TRUE(shim().Delete("c1").ok());
}

TEST_F(TaskTest, RunsADeleteOnceHoweverManyAsk) {
  Run("c1", {"true"});
  ASSERT_TRUE(shim().Wait("c1").ok());
  shim().CloseGate("delete.c1.before");
  EXPECT_EQ(shim().Delete("c1", "", absl::Milliseconds(300)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  api::DeleteRequest request;
  request.set_id("c1");
  const auto joined = shim().StartCall("Delete", request);
  // Calls of one connection are taken in their order: the shim has it.
  ASSERT_TRUE(shim().State("c1").ok());
  shim().OpenGate("delete.c1.before");
  shim().Await(*joined);
  EXPECT_TRUE(joined->result.ok()) << joined->result.status();
  EXPECT_EQ(Text(shim().Delete("c1").status()),
            "5: container not created: not found");
  EXPECT_TRUE(shim().AwaitEvent("delete c1 0"));
  EXPECT_THAT(shim().RuntimeCalls(),
              ElementsAre("create c1", "start c1", "delete c1"));
}

TEST_F(TaskTest, KeepsTheAnswerToADeleteWhoseCallerHasGone) {
  Run("c1", {"sh", "-c", "exit 9"});
  ASSERT_TRUE(shim().Wait("c1").ok());
  shim().CloseGate("delete.c1.before");
  api::DeleteRequest request;
  request.set_id("c1");
  const auto lost = shim().StartCall("Delete", request);
  ASSERT_TRUE(shim().AwaitRuntimeCall("delete c1"));
  shim().client().Disconnect();
  // Answered on a new connection: the shim has seen the end of the old one.
  ASSERT_TRUE(shim().State("c1").ok());
  shim().OpenGate("delete.c1.before");
  EXPECT_TRUE(shim().AwaitEvent("delete c1 9"));
  const absl::StatusOr<api::DeleteResponse> late = shim().Delete("c1");
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_EQ(late->exit_status(), 9u);
  EXPECT_EQ(Text(shim().Delete("c1").status()),
            "5: container not created: not found");
}

TEST_F(TaskTest, NamesTheDeadInitOfATaskThatIsNotDeleted) {
  Run("c1", {"true"});
  ASSERT_TRUE(shim().Wait("c1").ok());
  api::PidsRequest request;
  request.set_id("c1");
  const auto pids = shim().Call<api::PidsResponse>("Pids", request);
  ASSERT_TRUE(pids.ok()) << pids.status();
  ASSERT_EQ(pids->processes_size(), 1);
  EXPECT_GT(pids->processes(0).pid(), 0u);
}

TEST_F(TaskTest, StaysWhileThereAreTasksAndLeavesWhenAskedBefore) {
  Run("c1", {"sleep", "1000"});
  EXPECT_TRUE(shim().Shutdown("c1").ok());
  EXPECT_EQ(StatusOf("c1"), kRunning);
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  ASSERT_TRUE(shim().Wait("c1").ok());
  EXPECT_TRUE(shim().Delete("c1").ok());
  EXPECT_TRUE(shim().RunUntil([this] { return shim().gone(); }));
  EXPECT_TRUE(shim().AwaitEvent("delete c1 137"));
  EXPECT_NE(access(shim().socket().c_str(), F_OK), 0);
}

TEST_F(TaskTest, AnswersShutdownThenClosesEveryConnection) {
  const std::unique_ptr<TestClient> other = shim().Connect();
  bool lost = false;
  other->Call("containerd.task.v2.Task", "Connect", "", {}, absl::Seconds(60),
              [](absl::StatusOr<std::string>) {});
  ASSERT_TRUE(shim().RunUntil([&] { return other->calls_in_flight() == 0; }));
  EXPECT_TRUE(shim().Shutdown("x").ok());
  other->Call(
      "containerd.task.v2.Task", "Connect", "", {}, absl::Seconds(60),
      [&lost](absl::StatusOr<std::string> result) { lost = !result.ok(); });
  EXPECT_TRUE(shim().RunUntil([&lost] { return lost; }));
  EXPECT_TRUE(shim().RunUntil([this] { return shim().gone(); }));
}

TEST_F(TaskTest, StaysForAConnectionThatCameJustBeforeShutdown) {
  // In the backlog, or just accepted: either way somebody has come for us.
  const std::unique_ptr<TestClient> newcomer = shim().Connect();
  bool answered = false;
  kill(shim().pid(), SIGSTOP);
  api::ShutdownRequest request;
  const auto shutdown = shim().StartCall("Shutdown", request);
  newcomer->Call("containerd.task.v3.Task", "Connect", "", {},
                 absl::Seconds(60),
                 [&answered](absl::StatusOr<std::string> result) {
                   answered = result.ok();
                 });
  kill(shim().pid(), SIGCONT);
  shim().Await(*shutdown);
  EXPECT_TRUE(shutdown->result.ok()) << shutdown->result.status();
  EXPECT_TRUE(shim().RunUntil([&answered] { return answered; }));
  EXPECT_FALSE(shim().gone());
  EXPECT_EQ(access(shim().socket().c_str(), F_OK), 0);
}

TEST_F(TaskTest, LeavesContainersAloneOnSigterm) {
  Run("c1", {"sleep", "1000"});
  const pid_t init = static_cast<pid_t>(shim().State("c1")->pid());
  kill(shim().pid(), SIGTERM);
  EXPECT_TRUE(
      shim().RunUntil([this] { return shim().gone(); }, absl::Seconds(10)));
  EXPECT_NE(access(shim().socket().c_str(), F_OK), 0);
  EXPECT_EQ(kill(init, 0), 0);
  kill(init, SIGKILL);
}

TEST_F(TaskTest, PutsContainersOfAGroupIntoOneShim) {
  shim().MakeBundle("second", {"true"});
  const absl::StatusOr<std::string> address = shim().RunStart("second");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, kTestTransport.scheme + shim().socket());
}

TEST_F(TaskTest, KeepsEventsForAContainerdThatDoesNotAnswer) {
  shim().HoldEvents(true);
  Run("c1", {"sleep", "1000"});
  for (int i = 0; i < 30; ++i) {
    const std::string id = fmt::format("e{}", i);
    ASSERT_TRUE(shim().Exec("c1", id, {"true"}).ok());
    ASSERT_TRUE(shim().StartTask("c1", id).ok());
    ASSERT_TRUE(shim().Wait("c1", id).ok());
  }
  shim().HoldEvents(false);
  EXPECT_TRUE(shim().AwaitEvent("exit c1/e29 0"));
  EXPECT_THAT(shim().EventTexts(),
              IsSupersetOf({"create c1", "start c1", "exec-started c1/e0"}));
}

TEST_F(TaskTest, MountsARootfsThroughAHelperAndUnmountsItAgain) {
  // In the place of mount.fuse3, which makes a mount from SOURCE to TARGET.
  const std::string bin = shim().directory() + "/control/bin";
  ASSERT_EQ(mkdir(bin.c_str(), 0700), 0);
  ASSERT_TRUE(WriteFileAtomically(
                  shim().path_directory() + "/mount.fuse3",
                  "#!/bin/sh\n[ \"$4\" = allow_other ] && [ \"$6\" = demo ] && "
                  "exec mount --bind \"$1\" \"$2\"\n",
                  0700, false)
                  .ok());
  const std::string bundle = shim().MakeBundle("c1", {"true"});
  api::CreateTaskRequest request = shim().CreateRequest("c1");
  containerd::types::Mount* const mount = request.add_rootfs();
  mount->set_type("fuse3.demo");
  mount->set_source(bin);
  mount->add_options("allow_other");
  const absl::Status created =
      shim().Call<api::CreateTaskResponse>("Create", request).status();
  ASSERT_TRUE(created.ok()) << created;
  EXPECT_THAT(*ReadFile("/proc/self/mountinfo"),
              HasSubstr(bundle + "/rootfs "));
  ASSERT_TRUE(shim().Delete("c1").ok());
  EXPECT_THAT(*ReadFile("/proc/self/mountinfo"),
              Not(HasSubstr(bundle + "/rootfs ")));

  mount->set_source("/nowhere");
  shim().MakeBundle("c2", {"true"});
  request.set_id("c2");
  request.set_bundle(shim().directory() + "/bundles/c2");
  EXPECT_THAT(
      Text(shim().Call<api::CreateTaskResponse>("Create", request).status()),
      AllOf(HasSubstr("2: failed to mount rootfs component: mount helper"),
            HasSubstr("/nowhere")));
}

TEST_F(TaskTest, GivesBackTheMemoryThatABurstTook) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer keeps what is freed";
#endif
  Run("c1", {"sleep", "1000"});
  const auto probe = [this](const std::string& exec) {
    ASSERT_TRUE(shim().Exec("c1", exec, {"true"}).ok());
    ASSERT_TRUE(shim().StartTask("c1", exec).ok());
    ASSERT_TRUE(shim().Wait("c1", exec).ok());
    ASSERT_TRUE(shim().Delete("c1", exec).ok());
  };
  const auto kib = [this] {
    return SumOf(fmt::format("/proc/{}/smaps_rollup", shim().pid()),
                 {"Anonymous"});
  };
  probe("first");
  const int64_t used = kib();
  ASSERT_TRUE(shim().RunUntil([&] { return kib() < used; }, absl::Seconds(20)));
  const int64_t before = kib();

  // Their events wait, while much else comes and goes.
  constexpr int kProbes = 500;
  shim().HoldEvents(true);
  for (int i = 0; i < kProbes; ++i) probe(fmt::format("e{}", i));
  EXPECT_GT(kib(), before + 256);
  shim().HoldEvents(false);
  ASSERT_TRUE(shim().AwaitEvent(fmt::format("exit c1/e{} 0", kProbes - 1)));
  EXPECT_TRUE(
      shim().RunUntil([&] { return kib() <= before + 64; }, absl::Seconds(20)))
      << kib() << " KiB, before " << before;
}

TEST_F(TaskTest, SurvivesNonsense) {
  EXPECT_EQ(Text(shim()
                     .CallRaw("containerd.task.v3.Task", "State", "\xff\xff",
                              absl::Seconds(60))
                     .status())
                .substr(0, 4),
            "13: ");
  EXPECT_EQ(Text(shim()
                     .CallRaw("containerd.task.v3.Task", "Dance", "",
                              absl::Seconds(60))
                     .status()),
            "12: method Dance");
  EXPECT_EQ(Text(shim()
                     .CallRaw("containerd.runtime.sandbox.v1.Sandbox",
                              "Platform", "", absl::Seconds(60))
                     .status()),
            "12: service containerd.runtime.sandbox.v1.Sandbox");
  Run("c1", {"sleep", "1000"});
  api::ExecProcessRequest exec;
  exec.set_id("c1");
  exec.set_exec_id("e1");
  EXPECT_EQ(static_cast<int>(shim().Call<Empty>("Exec", exec).status().code()),
            3);
  exec.mutable_spec()->set_value("[1");
  EXPECT_EQ(static_cast<int>(shim().Call<Empty>("Exec", exec).status().code()),
            3);
  exec.set_exec_id("../../etc/passwd");
  exec.mutable_spec()->set_value("{}");
  EXPECT_EQ(static_cast<int>(shim().Call<Empty>("Exec", exec).status().code()),
            3);
  EXPECT_EQ(StatusOf("c1"), kRunning);
}

}  // namespace
}  // namespace wisp
