#include "shim/task_events.h"

#include "proto/events.pb.h"
#include "shim/event_publisher.h"
#include "shim/timestamps.h"

namespace wisp {

namespace events = containerd::events;

void TaskEvents::Created(const std::string& container,
                         const std::string& bundle,
                         const std::vector<Mount>& rootfs,
                         const StdioRequest& stdio,
                         const std::string& checkpoint, pid_t pid) {
  events::TaskCreate event;
  event.set_container_id(container);
  event.set_bundle(bundle);
  for (const Mount& mount : rootfs) {
    containerd::types::Mount* out = event.add_rootfs();
    out->set_type(mount.type);
    out->set_source(mount.source);
    out->set_target(mount.target);
    for (const std::string& option : mount.options) out->add_options(option);
  }
  event.mutable_io()->set_stdin(stdio.stdin_path);
  event.mutable_io()->set_stdout(stdio.stdout_path);
  event.mutable_io()->set_stderr(stdio.stderr_path);
  event.mutable_io()->set_terminal(stdio.terminal);
  event.set_checkpoint(checkpoint);
  event.set_pid(static_cast<uint32_t>(pid));
  publisher_.Publish("/tasks/create", event);
}

void TaskEvents::Started(const std::string& container, pid_t pid) {
  events::TaskStart event;
  event.set_container_id(container);
  event.set_pid(static_cast<uint32_t>(pid));
  publisher_.Publish("/tasks/start", event);
}

void TaskEvents::ExecAdded(const std::string& container,
                           const std::string& exec) {
  events::TaskExecAdded event;
  event.set_container_id(container);
  event.set_exec_id(exec);
  publisher_.Publish("/tasks/exec-added", event);
}

void TaskEvents::ExecStarted(const std::string& container,
                             const std::string& exec, pid_t pid) {
  events::TaskExecStarted event;
  event.set_container_id(container);
  event.set_exec_id(exec);
  event.set_pid(static_cast<uint32_t>(pid));
  publisher_.Publish("/tasks/exec-started", event);
}

void TaskEvents::Oom(const std::string& container) {
  events::TaskOOM event;
  event.set_container_id(container);
  publisher_.Publish("/tasks/oom", event);
}

void TaskEvents::Exited(const std::string& container,
                        const std::string& process, pid_t pid,
                        const ExitStatus& status) {
  events::TaskExit event;
  event.set_container_id(container);
  event.set_id(process);
  event.set_pid(static_cast<uint32_t>(pid));
  event.set_exit_status(status.code);
  *event.mutable_exited_at() = ToTimestamp(status.at);
  publisher_.Publish("/tasks/exit", event);
}

void TaskEvents::Deleted(const std::string& container, pid_t pid,
                         const ExitStatus& status) {
  events::TaskDelete event;
  event.set_container_id(container);
  event.set_pid(static_cast<uint32_t>(pid));
  event.set_exit_status(status.code);
  *event.mutable_exited_at() = ToTimestamp(status.at);
  publisher_.Publish("/tasks/delete", event);
}

void TaskEvents::Paused(const std::string& container) {
  events::TaskPaused event;
  event.set_container_id(container);
  publisher_.Publish("/tasks/paused", event);
}

void TaskEvents::Resumed(const std::string& container) {
  events::TaskResumed event;
  event.set_container_id(container);
  publisher_.Publish("/tasks/resumed", event);
}

}  // namespace wisp
