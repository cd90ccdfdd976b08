#include "process/reaper.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "fmt/format.h"

namespace wisp {
namespace {

ExitStatus ToExitStatus(const siginfo_t& info) {
  ExitStatus status;
  status.at = absl::Now();
  if (info.si_code == CLD_EXITED) {
    status.code = static_cast<uint32_t>(info.si_status);
  } else {
    status.signal = info.si_status;
    status.code = 128 + static_cast<uint32_t>(info.si_status);
    status.core_dumped = info.si_code == CLD_DUMPED;
  }
  return status;
}

// Looks without reaping. False if it lives or is none of ours.
bool IsZombie(idtype_t type, id_t id, siginfo_t* info) {
  *info = {};
  return waitid(type, id, info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info->si_pid != 0;
}

}  // namespace

Reaper::Child& Reaper::Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    Reset();
    reaper_ = std::exchange(other.reaper_, nullptr);
    pid_ = other.pid_;
    id_ = other.id_;
  }
  return *this;
}

const Pidfd* Reaper::Child::pidfd() const {
  if (reaper_ == nullptr) return nullptr;
  const auto known = reaper_->known_.find(id_);
  return known == reaper_->known_.end() ? nullptr : &known->second.pidfd;
}

void Reaper::Child::Reset() {
  if (reaper_ != nullptr) std::exchange(reaper_, nullptr)->Forget(id_);
}

Reaper::SweepGuard& Reaper::SweepGuard::operator=(SweepGuard&& other) noexcept {
  if (this != &other) {
    Reset();
    reaper_ = std::exchange(other.reaper_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void Reaper::SweepGuard::Reset() {
  if (reaper_ != nullptr) std::exchange(reaper_, nullptr)->CloseGuard(id_);
}

absl::StatusOr<std::unique_ptr<Reaper>> Reaper::Create(EventLoop& loop) {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    return ErrnoStatus(errno, "become subreaper");
  }
  // Ignored, as it may come to us through execve, it would make the kernel
  // throw the statuses away.
  signal(SIGCHLD, SIG_DFL);
  std::unique_ptr<Reaper> reaper(new Reaper(loop));
  Reaper* self = reaper.get();
  ASSIGN_OR_RETURN(reaper->signals_,
                   loop.WatchSignals(
                       {SIGCHLD}, [self](int) { self->Sweep(); },
                       EventLoop::Priority::kExits));
  reaper->SweepSoon();  // for what ended before SIGCHLD was ours
  return reaper;
}

Reaper::~Reaper() {
  // One by one: what a callback captured may hold the handle of its own child.
  while (!known_.empty()) {
    id_of_pid_.erase(known_.begin()->second.pidfd.pid());
    auto node = known_.extract(known_.begin());
  }
}

Reaper::SweepGuard Reaper::GuardNewChildren() {
  guards_.insert(next_guard_);
  return SweepGuard(this, next_guard_++);
}

void Reaper::CloseGuard(uint64_t id) {
  guards_.erase(id);
  if (!held_.empty()) SweepSoon();
}

void Reaper::SweepSoon() {
  resweep_ = loop_.After(absl::ZeroDuration(), [this] { Sweep(); });
}

absl::StatusOr<Reaper::Child> Reaper::Own(Pidfd child, OnExit on_exit) {
  const pid_t pid = child.pid();
  const uint64_t id = next_id_++;
  ASSIGN_OR_RETURN(EventLoop::WatchHandle watch,
                   loop_.Watch(
                       child.fd(), EPOLLIN, [this, id](uint32_t) { Reap(id); },
                       EventLoop::Priority::kExits));
  held_.erase(pid);
  id_of_pid_[pid] = id;
  known_.emplace(id,
                 Known{std::move(child), std::move(on_exit), std::move(watch)});
  return Child(this, pid, id);
}

absl::StatusOr<Reaper::Child> Reaper::Adopt(pid_t pid, OnExit on_exit) {
  ASSIGN_OR_RETURN(Pidfd pidfd, Pidfd::Open(pid));
  siginfo_t info = {};
  // Fails with ECHILD for what is not ours, without waiting for what is.
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd.fd()), &info,
             WEXITED | WNOHANG | WNOWAIT) != 0) {
    return absl::NotFoundError(
        fmt::format("pid {}: {}", pid, ErrnoText(errno)));
  }
  if (id_of_pid_.contains(pid)) {
    return absl::AlreadyExistsError(fmt::format("pid {} has an owner", pid));
  }
  return Own(std::move(pidfd), std::move(on_exit));
}

void Reaper::Reap(uint64_t id) {
  const auto known = known_.find(id);
  siginfo_t info = {};
  if (waitid(P_PIDFD, static_cast<id_t>(known->second.pidfd.fd()), &info,
             WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0) {
    return;
  }
  // Out of the tables first: the owner may let go of its handle in the
  // callback.
  auto node = known_.extract(known);
  Known& dying = node.mapped();
  id_of_pid_.erase(dying.pidfd.pid());
  dying.watch.Reset();
  std::move(dying.on_exit)(ToExitStatus(info));
}

void Reaper::Forget(uint64_t id) {
  const auto known = known_.find(id);
  if (known == known_.end()) return;
  id_of_pid_.erase(known->second.pidfd.pid());
  auto node = known_.extract(known);
  SweepSoon();  // it may be dead already, and its SIGCHLD past
}

void Reaper::Sweep() {
  siginfo_t info;
  while (IsZombie(P_ALL, 0, &info)) {
    const pid_t pid = info.si_pid;
    if (const auto known = id_of_pid_.find(pid); known != id_of_pid_.end()) {
      Reap(known->second);
    } else if (MayReapStranger(pid)) {
      waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
      held_.erase(pid);
      ++strangers_reaped_;
    } else {
      // The kernel would show us this one again and again.
      SweepBehindHeld();
      return;
    }
  }
}

bool Reaper::MayReapStranger(pid_t pid) {
  if (guards_.empty()) return true;
  const auto seen = held_.try_emplace(pid, next_guard_).first;
  return *guards_.begin() >= seen->second;
}

void Reaper::SweepBehindHeld() {
  // Needs CONFIG_PROC_CHILDREN; without it they wait until the first one goes.
  const absl::StatusOr<std::string> children =
      ReadFile("/proc/thread-self/children");
  if (!children.ok()) return;
  for (absl::string_view text :
       absl::StrSplit(*children, ' ', absl::SkipEmpty())) {
    int pid = 0;
    siginfo_t info;
    if (!absl::SimpleAtoi(text, &pid) || id_of_pid_.contains(pid) ||
        !IsZombie(P_PID, static_cast<id_t>(pid), &info) ||
        !MayReapStranger(pid)) {
      continue;
    }
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
    held_.erase(pid);
    ++strangers_reaped_;
  }
}

}  // namespace wisp
