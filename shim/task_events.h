// The events of tasks, as containerd knows them.
#ifndef WISP_SHIM_TASK_EVENTS_H_
#define WISP_SHIM_TASK_EVENTS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "mount/options.h"
#include "process/reaper.h"
#include "process/stdio.h"

namespace wisp {

class EventPublisher;

// Queues them; the order of the calls is the order in which they go out. Topics
// and fields: core/runtime/events.go and api/events/task.proto@v2.4.2.
class TaskEvents {
 public:
  // `publisher` must outlive this.
  explicit TaskEvents(EventPublisher& publisher) : publisher_(publisher) {}

  void Created(const std::string& container, const std::string& bundle,
               const std::vector<Mount>& rootfs, const StdioRequest& stdio,
               const std::string& checkpoint, pid_t pid);
  void Started(const std::string& container, pid_t pid);
  void ExecAdded(const std::string& container, const std::string& exec);
  void ExecStarted(const std::string& container, const std::string& exec,
                   pid_t pid);
  void Oom(const std::string& container);
  // `process` is the container's id for init, the exec's for an exec.
  void Exited(const std::string& container, const std::string& process,
              pid_t pid, const ExitStatus& status);
  void Deleted(const std::string& container, pid_t pid,
               const ExitStatus& status);
  void Paused(const std::string& container);
  void Resumed(const std::string& container);

 private:
  EventPublisher& publisher_;
};

}  // namespace wisp

#endif  // WISP_SHIM_TASK_EVENTS_H_
