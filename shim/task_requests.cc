#include "shim/task_requests.h"

#include <utility>

#include "fmt/format.h"
#include "process/json.h"
#include "proto/linux_runc_options.pb.h"
#include "proto/runc_options.pb.h"
#include "shim/options.h"
#include "shim/runtime_options.h"
#include "shim/timestamps.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

template <typename Request>
StdioRequest StdioOf(const Request& request, const RuncOptions& options,
                     const std::string& process_id,
                     std::string_view namespace_name) {
  StdioRequest stdio;
  stdio.terminal = request.terminal();
  stdio.stdin_path = request.stdin();
  stdio.stdout_path = request.stdout();
  stdio.stderr_path = request.stderr();
  stdio.io_uid = options.io_uid;
  stdio.io_gid = options.io_gid;
  stdio.process_id = process_id;
  stdio.container_ns = std::string(namespace_name);
  return stdio;
}

template <typename Options>
CheckpointOptions FromMessage(const Options& message) {
  CheckpointOptions options;
  options.work_path = message.work_path();
  options.leave_running = !message.exit();
  options.open_tcp = message.open_tcp();
  options.external_unix_sockets = message.external_unix_sockets();
  options.shell_job = message.terminal();
  options.file_locks = message.file_locks();
  options.empty_namespaces.assign(message.empty_namespaces().begin(),
                                  message.empty_namespaces().end());
  return options;
}

std::string_view TypeName(const std::string& url) {
  return std::string_view(url).substr(url.rfind('/') + 1);
}

void SetExit(const ExitStatus& status, api::StateResponse* response) {
  response->set_exit_status(status.code);
  *response->mutable_exited_at() = ToTimestamp(status.at);
}

void SetStdio(const StdioRequest& stdio, api::StateResponse* response) {
  response->set_stdin(stdio.stdin_path);
  response->set_stdout(stdio.stdout_path);
  response->set_stderr(stdio.stderr_path);
  response->set_terminal(stdio.terminal);
}

}  // namespace

absl::StatusOr<ContainerConfig> ToContainerConfig(
    const api::CreateTaskRequest& request, std::string_view namespace_name) {
  RETURN_IF_ERROR(ValidateIdentifier(request.id()));
  if (!request.bundle().starts_with('/')) {
    return absl::InvalidArgumentError(
        fmt::format("bundle \"{}\" is no absolute path", request.bundle()));
  }
  ContainerConfig config;
  config.id = request.id();
  config.bundle = request.bundle();
  ASSIGN_OR_RETURN(config.options, DecodeRuntimeOptions(request.options()));
  for (const containerd::types::Mount& mount : request.rootfs()) {
    config.rootfs.push_back(
        Mount{.type = mount.type(),
              .source = mount.source(),
              .target = mount.target(),
              .options = {mount.options().begin(), mount.options().end()}});
  }
  config.stdio = StdioOf(request, config.options, request.id(), namespace_name);
  config.checkpoint = request.checkpoint();
  if (config.checkpoint.empty() &&
      IsLegacyOptionsType(request.options().type_url())) {
    // A 1.x daemon reads the path to restore from in the options of runtimes
    // that are named like runc, and leaves it there for all others
    // (getRestorePath, services/tasks/local.go@v1.7.24).
    config.checkpoint = config.options.criu_image_path;
  }
  config.parent_checkpoint = request.parent_checkpoint();
  return config;
}

StdioRequest ToStdioRequest(const api::ExecProcessRequest& request,
                            const ContainerConfig& config) {
  return StdioOf(request, config.options, request.exec_id(),
                 config.stdio.container_ns);
}

absl::StatusOr<std::string> ToProcessJson(
    const api::ExecProcessRequest& request) {
  ASSIGN_OR_RETURN(Json process, Json::Parse(request.spec().value()));
  if (!process.view().is_object()) {
    return absl::InvalidArgumentError("spec is no JSON object");
  }
  if (request.terminal()) {
    process.Set("terminal", true);
  } else {
    process.Remove("terminal");
  }
  return process.Dump();
}

absl::StatusOr<std::string> ToResourcesJson(const google::protobuf::Any& any) {
  ASSIGN_OR_RETURN(const Json resources, Json::Parse(any.value()));
  if (!resources.view().is_object()) {
    return absl::InvalidArgumentError("resources are no JSON object");
  }
  return any.value();
}

absl::StatusOr<CheckpointOptions> ToCheckpointOptions(
    const api::CheckpointTaskRequest& request) {
  CheckpointOptions options;
  options.leave_running = true;
  options.image_path = request.path();
  const google::protobuf::Any& any = request.options();
  const std::string_view type = TypeName(any.type_url());
  if (type.empty()) {
    // No options: all are off.
  } else if (type == "containerd.runc.v1.CheckpointOptions") {
    containerd::runc::v1::CheckpointOptions message;
    if (!message.ParseFromString(any.value())) {
      return absl::InvalidArgumentError("cannot parse the checkpoint options");
    }
    options = FromMessage(message);
    options.image_path = request.path();
    options.parent_path = message.parent_path();
  } else if (type == "containerd.linux.runc.CheckpointOptions") {
    containerd::linux::runc::CheckpointOptions message;
    if (!message.ParseFromString(any.value())) {
      return absl::InvalidArgumentError("cannot parse the checkpoint options");
    }
    options = FromMessage(message);
    // The daemon, which knows only the newer type, has made a directory of its
    // own for the request and will find it empty.
    options.image_path =
        message.image_path().empty() ? request.path() : message.image_path();
  } else {
    return absl::InvalidArgumentError(
        fmt::format("type with url {}: not supported", any.type_url()));
  }
  return options;
}

api::StateResponse StateOfInit(const Container& container) {
  const InitProcess& init = container.init();
  api::StateResponse response;
  response.set_id(container.config().id);
  response.set_bundle(container.config().bundle);
  response.set_pid(static_cast<uint32_t>(init.pid()));
  response.set_status(
      static_cast<containerd::v1::types::Status>(init.status()));
  SetStdio(container.config().stdio, &response);
  SetExit(container.exited() ? *init.death() : ExitStatus(), &response);
  return response;
}

api::StateResponse StateOfExec(const Container& container,
                               const ExecProcess& exec) {
  api::StateResponse response;
  response.set_id(exec.id());
  response.set_bundle(container.config().bundle);
  response.set_pid(static_cast<uint32_t>(exec.pid()));
  // A frozen cgroup freezes execs as well.
  TaskStatus status = StatusOf(exec.state());
  if (container.init().status() == TaskStatus::kPaused ||
      container.init().status() == TaskStatus::kPausing) {
    status = container.init().status();
  }
  response.set_status(static_cast<containerd::v1::types::Status>(status));
  SetStdio(exec.request(), &response);
  SetExit(exec.state() == ExecState::kStopped ? *exec.death() : ExitStatus(),
          &response);
  return response;
}

}  // namespace wisp
