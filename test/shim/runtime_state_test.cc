#include "shim/runtime_state.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "process/fd.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

class RuntimeStateTest : public ::testing::Test {
 protected:
  RuntimeStateTest() {
    for (const std::string& path : {state_, bundle_.directory(), other_}) {
      WISP_CHECK(mkdir(path.c_str(), 0700) == 0);
    }
  }
  void Write(const std::string& path, std::string_view text) {
    WISP_ASSERT_OK(WriteFileAtomically(path, text, 0600, false));
  }
  RuntimeState Inspect() {
    return InspectRuntimeState(state_, bundle_.directory(), bundle_, host_);
  }
  std::string RuncState(const std::string& labels) {
    return R"({"id":"x","cgroup_paths":{"":"/sys/fs/cgroup/a/b","devices":)"
           R"("/sys/fs/cgroup/devices/c/d"},"config":{"labels":[)" +
           labels + "]}}";
  }

  TemporaryDirectory directory_;
  std::string state_ = directory_ / "state";
  std::string other_ = directory_ / "other";
  Bundle bundle_{directory_ / "bundle"};
  CgroupHost host_;
};

TEST_F(RuntimeStateTest, OfAnUnknownContainerThereIsNone) {
  const RuntimeState state = InspectRuntimeState(
      directory_ / "absent", bundle_.directory(), bundle_, host_);
  EXPECT_FALSE(state.exists);
  EXPECT_FALSE(state.ours);
}

TEST_F(RuntimeStateTest, RuncTellsTheBundleInItsLastLabel) {
  Write(state_ + "/state.json",
        RuncState("\"bundle=" + other_ +
                  "\",\"x=y\",\"bundle=" + bundle_.directory() + "\""));
  RuntimeState state = Inspect();
  EXPECT_TRUE(state.exists);
  EXPECT_TRUE(state.ours);
  EXPECT_EQ(state.bundle, bundle_.directory());
  EXPECT_EQ(state.cgroup, "/a/b");
  host_.mode = CgroupMode::kV1;
  EXPECT_EQ(Inspect().cgroup, "/c/d");
  Write(state_ + "/state.json", RuncState("\"bundle=" + bundle_.directory() +
                                          "\",\"bundle=" + other_ + "\""));
  EXPECT_FALSE(Inspect().ours);
}

TEST_F(RuntimeStateTest, CrunTellsItInItsStatus) {
  Write(state_ + "/status", R"({"pid":1,"bundle":")" + bundle_.directory() +
                                R"(","cgroup-path":"system.slice/x"})");
  const RuntimeState state = Inspect();
  EXPECT_TRUE(state.ours);
  EXPECT_EQ(state.cgroup, "/system.slice/x");
  Write(state_ + "/status", R"({"bundle":")" + other_ + R"("})");
  EXPECT_FALSE(Inspect().ours);
}

TEST_F(RuntimeStateTest, YoukiTellsItInTheStateOfTheSpecification) {
  Write(state_ + "/state.json", R"({"id":"x","status":"running","bundle":")" +
                                    bundle_.directory() + R"("})");
  EXPECT_TRUE(Inspect().ours);
  EXPECT_EQ(Inspect().cgroup, "");
  Write(state_ + "/youki_config.json", R"({"cgroup_path":"a/b"})");
  EXPECT_EQ(Inspect().cgroup, "/a/b");
  Write(state_ + "/state.json", R"({"bundle":")" + other_ + R"("})");
  EXPECT_FALSE(Inspect().ours);
}

TEST_F(RuntimeStateTest, BundlesAreComparedAsDirectories) {
  const std::string link = directory_ / "link";
  ASSERT_EQ(symlink(bundle_.directory().c_str(), link.c_str()), 0);
  Write(state_ + "/state.json", RuncState("\"bundle=" + link + "\""));
  EXPECT_TRUE(Inspect().ours);
}

TEST_F(RuntimeStateTest, ABundleThatHasGoneIsComparedByName) {
  Write(state_ + "/state.json",
        RuncState("\"bundle=" + bundle_.directory() + "\""));
  ASSERT_EQ(rmdir(bundle_.directory().c_str()), 0);
  EXPECT_TRUE(Inspect().ours);
}

TEST_F(RuntimeStateTest, WithoutReadableStateAnInitPidDecides) {
  EXPECT_TRUE(Inspect().exists);
  EXPECT_FALSE(Inspect().ours);
  Write(state_ + "/state.json", "{\"config\":");
  EXPECT_FALSE(Inspect().ours);
  Write(bundle_.init_pid(), "4300");
  EXPECT_TRUE(Inspect().ours);
  Write(bundle_.init_pid(), "no pid");
  EXPECT_FALSE(Inspect().ours);
}

TEST_F(RuntimeStateTest, ARootIsNoCgroupOfAContainer) {
  Write(state_ + "/state.json",
        R"({"cgroup_paths":{"":"/sys/fs/cgroup"},"config":{"labels":[]}})");
  EXPECT_EQ(Inspect().cgroup, "");
}

}  // namespace
}  // namespace wisp
