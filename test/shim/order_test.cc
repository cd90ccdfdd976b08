// The checker of event streams must object to every fault that it is there for.
#include "test/support/order.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint32_t kInitPid = 100;
constexpr uint32_t kExecPid = 101;
const absl::Time kExecEnd = absl::FromUnixSeconds(1000);
const absl::Time kInitEnd = absl::FromUnixSeconds(1001);

TestEvent Event(const std::string& topic, const std::string& process,
                uint32_t pid, uint32_t status = 0, absl::Time at = {}) {
  return {.topic = "/tasks/" + topic,
          .container = "c1",
          .process = process,
          .pid = pid,
          .status = status,
          .exited_at = at};
}

TestEvent Created() { return Event("create", "", kInitPid); }
TestEvent Started() { return Event("start", "", kInitPid); }
TestEvent Exited() { return Event("exit", "c1", kInitPid, 137, kInitEnd); }
TestEvent Deleted() { return Event("delete", "", kInitPid, 137, kInitEnd); }
TestEvent ExecAdded() { return Event("exec-added", "e1", 0); }
TestEvent ExecStarted() { return Event("exec-started", "e1", kExecPid); }
TestEvent ExecExited() { return Event("exit", "e1", kExecPid, 7, kExecEnd); }

// A task with an exec, all of whose calls have succeeded.
class OrderTest : public ::testing::Test {
 protected:
  OrderTest() {
    ProcessFacts& init = facts_[{"c1", ""}];
    init.made = Outcome::kDone;
    init.started = Outcome::kDone;
    init.pid = kInitPid;
    init.Allow(137, kInitEnd - absl::Seconds(1));
    init.answers = {{"Wait", 137, kInitEnd}};
    ProcessFacts& exec = facts_[{"c1", "e1"}];
    exec.made = Outcome::kDone;
    exec.started = Outcome::kDone;
    exec.pid = kExecPid;
    exec.Allow(7, kExecEnd - absl::Seconds(1));
    exec.answers = {{"Delete", 7, kExecEnd}};
  }

  ProcessFacts& init() { return facts_[{"c1", ""}]; }
  ProcessFacts& exec() { return facts_[{"c1", "e1"}]; }
  std::vector<std::string> Faults(const std::vector<TestEvent>& events) const {
    return FindFaults(events, facts_);
  }

  Facts facts_;
  const std::vector<TestEvent> good_ = {
      Created(),    Started(), ExecAdded(), ExecStarted(),
      ExecExited(), Exited(),  Deleted()};
};

TEST_F(OrderTest, AcceptsAGoodLife) { EXPECT_THAT(Faults(good_), IsEmpty()); }

TEST_F(OrderTest, AcceptsAnExecThatIsOlderThanInitsStart) {
  EXPECT_THAT(Faults({Created(), ExecAdded(), ExecStarted(), Started(),
                      ExecExited(), Exited(), Deleted()}),
              IsEmpty());
}

TEST_F(OrderTest, ObjectsToAnExecsExitAfterInits) {
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), ExecStarted(),
                      Exited(), ExecExited(), Deleted()}),
              ElementsAre("c1/e1: exited after init's exit"));
}

TEST_F(OrderTest, ObjectsToAnExecStartedOrAddedAfterInitsExit) {
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), Exited(),
                      ExecStarted(), ExecExited(), Deleted()}),
              Contains("c1/e1: started after init's exit"));
  EXPECT_THAT(Faults({Created(), Started(), Exited(), ExecAdded(),
                      ExecStarted(), ExecExited(), Deleted()}),
              Contains("c1/e1: added after init's exit"));
}

TEST_F(OrderTest, ObjectsToAnythingThatComesTwice) {
  for (const TestEvent& event : good_) {
    std::vector<TestEvent> events;
    for (const TestEvent& once : good_) {
      events.push_back(once);
      if (once.topic == event.topic && once.process == event.process) {
        events.push_back(once);
      }
    }
    EXPECT_THAT(Faults(events),
                Contains(::testing::HasSubstr("more than once")))
        << event.Text();
  }
}

