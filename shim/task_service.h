// The Task API, free of transport.
#ifndef WISP_SHIM_TASK_SERVICE_H_
#define WISP_SHIM_TASK_SERVICE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "proto/task.pb.h"
#include "shim/call.h"
#include "shim/container.h"
#include "shim/create_flow.h"
#include "shim/delete_flow.h"

namespace wisp {

// Finds the container, delegates, translates protobufs. One method per call;
// containerd.task.v2.Task and v3.Task are two names for methods().
class TaskService {
 public:
  struct Hooks {
    // After Shutdown without a task: the shim may go. It answers `reply`
    // itself, at the right moment of leaving (launch-and-transport §8.4).
    absl::AnyInvocable<void(EventLoop::Task reply)> on_shutdown;
    // A task came or went.
    absl::AnyInvocable<void()> on_tasks;
  };

  // `context` must outlive the service, and the service its calls.
  TaskService(ContainerContext& context, Hooks hooks);
  TaskService(const TaskService&) = delete;
  TaskService& operator=(const TaskService&) = delete;

  const Methods& methods() const { return methods_; }

  // Tasks, those under way to be or not to be included.
  size_t tasks() const { return tasks_.size(); }
  // True once there has been one.
  bool ever_had_task() const { return ever_had_task_; }

  enum class Phase { kCreating, kReady, kDeleting };
  // A task as it is now, for the debug dump.
  struct TaskInfo {
    std::string id;
    Phase phase = Phase::kCreating;
    std::shared_ptr<const Container> container;
    size_t calls_waiting = 0;  // for the phase to end
  };
  std::vector<TaskInfo> Tasks() const;
  // Answers to Deletes that are kept since nobody was there to take them.
  size_t unclaimed_answers() const { return unclaimed_.size(); }

 private:
  struct Task {
    Phase phase = Phase::kCreating;
    std::shared_ptr<Container> container;
    // Who has asked to delete it, while that is under way.
    std::vector<Call<containerd::task::v3::DeleteRequest,
                     containerd::task::v3::DeleteResponse>>
        deletes;
    // Calls that wait for the phase to end.
    std::vector<EventLoop::Task> waiting;
  };

#define WISP_TASK_METHOD(name, request, response) \
  void name(Call<containerd::task::v3::request, response> call)
  WISP_TASK_METHOD(State, StateRequest, containerd::task::v3::StateResponse);
  WISP_TASK_METHOD(Create, CreateTaskRequest,
                   containerd::task::v3::CreateTaskResponse);
  WISP_TASK_METHOD(Start, StartRequest, containerd::task::v3::StartResponse);
  WISP_TASK_METHOD(Delete, DeleteRequest, containerd::task::v3::DeleteResponse);
  WISP_TASK_METHOD(Pids, PidsRequest, containerd::task::v3::PidsResponse);
  WISP_TASK_METHOD(Pause, PauseRequest, Empty);
  WISP_TASK_METHOD(Resume, ResumeRequest, Empty);
  WISP_TASK_METHOD(Checkpoint, CheckpointTaskRequest, Empty);
  WISP_TASK_METHOD(Kill, KillRequest, Empty);
  WISP_TASK_METHOD(Exec, ExecProcessRequest, Empty);
  WISP_TASK_METHOD(ResizePty, ResizePtyRequest, Empty);
  WISP_TASK_METHOD(CloseIO, CloseIORequest, Empty);
  WISP_TASK_METHOD(Update, UpdateTaskRequest, Empty);
  WISP_TASK_METHOD(Wait, WaitRequest, containerd::task::v3::WaitResponse);
  WISP_TASK_METHOD(Stats, StatsRequest, containerd::task::v3::StatsResponse);
  WISP_TASK_METHOD(Connect, ConnectRequest,
                   containerd::task::v3::ConnectResponse);
  WISP_TASK_METHOD(Shutdown, ShutdownRequest, Empty);
#undef WISP_TASK_METHOD

  // kNotFound if there is none, or it is still being created.
  absl::StatusOr<std::shared_ptr<Container>> Find(const std::string& id) const;
  void OnCreated(const std::string& id, const absl::Status& status,
                 Call<containerd::task::v3::CreateTaskRequest,
                      containerd::task::v3::CreateTaskResponse>
                     call);
  void DeleteExec(Call<containerd::task::v3::DeleteRequest,
                       containerd::task::v3::DeleteResponse>
                      call);
  void OnDeleted(const std::string& id, const absl::StatusOr<ExitInfo>& result);
  void Settle(std::vector<EventLoop::Task> waiting);

  ContainerContext& context_;
  Hooks hooks_;
  Methods methods_;
  std::map<std::string, Task> tasks_;
  // Answers to Deletes whose callers were all gone when they came.
  std::map<std::string, containerd::task::v3::DeleteResponse> unclaimed_;
  bool ever_had_task_ = false;
  bool shutdown_asked_ = false;
};

}  // namespace wisp

#endif  // WISP_SHIM_TASK_SERVICE_H_
