// Containers of a real OCI runtime, driven through the real shim as containerd
// drives it.
#ifndef WISP_TEST_SUPPORT_REAL_RUNTIME_H_
#define WISP_TEST_SUPPORT_REAL_RUNTIME_H_

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "process/fd.h"
#include "proto/task.pb.h"
#include "test/support/test_shim.h"

namespace wisp {

// What a container is made of. The members of config.json that a test adds are
// JSON text: `"a":1,"b":[2]`.
struct RealSpec {
  std::vector<std::string> args;
  std::string process;  // members of `process`
  std::string os;       // members of `linux`
  std::string config;   // members beside these
  std::string mounts;   // more elements of `mounts`
  std::string user = R"("uid":0,"gid":0)";
  std::string namespaces =
      R"({"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"})";
  bool terminal = false;
  bool readonly_root = false;
};

// $WISP_TEST_RUNTIME is the runtime (default runc), $WISP_TEST_SHIM the shim;
// with $WISP_TEST_SYSTEMD the cgroups are made by systemd. Skips where there is
// no such runtime, or no busybox for the container.
class RealRuntimeTest : public ::testing::Test {
 protected:
  struct End {
    uint32_t status = 999;
    std::string output;
  };

  void SetUp() override;
  void TearDown() override;

  TestShim& shim() { return *shim_; }
  static std::string RuntimeName();

  // Writes a bundle, with stdout and stderr in a file unless for a terminal.
  void MakeBundle(const std::string& id, const RealSpec& spec);
  std::string bundle(const std::string& id) const;
  // A directory for all containers of this test; they see it as /.
  std::string rootfs() const { return shim_->directory() + "/rootfs"; }
  containerd::task::v3::CreateTaskRequest CreateRequest(const std::string& id);

  absl::Status Create(const std::string& id, const RealSpec& spec);
  // Creates and starts; fails the test if that fails.
  void Run(const std::string& id, const RealSpec& spec);
  // Waits for the end, deletes, and reads the output.
  End Finish(const std::string& id);
  End RunToEnd(const std::string& id, const RealSpec& spec);
  // Starts an exec whose output goes to OutputPath(exec_id).
  absl::Status Exec(const std::string& id, const std::string& exec_id,
                    const std::vector<std::string>& args);
  End FinishExec(const std::string& id, const std::string& exec_id);

  std::string OutputPath(const std::string& id) const;
  std::string Output(const std::string& id) const;
  // Waits for `text` in it.
  bool AwaitOutput(const std::string& id, const std::string& text);

  // As the shim tells it: 1 created, 2 running, 3 stopped, 4 paused.
  int StatusOf(const std::string& id);
  pid_t PidOf(const std::string& id);
  static bool Alive(pid_t pid);
  absl::Status Call(const std::string& method,
                    const google::protobuf::MessageLite& request);
  absl::Status Pause(const std::string& id);
  absl::Status Resume(const std::string& id);

  // True, and the test is to be skipped, if `status` says that the runtime has
  // no such command or option.
  static bool Lacks(const absl::Status& status);

 private:
  void MakeRootfs();

  std::unique_ptr<TestShim> shim_;
  std::vector<std::string> ids_;
};

#define SKIP_IF_LACKING(status)                                   \
  do {                                                            \
    if (Lacks(status)) GTEST_SKIP() << "not there: " << (status); \
  } while (false)

// The client's side of a terminal: two fifos.
class RealTerminal {
 public:
  explicit RealTerminal(const std::string& path);
  const std::string& in_path() const { return in_path_; }
  const std::string& out_path() const { return out_path_; }
  void Type(const std::string& text);
  // All that has come, more of which is read now.
  const std::string& Text();

 private:
  std::string in_path_;
  std::string out_path_;
  UniqueFd in_;
  UniqueFd out_;
  std::string text_;
};

}  // namespace wisp

#endif  // WISP_TEST_SUPPORT_REAL_RUNTIME_H_
