#include "mount/overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "fmt/format.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Options of exactly `size` bytes, commas not counted.
std::vector<std::string> OptionsOfSize(size_t size,
                                       const std::string& lower_layers) {
  std::vector<std::string> data = {"lowerdir=" + lower_layers, "upperdir=/u"};
  data.push_back("x=" +
                 std::string(size - data[0].size() - data[1].size() - 2, 'x'));
  return data;
}

size_t Threshold() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)) - 512; }

TEST(OverlayTest, SplitsLayersAtColonsThatAreNotEscaped) {
  EXPECT_THAT(SplitLayers("/a:/b\\:c:/d\\\\:/e"),
              ElementsAre("/a", "/b\\:c", "/d\\\\", "/e"));
  EXPECT_THAT(SplitLayers(""), ElementsAre(""));
  EXPECT_THAT(SplitLayers("/a::/b\\"), ElementsAre("/a", "", "/b\\"));
}

TEST(OverlayTest, UnescapesWhatItEscaped) {
  const std::string path = "/a:b,c\\d e";
  EXPECT_EQ(EscapeLayer(path), "/a\\:b\\,c\\\\d e");
  EXPECT_EQ(UnescapeLayer(EscapeLayer(path)), path);
}

TEST(OverlayTest, FindsTheCommonDirectoryAtAComponent) {
  EXPECT_EQ(CommonDirectory({"/s/12/fs", "/s/13/fs", "/s/1/fs"}), "/s");
  EXPECT_EQ(CommonDirectory({"/s/12/fs"}), "/s/12");
  EXPECT_EQ(CommonDirectory({"/s/a", "/t/a"}), "");
  EXPECT_EQ(CommonDirectory({"s/a", "t/a"}), "");
  EXPECT_EQ(CommonDirectory({"./a", "./b"}), "");
  EXPECT_EQ(CommonDirectory({"/s/a", ""}), "");
  EXPECT_EQ(CommonDirectory({"/s\\/a", "/s\\/b"}), "");
  EXPECT_EQ(CommonDirectory({}), "");
}

TEST(OverlayTest, CompactsFromTheThresholdOn) {
  EXPECT_FALSE(
      CompactLongOverlay(OptionsOfSize(Threshold() - 1, "/s/1/fs:/s/2/fs")));
  const auto compact =
      CompactLongOverlay(OptionsOfSize(Threshold(), "/s/1/fs:/s/2/fs"));
  ASSERT_TRUE(compact);
  EXPECT_EQ(compact->directory, "/s/");
  ASSERT_EQ(compact->data.size(), 3u);
  EXPECT_EQ(compact->data.front(), "upperdir=/u");
  EXPECT_EQ(compact->data.back(), "lowerdir=1/fs:2/fs");
}

TEST(OverlayTest, LeavesAloneWhatHasNothingInCommon) {
  const size_t size = Threshold() + 100;
  EXPECT_FALSE(CompactLongOverlay(OptionsOfSize(size, "/s/1/fs")));
  EXPECT_FALSE(CompactLongOverlay(OptionsOfSize(size, "/a/1:/b/2")));
  EXPECT_FALSE(CompactLongOverlay(OptionsOfSize(size, "/a/:/a/b")));
  EXPECT_FALSE(CompactLongOverlay(OptionsOfSize(size, "/a/1::/a/2")));
  EXPECT_FALSE(CompactLongOverlay(OptionsOfSize(size, "/a/1:/a//2")));
  EXPECT_FALSE(CompactLongOverlay({"x=" + std::string(size, 'x')}));
}

TEST(OverlayTest, ChangesIntoTheDirectoryAsItIsOnDisk) {
  const auto compact =
      CompactLongOverlay(OptionsOfSize(Threshold(), "/a\\:b/1\\:1:/a\\:b/2"));
  ASSERT_TRUE(compact);
  EXPECT_EQ(compact->directory, "/a:b/");
  EXPECT_EQ(compact->data.back(), "lowerdir=1\\:1:2");
}

TEST(OverlayTest, ReadsAndReplacesTheLowerLayers) {
  EXPECT_THAT(LowerLayers({"index=off", "lowerdir=/a:/b", "x"}),
              ElementsAre("/a", "/b"));
  EXPECT_THAT(LowerLayers({"index=off"}), IsEmpty());
  EXPECT_THAT(WithLowerLayers({"lowerdir=/a", "x"}, {"/b", "/c"}),
              ElementsAre("x", "lowerdir=/b:/c"));
}

}  // namespace
}  // namespace wisp
