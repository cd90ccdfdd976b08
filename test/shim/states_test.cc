// Every call in every state, as a client of the real binary sees it: code and
// words of the answer, the state afterwards, and the events that the call made.
//
// Each cell has a container, and for the second table an exec, of its own. What
// `process/state.h` allows is checked there; here is what becomes of it.
// With WISP_TEST_SHIM=PATH, another shim such as Go's of containerd 2.4, the
// failures are the differences.
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

// A call to the process `exec` (empty: init) of task `id`: the answer's text.
using Caller = std::function<std::string(TestShim& shim, const std::string& id,
                                         const std::string& exec)>;

std::string Text(const absl::Status& status) {
  if (status.ok()) return "ok";
  return fmt::format("{} {}", static_cast<int>(status.code()), Message(status));
}

// A call whose request has an id, and no more than an exec id beside it.
template <typename Request, typename Response>
Caller Plain(const std::string& method) {
  return
      [method](TestShim& shim, const std::string& id, const std::string& exec) {
        Request request;
        request.set_id(id);
        if constexpr (requires { request.set_exec_id(exec); }) {
          request.set_exec_id(exec);
        }
        return Text(
            shim.Call<Response>(method, request, absl::Seconds(10)).status());
      };
}

std::string StatusName(TestShim& shim, const std::string& id,
                       const std::string& exec) {
  const absl::StatusOr<api::StateResponse> state = shim.State(id, exec);
  if (!state.ok()) return Text(state.status());
  switch (static_cast<int>(state->status())) {
    case 1:
      return "created";
    case 2:
      return "running";
    case 3:
      return "stopped";
    case 4:
      return "paused";
    default:
      return "?";
  }
}

// SIGKILL, and what comes of it: with `all` through the runtime where wisp
// could do it itself.
Caller KillWith(uint32_t signal, bool all) {
  return [signal, all](TestShim& shim, const std::string& id,
                       const std::string& exec) {
    api::KillRequest request;
    request.set_id(id);
    request.set_exec_id(exec);
    request.set_signal(signal);
    request.set_all(all);
    const absl::Status status = shim.Call<Empty>("Kill", request).status();
    // The exit comes later than the answer.
    if (status.ok() && signal == SIGKILL) {
      (void)shim.RunUntil(
          [&] { return StatusName(shim, id, exec) == "stopped"; });
    }
    return Text(status);
  };
}

// With a limit: Wait for a process that has not ended is no error.
std::string WaitFor(TestShim& shim, const std::string& id,
                    const std::string& exec) {
  api::WaitRequest request;
  request.set_id(id);
  request.set_exec_id(exec);
  const absl::StatusOr<api::WaitResponse> response =
      shim.Call<api::WaitResponse>("Wait", request, absl::Milliseconds(300));
  if (absl::IsDeadlineExceeded(response.status())) return "waits";
  if (!response.ok()) return Text(response.status());
  return fmt::format("ok {}", response->exit_status());
}

std::string ExecInto(TestShim& shim, const std::string& id,
                     const std::string&) {
  return Text(shim.Exec(id, "added", {"true"}));
}

std::string PidsOf(TestShim& shim, const std::string& id, const std::string&) {
  api::PidsRequest request;
  request.set_id(id);
  const absl::StatusOr<api::PidsResponse> response =
      shim.Call<api::PidsResponse>("Pids", request);
  if (!response.ok()) return Text(response.status());
  return response->processes().empty() ? "none" : "ok";
}

std::string UpdateOf(TestShim& shim, const std::string& id,
                     const std::string&) {
  api::UpdateTaskRequest request;
  request.set_id(id);
  request.mutable_resources()->set_value("{}");
  return Text(shim.Call<Empty>("Update", request).status());
}

std::string CheckpointOf(TestShim& shim, const std::string& id,
                         const std::string&) {
  api::CheckpointTaskRequest request;
  request.set_id(id);
  request.set_path(shim.directory() + "/checkpoint");
  return Text(shim.Call<Empty>("Checkpoint", request).status());
}

