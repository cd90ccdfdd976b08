// Kills for want of memory under any OCI runtime.
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "test/support/real_runtime.h"

namespace wisp {
namespace {

constexpr int kAtOnce = 4;

// Else nothing would end what eats.
bool MemoryIsLimited() {
  const absl::StatusOr<std::string> v2 =
      ReadFile("/sys/fs/cgroup/cgroup.controllers");
  struct stat info;
  return v2.ok() ? v2->find("memory") != std::string::npos
                 : stat("/sys/fs/cgroup/memory/cgroup.procs", &info) == 0;
}

// $WISP_OOMS containers.
int Containers() {
  const char* const wanted = getenv("WISP_OOMS");
  int containers = 0;
  return wanted != nullptr && absl::SimpleAtoi(wanted, &containers) ? containers
                                                                    : 8;
}

using OomTest = RealRuntimeTest;

TEST_F(OomTest, EachIsToldOnceAndBeforeTheExitThatItCauses) {
  if (!MemoryIsLimited()) GTEST_SKIP() << "no controller of memory";
  const int containers = Containers();
  int done = 0;
  while (done < containers) {
    std::vector<std::string> ids;
    while (ids.size() < kAtOnce && done < containers) {
      ids.push_back(fmt::format("c{}", ++done));
      const absl::Status created =
          Create(ids.back(), {.args = {"tail", "/dev/zero"},
                              .os = R"("resources":{"memory":{)"
                                    R"("limit":33554432}})"});
      ASSERT_TRUE(created.ok()) << created;
    }
    for (const std::string& id : ids) {
      const absl::StatusOr<uint32_t> pid = shim().StartTask(id);
      ASSERT_TRUE(pid.ok()) << pid.status();
    }
    for (const std::string& id : ids) {
      EXPECT_EQ(Finish(id).status, 137u) << id;
    }
  }
  ASSERT_TRUE(shim().AwaitEvent(fmt::format("delete c{} 137", containers)));
  const std::vector<std::string> texts = shim().EventTexts();
  for (int i = 1; i <= containers; ++i) {
    const std::string oom = fmt::format("oom c{}", i);
    const auto told = std::find(texts.begin(), texts.end(), oom);
    const auto exit =
        std::find(texts.begin(), texts.end(), fmt::format("exit c{} 137", i));
    EXPECT_NE(exit, texts.end()) << i;
    EXPECT_LT(told, exit) << i;
    EXPECT_EQ(std::count(texts.begin(), texts.end(), oom), 1) << i;
  }
}

}  // namespace
}  // namespace wisp
