// Tells containerd what happens to tasks: Events.Forward, in order.
//
// One queue and one call in flight, so that order needs no proof. A call that
// fails is repeated, for ever, before anything behind it is sent: while
// containerd is down or stuck events wait, and whoever publishes never does.
//
// Delivery is at least once: when containerd takes an event and dies, or takes
// longer than five seconds, before it answers, the event is sent again.
#ifndef WISP_SHIM_EVENT_PUBLISHER_H_
#define WISP_SHIM_EVENT_PUBLISHER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "google/protobuf/message_lite.h"
#include "process/event_loop.h"
#include "process/status_macros.h"
#include "shim/ttrpc/client.h"

namespace wisp {

// All on the loop's thread. With an empty queue it has no timer.
class EventPublisher {
 public:
  struct Options {
    std::string address;  // as in TTRPC_ADDRESS; `unix://` may come first
    std::string containerd_namespace;
    // What waits takes at most this much memory, as we count it: the bytes of
    // the messages and kEventOverhead for each. Beyond it events are dropped,
    // the least important first and of those the oldest (see Rank), but never
    // the one being sent. A usual event counts
    // some 450 bytes, so this holds about 9000, of exec probes every ten
    // seconds more than eight hours; the reference keeps 2048 for 15 s.
    size_t max_bytes = size_t{4} << 20;
    absl::Duration call_timeout = absl::Seconds(5);
    // Between attempts: doubled after each failure, from the first to the last.
    absl::Duration first_pause = absl::Milliseconds(100);
    absl::Duration last_pause = absl::Seconds(2);
  };
  static constexpr size_t kEventOverhead = 128;

  // Worth a log line: an event was dropped that containerd calls malformed or
  // that is too long to send; events begin to be dropped for lack of room;
  // an event cannot be delivered for now. The latter two are told once, until
  // the queue has been empty and until one is delivered, respectively.
  using OnTrouble = absl::AnyInvocable<void(const absl::Status& trouble)>;

  // `loop` must outlive the publisher. `on_trouble` may be null, and may not
  // destroy it.
  EventPublisher(EventLoop& loop, Options options, OnTrouble on_trouble);
  EventPublisher(const EventPublisher&) = delete;
  EventPublisher& operator=(const EventPublisher&) = delete;

  // Calls `on_empty` whenever the last event that waited is delivered. It may
  // not destroy the publisher.
  void SetOnEmpty(absl::AnyInvocable<void()> on_empty) {
    on_empty_ = std::move(on_empty);
  }

  // Queues `event`, a message of containerd.events, under `topic`:
  // "/tasks/exit". Its envelope has the time of this call, which is when it
  // happened; with that of a delivery after an outage subscribers would take it
  // for news. A TaskOOM of a container for which one waits already is left out.
  void Publish(std::string_view topic,
               const google::protobuf::MessageLite& event);

  // Events not known to be delivered.
  size_t pending() const;
  size_t pending_bytes() const { return bytes_; }
  // Their topics, first to last. For the log and the debug dump.
  std::vector<std::string> PendingTopics() const;
  // Events lost so far, for whatever reason; those left out are not.
  uint64_t dropped() const { return dropped_; }

  // True if containerd answered the last attempt, be it with an error.
  bool answering() const { return answering_; }

  // Calls `done` once nothing is pending; or, with kDeadlineExceeded, when
  // containerd answers and `limit_if_up` has passed since it began to or since
  // this call, or when `limit_if_down` has passed since this call. Events go on
  // being sent, and may still be published, until the publisher is destroyed.
  // Never calls `done` from inside this; `done` may not destroy the publisher.
  // Only one at a time.
  void Drain(absl::Duration limit_if_up, absl::Duration limit_if_down,
             DoneStatus done);

 private:
  // What may be dropped to keep what comes below it.
  enum Rank {
    kMinor,     // exec-added, exec-started, paused, resumed
    kBirth,     // create, start: who waits for these learns it from the call
    kOom,       // the reason of a death
    kExecExit,  // somebody waits for it
    kInitExit,  // init's exit, and delete
    kRankCount,
  };
  struct Event {
    uint64_t number = 0;  // in order of publishing
    // Of a TaskOOM: its container, until that is deleted.
    std::optional<std::string> oom_of;
    std::pmr::string request;  // a serialized ForwardRequest

    size_t bytes() const { return kEventOverhead + request.size(); }
    std::string topic() const;
  };
  // An empty one has no memory, which a deque has.
  using Queue = std::pmr::list<Event>;

  static Rank RankOf(const google::protobuf::MessageLite& event,
                     std::string_view type);
  void MakeRoom();
  void SendNext();
  void SendHead();
  void OnReply(absl::Status status);
  void SetAnswering(bool answering);
  void Trouble(const absl::Status& status);
  void SetUpLimit();
  void GiveUpDraining();
  void FinishDrain(absl::Status status);

  EventLoop& loop_;
  const Options options_;
  OnTrouble on_trouble_;
  absl::AnyInvocable<void()> on_empty_;
  // Of all that waits. Thousands of events amid what else is allocated in the
  // meantime would leave a heap of which little can be given back.
  std::pmr::unsynchronized_pool_resource memory_;
  // The event being sent, and those behind it: one queue per rank, merged by
  // number, so that making room takes from the front of one.
  std::optional<Event> head_;
  std::array<Queue, kRankCount> queues_;
  size_t bytes_ = 0;
  uint64_t next_number_ = 0;
  uint64_t dropped_ = 0;
  bool overflowing_ = false;
  bool answering_ = false;
  bool told_failing_ = false;
  absl::Duration pause_;  // the last one; zero after a success
  EventLoop::TimerHandle retry_;
  DoneStatus drained_;
  absl::Duration limit_if_up_;
  EventLoop::TimerHandle up_limit_;
  EventLoop::TimerHandle down_limit_;
  EventLoop::TimerHandle if_empty_;
  TtrpcClient client_;  // last: its completions use the rest
};

}  // namespace wisp

#endif  // WISP_SHIM_EVENT_PUBLISHER_H_
