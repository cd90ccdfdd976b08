#include "cgroups/oom_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "absl/time/clock.h"
#include "cgroups/files.h"
#include "cgroups/parse.h"
#include "cgroups/walk.h"
#include "fmt/format.h"

namespace wisp {
namespace {

constexpr absl::Duration kQuiet = absl::Seconds(1);
constexpr absl::Duration kFirstRecheck = absl::Milliseconds(5);
constexpr absl::Duration kLastRecheck = absl::Seconds(2);

const char* CounterFile(CgroupMode mode) {
  return mode == CgroupMode::kV2 ? cgroup_files::kMemoryEvents
                                 : cgroup_files::kMemoryOomControl;
}

uint64_t OomKills(std::string_view text) {
  const absl::StatusOr<KeyValues> values = ParseKeyValues(text);
  if (!values.ok()) return 0;
  for (const auto& [key, value] : *values) {
    if (key == "oom_kill") return value;
  }
  return 0;
}

std::string ParentOf(const std::string& directory) {
  return directory.substr(0, directory.rfind('/'));
}

}  // namespace

OomWatch::OomWatch(EventLoop& loop, const Cgroup& cgroup, OnOom on_oom)
    : loop_(loop),
      mode_(cgroup.mode()),
      directory_(cgroup.directory("memory")),
      on_oom_(std::move(on_oom)) {}

absl::StatusOr<std::unique_ptr<OomWatch>> OomWatch::Create(EventLoop& loop,
                                                           const Cgroup& cgroup,
                                                           OnOom on_oom) {
  if (cgroup.directory("memory").empty()) {
    return absl::NotFoundError("no memory cgroup");
  }
  std::unique_ptr<OomWatch> watch(
      new OomWatch(loop, cgroup, std::move(on_oom)));
  RETURN_IF_ERROR(watch->Open());
  return watch;
}

absl::Status OomWatch::Open() {
  const std::string path = fmt::format("{}/{}", directory_, CounterFile(mode_));
  ASSIGN_OR_RETURN(counter_, OpenFd(path, O_RDONLY));
  if (mode_ == CgroupMode::kV1) {
    RETURN_IF_ERROR(WatchV1());
  } else {
    ASSIGN_OR_RETURN(file_watch_, FileWatch::Create(loop_, counter_.get(), path,
                                                    [this] { OnChange(); }));
  }
  // Read after the watch is set up, so that nothing falls between.
  if (!ReadCounter(last_total_)) {
    return ErrnoStatus(ENOENT, fmt::format("read {}", path));
  }
  last_parent_ = ParentCounter();
  return absl::OkStatus();
}

absl::Status OomWatch::WatchV1() {
  event_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd_.valid()) return ErrnoStatus(errno, "eventfd");
  RETURN_IF_ERROR(WriteCgroupFile(
      fmt::format("{}/{}", directory_, cgroup_files::kEventControl),
      fmt::format("{} {}", event_fd_.get(), counter_.get())));
  ASSIGN_OR_RETURN(event_watch_,
                   loop_.Watch(event_fd_.get(), EPOLLIN, [this](uint32_t) {
                     uint64_t count;
                     (void)!read(event_fd_.get(), &count, sizeof(count));
                     recheck_after_ = kFirstRecheck;
                     OnChange();
                   }));
  return absl::OkStatus();
}

bool OomWatch::ReadCounter(uint64_t& total) const {
  const absl::StatusOr<std::string> own =
      ReadCgroupFd(counter_.get(), directory_);
  if (!own.ok()) return false;
  total = OomKills(*own);
  if (mode_ == CgroupMode::kV2) return true;  // hierarchical by itself
  ForEachCgroup(directory_, [&](const std::string& at) {
    if (at == directory_) return;
    total +=
        OomKills(ReadCgroupFile(fmt::format("{}/{}", at, CounterFile(mode_)))
                     .value_or(""));
  });
  return true;
}

uint64_t OomWatch::ParentCounter() const {
  // In v1 a parent knows nothing of its children's kills.
  if (mode_ == CgroupMode::kV1) return 0;
  return OomKills(ReadCgroupFile(fmt::format("{}/{}", ParentOf(directory_),
                                             CounterFile(mode_)))
                      .value_or(""));
}

void OomWatch::Update() {
  uint64_t total = 0;
  if (gone_) return;
  if (!ReadCounter(total)) {
    // ENODEV: removed, which v1 signals like an OOM, and which leaves a v2 file
    // ready for ever.
    gone_ = true;
    file_watch_.Reset();
    event_watch_.Reset();
    timer_.Reset();
    return;
  }
  // In v1 it also falls, when a cgroup below goes with its count.
  if (total > last_total_) {
    kills_ += total - last_total_;
    unreported_ = true;
  }
  last_total_ = total;
}

void OomWatch::OnChange() {
  Update();
  if (unreported_) {
    const absl::Duration wait = quiet_until_ - absl::Now();
    if (wait <= absl::ZeroDuration() || gone_) return Report();
    timer_ = loop_.After(wait, [this] {
      Update();
      Report();
    });
    return;
  }
  // v1 notifies before it chooses a victim, so the kill is still to come; or
  // there is none, for all it was an ancestor's limit. Look again a few times.
  if (mode_ == CgroupMode::kV1 && !gone_) Recheck();
}

void OomWatch::Recheck() {
  if (recheck_after_ > kLastRecheck) return;
  timer_ = loop_.After(recheck_after_, [this] {
    recheck_after_ *= 4;
    OnChange();
  });
}

void OomWatch::Report() {
  timer_.Reset();
  unreported_ = false;
  quiet_until_ = absl::Now() + kQuiet;
  on_oom_();
}

OomWatch::Final OomWatch::FinalCheck() {
  Update();
  if (std::exchange(unreported_, false)) {
    timer_.Reset();
    quiet_until_ = absl::Now() + kQuiet;
    return Final::kOom;
  }
  if (!gone_) return Final::kNone;
  const uint64_t parent = std::exchange(last_parent_, ParentCounter());
  // What the parent had counted when ours was last reported is not known: any
  // kill of ours that was seen explains its growth.
  return kills_ == 0 && last_parent_ > parent ? Final::kParentOnly
                                              : Final::kNone;
}

std::string OomWatch::Describe() const {
  const bool v2 = mode_ == CgroupMode::kV2;
  const char* limit =
      v2 ? cgroup_files::kMemoryMax : cgroup_files::kMemoryLimit;
  const char* failures =
      v2 ? cgroup_files::kMemoryEvents : cgroup_files::kMemoryFailcnt;
  std::string text = fmt::format("oom_kill={}", kills_);
  for (const auto& [name, at] :
       {std::pair<const char*, std::string>{"", directory_},
        std::pair<const char*, std::string>{"parent ", ParentOf(directory_)}}) {
    for (const char* file : {limit, failures}) {
      std::string value =
          ReadCgroupFile(fmt::format("{}/{}", at, file)).value_or("?");
      while (value.ends_with('\n')) value.pop_back();
      for (char& c : value) {
        if (c == '\n') c = ',';
      }
      text += fmt::format(", {}{}={}", name, file, value);
    }
  }
  return text;
}

}  // namespace wisp
