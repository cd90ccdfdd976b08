#include "mount/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fmt/format.h"
#include "mount/overlay.h"
#include "mount/unmount.h"
#include "test/mount/private_mounts.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class MountTest : public PrivateMountsTest {
 protected:
  // Layers 0 ... count - 1 below root_/`parent`, each with a file of its name
  // and all with one "same".
  std::vector<std::string> Layers(const std::string& parent, int count,
                                  size_t name_size) {
    Directory(parent);
    std::vector<std::string> layers;
    for (int i = 0; i < count; ++i) {
      std::string name = fmt::format("{}", i);
      name.append(name_size - name.size(), static_cast<char>('a' + i % 26));
      layers.push_back(Directory(parent + "/" + name));
      WriteFile(fmt::format("{}/{}", layers.back(), i), "");
      WriteFile(layers.back() + "/same", fmt::format("{}", i));
    }
    return layers;
  }

  Mount Overlay(const std::vector<std::string>& layers) {
    return Mount{"overlay",
                 "overlay",
                 "",
                 {"index=off", "workdir=" + Directory("work"),
                  "upperdir=" + Directory("upper"),
                  fmt::format("lowerdir={}", fmt::join(layers, ":"))}};
  }

  static void ExpectAllLayers(const std::string& target, int count) {
    for (int i = 0; i < count; ++i) {
      EXPECT_EQ(access(fmt::format("{}/{}", target, i).c_str(), F_OK), 0) << i;
    }
    EXPECT_EQ(Content(target + "/same"), "0");  // the first is on top
  }
};

