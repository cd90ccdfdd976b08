#include <malloc.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "proto/task.pb.h"
#include "shim/call.h"
#include "shim/ttrpc/client.h"
#include "shim/ttrpc/server.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

using containerd::task::v3::ConnectRequest;
using containerd::task::v3::ConnectResponse;
using containerd::task::v3::ShutdownRequest;
using containerd::task::v3::StateRequest;
using containerd::task::v3::StateResponse;

constexpr char kTask[] = "containerd.task.v2.Task";

class Task {
 public:
  void Connect(Call<ConnectRequest, ConnectResponse> call) {
    EXPECT_EQ(call.request().id(), "test1");
    EXPECT_EQ(call.metadata("containerd-namespace-ttrpc"), "default");
    ConnectResponse response;
    response.set_shim_pid(4242);
    response.set_task_pid(4300);
    call.Reply(response);
  }
  void State(Call<StateRequest, StateResponse> call) {
    call.Fail(absl::NotFoundError("container not created"));
  }
  void Shutdown(Call<ShutdownRequest, ConnectResponse> call) {
    call.Finish(absl::OkStatus());
  }
};

class TtrpcServerTest : public testing::Test {
 protected:
  TtrpcServerTest()
      : loop_(*EventLoop::Create()), listening_(ListenOn(dir_.socket())) {
    methods_["Connect"] = Bind(&task_, &Task::Connect);
    methods_["State"] = Bind(&task_, &Task::State);
    methods_["Shutdown"] = Bind(&task_, &Task::Shutdown);
    // Answers with what it was asked.
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
    server_ = std::make_unique<TtrpcServer>(
        *loop_, TtrpcServer::Hooks{.on_connections = [this](size_t count) {
          counts_.push_back(count);
        }});
    server_->Register(kTask, &methods_);
    server_->Register("containerd.task.v3.Task", &methods_);
    EXPECT_TRUE(server_->Listen(listening_.get()).ok());
  }

  Peer NewPeer() { return Peer(ConnectedTo(dir_.socket())); }

  SocketDir dir_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd listening_;
  Task task_;
  Methods methods_;
  std::vector<std::unique_ptr<RawCall>> held_;
  std::vector<absl::StatusCode> cancelled_;
  std::vector<size_t> counts_;
  std::unique_ptr<TtrpcServer> server_;
};

// The frames that containerd's own library makes and expects.
TEST_F(TtrpcServerTest, SpeaksToContainerdByteForByte) {
  Peer peer = NewPeer();
  peer.WriteAll(
      *loop_,
      FromHex("00000052 00000001 01 00"
              "0a17636f6e7461696e6572642e7461736b2e76322e5461736b"
              "1207436f6e6e656374 1a070a057465737431"
              "2a250a1a636f6e7461696e6572642d6e616d6573706163652d74747270"
              "63120764656661756c74") +
          RequestFrame(3, kTask, "State") + RequestFrame(5, kTask, "Shutdown"));
  std::string bytes;
  const std::string expected = FromHex(
      "00000008 00000001 02 00 1206089221 10cc21"
      "00000026 00000003 02 00 0a240805 1220 636f6e7461696e6572206e6f7"
      "420637265617465643a206e6f7420666f756e64"
      "00000000 00000005 02 00");
  EXPECT_TRUE(RunUntil(*loop_, [&bytes, &peer, &expected] {
    char buffer[1024];
    const ssize_t n = recv(peer.fd(), buffer, sizeof(buffer), 0);
    if (n > 0) bytes.append(buffer, static_cast<size_t>(n));
    return bytes.size() >= expected.size();
  }));
  EXPECT_EQ(bytes, expected);
}

TEST_F(TtrpcServerTest, ServesTheSameMethodsUnderSeveralNames) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_,
                RequestFrame(1, "containerd.task.v3.Task", "Echo", "v3") +
                    RequestFrame(3, kTask, "Echo", "v2"));
  ASSERT_TRUE(peer.Await(*loop_, 2));
  EXPECT_EQ(ResponseIn(peer.frames()[0]).payload(), "v3");
  EXPECT_EQ(ResponseIn(peer.frames()[1]).payload(), "v2");
}

