#include "process/reaper.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "process/spawn.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

class ReaperTest : public testing::Test {
 protected:
  ReaperTest() { reaper_ = std::move(Reaper::Create(*loop_)).value(); }

  ~ReaperTest() override {
    // The next test must not inherit a zombie: it counts strangers.
    reaper_.reset();
    while (waitpid(-1, nullptr, 0) > 0) {
    }
  }

  Pidfd StartShell(const std::string& script, int stdin_fd = -1) {
    return std::move(Spawn({.path = "/bin/sh",
                            .argv = {"sh", "-c", script},
                            .stdin_fd = stdin_fd}))
        .value();
  }

  // A process whose parent has ended, so that it is ours now: it exits with
  // `code` once the write end of its gate is closed.
  struct Orphan {
    pid_t pid = 0;
    UniqueFd gate;
    void End() { gate.Reset(); }
  };
  Orphan MakeOrphan(int code) {
    Pipe gate = std::move(MakePipe()).value();
    Pipe report = std::move(MakePipe()).value();
    const pid_t parent = fork();
    if (parent == 0) {
      gate.write_end.Reset();
      const pid_t pid = fork();
      if (pid == 0) {
        char byte;
        (void)!read(gate.read_end.get(), &byte, 1);
        _exit(code);
      }
      (void)!write(report.write_end.get(), &pid, sizeof(pid));
      _exit(0);
    }
    Orphan orphan;
    EXPECT_EQ(read(report.read_end.get(), &orphan.pid, sizeof(orphan.pid)),
              ssize_t{sizeof(orphan.pid)});
    bool gone = false;
    Reaper::Child child =
        std::move(reaper_->Own(std::move(Pidfd::Open(parent)).value(),
                               [&gone](ExitStatus) { gone = true; }))
            .value();
    EXPECT_TRUE(RunUntil(*loop_, [&gone] { return gone; }));
    orphan.gate = std::move(gate.write_end);
    return orphan;
  }

  // Waits, without the loop, until `pid` is a zombie.
  static void AwaitZombie(pid_t pid) {
    siginfo_t info;
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT),
              0);
  }
  // Lets the reaper see everything that has happened up to now.
  void Turn() {
    for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::ZeroDuration());
  }
  static bool IsGone(pid_t pid) { return kill(pid, 0) != 0; }

  const std::unique_ptr<EventLoop> loop_ = MakeLoop();
  std::unique_ptr<Reaper> reaper_;
};

TEST_F(ReaperTest, TellsHowAChildEnded) {
  std::optional<ExitStatus> exited;
  std::optional<ExitStatus> killed;
  const absl::Time start = absl::Now();
  const auto first = reaper_->Own(StartShell("exit 42"),
                                  [&](ExitStatus status) { exited = status; });
  const auto second = reaper_->Own(StartShell("kill -9 $$"),
                                   [&](ExitStatus status) { killed = status; });
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(RunUntil(*loop_, [&] { return exited && killed; }));
  EXPECT_EQ(exited->code, 42U);
  EXPECT_EQ(exited->signal, 0);
  EXPECT_EQ(killed->code, 137U);
  EXPECT_EQ(killed->signal, SIGKILL);
  EXPECT_GE(exited->at, start);
  EXPECT_EQ(reaper_->known_children(), 0U);
  EXPECT_EQ(reaper_->strangers_reaped(), 0U);
}

// A client may look for the process as soon as it has been told.
TEST_F(ReaperTest, TheChildIsGoneWhenItsOwnerIsTold) {
  bool told = false;
  const Pidfd shell = StartShell("exit 0");
  const pid_t pid = shell.pid();
  const auto child =
      reaper_->Own(std::move(Pidfd::Open(pid)).value(), [&](ExitStatus) {
        EXPECT_TRUE(IsGone(pid));
        told = true;
      });
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE(RunUntil(*loop_, [&told] { return told; }));
}

