#include "shim/grpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>
#include <grpcpp/server_posix.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "shim/grpc/bytes.h"
#include "shim/ttrpc/frame.h"

namespace wisp {
namespace {

using Clock = std::chrono::steady_clock;

// "/SERVICE/METHOD".
std::pair<std::string_view, std::string_view> SplitPath(std::string_view path) {
  if (path.starts_with('/')) path.remove_prefix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {path, ""};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// The codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(Message(status)));
}

}  // namespace

// One call: waits for it, reads its request, runs the method, answers. It goes
// when grpc++ has given back all tags. All on the loop.
class GrpcServer::Incoming : public std::enable_shared_from_this<Incoming> {
 public:
  Incoming(GrpcServer& server, uint64_t id) : server_(server), id_(id) {
    arrived_ = [this](bool ok) { OnArrived(ok); };
    read_ = [this](bool ok) { OnRead(ok); };
    over_ = [this](bool) { OnOver(); };
    sent_ = [this](bool) { OnSent(); };
    context_.AsyncNotifyWhenDone(&over_);
    grpc::ServerCompletionQueue* const queue = server.completions_->queue();
    server.service_.RequestCall(&context_, &stream_, queue, queue, &arrived_);
  }

  bool alive() const { return ender_.alive(); }
  void End(const absl::Status& why) { ender_.End(why); }

  CallInfo Info() const {
    return {connection_, std::string(target_.service),
            std::string(target_.name), absl::FromChrono(Clock::now() - since_)};
  }

 private:
  void OnArrived(bool ok) {
    const std::shared_ptr<Incoming> self = shared_from_this();
    if (!ok) {
      // The server ends. The tag of the end never comes for this one.
      server_.calls_.erase(id_);
      return;
    }
    pending_ = 1;  // over_
    connection_ = server_.ConnectionOf(context_.peer());
    server_.AcceptCall();
    const auto [service, method] = SplitPath(context_.method());
    if (const absl::Status found = server_.Find(service, method, &target_);
        !found.ok()) {
      return Answer(found);
    }
    ++pending_;
    stream_.Read(&request_, &read_);
  }

  void OnRead(bool ok) {
    const std::shared_ptr<Incoming> self = shared_from_this();
    --pending_;
    // With the end of connections comes the end of service: nothing may begin
    // that nobody will hear of. Nor for a client that has given up already.
    if (is_over_ || server_.closing_) return ForgetIfOver();
    if (Late()) return Answer(absl::DeadlineExceededError("too late to begin"));
    if (!ok) {
      return Answer(absl::UnimplementedError("a call has one request"));
    }
    RawCall::Metadata metadata;
    for (const auto& [key, value] : context_.client_metadata()) {
      metadata.emplace_back(std::string(key.data(), key.size()),
                            std::string(value.data(), value.size()));
    }
    RawCall call(BytesOf(request_), std::move(metadata),
                 [weak = weak_from_this()](absl::StatusOr<std::string> result) {
                   const std::shared_ptr<Incoming> open = weak.lock();
                   if (open != nullptr) open->Answer(std::move(result));
                 });
    request_.Clear();
    since_ = Clock::now();
    ender_ = call.ender();
    const auto connection = server_.connections_.find(connection_);
    if (connection != server_.connections_.end()) {
      connection->second.called = true;
    }
    (*target_.method)(std::move(call));
  }

  // Answered and sent, or ended by the client, its connection or its deadline,
  // all of which grpc++ watches. A client that gives up at its deadline does so
  // by its own clock, which may be before ours has come as far.
  void OnOver() {
    const std::shared_ptr<Incoming> self = shared_from_this();
    --pending_;
    is_over_ = true;
    if (context_.IsCancelled()) {
      End(Late() ? absl::DeadlineExceededError("context deadline exceeded")
                 : absl::CancelledError("call ended by its client"));
    }
    ForgetIfOver();
  }

  void Answer(absl::StatusOr<std::string> result) {
    if (is_over_ || server_.grpc_ == nullptr) return;
    if (result.ok() && result->size() > kMaxMessage) {
      result = PayloadTooLong(result->size());
    }
    ++pending_;
    ++server_.answers_under_way_;
    if (result.ok()) {
      const grpc::Slice slice(*result);
      response_ = grpc::ByteBuffer(&slice, 1);
      stream_.WriteAndFinish(response_, grpc::WriteOptions(), grpc::Status(),
                             &sent_);
    } else {
      stream_.Finish(ToGrpc(result.status()), &sent_);
    }
  }

  void OnSent() {
    const std::shared_ptr<Incoming> self = shared_from_this();
    --pending_;
    server_.OnAnswered();
    ForgetIfOver();
  }

  bool Late() const {
    return context_.deadline() <= std::chrono::system_clock::now();
  }
  void ForgetIfOver() {
    if (is_over_ && pending_ == 0) server_.calls_.erase(id_);
  }