TEST_F(TtrpcServerTest, ReadsRequestsByteByByte) {
  Peer peer = NewPeer();
  const std::string bytes = RequestFrame(1, kTask, "Echo", "hello") +
                            RequestFrame(3, kTask, "Echo", "world");
  for (const char byte : bytes) {
    ASSERT_EQ(peer.Write({&byte, 1}), 1u);
    loop_->RunOnce(absl::Milliseconds(10));
  }
  ASSERT_TRUE(peer.Await(*loop_, 2));
  EXPECT_EQ(ResponseIn(peer.frames()[1]).payload(), "world");
}

struct Malformed {
  const char* name;
  std::string bytes;
  uint32_t stream;
  int code;  // 0: no answer
  const char* text;
};

TEST_F(TtrpcServerTest, AnswersMalformedInputAndGoesOn) {
  const std::string too_long =
      FromHex("00400001 00000008 01 00") + std::string(4194305, 'x');
  const std::vector<Malformed> cases = {
      {"too long, whatever its stream", too_long, 8, 8,
       "message length 4194305 exceed maximum message size of 4194304"},
      {"even stream", RequestFrame(2, kTask, "Echo"), 2, 3,
       "StreamID must be odd for client initiated streams"},
      {"stream zero", RequestFrame(0, kTask, "Echo"), 0, 3,
       "StreamID must be odd for client initiated streams"},
      {"even stream of any type", FromHex("00000000 00000004 09 00"), 4, 3,
       "StreamID must be odd for client initiated streams"},
      {"stream used before", RequestFrame(1, kTask, "Echo"), 1, 3,
       "StreamID cannot be re-used and must increment"},
      {"request that does not parse",
       EncodeFrame(101, FrameType::kRequest, "\x0a\xff"), 101, 3,
       "unmarshal request error: proto: cannot parse invalid wire-format data"},
      {"request with bytes that are not UTF-8",
       EncodeFrame(103, FrameType::kRequest, "\x0a\x01\xff"), 103, 3,
       "unmarshal request error: proto: cannot parse invalid wire-format data"},
      {"data for no stream", EncodeFrame(105, FrameType::kData, "x"), 105, 3,
       "StreamID is no longer active"},
      {"response", EncodeFrame(107, FrameType::kResponse, "x"), 107, 0, ""},
      {"unknown type", FromHex("00000001 0000006b ff 00 78"), 107, 0, ""},
      {"unknown service", RequestFrame(109, "no.such.Service", "Echo"), 109, 12,
       "service no.such.Service"},
      {"unknown method", RequestFrame(111, kTask, "Fly"), 111, 12,
       "method Fly"},
      {"empty request", RequestFrame(113, "", ""), 113, 12, "service "},
      {"payload that does not parse",
       RequestFrame(115, kTask, "State", "\x0a\xff"), 115, 13,
       "ttrpc: error unmarshalling payload: proto: cannot parse invalid "
       "wire-format data"},
  };
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Echo"));
  size_t frames = 1;
  ASSERT_TRUE(peer.Await(*loop_, frames));
  uint32_t next = 1001;
  for (const Malformed& input : cases) {
    SCOPED_TRACE(input.name);
    // A connection for the ascending streams, so that each case is alone.
    Peer fresh = NewPeer();
    Peer& target = input.stream == 1 ? peer : fresh;
    const size_t before = target.frames().size();
    target.WriteAll(*loop_, input.bytes);
    // It is open still, and in order, if the next call is answered.
    target.WriteAll(*loop_, RequestFrame(next, kTask, "Echo", "alive"));
    const size_t expected = before + (input.code == 0 ? 1 : 2);
    ASSERT_TRUE(target.Await(*loop_, expected));
    if (input.code != 0) {
      const Frame& frame = target.frames()[before];
      EXPECT_EQ(frame.stream, input.stream);
      const ttrpc::Response response = ResponseIn(frame);
      EXPECT_EQ(response.status().code(), input.code);
      EXPECT_EQ(response.status().message(), input.text);
      EXPECT_EQ(response.payload(), "");
    }
    EXPECT_EQ(target.frames().back().stream, next);
    EXPECT_EQ(ResponseIn(target.frames().back()).payload(), "alive");
    next += 2;
  }
  EXPECT_EQ(server_->calls_in_flight(), 0u);
}

