#include "shim/event_publisher.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "proto/events.pb.h"
#include "proto/events_service.pb.h"
#include "shim/ttrpc/frame.h"

namespace wisp {
namespace {

constexpr std::string_view kService =
    "containerd.services.events.ttrpc.v1.Events";
constexpr std::string_view kMethod = "Forward";
constexpr std::string_view kExitType = "containerd.events.TaskExit";
constexpr std::string_view kDeleteType = "containerd.events.TaskDelete";
constexpr std::string_view kOomType = "containerd.events.TaskOOM";
constexpr std::string_view kCreateType = "containerd.events.TaskCreate";
constexpr std::string_view kStartType = "containerd.events.TaskStart";
constexpr std::string_view kNamespaceKey = "containerd-namespace-ttrpc";
// Room in a frame for what ttrpc's Request adds to its payload.
constexpr size_t kMaxRequest = kMaxFramePayload - 4096;

std::string PathOf(std::string_view address) {
  constexpr std::string_view kScheme = "unix://";
  if (address.starts_with(kScheme)) address.remove_prefix(kScheme.size());
  return std::string(address);
}

}  // namespace

EventPublisher::EventPublisher(EventLoop& loop, Options options,
                               OnTrouble on_trouble)
    : loop_(loop),
      options_(std::move(options)),
      on_trouble_(std::move(on_trouble)),
      queues_{Queue(&memory_), Queue(&memory_), Queue(&memory_),
              Queue(&memory_), Queue(&memory_)},
      client_(loop, PathOf(options_.address)) {
  static_assert(kRankCount == 5, "each queue is to have that memory");
}

std::string EventPublisher::Event::topic() const {
  containerd::services::events::ttrpc::v1::ForwardRequest sent;
  (void)sent.ParseFromArray(request.data(), static_cast<int>(request.size()));
  return sent.envelope().topic();
}

EventPublisher::Rank EventPublisher::RankOf(
    const google::protobuf::MessageLite& event, std::string_view type) {
  // The lite runtime has no reflection; the name tells what the message is.
  if (type == kExitType) {
    const auto& exit = static_cast<const containerd::events::TaskExit&>(event);
    return exit.id() == exit.container_id() ? kInitExit : kExecExit;
  }
  if (type == kDeleteType) return kInitExit;
  if (type == kOomType) return kOom;
  if (type == kCreateType || type == kStartType) return kBirth;
  return kMinor;
}

void EventPublisher::Publish(std::string_view topic,
                             const google::protobuf::MessageLite& event) {
  const std::string type = event.GetTypeName();
  Event queued{.request = std::pmr::string(&memory_)};
  if (type == kOomType) {
    // A container that hits its limit again and again makes a flood of these.
    // The first one stays, since it must come before the exit it explains.
    queued.oom_of =
        static_cast<const containerd::events::TaskOOM&>(event).container_id();
    for (const Event& waiting : queues_[kOom]) {
      if (waiting.oom_of == queued.oom_of) return;
    }
  } else if (type == kDeleteType) {
    // A task that gets the same id has OOMs of its own.
    const std::string& id =
        static_cast<const containerd::events::TaskDelete&>(event)
            .container_id();
    for (Event& waiting : queues_[kOom]) {
      if (waiting.oom_of == id) waiting.oom_of.reset();
    }
  }

  containerd::services::events::ttrpc::v1::ForwardRequest request;
  containerd::types::Envelope& envelope = *request.mutable_envelope();
  const absl::Time now = absl::Now();
  const int64_t seconds = absl::ToUnixSeconds(now);
  envelope.mutable_timestamp()->set_seconds(seconds);
  envelope.mutable_timestamp()->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(now - absl::FromUnixSeconds(seconds))));
  envelope.set_namespace_(options_.containerd_namespace);
  envelope.set_topic(std::string(topic));
  // The bare name: 1.6 compares the whole string.
  envelope.mutable_event()->set_type_url(type);
  envelope.mutable_event()->set_value(event.SerializeAsString());
  queued.request = request.SerializeAsString();
  queued.number = next_number_++;

  if (queued.request.size() > kMaxRequest) {
    ++dropped_;
    Trouble(Prefixed(fmt::format("event {} dropped", topic),
                     PayloadTooLong(queued.request.size())));
    return;
  }
  bytes_ += queued.bytes();
  queues_[RankOf(event, type)].push_back(std::move(queued));
  SendNext();
  MakeRoom();
}

