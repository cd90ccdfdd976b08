#include "shim/bundle.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "process/pidfd.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

class BundleTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, std::string_view text) {
    WISP_ASSERT_OK(WriteFileAtomically(directory_ / name, text, 0644, false));
  }
  std::string Content(const std::string& name) {
    return ReadFile(directory_ / name).value_or("(none)");
  }
  int Mode(const std::string& name) {
    struct stat info;
    return stat((directory_ / name).c_str(), &info) == 0 ? info.st_mode & 07777
                                                         : -1;
  }
  int Files() {
    int count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(bundle_.directory())) {
      (void)entry;
      ++count;
    }
    return count;
  }

  TemporaryDirectory directory_;
  Bundle bundle_{directory_ / "."};
};

const ExitRecord kTruth{absl::FromUnixSeconds(1700000000), 4300, 42};
const ExitRecord kGuess{absl::FromUnixSeconds(1800000000), 0, 137, true};

TEST_F(BundleTest, WritesOptionsAsGoDoes) {
  WISP_ASSERT_OK(bundle_.WriteOptions({}));
  EXPECT_EQ(Content("options.json"), "{}");
  RuncOptions options;
  options.binary_name = "/usr/bin/crun";
  options.root = "/r";
  options.io_uid = 1000;
  options.systemd_cgroup = true;
  WISP_ASSERT_OK(bundle_.WriteOptions(options));
  EXPECT_EQ(
      Content("options.json"),
      R"({"io_uid":1000,"binary_name":"/usr/bin/crun","root":"/r","systemd_cgroup":true})");
  EXPECT_EQ(Mode("options.json"), 0600);
  EXPECT_EQ(*bundle_.ReadOptions(), options);
}

