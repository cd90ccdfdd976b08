// The server with a client of grpc++ and with peers that speak bytes.
#include <fcntl.h>
#include <malloc.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "proto/task.pb.h"
#include "shim/call.h"
#include "shim/grpc/server.h"
#include "test/shim/ttrpc/peer.h"
#include "test/support/grpc_test_client.h"

namespace wisp {
namespace {

using containerd::task::v3::StateRequest;
using containerd::task::v3::StateResponse;

constexpr char kTask[] = "containerd.task.v3.Task";
// What every client of HTTP/2 begins with, and empty settings.
constexpr std::string_view kPreface(
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    "\0\0\0\4\0\0\0\0\0",
    33);
constexpr std::string_view kPing("\0\0\10\6\0\0\0\0\0pingpong", 17);
constexpr std::string_view kPingAck("\0\0\10\6\1\0\0\0\0pingpong", 17);

class Task {
 public:
  void State(Call<StateRequest, StateResponse> call) {
    if (call.metadata("containerd-namespace") == "default") {
      return call.Fail(absl::NotFoundError("container not created"));
    }
    StateResponse response;
    response.set_id(call.request().id());
    call.Reply(response);
  }
};

class GrpcServerTest : public testing::Test {
 protected:
  struct Answer {
    bool done = false;
    absl::StatusOr<std::string> result = absl::UnknownError("none yet");
  };

  GrpcServerTest()
      : loop_(*EventLoop::Create()), listening_(ListenOn(dir_.socket())) {
    methods_["State"] = Bind(&task_, &Task::State);
    methods_["Echo"] = [](RawCall call) {
      std::string payload = call.payload();
      call.Respond(std::move(payload));
    };
    // Answers when the test says so.
    methods_["Hold"] = [this](RawCall call) {
      held_.push_back(std::make_unique<RawCall>(std::move(call)));
      held_.back()->OnCancel([this](const absl::Status& why) {
        cancelled_.push_back(why.code());
      });
    };
    methods_["Long"] = [](RawCall call) {
      call.Respond(std::string(std::stoul(call.payload()), 'x'));
    };
    Serve();
    client_ = NewClient();
  }

  void Serve() {
    server_ = *GrpcServer::Create(
        *loop_,
        {.on_connections = [this](size_t count) { counts_.push_back(count); },
         .on_trouble =
             [this](const absl::Status& trouble) {
               troubles_.push_back(trouble.code());
             }});
    server_->Register(kTask, &methods_);
    server_->Register("containerd.task.v2.Task", &methods_);
    EXPECT_TRUE(server_->Listen(listening_.get()).ok());
  }
  std::unique_ptr<GrpcTestClient> NewClient() {
    return std::make_unique<GrpcTestClient>(*loop_, dir_.socket());
  }
  Peer NewPeer() { return Peer(ConnectedTo(dir_.socket())); }
  template <typename Condition>
  bool Until(Condition condition) {
    return RunUntil(*loop_, std::move(condition));
  }