void EventPublisher::MakeRoom() {
  while (bytes_ > options_.max_bytes) {
    const auto victims =
        std::find_if(queues_.begin(), queues_.end(),
                     [](const Queue& queue) { return !queue.empty(); });
    if (victims == queues_.end()) return;  // only the head, which is on its way
    if (!overflowing_) {
      overflowing_ = true;
      Trouble(absl::ResourceExhaustedError(
          fmt::format("{} events wait for containerd: dropping, from {} on",
                      pending(), victims->front().topic())));
    }
    ++dropped_;
    bytes_ -= victims->front().bytes();
    victims->pop_front();
  }
}

void EventPublisher::SendNext() {
  if (head_.has_value()) return;
  Queue* first = nullptr;
  for (Queue& queue : queues_) {
    if (!queue.empty() &&
        (first == nullptr || queue.front().number < first->front().number)) {
      first = &queue;
    }
  }
  if (first == nullptr) {
    overflowing_ = false;
    memory_.release();
    if (on_empty_ != nullptr) on_empty_();
    if (drained_ != nullptr) FinishDrain(absl::OkStatus());
    return;
  }
  head_ = std::move(first->front());
  first->pop_front();
  SendHead();
}

void EventPublisher::SendHead() {
  client_.Call(
      kService, kMethod, std::string(head_->request),
      {{std::string(kNamespaceKey), options_.containerd_namespace}},
      options_.call_timeout,
      [this](absl::StatusOr<std::string> reply) { OnReply(reply.status()); });
}

void EventPublisher::OnReply(absl::Status status) {
  if (absl::IsDeadlineExceeded(status)) {
    // It may hang on this connection alone. Its late answer would not help:
    // what it answers may be sent again by then.
    client_.Disconnect();
  }
  SetAnswering(client_.connected());
  // What containerd calls invalid stays so, however often it is sent: a topic
  // or a namespace it does not like.
  const bool invalid = absl::IsInvalidArgument(status);
  if (status.ok() || invalid) {
    pause_ = absl::ZeroDuration();
    told_failing_ = false;
    if (invalid) {
      ++dropped_;
      Trouble(
          Prefixed(fmt::format("event {} dropped", head_->topic()), status));
    }
    bytes_ -= head_->bytes();
    head_.reset();
    SendNext();
    return;
  }
  if (!std::exchange(told_failing_, true)) {
    Trouble(Prefixed(fmt::format("event {} waits", head_->topic()), status));
  }
  pause_ = pause_ == absl::ZeroDuration()
               ? options_.first_pause
               : std::min(pause_ * 2, options_.last_pause);
  retry_ = loop_.After(pause_, [this] { SendHead(); });
}

void EventPublisher::SetAnswering(bool answering) {
  if (answering == answering_) return;
  answering_ = answering;
  if (drained_ != nullptr) SetUpLimit();
}

void EventPublisher::Trouble(const absl::Status& status) {
  if (on_trouble_ != nullptr) on_trouble_(status);
}

size_t EventPublisher::pending() const {
  size_t count = head_.has_value() ? 1 : 0;
  for (const Queue& queue : queues_) count += queue.size();
  return count;
}

std::vector<std::string> EventPublisher::PendingTopics() const {
  std::vector<const Event*> events;
  if (head_.has_value()) events.push_back(&*head_);
  for (const Queue& queue : queues_) {
    for (const Event& event : queue) events.push_back(&event);
  }
  std::sort(events.begin(), events.end(), [](const Event* a, const Event* b) {
    return a->number < b->number;
  });
  std::vector<std::string> topics;
  topics.reserve(events.size());
  for (const Event* event : events) topics.push_back(event->topic());
  return topics;
}

void EventPublisher::Drain(absl::Duration limit_if_up,
                           absl::Duration limit_if_down, DoneStatus done) {
  WISP_CHECK(drained_ == nullptr);
  drained_ = std::move(done);
  limit_if_up_ = limit_if_up;
  down_limit_ = loop_.After(limit_if_down, [this] { GiveUpDraining(); });
  SetUpLimit();
  if (pending() == 0) {
    if_empty_ = loop_.After(absl::ZeroDuration(), [this] {
      if (pending() == 0 && drained_ != nullptr) FinishDrain(absl::OkStatus());
    });
  }
}

void EventPublisher::SetUpLimit() {
  if (answering_) {
    up_limit_ = loop_.After(limit_if_up_, [this] { GiveUpDraining(); });
  } else {
    up_limit_.Reset();
  }
}

void EventPublisher::GiveUpDraining() {
  FinishDrain(absl::DeadlineExceededError(
      fmt::format("{} events not delivered", pending())));
}

void EventPublisher::FinishDrain(absl::Status status) {
  up_limit_.Reset();
  down_limit_.Reset();
  if_empty_.Reset();
  std::exchange(drained_, nullptr)(std::move(status));
}

}  // namespace wisp
