#include "test/support/test_shim.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/json.h"
#include "process/spawn.h"
#include "proto/bootstrap.pb.h"
#include "proto/events_service.pb.h"
#include "proto/runc_options.pb.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

constexpr absl::Duration kPatience = absl::Minutes(1);

absl::StatusOr<UniqueFd> ListenOn(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
          0 ||
      listen(fd.get(), 16) != 0) {
    return ErrnoStatus(errno, path);
  }
  return fd;
}

template <typename T>
bool Decode(const google::protobuf::Any& any, T* event) {
  return any.type_url() == event->GetTypeName() &&
         event->ParseFromString(any.value());
}

absl::Time FromTimestamp(const google::protobuf::Timestamp& stamp) {
  return absl::FromUnixSeconds(stamp.seconds()) +
         absl::Nanoseconds(stamp.nanos());
}

TestEvent ToEvent(const std::string& topic, const google::protobuf::Any& any) {
  TestEvent event;
  event.topic = topic;
  if (containerd::events::TaskCreate create; Decode(any, &create)) {
    event.container = create.container_id();
    event.pid = create.pid();
  } else if (containerd::events::TaskStart start; Decode(any, &start)) {
    event.container = start.container_id();
    event.pid = start.pid();
  } else if (containerd::events::TaskExecAdded added; Decode(any, &added)) {
    event.container = added.container_id();
    event.process = added.exec_id();
  } else if (containerd::events::TaskExecStarted started;
             Decode(any, &started)) {
    event.container = started.container_id();
    event.process = started.exec_id();
    event.pid = started.pid();
  } else if (containerd::events::TaskExit exit; Decode(any, &exit)) {
    event.container = exit.container_id();
    event.process = exit.id();
    event.pid = exit.pid();
    event.status = exit.exit_status();
    event.exited_at = FromTimestamp(exit.exited_at());
  } else if (containerd::events::TaskOOM oom; Decode(any, &oom)) {
    event.container = oom.container_id();
  } else if (containerd::events::TaskDelete deleted; Decode(any, &deleted)) {
    event.container = deleted.container_id();
    event.pid = deleted.pid();
    event.status = deleted.exit_status();
    event.exited_at = FromTimestamp(deleted.exited_at());
  } else if (containerd::events::TaskPaused paused; Decode(any, &paused)) {
    event.container = paused.container_id();
  } else if (containerd::events::TaskResumed resumed; Decode(any, &resumed)) {
    event.container = resumed.container_id();
  } else {
    event.topic = "unknown type " + any.type_url();
  }
  return event;
}

}  // namespace

int64_t SumOf(const std::string& path, const std::set<std::string>& keys) {
  int64_t sum = 0;
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<std::string> words =
        absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    int64_t value = 0;
    if (words.size() > 1 && keys.contains(words[0]) &&
        absl::SimpleAtoi(words[1], &value)) {
      sum += value;
    }
  }
  return sum;
}

std::string TestEvent::Text() const {
  const std::string name = topic.substr(topic.rfind('/') + 1);
  std::string text = fmt::format("{} {}", name, container);
  if (!process.empty() && process != container) text += "/" + process;
  if (name == "exit" || name == "delete") text += fmt::format(" {}", status);
  return text;
}

std::string TestShim::Binary() {
  const char* const path = getenv("WISP_TEST_SHIM");
  return path == nullptr ? kTestTransport.binary : path;
}

std::unique_ptr<TestShim> TestShim::Start(const std::string& runtime,
                                          bool debug) {
  std::unique_ptr<TestShim> shim(new TestShim(runtime, debug));
  const absl::Status status = shim->SetUp();
  if (!status.ok()) {
    ADD_FAILURE() << "the shim did not come up: " << status;
    return nullptr;
  }
  return shim;
}

