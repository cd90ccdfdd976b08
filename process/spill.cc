#include "process/spill.h"

#include <fcntl.h>

#include <utility>

#include "process/fd.h"

namespace wisp {
namespace {

constexpr int kTurnsPerThread = 8;

UniqueFd Duplicate(int fd) {
  return UniqueFd(fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

void Append(const Spool::Moved& turn, Spool::Moved* moved) {
  const uint64_t delivered = moved->delivered + turn.delivered;
  const uint64_t dropped = moved->dropped + turn.dropped;
  const int error = moved->error != 0 ? moved->error : turn.error;
  *moved = turn;
  moved->delivered = delivered;
  moved->dropped = dropped;
  moved->error = error;
}

}  // namespace

Spill::Spill(EventLoop& loop, const SpillOptions& options)
    : loop_(loop),
      on_disk_(options.file > options.memory && !options.on_tmpfs),
      spool_(std::make_shared<Spool>(options)),
      self_(std::make_shared<Spill*>(this)) {}

void Spill::Add(std::string_view data) {
  spool_->Add(data);
  size_ = spool_->size();
}

std::optional<Spool::Moved> Spill::Turn(int source, int sink, OnTurn on_turn) {
  Spool::Moved moved = spool_->Turn(source, sink, /*may_use_file=*/!on_disk_);
  size_ = spool_->size();
  if (!moved.needs_file) return moved;
  // Of its own, for the thread may outlive whoever asks: O_NONBLOCK comes with
  // the open file.
  UniqueFd own_source = Duplicate(source);
  UniqueFd own_sink = Duplicate(sink);
  if (own_source.valid() != (source >= 0) || !own_sink.valid()) {
    return moved;  // too many open files; whoever asks will ask again
  }
  busy_ = true;
  loop_.Offload(
      [spool = spool_, from = std::move(own_source), to = std::move(own_sink),
       moved]() mutable {
        for (int i = 0; i < kTurnsPerThread; ++i) {
          Append(spool->Turn(from.get(), to.get(), /*may_use_file=*/true),
                 &moved);
          if (moved.sink_gone || moved.source_dry || spool->empty()) break;
        }
        return moved;
      },
      [self = std::weak_ptr<Spill*>(self_),
       on_turn = std::move(on_turn)](const Spool::Moved& result) mutable {
        const auto still = self.lock();
        if (still == nullptr) return;
        Spill& spill = **still;
        spill.busy_ = false;
        spill.size_ = spill.spool_->size();
        std::move(on_turn)(result);
      });
  return std::nullopt;
}

}  // namespace wisp
