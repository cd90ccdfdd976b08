// Checkpoints and what is restored from them, by a real CRIU.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/spawn.h"
#include "proto/runc_options.pb.h"
#include "test/support/real_runtime.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kCreated = 1;
constexpr int kRunning = 2;

#define SKIP_IF_CGROUPS_ARE_IN_THE_WAY(status)           \
  do {                                                   \
    if (CgroupsAreInTheWay(status)) {                    \
      GTEST_SKIP() << "this host's cgroups: " << status; \
    }                                                    \
  } while (false)

class CheckpointTest : public RealRuntimeTest {
 protected:
  void SetUp() override {
    if (!FindExecutable("criu").ok()) GTEST_SKIP() << "there is no criu";
    if (system("criu check >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "criu does not know this kernel";
    }
    if (system("criu check --feature get_rseq_conf >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "criu cannot dump rseq, which every program of a newer "
                      "glibc has, before Linux 5.13";
    }
    RealRuntimeTest::SetUp();
  }

  // Counts the lines that Tell() gives it, in its memory and in /tmp/count, and
  // ends with 42 at one that says so. It forks nothing, for a process that
  // forks all the time cannot always be frozen. It meets an end of file when it
  // comes back while Tell() still has the fifo open.
  RealSpec Counter() {
    mkfifo((rootfs() + "/tmp/lines").c_str(), 0600);
    return {.args = {"sh", "-c",
                     "n=0; while :; do read -r line </tmp/lines || continue; "
                     "n=$((n + 1)); echo $n >/tmp/count; "
                     "[ $line != end ] || exit 42; done"}};
  }
  int Count() {
    return atoi(ReadFile(rootfs() + "/tmp/count").value_or("0").c_str());
  }
  bool Tell(const std::string& line) {
    UniqueFd fifo;
    return shim().RunUntil([this, &fifo] {
      // There is a reader only while it waits for us.
      absl::StatusOr<UniqueFd> opened =
          OpenFd(rootfs() + "/tmp/lines", O_WRONLY | O_NONBLOCK);
      if (opened.ok()) fifo = *std::move(opened);
      return fifo.valid();
    }) && WriteAll(fifo.get(), line + "\n").ok();
  }
  // Lets it count, and waits until it has come to `count`.
  bool CountsTo(int count) {
    return Tell("line") &&
           shim().RunUntil([this, count] { return Count() == count; });
  }
  // CRIU restores also the hierarchies of v1 that a crun of v2 does not see.
  static bool CgroupsAreInTheWay(const absl::Status& status) {
    return Message(status).find("criu/cgroup.c") != std::string_view::npos;
  }
  std::string Image(const std::string& name) {
    return shim().directory() + "/" + name;
  }
  absl::Status Checkpoint(const std::string& id, const std::string& image,
                          const containerd::runc::v1::CheckpointOptions& how =
                              containerd::runc::v1::CheckpointOptions()) {
    api::CheckpointTaskRequest request;
    request.set_id(id);
    request.set_path(Image(image));
    request.mutable_options()->set_type_url(how.GetTypeName());
    request.mutable_options()->set_value(how.SerializeAsString());
    return Call("Checkpoint", request);
  }
  // An image of a counter that had come to 1, which its checkpoint has ended.
  // The test is over if it fails or is skipped.
  void EndInImage(const std::string& id, const std::string& image) {
    Run(id, Counter());
    ASSERT_TRUE(CountsTo(1));
    containerd::runc::v1::CheckpointOptions how;
    how.set_exit(true);
    const absl::Status status = Checkpoint(id, image, how);
    SKIP_IF_LACKING(status);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(Finish(id).status, 137u);
  }
  api::CreateTaskRequest RestoreRequest(const std::string& id,
                                        const std::string& image) {
    api::CreateTaskRequest request = CreateRequest(id);
    request.set_checkpoint(Image(image));
    return request;
  }
  absl::Status Create(const api::CreateTaskRequest& request) {
    return shim().Call<api::CreateTaskResponse>("Create", request).status();
  }
};

TEST_F(CheckpointTest, LeavesTheTaskRunning) {
  Run("c1", Counter());
  ASSERT_TRUE(CountsTo(1));
  const absl::Status status = Checkpoint("c1", "image");
  SKIP_IF_LACKING(status);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(StatusOf("c1"), kRunning);
  EXPECT_TRUE(CountsTo(2));
  struct stat info;
  EXPECT_EQ(stat((Image("image") + "/inventory.img").c_str(), &info), 0);
  // Its own work directory is gone.
  EXPECT_NE(stat((bundle("c1") + "/work/criu-work").c_str(), &info), 0);
  ASSERT_TRUE(Tell("end"));
  EXPECT_EQ(Finish("c1").status, 42u);
}

TEST_F(CheckpointTest, EndsTheTask) { EndInImage("c1", "image"); }

TEST_F(CheckpointTest, RestoresWhatCanBeKilledAndDeleted) {
  EndInImage("c1", "image");
  if (HasFatalFailure() || IsSkipped()) return;

  MakeBundle("c2", Counter());
  ASSERT_TRUE(Create(RestoreRequest("c2", "image")).ok());
  EXPECT_EQ(StatusOf("c2"), kCreated);
  EXPECT_EQ(PidOf("c2"), 0);
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c2");
  SKIP_IF_CGROUPS_ARE_IN_THE_WAY(pid.status());
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_GT(*pid, 0u);
  EXPECT_TRUE(CountsTo(2));
  ASSERT_TRUE(Exec("c2", "e1", {"echo", "alive"}).ok());
  EXPECT_EQ(FinishExec("c2", "e1").output, "alive\n");
  api::StatsRequest stats;
  stats.set_id("c2");
  EXPECT_TRUE(shim().Call<api::StatsResponse>("Stats", stats).ok());
  ASSERT_TRUE(shim().Kill("c2", SIGKILL).ok());
  EXPECT_EQ(Finish("c2").status, 137u);
  EXPECT_TRUE(shim().AwaitEvent("delete c2 137"));
}

TEST_F(CheckpointTest, RestoresWhatEndsByItself) {
  EndInImage("c1", "image");
  if (HasFatalFailure() || IsSkipped()) return;
  MakeBundle("c2", Counter());
  ASSERT_TRUE(Create(RestoreRequest("c2", "image")).ok());
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c2");
  SKIP_IF_CGROUPS_ARE_IN_THE_WAY(pid.status());
  ASSERT_TRUE(pid.ok()) << pid.status();
  ASSERT_TRUE(Tell("end"));
  EXPECT_EQ(Finish("c2").status, 42u);
}

// The parent is a dump of memory alone, which the runtime makes and
// containerd's API has no word for: CRIU takes no whole checkpoint for a
// parent, for it has not tracked what changed since.
TEST_F(CheckpointTest, KnowsParentImages) {
  if (system("criu check --feature mem_dirty_track >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "this kernel does not track memory";
  }
  Run("c1", Counter());
  ASSERT_TRUE(CountsTo(1));
  SKIP_IF_LACKING(Checkpoint("c1", "whole"));
  ASSERT_EQ(system(fmt::format("{} --root {}/runtime/{} checkpoint --pre-dump "
                               "--image-path {} c1 >&2",
                               RuntimeName(), shim().directory(),
                               shim().namespace_name(), Image("first"))
                       .c_str()),
            0);
  containerd::runc::v1::CheckpointOptions how;
  how.set_parent_path("../first");
  how.set_exit(true);
  const absl::Status status = Checkpoint("c1", "second", how);
  SKIP_IF_LACKING(status);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Finish("c1").status, 137u);
  struct stat info;
  EXPECT_EQ(stat((Image("second") + "/parent/inventory.img").c_str(), &info),
            0);
  MakeBundle("c2", Counter());
  api::CreateTaskRequest request = RestoreRequest("c2", "second");
  request.set_parent_checkpoint(Image("first"));
  ASSERT_TRUE(Create(request).ok());
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c2");
  SKIP_IF_CGROUPS_ARE_IN_THE_WAY(pid.status());
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_TRUE(CountsTo(2));
}

TEST_F(CheckpointTest, RestoresATerminal) {
  const RealSpec spec = {
      .args = {"sh", "-c", "echo up; while read line; do echo got $line; done"},
      .terminal = true};
  const auto with_terminal = [this](const std::string& id,
                                    const RealTerminal& terminal) {
    api::CreateTaskRequest request = shim().CreateRequest(id);
    request.set_terminal(true);
    request.set_stdin(terminal.in_path());
    request.set_stdout(terminal.out_path());
    return request;
  };
  const auto shows = [this](RealTerminal& terminal, const std::string& text) {
    return shim().RunUntil([&terminal, &text] {
      return terminal.Text().find(text) != std::string::npos;
    });
  };
  MakeBundle("c1", spec);
  RealTerminal before(shim().directory() + "/t1");
  ASSERT_TRUE(Create(with_terminal("c1", before)).ok());
  ASSERT_TRUE(shim().StartTask("c1").ok());
  ASSERT_TRUE(shows(before, "up"));
  containerd::runc::v1::CheckpointOptions how;
  how.set_exit(true);
  how.set_terminal(true);
  const absl::Status status = Checkpoint("c1", "image", how);
  SKIP_IF_LACKING(status);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Finish("c1").status, 137u);

  MakeBundle("c2", spec);
  RealTerminal after(shim().directory() + "/t2");
  api::CreateTaskRequest request = with_terminal("c2", after);
  request.set_checkpoint(Image("image"));
  ASSERT_TRUE(Create(request).ok());
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c2");
  SKIP_IF_CGROUPS_ARE_IN_THE_WAY(pid.status());
  ASSERT_TRUE(pid.ok()) << pid.status();
  after.Type("words\n");
  EXPECT_TRUE(shows(after, "got words")) << after.Text();
  ASSERT_TRUE(shim().Kill("c2", SIGKILL).ok());
  EXPECT_EQ(Finish("c2").status, 137u);
}

// A container with a network connection that nobody has allowed.
TEST_F(CheckpointTest, TellsWhyCriuRefuses) {
  Run("c1",
      {.args = {"sh", "-c",
                "nc -l -p 4321 -e sleep 1000 & "
                "until nc 127.0.0.1 4321 -e sh -c 'echo >/tmp/connected; exec "
                "sleep 1000'; do sleep 0.05; done"}});
  ASSERT_TRUE(shim().RunUntil([this] {
    return access((rootfs() + "/tmp/connected").c_str(), F_OK) == 0;
  }));
  const absl::Status status = Checkpoint("c1", "image");
  SKIP_IF_LACKING(status);
  const std::string log = bundle("c1") + "/criu-dump.log";
  EXPECT_THAT(std::string(Message(status)),
              AllOf(HasSubstr("tcp-established"), HasSubstr(" path= " + log),
                    Not(HasSubstr("\n"))));
  EXPECT_THAT(ReadFile(log).value_or(""), HasSubstr("tcp-established"));
  EXPECT_EQ(StatusOf("c1"), kRunning);
  ASSERT_TRUE(Exec("c1", "e1", {"true"}).ok());
  EXPECT_EQ(FinishExec("c1", "e1").status, 0u);
  ASSERT_TRUE(shim().Kill("c1", SIGKILL).ok());
  EXPECT_EQ(Finish("c1").status, 137u);
}

TEST_F(CheckpointTest, AFailedRestoreCanBeKilledAndDeleted) {
  EndInImage("c0", "image");
  if (HasFatalFailure() || IsSkipped()) return;
  ASSERT_EQ(unlink((Image("image") + "/inventory.img").c_str()), 0);

  MakeBundle("c1", Counter());
  ASSERT_TRUE(Create(RestoreRequest("c1", "image")).ok());
  const absl::Status status = shim().StartTask("c1").status();
  SKIP_IF_LACKING(status);
  EXPECT_THAT(
      std::string(Message(status)),
      AllOf(HasSubstr("OCI runtime restore failed: "), HasSubstr("criu/")));
  EXPECT_EQ(StatusOf("c1"), kCreated);
  const absl::Status killed = shim().Kill("c1", SIGKILL);
  EXPECT_TRUE(absl::IsNotFound(killed)) << killed;
  const auto deleted = shim().Delete("c1");
  EXPECT_TRUE(deleted.ok()) << deleted.status();
  struct stat info;
  EXPECT_NE(stat(fmt::format("{}/runtime/{}/c1", shim().directory(),
                             shim().namespace_name())
                     .c_str(),
                 &info),
            0);
}

}  // namespace
}  // namespace wisp
