#include "process/spool.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/spill_options.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kKibi = 1024;

TEST(SpillOptionsTest, ReadsSizesOverTheDefaults) {
  const SpillOptions none = std::move(ParseSpillOptions("")).value();
  EXPECT_EQ(none.memory, kKibi << 10);
  EXPECT_EQ(none.file, 0U);
  EXPECT_FALSE(none.drop);
  EXPECT_FALSE(none.needs_spool());
  const SpillOptions all =
      std::move(
          ParseSpillOptions("memory=256K,file=2G,full=drop,dir=/var/spool"))
          .value();
  EXPECT_EQ(all.memory, 256 * kKibi);
  EXPECT_EQ(all.file, kKibi << 21);
  EXPECT_TRUE(all.drop);
  EXPECT_EQ(all.directory, "/var/spool");
  EXPECT_TRUE(all.needs_spool());
  EXPECT_EQ(std::move(ParseSpillOptions("memory=7,full=block")).value().memory,
            7U);
}

TEST(SpillOptionsTest, NamesThePartThatIsWrong) {
  for (const char* part :
       {"memory", "memory=", "memory=K", "memory=1T", "memory=-1", "file=1.5M",
        "file=9999999999999G", "full=maybe", "dir=relative", "colour=red"}) {
    const absl::Status status =
        ParseSpillOptions(std::string("memory=1M,") + part).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_EQ(Message(status), fmt::format("output that waits: \"{}\"", part));
  }
}

// Pipes that do not block on both sides.
class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest() : source_(NonblockingPipe()), sink_(NonblockingPipe()) {
    fds_before_ = OpenFds();
  }

  static Pipe NonblockingPipe() {
    Pipe pipe = std::move(MakePipe()).value();
    EXPECT_TRUE(SetNonblocking(pipe.read_end.get()).ok());
    EXPECT_TRUE(SetNonblocking(pipe.write_end.get()).ok());
    return pipe;
  }
  SpillOptions Options(uint64_t memory, uint64_t file, bool drop) {
    return {.memory = memory,
            .file = file,
            .drop = drop,
            .directory = directory_.path()};
  }
  // Numbered lines of eight bytes each.
  static std::string Lines(int first, int count) {
    std::string text;
    for (int i = first; i < first + count; ++i) {
      text += fmt::format("{:07}\n", i);
    }
    return text;
  }
  // Writes all of `text` to the source, with turns whenever it is full. False
  // if the spool takes no more.
  bool Feed(Spool& spool, std::string_view text) {
    while (!text.empty()) {
      const ssize_t n =
          write(source_.write_end.get(), text.data(), text.size());
      if (n > 0) text.remove_prefix(static_cast<size_t>(n));
      if (!spool.takes_more()) return false;
      Turn(spool);
    }
    return true;
  }
  Spool::Moved Turn(Spool& spool, bool may_use_file = true) {
    const Spool::Moved moved =
        spool.Turn(source_.read_end.get(), sink_.write_end.get(), may_use_file);
    delivered_ += moved.delivered;
    dropped_ += moved.dropped;
    return moved;
  }
  // All that the sink gets until the spool is empty.
  std::string Empty(Spool& spool) {
    std::string text;
    while (true) {
      char buffer[65536];
      const ssize_t n = read(sink_.read_end.get(), buffer, sizeof(buffer));
      if (n > 0) {
        text.append(buffer, static_cast<size_t>(n));
      } else if (spool.empty()) {
        return text;
      } else {
        Turn(spool);
      }
    }
  }
  int Entries() const {
    int entries = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(directory_.path())) {
      ++entries;
    }
    return entries;
  }

  TemporaryDirectory directory_;
  Pipe source_;
  Pipe sink_;
  uint64_t delivered_ = 0;
  uint64_t dropped_ = 0;
  std::map<int, std::string> fds_before_;
};

