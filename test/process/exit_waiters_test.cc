#include "process/exit_waiters.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;

TEST(ExitWaitersTest, TellsThoseWhoWaitAndThoseWhoComeLate) {
  ExitWaiters waiters;
  std::vector<uint32_t> told;
  waiters.Add([&](const ExitStatus& status) { told.push_back(status.code); });
  EXPECT_THAT(told, ElementsAre());
  waiters.Release(ExitStatus{.code = 7});
  waiters.Add([&](const ExitStatus& status) { told.push_back(status.code); });
  EXPECT_THAT(told, ElementsAre(7, 7));
}

TEST(ExitWaitersTest, ForgetsOneThatHasGone) {
  ExitWaiters waiters;
  bool told = false;
  const uint64_t number = waiters.Add([&](const ExitStatus&) { told = true; });
  waiters.Remove(number);
  EXPECT_EQ(waiters.size(), 0u);
  waiters.Release(ExitStatus());
  EXPECT_FALSE(told);
}

TEST(ExitWaitersTest, KeepsTheFirstStatus) {
  ExitWaiters waiters;
  waiters.Release(ExitStatus{.code = 1});
  waiters.Release(ExitStatus{.code = 2});
  EXPECT_EQ(waiters.released()->code, 1u);
}

TEST(ExitWaitersTest, LetsAWaiterRemoveAnotherWhileTheyAreTold) {
  ExitWaiters waiters;
  uint64_t second = 0;
  bool told = false;
  waiters.Add([&](const ExitStatus&) { waiters.Remove(second); });
  second = waiters.Add([&](const ExitStatus&) { told = true; });
  waiters.Release(ExitStatus());
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace wisp