TEST_F(BundleTest, ReadsOptionsOfOtherVersions) {
  Write("options.json",
        R"({"criu_path":"/criu","task_api_version":3,"io_gid":5,"root":7,)"
        R"("no_pivot_root":true,"no_new_keyring":true,"shim_cgroup":"/s",)"
        R"("criu_image_path":"/i","criu_work_path":"/w"})");
  RuncOptions expected;
  expected.io_gid = 5;
  expected.no_pivot_root = true;
  expected.no_new_keyring = true;
  expected.shim_cgroup = "/s";
  expected.criu_image_path = "/i";
  expected.criu_work_path = "/w";
  EXPECT_EQ(*bundle_.ReadOptions(), expected);
  Write("options.json", "{");
  EXPECT_EQ(bundle_.ReadOptions().status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(BundleTest, WhatIsMissingIsNotFound) {
  EXPECT_EQ(bundle_.ReadOptions().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadRuntime().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadConfig().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadAddress().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadInitPid().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadExitRecord().status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(bundle_.ReadSocketDirectory().status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(BundleTest, ModesAreGosWhateverTheUmask) {
  const mode_t before = umask(0077);
  WISP_ASSERT_OK(bundle_.WriteRuntime(""));
  WISP_ASSERT_OK(bundle_.WriteAddress("unix:///x"));
  WISP_ASSERT_OK(bundle_.WriteExitRecord(kTruth, true));
  umask(before);
  EXPECT_EQ(Mode("runtime"), 0600);
  EXPECT_EQ(*bundle_.ReadRuntime(), "");
  EXPECT_EQ(Mode("address"), 0644);
  EXPECT_EQ(Content("address"), "unix:///x");
  EXPECT_EQ(Mode("exit.json"), 0600);
}

TEST_F(BundleTest, APidFileIsDigitsAndNothingElse) {
  Write("init.pid", "4300");
  EXPECT_EQ(*bundle_.ReadInitPid(), 4300);
  for (const char* text :
       {"", "0", "-1", "+1", " 1", "1\n", "1x", "99999999999", "2147483648"}) {
    EXPECT_FALSE(ParsePidFile(text).ok()) << text;
  }
}

TEST_F(BundleTest, AGuessIsWrittenOnceAndFoundAgain) {
  EXPECT_EQ(*bundle_.WriteExitRecordIfNone(kGuess, false), kGuess);
  ExitRecord later = kGuess;
  later.at += absl::Hours(1);
  EXPECT_EQ(*bundle_.WriteExitRecordIfNone(later, false), kGuess);
  EXPECT_EQ(*bundle_.ReadExitRecord(), kGuess);
  EXPECT_EQ(Files(), 1);
}

TEST_F(BundleTest, AGuessNeverReplacesTheTruthButTheTruthAGuess) {
  WISP_ASSERT_OK(bundle_.WriteExitRecord(kTruth, false));
  EXPECT_EQ(*bundle_.WriteExitRecordIfNone(kGuess, false), kTruth);
  EXPECT_EQ(*bundle_.ReadExitRecord(), kTruth);
  WISP_ASSERT_OK(bundle_.WriteExitRecord(kGuess, false));
  WISP_ASSERT_OK(bundle_.WriteExitRecord(kTruth, false));
  EXPECT_EQ(*bundle_.ReadExitRecord(), kTruth);
  EXPECT_EQ(Files(), 1);
}

TEST_F(BundleTest, AGuessReplacesARecordThatDoesNotCount) {
  Write("exit.json", R"({"Pid":0})");
  EXPECT_EQ(*bundle_.WriteExitRecordIfNone(kGuess, false), kGuess);
  EXPECT_EQ(*bundle_.ReadExitRecord(), kGuess);
  EXPECT_EQ(Files(), 1);
}

TEST_F(BundleTest, AMissingBundleTakesNoRecord) {
  const Bundle gone(directory_ / "gone");
  EXPECT_FALSE(gone.WriteExitRecordIfNone(kGuess, false).ok());
}

TEST_F(BundleTest, LinksTheSocketDirectoryAgainAndAgain) {
  WISP_ASSERT_OK(bundle_.LinkSocketDirectory("/run/a"));
  WISP_ASSERT_OK(bundle_.LinkSocketDirectory("/run/b"));
  EXPECT_EQ(*bundle_.ReadSocketDirectory(), "/run/b");
  EXPECT_EQ(Files(), 1);
}

TEST_F(BundleTest, TheGroupIsTheFirstKeyThatIsThere) {
  const auto group = [](std::string_view text) {
    absl::StatusOr<Json> config = Json::Parse(text);
    EXPECT_TRUE(config.ok());
    return GroupOfConfig(*config);
  };
  EXPECT_EQ(*group("{}"), std::nullopt);
  EXPECT_EQ(*group(R"({"annotations":null})"), std::nullopt);
  EXPECT_EQ(*group(R"({"annotations":{"x":"y"}})"), std::nullopt);
  EXPECT_EQ(*group(R"({"annotations":{"io.kubernetes.cri.sandbox-id":"s"}})"),
            "s");
  EXPECT_EQ(*group(R"({"annotations":{"io.kubernetes.cri.sandbox-id":"s",
                       "io.containerd.runc.v2.group":""}})"),
            "");
  EXPECT_EQ(*group(R"({"annotations":{"io.containerd.wisp.v2.group":"w",
                       "io.containerd.runc.v2.group":"r"}})"),
            "w");
  EXPECT_FALSE(
      group(R"({"annotations":{"io.containerd.runc.v2.group":7}})").ok());
}

TEST_F(BundleTest, KnowsTmpfs) {
  EXPECT_FALSE(OnTmpfs(directory_ / "absent"));
  if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  const std::string path = directory_ / "t";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  if (mount("wisp", path.c_str(), "tmpfs", 0, nullptr) != 0) {
    GTEST_SKIP() << "no tmpfs here";
  }
  EXPECT_TRUE(OnTmpfs(path));
  EXPECT_EQ(umount2(path.c_str(), MNT_DETACH), 0);
}

}  // namespace
}  // namespace wisp