std::string CreateAgain(TestShim& shim, const std::string& id,
                        const std::string&) {
  return Text(shim.Create(id).status());
}

std::string ShutdownWith(TestShim& shim, const std::string& id,
                         const std::string&) {
  return Text(shim.Shutdown(id));
}

const std::map<std::string, Caller>& Callers() {
  static const auto* const callers = new std::map<std::string, Caller>{
      {"State", StatusName},
      {"Create", CreateAgain},
      {"Start", Plain<api::StartRequest, api::StartResponse>("Start")},
      {"Pause", Plain<api::PauseRequest, Empty>("Pause")},
      {"Resume", Plain<api::ResumeRequest, Empty>("Resume")},
      {"Update", UpdateOf},
      {"Checkpoint", CheckpointOf},
      {"Exec", ExecInto},
      {"Kill 9", KillWith(SIGKILL, false)},
      {"Kill 9 all", KillWith(SIGKILL, true)},
      {"Kill 0", KillWith(0, false)},
      {"Delete", Plain<api::DeleteRequest, api::DeleteResponse>("Delete")},
      {"ResizePty", Plain<api::ResizePtyRequest, Empty>("ResizePty")},
      {"CloseIO", Plain<api::CloseIORequest, Empty>("CloseIO")},
      {"Pids", PidsOf},
      {"Wait", WaitFor},
      {"Connect", Plain<api::ConnectRequest, api::ConnectResponse>("Connect")},
      {"Stats", Plain<api::StatsRequest, api::StatsResponse>("Stats")},
      {"Shutdown", ShutdownWith},
  };
  return *callers;
}

struct Row {
  std::string call;
  // By state: "answer", or "answer > state", where the call changes it, then
  // "+ EVENTS".
  std::vector<std::string> cells;
};

class StatesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    shim_ = TestShim::Start(FAKE_RUNC);
    ASSERT_NE(shim_, nullptr);
    mkdir((shim().directory() + "/checkpoint").c_str(), 0700);
    shim().MakeBundle("barrier", {"sleep", "1000"});
    ASSERT_TRUE(shim().Create("barrier").ok());
    ASSERT_TRUE(shim().StartTask("barrier").ok());
  }

  TestShim& shim() { return *shim_; }

  void Make(const std::string& id, const std::string& state) {
    shim().MakeBundle(id, {"sleep", "1000"});
    api::CreateTaskRequest request = shim().CreateRequest(id);
    if (state == "checkpoint") {
      request.set_checkpoint(shim().directory() + "/checkpoint");
    }
    const absl::Status created =
        shim().Call<api::CreateTaskResponse>("Create", request).status();
    ASSERT_TRUE(created.ok()) << created;
    if (state == "created" || state == "checkpoint") return;
    if (state == "deleted") {
      ASSERT_TRUE(shim().Delete(id).ok());
      return;
    }
    ASSERT_TRUE(shim().StartTask(id).ok());
    if (state == "paused") {
      api::PauseRequest pause;
      pause.set_id(id);
      ASSERT_TRUE(shim().Call<Empty>("Pause", pause).ok());
    } else if (state == "stopped") {
      ASSERT_TRUE(shim().Kill(id, SIGKILL).ok());
      ASSERT_TRUE(shim().Wait(id).ok());
    }
  }

  void MakeExec(const std::string& id, const std::string& state) {
    Make(id, "running");
    ASSERT_TRUE(shim().Exec(id, "e", {"sleep", "1000"}).ok());
    if (state == "failed") {
      shim().SetFailure("exec.e", "no such thing");
      EXPECT_FALSE(shim().StartTask(id, "e").ok());
      shim().ClearFailure("exec.e");
      return;
    }
    if (state == "created") return;
    ASSERT_TRUE(shim().StartTask(id, "e").ok());
    if (state == "running") return;
    ASSERT_TRUE(shim().Kill(id, SIGKILL, "e").ok());
    ASSERT_TRUE(shim().Wait(id, "e").ok());
    if (state == "deleted") {
      ASSERT_TRUE(shim().Delete(id, "e").ok());
    }
  }

  // The events of `id` so far, once all that are queued have come.
  std::vector<std::string> EventsOf(const std::string& id) {
    const std::string mark = fmt::format("b{}", ++barriers_);
    EXPECT_TRUE(shim().Exec("barrier", mark, {"true"}).ok());
    EXPECT_TRUE(shim().AwaitEvent("exec-added barrier/" + mark));
    std::vector<std::string> texts;
    for (const TestEvent& event : shim().events()) {
      if (event.container != id) continue;
      texts.push_back(absl::StrReplaceAll(event.Text(), {{id, "c"}}));
    }
    return texts;
  }

  std::string Cell(const std::string& call, const std::string& state,
                   bool of_exec) {
    const std::string id = fmt::format("c{}", ++containers_);
    const std::string exec = of_exec ? "e" : "";
    if (of_exec) {
      MakeExec(id, state);
    } else {
      Make(id, state);
    }
    const size_t events_before = EventsOf(id).size();
    const std::string before = StatusName(shim(), id, exec);
    std::string text = Callers().at(call)(shim(), id, exec);
    if (const std::string after = StatusName(shim(), id, exec);
        after != before) {
      text += " > " + (after.starts_with("5 ") ? "gone" : after);
    }
    const std::vector<std::string> events = EventsOf(id);
    for (size_t i = events_before; i < events.size(); ++i) {
      text += (i == events_before ? " + " : ", ") + events[i];
    }
    return absl::StrReplaceAll(text, {{id, "c"}, {shim().directory(), "DIR"}});
  }

  void Check(const std::vector<std::string>& states,
             const std::vector<Row>& rows, bool of_exec) {
    for (const Row& row : rows) {
      ASSERT_EQ(row.cells.size(), states.size()) << row.call;
      for (size_t i = 0; i < states.size(); ++i) {
        const std::string cell = Cell(row.call, states[i], of_exec);
        EXPECT_EQ(cell, row.cells[i])
            << row.call << " of a process that is " << states[i];
        if (HasFatalFailure()) return;
      }
    }
  }

  std::unique_ptr<TestShim> shim_;
  int containers_ = 0;
  int barriers_ = 0;
};

