#include "process/detached_stdio.h"

#include <iterator>
#include <utility>

namespace wisp {

void DetachedStdio::Take(std::unique_ptr<Stdio> stdio) {
  Stdio& taken = *stdio;
  stdios_.push_back(std::move(stdio));
  const auto place = std::prev(stdios_.end());
  if (!taken.draining()) taken.Drain([](const absl::Status&) {});
  taken.SetOnFinished([this, place] { Release(place); });
}

void DetachedStdio::Release(std::list<std::unique_ptr<Stdio>>::iterator stdio) {
  const StdioCounters gone = (*stdio)->counters();
  counters_.input += gone.input;
  counters_.output += gone.output;
  counters_.lost += gone.lost;
  stdios_.erase(stdio);
  if (stdios_.empty() && on_empty_ != nullptr) on_empty_();
}

}  // namespace wisp
