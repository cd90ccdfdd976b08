#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "shim/ttrpc/client.h"
#include "shim/ttrpc/server.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

using Result = absl::StatusOr<std::string>;

class TtrpcClientTest : public testing::Test {
 protected:
  TtrpcClientTest()
      : loop_(*EventLoop::Create()), client_(*loop_, dir_.socket()) {
    methods_["Echo"] = [](RawCall call) {
      std::string payload =
          call.payload() + ":" + std::string(call.metadata("key"));
      call.Respond(std::move(payload));
    };
    methods_["Fail"] = [](RawCall call) {
      call.Respond(absl::NotFoundError("c1: not found"));
    };
    methods_["Hold"] = [this](RawCall call) {
      held_.push_back(std::make_unique<RawCall>(std::move(call)));
    };
  }

  void StartServer() {
    listening_ = ListenOn(dir_.socket());
    server_ = std::make_unique<TtrpcServer>(*loop_, TtrpcServer::Hooks());
    server_->Register("Service", &methods_);
    EXPECT_TRUE(server_->Listen(listening_.get()).ok());
  }
  void StopServer() {
    server_.reset();
    listening_.Reset();
  }

  std::optional<Result> Call(std::string_view method,
                             absl::Duration timeout = absl::Seconds(30)) {
    std::optional<Result> result;
    client_.Call("Service", method, "payload", {{"KEY", "value"}}, timeout,
                 [&result](Result got) { result = std::move(got); });
    EXPECT_FALSE(result.has_value()) << "not from inside Call()";
    EXPECT_TRUE(RunUntil(*loop_, [&result] { return result.has_value(); }));
    return result;
  }

  SocketDir dir_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd listening_;
  Methods methods_;
  std::vector<std::unique_ptr<RawCall>> held_;
  std::unique_ptr<TtrpcServer> server_;
  TtrpcClient client_;
};

TEST_F(TtrpcClientTest, CallsWithMetadata) {
  StartServer();
  EXPECT_FALSE(client_.connected());
  EXPECT_EQ(**Call("Echo"), "payload:value");
  EXPECT_TRUE(client_.connected());
  EXPECT_EQ(**Call("Echo"), "payload:value");
  EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(TtrpcClientTest, GivesTheServersErrorAndStaysConnected) {
  StartServer();
  const std::optional<Result> result = Call("Fail");
  EXPECT_EQ(result->status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(result->status()), "c1: not found");
  EXPECT_TRUE(client_.connected());
}

TEST_F(TtrpcClientTest, FailsWithoutAServerAndConnectsOnceThereIsOne) {
  std::optional<Result> result = Call("Echo");
  EXPECT_TRUE(absl::IsUnavailable(result->status()));
  EXPECT_TRUE(Message(result->status()).ends_with("no such file or directory"));
  StartServer();
  EXPECT_TRUE(Call("Echo")->ok());
  StopServer();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return !client_.connected(); }));
  result = Call("Echo");
  EXPECT_TRUE(Message(result->status()).ends_with("connection refused"));
  StartServer();
  EXPECT_TRUE(Call("Echo")->ok());
}

TEST_F(TtrpcClientTest, FailsCallsWhoseConnectionIsLost) {
  StartServer();
  std::vector<absl::Status> results;
  for (int i = 0; i < 3; ++i) {
    client_.Call("Service", "Hold", "", {}, absl::Seconds(30),
                 [&results](Result got) { results.push_back(got.status()); });
  }
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 3; }));
  StopServer();
  ASSERT_TRUE(RunUntil(*loop_, [&results] { return results.size() == 3; }));
  for (const absl::Status& result : results) {
    EXPECT_TRUE(absl::IsUnavailable(result));
    EXPECT_EQ(Message(result), "ttrpc: closed");
  }
  EXPECT_EQ(client_.calls_in_flight(), 0u);
}

