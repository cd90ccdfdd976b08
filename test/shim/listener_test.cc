#include "shim/listener.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() : loop_(*EventLoop::Create()), fd_(ListenOn(dir_.socket())) {
    listener_ = *Listener::Create(
        *loop_, fd_.get(),
        [this](UniqueFd socket) { sockets_.push_back(std::move(socket)); },
        [this](const absl::Status& status) { troubles_.push_back(status); },
        [this](const absl::Status& status) { broken_ = status; });
  }

  // A child that takes other credentials and connects; true if it is refused.
  template <typename Become>
  bool IsRefused(Become become) {
    chmod(dir_.path().c_str(), 0755);
    chmod(dir_.socket().c_str(), 0666);
    const pid_t child = fork();
    if (child == 0) {
      if (!become()) _exit(2);
      const int s = socket(AF_UNIX, SOCK_STREAM, 0);
      const sockaddr_un address = SocketAddress(dir_.socket());
      if (connect(s, reinterpret_cast<const sockaddr*>(&address),
                  sizeof(address)) != 0) {
        _exit(3);
      }
      char byte;
      _exit(recv(s, &byte, 1, 0) == 0 ? 0 : 4);
    }
    int status = 0;
    EXPECT_TRUE(RunUntil(*loop_, [this, child, &status] {
      // An accepted child would wait for bytes for ever.
      sockets_.clear();
      return waitpid(child, &status, WNOHANG) == child;
    }));
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return !troubles_.empty() && absl::IsPermissionDenied(troubles_.back());
  }

  SocketDir dir_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd fd_;
  std::unique_ptr<Listener> listener_;
  std::vector<UniqueFd> sockets_;
  std::vector<absl::Status> troubles_;
  absl::Status broken_;
};

TEST_F(ListenerTest, AcceptsItsOwnUser) {
  const UniqueFd one = ConnectedTo(dir_.socket());
  const UniqueFd two = ConnectedTo(dir_.socket());
  EXPECT_TRUE(RunUntil(*loop_, [this] { return sockets_.size() == 2; }));
  EXPECT_TRUE(troubles_.empty());
}

TEST_F(ListenerTest, RefusesAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  EXPECT_TRUE(IsRefused([] {
    return setresgid(65534, 65534, 65534) == 0 &&
           setresuid(65534, 65534, 65534) == 0;
  }));
}

TEST_F(ListenerTest, RefusesAnotherGroupOfTheSameUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to change its group";
  EXPECT_TRUE(IsRefused([] { return setegid(65534) == 0; }));
}

TEST_F(ListenerTest, RefusesAnotherUserOfTheSameGroup) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  EXPECT_TRUE(IsRefused([] { return seteuid(65534) == 0; }));
}

TEST_F(ListenerTest, CountsWhoIsAliveInTheBacklog) {
  UniqueFd probe = ConnectedTo(dir_.socket());
  const UniqueFd one = ConnectedTo(dir_.socket());
  const UniqueFd two = ConnectedTo(dir_.socket());
  Peer gone(ConnectedTo(dir_.socket()));
  gone.Write("a request, but nobody waits for the answer");
  gone.Close();
  probe.Reset();
  const absl::StatusOr<size_t> alive = listener_->AcceptPending();
  ASSERT_TRUE(alive.ok());
  EXPECT_EQ(*alive, 2u);
  EXPECT_EQ(sockets_.size(), 2u);
  EXPECT_EQ(*listener_->AcceptPending(), 0u);
}

TEST_F(ListenerTest, WaitsForFdsWithoutSpinning) {
  const UniqueFd client = ConnectedTo(dir_.socket());
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const int next = dup(client.get());
  close(next);
  rlimit none = old;
  none.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  int turns = 0;
  const absl::Time end = absl::Now() + absl::Milliseconds(100);
  while (absl::Now() < end) {
    loop_->RunOnce(absl::Milliseconds(100));
    ++turns;
  }
  EXPECT_FALSE(listener_->AcceptPending().ok());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
  // Pauses of 1, 2, 4 … ms: a handful of attempts, and one report.
  EXPECT_LE(turns, 12);
  EXPECT_EQ(troubles_.size(), 1u);
  EXPECT_TRUE(RunUntil(*loop_, [this] { return sockets_.size() == 1; }));
  EXPECT_TRUE(broken_.ok());
}

TEST_F(ListenerTest, TellsWhenTheSocketIsBeyondRepair) {
  ASSERT_EQ(shutdown(fd_.get(), SHUT_RDWR), 0);
  EXPECT_TRUE(RunUntil(*loop_, [this] { return !broken_.ok(); }));
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_TRUE(troubles_.empty());
}

}  // namespace
}  // namespace wisp