TEST_F(ReaperTest, AdoptsAnInitThatHasAlreadyExited) {
  const Reaper::SweepGuard guard = reaper_->GuardNewChildren();
  Orphan init = MakeOrphan(7);
  init.End();
  AwaitZombie(init.pid);
  Turn();  // SIGCHLD has come, and the guard has held
  std::optional<ExitStatus> exit;
  const auto child =
      reaper_->Adopt(init.pid, [&exit](ExitStatus status) { exit = status; });
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_TRUE(RunUntil(*loop_, [&exit] { return exit.has_value(); }));
  EXPECT_EQ(exit->code, 7U);
  EXPECT_EQ(reaper_->strangers_reaped(), 0U);
}

TEST_F(ReaperTest, AdoptsAnInitThatLives) {
  Orphan init = MakeOrphan(8);
  std::optional<ExitStatus> exit;
  const auto child =
      reaper_->Adopt(init.pid, [&exit](ExitStatus status) { exit = status; });
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_FALSE(child->pidfd()->exited());
  Turn();
  EXPECT_FALSE(exit.has_value());
  init.End();
  ASSERT_TRUE(RunUntil(*loop_, [&exit] { return exit.has_value(); }));
  EXPECT_EQ(exit->code, 8U);
}

TEST_F(ReaperTest, AdoptsOnlyChildrenAndOnlyOnce) {
  EXPECT_EQ(reaper_->Adopt(1, [](ExitStatus) {}).status().code(),
            absl::StatusCode::kNotFound);
  Orphan init = MakeOrphan(0);
  bool told = false;
  const auto child =
      reaper_->Adopt(init.pid, [&told](ExitStatus) { told = true; });
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(reaper_->Adopt(init.pid, [](ExitStatus) {}).status().code(),
            absl::StatusCode::kAlreadyExists);
  init.End();
  ASSERT_TRUE(RunUntil(*loop_, [&told] { return told; }));
  EXPECT_EQ(reaper_->Adopt(init.pid, [](ExitStatus) {}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(ReaperTest, ReapsStrangers) {
  Orphan stranger = MakeOrphan(0);
  stranger.End();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_TRUE(IsGone(stranger.pid));
}

TEST_F(ReaperTest, StrangersAreHeldWhileAGuardIsOpen) {
  Reaper::SweepGuard guard = reaper_->GuardNewChildren();
  Orphan stranger = MakeOrphan(0);
  stranger.End();
  AwaitZombie(stranger.pid);
  Turn();
  EXPECT_FALSE(IsGone(stranger.pid));
  guard.Reset();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_TRUE(IsGone(stranger.pid));
}

TEST_F(ReaperTest, StrangersBehindAHeldOneAreReaped) {
  // The kernel shows the oldest zombie first, and that is the one held longer.
  Orphan older = MakeOrphan(0);
  Orphan younger = MakeOrphan(0);
  Reaper::SweepGuard first = reaper_->GuardNewChildren();
  younger.End();
  AwaitZombie(younger.pid);
  Turn();
  const Reaper::SweepGuard second = reaper_->GuardNewChildren();
  older.End();
  AwaitZombie(older.pid);
  Turn();
  EXPECT_EQ(reaper_->strangers_reaped(), 0U);
  first.Reset();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_TRUE(IsGone(younger.pid));
  EXPECT_FALSE(IsGone(older.pid));
}

TEST_F(ReaperTest, KnownChildrenBehindAHeldStrangerAreTold) {
  const Reaper::SweepGuard guard = reaper_->GuardNewChildren();
  Orphan stranger = MakeOrphan(0);
  stranger.End();
  AwaitZombie(stranger.pid);
  Turn();
  bool told = false;
  const auto child =
      reaper_->Own(StartShell("exit 0"), [&told](ExitStatus) { told = true; });
  ASSERT_TRUE(child.ok());
  EXPECT_TRUE(RunUntil(*loop_, [&told] { return told; }));
  EXPECT_FALSE(IsGone(stranger.pid));
}

TEST_F(ReaperTest, SteadySpawningDelaysNoStrangerForEver) {
  Reaper::SweepGuard older = reaper_->GuardNewChildren();
  Orphan stranger = MakeOrphan(0);
  stranger.End();
  AwaitZombie(stranger.pid);
  Turn();
  // There is always one open, but not the one that was when it was first seen.
  Reaper::SweepGuard newer = reaper_->GuardNewChildren();
  older.Reset();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_TRUE(IsGone(stranger.pid));
}

TEST_F(ReaperTest, AHandlerMayDropItsOwnChild) {
  std::optional<Reaper::Child> child;
  // Captured state must outlive the drop.
  auto text = std::make_unique<std::string>("still here");
  int calls = 0;
  child = std::move(reaper_->Own(StartShell("exit 3"), [&child, &calls,
                                                        text = std::move(text)](
                                                           ExitStatus status) {
            EXPECT_EQ(child->pidfd(), nullptr);
            child.reset();
            EXPECT_EQ(*text, "still here");
            EXPECT_EQ(status.code, 3U);
            ++calls;
          })).value();
  ASSERT_TRUE(RunUntil(*loop_, [&calls] { return calls == 1; }));
  Turn();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(reaper_->known_children(), 0U);
}

TEST_F(ReaperTest, AHandlerMayDropAnotherThatIsDeadToo) {
  std::vector<Reaper::Child> children;
  int calls = 0;
  std::vector<pid_t> pids;
  for (int i = 0; i < 2; ++i) {
    Pidfd shell = StartShell("exit 0");
    pids.push_back(shell.pid());
    children.push_back(
        std::move(reaper_->Own(std::move(shell), [&](ExitStatus) {
          ++calls;
          children.clear();
        })).value());
  }
  for (const pid_t pid : pids) AwaitZombie(pid);
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(IsGone(pids[0]) && IsGone(pids[1]));
}

TEST_F(ReaperTest, AChildGivenUpIsReapedAsAStranger) {
  Pipe gate = std::move(MakePipe()).value();
  auto child = reaper_->Own(StartShell("read line", gate.read_end.get()),
                            [](ExitStatus) { FAIL() << "given up"; });
  ASSERT_TRUE(child.ok());
  const pid_t pid = child->pid();
  child->Reset();
  Turn();
  EXPECT_FALSE(IsGone(pid));  // nobody kills it
  gate.write_end.Reset();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
  EXPECT_TRUE(IsGone(pid));
}

TEST_F(ReaperTest, ReapsWhatEndedBeforeItWasMade) {
  reaper_.reset();
  const Pidfd early = StartShell("exit 0");
  AwaitZombie(early.pid());
  reaper_ = std::move(Reaper::Create(*loop_)).value();
  ASSERT_TRUE(
      RunUntil(*loop_, [this] { return reaper_->strangers_reaped() == 1; }));
}

TEST_F(ReaperTest, AnInheritedIgnoredSigchldLosesNoStatus) {
  reaper_.reset();
  signal(SIGCHLD, SIG_IGN);  // survives execve: whoever starts us decides
  reaper_ = std::move(Reaper::Create(*loop_)).value();
  std::optional<ExitStatus> exit;
  const auto child = reaper_->Own(
      StartShell("exit 5"), [&exit](ExitStatus status) { exit = status; });
  ASSERT_TRUE(child.ok());
  EXPECT_TRUE(RunUntil(
      *loop_, [&exit] { return exit.has_value(); }, absl::Seconds(5)));
  EXPECT_EQ(exit.value_or(ExitStatus()).code, 5U);
  signal(SIGCHLD, SIG_DFL);
}

TEST_F(ReaperTest, ThousandChildrenAreEachToldOnce) {
  constexpr int kChildren = 1000;
  const auto before = OpenFds();
  {
    std::vector<int> calls(kChildren, 0);
    int told = 0;
    std::vector<Reaper::Child> children;
    for (int i = 0; i < kChildren; ++i) {
      const pid_t pid = fork();
      if (pid == 0) _exit(i % 256);
      auto child = reaper_->Own(std::move(Pidfd::Open(pid)).value(),
                                [&calls, &told, i](ExitStatus status) {
                                  ++calls[i];
                                  ++told;
                                  EXPECT_EQ(status.code, uint32_t(i % 256));
                                });
      ASSERT_TRUE(child.ok());
      children.push_back(*std::move(child));
    }
    ASSERT_TRUE(RunUntil(*loop_, [&told] { return told == kChildren; }));
    Turn();
    EXPECT_EQ(calls, std::vector<int>(kChildren, 1));
  }
  EXPECT_EQ(reaper_->strangers_reaped(), 0U);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(OpenFds(), before);
}

}  // namespace
}  // namespace wisp