TEST_F(TtrpcServerTest, IgnoresDataForACallUnderWay) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Hold") +
                            EncodeFrame(1, FrameType::kData, "more") +
                            RequestFrame(3, kTask, "Echo", "next"));
  ASSERT_TRUE(peer.Await(*loop_, 1));
  EXPECT_EQ(peer.frames()[0].stream, 3u);
  held_[0]->Respond(std::string("done"));
  ASSERT_TRUE(peer.Await(*loop_, 2));
  EXPECT_EQ(ResponseIn(peer.frames()[1]).payload(), "done");
}

TEST_F(TtrpcServerTest, AnswersInTheOrderThatHandlersAreReady) {
  Peer peer = NewPeer();
  constexpr uint32_t kCalls = 500;
  std::string requests;
  for (uint32_t i = 0; i < kCalls; ++i) {
    requests += RequestFrame(2 * i + 1, kTask, "Hold");
  }
  peer.WriteAll(*loop_, requests);
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == kCalls; }));
  EXPECT_EQ(server_->calls_in_flight(), kCalls);
  for (auto call = held_.rbegin(); call != held_.rend(); ++call) {
    (*call)->Respond(std::string());
  }
  ASSERT_TRUE(peer.Await(*loop_, kCalls));
  for (uint32_t i = 0; i < kCalls; ++i) {
    EXPECT_EQ(peer.frames()[i].stream, 2 * (kCalls - i) - 1);
  }
  EXPECT_EQ(server_->calls_in_flight(), 0u);
}

TEST_F(TtrpcServerTest, ServesManyConnectionsAtOnce) {
  std::vector<Peer> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(NewPeer());
    peers.back().WriteAll(*loop_, RequestFrame(1, kTask, "Hold"));
  }
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 50; }));
  EXPECT_EQ(server_->connections(), 50u);
  for (Peer& peer : peers) {
    peer.WriteAll(*loop_, RequestFrame(3, kTask, "Echo", "x"));
    ASSERT_TRUE(peer.Await(*loop_, 1));
    EXPECT_EQ(peer.frames()[0].stream, 3u);
  }
  for (const auto& call : held_) call->Respond(std::string());
  for (Peer& peer : peers) ASSERT_TRUE(peer.Await(*loop_, 2));
  peers.clear();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return server_->connections() == 0; }));
  EXPECT_EQ(counts_.size(), 100u);
  EXPECT_EQ(counts_.back(), 0u);
  EXPECT_TRUE(cancelled_.empty());
}

TEST_F(TtrpcServerTest, APeerThatDoesNotReadKeepsNobodyWaiting) {
  Peer slow = NewPeer();
  Peer other = NewPeer();
  for (uint32_t i = 0; i < 8; ++i) {
    slow.WriteAll(*loop_, RequestFrame(2 * i + 1, kTask, "Long", "1000000"));
  }
  for (uint32_t i = 0; i < 20; ++i) {
    other.WriteAll(*loop_, RequestFrame(2 * i + 1, kTask, "Echo", "x"));
    ASSERT_TRUE(other.Await(*loop_, i + 1));
  }
  ASSERT_TRUE(slow.Await(*loop_, 8));
  for (const Frame& frame : slow.frames()) {
    EXPECT_EQ(ResponseIn(frame).payload(), std::string(1000000, 'x'));
  }
}

TEST_F(TtrpcServerTest, SendsTheLongestReplyAndAnErrorForALongerOne) {
  Peer peer = NewPeer();
  // Tag and length of the payload take five bytes.
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Long", "4194299") +
                            RequestFrame(3, kTask, "Long", "4194300") +
                            RequestFrame(5, kTask, "Echo", "alive"));
  ASSERT_TRUE(peer.Await(*loop_, 3));
  EXPECT_EQ(peer.frames()[0].length, kMaxFramePayload);
  const ttrpc::Response response = ResponseIn(peer.frames()[1]);
  EXPECT_EQ(response.status().code(), 8);
  EXPECT_EQ(response.status().message(),
            "message length 4194305 exceed maximum message size of 4194304");
  EXPECT_EQ(ResponseIn(peer.frames()[2]).payload(), "alive");
}