  GrpcServer& server_;
  const uint64_t id_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  Completions::Tag arrived_;
  Completions::Tag read_;
  Completions::Tag over_;
  Completions::Tag sent_;
  int pending_ = 0;  // tags that will come back
  bool is_over_ = false;
  uint64_t connection_ = 0;
  Target target_;
  Clock::time_point since_;
  RawCall::Ender ender_;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Create(EventLoop& loop,
                                                               Hooks hooks) {
  std::unique_ptr<GrpcServer> server(new GrpcServer(loop, std::move(hooks)));
  grpc::ServerBuilder builder;
  builder.RegisterAsyncGenericService(&server->service_);
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessage));
  // No reason of grpc++'s own may end a connection: a client that pings a lot,
  // or one that is stopped in a debugger and answers no ping.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
  // On a unix socket there is no bandwidth to find out, and nobody looks at
  // statistics.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  // Before the server: without one a queue can end, too.
  ASSIGN_OR_RETURN(server->completions_,
                   Completions::Create(loop, builder.AddCompletionQueue()));
  server->grpc_ = builder.BuildAndStart();
  if (server->grpc_ == nullptr) {
    return absl::InternalError("gRPC server does not start");
  }
  server->AcceptCall();
  return server;
}

GrpcServer::GrpcServer(EventLoop& loop, Hooks hooks)
    : Server(loop, std::move(hooks)) {}

GrpcServer::~GrpcServer() {
  ForgetHooks();
  StopListening();
  closing_ = true;
  ShutDownConnections();
  if (grpc_ != nullptr) grpc_->Shutdown(std::chrono::system_clock::now());
  completions_.reset();
  // Handlers that answer from here on answer nobody.
  const std::unique_ptr<grpc::Server> gone = std::move(grpc_);
  EndCalls();
  calls_.clear();
}

void GrpcServer::AddConnection(UniqueFd socket) {
  const uint64_t id = next_connection_;
  const int fd = socket.get();
  absl::StatusOr<Connection> connection = Watch(fd, id);
  if (!connection.ok()) {
    // Out of fds, memory or watches; the peer sees a closed connection.
    TellTrouble(connection.status());
    return;
  }
  ++next_connection_;
  connections_.emplace(id, *std::move(connection));
  grpc::AddInsecureChannelFromFd(grpc_.get(), socket.Release());
  TellConnections();
}

absl::StatusOr<GrpcServer::Connection> GrpcServer::Watch(int socket,
                                                         uint64_t id) {
  Connection connection;
  connection.grpc_fd = socket;
  connection.since = Clock::now();
  connection.socket = UniqueFd(fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (!connection.socket.valid()) return ErrnoStatus(errno, "dup");
  // Not EPOLLIN: what comes in is for grpc++.
  ASSIGN_OR_RETURN(connection.watch,
                   loop().Watch(connection.socket.get(), EPOLLRDHUP,
                                [this, id](uint32_t) { Drop(id); }));
  return connection;
}

uint64_t GrpcServer::ConnectionOf(std::string_view peer) const {
  // "fd:N", by the descriptor that grpc++ has.
  int fd = -1;
  (void)absl::SimpleAtoi(std::string(peer.substr(peer.find(':') + 1)), &fd);
  for (const auto& [id, connection] : connections_) {
    if (connection.grpc_fd == fd) return id;
  }
  return next_connection_;  // one that has gone
}

absl::StatusOr<size_t> GrpcServer::AcceptPending() {
  size_t lately = 0;
  const Clock::time_point now = Clock::now();
  for (const auto& [id, connection] : connections_) {
    pollfd end = {.fd = connection.socket.get(), .events = POLLRDHUP};
    if (!connection.called &&
        now - connection.since < absl::ToChronoSeconds(kNew) &&
        poll(&end, 1, 0) == 0) {
      ++lately;
    }
  }
  const absl::StatusOr<size_t> waiting = Server::AcceptPending();
  if (!waiting.ok() && lately == 0) return waiting;
  return lately + waiting.value_or(0);
}

void GrpcServer::Drop(uint64_t id) {
  // grpc++ has its own descriptor, and ends the connection's calls.
  if (!connections_.extract(id).empty()) TellConnections();
}

void GrpcServer::AcceptCall() {
  const uint64_t id = next_call_++;
  calls_.emplace(id, std::make_shared<Incoming>(*this, id));
}

void GrpcServer::CloseAllConnections() {
  closing_ = true;
  if (answers_under_way_ == 0) {
    ShutDownConnections();
  } else {
    flush_limit_ = loop().After(kFlushLimit, [this] { ShutDownConnections(); });
  }
}

void GrpcServer::OnAnswered() {
  if (--answers_under_way_ == 0 && closing_) ShutDownConnections();
}

void GrpcServer::ShutDownConnections() {
  flush_limit_.Reset();
  std::map<uint64_t, Connection> gone;
  gone.swap(connections_);
  // All sockets before the first handler hears of it.
  for (const auto& [id, connection] : gone) {
    shutdown(connection.socket.get(), SHUT_RDWR);
  }
  EndCalls();
  if (!gone.empty()) TellConnections();
}

void GrpcServer::EndCalls() {
  // What a handler does on that may end other calls.
  const std::map<uint64_t, std::shared_ptr<Incoming>> calls = calls_;
  for (const auto& [id, call] : calls) {
    call->End(absl::CancelledError("connection closed"));
  }
}

size_t GrpcServer::calls_in_flight() const {
  size_t count = 0;
  for (const auto& [id, call] : calls_) count += call->alive() ? 1 : 0;
  return count;
}

std::vector<GrpcServer::CallInfo> GrpcServer::Calls() const {
  std::vector<CallInfo> calls;
  for (const auto& [id, call] : calls_) {
    if (call->alive()) calls.push_back(call->Info());
  }
  return calls;
}

}  // namespace wisp
