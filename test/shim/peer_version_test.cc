#include "shim/peer_version.h"

#include <signal.h>
#include <sys/wait.h>

#include <set>
#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "shim/socket.h"
#include "test/process/testing.h"
#include "test/shim/fake_shim.h"

namespace wisp {
namespace {

constexpr char kV2[] = "containerd.task.v2.Task";
constexpr char kV3[] = "containerd.task.v3.Task";

class PeerVersionTest : public ::testing::Test {
 protected:
  PeerVersionTest() : claimed_(ClaimSocket(path_)) {
    WISP_CHECK(claimed_.ok() && claimed_->listener.valid());
  }
  ~PeerVersionTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  void Serve(const std::set<std::string>& services) {
    pid_ = fork();
    if (pid_ == 0) ServeConnect(claimed_->listener.get(), services);
  }
  absl::StatusOr<int> Probe(absl::Duration limit = absl::Seconds(20)) {
    return ProbeTaskVersion(path_, "default", "test1", limit);
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "socket";
  absl::StatusOr<ClaimedSocket> claimed_;
  pid_t pid_ = -1;
};

TEST_F(PeerVersionTest, PrefersVersion3) {
  Serve({kV2, kV3});
  EXPECT_EQ(*Probe(), 3);
}

TEST_F(PeerVersionTest, FindsAShimThatSpeaksOnlyVersion3) {
  Serve({kV3});
  EXPECT_EQ(*Probe(), 3);
}

TEST_F(PeerVersionTest, FindsAShimThatSpeaksOnlyVersion2) {
  Serve({kV2});
  EXPECT_EQ(*Probe(), 2);
}

TEST_F(PeerVersionTest, AssumesVersion3OfOneThatDoesNotAnswer) {
  const absl::Time before = absl::Now();
  EXPECT_EQ(*Probe(absl::Milliseconds(100)), 3);
  EXPECT_GE(absl::Now() - before, absl::Milliseconds(90));
}

TEST_F(PeerVersionTest, TellsIfTheShimGoesAway) {
  pid_ = fork();
  if (pid_ == 0) {
    // Takes the connection to its grave.
    const int fd = accept(claimed_->listener.get(), nullptr, nullptr);
    char byte;
    (void)!read(fd, &byte, 1);
    _exit(0);
  }
  EXPECT_EQ(Probe().status().code(), absl::StatusCode::kUnavailable);
  claimed_->listener.Reset();
  EXPECT_EQ(Probe().status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace wisp
