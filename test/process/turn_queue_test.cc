#include "process/turn_queue.h"

#include <memory>
#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;

class TurnQueueTest : public ::testing::Test {
 protected:
  TurnQueueTest() : loop_(*EventLoop::Create()) {}
  void Turn() { loop_->RunOnce(absl::Seconds(10)); }

  std::unique_ptr<EventLoop> loop_;
  std::vector<int> order_;
  std::vector<std::optional<TurnQueue::Turn>> held_;
};

TEST_F(TurnQueueTest, RunsTheFirstAtOnceAndTheNextWhenItsTurnIsOver) {
  TurnQueue queue(*loop_);
  for (int i = 0; i < 3; ++i) {
    queue.Enqueue([this, i](TurnQueue::Turn turn) {
      order_.push_back(i);
      held_.emplace_back(std::move(turn));
    });
  }
  EXPECT_THAT(order_, ElementsAre(0));
  held_[0].reset();
  EXPECT_THAT(order_, ElementsAre(0));  // not from within
  Turn();
  EXPECT_THAT(order_, ElementsAre(0, 1));
  held_[1].reset();
  Turn();
  EXPECT_THAT(order_, ElementsAre(0, 1, 2));
}

TEST_F(TurnQueueTest, GivesAsManyTurnsAsItIsWide) {
  TurnQueue queue(*loop_, 2);
  for (int i = 0; i < 4; ++i) {
    queue.Enqueue([this, i](TurnQueue::Turn turn) {
      order_.push_back(i);
      held_.emplace_back(std::move(turn));
    });
  }
  EXPECT_THAT(order_, ElementsAre(0, 1));
  held_[1].reset();
  Turn();
  EXPECT_THAT(order_, ElementsAre(0, 1, 2));
}

TEST_F(TurnQueueTest, LetsATurnOutliveIt) {
  auto queue = std::make_unique<TurnQueue>(*loop_);
  queue->Enqueue(
      [this](TurnQueue::Turn turn) { held_.emplace_back(std::move(turn)); });
  queue->Enqueue([this](TurnQueue::Turn) { order_.push_back(1); });
  queue.reset();
  held_[0].reset();
  Turn();
  EXPECT_THAT(order_, ElementsAre());
}

TEST_F(TurnQueueTest, IsFreeAgainAfterAnOperationThatDropsItsTurn) {
  TurnQueue queue(*loop_);
  queue.Enqueue([this](TurnQueue::Turn) { order_.push_back(0); });
  Turn();
  queue.Enqueue([this](TurnQueue::Turn) { order_.push_back(1); });
  EXPECT_THAT(order_, ElementsAre(0, 1));
}

}  // namespace
}  // namespace wisp
