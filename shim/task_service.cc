#include "shim/task_service.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "shim/log.h"
#include "shim/task_requests.h"
#include "shim/timestamps.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

absl::Status NoSuchTask() {
  return absl::NotFoundError("container not created");
}

}  // namespace

TaskService::TaskService(ContainerContext& context, Hooks hooks)
    : context_(context), hooks_(std::move(hooks)) {
#define WISP_BIND(name) methods_[#name] = Bind(this, &TaskService::name)
  WISP_BIND(State);
  WISP_BIND(Create);
  WISP_BIND(Start);
  WISP_BIND(Delete);
  WISP_BIND(Pids);
  WISP_BIND(Pause);
  WISP_BIND(Resume);
  WISP_BIND(Checkpoint);
  WISP_BIND(Kill);
  WISP_BIND(Exec);
  WISP_BIND(ResizePty);
  WISP_BIND(CloseIO);
  WISP_BIND(Update);
  WISP_BIND(Wait);
  WISP_BIND(Stats);
  WISP_BIND(Connect);
  WISP_BIND(Shutdown);
#undef WISP_BIND
}

absl::StatusOr<std::shared_ptr<Container>> TaskService::Find(
    const std::string& id) const {
  const auto task = tasks_.find(id);
  if (task == tasks_.end() || task->second.phase == Phase::kCreating) {
    return NoSuchTask();
  }
  return task->second.container;
}

std::vector<TaskService::TaskInfo> TaskService::Tasks() const {
  std::vector<TaskInfo> tasks;
  for (const auto& [id, task] : tasks_) {
    tasks.push_back(
        {.id = id,
         .phase = task.phase,
         .container = task.container,
         .calls_waiting = task.deletes.size() + task.waiting.size()});
  }
  return tasks;
}

void TaskService::Create(
    Call<api::CreateTaskRequest, api::CreateTaskResponse> call) {
  const std::string id = call.request().id();
  if (const auto task = tasks_.find(id); task != tasks_.end()) {
    if (task->second.phase == Phase::kDeleting) {
      task->second.waiting.push_back([this, call = std::move(call)]() mutable {
        if (call.alive()) Create(std::move(call));
      });
    } else {
      // Before anything is touched: the bundle may be that of a living one.
      call.Fail(absl::AlreadyExistsError(fmt::format("id {}", id)));
    }
    return;
  }
  absl::StatusOr<ContainerConfig> config =
      ToContainerConfig(call.request(), context_.namespace_name);
  if (!config.ok()) return call.Fail(config.status());
  absl::StatusOr<std::shared_ptr<Container>> container =
      Container::Make(context_, *std::move(config));
  if (!container.ok()) {
    return call.Fail(
        Unclassified("failed to create init process I/O", container.status()));
  }
  unclaimed_.erase(id);
  ever_had_task_ = true;
  const auto creation = std::make_shared<CreateFlow>(context_, *container,
                                                     TraceEnvironment(call));
  tasks_[id].container = *std::move(container);
  hooks_.on_tasks();
  call.OnCancel([weak = std::weak_ptr(creation)](const absl::Status& why) {
    if (const auto still = weak.lock()) still->Cancel(why);
  });
  creation->Run(
      [this, id, call = std::move(call)](const absl::Status& status) mutable {
        OnCreated(id, status, std::move(call));
      });
}

void TaskService::OnCreated(
    const std::string& id, const absl::Status& status,
    Call<api::CreateTaskRequest, api::CreateTaskResponse> call) {
  const auto task = tasks_.find(id);
  std::vector<EventLoop::Task> waiting = std::move(task->second.waiting);
  task->second.waiting.clear();
  if (status.ok()) {
    task->second.phase = Phase::kReady;
    task->second.container->MarkCreated();
    api::CreateTaskResponse response;
    response.set_pid(
        static_cast<uint32_t>(task->second.container->init().pid()));
    call.Reply(response);
  } else {
    LogDebug("create failed", {{"id", id}, {"error", status}});
    tasks_.erase(task);
    call.Fail(status);
    hooks_.on_tasks();
  }
  Settle(std::move(waiting));
}

void TaskService::Settle(std::vector<EventLoop::Task> waiting) {
  for (EventLoop::Task& task : waiting) std::move(task)();
}

