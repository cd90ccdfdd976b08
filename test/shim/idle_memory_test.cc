#include "shim/idle_memory.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "process/fd.h"

namespace wisp {
namespace {

size_t ResidentBytes() {
  size_t all = 0;
  size_t resident = 0;
  const std::string statm = ReadFile("/proc/self/statm").value_or("");
  EXPECT_EQ(sscanf(statm.c_str(), "%zu %zu", &all, &resident), 2);
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Leaves free what is so large that glibc keeps it, for something is behind it.
class Burst {
 public:
  static constexpr size_t kBytes = size_t{16} << 20;

  Burst() {
    for (auto& piece : pieces_) {
      piece = std::make_unique<char[]>(kPiece);  // zeroes it: it is resident
    }
    top_ = std::make_unique<char[]>(kPiece);
  }
  void End() { pieces_.clear(); }

 private:
  static constexpr size_t kPiece = 1024;
  std::vector<std::unique_ptr<char[]>> pieces_{kBytes / kPiece};
  std::unique_ptr<char[]> top_;
};

class IdleMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::Create();
    ASSERT_TRUE(loop.ok());
    loop_ = *std::move(loop);
  }
  bool Sinks(size_t bytes) {
    const absl::Time limit = absl::Now() + absl::Seconds(30);
    while (ResidentBytes() >= bytes) {
      if (absl::Now() > limit) return false;
      loop_->RunOnce(absl::Milliseconds(50));
    }
    return true;
  }
  std::unique_ptr<EventLoop> loop_;
};

TEST_F(IdleMemoryTest, GivesBackWhatABurstHasLeft) {
  IdleMemory memory(*loop_);
  memory.Consider();
  EXPECT_FALSE(memory.waits());
  // What the first has left free is taken again, and so on.
  for (int i = 0; i < 3; ++i) {
    Burst burst;
    const size_t full = ResidentBytes();
    burst.End();
    if (mallinfo2().fordblks < Burst::kBytes / 2) {
      GTEST_SKIP() << "another allocator is in the place of glibc's";
    }
    EXPECT_GT(ResidentBytes(), full - Burst::kBytes / 2);
    memory.Consider();
    ASSERT_TRUE(memory.waits());
    EXPECT_TRUE(Sinks(full - Burst::kBytes / 2));
    // There is no more to be had, though as much is free as before.
    memory.Consider();
    EXPECT_FALSE(memory.waits());
  }
}

TEST_F(IdleMemoryTest, WaitsForTheEndOfABurst) {
  IdleMemory memory(*loop_);
  Burst first;
  Burst rest;
  const size_t full = ResidentBytes();
  first.End();
  if (mallinfo2().fordblks < Burst::kBytes / 2) {
    GTEST_SKIP() << "another allocator is in the place of glibc's";
  }
  const absl::Time until = absl::Now() + 2 * IdleMemory::kDelay;
  while (absl::Now() < until) {
    memory.Consider();
    ASSERT_TRUE(memory.waits());
    loop_->RunOnce(absl::Milliseconds(20));
  }
  rest.End();
  memory.Consider();
  EXPECT_TRUE(Sinks(full - 3 * (Burst::kBytes / 2)));
}

}  // namespace
}  // namespace wisp
