#include "shim/event_publisher.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "gtest/gtest.h"
#include "process/event_loop.h"
#include "proto/events.pb.h"
#include "proto/events_service.pb.h"
#include "shim/ttrpc/server.h"
#include "test/shim/ttrpc/peer.h"

namespace wisp {
namespace {

using containerd::events::TaskCreate;
using containerd::events::TaskDelete;
using containerd::events::TaskExecAdded;
using containerd::events::TaskExit;
using containerd::events::TaskOOM;
using containerd::types::Envelope;

constexpr char kEvents[] = "containerd.services.events.ttrpc.v1.Events";

class EventPublisherTest : public testing::Test {
 protected:
  EventPublisherTest() : loop_(*EventLoop::Create()) {
    methods_["Forward"] = [this](RawCall call) {
      containerd::services::events::ttrpc::v1::ForwardRequest request;
      EXPECT_TRUE(request.ParseFromString(call.payload()));
      EXPECT_EQ(call.metadata("containerd-namespace-ttrpc"), "k8s.io");
      ++calls_;
      if (silent_) {
        held_.push_back(std::make_unique<RawCall>(std::move(call)));
        EXPECT_LE(server_->calls_in_flight(), 1u) << "one call at a time";
        return;
      }
      if (!answer_.ok()) {
        call.Respond(answer_);
        return;
      }
      if (request.envelope().topic() == "malformed") {
        call.Respond(absl::InvalidArgumentError("must start with a slash"));
        return;
      }
      received_.push_back(request.envelope());
      call.Respond(std::string());
    };
    options_.address = "unix://" + dir_.socket();
    options_.containerd_namespace = "k8s.io";
    options_.call_timeout = absl::Milliseconds(100);
    options_.first_pause = absl::Milliseconds(2);
    options_.last_pause = absl::Milliseconds(20);
  }
  ~EventPublisherTest() override { publisher_.reset(); }

  void StartDaemon() {
    listening_ = ListenOn(dir_.socket());
    server_ = std::make_unique<TtrpcServer>(*loop_, TtrpcServer::Hooks());
    server_->Register(kEvents, &methods_);
    EXPECT_TRUE(server_->Listen(listening_.get()).ok());
  }
  void StopDaemon() {
    server_.reset();
    listening_.Reset();
  }
  EventPublisher& Start() {
    publisher_ = std::make_unique<EventPublisher>(
        *loop_, options_,
        [this](const absl::Status& status) { troubles_.push_back(status); });
    return *publisher_;
  }

  void PublishExec(int number) {
    TaskExecAdded event;
    event.set_container_id("c1");
    event.set_exec_id(fmt::format("{}", number));
    publisher_->Publish("/tasks/exec-added", event);
  }
  void PublishExit(std::string_view id) {
    TaskExit event;
    event.set_container_id("c1");
    event.set_id(std::string(id));
    publisher_->Publish("/tasks/exit", event);
  }
  void PublishOom(std::string_view container) {
    TaskOOM event;
    event.set_container_id(std::string(container));
    publisher_->Publish("/tasks/oom", event);
  }
  bool AwaitDelivery() {
    return RunUntil(*loop_, [this] { return publisher_->pending() == 0; });
  }
  // Exec ids or ids in the order of arrival.
  std::vector<std::string> ReceivedIds() const {
    std::vector<std::string> ids;
    for (const Envelope& envelope : received_) {
      TaskExecAdded event;  // field 2 is the id in TaskExit too
      EXPECT_TRUE(event.ParseFromString(envelope.event().value()));
      ids.push_back(event.exec_id());
    }
    return ids;
  }
  std::vector<std::string> ReceivedTopics() const {
    std::vector<std::string> topics;
    for (const Envelope& envelope : received_) {
      topics.push_back(envelope.topic());
    }
    return topics;
  }

