#include "shim/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kDaemon = "/run/containerd/containerd.sock";

std::string Hash(std::string_view address, std::string_view namespace_name,
                 std::string_view key) {
  return SocketPath("", address, namespace_name, key).substr(1);
}

class SocketTest : public ::testing::Test {
 protected:
  std::string Path() { return SocketPath(directory_ / "s", kDaemon, "n", "k"); }
  std::set<std::string> Names() {
    std::set<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(directory_ / "s")) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
  std::string NameOf(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
  }
  TemporaryDirectory directory_;
};

// Binds as Go does: under the name itself.
UniqueFd BindPlainly(const std::string& path, bool listening) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(
      bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)),
      0);
  if (listening) {
    EXPECT_EQ(listen(fd.get(), 1), 0);
  }
  return fd;
}

TEST(GoJoinTest, CleansAsGoDoes) {
  EXPECT_EQ(GoJoin({}), "");
  EXPECT_EQ(GoJoin({"", ""}), "");
  EXPECT_EQ(GoJoin({"a", "b"}), "a/b");
  EXPECT_EQ(GoJoin({"", "a"}), "a");
  EXPECT_EQ(GoJoin({"a", "", "b"}), "a/b");
  EXPECT_EQ(GoJoin({"/a/", "/b/"}), "/a/b");
  EXPECT_EQ(GoJoin({"a//b/./c", ".."}), "a/b");
  EXPECT_EQ(GoJoin({"/..", "x"}), "/x");
  EXPECT_EQ(GoJoin({"..", "../x"}), "../../x");
  EXPECT_EQ(GoJoin({"a", ".."}), ".");
  EXPECT_EQ(GoJoin({"a", "../.."}), "..");
  EXPECT_EQ(GoJoin({"/"}), "/");
  EXPECT_EQ(GoJoin({"unix:///run/x", "n"}), "unix:/run/x/n");
}

TEST(SocketPathTest, HashesAsGoDoes) {
  EXPECT_EQ(Hash(kDaemon, "default", "test1"),
            "05380991aeb734527f768875a3abe60fc483550242e2fc78fd0aecdbbe4576f1");
  EXPECT_EQ(Hash(kDaemon, "k8s.io", "abc"),
            "a99a1752d3a0fadfb1f869026f16760475df03a572e20f4ccea9e6c1e5470b72");
  EXPECT_EQ(Hash(kDaemon, "k8s.io", "abc/debug"),
            "489cbb1c8f8f3f4d2724d001de17c3d2f3600801024a130ed5ec65aa4a78052a");
  EXPECT_EQ(Hash(kDaemon, "moby", "deadbeef"),
            "7035844a2374d995a21e8a19f9d163d91d0e87284450bad7d333fa478a75b97d");
  EXPECT_EQ(Hash("unix:///run/containerd/containerd.sock", "default", "test1"),
            "3a053c68d76e3079343d14e0639185c69dfae8f0b7c82319f499c7ddaee751d0");
  EXPECT_EQ(SocketPath(kDefaultSocketDirectory, kDaemon, "default", "test1"),
            "/run/containerd/s/"
            "05380991aeb734527f768875a3abe60fc483550242e2fc78fd0aecdbbe4576f1");
}

