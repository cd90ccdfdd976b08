#include "test/support/real_runtime.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "fmt/format.h"
#include "process/json.h"
#include "process/spawn.h"
#include "proto/runc_options.pb.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;
namespace fs = std::filesystem;

constexpr const char* kApplets[] = {
    "sh",       "cat",      "echo",  "env",  "nc",    "grep",  "head",
    "hostname", "id",       "kill",  "ls",   "mkdir", "nproc", "od",
    "ps",       "readlink", "sleep", "stat", "stty",  "tail",  "true",
    "tty",      "touch",    "umask", "wc"};

// What containers have by default.
constexpr std::string_view kCapabilities =
    R"("CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_KILL","CAP_SETGID",)"
    R"("CAP_SETUID","CAP_SYS_CHROOT","CAP_MKNOD","CAP_NET_BIND_SERVICE")";

constexpr std::string_view kMounts =
    R"({"destination":"/proc","type":"proc","source":"proc"},)"
    R"({"destination":"/dev","type":"tmpfs","source":"tmpfs",)"
    R"("options":["nosuid","strictatime","mode=755","size=65536k"]},)"
    R"({"destination":"/dev/pts","type":"devpts","source":"devpts",)"
    R"("options":["nosuid","noexec","newinstance","ptmxmode=0666",)"
    R"("mode=0620"]})";

std::string JsonList(const std::vector<std::string>& words) {
  Json list = Json::Array();
  for (const std::string& word : words) list.Append(word);
  return list.Dump();
}

// The runtime is to have systemd make the cgroups.
bool WithSystemd() { return getenv("WISP_TEST_SYSTEMD") != nullptr; }

// `text` as more members or elements behind others.
std::string Further(const std::string& text) {
  return text.empty() ? "" : "," + text;
}

std::string ConfigJson(const RealSpec& spec, const std::string& rootfs,
                       const std::string& cgroup) {
  std::string capabilities;
  if (spec.process.find("\"capabilities\"") == std::string::npos) {
    capabilities =
        fmt::format(R"(,"capabilities":{{"bounding":[{0}],"effective":[{0}],)"
                    R"("permitted":[{0}]}})",
                    kCapabilities);
  }
  return fmt::format(
      R"({{"ociVersion":"1.0.2","hostname":"wisp",)"
      R"("process":{{"args":{},"env":["PATH=/bin"],"cwd":"/","terminal":{},)"
      R"("user":{{{}}}{}{}}},"root":{{"path":"{}","readonly":{}}},)"
      R"("mounts":[{}{}],"linux":{{"namespaces":[{}],"cgroupsPath":"{}"{}}},)"
      R"("annotations":{{"io.containerd.runc.v2.group":"test-group"}}{}}})",
      JsonList(spec.args), spec.terminal, spec.user, Further(spec.process),
      capabilities, rootfs, spec.readonly_root, kMounts, Further(spec.mounts),
      spec.namespaces, cgroup, Further(spec.os), Further(spec.config));
}

}  // namespace

std::string RealRuntimeTest::RuntimeName() {
  const char* const name = getenv("WISP_TEST_RUNTIME");
  return name == nullptr ? "runc" : name;
}

void RealRuntimeTest::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  if (!FindExecutable(RuntimeName()).ok()) {
    GTEST_SKIP() << "there is no " << RuntimeName();
  }
  if (!FindExecutable("busybox").ok()) GTEST_SKIP() << "there is no busybox";
  shim_ = TestShim::Start(RuntimeName());
  ASSERT_NE(shim_, nullptr);
  // A root that is mapped to somebody else has to get through.
  chmod(shim_->directory().c_str(), 0711);
  chmod((shim_->directory() + "/bundles").c_str(), 0711);
  MakeRootfs();
}

void RealRuntimeTest::MakeRootfs() {
  std::error_code error;
  for (const char* part : {"bin", "dev", "proc", "sys", "tmp", "etc", "root"}) {
    fs::create_directories(rootfs() + "/" + part, error);
    ASSERT_FALSE(error) << error.message();
  }
  fs::permissions(rootfs() + "/tmp", fs::perms::all);
  fs::copy_file(*FindExecutable("busybox"), rootfs() + "/bin/busybox", error);
  ASSERT_FALSE(error) << error.message();
  for (const char* applet : kApplets) {
    fs::create_symlink("busybox", rootfs() + "/bin/" + applet, error);
  }
}

void RealRuntimeTest::TearDown() {
  if (shim_ == nullptr) return;
  if (HasFailure()) {
    fprintf(stderr, "the shim's log:\n%s", shim_->Log().c_str());
  }
  if (shim_->gone()) return;
  for (const std::string& id : ids_) {
    const absl::StatusOr<api::StateResponse> state = shim_->State(id);
    if (!state.ok()) continue;
    (void)shim_->Kill(id, SIGKILL);
    (void)Resume(id);
    // What was never started has no end to wait for.
    if (state->status() != 1) (void)shim_->Wait(id);
    (void)shim_->Delete(id);
  }
}

std::string RealRuntimeTest::bundle(const std::string& id) const {
  return shim_->directory() + "/bundles/" + id;
}

void RealRuntimeTest::MakeBundle(const std::string& id, const RealSpec& spec) {
  shim().MakeBundle(id, spec.args);
  chmod(bundle(id).c_str(), 0711);
  const std::string cgroup =
      WithSystemd()
          ? fmt::format("system.slice:{}:{}", shim().namespace_name(), id)
          : fmt::format("/{}/{}", shim().namespace_name(), id);
  ASSERT_TRUE(WriteFileAtomically(bundle(id) + "/config.json",
                                  ConfigJson(spec, rootfs(), cgroup), 0600,
                                  /*sync=*/false)
                  .ok());
  mkdir((bundle(id) + "/work").c_str(), 0700);
  ids_.push_back(id);
}

