#include "process/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }
bool ClosesOnExec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

TEST(UniqueFdTest, ClosesOnceAndMoves) {
  UniqueFd first = std::move(OpenFd("/dev/null", O_RDONLY)).value();
  const int raw = first.get();
  UniqueFd second = std::move(first);
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): the promise
  EXPECT_EQ(first.get(), -1);
  EXPECT_EQ(second.get(), raw);
  UniqueFd& alias = second;
  second = std::move(alias);
  EXPECT_TRUE(IsOpen(raw));
  second.Reset();
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFdTest, ReleaseGivesTheFdAway) {
  UniqueFd fd = std::move(OpenFd("/dev/null", O_RDONLY)).value();
  const int raw = fd.Release();
  fd.Reset();
  EXPECT_TRUE(IsOpen(raw));
  close(raw);
}

TEST(FdTest, EverythingClosesOnExec) {
  const Pipe pipe = std::move(MakePipe()).value();
  EXPECT_TRUE(ClosesOnExec(pipe.read_end.get()));
  EXPECT_TRUE(ClosesOnExec(pipe.write_end.get()));
  EXPECT_TRUE(ClosesOnExec(MakeMemfd("test")->get()));
  EXPECT_TRUE(ClosesOnExec(OpenFd("/dev/null", O_RDONLY)->get()));
}

TEST(FdTest, APipeBlocksUntilToldOtherwise) {
  const Pipe pipe = std::move(MakePipe()).value();
  EXPECT_EQ(fcntl(pipe.read_end.get(), F_GETFL) & O_NONBLOCK, 0);
  ASSERT_TRUE(SetNonblocking(pipe.read_end.get()).ok());
  char byte;
  EXPECT_EQ(read(pipe.read_end.get(), &byte, 1), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(fcntl(pipe.write_end.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(FdTest, OpenSaysWhatWasTried) {
  const absl::Status status = OpenFd("/nowhere/file", O_RDONLY).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(status), "open /nowhere/file: no such file or directory");
}

TEST(FdTest, ReadsFilesWithoutASizeToTheirEnd) {
  const absl::StatusOr<std::string> text = ReadFile("/proc/self/status");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->compare(0, 5, "Name:"), 0);
  EXPECT_EQ(text->back(), '\n');
}

TEST(FdTest, RefusesAFileBeyondTheLimitButNotOneOfExactlyThatSize) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  ASSERT_TRUE(
      WriteFileAtomically(path, std::string(10'000, 'x'), 0600, false).ok());
  EXPECT_EQ(ReadFile(path, 10'000)->size(), 10'000U);
  const absl::Status status = ReadFile(path, 9'999).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Message(status), path + ": more than 9999 bytes");
}

TEST(FdTest, ReplacesAFileWithContentAndModeWhateverTheUmask) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  const mode_t before = umask(0777);
  const absl::Status first = WriteFileAtomically(path, "old", 0644, true);
  umask(before);
  WISP_ASSERT_OK(first);
  const UniqueFd reader = std::move(OpenFd(path, O_RDONLY)).value();
  WISP_ASSERT_OK(WriteFileAtomically(path, "new", 0600, false));
  EXPECT_EQ(*ReadFile(path), "new");
  EXPECT_EQ(*ReadAll(reader.get()), "old");
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
}

TEST(FdTest, AFailedReplacementLeavesNothingBehind) {
  TemporaryDirectory directory;
  const std::string path = directory / "file";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);  // rename onto it: EISDIR
  const absl::Status status = WriteFileAtomically(path, "new", 0600, false);
  EXPECT_EQ(Message(status), "write " + path + ": rename: is a directory");
  int entries = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(directory.path())) {
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

}  // namespace
}  // namespace wisp