TEST_F(SocketTest, MakesADirectoryAndASocketForUsAlone) {
  const mode_t before = umask(0);
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(Path());
  umask(before);
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  ASSERT_TRUE(claimed->listener.valid());
  struct stat info;
  ASSERT_EQ(stat(Path().c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  EXPECT_EQ(info.st_ino, claimed->name.inode);
  ASSERT_EQ(stat((directory_ / "s").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700U);
  EXPECT_NE(fcntl(claimed->listener.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(Names(), std::set<std::string>{NameOf(Path())});
}

TEST_F(SocketTest, FindsALiveShimAndLeavesItAlone) {
  absl::StatusOr<ClaimedSocket> first = ClaimSocket(Path());
  ASSERT_TRUE(first.ok());
  const absl::StatusOr<ClaimedSocket> second = ClaimSocket(Path());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(second->listener.valid());
  EXPECT_EQ(IdentifySocket(Path())->inode, first->name.inode);
  EXPECT_EQ(Names().size(), 1U);
}

TEST_F(SocketTest, ReplacesADeadSocket) {
  ASSERT_TRUE(ClaimSocket(Path()).ok());  // closed at once
  ASSERT_FALSE(SomebodyListens(Path()));
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(Path());
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_TRUE(claimed->listener.valid());
  EXPECT_TRUE(SomebodyListens(Path()));
  EXPECT_EQ(IdentifySocket(Path())->inode, claimed->name.inode);
  EXPECT_EQ(Names().size(), 1U);
}

TEST_F(SocketTest, OverwritesWhatAKilledStartLeft) {
  ASSERT_TRUE(ClaimSocket(Path()).ok());
  std::string temporary = Path();
  temporary.back() = '~';
  ASSERT_EQ(rename(Path().c_str(), temporary.c_str()), 0);
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(Path());
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_TRUE(claimed->listener.valid());
  EXPECT_EQ(Names(), std::set<std::string>{NameOf(Path())});
}

TEST_F(SocketTest, AFullBacklogIsASignOfLife) {
  ASSERT_EQ(mkdir((directory_ / "s").c_str(), 0700), 0);
  const UniqueFd listener = BindPlainly(Path(), true);
  std::vector<UniqueFd> waiting;
  const absl::StatusOr<SocketName> name = IdentifySocket(Path());
  for (int i = 0; i < 10; ++i) {
    waiting.emplace_back(
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, Path().data(), Path().size());
    (void)connect(waiting.back().get(), reinterpret_cast<sockaddr*>(&address),
                  sizeof(address));
  }
  EXPECT_TRUE(SomebodyListens(Path()));
  EXPECT_FALSE(ClaimSocket(Path())->listener.valid());
  EXPECT_EQ(IdentifySocket(Path())->inode, name->inode);
}

TEST_F(SocketTest, RefusesAPathTooLongForTheKernel) {
  const std::string directory = directory_ / std::string(60, 'd');
  const absl::Status status =
      ClaimSocket(SocketPath(directory, kDaemon, "n", "k")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("shorter socket_dir"));
  EXPECT_NE(access(directory.c_str(), F_OK), 0);
}

TEST_F(SocketTest, TakesThe107BytesThatTheKernelTakes) {
  std::string directory = directory_ / "";
  ASSERT_LT(directory.size(), 42U);
  directory += std::string(42 - directory.size(), 'd');
  const std::string path = SocketPath(directory, kDaemon, "n", "k");
  ASSERT_EQ(path.size(), 107U);
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(path);
  ASSERT_TRUE(claimed.ok()) << claimed.status();
  EXPECT_TRUE(SomebodyListens(path));
}

TEST_F(SocketTest, RemovesItsOwnNameAndNoOther) {
  absl::StatusOr<ClaimedSocket> first = ClaimSocket(Path());
  ASSERT_TRUE(first.ok());
  first->listener.Reset();
  absl::StatusOr<ClaimedSocket> second = ClaimSocket(Path());
  ASSERT_TRUE(second.ok());
  RemoveSocket(first->name);
  EXPECT_TRUE(SomebodyListens(Path()));
  RemoveSocket(second->name);
  EXPECT_TRUE(Names().empty());
  RemoveSocket(second->name);
  RemoveSocket({});
}

TEST_F(SocketTest, RemovesADeadSocketOnly) {
  EXPECT_FALSE(RemoveDeadSocket(Path()));
  absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(Path());
  ASSERT_TRUE(claimed.ok());
  EXPECT_FALSE(RemoveDeadSocket(Path()));
  EXPECT_TRUE(SomebodyListens(Path()));
  claimed->listener.Reset();
  EXPECT_TRUE(RemoveDeadSocket(Path()));
  EXPECT_TRUE(Names().empty());
  const std::string file = directory_ / "s/file";
  ASSERT_TRUE(WriteFileAtomically(file, "x", 0600, false).ok());
  EXPECT_FALSE(RemoveDeadSocket(file));
}

TEST_F(SocketTest, RemovesWhatKilledShimsOfOursHaveLeft) {
  const std::string directory = directory_ / "s";
  const auto path = [&directory](std::string_view key) {
    return SocketPath(directory, kDaemon, "n", key);
  };
  absl::StatusOr<ClaimedSocket> live = ClaimSocket(path("live"));
  absl::StatusOr<ClaimedSocket> dead = ClaimSocket(path("dead"));
  absl::StatusOr<ClaimedSocket> hidden = ClaimSocket(path("hidden"));
  ASSERT_TRUE(live.ok() && dead.ok() && hidden.ok());
  ASSERT_TRUE(HideSocket(hidden->name).ok());
  if (lgetxattr(path("live").c_str(), "trusted.wisp.socket", nullptr, 0) < 0) {
    GTEST_SKIP() << "no trusted attributes here: " << strerror(errno);
  }
  bool asked = false;
  const auto none = [&asked](const std::string&) {
    asked = true;
    return false;
  };
  EXPECT_EQ(RemoveDeadSockets(directory, none), 0);
  EXPECT_FALSE(asked);
  // Another's may be one that comes up just now.
  (void)BindPlainly(path("another's"), /*listening=*/false);
  dead->listener.Reset();
  hidden->listener.Reset();

  const absl::StatusOr<UniqueFd> lock =
      OpenFd(directory, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(lock.ok());
  ASSERT_EQ(flock(lock->get(), LOCK_EX), 0);
  EXPECT_EQ(RemoveDeadSockets(directory, none), 0);
  ASSERT_EQ(flock(lock->get(), LOCK_UN), 0);

  const auto is_dead = [&path](const std::string& socket) {
    return socket == path("dead");
  };
  EXPECT_EQ(RemoveDeadSockets(directory, is_dead), 1);
  EXPECT_EQ(RemoveDeadSockets(directory, none), 1);
  EXPECT_EQ(Names(), (std::set<std::string>{NameOf(path("live")),
                                            NameOf(path("another's"))}));
  EXPECT_TRUE(SomebodyListens(path("live")));
  EXPECT_EQ(RemoveDeadSockets(directory_ / "none", none), 0);
}

// Fifty processes want one name, again and again over a socket that is dead.
// Exactly one gets it each time, and it is alive under that name.
TEST_F(SocketTest, OfFiftyRacersOneWins) {
  for (int round = 0; round < 5; ++round) {
    absl::StatusOr<Pipe> go = MakePipe();
    absl::StatusOr<Pipe> stay = MakePipe();
    absl::StatusOr<Pipe> told = MakePipe();
    ASSERT_TRUE(go.ok() && stay.ok() && told.ok());
    std::vector<pid_t> racers;
    for (int i = 0; i < 50; ++i) {
      const pid_t pid = fork();
      ASSERT_GE(pid, 0);
      if (pid == 0) {
        go->write_end.Reset();
        stay->write_end.Reset();
        char byte;
        (void)!read(go->read_end.get(), &byte, 1);
        absl::StatusOr<ClaimedSocket> claimed = ClaimSocket(Path());
        const char answer = !claimed.ok()               ? 'e'
                            : claimed->listener.valid() ? 'w'
                            : SomebodyListens(Path())   ? 'l'
                                                        : 'd';
        (void)!write(told->write_end.get(), &answer, 1);
        (void)!read(stay->read_end.get(), &byte, 1);  // keeps listening
        _exit(0);
      }
      racers.push_back(pid);
    }
    go->write_end.Reset();
    told->write_end.Reset();
    std::string answers;
    while (answers.size() < racers.size()) {
      char buffer[64];
      const ssize_t n = read(told->read_end.get(), buffer, sizeof(buffer));
      ASSERT_GT(n, 0);
      answers.append(buffer, static_cast<size_t>(n));
    }
    EXPECT_EQ(std::count(answers.begin(), answers.end(), 'w'), 1) << answers;
    EXPECT_EQ(std::count(answers.begin(), answers.end(), 'l'), 49) << answers;
    EXPECT_TRUE(SomebodyListens(Path()));
    EXPECT_EQ(Names().size(), 1U);
    stay->write_end.Reset();
    for (const pid_t pid : racers) waitpid(pid, nullptr, 0);
    EXPECT_FALSE(SomebodyListens(Path()));
  }
}

}  // namespace
}  // namespace wisp
