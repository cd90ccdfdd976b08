#include "process/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

int WaitFor(const Pidfd& child) {
  int status = -1;
  EXPECT_EQ(waitpid(child.pid(), &status, 0), child.pid());
  return status;
}

// What `options` prints to its stdout; it must succeed.
std::string Output(SpawnOptions options) {
  Pipe pipe = std::move(MakePipe()).value();
  options.stdout_fd = pipe.write_end.get();
  const absl::StatusOr<Pidfd> child = Spawn(options);
  if (!child.ok()) {
    ADD_FAILURE() << child.status();
    return "";
  }
  pipe.write_end.Reset();
  std::string output = std::move(ReadAll(pipe.read_end.get())).value();
  EXPECT_EQ(WaitFor(*child), 0);
  return output;
}

SpawnOptions Shell(const std::string& script) {
  return {.path = "/bin/sh",
          .argv = {"sh", "-c", script},
          .env = {"PATH=/usr/bin:/bin"}};
}

std::string StatusLine(const std::string& status, const std::string& key) {
  std::istringstream lines(status);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, key.size() + 1, key + ":") == 0) return line;
  }
  return "";
}

TEST(SpawnTest, DispositionsAndMaskAreClean) {
  sigset_t set;
  sigset_t before;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, &before);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  signal(SIGRTMIN + 3, SIG_IGN);
  const std::string status =
      Output({.path = "/bin/cat", .argv = {"cat", "/proc/self/status"}});
  sigset_t after;
  sigprocmask(SIG_SETMASK, &before, &after);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  signal(SIGRTMIN + 3, SIG_DFL);
  EXPECT_EQ(StatusLine(status, "SigBlk"), "SigBlk:\t0000000000000000");
  EXPECT_EQ(StatusLine(status, "SigIgn"), "SigIgn:\t0000000000000000");
  // And ours is as it was.
  EXPECT_EQ(sigismember(&after, SIGTERM), 1);
  EXPECT_EQ(sigismember(&after, SIGUSR1), 0);
}

TEST(SpawnTest, TheChildGetsTheFdsNamedAndNoOther) {
  const UniqueFd not_close_on_exec(open("/dev/zero", O_RDONLY));  // NOLINT
  ASSERT_TRUE(not_close_on_exec.valid());
  const UniqueFd four = std::move(OpenFd("/dev/full", O_WRONLY)).value();
  const UniqueFd three = std::move(OpenFd("/dev/zero", O_RDONLY)).value();
  SpawnOptions options = Shell(
      "for n in 0 1 2 3 4 5 6 7 8 9; do"
      " [ ! -L /proc/$$/fd/$n ] || readlink /proc/$$/fd/$n; done");
  // Out of order, so that a naive dup2 would overwrite one with another.
  options.extra_fds = {three.get(), four.get()};
  const std::string output = Output(options);
  EXPECT_THAT(output, testing::MatchesRegex(
                          "/dev/null\npipe:.[0-9]+.\n/dev/null\n/dev/zero\n"
                          "/dev/full\n"));
}

TEST(SpawnTest, FdsMayTradePlaces) {
  // The child's 3 and 4 are our 4 and 3, or whatever numbers are free.
  const UniqueFd a = std::move(OpenFd("/dev/zero", O_RDONLY)).value();
  const UniqueFd b = std::move(OpenFd("/dev/full", O_WRONLY)).value();
  const UniqueFd low(fcntl(a.get(), F_DUPFD_CLOEXEC, 3));
  SpawnOptions options = Shell("readlink /proc/$$/fd/3 /proc/$$/fd/4");
  for (const auto& [first, second] :
       {std::pair(a.get(), b.get()), std::pair(b.get(), a.get())}) {
    options.extra_fds = {first, second};
    EXPECT_EQ(Output(options), first == a.get() ? "/dev/zero\n/dev/full\n"
                                                : "/dev/full\n/dev/zero\n");
  }
}

TEST(SpawnTest, AbsentStdioIsDevNullForBothDirections) {
  SpawnOptions options = Shell("echo x >&2 && read line <&2; cat");
  EXPECT_EQ(Output(options), "");
}

TEST(SpawnTest, EnvironmentAndDirectoryAreTheGivenOnes) {
  setenv("WISP_TEST_LEAK", "1", 1);
  SpawnOptions options = {
      .path = "/usr/bin/env", .argv = {"env"}, .env = {"A=1", "B="}};
  EXPECT_EQ(Output(options), "A=1\nB=\n");
  unsetenv("WISP_TEST_LEAK");
  options = {.path = "/bin/pwd", .argv = {"pwd"}, .directory = "/usr"};
  EXPECT_EQ(Output(options), "/usr\n");
}

