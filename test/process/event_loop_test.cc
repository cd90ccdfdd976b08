#include "process/event_loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "process/fd.h"
#include "test/process/testing.h"

namespace wisp {
namespace {

using ::testing::ElementsAre;

class EventLoopTest : public testing::Test {
 protected:
  UniqueFd ReadyFd() {
    UniqueFd fd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    WISP_CHECK(fd.valid());
    return fd;
  }
  EventLoop::WatchHandle Watch(
      int fd, EventLoop::OnReady on_ready,
      EventLoop::Priority priority = EventLoop::Priority::kNormal) {
    absl::StatusOr<EventLoop::WatchHandle> watch =
        loop_->Watch(fd, EPOLLIN, std::move(on_ready), priority);
    WISP_CHECK(watch.ok());
    return *std::move(watch);
  }

  const std::unique_ptr<EventLoop> loop_ = MakeLoop();
};

TEST_F(EventLoopTest, CallsAgainAsLongAsTheFdIsReady) {
  const UniqueFd fd = ReadyFd();
  int calls = 0;
  const EventLoop::WatchHandle watch =
      Watch(fd.get(), [&calls](uint32_t events) {
        EXPECT_EQ(events, uint32_t{EPOLLIN});
        ++calls;
      });
  loop_->RunOnce(absl::Seconds(10));
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(calls, 2);
}

TEST_F(EventLoopTest, AHandlerMayRemoveItself) {
  const UniqueFd fd = ReadyFd();
  // Captured by the handler: must live until it returns, and then go.
  auto captured = std::make_shared<std::string>("still here");
  std::weak_ptr<std::string> observer = captured;
  int calls = 0;
  EventLoop::WatchHandle watch;
  watch = Watch(fd.get(), [&watch, &calls, captured](uint32_t) {
    watch.Reset();
    EXPECT_EQ(*captured, "still here");
    ++calls;
  });
  captured.reset();
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_TRUE(observer.expired());
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, AHandlerMayRemoveAnotherThatHasAnEventInTheSameTurn) {
  const UniqueFd first = ReadyFd();
  const UniqueFd second = ReadyFd();
  int calls = 0;
  EventLoop::WatchHandle watches[2];
  const auto remove_both = [&watches, &calls](uint32_t) {
    ++calls;
    watches[0].Reset();
    watches[1].Reset();
  };
  watches[0] = Watch(first.get(), remove_both);
  watches[1] = Watch(second.get(), remove_both);
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, AnEventIsNotGivenToASuccessorInTheSamePlace) {
  const UniqueFd fds[2] = {ReadyFd(), ReadyFd()};
  const UniqueFd quiet[2] = {UniqueFd(eventfd(0, EFD_CLOEXEC)),
                             UniqueFd(eventfd(0, EFD_CLOEXEC))};
  EventLoop::WatchHandle watches[2];
  EventLoop::WatchHandle successors[2];
  int quiet_calls = 0;
  const auto replace_both = [&](uint32_t) {
    for (int i = 0; i < 2; ++i) {
      watches[i].Reset();
      successors[i] =
          Watch(quiet[i].get(), [&quiet_calls](uint32_t) { ++quiet_calls; });
    }
  };
  watches[0] = Watch(fds[0].get(), replace_both);
  watches[1] = Watch(fds[1].get(), replace_both);
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(quiet_calls, 0);
}

TEST_F(EventLoopTest, AHandlerMayAddManyWatches) {
  const UniqueFd fd = ReadyFd();
  std::vector<UniqueFd> fds;
  std::vector<EventLoop::WatchHandle> watches;
  int calls = 0;
  EventLoop::WatchHandle watch;
  watch = Watch(fd.get(), [&](uint32_t) {
    for (int i = 0; i < 200; ++i) {  // moves the table the handler came from
      fds.push_back(ReadyFd());
      watches.push_back(Watch(fds.back().get(), [&, i](uint32_t) {
        ++calls;
        watches[i].Reset();
      }));
    }
    watch.Reset();
  });
  EXPECT_TRUE(RunUntil(*loop_, [&calls] { return calls == 200; }));
}

TEST_F(EventLoopTest, ExitsComeBeforeTheRest) {
  const UniqueFd request = ReadyFd();
  const UniqueFd exit = ReadyFd();
  std::vector<std::string> order;
  const EventLoop::WatchHandle first =
      Watch(request.get(), [&order](uint32_t) { order.push_back("request"); });
  const EventLoop::WatchHandle second = Watch(
      exit.get(), [&order](uint32_t) { order.push_back("exit"); },
      EventLoop::Priority::kExits);
  const EventLoop::TimerHandle timer = loop_->After(
      absl::ZeroDuration(), [&order] { order.push_back("timer"); });
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_THAT(order, ElementsAre("exit", "timer", "request"));
}

TEST_F(EventLoopTest, SetEventsChangesWhatIsWaitedFor) {
  const UniqueFd fd = ReadyFd();
  uint32_t seen = 0;
  EventLoop::WatchHandle watch =
      Watch(fd.get(), [&seen](uint32_t events) { seen = events; });
  watch.SetEvents(0);
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(seen, 0U);
  watch.SetEvents(EPOLLOUT);
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(seen, uint32_t{EPOLLOUT});
}

TEST_F(EventLoopTest, RefusesWhatEpollRefuses) {
  TemporaryDirectory directory;
  const absl::StatusOr<UniqueFd> file =
      OpenFd(directory / "file", O_RDWR | O_CREAT, 0600);
  ASSERT_TRUE(file.ok());
  const auto watch = loop_->Watch(file->get(), EPOLLIN, [](uint32_t) {});
  EXPECT_EQ(watch.status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(EventLoopTest, TimersRunInTheOrderOfTheirTimes) {
  std::vector<int> order;
  const auto later =
      loop_->After(absl::Milliseconds(20), [&order] { order.push_back(3); });
  const auto sooner =
      loop_->After(absl::Milliseconds(5), [&order] { order.push_back(2); });
  const auto now =
      loop_->After(absl::ZeroDuration(), [&order] { order.push_back(1); });
  EXPECT_TRUE(later.active());
  ASSERT_TRUE(RunUntil(*loop_, [&order] { return order.size() == 3; }));
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
  EXPECT_FALSE(later.active());
}

TEST_F(EventLoopTest, ATimerIsNotEarly) {
  const absl::Time start = absl::Now();
  bool ran = false;
  const auto timer =
      loop_->After(absl::Milliseconds(30), [&ran] { ran = true; });
  ASSERT_TRUE(RunUntil(*loop_, [&ran] { return ran; }));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(29));
}

TEST_F(EventLoopTest, ATimerMayStopAnotherThatIsDueInTheSameTurn) {
  int calls = 0;
  EventLoop::TimerHandle second;
  const auto first = loop_->After(absl::ZeroDuration(), [&second, &calls] {
    second.Reset();
    ++calls;
  });
  second = loop_->After(absl::ZeroDuration(), [&calls] { ++calls; });
  loop_->RunOnce(absl::Seconds(10));
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, ATimerThatStartsItselfAnewDoesNotStarveTheFds) {
  const UniqueFd fd = ReadyFd();
  int reads = 0;
  const auto watch = Watch(fd.get(), [&reads](uint32_t) { ++reads; });
  int ticks = 0;
  EventLoop::TimerHandle timer;
  struct Tick {
    EventLoop* loop;
    EventLoop::TimerHandle* timer;
    int* ticks;
    void operator()() {
      ++*ticks;
      *timer = loop->After(absl::ZeroDuration(), *this);
    }
  };
  timer = loop_->After(absl::ZeroDuration(), Tick{loop_.get(), &timer, &ticks});
  for (int i = 0; i < 3; ++i) loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(reads, 3);
  EXPECT_GE(ticks, 2);
  timer.Reset();
}

TEST_F(EventLoopTest, AnOldHandleDoesNotStopANewTimer) {
  bool ran = false;
  auto old = loop_->After(absl::ZeroDuration(), [] {});
  loop_->RunOnce(absl::ZeroDuration());
  const auto timer = loop_->After(absl::ZeroDuration(), [&ran] { ran = true; });
  old.Reset();
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_TRUE(ran);
}

TEST_F(EventLoopTest, RunEndsAfterTheTurnThatCalledStop) {
  const UniqueFd fds[2] = {ReadyFd(), ReadyFd()};
  int calls = 0;
  const auto stop = [this, &calls](uint32_t) {
    ++calls;
    loop_->Stop();
  };
  const auto first = Watch(fds[0].get(), stop);
  const auto second = Watch(fds[1].get(), stop);
  loop_->Run();
  EXPECT_EQ(calls, 2);
}

TEST_F(EventLoopTest, RunsWhatAnotherThreadPosts) {
  pthread_t thread;
  bool ran = false;
  struct Argument {
    EventLoop* loop;
    bool* ran;
  } argument = {loop_.get(), &ran};
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* raw) -> void* {
                  auto* const arg = static_cast<Argument*>(raw);
                  arg->loop->Post([ran = arg->ran, loop = arg->loop] {
                    *ran = true;
                    loop->Stop();
                  });
                  return nullptr;
                },
                &argument),
            0);
  loop_->Run();
  EXPECT_TRUE(ran);
  pthread_join(thread, nullptr);
}

