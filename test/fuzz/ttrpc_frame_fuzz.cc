// Any bytes are frames, the same ones however they are cut, and what a server
// makes of them it can answer on the same connection.
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "process/event_loop.h"
#include "process/fd.h"
#include "proto/ttrpc.pb.h"
#include "shim/ttrpc/frame.h"
#include "shim/ttrpc/server.h"

namespace wisp {
namespace {

std::vector<Frame> Decode(std::string_view data, size_t step) {
  FrameDecoder decoder;
  std::vector<Frame> frames;
  while (!data.empty()) {
    std::string_view input = data.substr(0, step);
    data.remove_prefix(input.size());
    while (std::optional<Frame> frame = decoder.Next(&input)) {
      frames.push_back(*std::move(frame));
    }
    WISP_CHECK(input.empty());
  }
  return frames;
}

void CheckDecoder(std::string_view data) {
  const std::vector<Frame> whole = Decode(data, data.size());
  for (const size_t step : {size_t{1}, size_t{7}}) {
    const std::vector<Frame> cut = Decode(data, step);
    WISP_CHECK(cut.size() == whole.size());
    for (size_t i = 0; i < cut.size(); ++i) {
      WISP_CHECK(cut[i].stream == whole[i].stream);
      WISP_CHECK(cut[i].type == whole[i].type);
      WISP_CHECK(cut[i].payload == whole[i].payload);
      WISP_CHECK(cut[i].length == whole[i].length);
    }
  }
}

void CheckServer(std::string_view data) {
  const std::unique_ptr<EventLoop> loop = *EventLoop::Create();
  Methods methods;
  methods["M"] = [](RawCall call) { call.Respond(call.payload()); };
  TtrpcServer server(*loop, TtrpcServer::Hooks());
  server.Register("S", &methods);
  int ends[2];
  WISP_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                        ends) == 0);
  server.AddConnection(UniqueFd(ends[0]));
  UniqueFd peer(ends[1]);
  FrameDecoder decoder;
  bool more = true;
  while (more) {
    const ssize_t sent =
        send(peer.get(), data.data(), data.size(), MSG_NOSIGNAL);
    if (sent > 0) data.remove_prefix(static_cast<size_t>(sent));
    loop->RunOnce(absl::ZeroDuration());
    WISP_CHECK(server.connections() == 1);
    char buffer[65536];
    const ssize_t n = recv(peer.get(), buffer, sizeof(buffer), 0);
    std::string_view input(buffer, n > 0 ? static_cast<size_t>(n) : 0);
    while (std::optional<Frame> frame = decoder.Next(&input)) {
      ttrpc::Response response;
      WISP_CHECK(frame->type == FrameType::kResponse && !frame->oversize());
      WISP_CHECK(response.ParseFromString(frame->payload));
    }
    more = !data.empty() || n > 0;
  }
}

}  // namespace
}  // namespace wisp

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  wisp::CheckDecoder(bytes);
  wisp::CheckServer(bytes);
  return 0;
}
