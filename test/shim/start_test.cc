// `start` with real processes. The server that it starts is this very program,
// which then is a fake shim: see main() below.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/bootstrap.pb.h"
#include "proto/runc_options.pb.h"
#include "shim/bootstrap.h"
#include "shim/bundle.h"
#include "shim/peer_version.h"
#include "shim/socket.h"
#include "shim/ttrpc/transport.h"
#include "test/process/testing.h"
#include "test/shim/fake_shim.h"
#include "test/shim/run_action.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace bootstrap = containerd::runtime::bootstrap::v1;

constexpr absl::Duration kLimit = absl::Seconds(30);

int StartTtrpc(const ShimOptions& options) { return RunStart(options, kTtrpc); }

class StartTest : public ::testing::Test {
 protected:
  StartTest() {
    // The servers come to us when `start` has gone.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    options_.program = "shim";
    options_.namespace_name = "default";
    options_.id = "c1";
    options_.address = "/run/containerd/containerd.sock";
    options_.ttrpc_address = "/run/containerd/containerd.sock.ttrpc";
    NewBundle("c1", "{}");
  }
  ~StartTest() override {
    for (const pid_t pid : Servers()) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }

  // Our children: the servers that are alive.
  std::vector<pid_t> Servers() {
    std::vector<pid_t> pids;
    const std::string text =
        ReadFile("/proc/thread-self/children").value_or("");
    for (size_t at = 0; at < text.size(); at = text.find(' ', at) + 1) {
      pids.push_back(std::stoi(text.substr(at)));
      if (text.find(' ', at) == std::string::npos) break;
    }
    return pids;
  }
  std::string NewBundle(const std::string& id, const std::string& annotations) {
    const std::string path = directory_ / id;
    WISP_CHECK(mkdir(path.c_str(), 0700) == 0);
    WISP_CHECK(WriteFileAtomically(path + "/config.json",
                                   "{\"annotations\":" + annotations + "}",
                                   0600, false)
                   .ok());
    return path;
  }
  bootstrap::BootstrapParams Params(const std::string& id = "c1") {
    bootstrap::BootstrapParams params;
    params.set_instance_id(id);
    params.set_namespace_("default");
    params.set_socket_dir(sockets_);
    params.set_containerd_ttrpc_address("/params.ttrpc");
    return params;
  }
  bootstrap::BootstrapResult Result(const std::string& output) {
    bootstrap::BootstrapResult result;
    EXPECT_TRUE(result.ParseFromString(output));
    return result;
  }
  ActionResult Start(const bootstrap::BootstrapParams& params) {
    options_.id = params.instance_id();
    return RunAction(StartTtrpc, options_, directory_ / params.instance_id(),
                     params.SerializeAsString());
  }
  std::string SocketFor(const std::string& key) {
    return SocketPath(sockets_, options_.address, "default", key);
  }
  // What the server found when it started; it has if it answers.
  std::string Report(const std::string& id) {
    const std::string socket =
        Bundle(directory_ / id).ReadAddress().value_or("").substr(7);
    EXPECT_TRUE(ProbeTaskVersion(socket, "default", id, kLimit).ok());
    return ReadFile(directory_ / id + "/report").value_or("(none)");
  }
  int Sockets() {
    int count = 0;
    std::error_code none;
    for (const auto& entry :
         std::filesystem::directory_iterator(sockets_, none)) {
      (void)entry;
      ++count;
    }
    return count;
  }

  TemporaryDirectory directory_;
  std::string sockets_ = directory_ / "s";
  ShimOptions options_;
};

TEST_F(StartTest, AnswersInProtobufAndLeavesAServer) {
  const ActionResult result = Start(Params());
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.errors, "");
  const std::string address = "unix://" + SocketFor("c1");
  EXPECT_EQ(Result(result.output).version(), 3);
  EXPECT_EQ(Result(result.output).address(), address);
  EXPECT_EQ(Result(result.output).protocol(), "ttrpc");
  EXPECT_EQ(Result(result.output).extensions_size(), 1);
  const Bundle bundle(directory_ / "c1");
  EXPECT_EQ(*bundle.ReadAddress(), address);
  EXPECT_EQ(*bundle.ReadSocketDirectory(), sockets_);
  EXPECT_TRUE(SomebodyListens(SocketFor("c1")));
  EXPECT_EQ(Servers().size(), 1U);
  EXPECT_EQ(Sockets(), 1);
}

