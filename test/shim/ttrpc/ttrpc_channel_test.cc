#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "shim/ttrpc/channel.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

class TtrpcChannelTest : public testing::Test {
 protected:
  TtrpcChannelTest() : loop_(*EventLoop::Create()), peer_(UniqueFd()) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                         ends),
              0);
    peer_ = Peer(UniqueFd(ends[1]));
    channel_ = *TtrpcChannel::Create(
        *loop_, UniqueFd(ends[0]),
        [this](Frame frame) {
          frames_.push_back(std::move(frame));
          if (close_on_frame_) channel_->Close();
        },
        [this] { ++lost_; });
  }
  ~TtrpcChannelTest() override { channel_->Close(); }

  std::unique_ptr<EventLoop> loop_;
  Peer peer_;
  std::shared_ptr<TtrpcChannel> channel_;
  std::vector<Frame> frames_;
  bool close_on_frame_ = false;
  int lost_ = 0;
};

TEST_F(TtrpcChannelTest, KeepsFramesInOrderForAPeerThatReadsLate) {
  const std::string payload(300000, 'x');
  for (uint32_t i = 1; i <= 30; ++i) {
    channel_->Send(EncodeFrame(i, FrameType::kResponse, payload));
  }
  EXPECT_GT(channel_->queued_bytes(), size_t{8} << 20);
  ASSERT_TRUE(peer_.Await(*loop_, 30));
  for (uint32_t i = 0; i < 30; ++i) {
    EXPECT_EQ(peer_.frames()[i].stream, i + 1);
    EXPECT_EQ(peer_.frames()[i].payload, payload);
  }
  EXPECT_EQ(channel_->queued_bytes(), 0u);
}

TEST_F(TtrpcChannelTest, ReadsNothingFromAPeerThatTakesNothing) {
  const std::string payload(1 << 20, 'x');
  while (channel_->queued_bytes() <= TtrpcChannel::kMaxQueuedBytes) {
    channel_->Send(EncodeFrame(1, FrameType::kResponse, payload));
  }
  peer_.Write(EncodeFrame(1, FrameType::kRequest, "question"));
  for (int i = 0; i < 10; ++i) loop_->RunOnce(absl::ZeroDuration());
  EXPECT_TRUE(frames_.empty());
  EXPECT_TRUE(RunUntil(*loop_, [this] {
    peer_.Poll();
    return !frames_.empty();
  }));
}

TEST_F(TtrpcChannelTest, TellsFramesThatCameBeforeTheEnd) {
  peer_.Write(EncodeFrame(1, FrameType::kRequest, "last words"));
  peer_.Close();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return lost_ > 0; }));
  ASSERT_EQ(frames_.size(), 1u);
  EXPECT_TRUE(channel_->closed());
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(lost_, 1);
}

TEST_F(TtrpcChannelTest, LearnsOfTheEndWhileItDoesNotRead) {
  const std::string payload(1 << 20, 'x');
  while (channel_->queued_bytes() <= TtrpcChannel::kMaxQueuedBytes) {
    channel_->Send(EncodeFrame(1, FrameType::kResponse, payload));
  }
  peer_.Close();
  EXPECT_TRUE(RunUntil(*loop_, [this] { return lost_ == 1; }));
}

TEST_F(TtrpcChannelTest, TellsOfAFailedWriteFromTheLoopOnly) {
  ASSERT_EQ(shutdown(peer_.fd(), SHUT_RD), 0);
  channel_->Send(EncodeFrame(1, FrameType::kResponse, "nobody"));
  EXPECT_EQ(lost_, 0);
  EXPECT_EQ(channel_->queued_bytes(), 0u);
  EXPECT_TRUE(RunUntil(*loop_, [this] { return lost_ == 1; }));
  channel_->Send(EncodeFrame(1, FrameType::kResponse, "still nobody"));
  EXPECT_EQ(lost_, 1);
}

TEST_F(TtrpcChannelTest, CanBeClosedByTheReceiverOfAFrame) {
  close_on_frame_ = true;
  peer_.Write(EncodeFrame(1, FrameType::kRequest, "a") +
              EncodeFrame(3, FrameType::kRequest, "b"));
  EXPECT_TRUE(peer_.AwaitEof(*loop_));
  EXPECT_EQ(frames_.size(), 1u);
  EXPECT_EQ(lost_, 0);
}

}  // namespace
}  // namespace wisp