  std::shared_ptr<Answer> Begin(GrpcTestClient& client, std::string_view method,
                                std::string payload = "",
                                absl::Duration timeout = absl::Seconds(30)) {
    auto answer = std::make_shared<Answer>();
    client.Call(kTask, method, std::move(payload), {{"key", "value"}}, timeout,
                [answer](absl::StatusOr<std::string> result) {
                  answer->done = true;
                  answer->result = std::move(result);
                });
    return answer;
  }
  absl::StatusOr<std::string> Ask(std::string_view method,
                                  std::string payload = "",
                                  absl::Duration timeout = absl::Seconds(30)) {
    const auto answer = Begin(*client_, method, std::move(payload), timeout);
    EXPECT_TRUE(Until([&answer] { return answer->done; }));
    return answer->result;
  }
  // A call that a handler holds.
  std::shared_ptr<Answer> Hold(GrpcTestClient& client,
                               absl::Duration timeout = absl::Seconds(30)) {
    const size_t before = held_.size();
    auto answer = Begin(client, "Hold", "", timeout);
    EXPECT_TRUE(Until([&] { return held_.size() > before; }));
    return answer;
  }
  size_t OpenFds() {
    size_t count = 0;
    for (int fd = 0; fd < 256; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
  }

  SocketDir dir_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd listening_;
  Task task_;
  Methods methods_;
  std::vector<std::unique_ptr<RawCall>> held_;
  std::vector<absl::StatusCode> cancelled_;
  std::vector<size_t> counts_;
  std::vector<absl::StatusCode> troubles_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<GrpcTestClient> client_;
};

std::string Text(const absl::Status& status) {
  return fmt::format("{}: {}", static_cast<int>(status.code()),
                     Message(status));
}

TEST_F(GrpcServerTest, AnswersUnderEveryName) {
  EXPECT_EQ(*Ask("Echo", "hello"), "hello");
  EXPECT_EQ(*Ask("Echo", ""), "");
  const auto answer = std::make_shared<Answer>();
  client_->Call("containerd.task.v2.Task", "Echo", "v2", {}, absl::Seconds(30),
                [answer](absl::StatusOr<std::string> result) {
                  answer->done = true;
                  answer->result = std::move(result);
                });
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(*answer->result, "v2");
  EXPECT_EQ(server_->connections(), 1u);
  EXPECT_EQ(server_->calls_in_flight(), 0u);
}

TEST_F(GrpcServerTest, PassesMessagesMetadataAndErrors) {
  StateRequest request;
  request.set_id("c1");
  StateResponse response;
  EXPECT_TRUE(
      response.ParseFromString(*Ask("State", request.SerializeAsString())));
  EXPECT_EQ(response.id(), "c1");
  const auto answer = std::make_shared<Answer>();
  client_->Call(kTask, "State", "", {{"containerd-namespace", "default"}},
                absl::Seconds(30), [answer](absl::StatusOr<std::string> got) {
                  answer->done = true;
                  answer->result = std::move(got);
                });
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(Text(answer->result.status()),
            "5: container not created: not found");
}

TEST_F(GrpcServerTest, PassesEveryCode) {
  methods_["Fail"] = [](RawCall call) {
    call.Respond(absl::Status(
        static_cast<absl::StatusCode>(std::stoi(call.payload())), "so it is"));
  };
  for (int code = 1; code <= 16; ++code) {
    EXPECT_EQ(Text(Ask("Fail", fmt::to_string(code)).status()),
              fmt::format("{}: so it is", code));
  }
}

TEST_F(GrpcServerTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(Text(Ask("Dance").status()), "12: method Dance");
  const auto answer = std::make_shared<Answer>();
  client_->Call("some.Service", "Echo", "", {}, absl::Seconds(30),
                [answer](absl::StatusOr<std::string> result) {
                  answer->done = true;
                  answer->result = std::move(result);
                });
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(Text(answer->result.status()), "12: service some.Service");
}

TEST_F(GrpcServerTest, RefusesAMessageThatDoesNotParse) {
  EXPECT_EQ(Ask("State", "\xff\xff").status().code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(*Ask("Echo", "on we go"), "on we go");
}

TEST_F(GrpcServerTest, RefusesWhatIsTooLongOnTheSameConnection) {
  const size_t most = GrpcServer::kMaxMessage;
  EXPECT_EQ(Ask("Echo", std::string(most + 1, 'x')).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Ask("Long", fmt::to_string(most + 1)).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Ask("Echo", std::string(most, 'x'))->size(), most);
  EXPECT_EQ(counts_, std::vector<size_t>{1});
}

TEST_F(GrpcServerTest, EndsACallAtItsDeadline) {
  const auto answer = Hold(*client_, absl::Milliseconds(200));
  EXPECT_EQ(server_->calls_in_flight(), 1u);
  // By the client's clock or by ours.
  ASSERT_TRUE(Until([this] { return !cancelled_.empty(); }));
  EXPECT_EQ(server_->calls_in_flight(), 0u);
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(answer->result.status().code(),
            absl::StatusCode::kDeadlineExceeded);
  // Too late, and nobody minds.
  held_[0]->Respond(std::string("late"));
  EXPECT_EQ(*Ask("Echo", "next"), "next");
}

// A client of grpc++ would give the call up by itself.
TEST_F(GrpcServerTest, KeepsADeadlineThatItsClientForgets) {
  const auto frame = [](char type, char flags, const std::string& payload) {
    return std::string("\0\0", 2) + static_cast<char>(payload.size()) + type +
           flags + std::string("\0\0\0\1", 4) + payload;
  };
  std::string headers;
  for (const auto& [name, value] :
       std::initializer_list<std::pair<std::string, std::string>>{
           {":method", "POST"},
           {":scheme", "http"},
           {":path", std::string("/") + kTask + "/Hold"},
           {":authority", "shim"},
           {"te", "trailers"},
           {"content-type", "application/grpc"},
           {"grpc-timeout", "100m"}}) {
    // Literal, in no table.
    headers += '\0';
    headers += static_cast<char>(name.size()) + name;
    headers += static_cast<char>(value.size()) + value;
  }
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, std::string(kPreface) + frame(1, 4, headers) +
                            frame(0, 1, std::string(5, '\0')));
  ASSERT_TRUE(Until([this] { return !cancelled_.empty(); }));
  EXPECT_EQ(cancelled_[0], absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(GrpcServerTest, EndsACallThatItsClientGivesUp) {
  const auto answer = Hold(*client_);
  client_->CancelLast();
  ASSERT_TRUE(Until([this] { return !cancelled_.empty(); }));
  EXPECT_EQ(cancelled_[0], absl::StatusCode::kCancelled);
  EXPECT_EQ(*Ask("Echo", "same connection"), "same connection");
  EXPECT_EQ(counts_, std::vector<size_t>{1});
}

TEST_F(GrpcServerTest, EndsTheCallsOfALostConnectionAndNoOthers) {
  const auto other = NewClient();
  const auto kept = Hold(*other);
  const auto lost = Hold(*client_);
  client_->Disconnect();
  ASSERT_TRUE(Until(
      [this] { return !cancelled_.empty() && server_->connections() == 1; }));
  EXPECT_EQ(cancelled_,
            std::vector<absl::StatusCode>{absl::StatusCode::kCancelled});
  held_[0]->Respond(std::string("still here"));
  EXPECT_TRUE(Until([&kept] { return kept->done; }));
  EXPECT_EQ(*kept->result, "still here");
}

TEST_F(GrpcServerTest, ServesACallWhileOthersWait) {
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 100; ++i) answers.push_back(Hold(*client_));
  EXPECT_EQ(server_->calls_in_flight(), 100u);
  EXPECT_EQ(*Ask("Echo", "quick"), "quick");
  for (int i = 99; i >= 0; --i) {
    held_[static_cast<size_t>(i)]->Respond(fmt::to_string(i));
  }
  for (int i = 0; i < 100; ++i) {
    const auto& answer = answers[static_cast<size_t>(i)];
    EXPECT_TRUE(Until([&answer] { return answer->done; }));
    EXPECT_EQ(*answer->result, fmt::to_string(i));
  }
}

TEST_F(GrpcServerTest, NamesTheCallsInFlight) {
  EXPECT_EQ(*Ask("Echo", "connection 0"), "connection 0");
  const auto other = NewClient();
  const auto held = Hold(*other);
  const std::vector<Server::CallInfo> calls = server_->Calls();
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].service, kTask);
  EXPECT_EQ(calls[0].method, "Hold");
  EXPECT_EQ(calls[0].connection, 1u);
  EXPECT_LT(calls[0].age, absl::Seconds(30));
}

// containerd 1.7 looks whether there is somebody before it speaks.
TEST_F(GrpcServerTest, ForgetsConnectionsThatComeAndGo) {
  EXPECT_EQ(*Ask("Echo", "warm"), "warm");
  const size_t fds = OpenFds();
  for (int i = 0; i < 20; ++i) {
    NewPeer();
    ASSERT_TRUE(Until([this, i] {
      return counts_.size() == 1 + 2 * (static_cast<size_t>(i) + 1);
    }));
  }
  EXPECT_EQ(server_->connections(), 1u);
  EXPECT_TRUE(Until([&] { return OpenFds() == fds; }));
}

TEST_F(GrpcServerTest, HearsOfAConnectionThatGrpcClosesItself) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_,
                "this is no HTTP, and certainly not version two\r\n\r\n");
  EXPECT_TRUE(Until([this] { return counts_ == std::vector<size_t>{1, 0}; }));
  EXPECT_EQ(*Ask("Echo", "well"), "well");
}