TEST_F(TtrpcServerTest, EndsACallAtItsDeadline) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Hold", "", 20'000'000));
  ASSERT_TRUE(peer.Await(*loop_, 1));
  const ttrpc::Response response = ResponseIn(peer.frames()[0]);
  EXPECT_EQ(response.status().code(), 4);
  EXPECT_EQ(response.status().message(), "context deadline exceeded");
  EXPECT_EQ(cancelled_,
            std::vector<absl::StatusCode>{absl::StatusCode::kDeadlineExceeded});
  EXPECT_FALSE(held_[0]->alive());
  held_[0]->Respond(std::string("late"));
  peer.WriteAll(*loop_, RequestFrame(3, kTask, "Echo", "next"));
  ASSERT_TRUE(peer.Await(*loop_, 2));
  EXPECT_EQ(peer.frames()[1].stream, 3u);
}

TEST_F(TtrpcServerTest, DoesNotBeginACallWhoseDeadlineHasPassed) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Hold", "", -1));
  ASSERT_TRUE(peer.Await(*loop_, 1));
  EXPECT_EQ(ResponseIn(peer.frames()[0]).status().code(), 4);
  EXPECT_TRUE(held_.empty());
  EXPECT_EQ(server_->calls_in_flight(), 0u);
}

TEST_F(TtrpcServerTest, AnAnsweredCallHasNoDeadlineLeft) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Hold", "", 30'000'000));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 1; }));
  held_[0]->Respond(std::string());
  bool later = false;
  const auto timer =
      loop_->After(absl::Milliseconds(60), [&later] { later = true; });
  EXPECT_TRUE(RunUntil(*loop_, [&later] { return later; }));
  peer.Poll();
  EXPECT_EQ(peer.frames().size(), 1u);
  EXPECT_TRUE(cancelled_.empty());
}

TEST_F(TtrpcServerTest, TheEndOfAConnectionCancelsItsCallsOnly) {
  Peer one = NewPeer();
  Peer two = NewPeer();
  one.WriteAll(*loop_, RequestFrame(1, kTask, "Hold") +
                           RequestFrame(3, kTask, "Hold", "", 60'000'000'000));
  two.WriteAll(*loop_, RequestFrame(1, kTask, "Hold"));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 3; }));
  one.Close();
  ASSERT_TRUE(RunUntil(*loop_, [this] { return server_->connections() == 1; }));
  EXPECT_EQ(cancelled_,
            (std::vector<absl::StatusCode>{absl::StatusCode::kCancelled,
                                           absl::StatusCode::kCancelled}));
  EXPECT_EQ(server_->calls_in_flight(), 1u);
  for (const auto& call : held_) call->Respond(std::string("all"));
  ASSERT_TRUE(two.Await(*loop_, 1));
  EXPECT_EQ(ResponseIn(two.frames()[0]).payload(), "all");
}

TEST_F(TtrpcServerTest, HandlesWhatCameBeforeTheEndOfAConnection) {
  Peer peer = NewPeer();
  peer.Write(RequestFrame(1, kTask, "Hold"));
  peer.Close();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return cancelled_.size() == 1; }));
  EXPECT_EQ(held_.size(), 1u);
}

TEST_F(TtrpcServerTest, KeepsAnIdleConnectionAndOneThatComplains) {
  Peer idle = NewPeer();
  Peer rude = NewPeer();
  for (int i = 0; i < 100; ++i) {
    rude.WriteAll(*loop_, RequestFrame(2, kTask, "Echo"));
  }
  ASSERT_TRUE(rude.Await(*loop_, 100));
  EXPECT_EQ(server_->connections(), 2u);
  EXPECT_FALSE(rude.eof());
  idle.WriteAll(*loop_, RequestFrame(1, kTask, "Echo"));
  EXPECT_TRUE(idle.Await(*loop_, 1));
}

