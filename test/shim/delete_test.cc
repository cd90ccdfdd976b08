// `delete` with real processes, mounts and cgroups, and a script for a runtime.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cgroups/host.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/task.pb.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/socket.h"
#include "shim/ttrpc/transport.h"
#include "test/process/testing.h"
#include "test/shim/run_action.h"

namespace wisp {
namespace {

using containerd::task::v3::DeleteResponse;
using ::testing::HasSubstr;

int DeleteTtrpc(const ShimOptions& options) {
  return RunDelete(options, kTtrpc);
}

class DeleteTest : public ::testing::Test {
 protected:
  DeleteTest() {
    options_.program = "shim";
    options_.namespace_name = "default";
    options_.id = "c1";
    options_.address = "/run/containerd/containerd.sock";
    for (const std::string& path :
         {bundle_.directory(), bundle_.rootfs(), directory_ / "root",
          directory_ / "root/default"}) {
      WISP_CHECK(mkdir(path.c_str(), 0700) == 0);
    }
    RuncOptions options;
    options.root = directory_ / "root";
    WISP_CHECK(bundle_.WriteOptions(options).ok());
    SetRuntime("echo \"$@\" > " + directory_ / "called");
  }
  ~DeleteTest() override { umount2(bundle_.rootfs().c_str(), MNT_DETACH); }

  void Write(const std::string& path, std::string_view text,
             mode_t mode = 0600) {
    WISP_CHECK(WriteFileAtomically(path, text, mode, false).ok());
  }
  void SetRuntime(const std::string& script) {
    Write(directory_ / "runtime", "#!/bin/sh\n" + script + "\n", 0700);
    WISP_CHECK(bundle_.WriteRuntime(directory_ / "runtime").ok());
  }
  // What runc has of a container made from `bundle`.
  void SetRuntimeState(const std::string& bundle,
                       const std::string& cgroups = "{}") {
    mkdir(state_.c_str(), 0700);
    Write(state_ + "/state.json", R"({"cgroup_paths":)" + cgroups +
                                      R"(,"config":{"labels":["bundle=)" +
                                      bundle + "\"]}}");
  }
  ActionResult Delete() { return DeleteFrom(bundle_.directory()); }
  ActionResult DeleteFrom(const std::string& directory) {
    const absl::Time before = absl::Now();
    const ActionResult result = RunAction(DeleteTtrpc, options_, directory);
    EXPECT_LT(absl::Now() - before, absl::Seconds(5));
    return result;
  }
  DeleteResponse Answer(const ActionResult& result) {
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    DeleteResponse response;
    EXPECT_TRUE(response.ParseFromString(result.output));
    EXPECT_TRUE(response.has_exited_at());
    return response;
  }
  bool RuntimeWasCalled() {
    return access((directory_ / "called").c_str(), F_OK) == 0;
  }

  TemporaryDirectory directory_;
  Bundle bundle_{directory_ / "c1"};
  std::string state_ = directory_ / "root/default/c1";
  ShimOptions options_;
};

constexpr char kRecord[] =
    R"({"Timestamp":"2023-11-14T22:13:20.000000005Z","Pid":4300,"Status":42})";

TEST_F(DeleteTest, TellsWhatIsOnRecord) {
  Write(bundle_.Path("exit.json"), kRecord);
  const ActionResult result = Delete();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, std::string("\x08\xcc\x21\x10\x2a\x1a\x08\x08\x80"
                                       "\xe2\xcf\xaa\x06\x10\x05",
                                       15));
  EXPECT_EQ(result.errors, "");
  EXPECT_FALSE(RuntimeWasCalled());  // which knows nothing of it
  EXPECT_EQ(Delete().output, result.output);
}

TEST_F(DeleteTest, TakesWhatItsShimHadMadeHalfWhenItDied) {
  // Killed with its shim, the runtime has not said yet whose it is.
  mkdir(state_.c_str(), 0700);
  EXPECT_THAT(Delete().errors, HasSubstr("another's"));
  EXPECT_FALSE(RuntimeWasCalled());
  WISP_ASSERT_OK(bundle_.MarkCreating());
  EXPECT_EQ(Delete().exit_code, 0);
  EXPECT_TRUE(RuntimeWasCalled());
}

