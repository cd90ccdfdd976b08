#include "process/event_loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <mutex>

namespace wisp {
namespace {

constexpr int kMaxEvents = 128;
constexpr size_t kThreadStack = size_t{256} << 10;

int64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

epoll_event MakeEvent(uint32_t events, uint32_t slot, uint32_t generation) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = (uint64_t{generation} << 32) | slot;
  return event;
}

}  // namespace

struct EventLoop::Mailbox {
  explicit Mailbox(UniqueFd event_fd) : event(std::move(event_fd)) {}

  void Put(Task task) {
    bool first;
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (closed) return;
      first = tasks.empty();
      tasks.push_back(std::move(task));
    }
    const uint64_t one = 1;
    if (first) (void)!write(event.get(), &one, sizeof(one));
  }

  UniqueFd event;
  std::mutex mutex;
  std::vector<Task> tasks;
  bool closed = false;  // the loop is gone
};

EventLoop::WatchHandle& EventLoop::WatchHandle::operator=(
    WatchHandle&& other) noexcept {
  if (this != &other) {
    Reset();
    loop_ = std::exchange(other.loop_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

void EventLoop::WatchHandle::Reset() {
  if (loop_ != nullptr) std::exchange(loop_, nullptr)->Unwatch(slot_);
}

void EventLoop::WatchHandle::SetEvents(uint32_t events) {
  WISP_CHECK(loop_ != nullptr);
  Slot& slot = loop_->slots_[slot_];
  epoll_event event = MakeEvent(events, slot_, slot.generation);
  WISP_CHECK(epoll_ctl(loop_->epoll_.get(), EPOLL_CTL_MOD, slot.fd, &event) ==
             0);
}

EventLoop::TimerHandle& EventLoop::TimerHandle::operator=(
    TimerHandle&& other) noexcept {
  if (this != &other) {
    Reset();
    loop_ = std::exchange(other.loop_, nullptr);
    when_ = other.when_;
    id_ = other.id_;
  }
  return *this;
}

bool EventLoop::TimerHandle::active() const {
  return loop_ != nullptr && loop_->timers_.contains({when_, id_});
}

void EventLoop::TimerHandle::Reset() {
  if (loop_ == nullptr) return;
  // Taken out before it is destroyed: what it captured may own other timers.
  auto node = std::exchange(loop_, nullptr)->timers_.extract({when_, id_});
}

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return ErrnoStatus(errno, "eventfd");
  std::unique_ptr<EventLoop> loop(new EventLoop(
      std::move(epoll), std::make_shared<Mailbox>(std::move(event))));
  EventLoop* self = loop.get();
  ASSIGN_OR_RETURN(
      loop->mailbox_watch_,
      loop->Watch(
          loop->mailbox_->event.get(), EPOLLIN,
          [self](uint32_t) { self->RunPosted(); }, Priority::kExits));
  return loop;
}

EventLoop::EventLoop(UniqueFd epoll, std::shared_ptr<Mailbox> mailbox)
    : epoll_(std::move(epoll)), mailbox_(std::move(mailbox)) {}

EventLoop::~EventLoop() {
  retry_threads_.Reset();
  mailbox_watch_.Reset();
  std::vector<Task> gone;
  std::lock_guard<std::mutex> lock(mailbox_->mutex);
  mailbox_->closed = true;
  gone.swap(mailbox_->tasks);
}

absl::StatusOr<EventLoop::WatchHandle> EventLoop::Watch(int fd, uint32_t events,
                                                        OnReady on_ready,
                                                        Priority priority) {
  uint32_t index;
  if (free_slots_.empty()) {
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = slots_[index];
  epoll_event event = MakeEvent(events, index, slot.generation);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    const int error = errno;
    free_slots_.push_back(index);
    return ErrnoStatus(error, "epoll_ctl");
  }
  slot.fd = fd;
  slot.priority = priority;
  slot.on_ready = std::move(on_ready);
  return WatchHandle(this, index);
}

void EventLoop::Unwatch(uint32_t index) {
  Slot& slot = slots_[index];
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot.fd, nullptr);
  ++slot.generation;  // events of this turn that name the old one are void
  slot.fd = -1;
  free_slots_.push_back(index);
  // Destroyed last and from here: it may own handles and so come back to us.
  OnReady gone = std::move(slot.on_ready);
}

void EventLoop::Dispatch(const epoll_event& event) {
  const uint32_t index = static_cast<uint32_t>(event.data.u64);
  const uint32_t generation = static_cast<uint32_t>(event.data.u64 >> 32);
  if (slots_[index].fd < 0 || slots_[index].generation != generation) return;
  // Called from a local: the callback may end its own watch, or add others and
  // so move the slots.
  OnReady on_ready = std::move(slots_[index].on_ready);
  on_ready(event.events);
  Slot& slot = slots_[index];
  if (slot.fd >= 0 && slot.generation == generation) {
    slot.on_ready = std::move(on_ready);
  }
}

EventLoop::TimerHandle EventLoop::After(absl::Duration delay, Task task) {
  const int64_t wait =
      std::clamp<int64_t>(absl::ToInt64Nanoseconds(delay), 0, int64_t{1} << 60);
  const int64_t when = NowNanos() + wait;
  const uint64_t id = next_timer_id_++;
  timers_.emplace(std::make_pair(when, id), std::move(task));
  return TimerHandle(this, when, id);
}

void EventLoop::RunTimers() {
  if (timers_.empty()) return;
  // Those that are due now; one that a callback adds with no delay waits for
  // the next turn, so that timers cannot starve the fds.
  const std::pair<int64_t, uint64_t> end = {NowNanos(), next_timer_id_};
  while (!timers_.empty() && timers_.begin()->first < end) {
    auto node = timers_.extract(timers_.begin());
    std::move(node.mapped())();
  }
}

absl::StatusOr<EventLoop::WatchHandle> EventLoop::WatchSignals(
    std::initializer_list<int> signals,
    absl::AnyInvocable<void(int signal)> on_signal, Priority priority) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return ErrnoStatus(error, "block signals");
  }
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "signalfd");
  const int raw = fd.get();
  // The callback owns the fd. Unwatch() takes the fd out of epoll before it
  // destroys the callback, so the order is right.
  return Watch(
      raw, EPOLLIN,
      [fd = std::move(fd), on_signal = std::move(on_signal)](uint32_t) mutable {
        // One a turn, since it may end the watch; the fd stays ready for more.
        signalfd_siginfo info;
        if (read(fd.get(), &info, sizeof(info)) == sizeof(info)) {
          on_signal(static_cast<int>(info.ssi_signo));
        }
      },
      priority);
}

