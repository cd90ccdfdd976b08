// The real shim binary, started as containerd starts it, with us in the place
// of containerd: a client for its tasks and a server for its events.
#ifndef WISP_TEST_SUPPORT_TEST_SHIM_H_
#define WISP_TEST_SUPPORT_TEST_SHIM_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "google/protobuf/message_lite.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "proto/events.pb.h"
#include "proto/task.pb.h"
#include "shim/call.h"
#include "shim/ttrpc/server.h"
#include "test/support/test_client.h"

namespace wisp {

// One event as containerd would get it.
struct TestEvent {
  std::string topic;
  std::string container;
  std::string process;  // of an exec or exit event; else empty
  uint32_t pid = 0;
  uint32_t status = 0;
  absl::Time exited_at;

  // "create c1", "exit c1/e1 42": for comparing sequences.
  std::string Text() const;
};

// The sum of all lines `key: NUMBER` of a file of /proc; 0 without it.
int64_t SumOf(const std::string& path, const std::set<std::string>& keys);

// Everything lives in a directory of its own and ends with the object. Methods
// run the loop until the answer is there; none takes longer than a minute.
class TestShim {
 public:
  // The shim itself: this build's, or $WISP_TEST_SHIM.
  static std::string Binary();
  // `runtime`: path of the OCI runtime for its tasks; `debug`: it logs all it
  // has to say, while its pipe has room. Fails the current test, and returns
  // null, if it does not come up.
  static std::unique_ptr<TestShim> Start(const std::string& runtime,
                                         bool debug = true);
  ~TestShim();
  TestShim(const TestShim&) = delete;
  TestShim& operator=(const TestShim&) = delete;

  EventLoop& loop() { return *loop_; }
  const std::string& directory() const { return directory_; }
  // First in the shim's $PATH.
  std::string path_directory() const { return directory_ + "/bin"; }
  // For $FAKE_RUNC_CONTROL.
  std::string control() const { return directory_ + "/control"; }
  std::string socket() const { return socket_; }
  pid_t pid() const { return pid_; }
  const std::string& namespace_name() const { return namespace_; }

  // Makes a bundle for a container that runs `args` (in the host's namespaces
  // but for pids, with the fake runtime), and returns its path.
  std::string MakeBundle(const std::string& id,
                         const std::vector<std::string>& args);
  // Runs `start` for a bundle; returns what it printed, trimmed.
  absl::StatusOr<std::string> RunStart(const std::string& id);
  // Runs `delete` for a bundle; returns what it printed.
  absl::StatusOr<std::string> RunDelete(const std::string& id);

  // Calls a method of the task service over `client`, or over the default one.
  template <typename Res>
  absl::StatusOr<Res> Call(std::string_view method,
                           const google::protobuf::MessageLite& request,
                           absl::Duration timeout = absl::Seconds(60)) {
    absl::StatusOr<std::string> payload =
        CallRaw("containerd.task.v3.Task", method, request.SerializeAsString(),
                timeout);
    if (!payload.ok()) return payload.status();
    Res response;
    if (!response.ParseFromString(*payload)) {
      return absl::DataLossError("response does not parse");
    }
    return response;
  }
  absl::StatusOr<std::string> CallRaw(std::string_view service,
                                      std::string_view method,
                                      std::string payload,
                                      absl::Duration timeout);
  // Starts a call whose answer lands in the result when it comes.
  struct Pending {
    bool done = false;
    absl::StatusOr<std::string> result = absl::UnknownError("no answer yet");
  };
  std::shared_ptr<Pending> StartCall(
      std::string_view method, const google::protobuf::MessageLite& request,
      absl::Duration timeout = absl::Seconds(60));
  void Await(const Pending& pending);

  // Short forms of the calls that tests make most.
  absl::StatusOr<uint32_t> Create(const std::string& id,
                                  absl::Duration timeout = absl::Seconds(60));
  containerd::task::v3::CreateTaskRequest CreateRequest(const std::string& id);
  absl::StatusOr<uint32_t> StartTask(const std::string& id,
                                     const std::string& exec_id = "");
  absl::Status Exec(const std::string& id, const std::string& exec_id,
                    const std::vector<std::string>& args);
  absl::Status Kill(const std::string& id, int signal,
                    const std::string& exec_id = "");
  absl::StatusOr<containerd::task::v3::DeleteResponse> Delete(
      const std::string& id, const std::string& exec_id = "",
      absl::Duration timeout = absl::Seconds(60));
  absl::StatusOr<containerd::task::v3::StateResponse> State(
      const std::string& id, const std::string& exec_id = "");
  absl::StatusOr<containerd::task::v3::WaitResponse> Wait(
      const std::string& id, const std::string& exec_id = "");
  absl::Status Shutdown(const std::string& id);

  // All events so far, in the order in which they came.
  const std::vector<TestEvent>& events() const { return events_; }
  std::vector<std::string> EventTexts() const;
  // Runs the loop until `condition` holds; false after a minute.
  bool RunUntil(absl::AnyInvocable<bool()> condition,
                absl::Duration limit = absl::Minutes(1));
  bool AwaitEvent(const std::string& text);
  // Lets the event server stop answering, or go on.
  void HoldEvents(bool hold);

  // A new connection, to be used instead of the default one.
  std::unique_ptr<TestClient> Connect();
  TestClient& client() { return *client_; }

  // Gates of the fake runtime: closed until opened.
  void CloseGate(const std::string& name);  // "exec.e1.before"
  void OpenGate(const std::string& name);
  void SetFailure(const std::string& name, const std::string& message);
  void ClearFailure(const std::string& name);
  std::vector<std::string> RuntimeCalls() const;  // "exec e1"
  bool AwaitRuntimeCall(const std::string& call);

  // True when the server process is gone.
  bool gone() const;
  // What the shim has logged so far.
  std::string Log();

 private:
  TestShim(std::string runtime, bool debug)
      : runtime_(std::move(runtime)), debug_(debug) {}
  absl::Status SetUp();
  absl::StatusOr<std::string> RunAction(const std::string& id,
                                        const std::string& action,
                                        const std::string& input);
  void OnForward(RawCall call);
  void KillInits();

  std::string directory_;
  std::string namespace_;
  std::string runtime_;
  bool debug_ = true;
  std::string socket_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd log_;
  std::string log_text_;
  UniqueFd events_listener_;
  std::unique_ptr<EventLoop> loop_;
  Methods event_methods_;
  std::unique_ptr<TtrpcServer> event_server_;
  std::unique_ptr<TestClient> client_;
  std::vector<TestEvent> events_;
  std::vector<RawCall> held_;
  bool holding_ = false;
  std::map<std::string, UniqueFd> gates_;
};

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_TEST_SHIM_H_