TEST_F(EventLoopTest, WhatAPostedTaskPostsRunsInALaterTurn) {
  int calls = 0;
  loop_->Post([this, &calls] {
    ++calls;
    loop_->Post([&calls] { ++calls; });
  });
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(calls, 1);
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(calls, 2);
}

TEST_F(EventLoopTest, OffloadHandsBackTheResultOnTheLoop) {
  const pthread_t self = pthread_self();
  std::optional<std::string> result;
  loop_->Offload(
      [self] {
        return std::string(pthread_equal(self, pthread_self()) ? "same"
                                                               : "other");
      },
      [self, &result](std::string value) {
        EXPECT_TRUE(pthread_equal(self, pthread_self()));
        result = std::move(value);
      });
  ASSERT_TRUE(RunUntil(*loop_, [&result] { return result.has_value(); }));
  EXPECT_EQ(*result, "other");
  EXPECT_EQ(loop_->threads(), 0);
}

TEST_F(EventLoopTest, OffloadsAtMostSoManyAtOnceAndTheRestLater) {
  constexpr int kJobs = EventLoop::kMaxThreads + 5;
  const absl::StatusOr<Pipe> gate = MakePipe();
  ASSERT_TRUE(gate.ok());
  std::atomic<int> started = 0;
  int finished = 0;
  for (int i = 0; i < kJobs; ++i) {
    loop_->Offload(
        [&started, fd = gate->read_end.get()] {
          ++started;
          char byte;
          return read(fd, &byte, 1) == 1;
        },
        [&finished](bool ok) { finished += ok ? 1 : 0; });
  }
  EXPECT_EQ(loop_->threads(), EventLoop::kMaxThreads);
  ASSERT_TRUE(RunUntil(
      *loop_, [&started] { return started == EventLoop::kMaxThreads; }));
  loop_->RunOnce(absl::ZeroDuration());
  EXPECT_EQ(started, EventLoop::kMaxThreads);
  ASSERT_TRUE(WriteAll(gate->write_end.get(), std::string(kJobs, 'x')).ok());
  EXPECT_TRUE(RunUntil(*loop_, [&finished] { return finished == kJobs; }));
  EXPECT_EQ(loop_->threads(), 0);
}