absl::Status TestShim::SetUp() {
  // On a tmpfs, as bundles are.
  char name[] = "/dev/shm/wisp-XXXXXX";
  if (mkdtemp(name) == nullptr) return ErrnoStatus(errno, "mkdtemp");
  directory_ = name;
  namespace_ = fmt::format("wisp-test-{}", getpid());
  for (const std::string& part :
       {std::string("/control"), std::string("/s"), std::string("/bundles"),
        std::string("/runtime"), std::string("/bin")}) {
    mkdir((directory_ + part).c_str(), 0700);
  }
  signal(SIGPIPE, SIG_IGN);
  ASSIGN_OR_RETURN(loop_, EventLoop::Create());
  ASSIGN_OR_RETURN(events_listener_, ListenOn(directory_ + "/e.ttrpc"));
  event_methods_["Forward"] = [this](RawCall call) {
    OnForward(std::move(call));
  };
  event_server_ = std::make_unique<TtrpcServer>(*loop_, TtrpcServer::Hooks());
  event_server_->Register("containerd.services.events.ttrpc.v1.Events",
                          &event_methods_);
  RETURN_IF_ERROR(event_server_->Listen(events_listener_.get()));

  MakeBundle("first", {"true"});
  ASSIGN_OR_RETURN(
      log_, OpenFd(directory_ + "/bundles/first/log", O_RDWR | O_NONBLOCK));
  ASSIGN_OR_RETURN(const std::string address, RunStart("first"));
  if (!address.starts_with(kTestTransport.scheme + "/")) {
    return absl::UnknownError("start printed: " + address);
  }
  socket_ = address.substr(kTestTransport.scheme.size());
  client_ = Connect();
  ASSIGN_OR_RETURN(
      const api::ConnectResponse connected,
      Call<api::ConnectResponse>("Connect", api::ConnectRequest()));
  pid_ = static_cast<pid_t>(connected.shim_pid());
  pidfd_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  return absl::OkStatus();
}

void TestShim::KillInits() {
  // Those that a test has left behind: whose pid in the runtime's state is
  // still that of a child of the shim. Long dead ones have lent their numbers
  // to others.
  const std::string state =
      fmt::format("{}/runtime/{}", directory_, namespace_);
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(state, none)) {
    const absl::StatusOr<std::string> text =
        ReadFile((entry.path() / "pid").string());
    const pid_t pid = text.ok() ? atoi(text->c_str()) : 0;
    if (pid <= 0) continue;
    const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    const absl::StatusOr<std::string> status =
        ReadFile(fmt::format("/proc/{}/status", pid));
    if (pidfd.valid() && status.ok() &&
        status->find(fmt::format("\nPPid:\t{}\n", pid_)) != std::string::npos) {
      syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    }
  }
}