TEST_F(TtrpcServerTest, ListsCallsForTheDump) {
  Peer peer = NewPeer();
  peer.WriteAll(
      *loop_, RequestFrame(1, kTask, "Hold") + RequestFrame(3, kTask, "Echo"));
  ASSERT_TRUE(peer.Await(*loop_, 1));
  loop_->RunOnce(absl::Milliseconds(2));
  const std::vector<TtrpcServer::CallInfo> calls = server_->Calls();
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].service, kTask);
  EXPECT_EQ(calls[0].method, "Hold");
  EXPECT_GT(calls[0].age, absl::ZeroDuration());
  EXPECT_LT(calls[0].age, absl::Seconds(30));
}

// The sequence of a shim that has no containers left.
TEST_F(TtrpcServerTest, ShutsDownFromInsideAHandler) {
  methods_["Shutdown"] = [this](RawCall call) {
    EXPECT_EQ(*server_->AcceptPending(), 0u);
    call.Respond(std::string("bye"));
    server_->StopListening();
    listening_.Reset();
    server_->CloseAllConnections();
    EXPECT_EQ(server_->connections(), 0u);
  };
  Peer last = NewPeer();
  Peer other = NewPeer();
  other.WriteAll(*loop_, RequestFrame(1, kTask, "Hold"));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 1; }));
  Peer probe = NewPeer();
  probe.Close();
  last.WriteAll(*loop_, RequestFrame(1, kTask, "Shutdown") +
                            RequestFrame(3, kTask, "Echo", "too late"));
  ASSERT_TRUE(last.AwaitEof(*loop_));
  ASSERT_EQ(last.frames().size(), 1u);
  EXPECT_EQ(ResponseIn(last.frames()[0]).payload(), "bye");
  EXPECT_TRUE(other.AwaitEof(*loop_));
  EXPECT_TRUE(other.frames().empty());
  EXPECT_EQ(cancelled_,
            std::vector<absl::StatusCode>{absl::StatusCode::kCancelled});
  EXPECT_EQ(counts_.back(), 0u);
}

TEST_F(TtrpcServerTest, SeesANewcomerInTheBacklogAndServesIt) {
  std::optional<size_t> newcomers;
  std::optional<Peer> newcomer;
  methods_["Shutdown"] = [&](RawCall call) {
    newcomer.emplace(NewPeer());
    newcomer->Write(RequestFrame(1, kTask, "Echo", "me too"));
    newcomers = *server_->AcceptPending();
    call.Respond(std::string());
  };
  Peer last = NewPeer();
  last.WriteAll(*loop_, RequestFrame(1, kTask, "Shutdown"));
  ASSERT_TRUE(last.Await(*loop_, 1));
  EXPECT_EQ(newcomers, 1u);
  ASSERT_TRUE(newcomer->Await(*loop_, 1));
  EXPECT_EQ(ResponseIn(newcomer->frames()[0]).payload(), "me too");
}

TEST_F(TtrpcServerTest, CallsMayOutliveTheServer) {
  Peer peer = NewPeer();
  peer.WriteAll(*loop_, RequestFrame(1, kTask, "Hold"));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 1; }));
  server_.reset();
  EXPECT_EQ(cancelled_.size(), 1u);
  held_[0]->Respond(std::string());
  EXPECT_TRUE(peer.AwaitEof(*loop_));
}

// containerd's own library keeps a stream for ever when its handler is faster
// than the bookkeeping (ttrpc issue 236).
TEST_F(TtrpcServerTest, DoesNotGrowWithTheNumberOfCalls) {
  TtrpcClient client(*loop_, dir_.socket());
  const auto make_calls = [this, &client](int count) {
    int started = 0;
    int answered = 0;
    while (answered < count) {
      while (started < count && client.calls_in_flight() < 100) {
        ++started;
        client.Call(kTask, "Echo", "payload", {{"Key", "value"}},
                    absl::Seconds(30),
                    [&answered](absl::StatusOr<std::string> result) {
                      ASSERT_TRUE(result.ok());
                      ASSERT_EQ(*result, "payload");
                      ++answered;
                    });
      }
      loop_->RunOnce(absl::Milliseconds(10));
    }
    return mallinfo2().uordblks;
  };
  const size_t early = make_calls(10'000);
  const size_t late = make_calls(90'000);
  EXPECT_LT(late, early + 16384);
  EXPECT_EQ(server_->calls_in_flight(), 0u);
  EXPECT_EQ(server_->connections(), 1u);
}

}  // namespace
}  // namespace wisp
