// What is asked of a task that exists: the methods of TaskService that find it
// and delegate.
#include <unistd.h>

#include <utility>

#include "fmt/format.h"
#include "proto/runc_options.pb.h"
#include "shim/checkpoint.h"
#include "shim/options.h"
#include "shim/stats.h"
#include "shim/task_requests.h"
#include "shim/task_service.h"
#include "shim/timestamps.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

absl::Status NoSuchExec(const std::string& exec_id) {
  return absl::NotFoundError(fmt::format("process does not exist {}", exec_id));
}

// A completion that answers `call`.
template <typename Req>
DoneStatus Finisher(Call<Req, Empty> call) {
  return [call = std::move(call)](absl::Status status) mutable {
    call.Finish(status);
  };
}

}  // namespace

// ---- Observers: from memory, whatever the runtime is at ----

void TaskService::State(Call<api::StateRequest, api::StateResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string& exec_id = call.request().exec_id();
  if (exec_id.empty()) return call.Reply(StateOfInit(**container));
  const std::shared_ptr<ExecProcess> exec = (*container)->FindExec(exec_id);
  if (exec == nullptr) return call.Fail(NoSuchExec(exec_id));
  call.Reply(StateOfExec(**container, *exec));
}

void TaskService::Wait(Call<api::WaitRequest, api::WaitResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string exec_id = call.request().exec_id();
  // The waiters live as long as the process that this keeps alive.
  std::shared_ptr<ExitWaiters> waiters(*container,
                                       &(*container)->init().waiters());
  if (!exec_id.empty()) {
    const std::shared_ptr<ExecProcess> exec = (*container)->FindExec(exec_id);
    if (exec == nullptr) return call.Fail(NoSuchExec(exec_id));
    waiters = std::shared_ptr<ExitWaiters>(exec, &exec->waiters());
  }
  const auto number = std::make_shared<uint64_t>(0);
  call.OnCancel([weak = std::weak_ptr(waiters), number](const absl::Status&) {
    if (const auto still = weak.lock()) still->Remove(*number);
  });
  *number =
      waiters->Add([call = std::move(call)](const ExitStatus& status) mutable {
        api::WaitResponse response;
        response.set_exit_status(status.code);
        *response.mutable_exited_at() = ToTimestamp(status.at);
        call.Reply(response);
      });
}

void TaskService::Pids(Call<api::PidsRequest, api::PidsResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  (*container)
      ->Pids([self = *container, call = std::move(call)](
                 absl::StatusOr<std::vector<pid_t>> pids) mutable {
        if (!pids.ok()) return call.Fail(pids.status());
        api::PidsResponse response;
        for (pid_t pid : *pids) {
          containerd::v1::types::ProcessInfo* info = response.add_processes();
          info->set_pid(static_cast<uint32_t>(pid));
          if (const ExecProcess* exec = self->ExecOfPid(pid)) {
            containerd::runc::v1::ProcessDetails details;
            details.set_exec_id(exec->id());
            info->mutable_info()->set_type_url(details.GetTypeName());
            info->mutable_info()->set_value(details.SerializeAsString());
          }
        }
        call.Reply(response);
      });
}

void TaskService::Stats(Call<api::StatsRequest, api::StatsResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  if (!(*container)->cgroup().has_value()) {
    return call.Fail(absl::NotFoundError("cgroup does not exist"));
  }
  absl::StatusOr<google::protobuf::Any> stats =
      ReadStats(context_.cgroups, *(*container)->cgroup());
  if (!stats.ok()) return call.Fail(stats.status());
  api::StatsResponse response;
  *response.mutable_stats() = *std::move(stats);
  call.Reply(response);
}

void TaskService::Connect(
    Call<api::ConnectRequest, api::ConnectResponse> call) {
  // Also for an id that is not ours: daemons ask before they create.
  api::ConnectResponse response;
  response.set_shim_pid(static_cast<uint32_t>(getpid()));
  if (const auto container = Find(call.request().id()); container.ok()) {
    response.set_task_pid(static_cast<uint32_t>((*container)->init().pid()));
  }
  call.Reply(response);
}

// ---- What is done to a process ----

void TaskService::Kill(Call<api::KillRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string& exec_id = call.request().exec_id();
  const int signal = static_cast<int>(call.request().signal());
  if (exec_id.empty()) {
    const bool all = call.request().all();
    return (*container)->Kill(signal, all, Finisher(std::move(call)));
  }
  const std::shared_ptr<ExecProcess> exec = (*container)->FindExec(exec_id);
  if (exec == nullptr) return call.Fail(NoSuchExec(exec_id));
  call.Finish(exec->Kill(signal));
}

void TaskService::Exec(Call<api::ExecProcessRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string& exec_id = call.request().exec_id();
  if (absl::Status valid = ValidateIdentifier(exec_id); !valid.ok()) {
    return call.Fail(valid);
  }
  absl::StatusOr<std::string> process = ToProcessJson(call.request());
  if (!process.ok()) return call.Fail(process.status());
  call.Finish(
      (*container)
          ->AddExec(exec_id, *std::move(process),
                    ToStdioRequest(call.request(), (*container)->config())));
}

void TaskService::ResizePty(Call<api::ResizePtyRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const auto width = static_cast<uint16_t>(call.request().width());
  const auto height = static_cast<uint16_t>(call.request().height());
  const std::string& exec_id = call.request().exec_id();
  if (exec_id.empty()) {
    return call.Finish((*container)->init().stdio().Resize(width, height));
  }
  const std::shared_ptr<ExecProcess> exec = (*container)->FindExec(exec_id);
  if (exec == nullptr) return call.Fail(NoSuchExec(exec_id));
  absl::Status status = Check(exec->state(), Operation::kResize);
  if (status.ok()) status = exec->stdio().Resize(width, height);
  call.Finish(status);
}

void TaskService::CloseIO(Call<api::CloseIORequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string& exec_id = call.request().exec_id();
  if (exec_id.empty()) {
    (*container)->init().stdio().CloseStdin();
    return call.Reply(Empty());
  }
  const std::shared_ptr<ExecProcess> exec = (*container)->FindExec(exec_id);
  if (exec == nullptr) return call.Fail(NoSuchExec(exec_id));
  exec->stdio().CloseStdin();
  call.Reply(Empty());
}

void TaskService::Pause(Call<api::PauseRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::vector<std::string> environment = TraceEnvironment(call);
  (*container)->Pause(environment, Finisher(std::move(call)));
}

void TaskService::Resume(Call<api::ResumeRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::vector<std::string> environment = TraceEnvironment(call);
  (*container)->Resume(environment, Finisher(std::move(call)));
}

void TaskService::Update(Call<api::UpdateTaskRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  absl::StatusOr<std::string> resources =
      ToResourcesJson(call.request().resources());
  if (!resources.ok()) return call.Fail(resources.status());
  const std::vector<std::string> environment = TraceEnvironment(call);
  (*container)
      ->init()
      .Update(*std::move(resources), environment,
              [self = *container, done = Finisher(std::move(call))](
                  absl::Status status) mutable { std::move(done)(status); });
}

void TaskService::Checkpoint(Call<api::CheckpointTaskRequest, Empty> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  absl::StatusOr<CheckpointOptions> options =
      ToCheckpointOptions(call.request());
  if (!options.ok()) return call.Fail(options.status());
  const std::vector<std::string> environment = TraceEnvironment(call);
  CheckpointContainer(*container, *std::move(options), environment,
                      Finisher(std::move(call)));
}

}  // namespace wisp