TEST_F(TtrpcClientTest, GivesUpAtTheDeadlineAndIgnoresALateAnswer) {
  // Takes the connection, and answers in its own time.
  listening_ = ListenOn(dir_.socket());
  const std::optional<Result> result = Call("Echo", absl::Milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(result->status()));
  EXPECT_TRUE(client_.connected());
  Peer late(UniqueFd(accept4(listening_.get(), nullptr, nullptr,
                             SOCK_CLOEXEC | SOCK_NONBLOCK)));
  ASSERT_TRUE(late.Await(*loop_, 1));
  ttrpc::Request request;
  ASSERT_TRUE(request.ParseFromString(late.frames()[0].payload));
  EXPECT_EQ(request.timeout_nano(), 20'000'000);

  std::optional<Result> next;
  client_.Call("Service", "Echo", "", {}, absl::Seconds(30),
               [&next](Result got) { next = std::move(got); });
  late.WriteAll(*loop_, EncodeFrame(1, FrameType::kResponse,
                                    "\x12\x01"
                                    "1") +
                            EncodeFrame(3, FrameType::kResponse,
                                        "\x12\x01"
                                        "3"));
  ASSERT_TRUE(RunUntil(*loop_, [&next] { return next.has_value(); }));
  EXPECT_EQ(**next, "3");
}

TEST_F(TtrpcClientTest, SurvivesAnswersThatMakeNoSense) {
  listening_ = ListenOn(dir_.socket());
  std::vector<absl::Status> results;
  for (int i = 0; i < 4; ++i) {
    client_.Call("Service", "Echo", "", {}, absl::Seconds(30),
                 [&results](Result got) { results.push_back(got.status()); });
  }
  Peer peer(UniqueFd(accept4(listening_.get(), nullptr, nullptr,
                             SOCK_CLOEXEC | SOCK_NONBLOCK)));
  peer.WriteAll(*loop_,
                EncodeFrame(99, FrameType::kResponse, "never asked") +
                    EncodeFrame(2, FrameType::kResponse, "even") +
                    EncodeFrame(1, FrameType::kData, "no response") +
                    EncodeFrame(1, FrameType::kResponse, "\x0a\xff") +
                    FromHex("00400001 00000003 02 00") +
                    std::string(kMaxFramePayload + 1, 'x') +
                    // A code that does not exist.
                    EncodeFrame(5, FrameType::kResponse, "\x0a\x02\x08\x63") +
                    EncodeFrame(7, FrameType::kResponse, ""));
  ASSERT_TRUE(RunUntil(*loop_, [&results] { return results.size() == 4; }));
  EXPECT_TRUE(absl::IsInternal(results[0]));
  EXPECT_TRUE(absl::IsResourceExhausted(results[1]));
  EXPECT_TRUE(absl::IsUnknown(results[2]));
  EXPECT_TRUE(results[3].ok());
}

TEST_F(TtrpcClientTest, RefusesARequestThatIsTooLong) {
  StartServer();
  std::optional<Result> result;
  client_.Call("Service", "Echo", std::string(kMaxFramePayload, 'x'), {},
               absl::Seconds(30),
               [&result](Result got) { result = std::move(got); });
  ASSERT_TRUE(RunUntil(*loop_, [&result] { return result.has_value(); }));
  EXPECT_TRUE(absl::IsResourceExhausted(result->status()));
  EXPECT_TRUE(Call("Echo")->ok());
}

TEST_F(TtrpcClientTest, ACompletionMayCallAgain) {
  StartServer();
  std::optional<Result> second;
  client_.Call("Service", "Hold", "", {}, absl::Seconds(30),
               [this, &second](Result first) {
                 EXPECT_TRUE(absl::IsUnavailable(first.status()));
                 client_.Call("Service", "Echo", "again", {}, absl::Seconds(30),
                              [&second](Result got) { second = got; });
               });
  ASSERT_TRUE(RunUntil(*loop_, [this] { return held_.size() == 1; }));
  server_->CloseAllConnections();
  ASSERT_TRUE(RunUntil(*loop_, [&second] { return second.has_value(); }));
  EXPECT_EQ(**second, "again:");
}

}  // namespace
}  // namespace wisp
