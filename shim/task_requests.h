// What the Task API's messages mean in our own structs, and back.
#ifndef WISP_SHIM_TASK_REQUESTS_H_
#define WISP_SHIM_TASK_REQUESTS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "google/protobuf/any.pb.h"
#include "process/runc.h"
#include "process/status_macros.h"
#include "process/stdio.h"
#include "proto/task.pb.h"
#include "shim/call.h"
#include "shim/container.h"

namespace wisp {

// Errors: kInvalidArgument for ids that are no file names, a bundle that is no
// absolute path, options that we cannot read.
absl::StatusOr<ContainerConfig> ToContainerConfig(
    const containerd::task::v3::CreateTaskRequest& request,
    std::string_view namespace_name);

// The stdio of an exec: pipes belong to whoever those of init belong to.
StdioRequest ToStdioRequest(
    const containerd::task::v3::ExecProcessRequest& request,
    const ContainerConfig& config);

// The OCI process of an exec, with the request's word on the terminal; members
// that we do not know are kept. Error: kInvalidArgument.
absl::StatusOr<std::string> ToProcessJson(
    const containerd::task::v3::ExecProcessRequest& request);

// Resources as JSON, unchanged. Error: kInvalidArgument if it is no object.
absl::StatusOr<std::string> ToResourcesJson(const google::protobuf::Any& any);

// Understands containerd.runc.v1.CheckpointOptions, and the older type that 1.x
// clients send to runtimes of other names, in which the two paths have changed
// places, and whose image path goes before the request's. Error:
// kInvalidArgument for another type.
absl::StatusOr<CheckpointOptions> ToCheckpointOptions(
    const containerd::task::v3::CheckpointTaskRequest& request);

containerd::task::v3::StateResponse StateOfInit(const Container& container);
containerd::task::v3::StateResponse StateOfExec(const Container& container,
                                                const ExecProcess& exec);

// The W3C trace context of a call as environment of the runtime and its hooks.
// Go's shim does this only in builds with tracing, where an exporter is
// configured. We export nothing ourselves, so what counts is the call: it
// carries a context when the daemon traces.
template <typename Req, typename Res>
std::vector<std::string> TraceEnvironment(const Call<Req, Res>& call) {
  std::vector<std::string> environment;
  for (const auto& [key, name] : {std::pair("traceparent", "TRACEPARENT="),
                                  std::pair("tracestate", "TRACESTATE="),
                                  std::pair("baggage", "BAGGAGE=")}) {
    const std::string_view value = call.metadata(key);
    if (!value.empty()) environment.push_back(name + std::string(value));
  }
  return environment;
}

}  // namespace wisp

#endif  // WISP_SHIM_TASK_REQUESTS_H_