TEST_F(GrpcServerTest, KeepsAConnectionThatPings) {
  const UniqueFd peer = ConnectedTo(dir_.socket());
  std::string out(kPreface);
  constexpr size_t kPings = 50;
  for (size_t i = 0; i < kPings; ++i) out += kPing;
  ASSERT_EQ(send(peer.get(), out.data(), out.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(out.size()));
  std::string in;
  EXPECT_TRUE(Until([&] {
    char buffer[4096];
    const ssize_t n = recv(peer.get(), buffer, sizeof(buffer), 0);
    if (n > 0) in.append(buffer, static_cast<size_t>(n));
    size_t acks = 0;
    for (size_t at = in.find(kPingAck); at != in.npos;
         at = in.find(kPingAck, at + 1)) {
      ++acks;
    }
    return n == 0 || acks == kPings;
  }));
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(GrpcServerTest, RefusesAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(dir_.socket().c_str(), 0666), 0);
  for (const auto& [uid, gid] : {std::pair(65534, 0), std::pair(0, 65534)}) {
    const pid_t pid = fork();
    if (pid == 0) {
      if (setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
        _exit(2);
      }
      const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const sockaddr_un address = SocketAddress(dir_.socket());
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) != 0) {
        _exit(3);
      }
      // Not even settings, which every connection of HTTP/2 begins with.
      char byte;
      _exit(read(fd, &byte, 1) == 0 ? 0 : 1);
    }
    int status = -1;
    EXPECT_TRUE(Until([&] { return waitpid(pid, &status, WNOHANG) == pid; }));
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(troubles_, std::vector<absl::StatusCode>(
                           2, absl::StatusCode::kPermissionDenied));
  EXPECT_TRUE(counts_.empty());
}

