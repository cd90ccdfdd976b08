// Random schedules of calls, failures, deadlines, lost connections and deaths
// against the real binary, with a runtime whose every step can be held.
//
//   schedule_test                                     150 schedules
//   WISP_SCHEDULES=1000 schedule_test                 and every rare thing must
//                                                     have happened
//   WISP_SEED=17 schedule_test                        the schedule of seed 17
//   WISP_SEED=17 WISP_SCHEDULES=50 schedule_test      those from 17 on
//
// A seed decides what is done, in which order; how fast the machine is decides
// the rest, so a fault may want its seed a few times (--gtest_repeat=20).
#include "test/support/schedule.h"

#include <stdlib.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gtest/gtest.h"

namespace wisp {
namespace {

// Each must happen over so many schedules.
constexpr uint64_t kEnoughForAll = 1000;
constexpr uint64_t kSchedulesPerShim = 50;
constexpr int kFaultySchedulesShown = 3;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = getenv(name);
  uint64_t value = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &value)) return otherwise;
  return value;
}

std::string LastLines(const std::string& text, size_t count) {
  size_t start = text.size();
  for (size_t i = 0; i <= count && start != std::string::npos && start > 0;
       ++i) {
    start = text.rfind('\n', start - 1);
  }
  return start == std::string::npos ? text : text.substr(start);
}

std::string Report(const Plan& plan, uint64_t seed, size_t first_event,
                   const std::vector<std::string>& faults, TestShim* shim) {
  std::string text =
      fmt::format("WISP_SEED={} WISP_SCHEDULES=1 schedule_test:\n", seed);
  for (const std::string& fault : faults) text += "  " + fault + "\n";
  text += "the schedule:\n" + plan.Text() + "the events:\n";
  for (size_t i = first_event; i < shim->events().size(); ++i) {
    const TestEvent& event = shim->events()[i];
    text += fmt::format("  {} ({})\n", event.Text(), event.pid);
  }
  return text + "the shim's last words:" + LastLines(shim->Log(), 40);
}

void Print(const Tally& tally, uint64_t schedules) {
  fmt::print("over {} schedules:\n", schedules);
  for (std::string_view what : kRareThings) {
    const auto found = tally.find(what);
    fmt::print("  {:6} {}\n", found == tally.end() ? 0 : found->second, what);
  }
}

TEST(ScheduleTest, KeepsItsPromisesWhateverHappens) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const uint64_t first = FromEnvironment("WISP_SEED", 1);
  const uint64_t schedules = FromEnvironment(
      "WISP_SCHEDULES", getenv("WISP_SEED") == nullptr ? 150 : 1);
  // Some schedules wait for it.
  setenv("WISP_RUNTIME_LIMITS", "create=1s,start=1s,exec=1s", 1);
  Tally tally;
  uint64_t done = 0;
  int faulty = 0;
  std::unique_ptr<TestShim> shim;
  std::unique_ptr<ScheduleRunner> runner;
  const auto finish_shim = [&] {
    if (runner == nullptr) return;
    for (const std::string& fault : runner->FindLateFaults()) {
      ADD_FAILURE() << "at the end of the shim: " << fault;
    }
    runner.reset();
    shim.reset();
  };
  for (uint64_t i = 0; i < schedules && faulty < kFaultySchedulesShown; ++i) {
    if (i % kSchedulesPerShim == 0) {
      finish_shim();
      shim = TestShim::Start(FAKE_RUNC);
      ASSERT_NE(shim, nullptr);
      runner = std::make_unique<ScheduleRunner>(*shim, tally);
    }
    const Plan plan = MakePlan(first + i);
    const size_t first_event = shim->events().size();
    const std::vector<std::string> faults = runner->Run(plan);
    ++done;
    if (!faults.empty()) {
      ++faulty;
      ADD_FAILURE() << Report(plan, first + i, first_event, faults, shim.get());
    }
    ASSERT_FALSE(shim->gone()) << "the shim has died with seed " << first + i;
  }
  finish_shim();
  Print(tally, done);
  if (done < kEnoughForAll) return;
  for (std::string_view what : kRareThings) {
    EXPECT_GT(tally[what], 0) << "has never happened: " << what;
  }
}

}  // namespace
}  // namespace wisp