  SocketDir dir_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd listening_;
  Methods methods_;
  bool silent_ = false;
  absl::Status answer_;
  int calls_ = 0;
  std::vector<std::unique_ptr<RawCall>> held_;
  std::vector<Envelope> received_;
  std::unique_ptr<TtrpcServer> server_;
  EventPublisher::Options options_;
  std::vector<absl::Status> troubles_;
  std::unique_ptr<EventPublisher> publisher_;
};

TEST_F(EventPublisherTest, FillsTheEnvelope) {
  StartDaemon();
  Start();
  EXPECT_FALSE(publisher_->answering());
  const absl::Time before = absl::Now();
  PublishExit("c1");
  const absl::Time after = absl::Now();
  EXPECT_EQ(publisher_->pending(), 1u);
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_TRUE(publisher_->answering());
  EXPECT_EQ(publisher_->pending_bytes(), 0u);
  ASSERT_EQ(received_.size(), 1u);
  const Envelope& envelope = received_[0];
  EXPECT_EQ(envelope.namespace_(), "k8s.io");
  EXPECT_EQ(envelope.topic(), "/tasks/exit");
  EXPECT_EQ(envelope.event().type_url(), "containerd.events.TaskExit");
  const absl::Time at = absl::FromUnixSeconds(envelope.timestamp().seconds()) +
                        absl::Nanoseconds(envelope.timestamp().nanos());
  EXPECT_LE(before, at);
  EXPECT_LE(at, after);
  TaskExit event;
  ASSERT_TRUE(event.ParseFromString(envelope.event().value()));
  EXPECT_EQ(event.id(), "c1");
}

TEST_F(EventPublisherTest, DeliversEverythingOnceAndInOrderAfterAnOutage) {
  Start();
  std::vector<std::string> expected;
  for (int i = 0; i < 600; ++i) {
    PublishExec(i);
    expected.push_back(fmt::format("{}", i));
  }
  // A few attempts that find nobody.
  ASSERT_TRUE(RunUntil(*loop_, [this] { return !troubles_.empty(); }));
  loop_->RunOnce(absl::Milliseconds(30));
  EXPECT_EQ(publisher_->pending(), 600u);
  EXPECT_FALSE(publisher_->answering());
  int emptied = 0;
  publisher_->SetOnEmpty([&emptied] { ++emptied; });
  StartDaemon();
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(emptied, 1);
  EXPECT_EQ(ReceivedIds(), expected);
  EXPECT_EQ(publisher_->dropped(), 0u);
  EXPECT_EQ(troubles_.size(), 1u) << "one report per outage";
}

TEST_F(EventPublisherTest, KeepsTheOrderOverRestartsOfTheDaemon) {
  Start();
  std::vector<std::string> expected;
  for (int round = 0; round < 5; ++round) {
    StartDaemon();
    for (int i = 0; i < 50; ++i) {
      PublishExec(round * 50 + i);
      expected.push_back(fmt::format("{}", round * 50 + i));
    }
    const size_t some = expected.size() - 25;
    ASSERT_TRUE(
        RunUntil(*loop_, [this, some] { return received_.size() >= some; }));
    StopDaemon();
  }
  StartDaemon();
  ASSERT_TRUE(AwaitDelivery());
  // What was in flight when the daemon went may have been taken by it.
  std::vector<std::string> ids = ReceivedIds();
  EXPECT_LE(ids.size(), expected.size() + 5);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  EXPECT_EQ(ids, expected);
}

TEST_F(EventPublisherTest, ReconnectsAfterAnIdleConnectionWasLost) {
  StartDaemon();
  Start();
  PublishExec(1);
  ASSERT_TRUE(AwaitDelivery());
  StopDaemon();
  StartDaemon();
  loop_->RunOnce(absl::Milliseconds(10));
  PublishExec(2);
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(ReceivedIds(), (std::vector<std::string>{"1", "2"}));
  EXPECT_TRUE(troubles_.empty());
}

TEST_F(EventPublisherTest, KeepsWaitingForADaemonThatNeverAnswers) {
  StartDaemon();
  silent_ = true;
  Start();
  const absl::Time begin = absl::Now();
  for (int i = 0; i < 1000; ++i) PublishExec(i);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  ASSERT_TRUE(RunUntil(*loop_, [this] { return calls_ >= 3; }));
  EXPECT_EQ(publisher_->pending(), 1000u);
  EXPECT_FALSE(publisher_->answering());
  EXPECT_TRUE(absl::IsDeadlineExceeded(troubles_.at(0)));
  silent_ = false;
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(received_.size(), 1000u);
}

TEST_F(EventPublisherTest, RepeatsWhatTheDaemonFailsToTake) {
  StartDaemon();
  answer_ = absl::UnavailableError("not ready: unavailable");
  Start();
  PublishExec(1);
  ASSERT_TRUE(RunUntil(*loop_, [this] { return calls_ >= 3; }));
  EXPECT_TRUE(publisher_->answering());
  EXPECT_EQ(publisher_->pending(), 1u);
  answer_ = absl::OkStatus();
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(ReceivedIds(), std::vector<std::string>{"1"});
  EXPECT_EQ(troubles_.size(), 1u);
}

TEST_F(EventPublisherTest, DropsWhatTheDaemonCallsInvalid) {
  StartDaemon();
  Start();
  PublishExec(1);
  publisher_->Publish("malformed", TaskExit());
  PublishExec(2);
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(ReceivedIds(), (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(publisher_->dropped(), 1u);
  ASSERT_EQ(troubles_.size(), 1u);
  EXPECT_EQ(Message(troubles_[0]),
            "event malformed dropped: must start with a slash");
  EXPECT_EQ(publisher_->pending_bytes(), 0u);
}

TEST_F(EventPublisherTest, DropsWhatIsTooLongToSend) {
  StartDaemon();
  Start();
  TaskCreate event;
  event.set_bundle(std::string(kMaxFramePayload, 'x'));
  publisher_->Publish("/tasks/create", event);
  EXPECT_EQ(publisher_->pending(), 0u);
  EXPECT_EQ(publisher_->dropped(), 1u);
  EXPECT_EQ(troubles_.size(), 1u);
}

TEST_F(EventPublisherTest, LeavesOutAnOomForWhichOneWaits) {
  Start();
  PublishExec(0);  // being sent
  PublishOom("c1");
  for (int i = 0; i < 100; ++i) PublishOom("c1");
  PublishOom("c2");
  PublishExit("c1");
  TaskDelete event;
  event.set_container_id("c1");
  publisher_->Publish("/tasks/delete", event);
  PublishOom("c1");  // of the next task with this id
  StartDaemon();
  ASSERT_TRUE(AwaitDelivery());
  EXPECT_EQ(
      ReceivedTopics(),
      (std::vector<std::string>{"/tasks/exec-added", "/tasks/oom", "/tasks/oom",
                                "/tasks/exit", "/tasks/delete", "/tasks/oom"}));
  EXPECT_EQ(publisher_->dropped(), 0u);
}

TEST_F(EventPublisherTest, DropsTheLeastImportantFirst) {
  options_.max_bytes = 20000;
  Start();
  PublishExec(0);  // being sent
  PublishExit("e1");
  PublishExit("c1");
  PublishOom("c1");
  for (int i = 1; i < 1000; ++i) {
    PublishExec(i);
    EXPECT_LE(publisher_->pending_bytes(), options_.max_bytes);
  }
  const std::vector<std::string> topics = publisher_->PendingTopics();
  ASSERT_GT(topics.size(), 10u);
  EXPECT_EQ(topics[0], "/tasks/exec-added");
  EXPECT_EQ(topics[1], "/tasks/exit");
  EXPECT_EQ(topics[2], "/tasks/exit");
  EXPECT_EQ(topics[3], "/tasks/oom");
  EXPECT_EQ(publisher_->dropped() + publisher_->pending(), 1003u);

  for (int i = 0; i < 1000; ++i) PublishExit(fmt::format("e{}", i));
  TaskDelete event;
  event.set_container_id("c1");
  publisher_->Publish("/tasks/delete", event);
  for (int i = 0; i < 1000; ++i) PublishExit(fmt::format("f{}", i));

  StartDaemon();
  ASSERT_TRUE(AwaitDelivery());
  const std::vector<std::string> ids = ReceivedIds();
  ASSERT_GT(ids.size(), 10u);
  EXPECT_EQ(ids[0], "0");
  EXPECT_EQ(ids[1], "c1") << "init's exit outlasts those of execs";
  EXPECT_EQ(ids[2], "") << "and so does the delete";
  EXPECT_EQ(ids[3].substr(0, 1), "f");
  EXPECT_EQ(ids.back(), "f999");
  EXPECT_EQ(std::count_if(troubles_.begin(), troubles_.end(),
                          absl::IsResourceExhausted),
            1)
      << "one report of the flood";
  EXPECT_EQ(publisher_->pending_bytes(), 0u);
}

class Drained {
 public:
  DoneStatus Done() {
    return [this](absl::Status status) { status_ = std::move(status); };
  }
  bool Await(EventLoop& loop) {
    return RunUntil(loop, [this] { return status_.has_value(); });
  }
  const std::optional<absl::Status>& status() const { return status_; }

 private:
  std::optional<absl::Status> status_;
};

TEST_F(EventPublisherTest, DrainsAnEmptyQueueAtOnce) {
  Start();
  Drained drained;
  publisher_->Drain(absl::Hours(1), absl::Hours(1), drained.Done());
  EXPECT_FALSE(drained.status().has_value()) << "not from inside";
  ASSERT_TRUE(drained.Await(*loop_));
  EXPECT_TRUE(drained.status()->ok());
}

TEST_F(EventPublisherTest, DrainsWhatIsQueued) {
  StartDaemon();
  Start();
  for (int i = 0; i < 100; ++i) PublishExec(i);
  Drained drained;
  publisher_->Drain(absl::Seconds(20), absl::Seconds(20), drained.Done());
  ASSERT_TRUE(drained.Await(*loop_));
  EXPECT_TRUE(drained.status()->ok());
  EXPECT_EQ(received_.size(), 100u);
}

TEST_F(EventPublisherTest, DrainingWaitsLongerForADaemonThatIsDown) {
  Start();
  PublishExec(1);
  Drained drained;
  publisher_->Drain(absl::Milliseconds(1), absl::Hours(1), drained.Done());
  bool later = false;
  const auto timer =
      loop_->After(absl::Milliseconds(50), [&later] { later = true; });
  ASSERT_TRUE(RunUntil(*loop_, [&later] { return later; }));
  EXPECT_FALSE(drained.status().has_value());
  StartDaemon();
  ASSERT_TRUE(drained.Await(*loop_));
  EXPECT_TRUE(drained.status()->ok());
}

TEST_F(EventPublisherTest, DrainingGivesUpOnADaemonThatStaysDown) {
  Start();
  PublishExec(1);
  PublishExec(2);
  Drained drained;
  publisher_->Drain(absl::Hours(1), absl::Milliseconds(30), drained.Done());
  ASSERT_TRUE(drained.Await(*loop_));
  EXPECT_TRUE(absl::IsDeadlineExceeded(*drained.status()));
  EXPECT_EQ(publisher_->pending(), 2u);
}

TEST_F(EventPublisherTest, DrainingGivesUpSoonOnADaemonThatAnswersErrors) {
  Start();
  PublishExec(1);
  Drained drained;
  publisher_->Drain(absl::Milliseconds(30), absl::Hours(1), drained.Done());
  answer_ = absl::UnavailableError("not ready: unavailable");
  StartDaemon();
  ASSERT_TRUE(drained.Await(*loop_));
  EXPECT_TRUE(absl::IsDeadlineExceeded(*drained.status()));
  EXPECT_TRUE(publisher_->answering());
}

TEST_F(EventPublisherTest, HasNoTimerWhileTheQueueIsEmpty) {
  StartDaemon();
  Start();
  PublishExec(1);
  ASSERT_TRUE(AwaitDelivery());
  const absl::Time begin = absl::Now();
  loop_->RunOnce(absl::Milliseconds(300));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(300))
      << "call_timeout and the pauses are shorter than that";
}

}  // namespace
}  // namespace wisp
