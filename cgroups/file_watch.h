// Tells when the kernel changes a cgroup file.
#ifndef WISP_CGROUPS_FILE_WATCH_H_
#define WISP_CGROUPS_FILE_WATCH_H_

#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "process/event_loop.h"
#include "process/fd.h"
#include "process/status_macros.h"

namespace wisp {

// Kernfs raises EPOLLPRI on an open file whose content has changed since it was
// last read, so the fd that is read anyway is all it takes. Inotify, which
// containerd uses, costs an instance per watch, and a user has 128 of them
// (fs.inotify.max_user_instances), fewer than a node has containers; it serves
// where epoll refuses the file, which is not on kernfs then.
class FileWatch {
 public:
  FileWatch() = default;
  FileWatch(FileWatch&& other) noexcept = default;
  FileWatch& operator=(FileWatch&& other) noexcept {
    if (this == &other) return *this;
    Reset();
    inotify_ = std::move(other.inotify_);
    watch_ = std::move(other.watch_);
    return *this;
  }

  // Calls `on_change` on the loop after each change. `fd`, open for reading at
  // `path`, stays the caller's and outlives the watch; the callback must read
  // it from offset 0, or destroy the watch: an fd whose cgroup is gone stays
  // ready for ever. Read it once before, too.
  static absl::StatusOr<FileWatch> Create(EventLoop& loop, int fd,
                                          const std::string& path,
                                          absl::AnyInvocable<void()> on_change);

  bool active() const { return watch_.active(); }
  void Reset();

 private:
  UniqueFd inotify_;
  EventLoop::WatchHandle watch_;  // after the fd it may watch
};

}  // namespace wisp

#endif  // WISP_CGROUPS_FILE_WATCH_H_
