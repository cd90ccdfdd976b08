#include "test/support/grpc_test_client.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <utility>

#include "fmt/format.h"
#include "shim/grpc/bytes.h"

namespace wisp {

struct GrpcTestClient::Pending {
  Done<std::string> done;
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
  grpc::ByteBuffer response;
  grpc::Status status;
};

GrpcTestClient::GrpcTestClient(EventLoop& loop, std::string path)
    : loop_(loop),
      path_(std::move(path)),
      self_(std::make_shared<GrpcTestClient*>(this)) {
  thread_ = std::thread([this, weak = std::weak_ptr(self_)] {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      loop_.Post([weak, id = reinterpret_cast<uint64_t>(tag)] {
        if (const auto self = weak.lock()) (*self)->Finish(id);
      });
    }
  });
}

GrpcTestClient::~GrpcTestClient() {
  self_.reset();
  if (socket_.valid()) shutdown(socket_.get(), SHUT_RDWR);
  for (const auto& [id, call] : held_) call->context.TryCancel();
  stub_.reset();
  queue_.Shutdown();
  thread_.join();
}

absl::Status GrpcTestClient::Connect() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    return absl::UnavailableError(fmt::format("connect: {}", strerror(errno)));
  }
  RETURN_IF_ERROR(SetNonblocking(socket.get()));
  socket_ = UniqueFd(fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  stub_ = std::make_unique<grpc::GenericStub>(
      grpc::CreateInsecureChannelFromFd("shim", socket.Release()));
  return absl::OkStatus();
}

void GrpcTestClient::Call(std::string_view service, std::string_view method,
                          std::string payload,
                          const RawCall::Metadata& metadata,
                          absl::Duration timeout, Done<std::string> done) {
  const uint64_t id = next_call_++;
  const auto call = std::make_shared<Pending>();
  call->done = std::move(done);
  calls_[id] = call;
  held_[id] = call;
  // As ever, a connection that is lost is noticed with the next call.
  char byte;
  if (socket_.valid() &&
      recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
    stub_.reset();
    socket_.Reset();
  }
  if (stub_ == nullptr) {
    if (const absl::Status connected = Connect(); !connected.ok()) {
      call->status = grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                  std::string(Message(connected)));
      loop_.Post([weak = std::weak_ptr(self_), id] {
        if (const auto self = weak.lock()) (*self)->Finish(id);
      });
      return;
    }
  }
  for (const auto& [key, value] : metadata) {
    call->context.AddMetadata(key, value);
  }
  if (timeout < absl::InfiniteDuration()) {
    call->context.set_deadline(std::chrono::system_clock::now() +
                               absl::ToChronoMicroseconds(timeout));
  }
  const grpc::Slice slice(payload);
  call->reader = stub_->PrepareUnaryCall(&call->context,
                                         fmt::format("/{}/{}", service, method),
                                         grpc::ByteBuffer(&slice, 1), &queue_);
  call->reader->StartCall();
  call->reader->Finish(&call->response, &call->status,
                       reinterpret_cast<void*>(id));
}

void GrpcTestClient::Finish(uint64_t id) {
  const auto held = held_.extract(id);
  const auto found = calls_.extract(id);
  if (found.empty()) return;
  Pending& call = *found.mapped();
  if (!call.status.ok()) {
    std::move(call.done)(
        absl::Status(static_cast<absl::StatusCode>(call.status.error_code()),
                     call.status.error_message()));
    return;
  }
  std::move(call.done)(BytesOf(call.response));
}

void GrpcTestClient::Disconnect() {
  if (socket_.valid()) shutdown(socket_.get(), SHUT_RDWR);
  socket_.Reset();
  stub_.reset();
  std::map<uint64_t, std::shared_ptr<Pending>> gone;
  gone.swap(calls_);
  for (const auto& [id, call] : gone) {
    std::move(call->done)(absl::UnavailableError("disconnected"));
  }
}

void GrpcTestClient::CancelLast() {
  if (!calls_.empty()) calls_.rbegin()->second->context.TryCancel();
}

const TestTransport kTestTransport = {
    .binary = WISP_SHIM_BINARY,
    .scheme = "",
    .protocol = "grpc",
    .connect = [](EventLoop& loop,
                  const std::string& path) -> std::unique_ptr<TestClient> {
      return std::make_unique<GrpcTestClient>(loop, path);
    },
};

}  // namespace wisp
