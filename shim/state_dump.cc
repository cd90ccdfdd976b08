#include "shim/state_dump.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "process/state.h"
#include "shim/identity.h"
#include "shim/log.h"

namespace wisp {
namespace {

// More says no more, and the whole must fit into an answer of 4 MiB.
constexpr size_t kMostTopics = 100;
constexpr size_t kMostFds = 2000;

std::string_view Name(TaskStatus status) {
  switch (status) {
    case TaskStatus::kUnknown:
      return "unknown";
    case TaskStatus::kCreated:
      return "created";
    case TaskStatus::kRunning:
      return "running";
    case TaskStatus::kStopped:
      return "stopped";
    case TaskStatus::kPaused:
      return "paused";
    case TaskStatus::kPausing:
      return "pausing";
  }
  return "?";
}

std::string_view Name(TaskService::Phase phase) {
  switch (phase) {
    case TaskService::Phase::kCreating:
      return "being created";
    case TaskService::Phase::kReady:
      return "there";
    case TaskService::Phase::kDeleting:
      return "being deleted";
  }
  return "?";
}

uint64_t Count(size_t number) { return number; }

void SetDeath(const std::optional<ExitStatus>& death, Json* json) {
  if (!death.has_value()) return;
  json->Set("exit_code", death->code);
  json->Set("exited_at", absl::FormatTime(absl::RFC3339_full, death->at,
                                          absl::UTCTimeZone()));
}

void SetStdio(const Stdio* stdio, Json* json) {
  if (stdio == nullptr) return;
  const StdioCounters counters = stdio->counters();
  Json bytes = Json::Object();
  bytes.Set("terminal", stdio->terminal());
  bytes.Set("bytes_in", counters.input);
  bytes.Set("bytes_out", counters.output);
  bytes.Set("bytes_held", counters.held);
  bytes.Set("bytes_lost", counters.lost);
  bytes.Set("draining", stdio->draining());
  json->Set("stdio", std::move(bytes));
}

Json DumpExec(const ExecProcess& exec) {
  Json json = Json::Object();
  json.Set("id", exec.id());
  json.Set("status", Name(StatusOf(exec.state())));
  json.Set("pid", int64_t{exec.pid()});
  json.Set("starting", exec.starting());
  SetDeath(exec.death(), &json);
  SetStdio(exec.stdio_if_any(), &json);
  return json;
}

Json DumpRun(const RuncRunInfo& run) {
  Json json = Json::Object();
  json.Set("command", run.command);
  json.Set("pid", int64_t{run.pid});
  json.Set("age_ms", absl::ToInt64Milliseconds(run.age));
  json.Set("limit_ms", absl::ToInt64Milliseconds(run.limit));
  json.Set("killed", run.aborted);
  return json;
}

Json DumpTask(const TaskService::TaskInfo& task) {
  const Container& container = *task.container;
  Json json = Json::Object();
  json.Set("id", task.id);
  json.Set("phase", Name(task.phase));
  json.Set("status", Name(container.init().status()));
  json.Set("pid", int64_t{container.init().pid()});
  json.Set("starting", container.init().starting());
  json.Set("exit_told", container.exited());
  SetDeath(container.init().death(), &json);
  json.Set("bundle", container.bundle().directory());
  json.Set("runtime", container.driver().settings().binary);
  json.Set("calls_waiting", Count(task.calls_waiting));
  SetStdio(container.init().stdio_if_any(), &json);
  Json runs = Json::Array();
  for (const RuncRunInfo& run : container.driver().Runs()) {
    runs.Append(DumpRun(run));
  }
  json.Set("runtime_runs", std::move(runs));
  Json execs = Json::Array();
  for (const auto& [id, exec] : container.execs()) {
    execs.Append(DumpExec(*exec));
  }
  json.Set("execs", std::move(execs));
  return json;
}

Json DumpCalls(const Server& server) {
  Json json = Json::Array();
  for (const Server::CallInfo& call : server.Calls()) {
    Json entry = Json::Object();
    entry.Set("service", call.service);
    entry.Set("method", call.method);
    entry.Set("connection", call.connection);
    entry.Set("age_ms", absl::ToInt64Milliseconds(call.age));
    json.Append(std::move(entry));
  }
  return json;
}

Json DumpEvents(const EventPublisher& publisher) {
  Json json = Json::Object();
  json.Set("pending", Count(publisher.pending()));
  json.Set("pending_bytes", Count(publisher.pending_bytes()));
  json.Set("dropped", publisher.dropped());
  json.Set("answering", publisher.answering());
  Json topics = Json::Array();
  std::vector<std::string> all = publisher.PendingTopics();
  all.resize(std::min(all.size(), kMostTopics));
  for (const std::string& topic : all) topics.Append(topic);
  json.Set("topics", std::move(topics));
  return json;
}

// Number and target of each, but of the one that lists them.
Json DumpFds() {
  Json json = Json::Object();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir("/proc/self/fd"),
                                                closedir);
  if (dir == nullptr) return json;
  size_t listed = 0;
  while (const dirent* entry = readdir(dir.get())) {
    if (entry->d_name[0] == '.') continue;
    if (std::to_string(dirfd(dir.get())) == entry->d_name) continue;
    if (++listed > kMostFds) break;
    char target[4096];
    const ssize_t length =
        readlinkat(dirfd(dir.get()), entry->d_name, target, sizeof(target));
    if (length < 0) continue;
    json.Set(entry->d_name,
             std::string_view(target, static_cast<size_t>(length)));
  }
  return json;
}

Json DumpLog() {
  Json json = Json::Array();
  for (std::string& line : RecentLogLines()) {
    if (line.ends_with('\n')) line.pop_back();
    json.Append(line);
  }
  return json;
}

bool IsThere(const std::string& directory) {
  struct stat info;
  // A removed directory has no name left, though we may be in it.
  return stat(directory.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         info.st_nlink > 0;
}

}  // namespace

Json DumpState(const DumpSources& sources) {
  Json json = Json::Object();
  json.Set("version", kVersion);
  json.Set("time", absl::FormatTime(absl::RFC3339_full, absl::Now(),
                                    absl::UTCTimeZone()));
  json.Set("pid", int64_t{getpid()});
  Json tasks = Json::Array();
  for (const TaskService::TaskInfo& task : sources.tasks.Tasks()) {
    tasks.Append(DumpTask(task));
  }
  json.Set("tasks", std::move(tasks));
  json.Set("calls", DumpCalls(sources.server));
  json.Set("events", DumpEvents(sources.publisher));
  Json counts = Json::Object();
  counts.Set("connections", Count(sources.server.connections()));
  counts.Set("children", Count(sources.reaper.known_children()));
  counts.Set("strangers_reaped", sources.reaper.strangers_reaped());
  counts.Set("threads", sources.loop.threads());
  counts.Set("stdio_outliving_its_process", Count(sources.detached.size()));
  counts.Set("bytes_lost_with_it", sources.detached.counters().lost);
  counts.Set("unclaimed_answers", Count(sources.tasks.unclaimed_answers()));
  counts.Set("log_lines_dropped", DroppedLogLines());
  json.Set("counts", std::move(counts));
  json.Set("fds", DumpFds());
  json.Set("log", DumpLog());
  return json;
}

absl::StatusOr<std::string> WriteDump(const std::string& text,
                                      const TaskService& tasks) {
  std::vector<std::string> bundles = {"."};
  for (const TaskService::TaskInfo& task : tasks.Tasks()) {
    bundles.push_back(task.container->bundle().directory());
  }
  for (const std::string& bundle : bundles) {
    if (!IsThere(bundle)) continue;
    const std::string path = fmt::format("{}/{}", bundle, kDumpFile);
    RETURN_IF_ERROR(WriteFileAtomically(path, text, 0600, /*sync=*/false));
    const std::unique_ptr<char, void (*)(void*)> full(
        realpath(path.c_str(), nullptr), free);
    return full == nullptr ? path : std::string(full.get());
  }
  return absl::NotFoundError("no bundle is left to write the dump into");
}

}  // namespace wisp
