#include "process/runc_limits.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"

namespace wisp {

absl::StatusOr<RuncLimits> ParseRuncLimits(std::string_view text) {
  RuncLimits limits;
  const std::pair<std::string_view, absl::Duration*> known[] = {
      {"create", &limits.create},
      {"start", &limits.start},
      {"exec", &limits.exec},
      {"kill", &limits.kill},
      {"delete", &limits.remove},
      {"pause", &limits.pause},
      {"update", &limits.update},
      {"ps", &limits.ps},
      {"checkpoint", &limits.checkpoint},
  };
  for (absl::string_view part :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ',',
                      absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const auto* found = std::find_if(
        std::begin(known), std::end(known),
        [&entry](const auto& k) { return k.first == entry.first; });
    absl::Duration limit;
    if (found == std::end(known) ||
        !absl::ParseDuration(entry.second, &limit) ||
        limit <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          fmt::format("limit of the runtime: \"{}\"", View(part)));
    }
    *found->second = limit;
  }
  return limits;
}

}  // namespace wisp
