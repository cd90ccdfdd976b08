#include "shim/grpc/transport.h"

#include <grpc/support/log.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/generic_stub.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "process/json.h"
#include "shim/grpc/bytes.h"
#include "shim/grpc/server.h"
#include "shim/identity.h"
#include "shim/log_line.h"

namespace wisp {
namespace {

// 1.7 takes nothing above 2, and means with it what every other daemon calls 3,
// since over gRPC it has only ever called the service containerd.task.v3.Task
// (runtime/v2/{shim,bridge}.go@v1.7.24). It connects to the bare path: with a
// scheme its first try, a plain connect, fails.
std::string FormatAddress(std::string_view socket_path) {
  Json params = Json::Object();
  params.Set("version", 2);
  params.Set("address", std::string(socket_path));
  params.Set("protocol", "grpc");
  return params.Dump();
}

std::string ParseAddress(std::string_view text) {
  const absl::StatusOr<Json> params = Json::Parse(text);
  if (!params.ok()) return "";
  return std::string((*params)["address"].StringOr(""));
}

absl::Status CheckDaemon(const ShimOptions& options,
                         const StartRequest& request) {
  if (request.reply == StartRequest::Reply::kAddress &&
      !options.max_version_known) {
    return absl::FailedPreconditionError(
        "containerd 1.6 does not speak gRPC to shims; its runtime is "
        "io.containerd.wisp.v2");
  }
  return absl::OkStatus();
}

// No other shim has sockets of such names.
absl::StatusOr<int> ProbeVersion(const std::string& socket_path,
                                 std::string_view namespace_name,
                                 std::string_view id, absl::Duration limit) {
  (void)socket_path, (void)namespace_name, (void)id, (void)limit;
  return 3;
}

absl::StatusOr<std::string> CallMethod(UniqueFd connection,
                                       std::string_view service,
                                       std::string_view method,
                                       absl::Time deadline) {
  grpc::GenericStub stub(
      grpc::CreateInsecureChannelFromFd("shim", connection.Release()));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  grpc::CompletionQueue queue;
  const std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader =
      stub.PrepareUnaryCall(&context, fmt::format("/{}/{}", service, method),
                            grpc::ByteBuffer(nullptr, 0), &queue);
  reader->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  reader->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  // It ends at the deadline, if nothing else ends it.
  (void)queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        status.error_message());
  }
  return BytesOf(answer);
}

// What grpc++ has to say, from any of its threads: a line of our format, in one
// write, so it cannot get into one of ours.
void WriteLog(gpr_log_func_args* args) {
  const std::string_view level =
      args->severity == GPR_LOG_SEVERITY_ERROR  ? "error"
      : args->severity == GPR_LOG_SEVERITY_INFO ? "info"
                                                : "debug";
  const std::string line =
      FormatLogLine(absl::Now(), level, "grpc", {{"error", args->message}});
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

absl::StatusOr<std::unique_ptr<Server>> MakeServer(EventLoop& loop,
                                                   Server::Hooks hooks) {
  gpr_set_log_function(WriteLog);
  return GrpcServer::Create(loop, std::move(hooks));
}

}  // namespace

const Transport kGrpc = {
    .protocol = "grpc",
    .scheme = "",
    .socket_key_suffix = "/grpc",
    .format_address = FormatAddress,
    .parse_address = ParseAddress,
    .check_daemon = CheckDaemon,
    .probe_version = ProbeVersion,
    .call = CallMethod,
    .make_server = MakeServer,
};

}  // namespace wisp
