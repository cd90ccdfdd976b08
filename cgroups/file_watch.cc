#include "cgroups/file_watch.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <utility>

#include "fmt/format.h"

namespace wisp {

absl::StatusOr<FileWatch> FileWatch::Create(
    EventLoop& loop, int fd, const std::string& path,
    absl::AnyInvocable<void()> on_change) {
  FileWatch result;
  // Which of the two it will be is asked of epoll itself.
  UniqueFd probe(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {};
  event.events = EPOLLPRI;
  if (probe.valid() && epoll_ctl(probe.get(), EPOLL_CTL_ADD, fd, &event) == 0) {
    ASSIGN_OR_RETURN(result.watch_,
                     loop.Watch(fd, EPOLLPRI,
                                [on_change = std::move(on_change)](
                                    uint32_t) mutable { on_change(); }));
    return result;
  }
  result.inotify_ = UniqueFd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!result.inotify_.valid() ||
      inotify_add_watch(result.inotify_.get(), path.c_str(), IN_MODIFY) < 0) {
    return ErrnoStatus(errno, fmt::format("watch {}", path));
  }
  const int inotify = result.inotify_.get();
  ASSIGN_OR_RETURN(
      result.watch_,
      loop.Watch(inotify, EPOLLIN,
                 [inotify, on_change = std::move(on_change)](uint32_t) mutable {
                   char events[4096];
                   while (read(inotify, events, sizeof(events)) > 0) {
                   }
                   on_change();
                 }));
  return result;
}

void FileWatch::Reset() {
  watch_.Reset();
  inotify_.Reset();
}

}  // namespace wisp
