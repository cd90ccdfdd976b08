// What becomes of a pod whose shim was killed, when `delete` comes for one of
// its containers, or `start` for a new one.
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <string>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "shim/bundle.h"
#include "test/support/test_shim.h"

namespace wisp {
namespace {

namespace api = containerd::task::v3;

class SiblingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    shim_ = TestShim::Start(FAKE_RUNC);
    ASSERT_NE(shim_, nullptr);
    // `start` ran for one of them, as for a sandbox, but not for its members.
    MakeTask("c1", {"sleep", "1000"});
    ASSERT_TRUE(shim_->RunStart("c1").ok());
    MakeTask("c2", {"sleep", "1000"});
  }

  void TearDown() override {
    for (const auto& [id, init] : inits_) {
      syscall(SYS_pidfd_send_signal, init.get(), SIGKILL, nullptr, 0);
    }
  }

  void MakeTask(const std::string& id, const std::vector<std::string>& args) {
    shim_->MakeBundle(id, args);
    const absl::StatusOr<uint32_t> pid = shim_->Create(id);
    ASSERT_TRUE(pid.ok()) << pid.status();
    inits_[id] = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
    ASSERT_TRUE(shim_->StartTask(id).ok());
  }

  void KillShim() {
    kill(shim_->pid(), SIGKILL);
    ASSERT_TRUE(shim_->RunUntil([this] { return shim_->gone(); }));
  }

  bool EndsWithin(const std::string& id, absl::Duration limit) {
    pollfd dead = {.fd = inits_[id].get(), .events = POLLIN, .revents = 0};
    return poll(&dead, 1, static_cast<int>(absl::ToInt64Milliseconds(limit))) >
           0;
  }
  // What was to end it has returned, so it need not be waited for.
  bool IsAlive(const std::string& id) {
    return !EndsWithin(id, absl::ZeroDuration());
  }

  Bundle BundleOf(const std::string& id) const {
    return Bundle(fmt::format("{}/bundles/{}", shim_->directory(), id));
  }
  bool RuntimeKnows(const std::string& id) const {
    const std::string state = fmt::format(
        "{}/runtime/{}/{}", shim_->directory(), shim_->namespace_name(), id);
    return access(state.c_str(), F_OK) == 0;
  }

  api::DeleteResponse Deleted(const std::string& id) {
    absl::StatusOr<std::string> answer = shim_->RunDelete(id);
    EXPECT_TRUE(answer.ok()) << answer.status();
    if (!answer.ok()) return {};
    // Lines of the log come first, on the same file here. The message itself
    // may hold a byte that ends a line.
    while (answer->starts_with("time="))
      answer->erase(0, answer->find('\n') + 1);
    api::DeleteResponse response;
    EXPECT_TRUE(response.ParseFromString(*answer));
    return response;
  }

  std::unique_ptr<TestShim> shim_;
  std::map<std::string, UniqueFd> inits_;
};

TEST_F(SiblingsTest, DeleteOfOneEndsTheWholePod) {
  MakeTask("c3", {"sh", "-c", "exit 42"});
  ASSERT_TRUE(shim_->AwaitEvent("exit c3 42"));
  KillShim();
  ASSERT_TRUE(shim_->RunDelete("c1").ok());
  EXPECT_TRUE(EndsWithin("c1", absl::Seconds(10)));
  EXPECT_TRUE(EndsWithin("c2", absl::Seconds(10)));
  for (const std::string id : {"c1", "c2", "c3"}) {
    EXPECT_FALSE(RuntimeKnows(id)) << id;
    EXPECT_TRUE(BundleOf(id).ReadConfig().ok()) << "the bundle of " << id;
  }
  EXPECT_NE(access(shim_->socket().c_str(), F_OK), 0);
  // What is told of each is what happened to it, whenever somebody asks.
  const absl::StatusOr<ExitRecord> killed = BundleOf("c2").ReadExitRecord();
  ASSERT_TRUE(killed.ok()) << killed.status();
  EXPECT_TRUE(killed->guessed);
  EXPECT_EQ(killed->status, 137u);
  const api::DeleteResponse deleted = Deleted("c2");
  EXPECT_EQ(deleted.exit_status(), 137u);
  EXPECT_EQ(deleted.exited_at().seconds(), absl::ToUnixSeconds(killed->at));
  EXPECT_EQ(Deleted("c3").exit_status(), 42u);
}

