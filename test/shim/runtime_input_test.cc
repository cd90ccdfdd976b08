// What reaches the runtime: config.json, an exec's process and resources as
// they came, and every option in each of its forms. Between the shim and the
// runtime stands a script that keeps what passes.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/linux_runc_options.pb.h"
#include "proto/runc_options.pb.h"
#include "proto/runtime_options.pb.h"
#include "test/process/testing.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Every field of the specification, and some of the future, as nobody would
// write it.
constexpr std::string_view kConfig = R"({
  "ociVersion" : "1.2.0",	"hostname":"h\u00e9", "domainname":"d",
  "annotations":{"io.containerd.runc.v2.group":"test-group","a\/b":"c"},
  "process":{"args":["sleep","1000"],"cwd":"/","terminal":false,
    "commandLine":"x","consoleSize":{"height":1,"width":2},
    "user":{"uid":4294967295,"gid":0,"umask":18,"additionalGids":[1,2]},
    "rlimits":[{"type":"RLIMIT_NOFILE","soft":18446744073709551615,"hard":1}],
    "capabilities":{"bounding":["CAP_KILL"],"effective":[],"ambient":null},
    "noNewPrivileges":true,"oomScoreAdj":-999,"apparmorProfile":"a p",
    "selinuxLabel":"system_u:system_r:svirt_lxc_net_t:s0:c1,c2",
    "ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":1},
    "scheduler":{"policy":"SCHED_OTHER","nice":5},
    "execCPUAffinity":{"initial":"0-1","final":"0"}},
  "root":{"path":"rootfs","readonly":true},
  "mounts":[{"destination":"/p","type":"proc","source":"proc",
    "uidMappings":[{"containerID":0,"hostID":1,"size":2}]}],
  "hooks":{"prestart":[{"path":"/1"}],"createRuntime":[{"path":"/2"}],
    "createContainer":[{"path":"/3"}],"startContainer":[{"path":"/4"}],
    "poststart":[{"path":"/5","timeout":3}],"poststop":[{"path":"/6"}]},
  "linux":{"namespaces":[{"type":"pid"},{"type":"time"}],
    "uidMappings":[{"containerID":0,"hostID":100000,"size":65536}],
    "gidMappings":[{"containerID":0,"hostID":100000,"size":65536}],
    "timeOffsets":{"monotonic":{"secs":1,"nanosecs":2}},
    "devices":[{"path":"/dev/x","type":"c","major":1,"minor":3}],
    "cgroupsPath":"/x/y","sysctl":{"kernel.msgmax":"1"},
    "resources":{"memory":{"limit":9223372036854775807,"swap":-1},
      "unified":{"memory.high":"1"},"rdma":{"a":{"hcaHandles":3}}},
    "rootfsPropagation":"slave","mountLabel":"m","personality":{"domain":"LINUX"},
    "maskedPaths":["/a"],"readonlyPaths":["/b"],
    "seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
      "listenerPath":"/l","flags":[],"architectures":["SCMP_ARCH_X86"],
      "syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[
        {"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]},
    "intelRdt":{"closID":"guaranteed","l3CacheSchema":"L3:0=7f0",
      "memBwSchema":"MB:0=20","enableCMT":true,"schemata":["L3:0=1"]}},
  "zos":{},"vm":{"kernel":{"path":"/k"}},
  "ofTheFuture":[1e40,1.0,-0,"\ud83d\ude00",{"a":1,"a":2}]
}

)";

class RuntimeInputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    const std::string script = fmt::format(
        "#!/bin/sh\n"
        "echo \"$*\" >>{0}/commands\n"
        "[ -z \"$TRACEPARENT\" ] || echo \"$TRACEPARENT $TRACESTATE $BAGGAGE\" "
        ">>{0}/trace\n"
        "before=\n"
        "for word; do\n"
        "  case $before in\n"
        "    --bundle) cp \"$word/config.json\" {0}/config.json ;;\n"
        "    --process) cp \"$word\" {0}/process.json ;;\n"
        "  esac\n"
        "  case $word in\n"
        "    --resources=-) cat >{0}/resources.json; exit 0 ;;\n"
        "    restore) exit 1 ;;\n"
        "  esac\n"
        "  before=$word\n"
        "done\n"
        "exec {1} \"$@\"\n",
        directory_.path(), FAKE_RUNC);
    ASSERT_TRUE(WriteFileAtomically(runtime(), script, 0700, false).ok());
    shim_ = TestShim::Start(runtime());
    ASSERT_NE(shim_, nullptr);
  }

  std::string runtime() const { return directory_.path() + "/runtime"; }
  TestShim& shim() { return *shim_; }
  std::string Kept(const std::string& name) {
    return ReadFile(directory_.path() + "/" + name).value_or("(nothing)");
  }
  // The command lines so far, and none from now on.
  std::vector<std::string> TakeCommands() {
    const std::string text = Kept("commands");
    unlink((directory_.path() + "/commands").c_str());
    std::vector<std::string> lines;
    for (const absl::string_view line :
         absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      lines.emplace_back(line);
    }
    return lines;
  }
  // A task of these options through all verbs; returns the command lines.
  std::vector<std::string> CommandsWith(
      const std::string& id, const google::protobuf::MessageLite& options) {
    TakeCommands();
    api::CreateTaskRequest request = shim().CreateRequest(id);
    shim().MakeBundle(id, {"sleep", "1000"});
    request.mutable_options()->set_type_url(options.GetTypeName());
    request.mutable_options()->set_value(options.SerializeAsString());
    const auto created =
        shim().Call<api::CreateTaskResponse>("Create", request);
    EXPECT_TRUE(created.ok()) << created.status();
    EXPECT_TRUE(shim().StartTask(id).ok());
    EXPECT_TRUE(shim().Exec(id, "e1", {"true"}).ok());
    EXPECT_TRUE(shim().StartTask(id, "e1").ok());
    EXPECT_TRUE(shim().Wait(id, "e1").ok());
    EXPECT_TRUE(shim().Delete(id, "e1").ok());
    api::PauseRequest pause;
    pause.set_id(id);
    EXPECT_TRUE(shim().Call<Empty>("Pause", pause).ok());
    api::ResumeRequest resume;
    resume.set_id(id);
    EXPECT_TRUE(shim().Call<Empty>("Resume", resume).ok());
    api::UpdateTaskRequest update;
    update.set_id(id);
    update.mutable_resources()->set_value("{}");
    EXPECT_TRUE(shim().Call<Empty>("Update", update).ok());
    api::CheckpointTaskRequest checkpoint;
    checkpoint.set_id(id);
    checkpoint.set_path("/image");
    EXPECT_TRUE(shim().Call<Empty>("Checkpoint", checkpoint).ok());
    EXPECT_TRUE(shim().Kill(id, SIGKILL).ok());
    EXPECT_TRUE(shim().Wait(id).ok());
    EXPECT_TRUE(shim().Delete(id).ok());

    // Restored it would be by the same runtime; the script refuses.
    const std::string restored = id + "-restored";
    shim().MakeBundle(restored, {"true"});
    request.set_id(restored);
    request.set_bundle(shim().directory() + "/bundles/" + restored);
    request.set_checkpoint("/image");
    EXPECT_TRUE(shim().Call<api::CreateTaskResponse>("Create", request).ok());
    EXPECT_FALSE(shim().StartTask(restored).ok());
    EXPECT_TRUE(shim().Delete(restored).ok());
    return TakeCommands();
  }

  TemporaryDirectory directory_;
  std::unique_ptr<TestShim> shim_;
};

TEST_F(RuntimeInputTest, HandsOnAConfigByteForByte) {
  shim().MakeBundle("c1", {});
  ASSERT_TRUE(
      WriteFileAtomically(shim().directory() + "/bundles/c1/config.json",
                          kConfig, 0600, false)
          .ok());
  const absl::StatusOr<uint32_t> pid = shim().Create("c1");
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(Kept("config.json"), kConfig);
  EXPECT_EQ(*ReadFile(shim().directory() + "/bundles/c1/config.json"), kConfig);
}