TestShim::~TestShim() {
  if (!directory_.empty()) KillInits();
  if (pidfd_.valid()) {
    syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    pollfd dead = {.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    poll(&dead, 1, 10'000);
  }
  gates_.clear();
  if (!directory_.empty()) {
    (void)!system(
        fmt::format("rm -rf --one-file-system {}", directory_).c_str());
  }
  held_.clear();
  client_.reset();
  event_server_.reset();
}

std::string TestShim::MakeBundle(const std::string& id,
                                 const std::vector<std::string>& args) {
  const std::string bundle = directory_ + "/bundles/" + id;
  mkdir(bundle.c_str(), 0700);
  mkfifo((bundle + "/log").c_str(), 0600);
  Json list = Json::Array();
  for (const std::string& arg : args) list.Append(arg);
  Json process = Json::Object();
  process.Set("args", std::move(list));
  Json space = Json::Object();
  space.Set("type", "pid");
  Json spaces = Json::Array();
  spaces.Append(std::move(space));
  Json os = Json::Object();
  os.Set("namespaces", std::move(spaces));
  Json annotations = Json::Object();
  annotations.Set("io.containerd.runc.v2.group", "test-group");
  Json config = Json::Object();
  config.Set("process", std::move(process));
  config.Set("linux", std::move(os));
  config.Set("annotations", std::move(annotations));
  EXPECT_TRUE(
      WriteFileAtomically(bundle + "/config.json", config.Dump(), 0600, false)
          .ok());
  return bundle;
}

absl::StatusOr<std::string> TestShim::RunAction(const std::string& id,
                                                const std::string& action,
                                                const std::string& input) {
  ASSIGN_OR_RETURN(UniqueFd in, MakeMemfd("in"));
  RETURN_IF_ERROR(WriteAll(in.get(), input));
  lseek(in.get(), 0, SEEK_SET);
  ASSIGN_OR_RETURN(UniqueFd out, MakeMemfd("out"));
  SpawnOptions options;
  options.path = Binary();
  options.argv = {options.path,
                  "-namespace",
                  namespace_,
                  "-address",
                  directory_ + "/c.sock",
                  "-publish-binary",
                  "/bin/false",
                  "-id",
                  id};
  if (debug_) options.argv.push_back("-debug");
  options.env = EnvironmentWithout({"TTRPC_ADDRESS", "PATH"});
  const char* const path = getenv("PATH");
  options.env.push_back(fmt::format("PATH={}:{}", path_directory(),
                                    path == nullptr ? "/usr/bin:/bin" : path));
  options.env.push_back("TTRPC_ADDRESS=" + directory_ + "/e.ttrpc");
  options.env.push_back("FAKE_RUNC_CONTROL=" + control());
  options.directory = directory_ + "/bundles/" + id;
  if (action == "delete") {
    options.argv.push_back("-bundle");
    options.argv.push_back(options.directory);
  }
  options.argv.push_back(action);
  options.stdin_fd = in.get();
  options.stdout_fd = out.get();
  options.stderr_fd = out.get();
  ASSIGN_OR_RETURN(const Pidfd child, Spawn(options));
  int status = 0;
  if (waitpid(child.pid(), &status, 0) != child.pid()) {
    return ErrnoStatus(errno, "waitpid");
  }
  lseek(out.get(), 0, SEEK_SET);
  ASSIGN_OR_RETURN(std::string text, ReadAll(out.get()));
  if (status != 0) {
    return absl::UnknownError(
        fmt::format("{}: status {}: {}", action, status, text));
  }
  return text;
}

absl::StatusOr<std::string> TestShim::RunStart(const std::string& id) {
  containerd::runtime::bootstrap::v1::BootstrapParams params;
  params.set_instance_id(id);
  params.set_namespace_(namespace_);
  params.set_socket_dir(directory_ + "/s");
  params.set_containerd_grpc_address(directory_ + "/c.sock");
  params.set_containerd_ttrpc_address(directory_ + "/e.ttrpc");
  if (debug_) {
    params.set_log_level(
        static_cast<containerd::runtime::bootstrap::v1::LogLevel>(-4));
  }
  ASSIGN_OR_RETURN(const std::string reply,
                   RunAction(id, "start", params.SerializeAsString()));
  containerd::runtime::bootstrap::v1::BootstrapResult result;
  if (!result.ParseFromString(reply)) {
    return absl::UnknownError("no BootstrapResult: " + reply);
  }
  if (result.protocol() != kTestTransport.protocol) {
    return absl::UnknownError("start speaks of " + result.protocol());
  }
  return result.address();
}

absl::StatusOr<std::string> TestShim::RunDelete(const std::string& id) {
  return RunAction(id, "delete", "");
}

std::unique_ptr<TestClient> TestShim::Connect() {
  return kTestTransport.connect(*loop_, socket_);
}

bool TestShim::RunUntil(absl::AnyInvocable<bool()> condition,
                        absl::Duration limit) {
  bool late = false;
  const EventLoop::TimerHandle timer =
      loop_->After(limit, [&late] { late = true; });
  while (!condition()) {
    if (late) return false;
    // Not everything that a condition may ask about wakes the loop.
    loop_->RunOnce(absl::Milliseconds(10));
  }
  return true;
}

std::shared_ptr<TestShim::Pending> TestShim::StartCall(
    std::string_view method, const google::protobuf::MessageLite& request,
    absl::Duration timeout) {
  auto pending = std::make_shared<Pending>();
  client_->Call("containerd.task.v3.Task", method, request.SerializeAsString(),
                {{"containerd-namespace-ttrpc", namespace_}}, timeout,
                [pending](absl::StatusOr<std::string> result) {
                  pending->result = std::move(result);
                  pending->done = true;
                });
  return pending;
}

void TestShim::Await(const Pending& pending) {
  EXPECT_TRUE(RunUntil([&pending] { return pending.done; }));
}

absl::StatusOr<std::string> TestShim::CallRaw(std::string_view service,
                                              std::string_view method,
                                              std::string payload,
                                              absl::Duration timeout) {
  auto pending = std::make_shared<Pending>();
  client_->Call(service, method, std::move(payload), {}, timeout,
                [pending](absl::StatusOr<std::string> result) {
                  pending->result = std::move(result);
                  pending->done = true;
                });
  Await(*pending);
  return pending->result;
}

api::CreateTaskRequest TestShim::CreateRequest(const std::string& id) {
  containerd::runc::v1::Options options;
  options.set_binary_name(runtime_);
  options.set_root(directory_ + "/runtime");
  api::CreateTaskRequest request;
  request.set_id(id);
  request.set_bundle(directory_ + "/bundles/" + id);
  request.mutable_options()->set_type_url(options.GetTypeName());
  request.mutable_options()->set_value(options.SerializeAsString());
  return request;
}

absl::StatusOr<uint32_t> TestShim::Create(const std::string& id,
                                          absl::Duration timeout) {
  ASSIGN_OR_RETURN(
      const api::CreateTaskResponse response,
      Call<api::CreateTaskResponse>("Create", CreateRequest(id), timeout));
  return response.pid();
}

absl::StatusOr<uint32_t> TestShim::StartTask(const std::string& id,
                                             const std::string& exec_id) {
  api::StartRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  ASSIGN_OR_RETURN(const api::StartResponse response,
                   Call<api::StartResponse>("Start", request));
  return response.pid();
}

absl::Status TestShim::Exec(const std::string& id, const std::string& exec_id,
                            const std::vector<std::string>& args) {
  Json list = Json::Array();
  for (const std::string& arg : args) list.Append(arg);
  Json process = Json::Object();
  process.Set("args", std::move(list));
  api::ExecProcessRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  request.mutable_spec()->set_value(process.Dump());
  return Call<Empty>("Exec", request).status();
}

absl::Status TestShim::Kill(const std::string& id, int signal,
                            const std::string& exec_id) {
  api::KillRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  request.set_signal(static_cast<uint32_t>(signal));
  return Call<Empty>("Kill", request).status();
}

absl::StatusOr<api::DeleteResponse> TestShim::Delete(const std::string& id,
                                                     const std::string& exec_id,
                                                     absl::Duration timeout) {
  api::DeleteRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return Call<api::DeleteResponse>("Delete", request, timeout);
}

absl::StatusOr<api::StateResponse> TestShim::State(const std::string& id,
                                                   const std::string& exec_id) {
  api::StateRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return Call<api::StateResponse>("State", request);
}

absl::StatusOr<api::WaitResponse> TestShim::Wait(const std::string& id,
                                                 const std::string& exec_id) {
  api::WaitRequest request;
  request.set_id(id);
  request.set_exec_id(exec_id);
  return Call<api::WaitResponse>("Wait", request);
}

absl::Status TestShim::Shutdown(const std::string& id) {
  api::ShutdownRequest request;
  request.set_id(id);
  return Call<Empty>("Shutdown", request).status();
}

void TestShim::OnForward(RawCall call) {
  if (holding_) {
    held_.push_back(std::move(call));
    return;
  }
  containerd::services::events::ttrpc::v1::ForwardRequest request;
  if (!request.ParseFromString(call.payload())) {
    ADD_FAILURE() << "an event does not parse";
    return;
  }
  events_.push_back(
      ToEvent(request.envelope().topic(), request.envelope().event()));
  call.Respond(std::string());
}

void TestShim::HoldEvents(bool hold) {
  holding_ = hold;
  if (hold) return;
  std::vector<RawCall> held = std::move(held_);
  held_.clear();
  for (RawCall& call : held) OnForward(std::move(call));
}

std::vector<std::string> TestShim::EventTexts() const {
  std::vector<std::string> texts;
  for (const TestEvent& event : events_) texts.push_back(event.Text());
  return texts;
}

bool TestShim::AwaitEvent(const std::string& text) {
  return RunUntil([this, &text] {
    for (const TestEvent& event : events_) {
      if (event.Text() == text) return true;
    }
    return false;
  });
}

void TestShim::CloseGate(const std::string& name) {
  const std::string path = control() + "/" + name;
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  absl::StatusOr<UniqueFd> fd = OpenFd(path, O_RDWR);
  ASSERT_TRUE(fd.ok());
  gates_[name] = *std::move(fd);
}

void TestShim::OpenGate(const std::string& name) {
  unlink((control() + "/" + name).c_str());
  gates_.erase(name);
}

void TestShim::SetFailure(const std::string& name, const std::string& message) {
  ASSERT_TRUE(WriteFileAtomically(control() + "/" + name + ".fail", message,
                                  0600, false)
                  .ok());
}

void TestShim::ClearFailure(const std::string& name) {
  unlink((control() + "/" + name + ".fail").c_str());
}

std::vector<std::string> TestShim::RuntimeCalls() const {
  const absl::StatusOr<std::string> text = ReadFile(control() + "/calls");
  if (!text.ok()) return {};
  std::vector<std::string> lines;
  for (absl::string_view line :
       absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    // Without the pid.
    lines.emplace_back(line.substr(0, line.rfind(' ')));
  }
  return lines;
}

bool TestShim::AwaitRuntimeCall(const std::string& call) {
  return RunUntil([this, &call] {
    const std::vector<std::string> calls = RuntimeCalls();
    return std::find(calls.begin(), calls.end(), call) != calls.end();
  });
}

bool TestShim::gone() const {
  pollfd dead = {.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return poll(&dead, 1, 0) > 0;
}

std::string TestShim::Log() {
  char buffer[4096];
  ssize_t n;
  while ((n = read(log_.get(), buffer, sizeof(buffer))) > 0) {
    log_text_.append(buffer, static_cast<size_t>(n));
  }
  return log_text_;
}

}  // namespace wisp
