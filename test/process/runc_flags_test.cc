// Which flags reach the runtime, for every verb and for runtimes that do not
// know them all.
#include <string>

#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/process/runc_testing.h"

namespace wisp {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kRuncHelp =
    "OPTIONS:\n   --no-pivot  as runc has it\n   --no-subreaper\n"
    "   --parent-path value\n   --empty-ns value\n";

class RuncFlagsTest : public RuncTest {
 protected:
  // A runtime that does nothing but to keep its command lines, and to give this
  // help.
  void RecordCommands(const std::string& help = kRuncHelp) {
    ASSERT_TRUE(
        WriteFileAtomically(directory_.path() + "/help", help, 0600, false)
            .ok());
    Script(
        fmt::format("echo \"$*\" >>{0}/commands; touch \"$4\"\n"
                    "case $9 in --help) cat {0}/help ;; esac\n"
                    "echo output of $8",
                    directory_.path()));
  }
  // The last command line from the verb on.
  std::string LastCommand() {
    std::string text = *ReadFile(directory_.path() + "/commands");
    text.pop_back();
    text = text.substr(text.rfind('\n') + 1);
    constexpr std::string_view kLastOfAll = "--systemd-cgroup ";
    return text.substr(text.find(kLastOfAll) + kLastOfAll.size());
  }
  // Of that runtime, with all that can be set.
  RuncDriver EagerDriver() {
    return RuncDriver(*loop_, *reaper_,
                      RuncSettings{.binary = directory_.path() + "/runtime",
                                   .root = directory_.path() + "/root",
                                   .container_id = "c1",
                                   .bundle = directory_.path(),
                                   .systemd_cgroup = true,
                                   .no_pivot_root = true,
                                   .no_new_keyring = true,
                                   .env = EnvironmentWithout({})});
  }
  static CheckpointOptions EverythingForCheckpoint() {
    return {.image_path = "/i",
            .work_path = "/w",
            .parent_path = "../p",
            .leave_running = true,
            .open_tcp = true,
            .external_unix_sockets = true,
            .shell_job = true,
            .file_locks = true,
            .empty_namespaces = {"network", "ipc"}};
  }
};

// Every verb with every setting that it takes.
TEST_F(RuncFlagsTest, GivesEachVerbItsFlags) {
  RecordCommands();
  RuncDriver driver = EagerDriver();
  RuncRunOptions console;
  console.console_socket = "/c.sock";
  const std::string& bundle = directory_.path();
  const auto last = [&](absl::FunctionRef<void(DoneStatus)> start) {
    const absl::Status status = Run(start);
    EXPECT_TRUE(status.ok()) << status;
    return LastCommand();
  };
  EXPECT_EQ(last([&](DoneStatus done) {
              driver.Create("/p", console, std::move(done));
            }),
            fmt::format("create --bundle {} --pid-file /p --console-socket "
                        "/c.sock --no-pivot --no-new-keyring c1",
                        bundle));
  EXPECT_EQ(last([&](DoneStatus done) { driver.Start({}, std::move(done)); }),
            "start c1");
  EXPECT_EQ(last([&](DoneStatus done) {
              driver.Exec("/j", "/p", console, std::move(done));
            }),
            "exec --process /j --console-socket /c.sock --detach --pid-file /p "
            "c1");
  EXPECT_EQ(
      last([&](DoneStatus done) { driver.Kill(9, false, std::move(done)); }),
      "kill c1 9");
  EXPECT_EQ(
      last([&](DoneStatus done) { driver.KillAllAfterExit(std::move(done)); }),
      "kill --all c1 9");
  EXPECT_EQ(
      last([&](DoneStatus done) { driver.Delete(false, {}, std::move(done)); }),
      "delete c1");
  EXPECT_EQ(
      last([&](DoneStatus done) { driver.Delete(true, {}, std::move(done)); }),
      "delete --force c1");
  EXPECT_EQ(last([&](DoneStatus done) { driver.Pause({}, std::move(done)); }),
            "pause c1");
  EXPECT_EQ(last([&](DoneStatus done) { driver.Resume({}, std::move(done)); }),
            "resume c1");
  EXPECT_EQ(
      last([&](DoneStatus done) { driver.Update("{}", {}, std::move(done)); }),
      "update --resources=- c1");
  EXPECT_EQ(last([&](DoneStatus done) {
              driver.Checkpoint(EverythingForCheckpoint(), {}, std::move(done));
            }),
            "checkpoint --image-path /i --work-path /w --parent-path ../p "
            "--tcp-established --ext-unix-sk --shell-job --file-locks "
            "--empty-ns network --empty-ns ipc --leave-running c1");
  EXPECT_EQ(last([&](DoneStatus done) {
              driver.Restore("/p", {.image_path = "/i", .work_path = "/w"},
                             console, std::move(done));
            }),
            fmt::format("restore --image-path /i --work-path /w --detach "
                        "--pid-file /p --console-socket /c.sock --no-pivot "
                        "--no-subreaper --bundle {} c1",
                        bundle));
  // Each with the global part, before the verb.
  const std::string lines = *ReadFile(directory_.path() + "/commands");
  for (const absl::string_view line :
       absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    EXPECT_THAT(std::string(line),
                StartsWith(fmt::format("--root {0}/root --log {0}/log.json "
                                       "--log-format json --systemd-cgroup ",
                                       bundle)));
  }
}

TEST_F(RuncFlagsTest, AsksForHelpOnlyBeforeWhatNotAllRuntimesKnow) {
  RecordCommands();
  RuncDriver driver = EagerDriver();
  const auto run = [&](absl::FunctionRef<void(DoneStatus)> start) {
    ASSERT_TRUE(Run(start).ok());
  };
  run([&](DoneStatus done) { driver.Create("/p", {}, std::move(done)); });
  run([&](DoneStatus done) { driver.Exec("/j", "/p", {}, std::move(done)); });
  run([&](DoneStatus done) {
    driver.Checkpoint({.image_path = "/i", .work_path = "/w"}, {},
                      std::move(done));
  });
  run([&](DoneStatus done) { driver.Delete(false, {}, std::move(done)); });
  EXPECT_THAT(*ReadFile(directory_.path() + "/commands"),
              Not(HasSubstr("--help")));
  // Twice needs no second answer.
  for (int i = 0; i < 2; ++i) {
    run([&](DoneStatus done) {
      driver.Restore("/p", {.image_path = "/i", .work_path = "/w"}, {},
                     std::move(done));
    });
  }
  const std::string commands = *ReadFile(directory_.path() + "/commands");
  EXPECT_NE(commands.find("restore --help"), std::string::npos);
  EXPECT_EQ(commands.find("restore --help"), commands.rfind("restore --help"));
}

TEST_F(RuncFlagsTest, LeavesOutOfARestoreWhatTheRuntimeDoesNotKnow) {
  RecordCommands(
      "  --image-path=DIR  --work-path=DIR --detach --pid-file=FILE");
  RuncDriver driver = EagerDriver();
  ASSERT_TRUE(
      Run([&](DoneStatus done) {
        driver.Restore(
            "/p",
            {.image_path = "/i", .work_path = "/w", .parent_path = "/parent"},
            {}, std::move(done));
      }).ok());
  EXPECT_EQ(LastCommand(),
            fmt::format("restore --image-path /i --work-path /w --detach "
                        "--pid-file /p --bundle {} c1",
                        directory_.path()));
}

TEST_F(RuncFlagsTest, RestoresWithTheFdsOfTheCall) {
  RecordCommands();
  RuncDriver driver = EagerDriver();
  Pipe pipe = *MakePipe();
  RuncRunOptions options;
  options.stdout_fd = pipe.write_end.get();
  options.container_io = true;
  ASSERT_TRUE(Run([&](DoneStatus done) {
                driver.Restore("/p", {.image_path = "/i", .work_path = "/w"},
                               options, std::move(done));
                // As the launch does it, once the method is back.
                pipe.write_end.Reset();
              }).ok());
  // The end is there, so nobody has kept a copy; and the help went elsewhere.
  EXPECT_EQ(*ReadAll(pipe.read_end.get()), "output of restore\n");
}

TEST_F(RuncFlagsTest, RefusesACheckpointThatTheRuntimeCannotMake) {
  RecordCommands("  --image-path=DIR --parent-path=DIR --work-path=DIR");
  RuncDriver driver = EagerDriver();
  const absl::Status status = Run([&](DoneStatus done) {
    driver.Checkpoint(EverythingForCheckpoint(), {}, std::move(done));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(status), EndsWith("checkpoint has no option --empty-ns"));
  EXPECT_THAT(LastCommand(), EndsWith("checkpoint --help"));
  // Also when it is known already.
  EXPECT_EQ(Run([&](DoneStatus done) {
              driver.Checkpoint(EverythingForCheckpoint(), {}, std::move(done));
            }).code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(RuncFlagsTest, EndsARestoreWhileItAsksForHelp) {
  RuncDriver driver = Driver(Script("sleep 1000"));
  const absl::Status status = Run([&](DoneStatus done) {
    driver
        .Restore("/p", {.image_path = "/i", .work_path = "/w"}, {},
                 std::move(done))
        .Abort(absl::CancelledError("gone"));
  });
  EXPECT_EQ(status, absl::CancelledError("OCI runtime restore failed: gone"));
}

TEST_F(RuncFlagsTest, EndsARestoreAfterItHasAskedForHelp) {
  RuncDriver driver =
      Driver(Script("case $8 in --help) exit 0 ;; esac; echo $$ > " +
                    directory_.path() + "/pid; exec sleep 1000"));
  std::optional<absl::Status> result;
  RuncRun run = driver.Restore(
      "/p", {.image_path = "/i", .work_path = "/w"}, {},
      [&result](absl::Status status) { result = std::move(status); });
  ASSERT_TRUE(RunUntil(
      *loop_, [this] { return ReadFile(directory_.path() + "/pid").ok(); }));
  run.Abort(absl::CancelledError("gone"));
  ASSERT_TRUE(RunUntil(*loop_, [&result] { return result.has_value(); }));
  EXPECT_EQ(*result, absl::CancelledError("OCI runtime restore failed: gone"));
}

TEST_F(RuncFlagsTest, SaysThatTheRuntimeHasNoSuchCommand) {
  const std::string runtime =
      Script("touch \"$4\"; echo \"unknown command $7\" >&2; exit 1");
  RuncDriver driver = Driver(runtime);
  const absl::Status status =
      Run([&](DoneStatus done) { driver.Pause({}, std::move(done)); });
  EXPECT_EQ(status,
            absl::UnimplementedError(fmt::format(
                "OCI runtime pause failed: {} has no command pause", runtime)));
  EXPECT_EQ(Run([&](DoneStatus done) {
              driver.Restore("/p", {.image_path = "/i", .work_path = "/w"}, {},
                             std::move(done));
            }).code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(RuncFlagsTest, AddsCriusWordsToAFailure) {
  RuncDriver driver = Driver(
      Script("touch \"$4\"; echo '(0.1) Error (criu/a.c:7): no way' >" +
             directory_.path() +
             "/dump.log; echo 'criu failed: type DUMP'; echo log file; exit "
             "1"));
  const absl::Status status = Run([&](DoneStatus done) {
    driver.Checkpoint({.image_path = "/i", .work_path = directory_.path()}, {},
                      std::move(done));
  });
  EXPECT_THAT(Message(status),
              EndsWith("exit status 1: criu failed: type DUMP: criu/a.c:7: no "
                       "way"));
}

}  // namespace
}  // namespace wisp