TEST_F(OrderTest, ObjectsToAnythingThatIsMissing) {
  for (const TestEvent& event : good_) {
    std::vector<TestEvent> events;
    for (const TestEvent& other : good_) {
      if (other.topic != event.topic || other.process != event.process) {
        events.push_back(other);
      }
    }
    EXPECT_THAT(Faults(events), ::testing::Not(IsEmpty())) << event.Text();
  }
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), ExecStarted(),
                      Exited(), Deleted()}),
              Contains("c1/e1: its exit is missing"));
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), ExecStarted(),
                      ExecExited(), Deleted()}),
              Contains("c1: its exit is missing"));
}

TEST_F(OrderTest, ObjectsToAnExitBeforeTheStart) {
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), ExecExited(),
                      ExecStarted(), Exited(), Deleted()}),
              ElementsAre("c1/e1: exited before it was started"));
  facts_.erase({"c1", "e1"});
  EXPECT_THAT(Faults({Created(), Exited(), Started(), Deleted()}),
              ElementsAre("c1: exited before it was started"));
}

TEST_F(OrderTest, ObjectsToALifeThatBeginsOrEndsInTheMiddle) {
  facts_.erase({"c1", "e1"});
  EXPECT_THAT(Faults({Started(), Created(), Exited(), Deleted()}),
              ElementsAre("c1: started before it was made"));
  EXPECT_THAT(Faults({Created(), Started(), Deleted(), Exited()}),
              ElementsAre("c1: deleted before it exited"));
}

TEST_F(OrderTest, ObjectsToEventsOfWhatHasFailed) {
  exec().started = Outcome::kFailed;
  EXPECT_THAT(
      Faults(good_),
      ElementsAre("c1/e1: was not started, but an event tells that it was"));
  exec().answers = {{"Wait", 0, NeverExited()}};
  exec().pid = 0;
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), Exited(), Deleted()}),
              IsEmpty());
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), ExecExited(), Exited(),
                      Deleted()}),
              Contains("c1/e1: exited, but was never started"));
  facts_.clear();
  init().made = Outcome::kFailed;
  EXPECT_THAT(Faults({}), IsEmpty());
  EXPECT_THAT(Faults({Created(), Exited(), Deleted()}),
              Contains("c1: was not made, but events tell of it"));
}

TEST_F(OrderTest, AcceptsEitherWhereTheClientCannotKnow) {
  exec().started = Outcome::kUnknown;
  EXPECT_THAT(Faults(good_), IsEmpty());
  exec().answers.clear();
  EXPECT_THAT(Faults({Created(), Started(), ExecAdded(), Exited(), Deleted()}),
              IsEmpty());
}

TEST_F(OrderTest, ObjectsToAStatusWithoutACause) {
  exec().statuses = {{137, kExecEnd - absl::Seconds(1)}};
  EXPECT_THAT(Faults(good_), Contains("c1/e1: cannot have ended with 7"));
  exec().statuses = {{7, kExecEnd + absl::Seconds(1)}};
  EXPECT_THAT(
      Faults(good_),
      ElementsAre("c1/e1: ended with 7 before there was a reason for it"));
}

TEST_F(OrderTest, ObjectsToAnswersThatDisagree) {
  exec().answers = {{"Wait", 0, kExecEnd}};
  EXPECT_THAT(Faults(good_), ElementsAre("c1/e1: Wait says 0, the event 7"));
  exec().answers = {{"State", 7, kExecEnd + absl::Nanoseconds(1)}};
  EXPECT_THAT(Faults(good_),
              ElementsAre(::testing::HasSubstr("State says it ended at")));
}

TEST_F(OrderTest, ObjectsToADeletionThatTellsOfAnotherEnd) {
  facts_.erase({"c1", "e1"});
  TestEvent deleted = Deleted();
  deleted.exited_at += absl::Seconds(1);
  EXPECT_THAT(
      Faults({Created(), Started(), Exited(), deleted}),
      ElementsAre("c1: its deletion tells of another end than its exit"));
}

TEST_F(OrderTest, ObjectsToPidsThatDisagree) {
  exec().pid = 5;
  EXPECT_THAT(Faults(good_),
              ElementsAre("c1/e1: exited with another pid than it was given"));
}

TEST_F(OrderTest, ObjectsToAStranger) {
  EXPECT_THAT(FindFaults({Created(), Exited(), Deleted()}, {}),
              Contains("c1: events of a process nobody made"));
}

}  // namespace
}  // namespace wisp
