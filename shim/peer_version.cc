#include "shim/peer_version.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <optional>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/fd.h"
#include "proto/task.pb.h"
#include "proto/ttrpc.pb.h"
#include "shim/ttrpc/frame.h"

namespace wisp {
namespace {

constexpr int kUnimplemented = 12;

absl::Status Gone() {
  return absl::UnavailableError("the shim of the group went away");
}

absl::StatusOr<UniqueFd> ConnectTo(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return Gone();
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    // A full backlog is a shim that is slow, which we cannot wait for here.
    if (errno == EAGAIN) return absl::DeadlineExceededError("backlog is full");
    return Gone();
  }
  return fd;
}

std::string ConnectRequest(int version, std::string_view namespace_name,
                           std::string_view id, uint32_t stream) {
  containerd::task::v3::ConnectRequest connect;
  connect.set_id(std::string(id));
  ttrpc::Request request;
  request.set_service(fmt::format("containerd.task.v{}.Task", version));
  request.set_method("Connect");
  request.set_payload(connect.SerializeAsString());
  ttrpc::KeyValue* metadata = request.add_metadata();
  metadata->set_key("containerd-namespace-ttrpc");
  metadata->set_value(std::string(namespace_name));
  return EncodeFrame(stream, FrameType::kRequest, request.SerializeAsString());
}

// The code of the answer to a Connect: also "not found" is one that only those
// who know the service give.
absl::StatusOr<int> AskForCode(int fd, const std::string& request,
                               uint32_t stream, absl::Time deadline) {
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return Gone();
  }
  FrameDecoder decoder;
  for (;;) {
    pollfd ready = {fd, POLLIN, 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0 || poll(&ready, 1, static_cast<int>(left)) == 0) {
      return absl::DeadlineExceededError("no answer");
    }
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return Gone();
    std::string_view input(buffer, static_cast<size_t>(n));
    while (std::optional<Frame> frame = decoder.Next(&input)) {
      if (frame->stream != stream || frame->type != FrameType::kResponse) {
        continue;
      }
      ttrpc::Response response;
      if (!response.ParseFromString(frame->payload)) return 0;
      return response.status().code();
    }
  }
}

}  // namespace

absl::StatusOr<int> ProbeTaskVersion(const std::string& socket_path,
                                     std::string_view namespace_name,
                                     std::string_view id,
                                     absl::Duration limit) {
  const absl::Time deadline = absl::Now() + limit;
  absl::StatusOr<UniqueFd> fd = ConnectTo(socket_path);
  absl::Status trouble = fd.status();
  uint32_t stream = 1;
  for (int version = 3; trouble.ok() && version >= 2; --version) {
    const absl::StatusOr<int> code = AskForCode(
        fd->get(), ConnectRequest(version, namespace_name, id, stream), stream,
        deadline);
    if (code.ok() && *code != kUnimplemented) return version;
    trouble = code.status();
    stream += 2;
  }
  if (absl::IsUnavailable(trouble)) return trouble;
  return 3;
}

}  // namespace wisp