void TaskService::Start(Call<api::StartRequest, api::StartResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string exec_id = call.request().exec_id();
  const std::vector<std::string> environment = TraceEnvironment(call);
  call.OnCancel(
      [weak = std::weak_ptr(*container), exec_id](const absl::Status& why) {
        if (const auto self = weak.lock()) self->CancelStart(exec_id, why);
      });
  auto done = [call = std::move(call)](absl::StatusOr<pid_t> pid) mutable {
    if (!pid.ok()) return call.Fail(pid.status());
    api::StartResponse response;
    response.set_pid(static_cast<uint32_t>(*pid));
    call.Reply(response);
  };
  if (exec_id.empty()) {
    (*container)->Start(environment, std::move(done));
  } else {
    (*container)->StartExec(exec_id, environment, std::move(done));
  }
}

void TaskService::Delete(Call<api::DeleteRequest, api::DeleteResponse> call) {
  if (!call.request().exec_id().empty()) return DeleteExec(std::move(call));
  const std::string id = call.request().id();
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) {
    if (auto answer = unclaimed_.extract(id); !answer.empty()) {
      return call.Reply(answer.mapped());
    }
    return call.Fail(NoSuchTask());
  }
  Task& task = found->second;
  switch (task.phase) {
    case Phase::kCreating:
      task.waiting.push_back([this, call = std::move(call)]() mutable {
        if (call.alive()) Delete(std::move(call));
      });
      return;
    case Phase::kDeleting:
      task.deletes.push_back(std::move(call));
      return;
    case Phase::kReady:
      break;
  }
  task.phase = Phase::kDeleting;
  const std::vector<std::string> environment = TraceEnvironment(call);
  task.deletes.push_back(std::move(call));
  std::make_shared<DeleteFlow>(context_, task.container, environment)
      ->Run([this, id](absl::StatusOr<ExitInfo> result) {
        OnDeleted(id, result);
      });
}

void TaskService::OnDeleted(const std::string& id,
                            const absl::StatusOr<ExitInfo>& result) {
  const auto found = tasks_.find(id);
  Task& task = found->second;
  auto deletes = std::move(task.deletes);
  auto waiting = std::move(task.waiting);
  task.deletes.clear();
  task.waiting.clear();
  if (!result.ok()) {
    task.phase = Phase::kReady;
    for (auto& call : deletes) call.Fail(result.status());
    return Settle(std::move(waiting));
  }
  context_.events.Deleted(id, result->pid, result->status);
  tasks_.erase(found);
  api::DeleteResponse response;
  response.set_pid(static_cast<uint32_t>(result->pid));
  response.set_exit_status(result->status.code);
  *response.mutable_exited_at() = ToTimestamp(result->status.at);
  const bool claimed =
      std::any_of(deletes.begin(), deletes.end(),
                  [](const auto& call) { return call.alive(); });
  if (!claimed) unclaimed_[id] = response;
  for (auto& call : deletes) call.Reply(response);
  Settle(std::move(waiting));
  hooks_.on_tasks();
  if (tasks_.empty() && std::exchange(shutdown_asked_, false)) {
    hooks_.on_shutdown([] {});
  }
}

void TaskService::DeleteExec(
    Call<api::DeleteRequest, api::DeleteResponse> call) {
  const auto container = Find(call.request().id());
  if (!container.ok()) return call.Fail(container.status());
  const std::string exec_id = call.request().exec_id();
  (*container)
      ->DeleteExec(exec_id, [call = std::move(call)](
                                absl::StatusOr<ExitInfo> result) mutable {
        if (!result.ok()) return call.Fail(result.status());
        api::DeleteResponse response;
        response.set_pid(static_cast<uint32_t>(result->pid));
        response.set_exit_status(result->status.code);
        *response.mutable_exited_at() = ToTimestamp(result->status.at);
        call.Reply(response);
      });
}

void TaskService::Shutdown(Call<api::ShutdownRequest, Empty> call) {
  if (!tasks_.empty()) {
    shutdown_asked_ = true;
    return call.Reply(Empty());
  }
  hooks_.on_shutdown(
      [call = std::move(call)]() mutable { call.Reply(Empty()); });
}

}  // namespace wisp