TEST_F(StartTest, SetsTheServerUpAsAShim) {
  setenv("GOMAXPROCS", "2", 1);
  setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
  bootstrap::BootstrapParams params = Params();
  params.set_log_level(bootstrap::LOG_LEVEL_DEBUG);
  options_.ttrpc_address.clear();
  ASSERT_EQ(Start(params).exit_code, 0);
  const std::string report = Report("c1");
  EXPECT_THAT(report, StartsWith("shim -namespace default -id c1 -address "
                                 "/run/containerd/containerd.sock "
                                 "-socket-name " +
                                 SocketFor("c1") + " -debug\n"));
  EXPECT_THAT(report, HasSubstr("TTRPC_ADDRESS=/params.ttrpc\n"));
  EXPECT_THAT(report, HasSubstr("GOMAXPROCS=4\n"));
  EXPECT_THAT(report, HasSubstr("NOTIFY_SOCKET=\n"));
  EXPECT_THAT(report, HasSubstr("cwd=" + directory_ / "c1\n"));
  EXPECT_THAT(report, HasSubstr("leads its group\n"));
  EXPECT_THAT(report, HasSubstr("SigBlk:\t0000000000000000\n"));
  EXPECT_THAT(report, HasSubstr("SigIgn:\t0000000000000000\n"));
  EXPECT_THAT(report, HasSubstr("0 /dev/null\n1 /dev/null\n2 /dev/null\n"));
  EXPECT_THAT(report, HasSubstr("3 socket:"));
  EXPECT_EQ(report.find("\n4 "), std::string::npos);
  // It is set from outside, before `start` ends.
  const std::string score =
      *ReadFile("/proc/" + std::to_string(Servers().at(0)) + "/oom_score_adj");
  const int ours = std::stoi(*ReadFile("/proc/self/oom_score_adj"));
  EXPECT_EQ(std::stoi(score), std::min(ours + 1, 1000));
}

TEST_F(StartTest, AnswersOldDaemonsWithTheAddressAlone) {
  // Their directory is fixed, so only the form is looked at, not the place.
  if (getuid() != 0) GTEST_SKIP() << "/run/containerd/s is root's";
  options_.address = directory_ / "containerd.sock";  // a hash of our own
  const ActionResult result =
      RunAction(StartTtrpc, options_, directory_ / "c1", "");
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  const std::string path =
      SocketPath(kDefaultSocketDirectory, options_.address, "default", "c1");
  EXPECT_EQ(result.output, "unix://" + path);
  EXPECT_EQ(Bundle(directory_ / "c1").ReadSocketDirectory().status().code(),
            absl::StatusCode::kNotFound);
  unlink(path.c_str());
}

TEST_F(StartTest, ContainersOfAGroupShareAServer) {
  NewBundle("pod", R"({"io.kubernetes.cri.sandbox-id":"pod"})");
  NewBundle("app", R"({"io.kubernetes.cri.sandbox-id":"pod"})");
  const ActionResult pod = Start(Params("pod"));
  const ActionResult app = Start(Params("app"));
  EXPECT_EQ(app.exit_code, 0) << app.errors;
  EXPECT_EQ(pod.output, app.output);
  EXPECT_EQ(*Bundle(directory_ / "app").ReadAddress(),
            "unix://" + SocketFor("pod"));
  EXPECT_EQ(Servers().size(), 1U);
}

TEST_F(StartTest, TellsTheVersionOfAForeignShim) {
  mkdir(sockets_.c_str(), 0700);
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(SocketFor("c1"));
  ASSERT_TRUE(claimed.ok());
  const pid_t pid = fork();
  if (pid == 0) {
    ServeConnect(claimed->listener.get(), {"containerd.task.v2.Task"});
  }
  const ActionResult result = Start(Params());
  EXPECT_EQ(Result(result.output).version(), 2) << result.errors;
}

TEST_F(StartTest, ReplacesADeadShim) {
  ASSERT_EQ(Start(Params()).exit_code, 0);
  const pid_t first = Servers().at(0);
  kill(first, SIGKILL);
  waitpid(first, nullptr, 0);
  EXPECT_EQ(Start(Params()).exit_code, 0);
  EXPECT_EQ(Servers().size(), 1U);
  EXPECT_TRUE(SomebodyListens(SocketFor("c1")));
  EXPECT_EQ(Sockets(), 1);
}

TEST_F(StartTest, AFailureLeavesNothingBehind) {
  containerd::runc::v1::Options runc;
  runc.set_shim_cgroup("/there/is/no/such/cgroup");
  bootstrap::BootstrapParams params = Params();
  google::protobuf::Any* any = params.add_extensions()->mutable_value();
  any->set_type_url("containerd.runc.v1.Options");
  any->set_value(runc.SerializeAsString());
  const ActionResult result = Start(params);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors,
              StartsWith("io.containerd.wisp.v2: shim cgroup: "));
  EXPECT_TRUE(Servers().empty());
  EXPECT_EQ(Sockets(), 0);
  EXPECT_FALSE(Bundle(directory_ / "c1").ReadAddress().ok());
}

