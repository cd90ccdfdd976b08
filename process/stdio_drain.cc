// The end of a process's stdio: how long Delete waits for output, and what goes
// on after it.
#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "fmt/format.h"
#include "process/stdio.h"

namespace wisp {

bool Stdio::copies_ended() const {
  return std::all_of(outputs_.begin(), outputs_.end(),
                     [](const auto& output) { return output->ended(); });
}

uint64_t Stdio::moved() const {
  uint64_t sum = 0;
  for (const auto& output : outputs_) sum += output->moved();
  return sum;
}

bool Stdio::finished() const {
  return copies_ended() && (logger_ == nullptr || !logger_->running());
}

void Stdio::SetOnFinished(absl::AnyInvocable<void() &&> on_finished) {
  on_finished_ = std::move(on_finished);
  if (draining_) CheckFinished();
}

void Stdio::Drain(DoneStatus done) {
  if (draining_) {
    // A Delete that is repeated: there is nothing new to wait for.
    loop_.Post([done = std::move(done)]() mutable {
      std::move(done)(absl::OkStatus());
    });
    return;
  }
  draining_ = true;
  drained_ = std::move(done);
  stdin_writer_.Reset();
  stdin_grace_.Reset();
  input_.reset();
  for (const auto& discard : discards_) logger_lost_ += discard->bytes();
  discards_.clear();
  CloseChildEnds();
  stdin_pipe_.Reset();
  if (console_ != nullptr) {
    console_->ProcessExited();
  } else if (logger_ != nullptr) {
    logger_->Close();
  }
  drain_start_ = last_move_ = absl::Now();
  last_moved_ = moved();
  drain_timer_ = loop_.After(absl::ZeroDuration(), [this] { CheckDrain(); });
}

void Stdio::CheckDrain() {
  const absl::Time now = absl::Now();
  if (const uint64_t sum = moved(); sum != last_moved_) {
    last_moved_ = sum;
    last_move_ = now;
  }
  const bool quiet = now - last_move_ >= options_.drain_quiet;
  if (copies_ended() || quiet || now - drain_start_ >= options_.drain_total) {
    StartBackground(quiet);
    return;
  }
  drain_timer_ =
      loop_.After(options_.drain_quiet / 16, [this] { CheckDrain(); });
}

void Stdio::StartBackground(bool quiet) {
  DoneStatus drained = std::exchange(drained_, nullptr);
  for (const auto& output : outputs_) {
    if (quiet && !output->stalled()) {
      output->Cut();  // somebody holds it open, and has nothing to say
    } else if (!output->ended()) {
      output->StopKeeping();
    }
  }
  last_moved_ = moved();
  drain_timer_ =
      loop_.After(options_.drain_quiet, [this] { CheckBackground(); });
  CheckFinished();
  std::move(drained)(absl::OkStatus());
}

void Stdio::CheckBackground() {
  if (!copies_ended()) {
    const uint64_t sum = moved();
    for (const auto& output : outputs_) {
      if (sum == last_moved_ && !output->stalled()) output->Cut();
    }
    last_moved_ = sum;
    drain_timer_ =
        loop_.After(options_.drain_quiet, [this] { CheckBackground(); });
  }
  CheckFinished();
}

void Stdio::CheckFinished() {
  if (on_finished_ == nullptr || drained_ != nullptr || !finished()) return;
  drain_timer_ = loop_.After(absl::ZeroDuration(), [this] {
    if (const uint64_t lost = counters().lost; lost > 0) {
      Trouble(fmt::format("{} bytes of output had no reader", lost));
    }
    std::exchange(on_finished_, nullptr)();
  });
}

}  // namespace wisp
