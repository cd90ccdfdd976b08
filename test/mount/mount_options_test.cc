#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "mount/options.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

MountOptions Parse(const std::vector<std::string>& options) {
  absl::StatusOr<MountOptions> result = ParseMountOptions(options);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : MountOptions{};
}

struct WordCase {
  const char* set;
  const char* clear;  // null: nothing takes it back
  unsigned long flags;
};

constexpr WordCase kWords[] = {
    {"ro", "rw", MS_RDONLY},
    {"nosuid", "suid", MS_NOSUID},
    {"nodev", "dev", MS_NODEV},
    {"noexec", "exec", MS_NOEXEC},
    {"sync", "async", MS_SYNCHRONOUS},
    {"dirsync", nullptr, MS_DIRSYNC},
    {"remount", nullptr, MS_REMOUNT},
    {"mand", "nomand", MS_MANDLOCK},
    {"noatime", "atime", MS_NOATIME},
    {"nodiratime", "diratime", MS_NODIRATIME},
    {"relatime", "norelatime", MS_RELATIME},
    {"strictatime", "nostrictatime", MS_STRICTATIME},
    {"bind", nullptr, MS_BIND},
    {"rbind", nullptr, MS_BIND | MS_REC},
};

TEST(MountOptionsTest, KnowsEachFlagAndItsOpposite) {
  for (const WordCase& word : kWords) {
    EXPECT_EQ(Parse({word.set}), (MountOptions{.flags = word.flags}))
        << word.set;
    if (word.clear == nullptr) continue;
    EXPECT_EQ(Parse({word.set, word.clear}), MountOptions{}) << word.clear;
    EXPECT_EQ(Parse({word.clear, word.set}).flags, word.flags) << word.clear;
  }
}

TEST(MountOptionsTest, KeepsTheRestAsDataInOrder) {
  const MountOptions options =
      Parse({"index=off", "ro", "workdir=/w", "lowerdir=/a\\:b:/c", "",
             "context=\"a:b,c\"", "RO", "ro "});
  EXPECT_EQ(options.flags, unsigned{MS_RDONLY});
  EXPECT_THAT(options.data,
              ElementsAre("index=off", "workdir=/w", "lowerdir=/a\\:b:/c", "",
                          "context=\"a:b,c\"", "RO", "ro "));
}

TEST(MountOptionsTest, DropsDefaults) {
  EXPECT_EQ(Parse({"defaults", "defaults"}), MountOptions{});
}

TEST(MountOptionsTest, TakesPropagationOutOfTheData) {
  const MountOptions options = Parse({"rbind", "rslave"});
  EXPECT_EQ(options.flags, unsigned{MS_BIND | MS_REC});
  EXPECT_EQ(options.propagation, unsigned{MS_SLAVE | MS_REC});
  EXPECT_THAT(options.data, IsEmpty());
  EXPECT_EQ(Parse({"shared", "private"}).propagation, unsigned{MS_PRIVATE});
}

TEST(MountOptionsTest, TakesDirectIoOnlyTogetherWithLoop) {
  EXPECT_EQ(Parse({"direct-io", "loop"}),
            (MountOptions{.loop = true, .direct_io = true}));
  EXPECT_THAT(Parse({"direct-io"}).data, ElementsAre("direct-io"));
}

TEST(MountOptionsTest, TakesIdMapsOutOfTheData) {
  const MountOptions options =
      Parse({"uidmap=0:1:2", "gidmap=3:4:5,6:7:8", "uidmap"});
  EXPECT_EQ(options.uid_map, "0:1:2");
  EXPECT_EQ(options.gid_map, "3:4:5,6:7:8");
  EXPECT_THAT(options.data, ElementsAre("uidmap"));
}

TEST(MountOptionsTest, RefusesWhatTheMountManagerShouldHaveTaken) {
  const absl::Status status =
      ParseMountOptions({"ro", "X-containerd.mkdir.path=/x"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status),
            "internal mount option \"X-containerd.mkdir.path=/x\" was not "
            "consumed by the mount manager");
}

TEST(MountOptionsTest, QuotesAsGoDoes) {
  EXPECT_EQ(Quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\nd\"");
}

}  // namespace
}  // namespace wisp