TEST_F(SiblingsTest, OfALivingShimAreLeftAlone) {
  ASSERT_TRUE(shim_->Kill("c1", SIGKILL).ok());
  ASSERT_TRUE(shim_->AwaitEvent("exit c1 137"));
  ASSERT_TRUE(shim_->Delete("c1").ok());
  ASSERT_TRUE(shim_->RunDelete("c1").ok());
  EXPECT_TRUE(IsAlive("c2"));
  EXPECT_TRUE(RuntimeKnows("c2"));
  EXPECT_FALSE(BundleOf("c2").ReadExitRecord().ok());
}

TEST_F(SiblingsTest, OfALivingShimAreLeftAloneWhenItsSocketHasGone) {
  ASSERT_EQ(unlink(shim_->socket().c_str()), 0);
  ASSERT_TRUE(shim_->RunDelete("c1").ok());
  EXPECT_FALSE(RuntimeKnows("c1"));
  EXPECT_TRUE(IsAlive("c2"));
  EXPECT_TRUE(RuntimeKnows("c2"));
}

TEST_F(SiblingsTest, AreNoContainersOfAnotherGroup) {
  absl::StatusOr<Json> config = BundleOf("c2").ReadConfig();
  ASSERT_TRUE(config.ok());
  Json annotations = Json::Object();
  annotations.Set("io.containerd.runc.v2.group", "other-group");
  config->Set("annotations", std::move(annotations));
  ASSERT_TRUE(
      WriteFileAtomically(BundleOf("c2").config(), config->Dump(), 0600, false)
          .ok());
  KillShim();
  ASSERT_TRUE(shim_->RunDelete("c1").ok());
  EXPECT_FALSE(RuntimeKnows("c1"));
  EXPECT_TRUE(IsAlive("c2"));
  EXPECT_FALSE(BundleOf("c2").ReadExitRecord().ok());
}

TEST_F(SiblingsTest, ARuntimeThatHangsForOneHoldsUpNoOther) {
  MakeTask("c3", {"sleep", "1000"});
  KillShim();
  shim_->CloseGate("delete.c2.before");
  const absl::Time before = absl::Now();
  ASSERT_TRUE(shim_->RunDelete("c1").ok());
  // The daemon kills it after five seconds, and then tells 255.
  EXPECT_LT(absl::Now() - before, absl::Seconds(5));
  EXPECT_TRUE(EndsWithin("c3", absl::Seconds(10)));
  EXPECT_EQ(BundleOf("c2").ReadExitRecord()->status, 137u);
  shim_->OpenGate("delete.c2.before");
  EXPECT_EQ(Deleted("c2").exit_status(), 137u);
  EXPECT_TRUE(EndsWithin("c2", absl::Seconds(10)));
}

TEST_F(SiblingsTest, StartOfANewOneEndsThoseOfTheDeadShim) {
  KillShim();
  shim_->MakeBundle("c4", {"sleep", "1000"});
  const absl::StatusOr<std::string> address = shim_->RunStart("c4");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(*address, "unix://" + shim_->socket());
  for (const std::string id : {"c1", "c2"}) {
    EXPECT_TRUE(EndsWithin(id, absl::Seconds(10))) << id;
    EXPECT_FALSE(RuntimeKnows(id)) << id;
    EXPECT_EQ(BundleOf(id).ReadExitRecord()->status, 137u) << id;
  }
  auto connected =
      shim_->Call<api::ConnectResponse>("Connect", api::ConnectRequest());
  // The client may not have noticed that the dead one's connection ended.
  if (absl::IsUnavailable(connected.status())) {
    connected =
        shim_->Call<api::ConnectResponse>("Connect", api::ConnectRequest());
  }
  ASSERT_TRUE(connected.ok()) << connected.status();
  const auto successor = static_cast<pid_t>(connected->shim_pid());
  EXPECT_NE(successor, shim_->pid());
  const absl::StatusOr<uint32_t> pid = shim_->Create("c4");
  EXPECT_TRUE(pid.ok()) << pid.status();
  EXPECT_TRUE(shim_->Delete("c4").ok());
  kill(successor, SIGKILL);
}

}  // namespace
}  // namespace wisp
