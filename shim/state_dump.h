// What a shim is doing, for whoever has to find out why it does not go on.
#ifndef WISP_SHIM_STATE_DUMP_H_
#define WISP_SHIM_STATE_DUMP_H_

#include <string>
#include <string_view>

#include "process/detached_stdio.h"
#include "process/event_loop.h"
#include "process/json.h"
#include "process/reaper.h"
#include "process/status_macros.h"
#include "shim/event_publisher.h"
#include "shim/server.h"
#include "shim/task_service.h"

namespace wisp {

// The service of our own that a running shim has beside containerd's: its one
// method answers with the dump as text.
inline constexpr std::string_view kDumpService = "wisp.shim.v1.Inspect";
inline constexpr std::string_view kDumpMethod = "Dump";
inline constexpr const char kDumpFile[] = "wisp-dump.json";

struct DumpSources {
  const TaskService& tasks;
  const Server& server;
  const EventPublisher& publisher;
  const DetachedStdio& detached;
  const Reaper& reaper;
  const EventLoop& loop;
};

// Tasks with their execs and the runs of the runtime that they wait for, calls,
// events that are not delivered, fds, the last lines of the log. Ages are in
// milliseconds. Asks the kernel for nothing that could wait.
Json DumpState(const DumpSources& sources);

// Writes `text` as kDumpFile into the first bundle that is still there: that of
// the current directory, which has the shim's first container, or a task's.
// Returns its path. Error: there is none, or as it comes.
absl::StatusOr<std::string> WriteDump(const std::string& text,
                                      const TaskService& tasks);

}  // namespace wisp

#endif  // WISP_SHIM_STATE_DUMP_H_