TEST_F(SpoolTest, GivesBackWhatItTookInOrder) {
  for (const uint64_t file : {uint64_t{0}, 4096 * kKibi}) {
    delivered_ = 0;
    Spool spool(Options(1024 * kKibi, file, false));
    const int count = file == 0 ? 100'000 : 400'000;  // 0.8, 3.2 MB
    const std::string text = Lines(0, count);
    ASSERT_TRUE(Feed(spool, text));
    EXPECT_EQ(spool.size() + delivered_, text.size());
    EXPECT_THAT(OpenFds(), SizeIs(fds_before_.size() + 1));
    EXPECT_EQ(Entries(), 0);  // it has no name
    EXPECT_TRUE(Empty(spool) == text);
    EXPECT_EQ(delivered_, text.size());
    EXPECT_EQ(OpenFds(), fds_before_);  // nor does it keep anything
  }
}

TEST_F(SpoolTest, GoesRoundForAsLongAsTheReaderIsSlow) {
  Spool spool(Options(100 * kKibi, 300 * kKibi, false));
  const std::string text = Lines(0, 200'000);
  std::string_view left = text;
  std::string got;
  for (int i = 0; !left.empty() || !spool.empty(); ++i) {
    const ssize_t n = write(source_.write_end.get(), left.data(),
                            std::min(left.size(), size_t{30'011}));
    if (n > 0) left.remove_prefix(static_cast<size_t>(n));
    Turn(spool);
    char buffer[20'000];
    // Full at times, and empty at times.
    const ssize_t taken =
        i % 64 < 32 ? 0 : read(sink_.read_end.get(), buffer, sizeof(buffer));
    if (taken > 0) got.append(buffer, static_cast<size_t>(taken));
  }
  got += Empty(spool);
  char buffer[65536];
  ssize_t n;
  while ((n = read(sink_.read_end.get(), buffer, sizeof(buffer))) > 0) {
    got.append(buffer, static_cast<size_t>(n));
  }
  EXPECT_TRUE(got == text) << got.size();
}

TEST_F(SpoolTest, TakesNoMoreThanItsCapacity) {
  Spool spool(Options(64 * kKibi, 256 * kKibi, false));
  EXPECT_FALSE(Feed(spool, Lines(0, 100'000)));
  EXPECT_EQ(spool.size(), 256 * kKibi);
  EXPECT_EQ(dropped_, 0U);
}

TEST_F(SpoolTest, StopsWhereTheFileBeginsIfItMayNotUseIt) {
  Spool spool(Options(256 * kKibi, 1024 * kKibi, false));
  Spool::Moved moved;
  for (int i = 0; i < 16 && !moved.needs_file; ++i) {
    (void)!write(source_.write_end.get(), Lines(0, 8192).data(), 65536);
    moved = Turn(spool, /*may_use_file=*/false);
  }
  EXPECT_TRUE(moved.needs_file);
  EXPECT_LE(spool.size(), 256 * kKibi);
  EXPECT_GT(spool.size(), 128 * kKibi);
}

TEST_F(SpoolTest, DropsWhatIsOldestInWholeLinesAndSaysHowMuch) {
  for (const uint64_t file : {uint64_t{0}, 512 * kKibi}) {
    delivered_ = dropped_ = 0;
    Spool spool(Options(128 * kKibi, file, true));
    const std::string text = Lines(0, 500'000);
    ASSERT_TRUE(Feed(spool, text));
    const std::string got = Empty(spool);
    EXPECT_EQ(delivered_ + dropped_, text.size());
    const std::string marker =
        fmt::format("[wisp: {} bytes of output were dropped here]\n", dropped_);
    const size_t at = got.find(marker);
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(got[at - 1], '\n');
    // Before it the beginning, after it the end, and both are whole lines but
    // for the one that was cut off by it.
    const std::string before = got.substr(0, at - 1);
    const std::string after = got.substr(at + marker.size());
    EXPECT_TRUE(text.starts_with(before));
    EXPECT_TRUE(text.ends_with(after));
    EXPECT_EQ(after.size() % 8, 0U);
    EXPECT_GT(after.size(), std::max(file, 128 * kKibi) / 2);
  }
}

TEST_F(SpoolTest, TellsOfEachGap) {
  Spool spool(Options(64 * kKibi, 0, true));
  std::string got;
  ASSERT_TRUE(Feed(spool, Lines(0, 100'000)));
  got += Empty(spool);
  ASSERT_TRUE(Feed(spool, Lines(100'000, 100'000)));
  got += Empty(spool);
  size_t markers = 0;
  for (size_t at = 0; (at = got.find("were dropped", at)) != std::string::npos;
       ++at) {
    ++markers;
  }
  EXPECT_EQ(markers, 2U);
  EXPECT_EQ(delivered_ + dropped_, 1'600'000U);
}

TEST_F(SpoolTest, WhatHasNoLinesIsDroppedToo) {
  Spool spool(Options(64 * kKibi, 0, true));
  ASSERT_TRUE(Feed(spool, std::string(1'000'000, 'x')));
  Empty(spool);
  EXPECT_EQ(delivered_ + dropped_, 1'000'000U);
  EXPECT_GT(delivered_, 64 * kKibi);
}

TEST_F(SpoolTest, WithoutAnyRoomAllIsDropped) {
  Spool spool(Options(0, 0, true));
  ASSERT_TRUE(Feed(spool, Lines(0, 10'000)));
  EXPECT_EQ(spool.size(), 0U);
  EXPECT_EQ(dropped_, 80'000U);
  EXPECT_TRUE(Empty(spool).starts_with("\n[wisp: "));
}

TEST_F(SpoolTest, GoesOnInMemoryWhereNoFileCanBeMade) {
  SpillOptions options = Options(128 * kKibi, 512 * kKibi, false);
  options.directory = directory_ / "absent";
  Spool spool(options);
  const std::string text = Lines(0, 100'000);
  EXPECT_FALSE(Feed(spool, text));
  EXPECT_GE(spool.size(), 128 * kKibi);
  EXPECT_LE(spool.size(), 192 * kKibi);  // and what was in hand
  EXPECT_TRUE(text.starts_with(Empty(spool)));
}

TEST_F(SpoolTest, AFullDiskIsTheEndOfItsRoomAndNoLoss) {
  const std::string disk = directory_ / "disk";
  ASSERT_EQ(mkdir(disk.c_str(), 0700), 0);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "needs the right to mount a tmpfs";
  }
  for (const bool drop : {false, true}) {
    delivered_ = dropped_ = 0;
    SpillOptions options = Options(64 * kKibi, 1024 * kKibi, drop);
    options.directory = disk;
    Spool spool(options);
    const std::string text = Lines(0, 100'000);
    EXPECT_EQ(Feed(spool, text), drop);
    const std::string got = Empty(spool);
    if (drop) {
      EXPECT_EQ(delivered_ + dropped_, text.size());
      EXPECT_TRUE(got.ends_with(text.substr(text.size() - 1000)));
    } else {
      EXPECT_TRUE(text.starts_with(got));
      EXPECT_GT(got.size(), 200 * kKibi);
      EXPECT_EQ(dropped_, 0U);
    }
    // For the next one.
    char buffer[65536];
    while (read(source_.read_end.get(), buffer, sizeof(buffer)) > 0) {
    }
  }
  EXPECT_EQ(umount2(disk.c_str(), 0), 0);
}

TEST_F(SpoolTest, SaysThatTheReaderHasGone) {
  Spool spool(Options(64 * kKibi, 0, false));
  signal(SIGPIPE, SIG_IGN);
  spool.Add("words");
  sink_.read_end.Reset();
  EXPECT_TRUE(Turn(spool).sink_gone);
  EXPECT_EQ(spool.size(), 5U);
}

TEST_F(SpoolTest, SaysThatTheSourceHasEnded) {
  Spool spool(Options(64 * kKibi, 0, false));
  EXPECT_FALSE(Turn(spool).source_ended);
  (void)!write(source_.write_end.get(), "end", 3);
  source_.write_end.Reset();
  EXPECT_TRUE(Turn(spool).source_ended);
  EXPECT_EQ(Empty(spool), "end");
}

}  // namespace
}  // namespace wisp