// The sequence of a shim that has no containers left. Often, since it is about
// what reaches the client before the connection ends.
TEST_F(GrpcServerTest, ShutsDownFromInsideAHandler) {
  methods_["Shutdown"] = [this](RawCall call) {
    EXPECT_EQ(*server_->AcceptPending(), 0u);
    call.Respond(std::string("bye"));
    server_->StopListening();
    server_->CloseAllConnections();
  };
  for (int i = 0; i < 50; ++i) {
    const auto last = NewClient();
    const auto other = NewClient();
    const auto waiting = Hold(*other);
    const auto answer = Begin(*last, "Shutdown");
    ASSERT_TRUE(Until([&] { return answer->done && waiting->done; }));
    EXPECT_EQ(*answer->result, "bye");
    // Not an answer of the handler, but the end of the connection.
    EXPECT_EQ(waiting->result.status().code(), absl::StatusCode::kUnavailable);
    ASSERT_TRUE(Until([this] { return server_->connections() == 0; }));
    EXPECT_EQ(counts_.back(), 0u);
    EXPECT_EQ(cancelled_.size(), held_.size());
    EXPECT_EQ(server_->calls_in_flight(), 0u);
    Serve();
  }
}

TEST_F(GrpcServerTest, SeesANewcomerInTheBacklogAndServesIt) {
  std::optional<size_t> newcomers;
  const auto newcomer = NewClient();
  std::shared_ptr<Answer> answer;
  methods_["Shutdown"] = [&](RawCall call) {
    answer = Begin(*newcomer, "Echo", "me too");
    newcomers = *server_->AcceptPending();
    call.Respond(std::string());
  };
  EXPECT_EQ(*Ask("Shutdown"), "");
  EXPECT_EQ(newcomers, 1u);
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(*answer->result, "me too");
}

// The Shutdown may have been sent before, and been on its way through grpc++.
TEST_F(GrpcServerTest, CountsAConnectionThatHasJustBeenAccepted) {
  std::optional<size_t> newcomers;
  methods_["Shutdown"] = [&](RawCall call) {
    newcomers = *server_->AcceptPending();
    call.Respond(std::string());
  };
  EXPECT_EQ(*Ask("Echo", "connected"), "connected");
  Peer newcomer = NewPeer();
  EXPECT_EQ(*Ask("Shutdown"), "");
  EXPECT_EQ(newcomers, 1u);
  // Not one that has been there for a while.
  bool later = false;
  const EventLoop::TimerHandle timer =
      loop_->After(GrpcServer::kNew, [&later] { later = true; });
  ASSERT_TRUE(Until([&later] { return later; }));
  EXPECT_EQ(*Ask("Shutdown"), "");
  EXPECT_EQ(newcomers, 0u);
  // Nor one whose call has come to a handler, which knows what it is about.
  const auto other = NewClient();
  const auto held = Hold(*other);
  EXPECT_EQ(*Ask("Shutdown"), "");
  EXPECT_EQ(newcomers, 0u);
}

TEST_F(GrpcServerTest, CallsMayOutliveTheServer) {
  const auto answer = Hold(*client_);
  server_.reset();
  EXPECT_EQ(cancelled_.size(), 1u);
  held_[0]->Respond(std::string());
  EXPECT_TRUE(Until([&answer] { return answer->done; }));
  EXPECT_EQ(answer->result.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GrpcServerTest, DoesNotGrowWithTheNumberOfCalls) {
  const auto make_calls = [this](int count) {
    int started = 0;
    int answered = 0;
    while (answered < count) {
      while (started < count && client_->calls_in_flight() < 50) {
        ++started;
        client_->Call(kTask, "Echo", "payload", {{"key", "value"}},
                      absl::Seconds(60),
                      [&answered](const absl::StatusOr<std::string>& result) {
                        ASSERT_TRUE(result.ok()) << result.status();
                        ++answered;
                      });
      }
      loop_->RunOnce(absl::Milliseconds(10));
    }
    return mallinfo2().uordblks;
  };
  const size_t early = make_calls(2'000);
  const size_t late = make_calls(10'000);
  // grpc++ has caches per thread; a leak of the least block there is would be
  // more.
  EXPECT_LT(late, early + (size_t{256} << 10));
  EXPECT_EQ(server_->connections(), 1u);
  EXPECT_EQ(server_->calls_in_flight(), 0u);
}

}  // namespace
}  // namespace wisp
