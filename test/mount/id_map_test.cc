#include "mount/id_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(IdMapTest, ReadsSeveralRanges) {
  const auto map = ParseIdMap("0:100000:65536,65536:5:1");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_THAT(*map,
              ElementsAre(IdRange{0, 100000, 65536}, IdRange{65536, 5, 1}));
}

TEST(IdMapTest, RefusesWhatIsNoMap) {
  for (const char* text : {"", "0", "0:1", "0:1:", "a:1:2", "-1:1:2", "0:1:-2",
                           "0:1:4294967296", "0:1:2,", ",0:1:2", "0 1 2"}) {
    const absl::Status status = ParseIdMap(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(Message(status)),
                HasSubstr("user namespace mappings require the format"))
        << text;
  }
  for (const char* text : {"0:1:0", "0:1:2:3", "0:1:2 "}) {
    EXPECT_THAT(std::string(Message(ParseIdMap(text).status())),
                HasSubstr("invalid mapping"))
        << text;
  }
}

TEST(IdMapTest, LeavesNoChildForAPlainWait) {
  if (geteuid() != 0) GTEST_SKIP() << "writes id maps: needs root";
  struct stat ours, made;
  const auto fd = MakeUserNamespace({{0, 100000, 65536}}, {{0, 100000, 65536}});
  ASSERT_TRUE(fd.ok()) << fd.status();
  ASSERT_EQ(stat("/proc/self/ns/user", &ours), 0);
  ASSERT_EQ(fstat(fd->get(), &made), 0);
  EXPECT_NE(ours.st_ino, made.st_ino);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(IdMapTest, LeavesNoChildWhenTheKernelRefusesTheMap) {
  if (geteuid() != 0) GTEST_SKIP() << "writes id maps: needs root";
  // The same id twice inside.
  const auto fd = MakeUserNamespace({{0, 1, 10}, {5, 100, 10}}, {{0, 1, 1}});
  ASSERT_FALSE(fd.ok());
  EXPECT_THAT(std::string(Message(fd.status())), HasSubstr("uid_map"));
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace wisp