TEST(SpawnTest, AFailedExecveIsAnErrorInGosWords) {
  const auto before = OpenFds();
  EXPECT_EQ(Message(Spawn({.path = "/nowhere", .argv = {"x"}}).status()),
            "fork/exec /nowhere: no such file or directory");
  EXPECT_EQ(Message(Spawn({.path = "/etc/passwd", .argv = {"x"}}).status()),
            "fork/exec /etc/passwd: permission denied");
  EXPECT_EQ(Message(Spawn({.path = "/bin/true",
                           .argv = {"true"},
                           .directory = "/nowhere"})
                        .status()),
            "fork/exec /bin/true: no such file or directory");
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);  // and no zombie
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(OpenFds(), before);
}

TEST(SpawnTest, AProcessGroupOfItsOwnOnlyIfAskedFor) {
  const auto group_is_own = [](bool wanted) {
    SpawnOptions options = Shell("read line");
    const Pipe gate = std::move(MakePipe()).value();
    options.stdin_fd = gate.read_end.get();
    options.new_process_group = wanted;
    const Pidfd child = std::move(Spawn(options)).value();
    const bool own = getpgid(child.pid()) == child.pid();
    (void)child.Signal(SIGKILL);
    WaitFor(child);
    return own;
  };
  EXPECT_TRUE(group_is_own(true));
  EXPECT_FALSE(group_is_own(false));
}

// Whether what a process spawned is killed when that process ends.
bool DiesWithParent(bool wanted) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  Pipe gate = std::move(MakePipe()).value();
  Pipe report = std::move(MakePipe()).value();
  const pid_t parent = fork();
  if (parent == 0) {
    gate.write_end.Reset();
    SpawnOptions options = Shell("read line; exit 7");
    options.stdin_fd = gate.read_end.get();
    options.die_with_parent = wanted;
    const Pidfd child = std::move(Spawn(options)).value();
    const pid_t pid = child.pid();
    (void)!write(report.write_end.get(), &pid, sizeof(pid));
    _exit(0);
  }
  pid_t orphan = 0;
  EXPECT_EQ(read(report.read_end.get(), &orphan, sizeof(orphan)),
            ssize_t{sizeof(orphan)});
  EXPECT_EQ(waitpid(parent, nullptr, 0), parent);
  // Only now may it end by itself. If it was killed before, all the same.
  gate.write_end.Reset();
  int status = 0;
  EXPECT_EQ(waitpid(orphan, &status, 0), orphan);
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGKILL;
  EXPECT_EQ(WEXITSTATUS(status), 7);
  return false;
}

TEST(SpawnTest, DiesWithItsParentIfAskedTo) {
  EXPECT_TRUE(DiesWithParent(true));
  EXPECT_FALSE(DiesWithParent(false));
}

TEST(SpawnTest, HundredsInARowLeaveNothingBehind) {
  const auto before = OpenFds();
  for (int i = 0; i < 200; ++i) {
    const Pidfd child =
        std::move(Spawn({.path = "/bin/true", .argv = {"true"}})).value();
    EXPECT_EQ(WaitFor(child), 0);
  }
  EXPECT_EQ(OpenFds(), before);
}

TEST(FindExecutableTest, LooksInThePathForFilesThatCanBeExecuted) {
  TemporaryDirectory directory;
  const std::string decoy = directory / "sh";
  WISP_ASSERT_OK(WriteFileAtomically(decoy, "", 0644, false));
  ASSERT_EQ(mkdir((directory / "ls").c_str(), 0755), 0);
  const std::string saved = getenv("PATH");
  setenv("PATH", (directory.path() + "::/bin").c_str(), 1);
  EXPECT_EQ(*FindExecutable("sh"), "/bin/sh");
  EXPECT_EQ(*FindExecutable("ls"), "/bin/ls");
  const absl::Status missing = FindExecutable("no-such-runc").status();
  setenv("PATH", saved.c_str(), 1);
  EXPECT_EQ(Message(missing),
            "exec: \"no-such-runc\": executable file not found in $PATH");
}

TEST(FindExecutableTest, ANameWithASlashIsNotLookedUp) {
  EXPECT_EQ(*FindExecutable("/bin/sh"), "/bin/sh");
  EXPECT_EQ(Message(FindExecutable("/nowhere/runc").status()),
            "exec: \"/nowhere/runc\": stat /nowhere/runc: no such file or "
            "directory");
}

TEST(EnvironmentTest, DropsExactlyTheNamedVariables) {
  setenv("WISP_TEST", "1", 1);
  setenv("WISP_TEST_2", "2", 1);
  const std::vector<std::string> env = EnvironmentWithout({"WISP_TEST"});
  EXPECT_THAT(env, testing::Not(testing::Contains("WISP_TEST=1")));
  EXPECT_THAT(env, testing::Contains("WISP_TEST_2=2"));
  unsetenv("WISP_TEST");
  unsetenv("WISP_TEST_2");
}

}  // namespace
}  // namespace wisp