TEST_F(EventLoopTest, ALoopMayGoBeforeItsThreads) {
  const absl::StatusOr<Pipe> gate = MakePipe();
  absl::StatusOr<Pipe> end = MakePipe();
  ASSERT_TRUE(gate.ok() && end.ok());
  bool told = false;
  {
    const std::unique_ptr<EventLoop> loop = MakeLoop();
    loop->Offload(
        [fd = gate->read_end.get()] {
          char byte;
          return read(fd, &byte, 1);
        },
        // The fd goes with the callback: the sign that the thread is through.
        [&told, sign = std::move(end->write_end)](ssize_t) { told = true; });
  }
  ASSERT_TRUE(WriteAll(gate->write_end.get(), "x").ok());
  char byte;
  EXPECT_EQ(read(end->read_end.get(), &byte, 1), 0);
  EXPECT_FALSE(told);
}

TEST_F(EventLoopTest, TellsSignals) {
  std::vector<int> seen;
  const auto watch = loop_->WatchSignals(
      {SIGUSR1, SIGUSR2}, [&seen](int signal) { seen.push_back(signal); });
  ASSERT_TRUE(watch.ok());
  raise(SIGUSR2);
  raise(SIGUSR1);
  ASSERT_TRUE(RunUntil(*loop_, [&seen] { return seen.size() == 2; }));
  EXPECT_THAT(seen, testing::UnorderedElementsAre(SIGUSR1, SIGUSR2));
}

TEST_F(EventLoopTest, ASignalHandlerMayEndItsWatch) {
  int calls = 0;
  EventLoop::WatchHandle watch;
  auto made = loop_->WatchSignals({SIGUSR1, SIGUSR2}, [&watch, &calls](int) {
    ++calls;
    watch.Reset();
  });
  ASSERT_TRUE(made.ok());
  watch = *std::move(made);
  raise(SIGUSR1);
  raise(SIGUSR2);
  loop_->RunOnce(absl::Seconds(10));
  EXPECT_EQ(calls, 1);
  // The other one is still pending; taken away lest it meets the next test.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  const timespec none = {};
  EXPECT_GT(sigtimedwait(&set, nullptr, &none), 0);
}

TEST_F(EventLoopTest, LeavesNoFdBehind) {
  const auto before = OpenFds();
  {
    const std::unique_ptr<EventLoop> loop = MakeLoop();
    const auto signals = loop->WatchSignals({SIGUSR1}, [](int) {});
    ASSERT_TRUE(signals.ok());
    loop->RunOnce(absl::ZeroDuration());
  }
  EXPECT_EQ(OpenFds(), before);
}

}  // namespace
}  // namespace wisp
