#include "shim/ttrpc/server.h"

#include <chrono>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "proto/ttrpc.pb.h"
#include "shim/ttrpc/channel.h"

namespace wisp {
namespace {

using Clock = std::chrono::steady_clock;

std::string EncodeResponse(uint32_t stream,
                           absl::StatusOr<std::string> result) {
  ttrpc::Response response;
  if (result.ok()) {
    response.set_payload(*std::move(result));
  } else {
    // No payload: clients decode it even beside an error.
    response.mutable_status()->set_code(
        static_cast<int>(result.status().code()));
    response.mutable_status()->set_message(
        std::string(Message(result.status())));
  }
  if (const size_t size = response.ByteSizeLong(); size > kMaxFramePayload) {
    // Sent as it is, it would make newer clients close the connection.
    return EncodeResponse(stream, PayloadTooLong(size));
  }
  return EncodeFrame(stream, FrameType::kResponse,
                     response.SerializeAsString());
}

}  // namespace

struct TtrpcServer::Stream {
  Target target;
  Clock::time_point since;
  RawCall::Ender ender;
  EventLoop::TimerHandle deadline;
};

struct TtrpcServer::Connection {
  std::shared_ptr<TtrpcChannel> channel;
  uint32_t last_stream = 0;
  std::map<uint32_t, Stream> streams;  // calls not answered yet

  void Reply(uint32_t stream, absl::StatusOr<std::string> result) {
    channel->Send(EncodeResponse(stream, std::move(result)));
  }
  // Ends every call. The channel is closed, so the answers go nowhere.
  void Cancel() {
    std::map<uint32_t, Stream> gone;
    gone.swap(streams);
    for (const auto& [id, stream] : gone) {
      stream.ender.End(absl::CancelledError("connection closed"));
    }
  }
};

TtrpcServer::TtrpcServer(EventLoop& loop, Hooks hooks)
    : Server(loop, std::move(hooks)) {}

TtrpcServer::~TtrpcServer() {
  ForgetHooks();
  StopListening();
  CloseAllConnections();
}

void TtrpcServer::AddConnection(UniqueFd socket) {
  const uint64_t id = next_connection_++;
  absl::StatusOr<std::shared_ptr<TtrpcChannel>> channel = TtrpcChannel::Create(
      loop(), std::move(socket),
      [this, id](Frame frame) { OnFrame(id, std::move(frame)); },
      [this, id] { Drop(id); });
  if (!channel.ok()) {
    // epoll is out of memory or watches; the peer sees a closed connection.
    TellTrouble(channel.status());
    return;
  }
  auto connection = std::make_shared<Connection>();
  connection->channel = *std::move(channel);
  connections_.emplace(id, std::move(connection));
  TellConnections();
}

void TtrpcServer::OnFrame(uint64_t id, Frame frame) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  const std::shared_ptr<Connection> connection = it->second;
  if (frame.oversize()) {
    connection->Reply(frame.stream, PayloadTooLong(frame.length));
  } else if (frame.stream % 2 == 0) {
    connection->Reply(frame.stream,
                      absl::InvalidArgumentError(
                          "StreamID must be odd for client initiated streams"));
  } else if (frame.type == FrameType::kRequest) {
    OnRequest(connection, std::move(frame));
  } else if (frame.type == FrameType::kData &&
             !connection->streams.contains(frame.stream)) {
    // For a call under way it is ignored: no method of ours is a stream, and an
    // answer here would be taken for the answer of the call.
    connection->Reply(frame.stream, absl::InvalidArgumentError(
                                        "StreamID is no longer active"));
  }
}

void TtrpcServer::OnRequest(const std::shared_ptr<Connection>& connection,
                            Frame frame) {
  const uint32_t id = frame.stream;
  if (id <= connection->last_stream) {
    connection->Reply(id, absl::InvalidArgumentError(
                              "StreamID cannot be re-used and must increment"));
    return;
  }
  connection->last_stream = id;
  ttrpc::Request request;
  if (!request.ParseFromString(frame.payload)) {
    connection->Reply(
        id, absl::InvalidArgumentError("unmarshal request error: proto: cannot "
                                       "parse invalid wire-format data"));
    return;
  }
  Target target;
  if (const absl::Status found =
          Find(request.service(), request.method(), &target);
      !found.ok()) {
    return connection->Reply(id, found);
  }

  RawCall::Metadata metadata;
  metadata.reserve(static_cast<size_t>(request.metadata_size()));
  for (ttrpc::KeyValue& pair : *request.mutable_metadata()) {
    metadata.emplace_back(absl::AsciiStrToLower(pair.key()),
                          std::move(*pair.mutable_value()));
  }
  RawCall call(std::move(*request.mutable_payload()), std::move(metadata),
               [weak = std::weak_ptr<Connection>(connection),
                id](absl::StatusOr<std::string> result) {
                 const std::shared_ptr<Connection> open = weak.lock();
                 if (open == nullptr) return;
                 open->streams.erase(id);
                 open->Reply(id, std::move(result));
               });
  // In the table before the handler runs, which may answer at once.
  Stream& stream = connection->streams[id];
  stream.target = target;
  stream.since = Clock::now();
  stream.ender = call.ender();
  if (const int64_t timeout = request.timeout_nano(); timeout != 0) {
    const auto expire = [ender = call.ender()] {
      ender.End(absl::DeadlineExceededError("context deadline exceeded"));
    };
    if (timeout < 0) {
      // Its client has given up already: better not begun at all.
      expire();
      return;
    }
    stream.deadline = loop().After(absl::Nanoseconds(timeout), expire);
  }
  (*target.method)(std::move(call));
}

void TtrpcServer::Drop(uint64_t id) {
  auto node = connections_.extract(id);
  if (node.empty()) return;
  node.mapped()->channel->Close();
  node.mapped()->Cancel();
  TellConnections();
}

void TtrpcServer::CloseAllConnections() {
  std::map<uint64_t, std::shared_ptr<Connection>> gone;
  gone.swap(connections_);
  if (gone.empty()) return;
  // All sockets before the first handler hears of it.
  for (const auto& [id, connection] : gone) connection->channel->Close();
  for (const auto& [id, connection] : gone) connection->Cancel();
  TellConnections();
}

size_t TtrpcServer::calls_in_flight() const {
  size_t count = 0;
  for (const auto& [id, connection] : connections_) {
    count += connection->streams.size();
  }
  return count;
}

std::vector<TtrpcServer::CallInfo> TtrpcServer::Calls() const {
  std::vector<CallInfo> calls;
  const Clock::time_point now = Clock::now();
  for (const auto& [id, connection] : connections_) {
    for (const auto& [stream_id, stream] : connection->streams) {
      calls.push_back({id, std::string(stream.target.service),
                       std::string(stream.target.name),
                       absl::FromChrono(now - stream.since)});
    }
  }
  return calls;
}

}  // namespace wisp
