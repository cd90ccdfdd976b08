#include "shim/ttrpc/sync_call.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <optional>
#include <string_view>

#include "absl/time/clock.h"
#include "shim/ttrpc/frame.h"

namespace wisp {
namespace {

absl::Status Gone() { return absl::UnavailableError("the shim went away"); }

}  // namespace

absl::StatusOr<UniqueFd> ConnectToShim(const std::string& socket_path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) return Gone();
  memcpy(address.sun_path, socket_path.data(), socket_path.size());
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

absl::StatusOr<ttrpc::Response> CallShim(int fd, uint32_t stream,
                                         const ttrpc::Request& request,
                                         absl::Time deadline) {
  const std::string frame =
      EncodeFrame(stream, FrameType::kRequest, request.SerializeAsString());
  if (send(fd, frame.data(), frame.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(frame.size())) {
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
    while (std::optional<Frame> answer = decoder.Next(&input)) {
      if (answer->stream != stream || answer->type != FrameType::kResponse) {
        continue;
      }
      ttrpc::Response response;
      if (!response.ParseFromString(answer->payload)) {
        return absl::DataLossError("the answer does not parse");
      }
      return response;
    }
  }
}

}  // namespace wisp
