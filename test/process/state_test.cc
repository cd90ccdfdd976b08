#include "process/state.h"

#include <string>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using enum InitState;

constexpr InitState kAllInit[] = {kCreated, kCreatedCheckpoint, kRunning,
                                  kPaused,  kStopped,           kDeleted};
constexpr ExecState kAllExec[] = {ExecState::kCreated, ExecState::kRunning,
                                  ExecState::kStopped, ExecState::kDeleted};

template <typename State, size_t N>
std::string Row(const State (&states)[N], Operation operation) {
  std::string row;
  for (const State state : states) {
    row += fmt::format("{} ", static_cast<int>(Check(state, operation).code()));
  }
  return row;
}

// The columns are created, createdCheckpoint, running, paused, stopped,
// deleted. 0: allowed; 9: the state forbids it; 5: gone, which clients take for
// done.
TEST(StateTest, AllowsWhatContainerdsShimAllowsToInit) {
  EXPECT_EQ(Row(kAllInit, Operation::kStart), "0 0 9 9 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kPause), "9 9 0 9 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kResume), "9 9 9 0 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kUpdate), "0 0 0 0 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kCheckpoint), "9 9 0 0 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kExec), "0 9 0 9 9 9 ");
  EXPECT_EQ(Row(kAllInit, Operation::kKill), "0 0 0 0 0 5 ");
  EXPECT_EQ(Row(kAllInit, Operation::kDelete), "0 0 9 9 0 5 ");
  EXPECT_EQ(Row(kAllInit, Operation::kResize), "0 0 0 0 0 0 ");
}

// The columns are created, running, stopped, deleted.
TEST(StateTest, AllowsWhatContainerdsShimAllowsToAnExec) {
  EXPECT_EQ(Row(kAllExec, Operation::kStart), "0 9 9 9 ");
  EXPECT_EQ(Row(kAllExec, Operation::kKill), "0 0 5 5 ");
  EXPECT_EQ(Row(kAllExec, Operation::kDelete), "0 9 0 5 ");
  EXPECT_EQ(Row(kAllExec, Operation::kResize), "0 0 9 9 ");
}

TEST(StateTest, RefusesInTheWordsThatUsersKnow) {
  EXPECT_EQ(Message(Check(kRunning, Operation::kDelete)),
            "cannot delete a running process");
  EXPECT_EQ(Message(Check(kPaused, Operation::kExec)),
            "cannot exec in a paused state");
  EXPECT_EQ(Message(Check(kStopped, Operation::kUpdate)),
            "cannot update a stopped container");
  EXPECT_EQ(Message(Check(ExecState::kStopped, Operation::kKill)),
            "process already finished");
}

TEST(StateTest, ReportsStatesByContainerdsNumbers) {
  EXPECT_EQ(static_cast<int>(StatusOf(kCreated)), 1);
  EXPECT_EQ(static_cast<int>(StatusOf(kCreatedCheckpoint)), 1);
  EXPECT_EQ(static_cast<int>(StatusOf(kRunning)), 2);
  EXPECT_EQ(static_cast<int>(StatusOf(kPaused)), 4);
  EXPECT_EQ(static_cast<int>(StatusOf(kStopped)), 3);
  EXPECT_EQ(static_cast<int>(StatusOf(kDeleted)), 3);
  EXPECT_EQ(static_cast<int>(StatusOf(ExecState::kCreated)), 1);
  EXPECT_EQ(static_cast<int>(StatusOf(ExecState::kDeleted)), 3);
}

}  // namespace
}  // namespace wisp