// clang-format off
TEST_F(StatesTest, AnswersEveryCallToAnInitInEveryState) {
  Check({"created", "checkpoint", "running", "paused", "stopped", "deleted"}, {
      {"State",
       {"created",
        "created",
        "running",
        "paused",
        "stopped",
        "5 container not created: not found"}},
      {"Create",
       {"6 id c: already exists",
        "6 id c: already exists",
        "6 id c: already exists",
        "6 id c: already exists",
        "6 id c: already exists",
        "ok > created + create c"}},
      {"Start",
       {"ok > running + start c",
        "ok > running + start c",
        "9 cannot start a running process: failed precondition",
        "9 cannot start a paused process: failed precondition",
        "9 cannot start a stopped process: failed precondition",
        "5 container not created: not found"}},
      {"Pause",
       {"9 cannot pause task in created state: failed precondition",
        "9 cannot pause task in created state: failed precondition",
        "ok > paused + paused c",
        "9 cannot pause a paused container: failed precondition",
        "9 cannot pause a stopped container: failed precondition",
        "5 container not created: not found"}},
      {"Resume",
       {"9 cannot resume task in created state: failed precondition",
        "9 cannot resume task in created state: failed precondition",
        "9 cannot resume a running process: failed precondition",
        "ok > running + resumed c",
        "9 cannot resume a stopped container: failed precondition",
        "5 container not created: not found"}},
      {"Update",
       {"ok",
        "ok",
        "ok",
        "ok",
        "9 cannot update a stopped container: failed precondition",
        "5 container not created: not found"}},
      {"Checkpoint",
       {"9 cannot checkpoint a task in created state: failed precondition",
        "9 cannot checkpoint a task in created state: failed precondition",
        "ok",
        "ok",
        "9 cannot checkpoint a stopped container: failed precondition",
        "5 container not created: not found"}},
      {"Exec",
       {"ok + exec-added c/added",
        "9 cannot exec in a created state: failed precondition",
        "ok + exec-added c/added",
        "9 cannot exec in a paused state: failed precondition",
        "9 cannot exec in a stopped state: failed precondition",
        "5 container not created: not found"}},
      {"Kill 9",
       {"ok > stopped + exit c 137",
        "5 no such container: not found",
        "ok > stopped + exit c 137",
        "ok > stopped + exit c 137",
        "5 process already finished: not found",
        "5 container not created: not found"}},
      {"Kill 9 all",
       {"ok > stopped + exit c 137",
        "5 no such container: not found",
        "ok > stopped + exit c 137",
        "ok > stopped + exit c 137",
        "5 process already finished: not found",
        "5 container not created: not found"}},
      {"Kill 0",
       {"ok",
        "5 no such container: not found",
        "ok",
        "ok",
        "5 process already finished: not found",
        "5 container not created: not found"}},
      {"Delete",
       {"ok > gone + exit c 137, delete c 137",
        "ok > gone + delete c 0",
        "9 cannot delete a running process: failed precondition",
        "9 cannot delete a paused process: failed precondition",
        "ok > gone + delete c 137",
        "5 container not created: not found"}},
      {"ResizePty",
       {"ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "5 container not created: not found"}},
      {"CloseIO",
       {"ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "5 container not created: not found"}},
      {"Pids",
       {"ok",
        "none",
        "ok",
        "ok",
        "ok",
        "5 container not created: not found"}},
      {"Wait",
       {"waits",
        "waits",
        "waits",
        "waits",
        "ok 137",
        "5 container not created: not found"}},
      {"Connect",
       {"ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok"}},
      {"Stats",
       {"ok",
        "5 cgroup does not exist: not found",
        "ok",
        "ok",
        "ok",
        "5 container not created: not found"}},
      {"Shutdown",
       {"ok",
        "ok",
        "ok",
        "ok",
        "ok",
        "ok"}},
  }, false);
}

// "failed": its start has failed.
TEST_F(StatesTest, AnswersEveryCallToAnExecInEveryState) {
  Check({"created", "failed", "running", "stopped", "deleted"}, {
      {"State",
       {"created",
        "created",
        "running",
        "stopped",
        "5 process does not exist e: not found"}},
      {"Start",
       {"ok > running + exec-started c/e",
        "9 process could not be started: failed precondition",
        "9 cannot start a running process: failed precondition",
        "9 cannot start a stopped process: failed precondition",
        "5 process does not exist e: not found"}},
      {"Kill 9",
       {"9 process not created: failed precondition",
        "9 process not created: failed precondition",
        "ok > stopped + exit c/e 137",
        "5 process already finished: not found",
        "5 process does not exist e: not found"}},
      {"Kill 0",
       {"9 process not created: failed precondition",
        "9 process not created: failed precondition",
        "ok",
        "5 process already finished: not found",
        "5 process does not exist e: not found"}},
      {"Delete",
       {"ok > gone",
        "ok > gone",
        "9 cannot delete a running process: failed precondition",
        "ok > gone",
        "5 process does not exist e: not found"}},
      {"ResizePty",
       {"ok",
        "ok",
        "ok",
        "9 cannot resize a stopped container: failed precondition",
        "5 process does not exist e: not found"}},
      {"CloseIO",
       {"ok",
        "ok",
        "ok",
        "ok",
        "5 process does not exist e: not found"}},
      {"Wait",
       {"waits",
        "ok 0",
        "waits",
        "ok 137",
        "5 process does not exist e: not found"}},
  }, true);
}
// clang-format on

}  // namespace
}  // namespace wisp
