#include "process/runtime_words.h"

#include "gtest/gtest.h"

namespace wisp {
namespace {

constexpr std::string_view kCrunRestore =
    "Usage: crun [OPTION...] restore CONTAINER\n\n"
    "  -b, --bundle=DIR           container bundle (default \".\")\n"
    "      --pid-file=FILE        where to write the PID of the container\n"
    "      --work-path=DIR        path for saving work files and logs\n";
constexpr std::string_view kRuncRestore =
    "NAME:\n   runc restore - restore a container\n\nOPTIONS:\n"
    "   --bundle value, -b value     path to the root of the bundle\n"
    "   --no-subreaper               disable the use of the subreaper\n"
    "   --no-pivot                   do not use pivot root\n";

TEST(RuntimeWordsTest, FindsAFlagInTheHelp) {
  EXPECT_TRUE(HelpNames(kRuncRestore, "--no-subreaper"));
  EXPECT_TRUE(HelpNames(kRuncRestore, "--bundle"));
  EXPECT_FALSE(HelpNames(kCrunRestore, "--no-subreaper"));
  EXPECT_TRUE(HelpNames(kCrunRestore, "--bundle"));
  EXPECT_FALSE(HelpNames(kRuncRestore, "--parent-path"));
}

TEST(RuntimeWordsTest, AFlagIsAWholeWord) {
  EXPECT_FALSE(HelpNames("--no-pivot-root  --pid-files", "--no-pivot"));
  EXPECT_FALSE(HelpNames("--pid-files", "--pid-file"));
  EXPECT_TRUE(HelpNames("--pid-files --pid-file", "--pid-file"));
}

TEST(RuntimeWordsTest, WhatGivesNoHelpIsTakenForRunc) {
  for (const std::string_view help : {"", "what do you mean?"}) {
    EXPECT_TRUE(HelpNames(help, "--no-subreaper"));
    EXPECT_TRUE(HelpNames(help, "--no-pivot"));
    EXPECT_TRUE(HelpNames(help, "--empty-ns"));
    EXPECT_FALSE(HelpNames(help, "--parent-path"));
  }
}

TEST(RuntimeWordsTest, KnowsHowEachSaysThatItHasNoSuchCommand) {
  EXPECT_TRUE(SaysUnknownCommand("No help topic for 'pause'\n", "pause"));
  EXPECT_TRUE(SaysUnknownCommand("unknown command pause", "pause"));
  EXPECT_TRUE(
      SaysUnknownCommand("error: unrecognized subcommand 'pause'", "pause"));
  EXPECT_FALSE(SaysUnknownCommand("unknown command line", "pause"));
  EXPECT_FALSE(SaysUnknownCommand("cannot pause", "pause"));
}

TEST(RuntimeWordsTest, KnowsHowEachSaysThatItHasNoSuchContainer) {
  EXPECT_TRUE(SaysUnknownContainer("container does not exist"));
  EXPECT_TRUE(SaysUnknownContainer(
      "cannot open directory `/r/c1`: No such file or directory"));
  EXPECT_TRUE(
      SaysUnknownContainer("open `/r/c1/status`: No such file or directory"));
  EXPECT_FALSE(SaysUnknownContainer("open `/x`: No such file or directory"));
}

}  // namespace
}  // namespace wisp