TEST_F(StartTest, WithoutAConfigItFails) {
  ASSERT_EQ(unlink((directory_ / "c1/config.json").c_str()), 0);
  const ActionResult result = Start(Params());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, HasSubstr("config.json: no such file"));
  EXPECT_TRUE(Servers().empty());
}

TEST_F(StartTest, ATooLongSocketDirectoryIsNamed) {
  bootstrap::BootstrapParams params = Params();
  params.set_socket_dir(directory_ / std::string(80, 'd'));
  const ActionResult result = Start(params);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr("shorter socket_dir"));
}

TEST_F(StartTest, TermDoesNotStopIt) {
  // Its stdin stays open until it has been hit.
  Pipe in = *MakePipe();
  Pipe ready = *MakePipe();
  const pid_t pid = fork();
  if (pid == 0) {
    in.write_end.Reset();
    if (chdir((directory_ / "c1").c_str()) != 0) _exit(99);
    dup2(in.read_end.get(), 0);
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    dup2(null.get(), 1);
    _exit(StartTtrpc(options_));
  }
  in.read_end.Reset();
  // It ignores the signal from its first step on; that is what we wait for.
  const std::string status = "/proc/" + std::to_string(pid) + "/status";
  const auto ignores_term = [&status] {
    const std::string text = ReadFile(status).value_or("");
    const size_t at = text.find("SigIgn:\t");
    return at != std::string::npos &&
           (std::stoull(text.substr(at + 8, 16), nullptr, 16) &
            (1ULL << (SIGTERM - 1))) != 0;
  };
  while (!ignores_term()) sched_yield();
  kill(pid, SIGTERM);
  WISP_ASSERT_OK(WriteAll(in.write_end.get(), Params().SerializeAsString()));
  in.write_end.Reset();
  int wait_status = 0;
  ASSERT_EQ(waitpid(pid, &wait_status, 0), pid);
  EXPECT_TRUE(WIFEXITED(wait_status));
  EXPECT_EQ(WEXITSTATUS(wait_status), 0);
}

// Fifty containers of one group start at once: one server, one address.
TEST_F(StartTest, OfFiftyRacersOneStartsTheServer) {
  constexpr int kRacers = 50;
  std::vector<std::unique_ptr<RunningAction>> racers;
  for (int i = 0; i < kRacers; ++i) {
    options_.id = absl::StrCat("r", i);
    const std::string path =
        NewBundle(options_.id, R"({"io.containerd.runc.v2.group":"g"})");
    racers.push_back(std::make_unique<RunningAction>(
        StartTtrpc, options_, path, Params(options_.id).SerializeAsString()));
  }
  int servers = 0;
  for (int i = 0; i < kRacers; ++i) {
    const ActionResult result = racers[i]->Finish();
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(Result(result.output).address(), "unix://" + SocketFor("g"));
    EXPECT_EQ(Result(result.output).version(), 3);
    if (access((directory_ / absl::StrCat("r", i, "/report")).c_str(), F_OK) ==
        0) {
      ++servers;
    }
  }
  EXPECT_EQ(Servers().size(), 1U);
  EXPECT_LE(servers, 1);
  EXPECT_EQ(Sockets(), 1);
  EXPECT_EQ(*ProbeTaskVersion(SocketFor("g"), "default", "r0", kLimit), 3);
}

int FakeServer(int argc, char** argv) {
  std::string report;
  for (int i = 0; i < argc; ++i)
    absl::StrAppend(&report, i ? " " : "", argv[i]);
  for (const char* name : {"TTRPC_ADDRESS", "GOMAXPROCS", "NOTIFY_SOCKET"}) {
    const char* value = getenv(name);
    absl::StrAppend(&report, "\n", name, "=", value == nullptr ? "" : value);
  }
  char cwd[4096];
  absl::StrAppend(&report, "\ncwd=", getcwd(cwd, sizeof(cwd)), "\n",
                  getpgid(0) == getpid() ? "leads its group\n" : "");
  for (const auto& [fd, target] : OpenFds()) {
    absl::StrAppend(&report, fd, " ", target, "\n");
  }
  absl::StrAppend(&report, *ReadFile("/proc/self/status"));
  WISP_CHECK(WriteFileAtomically("report", report, 0600, false).ok());
  ServeConnect(3, {"containerd.task.v2.Task", "containerd.task.v3.Task"});
}

}  // namespace
}  // namespace wisp

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "-namespace") {
    return wisp::FakeServer(argc, argv);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