TEST_F(DeleteTest, RemovesTheCgroupOfWhatWasMadeHalf) {
  const absl::StatusOr<CgroupHost> host = DetectCgroupHost();
  ASSERT_TRUE(host.ok());
  const std::string top =
      host->mode == CgroupMode::kV2 ? host->root : host->root + "/pids";
  const std::string name = absl::StrCat("/wisp-delete-test-", getpid());
  if (mkdir((top + name).c_str(), 0755) != 0) {
    GTEST_SKIP() << "cgroups cannot be made here";
  }
  Write(bundle_.config(), R"({"linux":{"cgroupsPath":")" + name + R"("}})");
  mkdir(state_.c_str(), 0700);
  WISP_ASSERT_OK(bundle_.MarkCreating());
  EXPECT_EQ(Delete().exit_code, 0);
  EXPECT_NE(access((top + name).c_str(), F_OK), 0);
  rmdir((top + name).c_str());
}

TEST_F(DeleteTest, GuessesOnceWithoutARecord) {
  Write(bundle_.init_pid(), "4300");
  const absl::Time before = absl::Now();
  const ActionResult result = Delete();
  const DeleteResponse response = Answer(result);
  EXPECT_EQ(response.pid(), 4300U);
  EXPECT_EQ(response.exit_status(), 137U);
  EXPECT_GE(response.exited_at().seconds(), absl::ToUnixSeconds(before));
  EXPECT_THAT(result.errors, HasSubstr("guess"));
  const ExitRecord record = *bundle_.ReadExitRecord();
  EXPECT_TRUE(record.guessed);
  EXPECT_EQ(record.pid, 4300U);
  EXPECT_EQ(Delete().output, result.output);
  // A server that lives after all puts the truth in its place.
  WISP_ASSERT_OK(bundle_.WriteExitRecord(
      {absl::FromUnixSeconds(1700000000), 4300, 42}, false));
  EXPECT_EQ(Answer(Delete()).exit_status(), 42U);
}

TEST_F(DeleteTest, WithoutAPidItSaysZero) {
  EXPECT_EQ(Answer(Delete()).pid(), 0U);
  EXPECT_EQ(Answer(Delete()).pid(), 0U);
}

TEST_F(DeleteTest, ForceDeletesOurContainer) {
  SetRuntimeState(bundle_.directory());
  Answer(Delete());
  EXPECT_EQ(*ReadFile(directory_ / "called"),
            "--root " + directory_ / "root/default --log " +
                bundle_.runtime_log() +
                " --log-format json delete --force c1\n");
}

TEST_F(DeleteTest, LeavesTheContainerOfAnotherBundleAlone) {
  SetRuntimeState(directory_ / "elsewhere");
  const ActionResult result = Delete();
  EXPECT_EQ(Answer(result).exit_status(), 137U);
  EXPECT_FALSE(RuntimeWasCalled());
  EXPECT_THAT(result.errors, HasSubstr("another's"));
}

TEST_F(DeleteTest, WithoutReadableStateOnlyAPidFileMakesItOurs) {
  ASSERT_EQ(mkdir(state_.c_str(), 0700), 0);
  Answer(Delete());
  EXPECT_FALSE(RuntimeWasCalled());
  Write(bundle_.init_pid(), "4300");
  Answer(Delete());
  EXPECT_TRUE(RuntimeWasCalled());
}

TEST_F(DeleteTest, ARuntimeThatFailsIsAWarning) {
  SetRuntimeState(bundle_.directory());
  SetRuntime("echo '{\"level\":\"error\",\"msg\":\"it is stuck\"}' > " +
             bundle_.runtime_log() + "; exit 1");
  ActionResult result = Delete();
  Answer(result);
  EXPECT_THAT(result.errors, HasSubstr("error=\"it is stuck\" exit_code=1"));
  WISP_ASSERT_OK(bundle_.WriteRuntime("/no/such/runtime"));
  result = Delete();
  Answer(result);
  EXPECT_THAT(result.errors, HasSubstr("/no/such/runtime"));
}