api::CreateTaskRequest RealRuntimeTest::CreateRequest(const std::string& id) {
  api::CreateTaskRequest request = shim().CreateRequest(id);
  request.set_stdout("file://" + OutputPath(id));
  request.set_stderr(request.stdout());
  if (WithSystemd()) {
    containerd::runc::v1::Options options;
    options.ParseFromString(request.options().value());
    options.set_systemd_cgroup(true);
    request.mutable_options()->set_value(options.SerializeAsString());
  }
  return request;
}

absl::Status RealRuntimeTest::Call(
    const std::string& method, const google::protobuf::MessageLite& request) {
  return shim().Call<Empty>(method, request).status();
}

absl::Status RealRuntimeTest::Create(const std::string& id,
                                     const RealSpec& spec) {
  MakeBundle(id, spec);
  return shim()
      .Call<api::CreateTaskResponse>("Create", CreateRequest(id))
      .status();
}

void RealRuntimeTest::Run(const std::string& id, const RealSpec& spec) {
  const absl::Status created = Create(id, spec);
  ASSERT_TRUE(created.ok()) << created;
  const absl::StatusOr<uint32_t> pid = shim().StartTask(id);
  ASSERT_TRUE(pid.ok()) << pid.status();
}

RealRuntimeTest::End RealRuntimeTest::Finish(const std::string& id) {
  End end;
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait(id);
  EXPECT_TRUE(exit.ok()) << exit.status();
  const absl::StatusOr<api::DeleteResponse> deleted = shim().Delete(id);
  EXPECT_TRUE(deleted.ok()) << deleted.status();
  if (exit.ok()) end.status = exit->exit_status();
  end.output = Output(id);
  return end;
}

RealRuntimeTest::End RealRuntimeTest::RunToEnd(const std::string& id,
                                               const RealSpec& spec) {
  Run(id, spec);
  return HasFatalFailure() ? End() : Finish(id);
}

absl::Status RealRuntimeTest::Exec(const std::string& id,
                                   const std::string& exec_id,
                                   const std::vector<std::string>& args) {
  api::ExecProcessRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  request.set_stdout("file://" + OutputPath(exec_id));
  request.set_stderr(request.stdout());
  request.mutable_spec()->set_value(fmt::format(
      R"({{"args":{},"env":["PATH=/bin"],"cwd":"/","user":{{"uid":0,"gid":0}}}})",
      JsonList(args)));
  RETURN_IF_ERROR(Call("Exec", request));
  return shim().StartTask(id, exec_id).status();
}

RealRuntimeTest::End RealRuntimeTest::FinishExec(const std::string& id,
                                                 const std::string& exec_id) {
  End end;
  const absl::StatusOr<api::WaitResponse> exit = shim().Wait(id, exec_id);
  EXPECT_TRUE(exit.ok()) << exit.status();
  EXPECT_TRUE(shim().Delete(id, exec_id).ok());
  if (exit.ok()) end.status = exit->exit_status();
  end.output = Output(exec_id);
  return end;
}

std::string RealRuntimeTest::OutputPath(const std::string& id) const {
  return fmt::format("{}/{}.out", shim_->directory(), id);
}

std::string RealRuntimeTest::Output(const std::string& id) const {
  return ReadFile(OutputPath(id)).value_or("");
}

bool RealRuntimeTest::AwaitOutput(const std::string& id,
                                  const std::string& text) {
  return shim().RunUntil([this, &id, &text] {
    return Output(id).find(text) != std::string::npos;
  });
}

int RealRuntimeTest::StatusOf(const std::string& id) {
  const absl::StatusOr<api::StateResponse> state = shim().State(id);
  EXPECT_TRUE(state.ok()) << state.status();
  return state.ok() ? static_cast<int>(state->status()) : -1;
}

pid_t RealRuntimeTest::PidOf(const std::string& id) {
  const absl::StatusOr<api::StateResponse> state = shim().State(id);
  return state.ok() ? static_cast<pid_t>(state->pid()) : 0;
}

bool RealRuntimeTest::Alive(pid_t pid) {
  const absl::StatusOr<std::string> status =
      ReadFile(fmt::format("/proc/{}/status", pid));
  return status.ok() && status->find("\nState:\tZ") == std::string::npos;
}

absl::Status RealRuntimeTest::Pause(const std::string& id) {
  api::PauseRequest request;
  request.set_id(id);
  return Call("Pause", request);
}

absl::Status RealRuntimeTest::Resume(const std::string& id) {
  api::ResumeRequest request;
  request.set_id(id);
  return Call("Resume", request);
}

bool RealRuntimeTest::Lacks(const absl::Status& status) {
  return absl::IsUnimplemented(status);
}

RealTerminal::RealTerminal(const std::string& path)
    : in_path_(path + ".in"), out_path_(path + ".tty") {
  mkfifo(in_path_.c_str(), 0600);
  mkfifo(out_path_.c_str(), 0600);
  in_ = *OpenFd(in_path_, O_RDWR | O_NONBLOCK);
  out_ = *OpenFd(out_path_, O_RDWR | O_NONBLOCK);
}

void RealTerminal::Type(const std::string& text) {
  (void)WriteAll(in_.get(), text);
}

const std::string& RealTerminal::Text() {
  char buffer[4096];
  ssize_t n;
  while ((n = read(out_.get(), buffer, sizeof(buffer))) > 0) {
    text_.append(buffer, static_cast<size_t>(n));
  }
  return text_;
}

}  // namespace wisp