TEST_F(MountTest, BindsReadOnly) {
  const std::string source = Directory("source");
  const std::string target = Directory("target");
  const std::string before = AllMounts();
  const absl::Status status =
      MakeMount({"bind", source, "", {"rbind", "ro"}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(open((target + "/x").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600),
            -1);
  EXPECT_EQ(errno, EROFS);
  WriteFile(source + "/x", "seen");
  EXPECT_EQ(Content(target + "/x"), "seen");
  EXPECT_TRUE(UnmountOne(target, context_).ok());
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(MountTest, BindsReadOnlyWhereFlagsAreLocked) {
  const std::string source = Directory("source");
  const std::string target = Directory("target");
  ASSERT_EQ(mount("x", source.c_str(), "tmpfs", MS_NODEV | MS_NOSUID, ""), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Mounts of the namespace above come with their flags locked.
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(2);
    absl::StatusOr<UniqueFd> map = OpenFd("/proc/self/uid_map", O_WRONLY);
    if (!map.ok() || !WriteAll(map->get(), "0 0 1\n").ok()) _exit(3);
    const absl::Status status =
        MakeMount({"bind", source, "", {"bind", "ro"}}, target, context_);
    struct statvfs info;
    if (!status.ok() || statvfs(target.c_str(), &info) != 0) _exit(4);
    constexpr unsigned long kWanted = ST_RDONLY | ST_NODEV | ST_NOSUID;
    _exit((info.f_flag & kWanted) == kWanted ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(MountTest, SetsPropagation) {
  const std::string target = Directory("target");
  const absl::Status status =
      MakeMount({"tmpfs", "x", "", {"size=64k", "shared"}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(AllMounts(), HasSubstr(target + " rw,relatime shared:"));
}

TEST_F(MountTest, RemountsOnlyTheFlags) {
  const std::string target = Directory("target");
  ASSERT_EQ(mount("x", target.c_str(), "tmpfs", 0, ""), 0);
  const absl::Status status = MakeMount(
      {"bind", "none", "", {"remount", "bind", "ro"}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(MountsAt(target), 1);
  struct statvfs info;
  ASSERT_EQ(statvfs(target.c_str(), &info), 0);
  EXPECT_NE(info.f_flag & ST_RDONLY, 0u);
}

TEST_F(MountTest, SaysWhatTheKernelRefused) {
  const std::string target = Directory("target");
  const absl::Status status = MakeMount(
      {"nosuchfs", "a\"b", "", {"nodev", "x=1", "y"}}, target, context_);
  EXPECT_EQ(Message(status),
            fmt::format("mount source: \"a\\\"b\", target: \"{}\", fstype: "
                        "nosuchfs, flags: {}, data: \"x=1,y\", err: no such "
                        "device",
                        target, int{MS_NODEV}));
}

TEST_F(MountTest, MountsOverlayOf127LayersWithLongPaths) {
  const std::vector<std::string> layers = Layers(std::string(200, 's'), 127, 8);
  const Mount overlay = Overlay(layers);
  ASSERT_GT(overlay.options.back().size(), 4 * MaxMountData());
  const std::string target = Directory("target");
  const std::string before = AllMounts();
  char directory[4096];
  ASSERT_NE(getcwd(directory, sizeof(directory)), nullptr);
  const std::string old_directory = directory;

  const absl::Status status = MakeMount(overlay, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  ExpectAllLayers(target, 127);
  WriteFile(target + "/new", "upper");
  EXPECT_EQ(Content(root_ + "/upper/new"), "upper");
  EXPECT_STREQ(getcwd(directory, sizeof(directory)), old_directory.c_str());
  EXPECT_TRUE(UnmountOne(target, context_).ok());
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(MountTest, MountsOverlayOf127LayersThatNoCompactionShortens) {
  const std::vector<std::string> layers = Layers("layers", 127, 60);
  const std::string target = Directory("target");
  Mount overlay = Overlay(layers);
  overlay.options.insert(overlay.options.end(), {"nosuid", "noatime"});
  const absl::Status status = MakeMount(overlay, target, context_);
  if (Message(status) == "mount options is too long") {
    GTEST_SKIP() << "this kernel's overlay has no lowerdir+";
  }
  ASSERT_TRUE(status.ok()) << status;
  ExpectAllLayers(target, 127);
  struct statvfs info;
  ASSERT_EQ(statvfs(target.c_str(), &info), 0);
  EXPECT_NE(info.f_flag & ST_NOSUID, 0u);
  EXPECT_NE(info.f_flag & ST_NOATIME, 0u);
  EXPECT_EQ(info.f_flag & ST_RDONLY, 0u);
}

TEST_F(MountTest, TellsWhichOfTooManyLayersIsMissing) {
  std::vector<std::string> layers = Layers("layers", 127, 60);
  ASSERT_EQ(rename(layers[77].c_str(), (root_ + "/gone").c_str()), 0);
  const std::string target = Directory("target");
  const absl::Status status = MakeMount(Overlay(layers), target, context_);
  if (Message(status) == "mount options is too long") {
    GTEST_SKIP() << "this kernel's overlay has no lowerdir+";
  }
  EXPECT_THAT(std::string(Message(status)), HasSubstr("lower layer 77"));
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("no such file or directory"));
  EXPECT_EQ(MountsAt(target), 0);
}

// Data of exactly `size` bytes: slashes at the end of a path change nothing.
Mount PaddedOverlay(Mount overlay, size_t size) {
  std::string& lower = overlay.options.back();
  const size_t now = JoinMountData(overlay.options).size();
  // A path has a limit of its own: half of it in each of two.
  const size_t half = (size - now) / 2;
  overlay.options[1].append(half, '/');
  lower.append(size - now - half, '/');
  EXPECT_EQ(JoinMountData(overlay.options).size(), size);
  return overlay;
}

TEST_F(MountTest, PassesDataUpToThePageLessOne) {
  const Mount overlay = Overlay({Directory("lower")});
  WriteFile(root_ + "/lower/x", "lower");
  const std::string target = Directory("target");
  const absl::Status status =
      MakeMount(PaddedOverlay(overlay, 4095), target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Content(target + "/x"), "lower");
}

TEST_F(MountTest, RefusesDataThatTheKernelWouldCutOff) {
  const Mount overlay = Overlay({Directory("lower")});
  const std::string target = Directory("target");
  for (size_t size : {4096, 4097}) {
    const absl::Status status =
        MakeMount(PaddedOverlay(overlay, size), target, context_);
    EXPECT_EQ(Message(status), "mount options is too long") << size;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(MountsAt(target), 0);
}

bool LoopIsFree(const std::string& device) {
  const absl::StatusOr<UniqueFd> fd = OpenFd(device, O_RDONLY);
  loop_info64 info;
  return fd.ok() && ioctl(fd->get(), LOOP_GET_STATUS64, &info) != 0 &&
         errno == ENXIO;
}

class LoopTest : public MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (IsSkipped()) return;
    if (access("/dev/loop-control", R_OK) != 0) {
      GTEST_SKIP() << "no loop devices here";
    }
    image_ = root_ + "/image";
    WriteFile(image_, "");
    ASSERT_EQ(truncate(image_.c_str(), 4 << 20), 0);
    if (system(fmt::format("mke2fs -q -t ext4 {}", image_).c_str()) != 0) {
      GTEST_SKIP() << "no mke2fs here";
    }
  }
  std::string DeviceAt(const std::string& target) {
    const auto mounts = ReadMountInfo();
    EXPECT_TRUE(mounts.ok()) << mounts.status();
    for (const MountInfo& mount : *mounts) {
      if (mount.mount_point == target) return mount.source;
    }
    return "";
  }
  std::string image_;
};

TEST_F(LoopTest, FreesTheDeviceWithTheLastUnmount) {
  const std::string target = Directory("target");
  const absl::Status status =
      MakeMount({"ext4", image_, "", {"loop"}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  const std::string device = DeviceAt(target);
  EXPECT_THAT(device, HasSubstr("/dev/loop"));
  EXPECT_FALSE(LoopIsFree(device));
  WriteFile(target + "/x", "written");
  EXPECT_TRUE(UnmountOne(target, context_).ok());
  EXPECT_TRUE(LoopIsFree(device));
}

TEST_F(LoopTest, MountsReadOnlyAFileThatNobodyMayWrite) {
  const std::string target = Directory("target");
  ASSERT_EQ(mount(image_.c_str(), image_.c_str(), "", MS_BIND, nullptr), 0);
  ASSERT_EQ(
      mount("", image_.c_str(), "", MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr),
      0);
  absl::Status status =
      MakeMount({"ext4", image_, "", {"loop"}}, target, context_);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("read-only file system"));
  status = MakeMount({"ext4", image_, "", {"ro", "loop", "direct-io"}}, target,
                     context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(UnmountOne(target, context_).ok());
}

TEST_F(LoopTest, FreesTheDeviceWhenTheMountFails) {
  const std::string target = Directory("target");
  ASSERT_EQ(truncate(image_.c_str(), 0), 0);
  ASSERT_EQ(truncate(image_.c_str(), 1 << 20), 0);
  const absl::Status status =
      MakeMount({"ext4", image_, "", {"loop"}}, target, context_);
  ASSERT_FALSE(status.ok());
  const std::string text(Message(status));
  const size_t begin = text.find("/dev/loop");
  ASSERT_NE(begin, std::string::npos) << text;
  EXPECT_TRUE(LoopIsFree(text.substr(begin, text.find('"', begin) - begin)));
}

uid_t OwnerOf(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_uid : 4242;
}

class IdMappedTest : public MountTest {
 protected:
  void SetUp() override {
    MountTest::SetUp();
    if (IsSkipped()) return;
    if (syscall(SYS_mount_setattr, -1, "", 0, nullptr, 0) != 0 &&
        errno == ENOSYS) {
      GTEST_SKIP() << "no mount_setattr before Linux 5.12";
    }
  }
  static constexpr const char* kUids = "uidmap=0:100000:65536";
  static constexpr const char* kGids = "gidmap=0:200000:65536";
};

TEST_F(IdMappedTest, MapsABind) {
  const std::string source = Directory("source");
  const std::string target = Directory("target");
  WriteFile(source + "/x", "root's");
  const std::string before = AllMounts();
  const absl::Status status = MakeMount(
      {"bind", source, "", {"rbind", "rw", kUids, kGids}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OwnerOf(target + "/x"), 100000u);
  EXPECT_EQ(OwnerOf(source + "/x"), 0u);
  EXPECT_TRUE(UnmountAll(target, context_).ok());
  EXPECT_EQ(AllMounts(), before);
}

TEST_F(IdMappedTest, MapsAReadOnlyBindToo) {
  const std::string source = Directory("source");
  const std::string target = Directory("target");
  WriteFile(source + "/x", "root's");
  const absl::Status status = MakeMount(
      {"bind", source, "", {"bind", "ro", kUids, kGids}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OwnerOf(target + "/x"), 100000u);
  EXPECT_EQ(unlink((target + "/x").c_str()), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST_F(IdMappedTest, LeavesOneMapAlone) {
  const std::string source = Directory("source");
  const std::string target = Directory("target");
  WriteFile(source + "/x", "root's");
  const absl::Status status =
      MakeMount({"bind", source, "", {"bind", kUids}}, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(OwnerOf(target + "/x"), 0u);
}

TEST_F(IdMappedTest, MapsTheLowerLayersOfAnOverlay) {
  const std::vector<std::string> layers = Layers("layers", 3, 3);
  Mount overlay = Overlay(layers);
  overlay.options.insert(overlay.options.end(), {kUids, kGids});
  const std::string target = Directory("target");
  const std::string before = AllMounts();
  const absl::Status status = MakeMount(overlay, target, context_);
  ASSERT_TRUE(status.ok()) << status;
  ExpectAllLayers(target, 3);
  EXPECT_EQ(OwnerOf(target + "/same"), 100000u);
  EXPECT_EQ(OwnerOf(layers[0] + "/same"), 0u);
  EXPECT_EQ(MountsAt(target), 1);
  EXPECT_THAT(AllMounts(), Not(HasSubstr(" " + root_ + "/ovl-idmapped")));
  EXPECT_TRUE(UnmountOne(target, context_).ok());
  EXPECT_EQ(AllMounts(), before);
  // And nothing of the image has gone.
  EXPECT_EQ(Content(layers[0] + "/same"), "0");
}

TEST_F(IdMappedTest, LeavesNothingWhenTheOverlayFails) {
  Mount overlay = Overlay(Layers("layers", 2, 3));
  overlay.options.insert(overlay.options.end(), {kUids, kGids, "nonsense"});
  const std::string target = Directory("target");
  const std::string before = AllMounts();
  EXPECT_THAT(std::string(Message(MakeMount(overlay, target, context_))),
              HasSubstr("err: invalid argument"));
  EXPECT_EQ(AllMounts(), before);
  EXPECT_NE(
      system(fmt::format("ls -d {}/ovl-idmapped* 2>/dev/null", root_).c_str()),
      0);
}

TEST_F(IdMappedTest, RefusesLayersWithoutACommonDirectory) {
  Mount overlay = Overlay({"/bin", "/etc"});
  overlay.options.insert(overlay.options.end(), {kUids, kGids});
  EXPECT_EQ(Message(MakeMount(overlay, Directory("target"), context_)),
            "failed to prepare idmapped overlay: invalid common directory "
            "\"\"");
}

TEST(FuseHelperTest, BuildsTheCommand) {
  const auto command = FuseHelperCommand(
      {"fuse3.fuse-overlayfs", "none", "", {"lowerdir=/a:/b", "ro"}}, "/t");
  ASSERT_TRUE(command);
  EXPECT_THAT(*command,
              ElementsAre("mount.fuse3", "none", "/t", "-o", "lowerdir=/a:/b",
                          "-o", "ro", "-t", "fuse-overlayfs"));
  EXPECT_EQ(FuseHelperCommand({"fuse.x", "s", "", {}}, "/t")->front(),
            "mount.fuse");
  EXPECT_FALSE(FuseHelperCommand({"fuse", "s", "", {}}, "/t"));
  EXPECT_FALSE(FuseHelperCommand({"overlay", "s", "", {}}, "/t"));
}

TEST(FuseHelperTest, ReportsWhatTheHelperSaid) {
  std::vector<std::string> seen;
  HelperRunner runner = [&seen](const std::vector<std::string>& argv) {
    seen = argv;
    return absl::StatusOr<HelperResult>(HelperResult{3, "no \"fuse\"\n"});
  };
  MountContext context;
  const Mount mount = {"fuse.x", "s", "", {}};
  EXPECT_EQ(Message(MakeMount(mount, "/t", context)),
            "FUSE mounts need a helper process: mount.fuse s /t -t x");
  context.run_helper = &runner;
  EXPECT_EQ(Message(MakeMount(mount, "/t", context)),
            "mount helper [mount.fuse s /t -t x] failed: \"no "
            "\\\"fuse\\\"\\n\": exit status 3");
  EXPECT_THAT(seen, ElementsAre("mount.fuse", "s", "/t", "-t", "x"));
}

}  // namespace
}  // namespace wisp