TEST_F(DeleteTest, ARuntimeThatHangsIsKilledInTimeWithItsChildren) {
  SetRuntimeState(bundle_.directory());
  // The children hold the pipe `alive`, whose end tells that they are gone.
  const std::string alive = directory_ / "alive";
  ASSERT_EQ(mkfifo(alive.c_str(), 0600), 0);
  UniqueFd watch(open(alive.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  SetRuntime("exec 9>" + alive + "; echo up >&9; sleep 1000 & sleep 1000");
  EXPECT_EQ(Answer(Delete()).exit_status(), 137U);
  ASSERT_EQ(fcntl(watch.get(), F_SETFL, 0), 0);
  EXPECT_EQ(*ReadAll(watch.get()), "up\n");
}

TEST_F(DeleteTest, UnmountsTheRootfs) {
  if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  const std::string inner = bundle_.rootfs() + "/inner";
  ASSERT_EQ(mount("wisp", bundle_.rootfs().c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(mkdir(inner.c_str(), 0700), 0);
  ASSERT_EQ(mount("wisp", inner.c_str(), "tmpfs", 0, nullptr), 0);
  Write(bundle_.Path("exit.json"), kRecord);
  const ActionResult result = Delete();
  EXPECT_EQ(Answer(result).exit_status(), 42U);
  EXPECT_EQ(result.errors, "");
  struct stat outer;
  struct stat directory;
  ASSERT_EQ(stat(bundle_.rootfs().c_str(), &outer), 0);
  ASSERT_EQ(stat(bundle_.directory().c_str(), &directory), 0);
  EXPECT_EQ(outer.st_dev, directory.st_dev);
}

TEST_F(DeleteTest, ABusyRootfsDoesNotHoldItUp) {
  if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  ASSERT_EQ(mount("wisp", bundle_.rootfs().c_str(), "tmpfs", 0, nullptr), 0);
  const UniqueFd busy(
      open(bundle_.rootfs().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const ActionResult result = Delete();
  Answer(result);
  EXPECT_THAT(result.errors, HasSubstr("failed to cleanup rootfs mount"));
}

TEST_F(DeleteTest, RemovesTheGroupsSocketIfItIsDead) {
  const std::string path =
      SocketPath(directory_ / "s", options_.address, "default", "g");
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(path);
  ASSERT_TRUE(claimed.ok());
  WISP_ASSERT_OK(bundle_.WriteAddress("unix://" + path));
  Answer(Delete());
  EXPECT_TRUE(SomebodyListens(path));
  claimed->listener.Reset();
  Answer(Delete());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(DeleteTest, WorksTheSocketOutWithoutAnAddress) {
  Write(bundle_.config(),
        R"({"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}})");
  WISP_ASSERT_OK(bundle_.LinkSocketDirectory(directory_ / "s"));
  const std::string path =
      SocketPath(directory_ / "s", options_.address, "default", "pod");
  ASSERT_TRUE(ClaimSocket(path).ok());  // dead at once
  (void)lremovexattr(path.c_str(), "trusted.wisp.socket");
  Answer(Delete());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(DeleteTest, RemovesDeadSocketsOfBundlesThatHaveGone) {
  WISP_ASSERT_OK(bundle_.LinkSocketDirectory(directory_ / "s"));
  const std::string path =
      SocketPath(directory_ / "s", "/run/d.sock", "n", "gone");
  ASSERT_TRUE(ClaimSocket(path).ok());  // dead at once
  if (lgetxattr(path.c_str(), "trusted.wisp.socket", nullptr, 0) < 0) {
    GTEST_SKIP() << "no trusted attributes here: " << strerror(errno);
  }
  Answer(Delete());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(DeleteTest, FindsABundleThatWasRenamed) {
  const std::string renamed = directory_ / ".c1";
  Write(bundle_.Path("exit.json"), kRecord);
  SetRuntimeState(bundle_.directory());
  ASSERT_EQ(rename(bundle_.directory().c_str(), renamed.c_str()), 0);
  EXPECT_EQ(Answer(DeleteFrom(renamed)).exit_status(), 42U);
  EXPECT_TRUE(RuntimeWasCalled());
}

TEST_F(DeleteTest, LeavesTheSuccessorOfItsIdAlone) {
  const std::string renamed = directory_ / ".c1";
  Write(bundle_.Path("exit.json"), kRecord);
  ASSERT_EQ(rename(bundle_.directory().c_str(), renamed.c_str()), 0);
  ASSERT_EQ(mkdir(bundle_.directory().c_str(), 0700), 0);
  SetRuntimeState(bundle_.directory());
  EXPECT_EQ(Answer(DeleteFrom(renamed)).exit_status(), 42U);
  EXPECT_FALSE(RuntimeWasCalled());
  EXPECT_FALSE(bundle_.ReadExitRecord().ok());
}

int DeleteInRemovedDirectory(const ShimOptions& options) {
  char cwd[4096];
  if (getcwd(cwd, sizeof(cwd)) == nullptr) return 99;
  std::error_code ignored;
  std::filesystem::remove_all(cwd, ignored);
  return DeleteTtrpc(options);
}

TEST_F(DeleteTest, SurvivesARemovedBundle) {
  const ActionResult result =
      RunAction(DeleteInRemovedDirectory, options_, bundle_.directory());
  EXPECT_EQ(Answer(result).exit_status(), 137U);
}

int DeleteAfterItWasReplaced(const ShimOptions& options) {
  char cwd[4096];
  if (getcwd(cwd, sizeof(cwd)) == nullptr) return 99;
  std::error_code ignored;
  std::filesystem::remove_all(cwd, ignored);
  if (mkdir(cwd, 0700) != 0) return 98;
  return DeleteTtrpc(options);
}

TEST_F(DeleteTest, LeavesTheSuccessorOfARemovedBundleAlone) {
  SetRuntimeState(bundle_.directory());
  options_.bundle = bundle_.directory();
  const ActionResult result =
      RunAction(DeleteAfterItWasReplaced, options_, bundle_.directory());
  EXPECT_EQ(Answer(result).exit_status(), 137U);
  EXPECT_FALSE(RuntimeWasCalled());
  EXPECT_FALSE(bundle_.ReadExitRecord().ok());
}

TEST_F(DeleteTest, KillsWhatTheRuntimeLeaves) {
  if (getuid() != 0) GTEST_SKIP() << "cgroups need root";
  const absl::StatusOr<CgroupHost> host = DetectCgroupHost();
  ASSERT_TRUE(host.ok());
  const bool v2 = host->mode == CgroupMode::kV2;
  const std::string name = absl::StrCat("wisp-delete-test-", getpid());
  const std::string cgroup =
      absl::StrCat(host->root, v2 ? "/" : "/devices/", name);
  if (mkdir(cgroup.c_str(), 0700) != 0) GTEST_SKIP() << "no cgroups here";
  // Ready when it says so through the pipe; ended when waitpid tells.
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  const absl::StatusOr<UniqueFd> procs =
      OpenFd(cgroup + "/cgroup.procs", O_WRONLY);
  ASSERT_TRUE(procs.ok());
  WISP_ASSERT_OK(WriteAll(procs->get(), std::to_string(pid)));
  SetRuntimeState(
      bundle_.directory(),
      R"({")" + std::string(v2 ? "" : "devices") + R"(":")" + cgroup + "\"}");
  SetRuntime("exit 1");
  const ActionResult result = Delete();
  Answer(result);
  EXPECT_THAT(result.errors, HasSubstr("killing what the runtime left"));
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_NE(access(cgroup.c_str(), F_OK), 0);
  rmdir(cgroup.c_str());
}

TEST_F(DeleteTest, AnIdThatIsNoNameIsRefused) {
  options_.id = "../c1";
  const ActionResult result = Delete();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, HasSubstr("container id"));
}

}  // namespace
}  // namespace wisp
