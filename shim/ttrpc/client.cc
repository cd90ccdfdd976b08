#include "shim/ttrpc/client.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

#include "fmt/format.h"
#include "process/fd.h"
#include "proto/ttrpc.pb.h"

namespace wisp {
namespace {

// Streams are odd numbers of 32 bits that never repeat.
constexpr uint64_t kMaxCallsPerConnection = uint64_t{1} << 31;
constexpr int kLastCode = static_cast<int>(absl::StatusCode::kUnauthenticated);

absl::StatusOr<UniqueFd> ConnectTo(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::UnavailableError(
        fmt::format("connect {}: a socket's path has 1 to {} bytes", path,
                    sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return absl::UnavailableError(fmt::format("socket: {}", ErrnoText(errno)));
  }
  // Unix sockets connect at once or not at all; a full backlog is EAGAIN.
  int result;
  do {
    result = connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                     sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    return absl::UnavailableError(
        fmt::format("connect {}: {}", path, ErrnoText(errno)));
  }
  return fd;
}

absl::StatusOr<std::string> ResultOf(Frame frame) {
  if (frame.oversize()) return PayloadTooLong(frame.length);
  ttrpc::Response response;
  if (!response.ParseFromString(frame.payload)) {
    return absl::InternalError("ttrpc: response cannot be parsed");
  }
  if (const int code = response.status().code(); code != 0) {
    const bool known = code > 0 && code <= kLastCode;
    return absl::Status(known ? static_cast<absl::StatusCode>(code)
                              : absl::StatusCode::kUnknown,
                        response.status().message());
  }
  return std::move(*response.mutable_payload());
}

}  // namespace

TtrpcClient::TtrpcClient(EventLoop& loop, std::string path)
    : loop_(loop), path_(std::move(path)) {}

TtrpcClient::~TtrpcClient() {
  if (channel_ != nullptr) channel_->Close();
}

absl::Status TtrpcClient::Connect() {
  ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(path_));
  absl::StatusOr<std::shared_ptr<TtrpcChannel>> channel = TtrpcChannel::Create(
      loop_, std::move(socket),
      [this](Frame frame) { OnFrame(std::move(frame)); },
      [this] { Disconnect(); });
  if (!channel.ok()) {
    return absl::UnavailableError(std::string(Message(channel.status())));
  }
  channel_ = *std::move(channel);
  first_call_ = next_call_;
  return absl::OkStatus();
}

void TtrpcClient::Call(std::string_view service, std::string_view method,
                       std::string payload, const RawCall::Metadata& metadata,
                       absl::Duration timeout, Done<std::string> done) {
  if (next_call_ - first_call_ >= kMaxCallsPerConnection) Disconnect();
  absl::Status status = absl::OkStatus();
  if (channel_ == nullptr) status = Connect();

  ttrpc::Request request;
  request.set_service(std::string(service));
  request.set_method(std::string(method));
  request.set_payload(std::move(payload));
  if (timeout != absl::InfiniteDuration()) {
    request.set_timeout_nano(absl::ToInt64Nanoseconds(timeout));
  }
  for (const auto& [key, value] : metadata) {
    ttrpc::KeyValue* pair = request.add_metadata();
    pair->set_key(key);
    pair->set_value(value);
  }
  if (const size_t size = request.ByteSizeLong();
      status.ok() && size > kMaxFramePayload) {
    status = PayloadTooLong(size);
  }

  const uint64_t id = next_call_++;
  Pending& call = calls_[id];
  call.done = std::move(done);
  if (!status.ok()) {
    call.timer = loop_.After(absl::ZeroDuration(),
                             [this, id, status] { Finish(id, status); });
    return;
  }
  if (timeout != absl::InfiniteDuration()) {
    call.timer = loop_.After(timeout, [this, id] {
      Finish(id, absl::DeadlineExceededError("context deadline exceeded"));
    });
  }
  channel_->Send(EncodeFrame(static_cast<uint32_t>(2 * (id - first_call_) + 1),
                             FrameType::kRequest, request.SerializeAsString()));
}

void TtrpcClient::OnFrame(Frame frame) {
  if (frame.type != FrameType::kResponse || frame.stream % 2 == 0) return;
  const uint64_t id = first_call_ + frame.stream / 2;
  Finish(id, ResultOf(std::move(frame)));
}

void TtrpcClient::Finish(uint64_t id, absl::StatusOr<std::string> result) {
  auto node = calls_.extract(id);
  if (node.empty()) return;  // answered late, or never asked
  std::move(node.mapped().done)(std::move(result));
}

void TtrpcClient::Disconnect() {
  if (channel_ == nullptr) return;
  std::exchange(channel_, nullptr)->Close();
  // A completion may call again, on a new connection.
  std::map<uint64_t, Pending> gone;
  gone.swap(calls_);
  for (auto& [id, call] : gone) {
    std::move(call.done)(absl::UnavailableError("ttrpc: closed"));
  }
}

}  // namespace wisp