void EventLoop::Post(Task task) { mailbox_->Put(std::move(task)); }

void EventLoop::RunPosted() {
  uint64_t count;
  (void)!read(mailbox_->event.get(), &count, sizeof(count));
  std::vector<Task> tasks;
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    tasks.swap(mailbox_->tasks);
  }
  for (Task& task : tasks) std::move(task)();
}

void EventLoop::OffloadTask(Task work, Task done) {
  jobs_.push_back(Job{std::move(work), std::move(done)});
  StartThreads();
}

void EventLoop::StartThreads() {
  // What a thread takes with it. The loop may be gone when it ends, so it posts
  // to the mailbox, whose tasks then never run.
  struct Bag {
    EventLoop* loop;
    std::shared_ptr<Mailbox> mailbox;
    Job job;
  };
  while (!jobs_.empty() && threads_ < kMaxThreads) {
    auto bag =
        std::make_unique<Bag>(Bag{this, mailbox_, std::move(jobs_.front())});
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kThreadStack);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int error = pthread_create(
        &thread, &attributes,
        [](void* argument) -> void* {
          std::unique_ptr<Bag> own(static_cast<Bag*>(argument));
          std::move(own->job.work)();
          std::shared_ptr<Mailbox> mailbox = std::move(own->mailbox);
          mailbox->Put([own = std::move(own)]() mutable {
            --own->loop->threads_;
            own->loop->StartThreads();
            std::move(own->job.done)();
          });
          return nullptr;
        },
        bag.get());
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      // EAGAIN: the cgroup's pids limit. The job keeps its place and is tried
      // again; whoever waits for it has a limit of his own.
      jobs_.front() = std::move(bag->job);
      retry_threads_ =
          After(absl::Milliseconds(50), [this] { StartThreads(); });
      return;
    }
    (void)bag.release();
    jobs_.erase(jobs_.begin());
    ++threads_;
  }
}

int EventLoop::WaitMilliseconds(absl::Duration limit) const {
  int64_t wait = limit == absl::InfiniteDuration()
                     ? INT64_MAX
                     : std::max<int64_t>(0, absl::ToInt64Nanoseconds(limit));
  if (!timers_.empty()) {
    wait =
        std::clamp<int64_t>(timers_.begin()->first.first - NowNanos(), 0, wait);
  }
  if (wait == INT64_MAX) return -1;
  // Rounded up, or a timer would be met a millisecond early and spin.
  return static_cast<int>(
      std::min<int64_t>((wait + 999'999) / 1'000'000, INT_MAX));
}

void EventLoop::RunOnce(absl::Duration limit) {
  epoll_event events[kMaxEvents];
  const int count =
      epoll_wait(epoll_.get(), events, kMaxEvents, WaitMilliseconds(limit));
  WISP_CHECK(count >= 0 || errno == EINTR);
  epoll_event* const end = events + std::max(count, 0);
  epoll_event* const normal =
      std::stable_partition(events, end, [this](const epoll_event& event) {
        return slots_[static_cast<uint32_t>(event.data.u64)].priority ==
               Priority::kExits;
      });
  for (epoll_event* event = events; event != normal; ++event) Dispatch(*event);
  RunTimers();
  for (epoll_event* event = normal; event != end; ++event) Dispatch(*event);
}

void EventLoop::Run() {
  stopped_ = false;
  while (!stopped_) RunOnce(absl::InfiniteDuration());
}

}  // namespace wisp