TEST_F(RuntimeInputTest, HandsOnTheProcessOfAnExecAsItIs) {
  shim().MakeBundle("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Create("c1").ok());
  ASSERT_TRUE(shim().StartTask("c1").ok());
  // Compact, as Go writes it; numbers beyond what a double holds.
  const std::string process =
      R"({"user":{"uid":4294967295,"gid":1,"umask":18,"additionalGids":[3]},)"
      R"("args":["true"],"env":["A=é"],"cwd":"/","capabilities":{"bounding":)"
      R"(["CAP_KILL"],"ambient":[]},"rlimits":[{"type":"RLIMIT_CORE","hard":)"
      R"(18446744073709551615,"soft":0}],"noNewPrivileges":true,)"
      R"("apparmorProfile":"p","oomScoreAdj":-5,"selinuxLabel":"a:b:c",)"
      R"("ioPriority":{"class":"IOPRIO_CLASS_RT","priority":3},"scheduler":)"
      R"({"policy":"SCHED_FIFO","runtime":18446744073709551615},)"
      R"("execCPUAffinity":{"initial":"0"},"ofTheFuture":{"b":[],"a":null}})";
  api::ExecProcessRequest request;
  request.set_id("c1");
  request.set_exec_id("e1");
  request.mutable_spec()->set_value(process);
  ASSERT_TRUE(shim().Call<Empty>("Exec", request).ok());
  const absl::StatusOr<uint32_t> pid = shim().StartTask("c1", "e1");
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(Kept("process.json"), process + "\n");
}

TEST_F(RuntimeInputTest, HandsOnResourcesByteForByte) {
  shim().MakeBundle("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Create("c1").ok());
  const std::string resources =
      R"({"memory" : {"limit":9223372036854775807}, "unified":{"a.b":"c"},)"
      R"("ofTheFuture":[1.50]})";
  api::UpdateTaskRequest request;
  request.set_id("c1");
  request.mutable_resources()->set_value(resources);
  const absl::Status status = shim().Call<Empty>("Update", request).status();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Kept("resources.json"), resources + "\n");
}

TEST_F(RuntimeInputTest, HandsOnTheTraceContextOfTheCallAndOfNoOther) {
  shim().MakeBundle("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Create("c1").ok());
  EXPECT_EQ(Kept("trace"), "(nothing)");
  api::StartRequest request;
  request.set_id("c1");
  TestShim::Pending pending;
  shim().client().Call(
      "containerd.task.v3.Task", "Start", request.SerializeAsString(),
      {{"traceparent", "00-1-2-01"}, {"tracestate", "a=b"}, {"baggage", "c=d"}},
      absl::Seconds(60), [&pending](absl::StatusOr<std::string> result) {
        pending.result = std::move(result);
        pending.done = true;
      });
  shim().Await(pending);
  ASSERT_TRUE(pending.result.ok()) << pending.result.status();
  EXPECT_EQ(Kept("trace"), "00-1-2-01 a=b c=d\n");
}

TEST_F(RuntimeInputTest, LooksForNoLogOfACheckpointThatTheRuntimeCannotMake) {
  shim().MakeBundle("c1", {"sleep", "1000"});
  ASSERT_TRUE(shim().Create("c1").ok());
  ASSERT_TRUE(shim().StartTask("c1").ok());
  shim().SetFailure("checkpoint", "unknown command checkpoint");
  api::CheckpointTaskRequest request;
  request.set_id("c1");
  request.set_path("/image");
  EXPECT_EQ(shim().Call<Empty>("Checkpoint", request).status(),
            absl::UnimplementedError(fmt::format(
                "{} has no command checkpoint: not implemented", runtime())));
}

// What the options below come to.
void ExpectAllOptions(const std::vector<std::string>& commands,
                      const std::string& root) {
  EXPECT_THAT(commands, Each(StartsWith("--root " + root + "/")));
  EXPECT_THAT(commands,
              Each(HasSubstr(" --log-format json --systemd-cgroup ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" --no-pivot --no-new-keyring ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" start ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" exec --process ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" pause ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" resume ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" update --resources=- ")));
  EXPECT_THAT(commands,
              Contains(HasSubstr(" checkpoint --image-path /image ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" delete ")));
  EXPECT_THAT(
      commands,
      Contains(HasSubstr(" restore --image-path /image --work-path /w ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" --no-pivot --no-subreaper ")));
}

TEST_F(RuntimeInputTest, GivesRuncsOptionsToEveryCommand) {
  const std::string root = directory_.path() + "/root";
  containerd::runc::v1::Options options;
  options.set_binary_name(runtime());
  options.set_root(root);
  options.set_systemd_cgroup(true);
  options.set_no_pivot_root(true);
  options.set_no_new_keyring(true);
  options.set_criu_work_path("/w");
  mkdir(root.c_str(), 0700);
  ExpectAllOptions(CommandsWith("c1", options), root);
}

TEST_F(RuntimeInputTest, GivesOptionsOfCriToEveryCommand) {
  const std::string root = directory_.path() + "/root";
  const std::string toml = fmt::format(
      "BinaryName = \"{}\"\nRoot = \"{}\"\nSystemdCgroup = true\n"
      "NoPivotRoot = true\nNoNewKeyring = true\nCriuWorkPath = \"/w\"\n",
      runtime(), root);
  mkdir(root.c_str(), 0700);
  runtimeoptions::v1::Options options;
  options.set_config_body(toml);
  ExpectAllOptions(CommandsWith("c1", options), root);

  const std::string file = directory_.path() + "/options.toml";
  ASSERT_TRUE(WriteFileAtomically(file, toml, 0600, false).ok());
  options.clear_config_body();
  options.set_config_path(file);
  ExpectAllOptions(CommandsWith("c2", options), root);
}

TEST_F(RuntimeInputTest, GivesOptionsOfOldClientsToEveryCommand) {
  // They name no binary: it is the runc in $PATH.
  ASSERT_EQ(
      symlink(runtime().c_str(), (shim().path_directory() + "/runc").c_str()),
      0);
  containerd::linux::runc::CreateOptions options;
  options.set_no_pivot_root(true);
  options.set_no_new_keyring(true);
  options.set_criu_work_path("/w");
  // Nor a root: it is everybody's, with a namespace that is ours alone.
  const std::string root = "/run/containerd/runc";
  std::filesystem::create_directories(root);
  const std::vector<std::string> commands = CommandsWith("c1", options);
  std::filesystem::remove_all(root + "/" + shim().namespace_name());
  EXPECT_THAT(commands, Each(StartsWith("--root /run/containerd/runc/")));
  EXPECT_THAT(commands, Contains(HasSubstr(" --no-pivot --no-new-keyring ")));
  EXPECT_THAT(
      commands,
      Contains(HasSubstr(" restore --image-path /image --work-path /w ")));
  EXPECT_THAT(commands, Contains(HasSubstr(" --no-pivot --no-subreaper ")));
}

}  // namespace
}  // namespace wisp
