// What happens in grpc++, brought to the loop.
#ifndef WISP_SHIM_GRPC_COMPLETIONS_H_
#define WISP_SHIM_GRPC_COMPLETIONS_H_

#include <grpcpp/completion_queue.h>
#include <pthread.h>

#include <memory>
#include <mutex>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

// Waits for a completion queue in a thread of its own, which also does most of
// grpc++'s work on sockets, and hands over what comes out of it in its order.
// It comes as late in a turn of the loop as what comes from sockets of our own,
// not first as EventLoop::Post() would have it: exits go before requests.
class Completions {
 public:
  // What to do when an operation of grpc++ is done; its address is the tag. It
  // must live until it has run, or the completions have ended.
  using Tag = absl::AnyInvocable<void(bool ok)>;

  // `loop` must outlive the object.
  static absl::StatusOr<std::unique_ptr<Completions>> Create(
      EventLoop& loop, std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // Blocks until the queue has given back every tag; none of those runs. Its
  // server, if there is one, must have been shut down.
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  grpc::ServerCompletionQueue* queue() { return queue_.get(); }

 private:
  struct Done {
    Tag* tag;
    bool ok;
  };

  explicit Completions(std::unique_ptr<grpc::ServerCompletionQueue> queue);
  void Wait();
  void RunDone();

  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::mutex mutex_;
  std::vector<Done> done_;  // guarded by mutex_
  UniqueFd event_;          // readable while there is something in it
  EventLoop::WatchHandle watch_;
  pthread_t thread_ = {};
  bool started_ = false;
};

}  // namespace wisp

#endif  // WISP_SHIM_GRPC_COMPLETIONS_H_
