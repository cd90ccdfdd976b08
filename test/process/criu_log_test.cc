#include "process/criu_log.h"

#include "gtest/gtest.h"
#include "process/fd.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

TEST(CriuLogTest, TellsTheFirstErrors) {
  EXPECT_EQ(
      CriuErrors(
          "(00.000021) Version: 4.2 (gitid 0)\n"
          "(00.010) Error (criu/util.c:1534): rlimit: Can't setup "
          "RLIMIT_NOFILE for self: Operation not permitted\n"
          "(00.011) Warn  (criu/x.c:3): nothing to worry\n"
          "(00.012345) Error (criu/sk-inet.c:191): inet: Connected TCP socket, "
          "consider using --tcp-established option.\n"
          "(00.013) Error (criu/cr-dump.c:2): Dumping FAILED.\n"
          "(00.014) Error (criu/x.c:1): three\n"
          "(00.015) Error (criu/x.c:2): four\n"),
      "criu/sk-inet.c:191: inet: Connected TCP socket, consider using "
      "--tcp-established option.; criu/cr-dump.c:2: Dumping FAILED.; "
      "criu/x.c:1: three");
}

TEST(CriuLogTest, HasNothingToSayWithoutAnError) {
  EXPECT_EQ(CriuErrors(""), "");
  EXPECT_EQ(CriuErrors("(00.1) all is well\n"), "");
  EXPECT_EQ(CriuErrors("(00.1) Error (cut off"), "");
  EXPECT_EQ(CriuErrorsIn("/no/such/log"), "");
}

TEST(CriuLogTest, FindsItAtTheEndOfALongLog) {
  TemporaryDirectory directory;
  std::string log(1 << 20, '.');
  log += "\n(99.1) Error (criu/a.c:1): full\n";
  const std::string path = directory.path() + "/dump.log";
  ASSERT_TRUE(WriteFileAtomically(path, log, 0600, false).ok());
  EXPECT_EQ(CriuErrorsIn(path), "criu/a.c:1: full");
}

}  // namespace
}  // namespace wisp
