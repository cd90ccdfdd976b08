#include "shim/grpc/completions.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace wisp {

absl::StatusOr<std::unique_ptr<Completions>> Completions::Create(
    EventLoop& loop, std::unique_ptr<grpc::ServerCompletionQueue> queue) {
  std::unique_ptr<Completions> self(new Completions(std::move(queue)));
  self->event_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!self->event_.valid()) return ErrnoStatus(errno, "eventfd");
  ASSIGN_OR_RETURN(self->watch_, loop.Watch(self->event_.get(), EPOLLIN,
                                            [raw = self.get()](uint32_t) {
                                              raw->RunDone();
                                            }));
  const int error = pthread_create(
      &self->thread_, nullptr,
      [](void* argument) -> void* {
        static_cast<Completions*>(argument)->Wait();
        return nullptr;
      },
      self.get());
  if (error != 0) return ErrnoStatus(error, "thread for gRPC");
  self->started_ = true;
  return self;
}

Completions::Completions(std::unique_ptr<grpc::ServerCompletionQueue> queue)
    : queue_(std::move(queue)) {}

Completions::~Completions() {
  watch_.Reset();
  queue_->Shutdown();
  if (started_) {
    pthread_join(thread_, nullptr);
  } else {
    Wait();
  }
}

void Completions::Wait() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
    bool first;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      first = done_.empty();
      done_.push_back({static_cast<Tag*>(tag), ok});
    }
    // Never full: the loop reads it before it takes what is there.
    const uint64_t one = 1;
    if (first) (void)!write(event_.get(), &one, sizeof(one));
  }
}

void Completions::RunDone() {
  uint64_t count;
  (void)!read(event_.get(), &count, sizeof(count));
  std::vector<Done> done;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    done.swap(done_);
  }
  for (const Done& each : done) (*each.tag)(each.ok);
}

}  // namespace wisp
